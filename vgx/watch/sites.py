"""Where a model is watched: each tapped layer's place in the tree of parameters, and the rows that it gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import jax
from jax import Array

from vgx.watch.record import Row, Watched

Path = tuple[str, ...]


class Site(NamedTuple):
    """A tapped layer, or a stack of them."""

    path: Path
    type: str
    stack: tuple[int, ...]
    """The leading axes that the layer's parameters have because there are several; empty for one."""
    kernel: Path | None
    """Where the weights stand among the parameters."""
    bias: Path | None


def names_of(keys: Sequence[Any]) -> Path:
    """Returns a path of jax's, or of Flax's, as words; without the `value` that Flax's variables end in."""
    words = []
    for key in keys:
        match key:
            case jax.tree_util.DictKey() | jax.tree_util.FlattenedIndexKey():
                words.append(str(key.key))
            case jax.tree_util.SequenceKey():
                words.append(str(key.idx))
            case jax.tree_util.GetAttrKey():
                words.append(key.name)
            case _:
                words.append(str(key))
    return tuple(words)


def leaves_by_path(tree: Any) -> dict[Path, Array]:
    """Returns the arrays of a tree of parameters, gradients or updates by path, whatever library made it."""
    found = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = names_of(keys)
        # Flax's variables are nodes whose one leaf is called `value`.
        ends = path and isinstance(keys[-1], jax.tree_util.GetAttrKey) and path[-1] in ("value", "raw_value")
        found[path[:-1] if ends and len(keys) > 1 else path] = leaf
    return found


def kernel_and_bias(parameters: dict[Path, Array], of: Path, stack: int) -> tuple[Path | None, Path | None]:
    """Returns which of the parameters right under a path are its weights, the one with the most axes, and its bias.

    None where there is nothing of two axes or more, besides those of the stack.
    """
    own = {path: leaf for path, leaf in parameters.items() if path[:-1] == of}
    kernel = max(own, key=lambda path: own[path].ndim, default=None)
    if kernel is None or own[kernel].ndim - stack < 2:
        return None, None
    biases = [path for path in own if path != kernel and path[-1] in ("bias", "b")]
    return kernel, biases[0] if len(biases) == 1 else None


def units_of(parameters: dict[Path, Array], of: Path, stack: int, axes: tuple[int, ...]) -> int:
    """Returns how many units the layer at a path has: the size of its bias or scale, else of its weights, along `axes`.

    0 where there is none of these.
    """
    own = {path[-1]: leaf for path, leaf in parameters.items() if path[:-1] == of}
    most = max(own.values(), key=lambda leaf: leaf.ndim, default=None)
    leaf = next((own[name] for name in ("bias", "b", "scale") if name in own), most)
    if leaf is None or leaf.ndim - stack < max(axis + 1 if axis >= 0 else -axis for axis in axes):
        return 0
    return math.prod(leaf.shape[stack:][axis] for axis in axes)


def rows_of(sites: Sequence[Site], first: dict[int, tuple[int, tuple[int, ...]]], shapes: dict[Path, Any]):
    """Returns the rows of a record and, for each, the number of its site and its index in the stack.

    A stack's layers come one after the other, each with all of its parts, as the forward pass goes through them.

    Args:
        sites: the tapped layers.
        first: by number of the site, when it was first met in the forward pass, and the shape that went through; a
            layer that the function did not call is missing, and has no rows.
        shapes: the parameters by path.
    """
    roots = {number: _roots(number, sites) for number in first}
    began: dict[tuple[Path, ...], int] = {}
    for number, (when, _) in first.items():
        for depth in range(len(roots[number])):
            key = roots[number][: depth + 1]
            began[key] = min(began.get(key, when), when)
    found = []
    for number, (when, tapped) in first.items():
        site = sites[number]
        for index in product(*map(range, site.stack)):
            order: tuple[int, ...] = ()
            for depth, at in enumerate(index):
                order += (began[roots[number][: depth + 1]], at)
            shape = shapes[site.kernel].shape[len(site.stack) :] if site.kernel else tapped
            watched = Watched(_numbered(site.path, roots[number], index), site.type, tuple(shape))
            found.append((*order, when, Row(watched, number, index)))
    return tuple(entry[-1] for entry in sorted(found, key=lambda entry: entry[:-1]))


def _roots(number: int, sites: Sequence[Site]) -> tuple[Path, ...]:
    """Returns, for each axis of a site's stack, what was stacked: the largest part of the model all of which was."""
    path, depths = sites[number].path, range(1, len(sites[number].stack) + 1)
    return tuple(_root(path, depth, sites) for depth in depths)


def _root(path: Path, depth: int, sites: Sequence[Site]) -> Path:
    for length in range(len(path) + 1):
        part = path[:length]
        inside = [site for site in sites if site.path[:length] == part]
        if all(len(site.stack) >= depth for site in inside):
            # A model of one part alone: that part was stacked, not the model.
            alone = len({site.path[: length + 1] for site in inside}) == 1 and length < len(path)
            return path[: length + 1] if alone and not length else part
    return path


def _numbered(path: Path, roots: tuple[Path, ...], index: tuple[int, ...]) -> str:
    """Returns a path with the index of each stack put behind what was stacked: `blocks.3.mlp.up`."""
    words: list[str] = []
    for length in range(len(path) + 1):
        words += [path[length - 1]] if length else []
        words += [str(at) for root, at in zip(roots, index, strict=True) if len(root) == length]
    return ".".join(words) or "model"
