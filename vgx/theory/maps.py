"""Mean-field theory as functions: what a layer makes of a length, a correlation and a gradient, and where depth leads.

h = W x + b, x being f of the h below; weights of variance weight_variance / n_in and biases of variance bias_variance,
both of mean 0, and infinite n_in. q = E[h^2] is the length of a pre-activation, c the correlation of those of two
inputs; u_a and u_b are normals of these variances and correlation. The factor is the growth of one input's
|dloss/dh|^2 from a layer to the one below.

An activation is a registered name ("tanh"), a mapping with options ({"name": "leaky_relu", "negative_slope": 0.2}), an
activation of vgx, or two numpy functions (f, f'); see `numpy_activation`. What is random in one (RReLU) is drawn anew
for each input. Everything is float64. `q` and `c` are floats or arrays that broadcast; results have their shape.

Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vgx.errors import TheoryError
from vgx.parts.activations import Activation
from vgx.parts.initializers import Normal, VarianceScaling
from vgx.parts.normalizations import NORMALIZATIONS, BatchNorm, Normalization
from vgx.theory.elementwise import ActivationLike, activation_of, part_of
from vgx.theory.layer_response import HUGE, TINY, LayerResponse, Net, Signal, in_range, response_of, same_signal
from vgx.theory.limits import FAR, FixedPoint, Limit, limit
from vgx.theory.moments import Moments, gaussian, gaussian_pair, on_line, unequal_pair

NormalizationLike = str | Mapping[str, Any] | Normalization
"""A registered name, a mapping of `name` and options ({"name": "layer", "placement": "after"}), or a normalization."""


def gaussian_moments(activation: ActivationLike, q: ArrayLike, mean: ArrayLike = 0.0) -> Moments:
    """Returns E[f], Var f, E[f^2], E[f^4], E[f'^2] and E[f'^4] for h ~ N(mean, q), in the shape of `q` and `mean`.

    Raises TheoryError for an unknown activation or a negative `q`, as all functions here do.
    """
    return gaussian(activation_of(activation), np.asarray(mean, float), np.sqrt(_lengths(q)))


def length_map(
    activation: ActivationLike, q: ArrayLike, weight_variance: float, bias_variance: float = 0.0
) -> np.ndarray:
    """Returns the length after a layer, weight_variance E[f(h)^2] + bias_variance, in the shape of `q`.

    Poole et al. 2016, equation 3.
    """
    _check(weight_variance, bias_variance)
    return weight_variance * gaussian_moments(activation, q).square + bias_variance


def length_slope(activation: ActivationLike, q: ArrayLike, weight_variance: float) -> np.ndarray:
    """Returns the derivative of `length_map`, weight_variance E[f f' z] / sqrt(q), in the shape of `q`.

    Below 1 at a fixed point, lengths nearby come back to it; above 1 they leave it.
    """
    _check(weight_variance, 0.0)
    std = np.sqrt(np.maximum(_lengths(q), 1 / FAR))
    z, weight, f, slope = on_line(activation_of(activation), 0.0, std)
    return weight_variance * np.sum(weight * z * (f * slope).mean(0), -1) / std


def correlation_map(
    activation: ActivationLike,
    c: ArrayLike,
    q: ArrayLike,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    q_b: ArrayLike | None = None,
) -> np.ndarray:
    """Returns the correlation after a layer of two inputs of lengths q and q_b (q by default) and correlation c.

    It is (weight_variance E[f(u_a) f(u_b)] + bias_variance) / sqrt(length_map(q) length_map(q_b)), in the shape of all
    three; NaN where a length is 0 after the layer.

    Poole et al. 2016, equation 5.
    """
    _check(weight_variance, bias_variance)
    product = _of_pairs(activation_of(activation), c, q, q_b).product
    lengths = [length_map(activation, x, weight_variance, bias_variance) for x in (q, q if q_b is None else q_b)]
    with np.errstate(invalid="ignore"):
        return np.clip((weight_variance * product + bias_variance) / np.sqrt(lengths[0] * lengths[1]), -1.0, 1.0)


def gradient_factor(
    activation: ActivationLike,
    q: ArrayLike,
    weight_variance: float,
    c: ArrayLike | None = None,
    *,
    q_b: ArrayLike | None = None,
) -> np.ndarray:
    """Returns the growth of a squared gradient through a layer, weight_variance E[f'(h)^2], in the shape of `q`.

    With `c` that of the inner product of two inputs' gradients, weight_variance E[f'(u_a) f'(u_b)], for lengths q and
    q_b (q by default): at a fixed length also the derivative of `correlation_map` with respect to c.

    Schoenholz et al. 2017, equations 5 and 13.
    """
    _check(weight_variance, 0.0)
    if c is None:
        return weight_variance * gaussian_moments(activation, q).slope_square
    return weight_variance * _of_pairs(activation_of(activation), c, q, q_b).slope_product


class Critical(NamedTuple):
    """Where gradients keep their size: the factor is 1 at a length that stays."""

    weight_variance: float
    q: float
    """The length; NaN where every length stays."""


def critical(activation: ActivationLike, bias_variance: float = 0.0) -> Critical:
    """Returns the weight variance at which the factor is 1 at a fixed point, and the length there; without norm.

    Of several, the one of the least length. Without biases that is 0 for an activation through the origin, as tanh: its
    lengths then fall as a power of depth. A scale-invariant one, as ReLU, keeps every length. Whether lengths come back
    to a fixed point is for `length_slope` to say: where f has a mean, as GELU's, they may not.

    Raises TheoryError where there is none: with biases lengths grow for ever for ReLU and its like at factor 1, without
    them too for softplus.

    Schoenholz et al. 2017, section 3; Hayou, Doucet and Rousseau 2019, arXiv:1902.06853.
    """
    f = activation_of(activation)
    _check(1.0, bias_variance)
    # At factor 1 a length stays as it is if the biases have the variance that it misses.
    q = np.concatenate([[1e-18], np.geomspace(1e-9, 1e12, 85)])
    slope_square, missing = _at_factor_one(f, q)
    invariant = np.all(np.abs(missing) < 1e-9 * q)
    if bias_variance == 0 and abs(missing[0]) < 1e-9 * q[0]:
        return Critical(1 / float(slope_square[0]), math.nan if invariant else 0.0)
    crossings = np.flatnonzero((missing[:-1] < bias_variance) & (missing[1:] >= bias_variance))
    if invariant or not crossings.size:
        why = f"; without biases every length does, at {1 / slope_square[0]:g}" if invariant else ""
        raise TheoryError(
            f"{f.name}: no weight variance is critical at a bias variance of {bias_variance:g}: where the factor is 1, "
            f"no length stays as it is{why}"
        )
    low, high = np.log(q[crossings[0] : crossings[0] + 2]).tolist()
    root = math.exp(_root(lambda log_q: float(_at_factor_one(f, math.exp(log_q))[1]) - bias_variance, low, high))
    return Critical(1 / float(_at_factor_one(f, root)[0]), root)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that is below 0 at `low` passes 0 on its way to `high`, by bisection."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return high


def _at_factor_one(activation: Activation, q: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """E[f'^2], which is 1 over the weight variance; and what a length misses after a layer, q - E[f^2] / E[f'^2]."""
    f = gaussian(activation, 0.0, np.sqrt(q))
    with np.errstate(divide="ignore", invalid="ignore"):
        return f.slope_square, q - f.square / f.slope_square


def fixed_point(
    activation: ActivationLike,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    normalization: NormalizationLike = "none",
    square: float = 1.0,
    batch: int = 128,
) -> FixedPoint:
    """Returns the length q, correlation c and factor to which ever more layers lead.

    q is 0 or infinity where lengths fall or grow for ever; c is NaN where every correlation stays as it is.

    Args:
        normalization: in every layer; none, batch, layer or rms, before or after the activation.
        square: mean square of the inputs' entries, where the way to the fixed point starts.
        batch: examples that batch norm sees at a time.

    Raises TheoryError for parts that are none and variances that are negative.
    """
    return _limit(activation, weight_variance, bias_variance, normalization, square, batch).fixed_point


class DepthScales(NamedTuple):
    """Layers to an e-fold change, at the fixed point."""

    length: float
    """In which a length comes e-fold nearer to q: -1 / ln(length_slope); infinite where slower than that, or never."""
    correlation: float
    """In which a correlation comes e-fold nearer to c; infinite where slower, NaN where unknown (batch norm)."""
    gradient: float
    """In which |dloss/dh|^2 changes e-fold: 1 / |ln factor|; infinite where it does not."""


def depth_scales(
    activation: ActivationLike,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    normalization: NormalizationLike = "none",
    square: float = 1.0,
    batch: int = 128,
) -> DepthScales:
    """Returns how many layers lengths, correlations and gradients take, at the fixed point of the same arguments.

    A normalization sets lengths at once: their depth scale is 0.

    Schoenholz et al. 2017, equations 7, 9 and 14.
    """
    found = _limit(activation, weight_variance, bias_variance, normalization, square, batch)
    slope = 0.0
    if part_of(NORMALIZATIONS, normalization).name == "none":
        slope = float(length_slope(activation, np.clip(found.fixed_point.q, 1 / FAR, FAR), weight_variance))
    length = 0.0 if slope <= 0 else -1 / math.log(slope) if slope < 1 - 1e-10 else math.inf
    return DepthScales(length, found.correlation_depth_scale, found.depth_scale)


class Layers(NamedTuple):
    """What theory says of each layer: [..., L] each, layer 1 first, in the shape of q and c before that."""

    q: np.ndarray
    """Length of the pre-activation; 0 or infinity past 1e-90 and 1e90."""
    c: np.ndarray
    """Correlation of two inputs' pre-activations."""
    factor: np.ndarray
    """Growth of |dloss/dh|^2 from the layer above."""
    pair_factor: np.ndarray
    """The same of the inner product of two inputs' gradients; NaN with batch norm."""


def layers(
    activation: ActivationLike,
    depth: int,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    normalization: NormalizationLike = "none",
    q: ArrayLike = 1.0,
    c: ArrayLike = 0.0,
    batch: int = 128,
) -> Layers:
    """Returns length, correlation and backward factor of every layer of a deep net: [..., L].

    Args:
        depth: L.
        normalization: in every layer; none, batch, layer or rms, before or after the activation.
        q: length in the first layer, weight_variance |x|^2 / n_in + bias_variance.
        c: correlation of two inputs there.
        batch: examples that batch norm sees at a time.

    Raises TheoryError for parts that are none, variances that are negative and correlations outside of -1 to 1.
    """
    net = _net(activation, weight_variance, bias_variance, normalization, batch)
    if depth < 1:
        raise TheoryError(f"depth: a net has 1 layer or more, not {depth}")
    lengths, correlations = np.broadcast_arrays(_lengths(q), _correlations(c))
    found = [
        _one_net(net, depth, weight_variance, bias_variance, length, correlation)
        for length, correlation in zip(lengths.ravel().tolist(), correlations.ravel().tolist(), strict=True)
    ]
    table = np.reshape(np.array(found, float), (*lengths.shape, depth, len(Layers._fields)))
    return Layers(*np.moveaxis(table, -1, 0))


def _one_net(
    net: Net, depth: int, weight_variance: float, bias_variance: float, q: float, c: float
) -> list[tuple[float, float, float, float]]:
    # What a layer receives such that its h has this length and correlation.
    square, cross = ((length - bias_variance) / weight_variance for length in (q, c * q))
    signal, rows = Signal(square, cross, 0.0), []
    for _ in range(depth):
        response = response_of(net, signal, 1, 1, exact=True)
        factor = weight_variance * response.gain
        lost = math.inf if signal.square >= HUGE else 0.0 if 0 < signal.square <= TINY and not bias_variance else None
        rows.append((response.q if lost is None else lost, response.c, factor, factor * _of_two(net, response)))
        after = in_range(response.signal)
        if same_signal(signal, after):
            break
        signal = after
    return rows + rows[-1:] * (depth - len(rows))


def _of_two(net: Net, response: LayerResponse) -> float:
    """E[f'(u_a) f'(u_b)] / E[f'^2]; NaN where batch norm ties the inputs to each other."""
    if isinstance(net.normalization, BatchNorm) or not response.slope_square:
        return math.nan
    return gaussian_pair(net.activation, *response.preact).slope_product.item() / response.slope_square


def _limit(
    activation: ActivationLike,
    weight_variance: float,
    bias_variance: float,
    normalization: NormalizationLike,
    square: float,
    batch: int,
) -> Limit:
    if not 0 < square < math.inf:
        raise TheoryError(f"square: expected a positive number, not {square:g}")
    return limit(_net(activation, weight_variance, bias_variance, normalization, batch), Signal(square, 0.0, 0.0))


def _net(
    activation: ActivationLike,
    weight_variance: float,
    bias_variance: float,
    normalization: NormalizationLike,
    batch: int,
) -> Net:
    """A net whose only width is 1, where a weight's variance is the layer's."""
    _check(weight_variance, bias_variance)
    norm = part_of(NORMALIZATIONS, normalization)
    if norm.over_batch and batch < 2:
        raise TheoryError(f"batch: batch norm needs 2 examples or more, not {batch}")
    return Net(
        (1, 1, 1),
        activation_of(activation),
        VarianceScaling(scale=weight_variance),
        Normal(std=math.sqrt(bias_variance)),
        norm,
        0.0,
        batch,
    )


class _Products(NamedTuple):
    """E[f(u_a) f(u_b)] and E[f'(u_a) f'(u_b)], in one shape."""

    product: np.ndarray
    slope_product: np.ndarray


def _of_pairs(activation: Activation, c: ArrayLike, q: ArrayLike, q_b: ArrayLike | None) -> _Products:
    q_b = q if q_b is None else q_b
    correlations, one, other = np.broadcast_arrays(_correlations(c), _lengths(q), _lengths(q_b))
    stds = np.sqrt(np.sort(np.stack([one.ravel(), other.ravel()], -1), -1))
    pairs, where = np.unique(stds, axis=0, return_inverse=True)
    found = np.empty((2, correlations.size))
    for number, (low, high) in enumerate(pairs.tolist()):
        here = where.reshape(-1) == number
        of_these = correlations.ravel()[here]
        if low == high:
            pair = gaussian_pair(activation, 0.0, low, of_these)
            found[:, here] = pair.product, pair.slope_product
        else:
            found[:, here] = unequal_pair(activation, low, high, of_these)
    return _Products(*(part.reshape(correlations.shape)[()] for part in found))


def _check(weight_variance: float, bias_variance: float) -> None:
    if not 0 < weight_variance < math.inf:
        raise TheoryError(f"weight_variance: expected a positive number, not {weight_variance:g}")
    if not 0 <= bias_variance < math.inf:
        raise TheoryError(f"bias_variance: expected 0 or more, not {bias_variance:g}")


def _lengths(q: ArrayLike) -> np.ndarray:
    lengths = np.asarray(q, float)
    if not np.all((lengths >= 0) & (lengths < math.inf)):
        raise TheoryError("q: a length is a mean square, 0 or more")
    return lengths


def _correlations(c: ArrayLike) -> np.ndarray:
    correlations = np.asarray(c, float)
    if not np.all(np.abs(correlations) <= 1 + 1e-9):
        raise TheoryError("c: a correlation is a number from -1 to 1")
    return np.clip(correlations, -1.0, 1.0)  # what it was worked out from may have been rounded
