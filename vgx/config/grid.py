"""Axes and cells: which configs a sweep consists of, each as what it changes in the base. Plain values, no configs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

Overlay = dict[str, Any]
"""Values by dotted path: {"model.activation": "relu", "train.optimizer.learning_rate": 0.1}."""

SECTIONS = ("model", "train", "log")
"""A mapping for one of these changes the keys that it names, and leaves the others."""


def overlays(axes: Mapping[str, Sequence[Any]], cells: Sequence[Mapping[str, Any]]) -> Iterator[Overlay]:
    """Yields what each cell changes: every choice of one value per axis, then the explicit cells."""
    if axes:
        for choice in product(*axes.values()):
            yield flat(dict(zip(axes, choice, strict=True)))
    for cell in cells:
        yield flat(cell)


def count(axes: Mapping[str, Sequence[Any]], cells: Sequence[Any]) -> int:
    """Returns how many cells that makes, duplicates counted."""
    return (prod(len(values) for values in axes.values()) if axes else 0) + len(cells)


def flat(overlay: Mapping[str, Any]) -> Overlay:
    """Returns the overlay with the mappings of whole sections taken apart, so that they change only what they name."""
    paths: Overlay = {}
    for path, value in overlay.items():
        if path in SECTIONS and isinstance(value, Mapping):
            paths |= flat({f"{path}.{key}": inner for key, inner in value.items()})
        else:
            paths[path] = value
    return paths
