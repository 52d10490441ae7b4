"""Flax NNX models: a copy whose layers tap what they leave, and its parts for jax's own transforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vgx.watch.activations import Activations, Following
from vgx.watch.parts import Parts
from vgx.watch.sites import Path, Site, kernel_and_bias, leaves_by_path, units_of
from vgx.watch.sums import COUNT
from vgx.watch.taps import PROBE, tapped_class


class LayerProbe(nnx.Variable):
    """The probe of a watched layer: zeros. No `nnx.Param`, so no optimizer and no `nnx.grad` knows it."""


AXES: dict[type, Callable[[Any], int]] = {
    nnx.Linear: lambda layer: 2,
    nnx.LinearGeneral: lambda layer: len(layer.batch_axis) + len(layer.in_features) + len(layer.out_features),
    nnx.Einsum: lambda layer: len(layer.kernel_shape),
    nnx.Conv: lambda layer: len(layer.kernel_size) + 2,
    nnx.ConvTranspose: lambda layer: len(layer.kernel_size) + 2,
    nnx.Embed: lambda layer: 2,
}
"""The layers that are watched unasked, and how many axes the weights of each have when it is not stacked."""


def instrument(
    model: Any, only: Callable[[str, Any], bool] | None, also: Mapping[type, int], activations: Activations
) -> Any:
    """Returns a copy of a model whose layers are watched; see `watch.instrument`."""
    copy = nnx.clone(model)
    parameters = leaves_by_path(nnx.state(copy))
    for keys, layer in list(nnx.iter_modules(copy)):
        path = tuple(map(str, keys))
        if hasattr(layer, PROBE) or (only and not only(".".join(path), layer)):
            continue
        axes = _axes(layer, also)
        if axes is None:
            continue
        kernel, _ = kernel_and_bias(parameters, path, axes - 2)
        stack, dtype = (), jnp.float32
        if kernel is not None:
            shape, dtype = parameters[kernel].shape, jnp.promote_types(parameters[kernel].dtype, jnp.float32)
            stack = shape[: len(shape) - axes] if axes else ()
        follows = None if isinstance(layer, nnx.Embed) else activations.of(".".join(path))
        of_units = tuple(range(-len(layer.out_features), 0)) if isinstance(layer, nnx.LinearGeneral) else (-1,)
        units = units_of(parameters, path, len(stack), of_units) if follows else 0
        _become(layer, _tapped(type(layer), follows, of_units))
        setattr(layer, PROBE, LayerProbe(jnp.zeros((*stack, COUNT + units), dtype)))
    return copy


def strip(model: Any) -> Any:
    """Returns a copy of a watched model as it was before `instrument`."""
    copy = nnx.clone(model)
    for _, layer in list(nnx.iter_modules(copy)):
        if hasattr(layer, PROBE):
            delattr(layer, PROBE)
            _become(layer, type(layer).__bases__[0])
    return copy


def _become(layer: Any, kind: type) -> None:
    """Changes the class of a layer; past Flax, which would list the assignment among the layer's attributes."""
    object.__setattr__(layer, "__class__", kind)


def _axes(layer: Any, also: Mapping[type, int]) -> int | None:
    for kind, axes in also.items():
        if isinstance(layer, kind):
            return axes
    return next((count(layer) for kind, count in AXES.items() if isinstance(layer, kind)), None)


@cache
def _tapped(kind: type, follows: Following | None, axes: tuple[int, ...]) -> type:
    """The subclass that taps. One for each kind and activation: jax compares types."""
    return tapped_class(kind, follows, axes)


def split(model: Any, loss_fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Parts:
    """Returns a watched model's parts. Other modules, and random streams, among `args` keep what happens to them."""
    graph, parameters, probes, rest = nnx.split(model, nnx.Param, LayerProbe, ...)
    modules = {at: nnx.split(arg) for at, arg in enumerate(args) if isinstance(arg, nnx.Pytree)}

    def call(parameters: Any, probes: list[Any]) -> tuple[Any, Any]:
        # Variables belong to the trace that made them; a copy of a tree makes them anew.
        copy = nnx.merge(graph, parameters, jax.tree.unflatten(shape, probes), jax.tree.map(lambda leaf: leaf, rest))
        others = {at: nnx.merge(*jax.tree.map(lambda leaf: leaf, parts)) for at, parts in modules.items()}
        out = loss_fn(copy, *(others.get(at, arg) for at, arg in enumerate(args)), **kwargs)
        return out, (nnx.split(copy, nnx.Param, LayerProbe, ...)[3], {at: nnx.state(of) for at, of in others.items()})

    def finish(state: Any) -> None:
        nnx.update(model, state[0])
        for at, of in state[1].items():
            nnx.update(args[at], of)

    leaves, shape = jax.tree.flatten(probes)
    by_path, types = leaves_by_path(parameters), _types(model)
    sites = [
        _site(path[:-1], leaf.ndim - 1, leaf.shape[:-1], types, by_path)
        for path, leaf in leaves_by_path(probes).items()
    ]
    return Parts(parameters, leaves, tuple(sites), by_path, call, finish, lambda gradients: gradients)


def _types(model: Any) -> dict[Path, str]:
    return {tuple(map(str, keys)): type(layer).__name__ for keys, layer in nnx.iter_modules(model)}


def _site(path: Path, axes: int, stack: tuple[int, ...], types: dict[Path, str], parameters: Any) -> Site:
    return Site(path, types[path], stack, *kernel_and_bias(parameters, path, axes))
