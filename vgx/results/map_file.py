"""A trainability map as its run directory keeps it: `map.json`, its cells and what theory says over the plane.

x, y       path, values of the first grid, log, whole
settings   rounds of refinement asked for along x and y, the accuracy that is drawn, the threshold that was given
round      of those asked for, how many have been planned
chance     the accuracy of guessing
cells      cell (its key in lanes.parquet), x, y, left, right, bottom, top, round; depth over the correlation depth and
           over the gradient depth: 0 where that depth is infinite, null where unknown
theory     the same two ratios on a finer grid, [x, y]
reasons    why one of them is unknown, where it is
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any, NamedTuple

import pyarrow as pa
from typing_extensions import TypedDict

from vgx.errors import Damaged
from vgx.results.map_cells import Accuracies, MapAxis, MapCell
from vgx.results.map_fit import Multiple, Ratios, Segment, contour, fitted_multiple, threshold_of
from vgx.results.reading import read_json
from vgx.results.schemas import ENDED
from vgx.results.store import Run

FILE = "map.json"
SCORES = ("test_accuracy", "validation_accuracy", "train_accuracy")
"""What a map may draw; by default the first that was measured."""
DEPTHS = ("correlation", "gradient")
USUAL = 6.0
"""The multiple of the correlation depth up to which Schoenholz et al. 2017, arXiv:1611.01232, saw nets train."""


class Axis(TypedDict):
    """`x` and `y`."""

    path: str
    values: list[float | int]
    log: bool
    whole: bool


class Settings(TypedDict):
    """`settings`."""

    refine: list[int]
    value: str | None
    threshold: float | None


class Cell(TypedDict):
    """One of `cells`."""

    cell: str
    x: float | int
    y: float | int
    left: float
    right: float
    bottom: float
    top: float
    round: int
    correlation: float | None
    gradient: float | None


class Theory(TypedDict):
    """`theory`."""

    x: list[float | int]
    y: list[float | int]
    correlation: list[list[float | None]]
    gradient: list[list[float | None]]


class MapFile(TypedDict):
    """`map.json`."""

    x: Axis
    y: Axis
    settings: Settings
    round: int
    chance: float
    cells: list[Cell]
    theory: Theory
    reasons: dict[str, str]


class TrainabilityMap(NamedTuple):
    """A map as it stands: what was measured over the plane, and what theory says there."""

    x: MapAxis
    y: MapAxis
    cells: list[MapCell]
    keys: list[str]
    """Of the cells, as `lanes.parquet` has them."""
    accuracies: Accuracies
    """Means over seeds."""
    ratios: dict[str, Ratios]
    """By the name of the depth: correlation, gradient."""
    file: MapFile
    value: str
    """Which accuracy it is."""
    threshold: float
    """From which a net has trained."""

    @property
    def across(self) -> bool:
        """Whether its boundary is looked for along the rows: depth is across, or on neither side."""
        return self.y.path != "model.depth"

    @property
    def multiples(self) -> dict[str, Multiple]:
        """The fitted multiple of each depth of theory's for which there is one."""
        found = {
            name: fitted_multiple(self.cells, self.accuracies, self.ratios[name], self.threshold, self.across)
            for name in DEPTHS
        }
        return {name: one for name, one in found.items() if one is not None}

    @property
    def trained(self) -> int:
        """How many cells have trained."""
        return sum(accuracy is not None and accuracy >= self.threshold for accuracy in self.accuracies.values())

    def contour(self, depth: str, multiple: float) -> list[Segment]:
        """Returns where nets are `multiple` correlation (or gradient) depths deep."""
        theory = self.file["theory"]
        return contour(theory["x"], theory["y"], theory[depth], multiple)


def map_of(run: Run) -> TrainabilityMap | None:
    """Returns the map that a run is; None of another run. Raises Damaged when its file is."""
    if not (run.path / FILE).exists():
        return None
    file = read_json(run.path / FILE, MapFile)
    if not _is_sound(file):
        raise Damaged(run.path / FILE, "is no map", "the same command makes it anew")
    x, y = (MapAxis(axis["path"], tuple(axis["values"]), axis["log"], axis["whole"]) for axis in (file["x"], file["y"]))
    cells = [MapCell(*(each[name] for name in MapCell._fields)) for each in file["cells"]]
    rows = run.lanes().to_pylist()
    value = file["settings"]["value"] or score_of(rows)
    accuracies = accuracies_of(rows, value, {each["cell"]: (each["x"], each["y"]) for each in file["cells"]})
    known = [accuracy for accuracy in accuracies.values() if accuracy is not None]
    threshold = file["settings"]["threshold"]
    return TrainabilityMap(
        x,
        y,
        cells,
        [each["cell"] for each in file["cells"]],
        accuracies,
        {name: {(each["x"], each["y"]): each[name] for each in file["cells"]} for name in DEPTHS},
        file,
        value,
        threshold_of(known, file["chance"]) if threshold is None else threshold,
    )


def _is_sound(file: MapFile) -> bool:
    """Whether a map can be drawn: two values or more on each side, all with a place there, and theory's of one size."""
    sides = (file["x"], ("x", "left", "right")), (file["y"], ("y", "bottom", "top"))
    for axis, names in sides:
        values = [*axis["values"], *(cell[name] for cell in file["cells"] for name in names)]
        least = 0.0 if axis["log"] else -math.inf
        if len(set(axis["values"])) < 2 or axis["values"] != sorted(axis["values"]):
            return False
        if not all(math.isfinite(value) and value > least for value in values):
            return False
    theory = file["theory"]
    return all(
        len(theory[name]) == len(theory["x"]) and all(len(column) == len(theory["y"]) for column in theory[name])
        for name in DEPTHS
    )


def score_of(lanes: list[dict[str, Any]]) -> str:
    """Returns the first of SCORES that any lane has."""
    return next((name for name in SCORES if any(lane.get(name) is not None for lane in lanes)), SCORES[0])


def accuracies_of(lanes: list[dict[str, Any]], value: str, places: dict[str, tuple[float, float]]) -> Accuracies:
    """Returns the mean accuracy over seeds at the place of each cell; None where a lane of it has not ended."""
    found: dict[tuple[float, float], list[float | None]] = {}
    for lane in lanes:
        if lane["cell"] in places:
            ended = lane["status"] in ENDED
            found.setdefault(places[lane["cell"]], []).append(lane.get(value) if ended else None)
    known = {place: [one for one in values if one is not None] for place, values in found.items()}
    return {
        place: fmean(known[place]) if known[place] and len(known[place]) == len(values) else None
        for place, values in found.items()
    }


def map_json(found: TrainabilityMap) -> dict[str, Any]:
    """Returns what `vgx map --json` prints of a map: its cells with their accuracies, and the fitted multiples."""
    multiples = {
        name: {"multiple": one.value, "low": _finite(one.low), "high": _finite(one.high), "lines": one.lines}
        for name, one in found.multiples.items()
    }
    return {
        "x": found.x.path,
        "y": found.y.path,
        "value": found.value,
        "threshold": found.threshold,
        "chance": found.file["chance"],
        "multiples": multiples,
        "reasons": found.file["reasons"],
        "cells": cell_rows(found),
    }


def cell_rows(found: TrainabilityMap) -> list[dict[str, Any]]:
    """Returns a row for each cell of a map: what it is, its accuracy, whether it trained, and its depth in theory's."""
    rows = []
    for key, cell in zip(found.keys, found.cells, strict=True):
        accuracy = found.accuracies.get(cell[:2])
        rows.append(
            {"cell": key, found.x.path: cell.x, found.y.path: cell.y, "round": cell.round, found.value: accuracy}
            | {"trained": None if accuracy is None else accuracy >= found.threshold}
            | {f"depth_over_{name}_depth": found.ratios[name][cell[:2]] for name in DEPTHS}
        )
    return rows


def cell_table(found: TrainabilityMap) -> pa.Table:
    """Returns the same as a table."""
    kinds = {"cell": pa.string(), "round": pa.int32(), "trained": pa.bool_()}
    kinds |= {axis.path: pa.int64() if axis.whole else pa.float64() for axis in (found.x, found.y)}
    rows = cell_rows(found)
    return pa.Table.from_pylist(rows, pa.schema([(name, kinds.get(name, pa.float64())) for name in rows[0]]))


def _finite(value: float) -> float | None:
    return value if 0 < value < float("inf") else None
