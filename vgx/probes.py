"""The tap, and what is computed from it: every layer's gradient, whatever its size, without touching the training.

The backward pass is linear in the gradient that enters it. So a layer may pass on its gradient times a power of two, which
is exact, provided that the exponent is kept: what leaves float32's range is then only an integer. `tap` does that, and hands
the exponent and the statistics out as the cotangent of an argument that is otherwise unused.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Tier = Literal["none", "lite", "standard", "full"]

LOG10_2 = 0.30102999566398120
SATURATED = 0.05
"""A slope below this share of the activation's steepest counts as saturated."""


class Probe(NamedTuple):
    """What a tap reports of one layer, [] each: `exponent` as a float, and sums over the rescaled gradient g."""

    exponent: Array
    square: Array
    """The sum of squares of g."""
    noise: Array
    """The sum over examples of |g_i|^2 |x_i|^2 (0 outside the full tier)."""




class LayerRecord(NamedTuple):
    """One step's statistics, one array [L + 1] per column of the run's layer table, from the first layer to the readout.

    A field that the tier leaves out is None.
    """

    delta_log10: Array
    weight_grad_log10: Array
    bias_grad_log10: Array
    weight_grad_zero: Array
    weight_norm: Array | None = None
    update_ratio: Array | None = None
    preact_mean: Array | None = None
    preact_std: Array | None = None
    act_mean: Array | None = None
    act_rms: Array | None = None
    dead: Array | None = None
    saturated: Array | None = None
    cosine: Array | None = None
    participation: Array | None = None
    noise_scale: Array | None = None


class Forward(NamedTuple):
    """What the forward pass reports of one layer: [] each, [L] after the scan; None where the tier leaves it out."""

    preact_mean: Array | None = None
    preact_std: Array | None = None
    act_mean: Array | None = None
    act_rms: Array | None = None
    dead: Array | None = None
    saturated: Array | None = None
    cosine: Array | None = None
    participation: Array | None = None
    input_exponent: Array | None = None
    """Power of two by which the layer's input was divided before `Probe.noise` was taken."""


def exponent_of(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Returns the integer k with 2^k <= max|x| < 2^(k+1) over `axis`; 0 where that is 0 or not finite.

    Read from the bits, and kept two short of the ends of the range, so that 2^k and 2^-k are both normal numbers.
    """
    largest = jnp.max(jnp.abs(x), axis)
    info = jnp.finfo(x.dtype)
    bits = jax.lax.bitcast_convert_type(largest, jnp.dtype(f"int{info.bits}"))
    k = (bits >> info.nmant).astype(jnp.int32) - (info.maxexp - 1)
    usable = (largest > 0) & jnp.isfinite(largest)
    return jnp.where(usable, jnp.clip(k, info.minexp, -info.minexp), 0)


def power_of_two(k: Array, dtype: jnp.dtype) -> Array:
    """Returns 2^k, exactly, for integers k: 0 below the range of normal numbers, infinity above it."""
    info = jnp.finfo(dtype)
    inside = jnp.clip(k, info.minexp, info.maxexp - 1)
    integer = jnp.dtype(f"int{info.bits}")
    bits = (inside.astype(integer) + (info.maxexp - 1)) << info.nmant
    power = jax.lax.bitcast_convert_type(bits, dtype)
    return jnp.where(k < info.minexp, 0, jnp.where(k >= info.maxexp, jnp.inf, power)).astype(dtype)


def scale_by_power(x: Array, k: Array) -> Array:
    """Returns x 2^k, in two halves, so that it leaves the range only where the result does; `k` broadcasts from the left."""
    k = k.astype(jnp.int32).reshape(k.shape + (1,) * (x.ndim - k.ndim))
    half = k // 2
    return x * power_of_two(half, x.dtype) * power_of_two(k - half, x.dtype)


def log2_norm(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Returns log2 of the 2-norm of `x` over `axis`; -inf for zeros. Never squares what may be tiny or huge."""
    k = exponent_of(x, axis)
    unit = x * power_of_two(-k, x.dtype).reshape(k.shape + (1,) * (x.ndim - k.ndim))
    return k + 0.5 * jnp.log2(jnp.sum(jnp.square(unit), axis))


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@jax.custom_vjp
def tap(h: Array, probe: Probe, input_square: Array | None) -> Array:
    """Returns `h` [B, N]; its gradient with respect to `probe` measures the gradient with respect to `h`.

    What it passes further down is that gradient divided by 2^`Probe.exponent`. `input_square` [B] is the squared norm of each
    example's input to the layer, or None outside the full tier.
    """
    return h


def _tap_forward(h: Array, probe: Probe, input_square: Array | None):
    return h, input_square


def _tap_backward(input_square: Array | None, g: Array):
    k = exponent_of(g)
    g = g * power_of_two(-k, g.dtype)
    wide = _wide(g)
    if input_square is None:
        square, noise = jnp.sum(jnp.square(wide)), jnp.zeros((), wide.dtype)
    else:
        each = jnp.sum(jnp.square(wide), -1)
        square, noise = jnp.sum(each), jnp.sum(each * input_square)
    return g, Probe(k.astype(wide.dtype), square, noise), None if input_square is None else jnp.zeros_like(input_square)


tap.defvjp(_tap_forward, _tap_backward)


def empty_probe(layers: tuple[int, ...] = ()) -> Probe:
    """Returns the probe to hand to a tap (or, with axes in front, to the taps of a stack): zeros."""
    return Probe(*(jnp.zeros(layers) for _ in Probe._fields))


def measure_forward(tier: Tier, steepest: float, x: Array, z: Array, slope: Array, y: Array) -> Forward:
    """Returns the forward statistics of one layer.

    Args:
        tier: how much to measure.
        steepest: the activation's largest slope.
        x: [B, N_in], the layer's input.
        z: [B, N], what the activation receives.
        slope: [B, N], the activation's derivative there.
        y: [B, N], what the layer passes on.
    """
    if tier in ("none", "lite"):
        return Forward()
    x, z, slope, y = _wide(x), _wide(z), jnp.abs(_wide(slope)), _wide(y)
    mean = jnp.mean(z)
    standard = Forward(
        preact_mean=mean,
        preact_std=jnp.exp2(log2_norm(z - mean) - 0.5 * jnp.log2(z.size)),
        act_mean=jnp.mean(y),
        act_rms=jnp.exp2(log2_norm(y) - 0.5 * jnp.log2(y.size)),
        dead=jnp.mean(jnp.max(slope, 0) == 0, dtype=z.dtype),
        saturated=jnp.mean(slope < SATURATED * steepest, dtype=z.dtype),
    )
    if tier == "standard":
        return standard
    return standard._replace(
        cosine=_mean_cosine(y), participation=_participation(y), input_exponent=exponent_of(x).astype(z.dtype)
    )


def input_square(x: Array) -> Array:
    """Returns each example's squared norm [B] of `x` [B, N], after division by the power of two of its largest entry."""
    x = _wide(x)
    return jnp.sum(jnp.square(x * power_of_two(-exponent_of(x), x.dtype)), -1)


def _mean_cosine(y: Array) -> Array:
    """Mean cosine over pairs of different examples; examples that are zero throughout have no direction and are left out."""
    unit = y * power_of_two(-exponent_of(y), y.dtype)
    norm = jnp.sqrt(jnp.sum(jnp.square(unit), -1, keepdims=True))
    direction = jnp.where(norm > 0, unit / jnp.where(norm > 0, norm, 1), 0)
    count = jnp.sum(norm > 0)
    pairs = count * (count - 1)
    return (jnp.sum(jnp.square(jnp.sum(direction, 0))) - count) / jnp.where(pairs > 0, pairs, jnp.nan)


def _participation(y: Array) -> Array:
    """(tr C)^2 / tr C^2 of the covariance C over examples, by whichever of the two Gram matrices is smaller."""
    centred = y - jnp.mean(y, 0)
    centred = centred * power_of_two(-exponent_of(centred), y.dtype)
    gram = centred @ centred.T if y.shape[0] < y.shape[1] else centred.T @ centred
    return jnp.square(jnp.trace(gram)) / jnp.sum(jnp.square(gram))


def noise_scale(log2_ratio: Array, batch: int) -> Array:
    """Returns the simple noise scale tr(Sigma) / |G|^2, in examples: the batch size at which noise equals signal.

    Both terms are unbiased estimates from batches of one and of `batch` examples; infinity where the signal drowns in the noise.

    Args:
        log2_ratio: log2 of the mean squared norm of one example's gradient over the squared norm of the batch's.
        batch: examples in the batch.

    McCandlish, Kaplan, Amodei and OpenAI 2018, arXiv:1812.06162, appendix A.1.
    """
    ratio = jnp.exp2(log2_ratio)
    signal = batch - ratio
    return jnp.where(signal > 0, batch * (ratio - 1) / signal, jnp.where(jnp.isnan(ratio), jnp.nan, jnp.inf))
