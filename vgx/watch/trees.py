"""Models that are pytrees: Equinox's, whose layers a copy taps, and parameters in plain containers with probes of their
own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from vgx.errors import WatchError
from vgx.watch.activations import Activations, Following
from vgx.watch.parts import Parts
from vgx.watch.sites import Path, Site, kernel_and_bias, names_of, units_of
from vgx.watch.taps import PROBE, Probe, probe, tapped_class

PLAIN = "probe"
"""The usual name of a probe beside the weights it belongs to."""


def split(model: Any, loss_fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Parts:
    """Returns a watched model's parts: its floating-point arrays, which the gradient is taken of, and its probes."""
    nodes = jax.tree_util.tree_flatten_with_path(model, is_leaf=lambda node: isinstance(node, Probe))[0]
    shape = jax.tree.structure(model)
    # A probe is a node of one leaf, so that both lists count alike.
    leaves = [node.sums if isinstance(node, Probe) else node for _, node in nodes]
    paths = [names_of(keys) for keys, _ in nodes]
    probes = [at for at, (_, node) in enumerate(nodes) if isinstance(node, Probe)]
    moved = [at for at, leaf in enumerate(leaves) if _has_gradient(leaf) and at not in set(probes)]

    def whole(parameters: list[Any], sums: list[Any], other: list[Any]) -> Any:
        filled = list(other)
        for at, leaf in [*zip(moved, parameters, strict=True), *zip(probes, sums, strict=True)]:
            filled[at] = leaf
        return jax.tree.unflatten(shape, filled)

    def call(parameters: list[Any], sums: list[Any]) -> tuple[Any, Any]:
        return loss_fn(whole(parameters, sums, leaves), *args, **kwargs), ()

    def gradients(of_parameters: list[Any]) -> Any:
        return whole(of_parameters, [jnp.zeros_like(leaves[at]) for at in probes], [None] * len(leaves))

    by_path = {paths[at]: leaves[at] for at in moved}
    sites = tuple(_site(paths[at], leaves[at], nodes[at][1], model, by_path, paths) for at in probes)
    return Parts([leaves[at] for at in moved], [leaves[at] for at in probes], sites, by_path, call, _nothing, gradients)


def _site(path: Path, sums: Any, _: Any, model: Any, parameters: dict[Path, Any], paths: list[Path]) -> Site:
    parent, stack = path[:-1], sums.shape[:-1]
    own = path[-1:] in ((PROBE,), (PLAIN,))
    kernel, bias = kernel_and_bias(parameters, parent, len(stack)) if own else (None, None)
    kind = type(_at(model, parent)).__name__ if path[-1:] == (PROBE,) else "tap"
    return Site(parent if own else path, kind, stack, kernel, bias)


def _at(model: Any, path: Path) -> Any:
    for name in path:
        if isinstance(model, Mapping):
            model = next(value for key, value in model.items() if str(key) == name)
        else:
            model = model[int(name)] if isinstance(model, (list, tuple)) and name.isdigit() else getattr(model, name)
    return model


def _has_gradient(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _nothing(state: Any) -> None:
    """A pytree's state is what the loss function returns."""


def instrument_mappings(tree: Any, only: Callable[[str, Any], bool] | None) -> Any:
    """Returns a copy of parameters in plain containers, with a probe in each dictionary that has weights in it."""

    def own(mapping: dict[Any, Any]) -> dict[Path, Any]:
        return {(str(name),): leaf for name, leaf in mapping.items() if _has_gradient(leaf)}

    def has_weights(node: Any) -> bool:
        return isinstance(node, dict) and kernel_and_bias(own(node), (), 0)[0] is not None

    def replaced(keys: Any, node: Any) -> Any:
        if not has_weights(node):
            return node
        path = ".".join(names_of(keys))
        filled = {name: with_probes(inner, (*keys, jax.tree_util.DictKey(name))) for name, inner in node.items()}
        if PLAIN in node or (only and not only(path, node)):
            return filled
        of = own(node)
        kernel, bias = kernel_and_bias(of, (), 0)
        assert kernel is not None
        if bias is None and of[kernel].ndim > 2:
            raise WatchError(
                f"instrument: {path or 'model'}: {kernel[0]}{list(of[kernel].shape)} without a bias may be a layer "
                f'or a stack; give it "{PLAIN}": watch.probe() or watch.probe({of[kernel].shape[0]})'
            )
        stack = of[bias].shape[:-1] if bias else ()
        units = units_of(of, (), len(stack), (-1,))
        return filled | {PLAIN: probe(*stack, units=units, dtype=jnp.promote_types(of[kernel].dtype, jnp.float32))}

    def with_probes(node: Any, keys: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda more, inner: replaced(keys + more, inner), node, is_leaf=has_weights
        )

    return with_probes(tree, ())


def strip_mappings(tree: Any) -> Any:
    """Returns parameters in plain containers without the probes in their dictionaries."""
    if isinstance(tree, dict):
        return {name: strip_mappings(node) for name, node in tree.items() if not isinstance(node, Probe)}
    return jax.tree.map(
        lambda node: strip_mappings(node) if isinstance(node, dict) else node,
        tree,
        is_leaf=lambda node: isinstance(node, dict),
    )


def is_equinox(model: Any) -> bool:
    """Whether a model is one of Equinox's modules; without importing Equinox where nobody has."""
    return any(kind.__module__.split(".")[0] == "equinox" for kind in type(model).__mro__)


def instrument(
    model: Any, only: Callable[[str, Any], bool] | None, also: Mapping[type, int], activations: Activations
) -> Any:
    """Returns a copy of an Equinox model whose layers are watched; see `watch.instrument`."""
    import equinox as eqx

    def axes_of(layer: Any) -> int | None:
        for kind, axes in also.items():
            if isinstance(layer, kind):
                return axes
        if isinstance(layer, (eqx.nn.Conv, eqx.nn.ConvTranspose)):
            return layer.num_spatial_dims + 2
        return 2 if isinstance(layer, (eqx.nn.Linear, eqx.nn.Embedding)) else None

    def replaced(keys: Any, layer: Any) -> Any:
        axes = axes_of(layer)
        if axes is None or hasattr(layer, PROBE) or (only and not only(".".join(names_of(keys)), layer)):
            return layer
        fields: dict[Path, Any] = {(field.name,): getattr(layer, field.name) for field in dataclasses.fields(layer)}
        own = {path: leaf for path, leaf in fields.items() if _has_gradient(leaf)}
        kernel, _ = kernel_and_bias(own, (), axes - 2)
        shape = own[kernel].shape if kernel else ()
        dtype = jnp.promote_types(own[kernel].dtype, jnp.float32) if kernel else None
        stack = shape[: len(shape) - axes] if axes else ()
        follows = None if isinstance(layer, eqx.nn.Embedding) else activations.of(".".join(names_of(keys)))
        of_units = (0,)  # the channels of a convolution, the only axis of a linear map
        units = units_of(own, (), len(stack), of_units) if follows else 0
        made = _tapped(type(layer), follows, of_units)
        return _with_class(layer, made, {PROBE: probe(*stack, units=units, dtype=dtype)})

    return jax.tree_util.tree_map_with_path(replaced, model, is_leaf=lambda layer: axes_of(layer) is not None)


def strip(model: Any) -> Any:
    """Returns a watched Equinox model as it was before `instrument`."""
    return jax.tree.map(
        lambda layer: _with_class(layer, type(layer).__bases__[0], {}) if hasattr(layer, PROBE) else layer,
        model,
        is_leaf=lambda layer: hasattr(layer, PROBE),
    )


def _with_class(layer: Any, kind: type, more: dict[str, Any]) -> Any:
    """Returns a layer as one of another class, whose fields are the same but for `more`."""
    made = object.__new__(kind)
    for field in dataclasses.fields(kind):
        if field.name in more or hasattr(layer, field.name):
            object.__setattr__(made, field.name, more.get(field.name, getattr(layer, field.name, None)))
    return made


@cache
def _tapped(kind: type, follows: Following | None, axes: tuple[int, ...]) -> type:
    """The subclass that taps. One for each kind and activation: jax compares types."""
    return tapped_class(kind, follows, axes, __annotations__={PROBE: Any}, **{PROBE: None})
