"""`value_and_grad`: jax's, with a record of what every tap measured as one more result."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.extend.core import jaxpr_as_fun

from vgx.errors import WatchError
from vgx.training.probes import scale_by_power
from vgx.watch import flax_nnx, trees
from vgx.watch.order import order_of_taps
from vgx.watch.parts import Parts
from vgx.watch.record import Record, Row, norms_of, zeros_of
from vgx.watch.sites import leaves_by_path, rows_of
from vgx.watch.sums import COUNT


def value_and_grad(
    loss_fn: Callable[..., Any],
    *,
    has_aux: bool = False,
    examples: int | None = None,
    loss_scale: float = 1.0,
    measure: bool = True,
) -> Callable[..., tuple[Any, Any, Record | None]]:
    """Returns a function that gives the loss, its gradient with respect to the first argument, and a `Record`.

    It stands where `nnx.value_and_grad`, `eqx.filter_value_and_grad` or `jax.value_and_grad` stood, inside `jit` as
    they do. The gradient is what they give, bit for bit: of an NNX model's `nnx.Param`s, of all floating-point arrays
    of a pytree.

    Args:
        loss_fn: from a watched model, or parameters with probes among them, and further arguments to the loss, a mean
            over examples.
        has_aux: whether it returns the loss and something else; then so does the value.
        examples: in a batch; by default the length of the first array among the further arguments.
        loss_scale: a power of two that the loss is multiplied by on the way back, and the gradient divided by: with
            2^64 the record reaches gradients that float32 does not.
        measure: False leaves taps and record (None) out, for steps that are not logged.

    Raises:
        WatchError: there is no probe, or the scale is no power of two.
    """
    fraction, exponent = math.frexp(loss_scale)
    if fraction != 0.5:
        raise WatchError(f"value_and_grad: loss_scale must be a power of two, e.g. 2.0**64, not {loss_scale}")
    scale_log2 = exponent - 1

    @wraps(loss_fn)
    def run(model: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any, Record | None]:
        split = flax_nnx.split if isinstance(model, nnx.Module) else trees.split
        parts = split(model, loss_fn, args, kwargs)
        if not parts.sites:
            raise WatchError(
                f"value_and_grad: no layer of this {type(model).__name__} is watched; see watch.instrument"
            )

        def scaled(parameters: Any, probes: list[Array]) -> tuple[Array, Any]:
            out, state = parts.call(parameters, probes)
            loss = out[0] if has_aux else out
            return loss * loss_scale if scale_log2 else loss, (out, state)

        if not measure:
            (_, (out, state)), gradients = jax.value_and_grad(scaled, has_aux=True)(parts.parameters, parts.probes)
            parts.finish(state)
            return out, parts.gradients(_divided(gradients, scale_log2)), None
        count = examples or _count(args)
        traced, first = _trace(scaled, parts)
        both = jax.value_and_grad(traced, (0, 1), has_aux=True)
        (_, (out, state)), (gradients, sums) = both(parts.parameters, parts.probes)
        parts.finish(state)
        true, seen = parts.gradients(gradients), parts.gradients(_divided(gradients, scale_log2))
        rows = rows_of(parts.sites, first, parts.by_path)
        record = _record(parts, rows, sums, true, seen, count, scale_log2)
        return out, seen, record

    return run


def _divided(gradients: Any, scale_log2: int) -> Any:
    if not scale_log2:
        return gradients
    return jax.tree.map(lambda leaf: scale_by_power(leaf, jnp.int32(-scale_log2)), gradients)


def _trace(function: Callable[..., Any], parts: Parts):
    """Returns a function of parameters and probes as jax traced it, and in what order it meets the taps."""
    jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(parts.parameters, parts.probes)
    shape, before = jax.tree.structure(shapes), len(jax.tree.leaves(parts.parameters))

    def traced(parameters: Any, probes: list[Array]) -> Any:
        leaves = jax.tree.leaves((parameters, probes))
        return jax.tree.unflatten(shape, jaxpr_as_fun(jaxpr)(*leaves))

    return traced, order_of_taps(jaxpr.jaxpr, range(before, before + len(parts.probes)))


def _count(args: tuple[Any, ...]) -> int:
    for leaf in jax.tree.leaves(args):
        if getattr(leaf, "shape", ()):
            return leaf.shape[0]
    raise WatchError("value_and_grad: no array among the arguments has a batch to count; give examples=N")


def _record(parts: Parts, rows: tuple[Row, ...], sums: list[Array], true: Any, seen: Any, examples: int, scale: int):
    """Returns the record: what the taps summed, and figures of the weights and their gradients."""
    true, seen = leaves_by_path(true), leaves_by_path(seen)
    figures = {}
    for number in dict.fromkeys(row.site for row in rows):
        site = parts.sites[number]
        axes, dtype = len(site.stack), sums[number].dtype
        nothing = jnp.full(site.stack, jnp.nan, dtype)
        kernel = bias = zero = norm = nothing
        if site.kernel:
            kernel, norm = norms_of(true[site.kernel], axes), norms_of(parts.by_path[site.kernel], axes)
            zero = zeros_of(seen[site.kernel], axes, dtype)
        if site.bias:
            bias = norms_of(true[site.bias], axes)
        # A unit is dead where no entry was counted that moves it.
        counts = sums[number][..., COUNT:]
        dead = zeros_of(counts, axes, dtype) if counts.size else nothing
        of_weights = jnp.stack([kernel, zero, bias, norm, dead], -1).astype(dtype)
        figures[number] = jnp.concatenate([sums[number][..., :COUNT], of_weights], -1)
    static = tuple((row, parts.sites[row.site].kernel, parts.sites[row.site].bias) for row in rows)
    return Record(jnp.stack([figures[row.site][row.at] for row in rows]), static, examples, scale)
