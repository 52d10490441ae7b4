"""A tap whose measurements add up: over the examples of a vmap, the devices of a mesh, the calls of a shared layer.

`training.probes.tap` carries an exponent from layer to layer, so it needs to know the chain. A net that somebody else
wrote is no chain. So this one passes the gradient on unchanged, and measures sums alone: transforms of jax add the
cotangents of an argument that is shared, and sums are what stays right when they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from vgx.errors import WatchError
from vgx.watch.activations import Following, Given, following
from vgx.watch.sums import COUNT, of_activation, of_gradient, of_values, units_in

PROBE = "vgx_probe"
"""The attribute of a watched layer that holds its probe."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Probe:
    """What the cotangent of `tap` measures: zeros on the way in. A pytree of one array.

    Its gradient is reported as 0. So it may stand among the parameters: no optimizer moves it.
    """

    sums: Any

    def __repr__(self) -> str:
        return f"Probe({'x'.join(map(str, getattr(self.sums, 'shape', ())[:-1]))})"


def probe(*stack: int, units: int = 0, dtype: Any = None) -> Probe:
    """Returns the probe of a layer, or of a stack of layers with the leading axes `stack`.

    Args:
        stack: how many layers, e.g. `probe(12)` for parameters that `jax.lax.scan` takes layer by layer.
        units: how many units a layer has; without them a tap that knows the activation does not count the dead ones.
        dtype: in which sums are taken: at least float32, by default float64 where jax is set to it.
    """
    return Probe(jnp.zeros((*stack, COUNT + units), dtype))


def tap(h: Array, probe: Any, activation: Given | None = None, axis: int = -1) -> Array:
    """Returns `h`, of any shape; the cotangent of `probe` measures `h` and the loss's gradient there.

    Args:
        h: what a linear map leaves, before the activation.
        probe: of this layer alone; inside a scan or vmap over layers it is handed over beside their parameters.
        activation: what comes next, which is measured, too, but not applied: a name of `vgx parts`, such as "gelu", or
            an elementwise function.
        axis: of the units in `h`, to count the dead ones.

    Raises:
        WatchError: no such activation; `h` or the probe is none, or not of a single layer, or of other units.
    """
    return tap_following(h, probe, None if activation is None else following(activation), (axis,))


def tap_following(h: Array, probe: Any, follows: Following | None, axes: tuple[int, ...]) -> Array:
    """Returns `h`, as `tap` does, with units along several axes."""
    if not jnp.issubdtype(h.dtype, jnp.floating) or not h.size:
        raise WatchError(f"tap: what is tapped must be numbers with a gradient, not {h.dtype}{list(h.shape)}")
    sums = probe.sums if isinstance(probe, Probe) else probe[...]
    if sums.ndim != 1:
        raise WatchError(
            f"tap: this probe is of a stack of {'x'.join(map(str, sums.shape[:-1]))} layers; scan or vmap over it as "
            "over the layers' parameters, e.g. nnx.StateAxes({(nnx.Param, watch.LayerProbe): 0, ...: None})"
        )
    units = sums.size - COUNT
    if follows and units and units_in(h, axes) != units:
        raise WatchError(
            f"tap: activation: {list(h.shape)} has {units_in(h, axes)} units along axis {', '.join(map(str, axes))}, "
            f"and the probe is of {units}"
        )
    # Inside shard_map, where devices have parts of `h` each and the whole of `sums`: what they measure adds up.
    apart = tuple(_varying(h) - _varying(sums))
    return _tap(follows, axes, h, jax.lax.pcast(sums, apart, to="varying") if apart else sums)


def tapped_class(kind: type, follows: Following | None, axes: tuple[int, ...], **fields: Any) -> type:
    """Returns the subclass of a kind of layer that taps what it returns with the probe at PROBE; `fields` are added."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        h = kind.__call__(self, *args, **kwargs)
        if not isinstance(h, jax.Array):
            raise WatchError(f"{kind.__name__}: returns a {type(h).__name__}, and an array is what can be tapped")
        return tap_following(h, getattr(self, PROBE), follows, axes)

    body = {"__call__": __call__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind)(kind.__name__, (kind,), body | {"__doc__": kind.__doc__} | fields)


def _varying(x: Array) -> frozenset[str]:
    """Returns the axes of a mesh over which what devices hold differs. Versions of jax say it differently."""
    kind = jax.typeof(x)
    return getattr(kind, "vma", frozenset()) | getattr(getattr(kind, "manual_axis_type", None), "varying", frozenset())


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _tap(follows: Following | None, axes: tuple[int, ...], h: Array, sums: Array) -> Array:
    return h


def _forward(follows: Following | None, axes: tuple[int, ...], h: Array, sums: Array) -> tuple[Array, Array]:
    measured = jnp.concatenate([of_values(h), of_activation(h, follows, axes, sums.size - COUNT)])
    return h, measured.astype(sums.dtype)


def _backward(follows: Following | None, axes: tuple[int, ...], of_forward: Array, g: Array) -> tuple[Array, Array]:
    return g, jnp.concatenate([of_gradient(g).astype(of_forward.dtype), of_forward])


_tap.defvjp(_forward, _backward)
