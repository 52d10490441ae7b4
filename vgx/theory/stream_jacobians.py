"""What skip connections add to the singular values of a Jacobian, which products of free matrices do not have.

Under pre_activation the stream r moves little from layer to layer, so that much the same units are steep in all of
them: with h = s^2 n Var(W) E[f'^2] of a layer, what comes down to a unit's stream is

    diag(J^T J)_l = diag(J^T J)_{l+1} + h f'(r_l)^2 / E[f'^2] trace(J^T J)_{l+1} / n.

Under post_activation W is not independent of the slopes D = diag f'(W x): given h = W x, along x it is known,

    D W = D W' + t x^T / |x|,  t = f'(h) h / |x|,

with W' independent of D. Activations have a mean, so that t, x and what is added have a part in common, which comes
together from layer to layer: one singular value stands out of the others. With J = theta u v^T + N and N free,

    s^2 = theta^2 + |N v|^2 + |N^T u|^2,

to first order in 1 / n; u and v lie in the plane of the signal and the mean over units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vgx.parts.normalizations import BatchNorm, LayerNorm, Normalization, RMSNorm
from vgx.theory.layer_response import TINY, LayerResponse, Net, Signal, affinity_of, in_range
from vgx.theory.moments import on_line, safe_divide, values_and_slopes
from vgx.theory.streams import scale_of

GRID = np.linspace(-8.0, 8.0, 802)
"""Standardized pre-activations, none of them 0, where many slopes jump."""
DENSITY = np.exp(-(GRID**2) / 2) / np.exp(-(GRID**2) / 2).sum()
STEPS, STEP_WEIGHTS = np.polynomial.hermite_e.hermegauss(16)
STEP_WEIGHTS = STEP_WEIGHTS / STEP_WEIGHTS.sum()


def slope_overlaps(net: Net, responses: Sequence[LayerResponse], *, top: bool) -> list[float]:
    """Returns by how much more of what comes down to a unit's stream there is where the unit is steep: [L].

    The l-th is E[f'^2 diag(J^T J)] over the product of the means, f' of what layer l receives and J the layers above
    it; 1 of a layer that adds to no stream, and of all under post_activation.

    Args:
        net: what it is of.
        responses: of the hidden layers.
        top: whether J ends with the slopes of the last stream, as on the way to the logits.
    """
    found = [1.0] * len(responses)
    if not net.residual.streams_preactivations:
        return found
    scale, steep = scale_of(net), _steepness(net, responses)
    above = steep[-1] if top else np.ones_like(GRID)
    for i in range(len(responses) - 1, 0, -1):
        if not net.branches[i]:
            above = steep[i - 1]
            continue
        kept, added = _variances(net, responses[i - 1], *net.sizes[i : i + 2])
        rho = math.sqrt(safe_divide(kept, kept + scale**2 * added))
        seen = np.interp(rho * GRID[:, None] + math.sqrt(1 - rho**2) * STEPS, GRID, above) @ STEP_WEIGHTS
        found[i] = float(DENSITY @ (steep[i - 1] * seen))
        a = scale**2 * net.sizes[i] * responses[i].weight * responses[i - 1].gain
        above = (seen + a * steep[i - 1]) / (1 + a)
    return found


def _steepness(net: Net, responses: Sequence[LayerResponse]) -> np.ndarray:
    """f'^2 over its mean, of standardized pre-activations: [L, G]."""
    mean, std, _ = np.array([response.preact for response in responses]).T[:, :, None]
    square = (values_and_slopes(net.activation, mean + std * GRID)[1] ** 2).mean(0)
    average = (square @ DENSITY)[:, None]
    return np.where(average > TINY, square / np.maximum(average, TINY), 1.0)


def _variances(net: Net, below: LayerResponse, n_in: int, n_out: int) -> tuple[float, float]:
    """Of a unit's stream and of what a layer adds to it: over units, or within a batch where that is normalized."""
    own = affinity_of(net, in_range(below.signal), n_in, n_out)
    if isinstance(net.normalization, BatchNorm):
        return max(below.q * (1 - below.c), 0.0), max(own.variance - own.covariance, 0.0)
    return below.q, own.variance


class Outlier(NamedTuple):
    """What a singular value that stands out adds to sums over all of them, in units of the others' mean square."""

    square: float
    """To the sum of s^2."""
    fourth: float
    """To the sum of s^4."""


class _Layer(NamedTuple):
    """Of one layer: y is what activation and normalization return and t how y changes with the size of what the layer
    receives, both in units of the root mean square of that."""

    skip: float
    """1 or 0"""
    scale: float
    ratio: float
    """Its units over those below."""
    square: float
    """|D W' v|^2, of a v of length 1."""
    flat: float
    """E[x] of what it receives."""
    y: float
    """E[y], and so on"""
    y_y: float
    t: float
    t_t: float
    y_t: float
    back_mean: float
    """|W'^T D u|^2 over its mean, u along the mean; the next of u = y, and the product of both."""
    back_y: float
    back_both: float

    @property
    def growth(self) -> float:
        """Of |x|^2."""
        grown = self.skip * (1 + 2 * self.scale * self.flat * self.y) + self.scale**2 * self.ratio * self.y_y
        return max(grown, TINY)

    @property
    def along(self) -> float:
        """What of v along x comes to lie along the new x, before that is scaled to length 1."""
        return self.skip * (1 + self.scale * self.t * self.flat) + self.scale**2 * self.ratio * self.y_t


def signal_outliers(net: Net, signal: Signal, responses: Sequence[LayerResponse]) -> tuple[Outlier, Outlier]:
    """Returns what the signal's direction adds to the Jacobian of what the last hidden layer passes on, with respect to
    the net's inputs and to what the first hidden layer passes on.

    Args:
        net: what it is of, under post_activation.
        signal: the net's inputs.
        responses: of the hidden layers.
    """
    received = [signal, *(in_range(response.signal) for response in responses)]
    layers, planes = _layers(net, received[:-1], responses), [_plane(one) for one in received]
    # The inputs' mean over features is that of no other layer.
    return _outlier(net, layers, np.diag([1.0, 0.0]), planes[-1]), _outlier(net, layers[1:], planes[1], planes[-1])


def _plane(signal: Signal) -> np.ndarray:
    """The inner products of x and the mean over units, both of length 1."""
    flat = _flat(signal)
    return np.array([[1.0, flat], [flat, 1.0]])


def _flat(signal: Signal) -> float:
    return float(np.clip(safe_divide(signal.mean, math.sqrt(signal.square)), -1 + 1e-9, 1 - 1e-9))


def _outlier(net: Net, layers: Sequence[_Layer], below: np.ndarray, above: np.ndarray) -> Outlier:
    """What the layers add, between the planes of what the first receives and of what the last passes on."""
    ahead, gained, back, square = np.eye(2), np.zeros((2, 2)), below, 0.0
    for layer in layers:
        square = _sum_of_squares(layer, back, square)
        ahead, gained = _forward(layer, ahead, gained)
        back = _backward(layer, back)
    of_plane = np.linalg.inv(above)
    n = net.sizes[-2] / net.sizes[len(net.sizes) - 2 - len(layers)]
    theta = n * _largest(ahead.T @ of_plane @ ahead @ below)
    of_v, of_u = n * (1 + _largest(gained @ below)) - theta, _largest(of_plane @ back) - theta
    return Outlier(float(square), theta**2 + 2 * theta * (of_v + of_u) + of_v**2 + of_u**2 - n**2 - 1)


def _largest(matrix: np.ndarray) -> float:
    """The largest eigenvalue, of one that is similar to a symmetric one."""
    return float(np.linalg.eigvals(matrix).real.max()) if np.all(np.isfinite(matrix)) else math.nan


def _forward(layer: _Layer, ahead: np.ndarray, gained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Goes on a layer with the inner products of J v with x and the mean, as rows that those of v are multiplied by,
    and with what |J v|^2 is beyond that of other vectors, as a form in those of v; J over its root mean square."""
    k, s, (x, mean) = layer.skip, layer.scale, ahead
    grown = k + s**2 * layer.square
    along = (layer.along * x + k * s * layer.y * mean) / math.sqrt(layer.growth)
    rows = np.array([along, k * mean + s * math.sqrt(layer.ratio) * layer.t * x])
    met = k * s * layer.t * (np.outer(x, mean) + np.outer(mean, x))
    own = s**2 * (layer.ratio * layer.t_t - layer.square) * np.outer(x, x)
    return rows / math.sqrt(grown), gained + (met + own) / grown


def _backward(layer: _Layer, below: np.ndarray) -> np.ndarray:
    """Goes on a layer with the products of x and the mean by J J^T, over its mean square."""
    k, s, ratio, along = layer.skip, layer.scale, math.sqrt(layer.ratio), layer.along
    (x_x, x_mean), (_, mean_mean) = below
    by_mean, by_y, new = s * ratio * layer.t, k * s * layer.y, s**2 * layer.square
    of_x = k * (1 + layer.flat**2 * (layer.back_mean - 1) + 2 * s * layer.flat * layer.back_both)
    of_both = k * layer.flat * layer.back_mean + s * layer.back_both
    x_x_above = along**2 * x_x + by_y * (2 * along * x_mean + s * layer.y * mean_mean)
    x_x_above += k * s**2 * (layer.y_y - layer.y**2) + new * (of_x + s**2 * layer.back_y)
    x_mean_above = along * (k * x_mean + by_mean * x_x) + by_y * (mean_mean + by_mean * x_mean) + new / ratio * of_both
    mean_above = k * (mean_mean + 2 * by_mean * x_mean) + by_mean**2 * x_x + new / layer.ratio * layer.back_mean
    x_mean_above /= math.sqrt(layer.growth)
    found = np.array([[x_x_above / layer.growth, x_mean_above], [x_mean_above, mean_above]])
    return found / (k + new / layer.ratio)


def _sum_of_squares(layer: _Layer, below: np.ndarray, square: float) -> float:
    """Goes on a layer with what the sum of s^2 has over that of free matrices, in units of their mean square."""
    k, s = layer.skip, layer.scale
    own = s**2 * (layer.ratio * layer.t_t - layer.square) * below[0, 0] + 2 * k * s * layer.t * below[0, 1]
    return ((k + s**2 * layer.square) * square + own) / (k + s**2 * layer.square / layer.ratio)


class _Units(NamedTuple):
    """Units of each layer on the nodes of a rule over pre-activations: [K, L, n], K draws of what is random in them."""

    y: np.ndarray
    """What activation and normalization return."""
    t: np.ndarray
    """How y changes with the size of what the layer receives, as far as its h tells."""
    free: np.ndarray
    """The variance of the rest of t, [L, 1]."""
    back_flat: np.ndarray
    """What comes back to h of a gradient that is the same for all units."""
    back_y: np.ndarray
    """What comes back of y."""


def _layers(net: Net, received: Sequence[Signal], responses: Sequence[LayerResponse]) -> list[_Layer]:
    """What counts of each layer, [L]; all are looked at together."""
    n_in, n_out, adds = np.array(net.sizes[:-2]), np.array(net.sizes[1:-1]), np.array([False, *net.branches[1:]])
    weight, gain, q, c = np.array([(one.weight, one.gain, one.q, one.c) for one in responses]).T
    squares = np.maximum([one.square for one in received], TINY)
    mean, std, _ = np.array([response.preact for response in responses]).T
    z, weights, f, slope = on_line(net.activation, mean, std)

    def expect(g: np.ndarray) -> np.ndarray:
        return np.sum(weights * g.mean(0), -1, keepdims=True)

    share = np.minimum(n_in * weight * squares / np.maximum(q, TINY), 1.0)
    known, rest = _of_signal(net.normalization, share, c)
    t, free = slope * (known * std)[:, None] * z, expect(slope**2) * (rest * std**2)[:, None]
    units = _normalized(net.normalization, _Units(f, t, free, np.ones_like(f), f), expect)
    units = _sloped(net.normalization, units, z, slope, expect)
    root, steep = np.sqrt(squares), np.maximum(expect(slope**2), TINY)
    columns = (
        adds,
        np.where(adds, scale_of(net), 1.0),
        n_out / n_in,
        n_out * weight * gain,
        [_flat(one) for one in received],
        expect(units.y)[:, 0] / root,
        expect(units.y**2)[:, 0] / squares,
        expect(units.t)[:, 0] / root,
        (expect(units.t**2) + units.free)[:, 0] / squares,
        expect(units.y * units.t)[:, 0] / squares,
        (expect(units.back_flat**2) / steep)[:, 0],
        (expect(units.back_y**2) / steep)[:, 0] / squares,
        (expect(units.back_flat * units.back_y) / steep)[:, 0] / root,
    )
    return [_Layer(*row) for row in np.array(columns, float).T.tolist()]


def _of_signal(norm: Normalization, share: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of W x, whose `share` of h has that of the variance, what h tells and the variance of the rest: a bias, or what a
    batch has in common. A normalization of single examples takes the former out."""
    if isinstance(norm, BatchNorm) and norm.before:
        return share, share / np.maximum(1 - c, TINY) - share**2
    return share * (not norm.before), share * (1 - share)


Expect = Callable[[np.ndarray], np.ndarray]


def _normalized(norm: Normalization, units: _Units, expect: Expect) -> _Units:
    """The units with a normalization behind their activation; a batch norm's moments are held."""
    if not isinstance(norm, LayerNorm | RMSNorm | BatchNorm) or not norm.after:
        return units
    y = units.y - expect(units.y) * (not isinstance(norm, RMSNorm))
    size = np.sqrt(expect(y**2) + norm.epsilon)
    y, t, free = y / size, units.t / size, units.free / size**2
    if isinstance(norm, BatchNorm):
        return _Units(y, t, free, units.back_flat, y)
    centred = isinstance(norm, LayerNorm)
    t, flat = (g - expect(g) * centred - y * expect(y * g) for g in (t, units.back_flat))
    return _Units(y, t, free, flat, 0 * y)


def _sloped(norm: Normalization, units: _Units, z: np.ndarray, slope: np.ndarray, expect: Expect) -> _Units:
    """The units with what comes back to them taken on through the activation and a normalization before it."""
    flat, y = slope * units.back_flat, slope * units.back_y
    if isinstance(norm, LayerNorm | RMSNorm) and norm.before:
        flat, y = (g - expect(g) * isinstance(norm, LayerNorm) - z * expect(z * g) for g in (flat, y))
    return units._replace(back_flat=flat, back_y=y)
