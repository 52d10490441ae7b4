"""Activations seen through a normal: the averages of f, f' and their products that mean-field theory is made of.

One pre-activation, two that are correlated, or two of a batch that batch norm has normalized; for every activation that
is registered, by evaluating it and its derivative in float64 on the nodes of a quadrature.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vgx.parts.activations import Activation, RReLU
from vgx.registry import remembered
from vgx.theory.elementwise import NumpyActivation
from vgx.theory.quadrature import line, plane
from vgx.training.probes import SATURATED

DRAWS = 64
"""Draws that stand for an activation with random numbers, where no closed form is known."""
TURN, MOST_CUTS = 5.0, 16
"""Pre-activations that a panel may span at the most, as long as that takes no more panels to a deviation than this."""
LEAST = 1e-300
"""In place of a variance of 0, so that nothing is divided by it."""


class Sampler:
    """An activation and its slope at any points, in float64; K equally likely draws stand for what is random in it."""

    def __init__(self, activation: Activation):
        learned, draws = None, np.zeros(1)
        if isinstance(activation, RReLU):
            # Chebyshev's rule of four equal weights: exact to degree 5 in the slope, and f'^4 needs 4.
            middle, reach = (activation.upper + activation.lower) / 2, (activation.upper - activation.lower) / 2
            nodes = np.array([-0.7946544722917661, -0.1875924740850799, 0.1875924740850799, 0.7946544722917661])
            draws = middle + reach * nodes
        elif activation.random:
            learned, draws = activation.parameters(1), jax.random.split(jax.random.key(0), DRAWS)
        self._count = len(draws)
        if isinstance(activation, NumpyActivation):
            self._values, self._slopes = (lambda h: activation.values(h)[None]), (lambda h: activation.slopes(h)[None])
            return

        def member(draw: Any, h: jax.Array) -> jax.Array:
            if isinstance(activation, RReLU):
                return jnp.where(h > 0, h, draw * h)
            return activation.train(h[:, None], learned, draw)[:, 0] if activation.random else activation(h)

        def slope(draw: Any, h: jax.Array) -> jax.Array:
            return jax.jvp(lambda h: member(draw, h), (h,), (jnp.ones_like(h),))[1]

        self._values = jax.jit(lambda h: jax.vmap(member, (0, None))(draws, h))
        self._slopes = jax.jit(lambda h: jax.vmap(slope, (0, None))(draws, h))

    def values(self, h: np.ndarray) -> np.ndarray:
        """Returns f(h) [K, ...]."""
        return self._in_blocks(self._values, h)

    def slopes(self, h: np.ndarray) -> np.ndarray:
        """Returns f'(h) [K, ...]."""
        return self._in_blocks(self._slopes, h)

    def _in_blocks(self, function: Callable, h: np.ndarray) -> np.ndarray:
        """`function` on blocks of one size, so that jax compiles it once."""
        block = 2**15 // self._count
        padded = np.zeros(-(-h.size // block) * block)
        padded[: h.size] = h.ravel()
        with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
            parts = [np.asarray(function(part)) for part in padded.reshape(-1, block)]
        return np.concatenate(parts, -1)[:, : h.size].reshape(-1, *h.shape)


_sampler = remembered(Sampler)


def safe_divide(numerator: float, denominator: float) -> float:
    """The quotient; 0 where there is nothing to divide by, as where every weight is 0."""
    return numerator / denominator if denominator else 0.0


class Moments(NamedTuple):
    """Of an activation under a normal; arrays of one shape."""

    mean: np.ndarray
    """E[f]"""
    variance: np.ndarray
    """Var f, which E[f^2] - E[f]^2 would lose where f hardly varies."""
    fourth: np.ndarray
    """E[f^4]"""
    slope_square: np.ndarray
    """E[f'^2]"""
    slope_fourth: np.ndarray
    """E[f'^4]"""

    @property
    def square(self) -> np.ndarray:
        """E[f^2]"""
        return self.variance + self.mean**2


def gaussian(activation: Activation, mean: np.ndarray | float, std: np.ndarray | float) -> Moments:
    """Returns the moments of f(h) for h ~ N(mean, std^2), of any shape."""
    return moments_of(*on_line(activation, mean, std)[1:])


def on_line(activation: Activation, mean: np.ndarray | float, std: np.ndarray | float) -> tuple[np.ndarray, ...]:
    """Returns z, the weights, f and f' on the nodes of h = mean + std z: [..., n], the last two [K, ..., n]."""
    mean, std = (np.asarray(x, float)[..., None] for x in np.broadcast_arrays(mean, std))
    unit = np.where(std > 0, std, np.inf)
    kinks, bend = (np.array(activation.kinks, float) - mean) / unit, (-mean / unit)[..., 0]
    z, weight = line(kinks, bend, _cuts(float(np.max(std))))
    h = mean + std * z
    return z, weight, *values_and_slopes(activation, h)


Expectation = Callable[[np.ndarray], float]
"""Of what is given on the nodes of a rule, [n], or [K, n] for K draws of what is random in an activation."""


def gaussian_expectations(
    activation: Activation, mean: float, std: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Expectation]:
    """Returns z [n], h = mean + std z, f and f' [K, n], and what takes expectations of functions of them."""
    z, weight, f, slope = on_line(activation, mean, std)
    return z, mean + std * z, f, slope, lambda g: float(np.sum(weight * (g.mean(0) if g.ndim > 1 else g)))


def values_and_slopes(activation: Activation, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns f(h) and f'(h), [K, ...] for K draws of what is random in f."""
    sampler = _sampler(activation)
    return sampler.values(h), sampler.slopes(h)


def pair_expectations(
    activation: Activation, mean: float, std: float, c: float
) -> tuple[list[np.ndarray], list[np.ndarray], Expectation]:
    """Returns f and f' at two normals of correlation c, [K, n] each, and what takes expectations of [n]."""
    a, b, expect = _on_planes(activation, mean, std, c, _levels(activation, mean, std))
    values, slopes = values_and_slopes(activation, np.stack([a, b]))
    return [values[:, 0], values[:, 1]], [slopes[:, 0], slopes[:, 1]], lambda g: float(expect(g))


def _cuts(std: float) -> int:
    """Panels to a deviation: an activation may turn with every step of about 1, as the sine does."""
    return 2 ** math.ceil(math.log2(min(max(std / TURN, 1.0), MOST_CUTS)))


def moments_of(weight: np.ndarray, f: np.ndarray, slope: np.ndarray) -> Moments:
    def expect(g: np.ndarray) -> np.ndarray:
        return np.sum(weight * g.mean(0), -1)

    mean = expect(f)
    return Moments(mean, expect((f - mean[..., None]) ** 2), expect(f**4), expect(slope**2), expect(slope**4))


class Pair(NamedTuple):
    """Of an activation at two correlated normals; arrays of one shape."""

    product: np.ndarray
    """E[f(u_a) f(u_b)]"""
    covariance: np.ndarray
    """The same less E[f]^2."""
    slope_product: np.ndarray
    """E[f'(u_a) f'(u_b)]"""


def gaussian_pair(activation: Activation, mean: float, std: float, c: np.ndarray | float) -> Pair:
    """Returns the moments of f at two normals N(mean, std^2) of correlation `c` (any shape).

    What is random in f is drawn for each.
    """
    levels = _levels(activation, mean, std)
    a, b, expect = _on_planes(activation, mean, std, c, levels)
    slope_a, slope_b = (_sampler(activation).slopes(h).mean(0) for h in (a, b))
    covariance = _covariance(activation, mean, std, c, levels)
    return Pair(gaussian(activation, mean, std).mean ** 2 + covariance, covariance, expect(slope_a * slope_b))


def unequal_pair(activation: Activation, one: float, other: float, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns E[f(u_a) f(u_b)] and E[f'(u_a) f'(u_b)] at N(0, one^2), N(0, other^2) of correlation `c`, any shape."""
    kinks = tuple(sorted({kink / std for kink in activation.kinks for std in (one, other) if std}))
    levels = max(_levels(activation, 0.0, std) for std in (one, other))
    planes = [plane(math.acos(x), kinks, levels) for x in np.ravel(c)]

    def product(of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        # A plane's rule is for symmetric integrands: the mean of the two ways round.
        means = []
        for a, b, weight in planes:
            f = of(np.stack([one * a, other * b, one * b, other * a])).mean(0)
            means.append(weight @ (f[0] * f[1] + f[2] * f[3]) / 2)
        return np.reshape(means, np.shape(c))

    return product(_sampler(activation).values), product(_sampler(activation).slopes)


def _levels(activation: Activation, mean: float, std: float) -> int:
    """Halvings of a plane's panels: a wide normal sees f bend within a narrow angle, or no more; where kinks cross off
    the centre, too."""
    levels = 1 + math.ceil(math.log2(std)) if 1 < std < Table.WIDE else 1
    return min(levels, 5) + 2 * any(kink != mean for kink in activation.kinks)


def _covariance(activation: Activation, mean: float, std: float, c: np.ndarray | float, levels: int) -> np.ndarray:
    a, b, expect = _on_planes(activation, mean, std, c, levels)
    f_a, f_b = np.split(_sampler(activation).values(np.concatenate([a, b])).mean(0), 2)
    centre = gaussian(activation, mean, std).mean
    return expect((f_a - centre) * (f_b - centre))


def _on_planes(
    activation: Activation, mean: float, std: float, c: np.ndarray | float, levels: int
) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Returns the nodes of u_a and u_b, for all of `c` in one row, and what integrates over them: [n] to c's shape."""
    kinks = tuple((kink - mean) / std for kink in activation.kinks) if std else ()
    planes = [plane(math.acos(one), kinks, levels) for one in np.ravel(c)]
    a, b, weight = (np.concatenate(parts) for parts in zip(*planes, strict=True))
    starts = np.cumsum([0] + [len(one.weight) for one in planes[:-1]])
    return (
        mean + std * a,
        mean + std * b,
        lambda g: np.add.reduceat(weight * g, starts).reshape(np.shape(c)),
    )


class Table:
    """The moments of f(h) for one mean of h and any deviation, interpolated in log2 of it, octave by octave.

    A net of 10,000 layers may ask for 10,000 deviations and correlations; quadrature for each takes half a minute.
    """

    DEVIATIONS, ANGLES = 12, 16
    NARROW, WIDE = 2.0**-30, 2.0**10
    """Deviations beyond which f is straight, or a step, as far as correlations can tell."""
    PATIENCE = 24
    """Correlations asked for within an octave before it is worth the hundreds that a table takes."""

    def __init__(self, activation: Activation, mean: float):
        self.activation, self.mean = activation, mean
        self._moments: dict[int, np.ndarray] = {}
        self._correlations: dict[int, np.ndarray] = {}
        self._asked: Counter[int] = Counter()

    def moments(self, std: float) -> Moments:
        # Off the centre of a narrow normal a moment may be a tail of it: it falls by orders of magnitude within an
        # octave, where a polynomial is off by more than its size, and negative.
        if std < abs(self.mean) or std == 0:
            return Moments(*(part.item() for part in gaussian(self.activation, self.mean, std)))
        octave, basis = self._place(std)
        if octave not in self._moments:
            values = gaussian(self.activation, self.mean, self._deviations(octave))
            self._moments[octave] = np.stack(values) @ _chebyshev(self.DEVIATIONS)
        return Moments(*(self._moments[octave] @ basis).tolist())

    def correlation(self, std: float, c: float, exact: bool = False) -> float:
        """Returns the correlation of f at two inputs with correlation `c`, less where f itself is random: -1 to 1.

        What is interpolated is good to 1e-8 for narrow normals, to 1e-5 at deviations of 60; `exact` is quadrature's.
        """
        if std == 0 or (c == 1 and not self.activation.random):
            return 1.0
        return min(max(self._correlation(std, c, exact), -1.0), 1.0)

    def _correlation(self, std: float, c: float, exact: bool) -> float:
        std = min(max(std, self.NARROW), self.WIDE)
        octave, basis = self._place(std)
        self._asked[octave] += not exact
        if exact or self._asked[octave] <= self.PATIENCE:
            levels = _levels(self.activation, self.mean, std)
            covariance = _covariance(self.activation, self.mean, std, c, levels).item()
            return safe_divide(covariance, gaussian(self.activation, self.mean, std).variance.item())
        if octave not in self._correlations:
            # In the angle the correlation is analytic, for ReLU too; wide normals make it steep.
            wide = (octave >= -1) + (octave >= 3)
            angles, stds = _nodes(self.ANGLES * (2 if wide else 1)), self._deviations(octave)
            cosines = np.cos(np.pi / 2 * (1 + angles))
            values = [_covariance(self.activation, self.mean, std, cosines, 1 + wide) for std in stds]
            variance = np.maximum(gaussian(self.activation, self.mean, stds).variance, LEAST)[:, None]
            to_angle = _chebyshev(len(angles))
            self._correlations[octave] = _chebyshev(self.DEVIATIONS).T @ (np.array(values) / variance) @ to_angle
        table = self._correlations[octave]
        return float(basis @ table @ _basis(2 / math.pi * math.acos(c) - 1, table.shape[1]))

    def _place(self, std: float) -> tuple[int, np.ndarray]:
        log2 = math.log2(std)
        octave = math.floor(log2)
        return octave, _basis(2 * (log2 - octave) - 1, self.DEVIATIONS)

    def _deviations(self, octave: int) -> np.ndarray:
        return 2 ** (octave + (1 + _nodes(self.DEVIATIONS)) / 2)


def _nodes(n: int) -> np.ndarray:
    return np.cos(np.pi * (np.arange(n) + 0.5) / n)


def _basis(x: float, n: int) -> np.ndarray:
    """Chebyshev's polynomials at x: [n]."""
    return np.cos(math.acos(min(max(x, -1.0), 1.0)) * _DEGREES[:n])


@cache
def _chebyshev(n: int) -> np.ndarray:
    """What turns values at `_nodes(n)` (a row) into coefficients: [n, n]."""
    fit = 2 / n * np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(n)) / n)
    fit[:, 0] /= 2
    return fit


_DEGREES = np.arange(32.0)
table = remembered(Table)


class BatchNormMoments(NamedTuple):
    """Of an activation at what batch norm makes of a unit's batch."""

    mean: float
    square: float
    """E[f(z1)^2]"""
    product: float
    """E[f(z1) f(z2)]"""
    own: float
    """E[(B - 1 - z1^2) f'(z1)^2]"""
    others: float
    """E[(1 + z1 z2) f'(z1) f'(z2)]"""
    slope_square: float
    """E[f'^2]"""


@remembered
def sphere(activation: Activation, scale: float, batch: int) -> BatchNormMoments:
    """Returns the moments of f at scale z1 and scale z2, two of a normalized batch: mean 0, variance 1, any direction.

    (z1, z2) has a density proportional to Z^((B - 5) / 2) where Z = B (B - 2) - B (z1^2 + z2^2) + (z1 - z2)^2 > 0.
    """
    kinks = tuple(kink / scale for kink in activation.kinks) if scale > 0 else ()
    a, b, weight = plane(math.acos(-1 / (batch - 1)), kinks, 1 + 2 * any(kinks), batch)
    f_a, f_b = (_sampler(activation).values(scale * z) for z in (a, b))
    slope_a, slope_b = (_sampler(activation).slopes(scale * z) for z in (a, b))

    def expect(g_a: np.ndarray, g_b: np.ndarray) -> float:
        return float(np.sum(weight * (g_a.mean(0) + g_b.mean(0))) / 2)

    return BatchNormMoments(
        mean=expect(f_a, f_b),
        square=expect(f_a**2, f_b**2),
        product=float(np.sum(weight * f_a.mean(0) * f_b.mean(0))),
        own=expect((batch - 1 - a * a) * slope_a**2, (batch - 1 - b * b) * slope_b**2),
        others=float(np.sum(weight * (1 + a * b) * slope_a.mean(0) * slope_b.mean(0))),
        slope_square=expect(slope_a**2, slope_b**2),
    )


def saturation(activation: Activation, mean: np.ndarray | float, std: np.ndarray | float) -> np.ndarray:
    """Returns the share of a normal where the slope is below 5 % of the steepest, to about a hundredth."""
    mean, std = (np.asarray(x, float)[..., None] for x in np.broadcast_arrays(mean, std))
    z, weight = line(np.zeros(0))
    slope = np.abs(_sampler(activation).slopes(mean + std * z))
    return np.sum(weight * (slope < SATURATED * activation.steepest).mean(0), -1)


def deadness(activation: Activation, mean: float, std: float, c: float, batch: int) -> float:
    """Returns how likely the slope is exactly 0 at all of `batch` normals N(mean, std^2) of correlation `c`."""
    pieces = _flat(activation)
    if not pieces or std == 0:
        return float(any(low < mean <= high for low, high in pieces))
    c = min(max(c, 0.0), 1 - 1e-12)
    z, weight = line(np.zeros(0))
    # Given what all examples share, each of them is on its own.
    centre, own = mean + std * math.sqrt(c) * z, std * math.sqrt(1 - c)
    share = sum(_normal((high - centre) / own) - _normal((low - centre) / own) for low, high in pieces)
    return float(np.sum(weight * share**batch))


@remembered
def _flat(activation: Activation) -> list[tuple[float, float]]:
    """The intervals between kinks where the slope is 0."""
    edges = [-math.inf, *activation.kinks, math.inf] if activation.kinks else []
    return [piece for piece in pairwise(edges) if not _sampler(activation).slopes(_within(*piece)).any()]


def _within(low: float, high: float) -> np.ndarray:
    """Points of an interval, near its ends and far."""
    near = np.geomspace(1e-3, 1e3, 13)
    if math.isinf(low):
        return high - near
    return low + near if math.isinf(high) else np.linspace(low, high, 15)[1:-1]


_normal = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)), otypes=[float])
"""The distribution function of N(0, 1)."""
