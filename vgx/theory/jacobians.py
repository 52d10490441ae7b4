"""The singular values of a net's Jacobian, and how alike the gradients of two examples are, in wide nets.

A net is a product of free matrices: of weights, and of diagonal slopes. The mean square of the singular values s of a
product is the product of theirs; and so is, of free matrices, E[s^4] / E[s^2]^2 - 1 the sum of theirs, its spread:

    slopes    mu_2 / mu_1^2 - 1, mu_k the k-th moment of f'^2
    weights   1 of independent ones, 0 of orthogonal ones

each times the dimension of the result over the number of units. A layer 1 + s B that adds a branch of the mean square a
has the mean square 1 + a and the spread (2 a k + a^2 v) / (1 + a)^2, v that of B and k of `slope_overlaps`; and the
signal's own direction may stand out (`signal_outliers`).

Pennington, Schoenholz and Ganguli 2017, arXiv:1711.04735, equation 22.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vgx.parts.normalizations import BatchNorm, NoNormalization
from vgx.theory.layer_response import Affinity, LayerResponse, Net, Signal, respond
from vgx.theory.mean_field import hidden_responses, readout_response
from vgx.theory.moments import gaussian, gaussian_pair, safe_divide
from vgx.theory.stream_jacobians import Outlier, signal_outliers, slope_overlaps
from vgx.theory.streams import descent, scale_of, stream_responses
from vgx.theory.unit_moments import unit_moments


class SpectrumPrediction(NamedTuple):
    """What the singular values s of a Jacobian come to."""

    square_log10: float
    """log10 of the mean of s^2."""
    spread: float
    """The variance of s^2 over the square of its mean."""


class _Factor(NamedTuple):
    """One matrix of the product."""

    square: float
    """Its mean square: what |J^T u|^2 is of a vector u of length 1."""
    spread: float
    """Its spread over the number of its units."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # NaN, of what leaves the range of floats
def predicted_spectra(net: Net, signal: Signal) -> dict[str, SpectrumPrediction]:
    """Returns what theory says of the Jacobians of a net, of the logits and, from two hidden layers on, of the last
    hidden layer with respect to the first, by the names of `results.spectrum.MAPS`.

    Nothing is dropped, and a batch norm's moments do not move with the example. What normalizations of single examples
    project out, 1 or 2 of n directions, is left out.
    """
    net = net._replace(dropout=0.0)
    responses = _responses(net, signal)
    gains = [_gain(net, response) for response in responses[:-1]] + [1.0]
    weights = [
        _Factor(n_in * response.weight, _of_weights(net, n_in, n_out))
        for response, (n_in, n_out) in zip(responses, pairwise(net.sizes), strict=True)
    ]
    if isinstance(net.normalization, BatchNorm) and net.normalization.logits:
        last = responses[-1]
        weights[-1] = weights[-1]._replace(square=weights[-1].square * safe_divide(1.0, last.q * (1 - last.c)))
    slopes = [
        _Factor(gain, (unit_moments(net.activation, response.preact, "nothing").m_m - 1) / n)
        for gain, response, n in zip(gains, responses[:-1], net.sizes[1:], strict=False)
    ]
    if net.residual.streams_preactivations:
        below, above = [weights[0]], [slopes[-1]]
    else:
        below, above = [weights[0], slopes[0]], []
    last, hidden = net.sizes[-2], responses[:-1]
    factors = [*below, *_hidden_factors(net, weights, slopes, slope_overlaps(net, hidden, top=True))]
    outliers = _outliers(net, signal, hidden)
    to_last = [*factors, *_standing_out(factors, outliers[:1], last), *above]
    logits = _product([*to_last, weights[-1]], net.sizes[0], net.sizes[-1])
    found = {"logits": _of_few(logits, min(net.sizes[0], net.sizes[-1]))}
    if len(hidden) > 1:
        factors = _hidden_factors(net, weights, slopes, slope_overlaps(net, hidden, top=False))
        factors += _standing_out(factors, outliers[1:], last)
        found["hidden"] = _product(factors, net.sizes[1], last)
    return found


def _outliers(net: Net, signal: Signal, hidden: Sequence[LayerResponse]) -> Sequence[Outlier]:
    """What the signal's direction adds from the inputs and from the first hidden layer on; none of nets that have no
    stream of what layers pass on."""
    if not net.residual.skips or net.residual.streams_preactivations or any(x.gain <= 0 for x in hidden):
        return ()
    return signal_outliers(net, signal, hidden)


def _standing_out(factors: Sequence[_Factor], outliers: Sequence[Outlier], n: int) -> list[_Factor]:
    """What singular values that stand out make of a product to n units, as factors more."""
    spread, found = sum(factor.spread for factor in factors), []
    for one in outliers:
        grown = max(1 + one.square / n, 0.5)  # of a few units it might be anything
        found.append(_Factor(grown, ((1 + n * spread + one.fourth / n) / grown**2 - 1) / n - spread))
    return found


def _hidden_factors(
    net: Net, weights: Sequence[_Factor], slopes: Sequence[_Factor], overlaps: Sequence[float]
) -> list[_Factor]:
    """The product from the first hidden layer to the last, a branch and the stream that it adds to as one factor."""
    before, factors = net.residual.streams_preactivations, []
    for i in range(1, len(slopes)):
        own = [slopes[i - 1], weights[i]] if before else [weights[i], slopes[i]]
        if net.residual.skips and net.branches[i]:
            n = net.sizes[i + 1]
            a = scale_of(net) ** 2 * own[0].square * own[1].square
            v = n * (own[0].spread + own[1].spread)
            own = [_Factor(1 + a, (2 * a * overlaps[i] + a * a * v) / (1 + a) ** 2 / n)]
        factors += own
    return factors


def _responses(net: Net, signal: Signal) -> list[LayerResponse]:
    hidden = stream_responses(net, signal) if net.residual.skips else hidden_responses(net, signal)
    return [*hidden, readout_response(net, hidden[-1].signal if hidden else signal)]


def _gain(net: Net, response: LayerResponse) -> float:
    """E[(dx / dh)^2] of single units, the moments of a batch norm held: 1 / S has a larger mean than S has."""
    norm = net.normalization
    if not isinstance(norm, BatchNorm):
        return response.gain
    spread, larger = response.q * (1 - response.c), (net.batch - 1) / (net.batch - 3) if net.batch > 3 else math.inf
    if norm.after:
        larger = 1 + unit_moments(net.activation, response.preact, "the batch's mean").a_a / net.batch
        mean, std, c = response.preact
        plain = respond(net._replace(normalization=NoNormalization()), Affinity(0.0, mean, std**2, c * std**2)).signal
        spread = plain.square - plain.cross
    return response.slope_square * larger * safe_divide(1.0, spread + norm.epsilon)


def _of_weights(net: Net, n_in: int, n_out: int) -> float:
    """The spread of a layer's weights over its number of units."""
    return max(1 / n_in - 1 / n_out, 0.0) if net.initializer.isometric else 1 / n_in


def _product(factors: Iterable[_Factor], n_in: int, n_out: int) -> SpectrumPrediction:
    """The figures of the min(n_in, n_out) singular values of a product."""
    factors = list(factors)
    if any(factor.square <= 0 for factor in factors):
        return SpectrumPrediction(-math.inf, math.nan)
    there = min(n_in, n_out) / n_out  # the others are 0
    square = sum(math.log10(factor.square) for factor in factors) - math.log10(there)
    spread = there * (1 + n_out * sum(factor.spread for factor in factors)) - 1
    # There is no more where a single one is not 0.
    return SpectrumPrediction(square, min(max(spread, 0.0), min(n_in, n_out) - 1.0))


def _of_few(found: SpectrumPrediction, m: int) -> SpectrumPrediction:
    """The figures of m singular values alone: what they are on the average of m random directions, of many.

    With A of m rows of independent normals, S = A G A^T and g = tr(G^2) / tr(G)^2, E[tr S^2] / m is (m + 1) g + 1 and
    E[(tr S / m)^2] is 1 + 2 g / m, in units of tr(G)^2; `found.spread` is m g.
    """
    g = found.spread / m
    return found._replace(spread=g * (m + 1 - 2 / m) / (1 + 2 * g / m))


def coherence(net: Net, signal: Signal) -> np.ndarray:
    """Returns the cosine between two examples' gradients at each h, [L + 1], of examples whose gradients at the logits
    are alike; NaN where a batch norm mixes the gradients of a batch.

    It falls by E[f'_a f'_b] / E[f'^2] in each layer, and where a branch comes back to a stream by that branch's share.
    Balduzzi et al. 2017, arXiv:1702.08591.
    """
    depth = len(net.sizes) - 2
    if isinstance(net.normalization, BatchNorm):
        return np.full(depth + 1, np.nan)
    responses = _responses(net, signal)
    kept = [_slope_cosine(net, response) * (1 - net.dropout) for response in responses[:-1]]
    if not net.residual.skips:
        return np.append(np.cumprod(kept[::-1])[::-1], 1.0)
    share = descent(net, responses).share
    before, found, stream = net.residual.streams_preactivations, [], 1.0
    for i in reversed(range(depth)):
        # the branch above comes through this layer's slopes, or has come through its own
        part = 1.0 if math.isinf(share[i]) else share[i] / (1 + share[i])
        if before:
            stream *= 1 - part + part * kept[i]
            found.append(stream)
        else:
            stream *= 1 - part + part * (kept[i + 1] if i + 1 < depth else 1.0)
            found.append(stream * kept[i])
    return np.append(found[::-1], 1.0)


def _slope_cosine(net: Net, response: LayerResponse) -> float:
    mean, std, c = response.preact
    alone = float(gaussian(net.activation, mean, std).slope_square)
    return float(safe_divide(float(gaussian_pair(net.activation, mean, std, min(c, 1.0)).slope_product), alone))
