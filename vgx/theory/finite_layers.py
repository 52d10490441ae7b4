"""What is known of the layers of a net of finite width: how their means over units stray, for one example and two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from vgx.parts.initializers import Initializer
from vgx.parts.normalizations import BatchNorm, LayerNorm, Normalization, RMSNorm
from vgx.theory.batch_law import FEWEST, batch_law, log_mean
from vgx.theory.layer_response import LayerResponse, Net, Signal
from vgx.theory.unit_moments import Centre, UnitMoments, unit_moments

UNEVEN = 1.2
"""What uneven batches add to a layer's logarithm, of their relative variance."""
PROJECTED = 1.2
"""B times what batch norm's own projections add to the relative variance of a unit, where weights are rotations: as
drawn nets show."""
LONG_TAILED = 8
"""Examples below which what a unit lets pass has hardly a variance."""
MOST_ALIKE = 0.3
"""tr(C^2) / tr(C)^2 past which 1 / S of the inputs has no mean."""


class FiniteLayer(NamedTuple):
    """What is known of one hidden layer."""

    moments: UnitMoments
    n: int
    c: float
    """Correlation of h between examples."""
    share: float
    """Of the layer's q, what comes from below and not from biases."""
    forward: float
    """1 where |W x|^2 varies as with independent weights, 0 where W is a rotation."""
    backward: float
    """The same of the weights above and v."""
    heavy: float = 0.0
    """Relative variance over units of what batch norm divides by."""
    tail: float = 0.0
    """Variance of D of small batches, in place of that of S."""
    uneven: float = 0.0
    """Batch norm's shift of D from batches that are not all alike, in each direction."""


class Rules(NamedTuple):
    """What a normalization or LSUV holds fixed."""

    before: bool
    """Whether each example's h are divided by their size."""
    after: bool
    """Whether each example's x are."""
    fitted: bool
    """Whether a mean over the batch is held: by batch norm or, without a normalization, by LSUV."""
    batch: bool
    """Whether that is batch norm."""
    divides_below: bool
    """Whether the layer above is divided by what a layer passes on, and not the layer itself."""
    centre: Centre
    without_mean: bool
    """Whether an example's h are taken less their mean."""
    projected: int
    """Directions that a normalization of single examples takes out of the gradient."""

    @property
    def free(self) -> bool:
        """Whether the size of an example's h carries on from layer to layer."""
        return not (self.before or self.after)


def rules_of(norm: Normalization, initializer: Initializer) -> Rules:
    """Returns what a normalization, or LSUV where there is none, holds fixed."""
    batch, layer = isinstance(norm, BatchNorm), isinstance(norm, LayerNorm)
    return Rules(
        before=norm.before and not batch,
        after=norm.after and not batch,
        fitted=batch or (initializer.fits_to_data and not (norm.before or norm.after)),
        batch=batch,
        divides_below=batch and norm.before,
        centre="the batch's mean" if batch else "its mean" if layer and norm.after else "nothing",
        without_mean=layer and norm.before,
        projected=2 if layer else 1 if isinstance(norm, RMSNorm) else 0,
    )


class Noise(NamedTuple):
    """n times variances of a layer's means over units, of one example, or covariances of two."""

    a_a: float
    s_s: float
    s_a: float
    size: float
    """Of what |h| itself adds, where a normalization divides by it."""


def finite_layers(net: Net, signal: Signal, responses: Sequence[LayerResponse], rules: Rules) -> list[FiniteLayer]:
    """Returns what is known of the hidden layers [L]; `responses` have the readout's too, [L + 1]."""
    received = [signal.square, *(response.signal.square for response in responses)]
    layers = []
    for i, response in enumerate(responses[:-1]):
        below, n, above = net.sizes[i : i + 3]
        share = below * response.weight * received[i] / response.q if response.q else 0.0
        rotation = net.initializer.isometric
        layers.append(
            FiniteLayer(
                unit_moments(net.activation, response.preact, rules.centre),
                n,
                response.preact[2],
                min(max(share if math.isfinite(share) else 0.0, 0.0), 1.0),
                max(1 - n / below, 0.0) if rotation else 1.0,
                max(1 - n / above, 0.0) if rotation else 1.0,
            )
        )
    return _with_uneven_batches(net, signal, layers, responses) if rules.batch else layers


def _with_uneven_batches(
    net: Net, signal: Signal, layers: Sequence[FiniteLayer], responses: Sequence[LayerResponse]
) -> list[FiniteLayer]:
    """What batch norm meets in a net of independent weights: batches that finite layers have made uneven.

    The B x B matrix of products of examples strays from its mean, forward by t_l = tr(T^2) / B^2 and backward by u_l.
    What units are divided by varies by 2 / (B - 5), and D_l shifts by UNEVEN (t_l - u_l) and by the -2 / n of a linear
    part; UNEVEN, 2 to the first order, is less since t and u echo each other: as drawn nets show. In batches below
    LONG_TAILED what units let pass has so long a tail that its law is followed itself: the mean of its logarithm, less
    half of its variance once more, since a unit that lets much pass aligns the gradients of all examples, as 60 drawn
    nets of four examples show.
    """
    batch, norm = net.batch, net.normalization
    kept = 1 - 2 / max(batch - 1, 3)
    inputs = min(max(signal.alike - 1 / max(batch - 1, 3), 0.0), MOST_ALIKE)
    forward, backward, t, u = [], [], 0.0, 0.0
    for layer in layers:
        t = t + layer.forward / layer.n
        forward.append(t)
        t *= min((kept * layer.moments.cosine_slope) ** 2, 1.0)
    for layer in reversed(layers):
        backward.append(u)
        u = min((kept * layer.moments.slope_cosine) ** 2, 1.0) * (u + layer.backward / layer.n)
    found = []
    for layer, response, t, u in zip(layers, responses, forward, reversed(backward), strict=False):
        heavy = 2 / (batch - 5) if layer.forward and batch > 5 else PROJECTED / batch
        shift = UNEVEN * (t - u) - 2 * layer.forward * layer.moments.product**2 / layer.n
        if FEWEST <= batch < LONG_TAILED and isinstance(norm, BatchNorm):
            mean, std, c = (0.0, 1.0, -1 / (batch - 1)) if norm.before else response.preact
            law = batch_law(net.activation, mean, std**2, c * std**2, batch, norm)
            tail, variance = log_mean(law, layer.n, min(net.sizes[-1] - 1, batch - 1))
            found.append(layer._replace(tail=variance, uneven=shift + tail))
        else:
            found.append(layer._replace(heavy=heavy, uneven=shift))
    # Inputs may differ in a few directions only, so that E[1 / S] is that of few degrees of freedom.
    first = -math.log1p(-2 * inputs) if norm.before else 0.0
    found[0] = found[0]._replace(heavy=found[0].heavy + 2 * inputs, uneven=found[0].uneven + first)
    return found


def noise_of(layer: FiniteLayer, rho_square: float, rules: Rules, keep: float, pair: bool) -> Noise:
    """Returns n times the variances of one example's means, or the covariances of a pair's.

    Args:
        layer: whose units they are means over.
        rho_square: squared cosine of the pair's v; 1 for one example.
        rules: what is held fixed.
        keep: the share of units that dropout leaves.
        pair: whether of two examples.
    """
    if layer.tail:
        return Noise(0.0, layer.n * layer.tail, 0.0, 0.0)
    m, c = layer.moments, layer.c if pair else 1.0
    a_a, m_m, a_m = (
        (m.pair_a_a, m.pair_m_m, m.pair_a_m) if pair else ((m.a_a + 1) / keep - 1, m.m_m / keep, m.a_m / keep)
    )
    s_s, s_a = m_m * (1 + layer.heavy) * (1 + 2 * rho_square) - 1, a_m - 1
    fixed = 1.0 if rules.before else 1 - layer.forward
    a_a -= fixed * 2 * m.a_echo**2 * c**2
    s_s -= fixed * 2 * m.m_echo**2 * c**2
    s_a -= fixed * 2 * m.a_echo * m.m_echo * c**2
    if rules.without_mean:
        a_a, s_s, s_a = a_a - m.a_first**2 * c, s_s - m.m_first**2 * c, s_a - m.a_first * m.m_first * c
    s_s += 2 * rho_square * (rules.projected / layer.n - (1 - layer.backward))
    return Noise(a_a, s_s, s_a, 2 * c**2 * layer.forward if rules.before else 0.0)
