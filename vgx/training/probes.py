"""The tap, and what is computed from it: every layer's gradient, whatever its size, without touching the training.

The backward pass is linear in the gradient that enters it. So a layer may pass on its gradient times a power of two,
which is exact, provided that the exponent is kept: what leaves float32's range is then only an integer. `tap` does
that, and hands the exponent and the statistics out as the cotangent of an argument that is otherwise unused.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from vgx.results.columns import LAYERS

Tier = Literal["none", "lite", "standard", "full"]

LOG10_2 = 0.30102999566398120
FAR = 2.0**40
"""Squared norms of a gradient between 1/FAR and FAR leave room for its products and their squares."""
SATURATED = 0.05
"""A slope below this share of the activation's steepest counts as saturated."""


class Probe(NamedTuple):
    """What the taps of one layer report on the way back; a float each. Zeros on the way in."""

    delta_log2: Array
    """log2 of the norm of the batch-mean loss's gradient at h, of any size."""
    noise_log2: Array
    """log2 of the sum over examples of |g_i|^2 |x_i|^2 (0 outside the full tier)."""
    kernel_log2: Array
    """log2 of the norm of the kernel's gradient, of any size."""
    kernel_zero: Array
    """The fraction of entries of the kernel's gradient that are 0 in what the optimizer sees."""
    bias_log2: Array
    """log2 of the norm of the bias's gradient, of any size."""
    rest_log2: Array
    """log2 of the norm of the gradient of normalization's scale and offset and PReLU's slopes together, of any size."""
    stream_log2: Array | None = None
    """As `delta_log2`, of the stream that a layer adds to; None in nets without one."""
    scale_log2: Array | None = None
    """log2 of the gradient of what the layer's branch is multiplied by, where that is learned; None likewise."""
    coherence: Array | None = None
    """The mean cosine between two examples' gradients at h; None outside the full tier."""


class LayerRecord(namedtuple("LayerRecord", LAYERS, defaults=[None] * len(LAYERS))):
    """One step's statistics, one array [L + 1] per column of the run's layer table, from the first layer to the
    readout.

    A field that the tier leaves out is None.
    """

    __slots__ = ()


class Forward(NamedTuple):
    """What the forward pass reports of one layer: [] each, [L] after the scan; None where the tier leaves it out."""

    weight_norm: Array | None = None
    preact_mean: Array | None = None
    preact_std: Array | None = None
    act_mean: Array | None = None
    act_rms: Array | None = None
    dead: Array | None = None
    saturated: Array | None = None
    cosine: Array | None = None
    participation: Array | None = None
    branch_ratio: Array | None = None
    input_exponent: Array | None = None
    """Power of two by which the layer's input was divided before `Probe.noise_log2` was taken."""


def exponent_of(x: Array) -> Array:
    """Returns the integer k with 2^k <= sum |x| < 2^(k+1), by which squares of x 2^-k are safe; 0 for zeros and NaN.

    Of absolute values, since gradients cancel: softmax's add up to 0 for every example. Read from the bits, and kept
    off the ends of the range, so that 2^k and 2^-k are both normal numbers.
    """
    size = jnp.sum(jnp.abs(x))
    info = jnp.finfo(x.dtype)
    bits = jax.lax.bitcast_convert_type(size, jnp.dtype(f"int{info.bits}"))
    k = (bits >> info.nmant).astype(jnp.int32) - (info.maxexp - 1)
    return jnp.where(size > 0, jnp.clip(k, info.minexp, -info.minexp), 0)


def power_of_two(k: Array, dtype: jnp.dtype) -> Array:
    """Returns 2^k, exactly, for integers k: 0 below the range of normal numbers, infinity above it."""
    info = jnp.finfo(dtype)
    inside = jnp.clip(k, info.minexp, info.maxexp - 1)
    integer = jnp.dtype(f"int{info.bits}")
    bits = (inside.astype(integer) + (info.maxexp - 1)) << info.nmant
    power = jax.lax.bitcast_convert_type(bits, dtype)
    return jnp.where(k < info.minexp, 0, jnp.where(k >= info.maxexp, jnp.inf, power)).astype(dtype)


def scale_by_power(x: Array, k: Array) -> Array:
    """Returns x 2^k for an integer k of any type, in two halves: it leaves the range only where the result does."""
    k = k.astype(jnp.int32)
    half = k // 2
    return x * power_of_two(half, x.dtype) * power_of_two(k - half, x.dtype)


def square_sum(x: Array, low: float | None = None, high: float | None = None) -> tuple[Array, Array]:
    """Returns s and k with sum x^2 = s 4^k, whatever the size of `x`.

    One pass and k = 0 where the plain sum lies between `low` and `high`, by default where no square that counts has
    left the range of the type. Else `x` is divided by 2^k before it is squared, k being `exponent_of(x)`.
    """
    info = jnp.finfo(x.dtype)
    least = 2.0 ** (info.minexp // 2) if low is None else low
    most = 2.0 ** (info.maxexp - 8) if high is None else high

    def scaled() -> tuple[Array, Array]:
        k = exponent_of(x)
        return jnp.sum(jnp.square(_wide(x * power_of_two(-k, x.dtype)))), k

    plain = jnp.sum(jnp.square(_wide(x)))
    # The 0 is computed, so that inside shard_map it varies over devices as the other branch's exponent does.
    return jax.lax.cond((plain > least) & (plain < most), lambda: (plain, (plain * 0).astype(jnp.int32)), scaled)


def log2_norm(x: Array) -> Array:
    """Returns log2 of the 2-norm of `x`; -inf for zeros. Never squares what may be tiny or huge."""
    square, k = square_sum(x)
    return k + 0.5 * jnp.log2(square)


def log2_norms(stack: Array) -> Array:
    """Returns `log2_norm` of each in a stack, [L, ...] to [L]: one after the other on a CPU, which has branches."""
    return jax.lax.platform_dependent(stack, cpu=partial(jax.lax.map, log2_norm), default=jax.vmap(log2_norm))


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Delta(NamedTuple):
    """The part of a layer's probe that `tap` fills."""

    delta_log2: Array
    noise_log2: Array
    coherence: Array | None = None


class Weights(NamedTuple):
    """The part of a layer's probe that `tap_weights` fills."""

    kernel_log2: Array
    kernel_zero: Array
    bias_log2: Array


@jax.custom_vjp
def tap(h: Array, exponent: Array, probe: Delta, input_square: Array | None) -> tuple[Array, Array]:
    """Returns `h` [B, N] and `exponent`; the gradient with respect to `probe` measures the gradient with respect to
    `h`.

    Backward, the cotangent of `exponent` is K, the power of two by which all that comes from above has been divided.
    Where what the tap receives is far from 1, it divides once more, by its size, and adds that to K for the layers
    below.

    Args:
        h: what the layer's linear map leaves.
        exponent: 0, a float; on the way back it carries K.
        probe: zeros.
        input_square: [B], the squared norm of each example's input to the layer, or None outside the full tier.
    """
    return h, exponent


def _tap_forward(h: Array, exponent: Array, probe: Delta, input_square: Array | None):
    return (h, exponent), input_square


def _tap_backward(input_square: Array | None, cotangents: tuple[Array, Array]):
    g, above = cotangents
    square, k = square_sum(g, 1 / FAR, FAR)
    g = g * power_of_two(-k, g.dtype)
    below = above + k
    return g, below, *_of_examples(g, below, input_square, 0.5 * jnp.log2(square) + below)


def _of_examples(g: Array, exponent: Array, input_square: Array | None, delta_log2: Array) -> tuple[Delta, Any]:
    """What a tap's probe receives, and `input_square`, of gradients g 2^exponent of sizes that can be squared."""
    if input_square is None:
        return Delta(delta_log2, jnp.zeros_like(exponent)), None
    of_examples = jnp.sum(jnp.square(_wide(g)), -1)
    noise = jnp.log2(jnp.sum(of_examples * input_square)) + 2 * exponent
    return Delta(delta_log2, noise, _mean_cosine(_wide(g))), jnp.zeros_like(input_square)


tap.defvjp(_tap_forward, _tap_backward)


@jax.custom_vjp
def tap_branch(h: Array, exponent: Array, probe: Delta, input_square: Array | None) -> tuple[Array, Array]:
    """As `tap`, of a branch that leaves a stream: measures, and divides nothing off.

    So what comes down the branch and what comes down the stream keep one exponent, and can be added.
    """
    return h, exponent


def _tap_branch_backward(input_square: Array | None, cotangents: tuple[Array, Array]):
    g, below = cotangents
    square, k = square_sum(g)
    scaled = g if input_square is None else g * power_of_two(-k, g.dtype)
    return g, below, *_of_examples(scaled, below + k, input_square, 0.5 * jnp.log2(square) + k + below)


tap_branch.defvjp(_tap_forward, _tap_branch_backward)


@jax.custom_vjp
def tap_weights(kernel: Array, bias: Array, exponent: Array, probe: Weights) -> tuple[Array, Array, Array]:
    """Returns `kernel`, `bias` and `exponent`; backward, gives their gradients back what the tap above divided off.

    So the optimizer sees what plain arithmetic would show it, and `probe` what is true. Both are taken here, layer by
    layer, while the gradient is still in the cache.
    """
    return kernel, bias, exponent


def _tap_weights_backward(_: None, cotangents: tuple[Array, Array, Array]):
    # The bias's is a sum of what the tap has just kept near size 1, so its squares are in range.
    return _weights_back(cotangents, lambda bias: 0.5 * jnp.log2(jnp.sum(jnp.square(bias))))


def _weights_back(cotangents: tuple[Array, Array, Array], bias_log2: Callable[[Array], Array]):
    kernel, bias, below = cotangents
    seen = scale_by_power(kernel, below)
    probe = Weights(
        kernel_log2=log2_norm(kernel) + below,
        kernel_zero=_share(seen == 0, below.dtype),
        bias_log2=bias_log2(bias) + below,
    )
    return seen, scale_by_power(bias, below), below, probe


tap_weights.defvjp(lambda kernel, bias, exponent, probe: ((kernel, bias, exponent), None), _tap_weights_backward)


@jax.custom_vjp
def tap_branch_weights(kernel: Array, bias: Array, exponent: Array, probe: Weights) -> tuple[Array, Array, Array]:
    """As `tap_weights`, of a branch that leaves a stream: what comes down it may be of any size."""
    return kernel, bias, exponent


tap_branch_weights.defvjp(
    lambda kernel, bias, exponent, probe: ((kernel, bias, exponent), None),
    lambda _, cotangents: _weights_back(cotangents, log2_norm),
)


@jax.custom_vjp
def tap_rest(parameters: Any, exponent: Array, probe: Array) -> tuple[Any, Array]:
    """Returns `parameters`, any tree, and `exponent`; as `tap_weights`, for what comes after the layer's tap."""
    return parameters, exponent


def _tap_rest_backward(_: None, cotangents: tuple[Any, Array]):
    parameters, above = cotangents
    norms = [log2_norm(leaf) for leaf in jax.tree.leaves(parameters)]
    norm = log2_root_sum_square(jnp.stack(norms)) + above if norms else jnp.full_like(above, -jnp.inf)
    return jax.tree.map(lambda leaf: scale_by_power(leaf, above), parameters), above, norm


tap_rest.defvjp(lambda parameters, exponent, probe: ((parameters, exponent), None), _tap_rest_backward)


@jax.custom_vjp
def restore(parameters: Any, exponent: Array) -> Any:
    """Returns `parameters`, any tree; backward, multiplies their gradients by 2^exponent, for a step without taps.

    The exponent is 0, but the compiler does not know. So it sees the products that a measured step has, contracts the
    same ones with the optimizer's sums into fused multiply-adds, and the two steps round alike.
    """
    return parameters


def _restore_backward(exponent: Array, cotangents: Any):
    return jax.tree.map(lambda leaf: scale_by_power(leaf, exponent), cotangents), jnp.zeros_like(exponent)


restore.defvjp(lambda parameters, exponent: (parameters, exponent), _restore_backward)


def log2_root_sum_square(log2: Array) -> Array:
    """Returns log2 of the norm whose parts, along the first axis, have the norms 2^log2."""
    largest = jnp.max(log2, 0)
    largest = jnp.where(jnp.isneginf(largest), 0, largest)
    return largest + 0.5 * jnp.log2(jnp.sum(jnp.exp2(2 * (log2 - largest)), 0))


def empty_probe(layers: tuple[int, ...] = (), *, of_stream: bool = False, tier: Tier = "lite") -> Probe:
    """Returns the probe to hand to the taps of a layer (or, with axes in front, of a stack): zeros.

    `of_stream` probes are those of a net that has one: all its layers have the same fields.
    """
    there = {"stream_log2": of_stream, "scale_log2": of_stream, "coherence": tier == "full"}
    return Probe(**{name: jnp.zeros(layers) for name in Probe._fields if there.get(name, True)})


def measure_forward(tier: Tier, steepest: float, kernel: Array, x: Array, z: Array, slope: Array, y: Array) -> Forward:
    """Returns the forward statistics of one layer.

    Args:
        tier: how much to measure.
        steepest: the activation's largest slope.
        kernel: [N_in, N], the layer's weights.
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
        weight_norm=_norm(kernel),
        preact_mean=mean,
        preact_std=_norm(z - mean) / math.sqrt(z.size),
        act_mean=jnp.mean(y),
        act_rms=_norm(y) / math.sqrt(y.size),
        dead=_share(~jnp.any(slope > 0, 0), z.dtype),
        saturated=_share(slope < SATURATED * steepest, z.dtype),
    )
    if tier == "standard":
        return standard
    return standard._replace(
        cosine=_mean_cosine(y), participation=_participation(y), input_exponent=exponent_of(x).astype(z.dtype)
    )


def branch_ratio(branch: Array, stream: Array) -> Array:
    """Returns the norm of what a layer adds over that of the stream it is added to, both [B, N]."""
    return _norm(_wide(branch)) / _norm(_wide(stream))


def _share(which: Array, dtype: jnp.dtype) -> Array:
    """The fraction of True. Two bytes an entry, summed in more, are enough for a 0 or a 1."""
    return jnp.sum(which.astype(jnp.bfloat16), dtype=dtype) / which.size


def _norm(x: Array) -> Array:
    square, k = square_sum(x)
    return jnp.sqrt(square) * power_of_two(k, square.dtype)


def input_square(x: Array) -> Array:
    """Returns each example's squared norm [B] of `x` [B, N], after division of `x` by 2^`exponent_of(x)`."""
    x = _wide(x)
    return jnp.sum(jnp.square(x * power_of_two(-exponent_of(x), x.dtype)), -1)


def _mean_cosine(y: Array) -> Array:
    """Mean cosine over pairs of different examples [B, N]; one that is zero throughout has no direction and no say."""
    unit = y * power_of_two(-jax.vmap(exponent_of)(y), y.dtype)[:, None]
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

    Both terms are unbiased estimates from batches of one and of `batch` examples; infinity where the signal drowns in
    the noise.

    Args:
        log2_ratio: log2 of the mean squared norm of one example's gradient over the squared norm of the batch's.
        batch: examples in the batch.

    McCandlish, Kaplan, Amodei and OpenAI 2018, arXiv:1812.06162, appendix A.1.
    """
    ratio = jnp.exp2(log2_ratio)
    signal = batch - ratio
    return jnp.where(signal > 0, batch * (ratio - 1) / signal, jnp.where(jnp.isnan(ratio), jnp.nan, jnp.inf))
