"""What a loop hands over at a step, looked at and brought into the columns of a run's tables; no jax.

A number may come as Python's, NumPy's, jax's or torch's: whatever has one entry and `item()`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vgx.errors import RunError, did_you_mean
from vgx.results.columns import LAYERS, METRICS, SMALL_BATCH
from vgx.results.layer_names import NamedLayer
from vgx.results.nonfinite import BACKWARD, FORWARD, place_of

FLAGS = ("forward_finite", "gradient_finite")
"""What a row may say besides the columns: whether all that the layer computed, and its gradients, are finite."""
FIRST_FEW = 5
"""Paths that a line of refusal lists."""


class Watched(Protocol):
    """A layer of a record."""

    @property
    def path(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class Record(Protocol):
    """What `watch.value_and_grad` returns of a step."""

    @property
    def layers(self) -> Sequence[Watched]: ...
    @property
    def examples(self) -> int: ...
    def rows(self) -> Mapping[str, Mapping[str, Any]]: ...
    def update_ratio(self, updates: Any) -> Mapping[str, float]: ...


def is_record(given: Any) -> bool:
    """Whether this is a record of `watch.value_and_grad`, and no plain mapping."""
    return not isinstance(given, Mapping) and hasattr(given, "rows") and hasattr(given, "layers")


def layers_of(given: Record | Mapping[str, Any]) -> list[NamedLayer]:
    """Returns the layers of a record; of a mapping the paths, whose types and shapes nobody said."""
    if isinstance(given, Mapping):
        return [NamedLayer(path, None, None) for path in given]
    return [NamedLayer(one.path, one.type, tuple(one.shape)) for one in given.layers]


def rows_of(record: Record) -> dict[str, dict[str, Any]]:
    """Returns the rows of a record, without the share of dead units where its batch is too small to tell."""
    small = record.examples < SMALL_BATCH
    return {
        path: {name: value for name, value in row.items() if not (small and name == "dead")}
        for path, row in record.rows().items()
    }


def checked(given: Mapping[Any, Any], where: str) -> dict[str, dict[str, float]]:
    """Returns the rows of a mapping of path to columns as plain numbers; what is None is left out.

    Raises RunError, with `where` before it, for a path that is none, an unknown column and what is no number.
    """
    rows: dict[str, dict[str, float]] = {}
    for path, columns in given.items():
        if not isinstance(path, str) or not path.strip() or not path.isprintable():
            raise RunError(f"{where}: {path!r:.60} is no path of a layer; expected a text such as 'encoder.0'")
        if not isinstance(columns, Mapping):
            raise RunError(f"{where}: {path}: expected columns and their numbers, found {type(columns).__name__}")
        rows[path] = {}
        for name, value in columns.items():
            if name not in LAYERS and name not in FLAGS:
                near = did_you_mean(str(name), [*LAYERS, *FLAGS]) or f"; there are: {', '.join((*LAYERS, *FLAGS))}"
                raise RunError(f"{where}: {path}: no column is called '{name}'{near}")
            if value is not None:
                rows[path][name] = number(value, f"{where}: {path}: {name}")
    return rows


def known_scalars(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns what was given of the metrics table's columns. Raises RunError for a name that is none of them."""
    for name in given:
        if name not in METRICS:
            near = did_you_mean(name, ["loss", *METRICS]) or f"; there are: {', '.join(METRICS)}"
            raise RunError(f"{where}: no metric is called '{name}'{near}")
    return {name: value for name, value in given.items() if value is not None}


def number(value: Any, where: str) -> float:
    """Returns a number as Python's. Raises RunError, with `where` before it, when it is none, or several."""
    shape = tuple(getattr(value, "shape", ()))
    if math.prod(shape) != 1:
        raise RunError(f"{where}: expected one number, found an array of {' x '.join(map(str, shape))}")
    plain = value.item() if hasattr(value, "item") else value
    if not isinstance(plain, int | float):
        raise RunError(f"{where}: expected a number, found {plain!r:.60}")
    return float(plain)


def known_step(value: Any, last: int | None, where: str) -> int:
    """Returns the number of a step. Raises RunError when it is none, or lies before the last one."""
    step = number(value, f"{where}: step")
    if step != int(step if math.isfinite(step) else -1) or not 0 <= step < 2**31:
        raise RunError(f"{where}: step {value!r:.60}: expected a whole number, 0 or more")
    if last is not None and step < last:
        raise RunError(
            f"{where}: step {int(step):,} after step {last:,}; steps only go up (resume=True goes back once)"
        )
    return int(step)


def same_layers(rows: Mapping[str, Any], layers: Sequence[NamedLayer], where: str) -> None:
    """Raises RunError for a path that was not there when layers were first written."""
    known = {layer.path for layer in layers}
    if new := [path for path in rows if path not in known]:
        some = ", ".join(new[:FIRST_FEW]) + (", ..." if len(new) > FIRST_FEW else "")
        raise RunError(
            f"{where}: {some}: not among the {len(known):,} layers of the first record, which name them all; "
            "give those that are measured later there too, as {}" + did_you_mean(new[0], sorted(known))
        )


def place_in(rows: Mapping[str, Mapping[str, float]], layers: Sequence[NamedLayer]) -> tuple[str, int] | None:
    """Returns where a step's first NaN or infinity is: by the flags of its rows, else by their columns."""

    def finite(row: Mapping[str, float], flag: str, columns: Sequence[str]) -> bool:
        if flag in row:
            return bool(row[flag])
        # Minus infinity is the logarithm of an honest 0, and no size is that.
        return all(row[name] < math.inf for name in columns if name in row)

    found = [rows.get(layer.path, {}) for layer in layers]
    forward = np.array([finite(row, FLAGS[0], FORWARD) for row in found], bool)
    return place_of(forward, np.array([finite(row, FLAGS[1], BACKWARD) for row in found], bool))


def plain(value: Any) -> Any:
    """Returns a value of a config as YAML can hold it: mappings, lists, numbers and texts; what is none, as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value if type(value) in (type(None), bool, int, float, str) else _base(value)
    if math.prod(getattr(value, "shape", ())) == 1 and (item := getattr(value, "item", None)):
        return plain(item())
    return str(value)


def _base(value: Any) -> Any:
    """A subclass of a plain type, such as an enumeration's member or NumPy's float64, as the type itself."""
    return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
