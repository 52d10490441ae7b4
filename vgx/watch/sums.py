"""What a tap measures, as sums: of a layer's values, of the activation behind them, and of the loss's gradient there.

Sums alone: transforms of jax add the cotangents of an argument that is shared, and sums are what stays right when they
do. A unit is dead when no example moves it, and a count of those that do adds up; so each unit has one.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from vgx.training.probes import SATURATED, scale_by_power, square_sum
from vgx.watch.activations import Following

SHIFT = 192
"""A sum of squares is kept times 2^SHIFT, as it is, and times 2^-SHIFT: one of the three is in float32's range, and
far from its ends, whatever the size of what is squared."""
SCALES = (SHIFT, 0, -SHIFT)


class Sums(NamedTuple):
    """Where the measurements of a tap stand in its probe; behind them, for each unit, how many entries move it."""

    gradient: slice = slice(0, 3)
    """The squares of the loss's gradient at the entries, at each of SCALES."""
    calls: int = 3
    entries: int = 4
    """How many numbers went through."""
    total: int = 5
    """Their sum."""
    not_finite: int = 6
    """How many of them were not finite."""
    within: slice = slice(7, 10)
    """Their squared distance from the mean of the call, at each of SCALES."""
    means: slice = slice(10, 13)
    """The squared mean of a call times its entries, at each of SCALES."""
    activated: int = 13
    """How many of the numbers an activation that is known received."""
    act_total: int = 14
    """The sum of what it made of them."""
    judged: int = 15
    """How many of them an activation received that has a steepest slope."""
    flat: int = 16
    """How many of these it is saturated at."""
    act_squares: slice = slice(17, 20)
    """The squares of what it made of the numbers, at each of SCALES."""


SUMS = Sums()
COUNT = SUMS.act_squares.stop


def of_gradient(g: Array) -> Array:
    """Returns the sums of the backward pass, [3]."""
    return _at_scales(*square_sum(_wide(g)))


def of_values(h: Array) -> Array:
    """Returns the sums over a layer's values, of any shape: [10]."""
    wide = _wide(h)
    mean = _mean(wide)
    within = _at_scales(*square_sum(wide - mean))
    means = h.size * jnp.stack([jnp.square(mean * 2.0 ** (scale // 2)) for scale in SCALES])
    # A finite mean has finite entries alone. (The 0 is computed, so that inside shard_map it varies as they do.)
    not_finite = jax.lax.cond(
        jnp.isfinite(mean), lambda: mean * 0, lambda: jnp.sum(~jnp.isfinite(wide)).astype(wide.dtype)
    )
    one = jnp.ones((), wide.dtype)
    return jnp.concatenate([jnp.stack([one, h.size * one, h.size * mean, not_finite]), within, means])


def of_activation(h: Array, follows: Following | None, axes: tuple[int, ...], units: int) -> Array:
    """Returns the sums over what an activation makes of a layer's values, [7], and those of each unit: [7 + units].

    Zeros where none is known.

    Args:
        h: the values.
        follows: the activation.
        axes: of the units in `h`.
        units: how many there are; 0 to leave them out.
    """
    if follows is None:
        return jnp.zeros(7 + units, _wide(h).dtype)
    h = jnp.atleast_1d(h)
    y, slope = jax.jvp(follows.function, (h,), (jnp.ones_like(h),))
    y, slope = _wide(y), jnp.abs(_wide(slope))
    size = jnp.full((), y.size, y.dtype)
    judged = [size * 0, size * 0]
    if follows.steepest is not None:
        judged = [size, _count(slope < SATURATED * follows.steepest, None, y.dtype)]
    sums = [jnp.stack([size, y.size * _mean(y), *judged]), _at_scales(*square_sum(y))]
    if units:
        among = {axis % h.ndim for axis in axes}
        rest = tuple(axis for axis in range(h.ndim) if axis not in among)
        sums.append(_count(slope > 0, rest, y.dtype).reshape(units))
    return jnp.concatenate(sums)


def units_in(h: Array, axes: tuple[int, ...]) -> int:
    """Returns how many units `h` has; axes that it lacks have one, as a layer that leaves a scalar."""
    return math.prod(h.shape[axis] for axis in axes if -h.ndim <= axis < h.ndim)


def _mean(x: Array) -> Array:
    """Divides before it adds: the sum may leave the range where the mean does not."""
    return jnp.sum(x * (1 / x.size))


def _count(which: Array, axes: tuple[int, ...] | None, dtype: Any) -> Array:
    """How many are True. Two bytes an entry, summed in more, are enough for a 0 or a 1."""
    return jnp.sum(which.astype(jnp.bfloat16), axes, dtype=dtype)


def _at_scales(square: Array, k: Array) -> Array:
    """Returns s 4^k at each of SCALES, [3]: infinity and 0 where float32 ends."""
    return jnp.stack([scale_by_power(square, 2 * k + scale) for scale in SCALES])


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
