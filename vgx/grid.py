"""Axes and cells: which configs a sweep consists of, each as what it changes in the base. Plain values, no configs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import yaml

from vgx.errors import did_you_mean

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


def inline(value: Any) -> str:
    """Returns a value on one line, as `--axis` and `--set` take it: {name: leaky_relu, negative_slope: 0.2}."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=2**20, sort_keys=False).removesuffix("...\n").strip()


def option_called(word: str, options: Iterable[str], kind: str = "option") -> str:
    """Returns the option that `word` is the path of, or the end of the path of: activation for model.activation.

    Raises ValueError, with the reason, when it is so of none, or of several.
    """
    known = list(options)
    fits = [word] if word in known else [option for option in known if option.endswith(f".{word}")]
    if len(fits) > 1:
        raise ValueError(f"'{word}' may be {', '.join(fits[:-1])} or {fits[-1]}; say which")
    if not fits:
        near = did_you_mean(word, list(dict.fromkeys([*known, *(option.rpartition(".")[2] for option in known)])))
        some = f"; there are: {textwrap.shorten(', '.join(known), 300, placeholder=' ...') or 'none'}"
        raise ValueError(f"no {kind} is called '{word[:60]}'{near or some}")
    return fits[0]


def column(values: Sequence[Any]) -> list[Any]:
    """Returns an option's values over many lanes as a table's column: numbers if all of them are, else text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {int}:
        return list(values)
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else inline(value) for value in values]
