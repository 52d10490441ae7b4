"""The size of an example's signal in a net of finite width: its mean and its variance, from layer to layer.

The logarithm of |h|^2 is followed as a normal one, through E[f^2] by quadrature over it and not by derivatives, since
an activation may make its variance grow from layer to layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vgx.parts.activations import Activation
from vgx.registry import remembered
from vgx.theory.finite_layers import FiniteLayer, Rules, noise_of
from vgx.theory.layer_response import LayerResponse, Net, Signal
from vgx.theory.unit_moments import Centre, log_squares, near_octaves, unit_moments

NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
LARGEST = 9.0
"""A variance of a logarithm, and a mean, past which nothing is known any more."""


class Size(NamedTuple):
    """The logarithm of an example's |h|^2 / (n q), and what it does to E[x'^2]."""

    mean: float
    variance: float
    slope_shift: float
    """Mean of ln E[x'^2]."""
    a_echo: float
    m_echo: float
    passed: float = 0.0
    """ln of the mean over examples of what the layer passes on, E[x^2], less that for one size."""


FINE = 16
"""Steps of a size's mean, of an octave of its variance and of a deviation, within which sizes are one."""
NONE = 1e-12
"""A variance that is none."""
WIDE = 10**15
"""Units that leave nothing to chance."""


def sizes_of(
    net: Net, signal: Signal, layers: Sequence[FiniteLayer], responses: Sequence[LayerResponse], rules: Rules
) -> list[Size]:
    """The size of h in each layer; as infinite width has it where a normalization sees to that."""
    mean, variance = layers[0].share * signal.log_mean, layers[0].share ** 2 * signal.log_variance
    if not rules.free:
        sizes = [Size(0.0, 0.0, 0.0, layer.moments.a_echo, layer.moments.m_echo) for layer in layers]
        step = _size_step(net, responses[0].preact, mean, variance, rules.centre)
        slope = mean if rules.before else step.square - step.slope
        return [sizes[0]._replace(mean=mean, variance=variance, slope_shift=-slope), *sizes[1:]]
    kept = 1 - 2 / max(net.batch - 1, 3) if rules.batch else 1.0
    sizes, divided = [], 0.0
    for i, layer in enumerate(layers):
        own = noise_of(layer, 1.0, rules, 1 - net.dropout, pair=False)
        step = _size_step(net, responses[i].preact, mean, variance, rules.centre)
        noise = max(own.a_a + step.noise - layer.moments.a_a, 0.0) / layer.n
        after = step.square - 0.5 * noise - 0.25 * (1 - layer.forward) * layer.moments.a_fourth / layer.n
        spread, slope = step.square_variance + noise, step.slope
        passed = after + 0.5 * spread
        if rules.fitted:
            spread = max(spread - noise_of(layer, 0.0, rules, 1 - net.dropout, pair=True).a_a / layer.n, 0.0)
            below, divided = divided, after + 0.5 * spread
            slope = slope - (below if rules.divides_below else divided)
            if rules.batch:
                # Examples of uneven size make what units are divided by more uneven, and each other more even.
                slope += 2 * variance / net.batch
                spread *= kept**2
            after = -0.5 * spread
        sizes.append(Size(mean, variance, slope, kept * step.a_echo, step.m_echo, passed))
        share = layers[i + 1].share if i + 1 < len(layers) else 1.0
        mean, variance = max(min(share * after, LARGEST), -LARGEST), min(share**2 * spread, LARGEST)
    return sizes


class _Step(NamedTuple):
    """What a layer makes of a log-normal size: means, less those at the middle, a variance, and slopes that fit."""

    square: float
    square_variance: float
    slope: float
    noise: float
    a_echo: float
    m_echo: float


def _size_step(net: Net, preact: tuple[float, float, float], mean: float, variance: float, centre: Centre) -> _Step:
    """What a layer makes of a size of this mean and variance; near ones are worked out once."""
    mid, std, _ = preact
    std = max(std, 1e-150)
    ratio = round(FINE * min(max(mid / std, -1e4), 1e4)) / FINE
    octaves, near = near_octaves(std, FINE), round(FINE * mean) / FINE
    if variance > NONE:
        about = 2 ** (round(FINE * math.log2(variance)) / FINE)
        step = _step(net.activation, ratio, octaves, near, about, centre)
        step = step._replace(square_variance=step.square_variance * variance / about)
    else:
        step = _step(net.activation, ratio, octaves, near, 0.0, centre)
    off = mean - near
    return step._replace(square=step.square + step.a_echo * off, slope=step.slope + step.m_echo * off)


@remembered
def _step(activation: Activation, ratio: float, octaves: float, mean: float, variance: float, centre: Centre) -> _Step:
    std, width = 2**octaves, math.sqrt(variance)
    points = mean + width * NODES if width else np.array([mean])
    weights = WEIGHTS if width else np.ones(1)
    mid = ratio * std
    at = log_squares(activation, mid, std * np.exp(np.append(points, 0.0) / 2), centre, std)
    square, slope = (at[:2] - at[:2, -1:])[:, :-1]
    means = [float(weights @ x) for x in (square, slope)]
    off = [square - means[0], slope - means[1]]
    if width:
        echoes = [float(weights @ (x * NODES)) / width for x in off]
    else:
        moments = unit_moments(activation, (mid, std * math.exp(mean / 2), 0.0), centre)
        echoes = [moments.a_echo, moments.m_echo]
    return _Step(means[0], float(weights @ off[0] ** 2), means[1], float(weights @ at[2, :-1]), *echoes)


def uneven_inputs(
    net: Net, signal: Signal, layers: Sequence[FiniteLayer], responses: Sequence[LayerResponse], rules: Rules
) -> tuple[np.ndarray, np.ndarray]:
    """Returns by what factor inputs of uneven size change root mean squares over a batch, at infinite width.

    Those of what activations receive, and of what they pass on, for each layer and the readout: [L + 1]. They are 1
    where a normalization or LSUV sees to that, and where all inputs have one size.
    """
    if not rules.free or rules.fitted or not signal.log_variance:
        return np.ones(len(layers) + 1), np.ones(len(layers) + 1)
    wide = [layer._replace(n=WIDE) for layer in layers]
    passed = np.array([size.passed for size in sizes_of(net, signal, wide, responses, rules)])
    shares = np.array([*(layer.share for layer in layers[1:]), 1.0])
    # Of the inputs themselves the mean square is known.
    received = np.exp(np.array([0.0, *(shares * passed)]) / 2)
    return received, np.append(np.exp(passed / 2), received[-1])
