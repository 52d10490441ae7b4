"""Nets with skip connections: what is added to a stream forward, and what comes down it and its branches.

W is independent of what it meets and of mean 0, so that skip and branch have no cross term. With layer l's own response
g_l = |dloss/dh|^2 / |dloss/dx|^2, w_l = n_in Var(W_l) and s the scale,

    post_activation   |dloss/dx_{l-1}|^2 = |dloss/dx_l|^2 (1 + s^2 w_l g_l)
                      E[x_l^2] = E[x_{l-1}^2] + 2 s E[x_{l-1}] E[f] + s^2 E[f^2]
    pre_activation    |dloss/dr_l|^2 = |dloss/dr_{l+1}|^2 (1 + s^2 w_{l+1} g_l)
                      E[r_l^2] = E[r_{l-1}^2] + s^2 E[h_l^2]

A branch of nonzero mean makes the second moment under post_activation grow as depth squared. With a normalization g_l
falls as the stream grows, so that the factors come to 1 + c / l: growth is a power of depth.

Yang and Schoenholz 2017, arXiv:1712.08969; Doshi, He and Gromov 2021, arXiv:2111.12143.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vgx.parts.normalizations import BatchNorm, NoNormalization
from vgx.parts.residuals import Skip
from vgx.theory.finite_layers import finite_layers, noise_of, rules_of
from vgx.theory.gradient_spread import LARGEST, GradientSpread, log_of_mean, no_spread
from vgx.theory.layer_response import HUGE, TINY, Affinity, LayerResponse, Net, Signal, affinity_of, in_range, respond
from vgx.theory.limits import CRITICAL, FixedPoint, Limit
from vgx.theory.moments import gaussian_expectations, safe_divide
from vgx.theory.readout import readout_of

AHEAD = 200
"""Layers that are followed beyond a net's own, to see where they lead."""


class Descent(NamedTuple):
    """What comes down through the hidden layers, relative to |dloss/dh|^2 of the readout, as logarithms: [L] each."""

    delta: np.ndarray
    """ln |dloss/dh|^2"""
    stream: np.ndarray
    """The same of the stream; of a layer without a skip, its own."""
    share: np.ndarray
    """What came down the branch above, over what came past it; infinite where there was no skip."""


def scale_of(net: Net) -> float:
    """Returns the scale of a net's branches before training."""
    assert isinstance(net.residual, Skip)
    return net.residual.initial_scale(len(net.sizes) - 2)


def stream_responses(net: Net, signal: Signal) -> list[LayerResponse]:
    """Returns what each hidden layer's own part does: [L]. Its `signal` is what the layer passes on, stream and all."""
    scale, responses = scale_of(net), []
    stream: Affinity | None = None
    for (n_in, n_out), adds in zip(pairwise(net.sizes[:-1]), net.branches, strict=True):
        own = affinity_of(net, signal, n_in, n_out)
        if net.residual.streams_preactivations:
            stream = _bounded(_sum(stream, own, scale)) if adds and stream else own
            response = respond(net, stream)._replace(weight=own.weight)
        else:
            response = respond(net, own)
            if adds:
                response = response._replace(signal=_added(signal, response.signal, scale))
        signal = in_range(response.signal)
        responses.append(response)
    return responses


def _sum(stream: Affinity, branch: Affinity, scale: float) -> Affinity:
    return Affinity(
        branch.weight,
        stream.mean + scale * branch.mean,
        stream.variance + scale**2 * branch.variance,
        stream.covariance + scale**2 * branch.covariance,
    )


def _bounded(stream: Affinity) -> Affinity:
    """The stream, or one with the same ratios whose square is a float that can be squared."""
    if stream.variance <= HUGE:
        return stream
    shrink = HUGE / stream.variance
    moments = stream.mean * math.sqrt(shrink), stream.variance * shrink, stream.covariance * shrink
    return Affinity(stream.weight, *moments)


def _added(stream: Signal, branch: Signal, scale: float) -> Signal:
    both = 2 * scale * stream.mean * branch.mean
    return Signal(
        stream.square + both + scale**2 * branch.square,
        stream.cross + both + scale**2 * branch.cross,
        stream.mean + scale * branch.mean,
    )


def descent(net: Net, responses: Sequence[LayerResponse]) -> Descent:
    """Returns what comes down; `responses` have the readout's too, [L + 1].

    Batch norm's gradients add up to 0 over a batch, the readout's are of random sign, and a stream carries some of
    each: `drawn` is the share of what comes from above that a batch norm has let pass.
    """
    scale, norm = scale_of(net), net.normalization
    before = net.residual.streams_preactivations
    found: list[tuple[float, float, float]] = []
    drawn = 1.0 if isinstance(norm, BatchNorm) and norm.logits else 0.0
    # All as logarithms: deep products leave the range of floats.
    x = math.log(net.sizes[-2] * responses[-1].weight) if responses[-1].weight else -math.inf
    stream, skipped = -math.inf, False
    for width, response, adds in reversed(list(zip(net.sizes, responses[:-1], net.branches, strict=False))):
        gain = response.top_gain + drawn * (response.gain - response.top_gain)
        own = x + _log(gain)
        to_weights = _log(width * response.weight)
        if before:
            share = math.exp(min(own - stream, 700.0)) if skipped and stream > -math.inf else math.inf
            stream = np.logaddexp(own, stream) if skipped else own
            delta = stream + 2 * _log(scale) if adds else stream
            found.append((delta, stream, share))
            x, drawn = to_weights + delta, 1.0
        else:
            delta = own + 2 * _log(scale) if adds else own
            found.append(
                (delta, x if adds else delta, math.exp(to_weights + 2 * _log(scale) + _log(gain)) if adds else math.inf)
            )
            below = to_weights + delta
            if adds:
                drawn = safe_divide(drawn + found[-1][2], 1 + found[-1][2])
                x = np.logaddexp(x, below)
            else:
                x, drawn = below, 1.0
        skipped = adds
    delta, stream_, share = (np.array(column, float)[::-1] for column in zip(*found, strict=True))
    # What came to a layer's stream through the branch above it.
    shares = share if before else np.append(share[1:], math.inf)
    return Descent(delta, stream_, shares)


def limit(net: Net, signal: Signal) -> Limit:
    """Returns where AHEAD more layers like the last one lead.

    Without a normalization the factors of a stream settle; with one they come to 1 + c / l, and the gradient grows or
    falls as a power of the depth, which is called critical.
    """
    width, skip = net.sizes[-2], net.residual.model_copy(update={"scale": scale_of(net)})
    sizes = (*net.sizes[:-1], *(width,) * AHEAD, net.sizes[-1])
    longer = net._replace(residual=skip, sizes=sizes, branches=(*net.branches, *(True,) * AHEAD))
    responses = stream_responses(longer, signal)
    top = respond(
        longer._replace(normalization=NoNormalization()), affinity_of(longer, responses[-1].signal, width, width)
    )
    logs = -np.diff(descent(longer, [*responses, top]).stream)[-AHEAD:-1]
    half, end = float(logs[len(logs) // 2]), float(logs[-1])
    powers = abs(end) < CRITICAL or (end * half > 0 and abs(end) < 0.75 * abs(half))
    factor, last = math.exp(min(end, 700.0)), responses[-1]
    fixed = FixedPoint(last.q, last.c, factor)
    if powers:
        return Limit(fixed, "critical", math.inf, math.nan)
    return Limit(fixed, "ordered" if factor < 1 else "chaotic", 1 / abs(end), math.nan)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def stream_spread(net: Net, signal: Signal, responses: Sequence[LayerResponse], down: Descent) -> GradientSpread:
    """Returns the finite-width mean and deviation of ln |dloss/ds|^2 of the stream, to the first order in 1 / n.

    With a branch of a times the stream's square, ln(1 + a) strays by that of the branch, V / n, and by the product of
    branch and stream, which has the mean 0 and the variance 4 a / n: Var = (a^2 V + 4 a) / (n (1 + a)^2), and the mean
    of the logarithm is less by half of that. How the size of signals comes back in the layers above is left out.
    """
    if not responses[:-1]:
        return no_spread(1)
    rules = rules_of(net.normalization, net.initializer)
    layers = finite_layers(net, signal, responses, rules)
    top, std = responses[-2].signal, 1.0 if net.initializer.fits_to_data else responses[-1].preact[1]
    cosine = safe_divide(top.cross, top.square)
    readout = readout_of(std, cosine, net.sizes[-1], net.initializer.fits_to_data, net.loss)
    keep, rho, own, shared, classes = 1 - net.dropout, readout.cosine_square, [], [], max(net.sizes[-1] - 1, 1)
    for layer, share in reversed(list(zip(layers, down.share, strict=True))):
        part = 1.0 if math.isinf(share) else share / (1 + share)
        crossed = part * (1 - part) * 4
        m = layer.moments
        for found, square, pair in ((own, 1.0, False), (shared, rho, True)):
            noise = noise_of(layer, square, rules, keep, pair=pair)
            met = crossed * (square * (m.slope_cosine if pair else 1.0))
            found.append((part**2 * max(noise.s_s, 0.0) + met) / layer.n)
        rho *= (1 - part + part * m.slope_cosine * keep) ** 2
    of_one, of_two = (np.minimum(np.cumsum(x), LARGEST)[::-1] for x in (own, shared))
    aligned = _aligned(net, responses, down)
    gained, spread = log_of_mean(np.clip(of_one - of_two, 0, LARGEST), max(round(net.batch / readout.weight_square), 1))
    none = np.zeros(len(layers) + 1)
    return no_spread(len(layers) + 1)._replace(
        shift=gained - of_one / 2 + aligned,
        deviation=np.sqrt(of_two + spread + 2 * aligned**2 / classes),
        preact=none,
        act=none,
    )


def _aligned(net: Net, responses: Sequence[LayerResponse], down: Descent) -> np.ndarray:
    """How much larger the mean of |dloss/ds|^2 is than where skip and branch have no cross term, in logarithms: [L].

    W is not independent of the slopes f'(W x). Along x = m + t, m the mean over units and t the rest, a branch sends

        <x, W^T delta> / |x| = s sum f'(h) h g / |x|

    down, which the parts of the gradient g along the mean (alpha) and along t (beta, since t has f(h) in it) feed, and
    which adds to both in turn. So their squares begin with 1 / n at the top and grow e-fold every few layers. A
    normalization takes the part along h out, and so all of this; under pre_activation it is less, and is left out.
    """
    found = np.zeros(len(responses) - 1)
    if net.residual.streams_preactivations or net.normalization.before or net.normalization.after:
        return found
    n, total, along = net.sizes[-2], 0.0, Along(1 / net.sizes[-2], 1 / net.sizes[-2], 0.0)
    for i in range(len(responses) - 2, 0, -1):
        if net.branches[i]:
            a, signals = down.share[i - 1], (responses[i - 1].signal, responses[i].signal)
            grown, along = _below(net, responses[i].preact, signals, a, along)
            total += math.log(max(grown, 1e-9) / (1 + a))
        else:
            along = Along(1 / n, 1 / n, 0.0)
        found[i - 1] = total
    return found


class Along(NamedTuple):
    """Of a gradient with the square 1: mean squares of its parts along the mean of x and the rest of x, and product."""

    mean: float
    rest: float
    both: float


def _below(
    net: Net, preact: tuple[float, float, float], signals: tuple[Signal, Signal], a: float, above: Along
) -> tuple[float, Along]:
    """The growth of a gradient's square over a layer that adds to the stream, and its parts below."""
    scale, n, (mean, std, _), (low, high) = scale_of(net), net.sizes[-2], preact, signals
    _, h, f, slope, expect = gaussian_expectations(net.activation, mean, std)
    moved = slope * h
    f_mean, drift = expect(f), expect(moved)
    spread = math.sqrt(max(expect(f**2) - f_mean**2, TINY))
    met = expect((moved - drift) * (f - f_mean)) / spread
    free = max(expect((moved - drift) ** 2) - met**2, 0.0)
    root = math.sqrt(low.square)
    flat, rest = low.mean / root, math.sqrt(max(low.square - low.mean**2, TINY)) / root
    whole = math.sqrt(max(high.square - high.mean**2, TINY))
    kept, own = min(rest * root / whole, 1.0), min(scale * spread / whole, 1.0)
    # What of the branch lies along x: by the gradient's own two parts, and by what is independent of them.
    by_mean, by_rest = scale * drift / root, scale * met * own / root
    by_other = scale * met * kept / root
    square = by_mean**2 * above.mean + 2 * by_mean * by_rest * above.both + by_rest**2 * above.rest
    square += (by_other**2 + scale**2 * free / low.square) / n
    with_mean = by_mean * above.mean + by_rest * above.both
    with_rest = kept * (by_mean * above.both + by_rest * above.rest) - own * by_other / n
    grown = 1 + a + 2 * (flat * with_mean + rest * with_rest) + square - a / n
    below_rest = kept**2 * above.rest + own**2 / n
    return grown, Along(
        (above.mean + 2 * flat * with_mean + flat**2 * square + rest**2 * a / n) / grown,
        (below_rest + 2 * rest * with_rest + rest**2 * square + flat**2 * a / n) / grown,
        (kept * above.both + rest * with_mean + flat * with_rest + flat * rest * (square - a / n)) / grown,
    )
