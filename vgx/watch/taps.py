"""A tap whose measurements add up: over the examples of a vmap, the devices of a mesh, the calls of a shared layer.

`training.probes.tap` carries an exponent from layer to layer, so it needs to know the chain. A net that somebody else
wrote is no chain. So this one passes the gradient on unchanged, and measures sums alone: transforms of jax add the
cotangents of an argument that is shared, and sums are what stays right when they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from vgx.errors import WatchError
from vgx.training.probes import scale_by_power, square_sum

PROBE = "vgx_probe"
"""The attribute of a watched layer that holds its probe."""
SHIFT = 192
"""A sum of squares is kept times 2^SHIFT, as it is, and times 2^-SHIFT: one of the three is in float32's range, and
far from its ends, whatever the size of what is squared."""
SCALES = (SHIFT, 0, -SHIFT)


class Sums(NamedTuple):
    """Where the measurements of a tap stand in its probe."""

    calls: int = 0
    entries: int = 1
    """How many numbers went through."""
    total: int = 2
    """Their sum."""
    not_finite: int = 3
    """How many of them were not finite."""
    within: slice = slice(4, 7)
    """Their squared distance from the mean of the call, at each of SCALES."""
    means: slice = slice(7, 10)
    """The squared mean of a call times its entries, at each of SCALES."""
    gradient: slice = slice(10, 13)
    """The squares of the loss's gradient at them, at each of SCALES."""


SUMS = Sums()
COUNT = SUMS.gradient.stop


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Probe:
    """What the cotangent of `tap` measures: zeros on the way in. A pytree of one array.

    Its gradient is reported as 0. So it may stand among the parameters: no optimizer moves it.
    """

    sums: Any

    def __repr__(self) -> str:
        return f"Probe({'x'.join(map(str, getattr(self.sums, 'shape', ())[:-1]))})"


def probe(*stack: int, dtype: Any = None) -> Probe:
    """Returns the probe of a layer, or of a stack of layers with the leading axes `stack`.

    Args:
        stack: how many layers, e.g. `probe(12)` for parameters that `jax.lax.scan` takes layer by layer.
        dtype: in which sums are taken: at least float32, by default float64 where jax is set to it.
    """
    return Probe(jnp.zeros((*stack, COUNT), dtype))


def tap(h: Array, probe: Any) -> Array:
    """Returns `h`, of any shape; the cotangent of `probe` measures `h` and the loss's gradient there.

    Args:
        h: what a linear map leaves, before the activation.
        probe: of this layer alone; inside a scan or vmap over layers it is handed over beside their parameters.
    """
    if not jnp.issubdtype(h.dtype, jnp.floating) or not h.size:
        raise WatchError(f"tap: what is tapped must be numbers with a gradient, not {h.dtype}{list(h.shape)}")
    sums = probe.sums if isinstance(probe, Probe) else probe[...]
    if sums.shape != (COUNT,):
        raise WatchError(
            f"tap: this probe is of a stack of {'x'.join(map(str, sums.shape[:-1]))} layers; scan or vmap over it as "
            "over the layers' parameters, e.g. nnx.StateAxes({(nnx.Param, watch.LayerProbe): 0, ...: None})"
        )
    # Inside shard_map, where devices have parts of `h` each and the whole of `sums`: what they measure adds up.
    apart = tuple(_varying(h) - _varying(sums))
    return _tap(h, jax.lax.pcast(sums, apart, to="varying") if apart else sums)


def tapped_class(kind: type, **fields: Any) -> type:
    """Returns the subclass of a kind of layer that taps what it returns with the probe at PROBE; `fields` are added."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        h = kind.__call__(self, *args, **kwargs)
        if not isinstance(h, jax.Array):
            raise WatchError(f"{kind.__name__}: returns a {type(h).__name__}, and an array is what can be tapped")
        return tap(h, getattr(self, PROBE))

    body = {"__call__": __call__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind)(kind.__name__, (kind,), body | {"__doc__": kind.__doc__} | fields)


def _varying(x: Array) -> frozenset[str]:
    """Returns the axes of a mesh over which what devices hold differs. Versions of jax say it differently."""
    kind = jax.typeof(x)
    return getattr(kind, "vma", frozenset()) | getattr(getattr(kind, "manual_axis_type", None), "varying", frozenset())


@jax.custom_vjp
def _tap(h: Array, sums: Array) -> Array:
    return h


def _forward(h: Array, sums: Array) -> tuple[Array, Array]:
    return h, _of_values(h).astype(sums.dtype)


def _backward(of_values: Array, g: Array) -> tuple[Array, Array]:
    of_gradient = at_scales(*square_sum(_wide(g))).astype(of_values.dtype)
    return g, jnp.concatenate([of_values, of_gradient])


_tap.defvjp(_forward, _backward)


def _of_values(h: Array) -> Array:
    """The sums of the forward pass, [10]."""
    wide = _wide(h)
    mean = jnp.sum(wide * (1 / h.size))
    within = at_scales(*square_sum(wide - mean))
    means = h.size * jnp.stack([jnp.square(mean * 2.0 ** (scale // 2)) for scale in SCALES])
    # A finite mean has finite entries alone. (The 0 is computed, so that inside shard_map it varies as they do.)
    not_finite = jax.lax.cond(
        jnp.isfinite(mean), lambda: mean * 0, lambda: jnp.sum(~jnp.isfinite(wide)).astype(wide.dtype)
    )
    one = jnp.ones((), wide.dtype)
    return jnp.concatenate([jnp.stack([one, h.size * one, h.size * mean, not_finite]), within, means])


def at_scales(square: Array, k: Array) -> Array:
    """Returns s 4^k at each of SCALES, [3]: infinity and 0 where float32 ends."""
    return jnp.stack([scale_by_power(square, 2 * k + scale) for scale in SCALES])


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
