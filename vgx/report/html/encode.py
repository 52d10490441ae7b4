"""A page's data: what was gathered as JSON, its numbers as exact float32, so that NaN, infinity and null stay apart."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vgx.report.html.binning import Thinned, is_null
from vgx.report.html.captions import COURSES, captions, choices, groups
from vgx.report.html.chart_rows import (
    ACCURACY_LEAST,
    LEVEL,
    axis_ends,
    colour_ends,
    ends,
    layer_boxes,
    map_of,
    predicted_fields,
    range_of,
    ranges,
    step_boxes,
    together,
)
from vgx.report.html.findings import members
from vgx.report.html.headline import tiles, words_of
from vgx.report.html.page_data import Contents, flag
from vgx.report.html.step_charts import TRACKS
from vgx.report.palette import BROKEN, CATEGORIES, NAMES, NOTHING, VERDICTS, ink_on
from vgx.results.columns import LAYERS, METRICS, Column
from vgx.results.words import plain, power_of_ten

TOLD = 20
"""Lanes whose verdicts are told one by one, at the most."""
DERIVED = {
    "predicted": {"label": "predicted |dloss/dh|", "scale": "log10"},
    "predicted_low": {"label": "predicted, lowest", "scale": "log10"},
    "predicted_high": {"label": "predicted, highest", "scale": "log10"},
    "predicted_preact_std": {"label": "predicted pre-activation std", "scale": "linear"},
    "predicted_act_rms": {"label": "predicted activation rms", "scale": "linear"},
    "act_below": {"label": "mean less one standard deviation", "scale": "linear"},
    "act_above": {"label": "mean and one standard deviation", "scale": "linear"},
}
"""What a page's tables have besides the columns of the layer table."""


def packed(contents: Contents) -> dict[str, Any]:
    """Returns a page's data, as plain values; `numbers` are little-endian float32 in base64, lane after lane.

    A lane's numbers are [statistics, kinds, S, G] and its course [kinds, P, columns]; kinds are the mean, the lowest
    and the highest where bins have more than one thing in them, else the mean alone.
    """
    cubes = [
        part
        for number, cube in zip(contents.axis_of, contents.cubes, strict=True)
        for name in contents.statistics
        if number is not None
        for part in _kinds(cube[name], contents.axes[number].thin)
    ]
    first, last = contents.course_steps
    thin = bool(np.any(first != last))
    return {
        "sweep": contents.is_sweep,
        "named": bool(contents.paths),
        "ranges": {key: axis._asdict() for key, axis in ranges(contents).items()},
        "signs": {word: [sign.letter, sign.colour, ink_on(sign.colour)] for word, sign in VERDICTS.items()},
        "tracks": TRACKS,
        "categories": CATEGORIES[:TRACKS],
        "least": {"accuracy": ACCURACY_LEAST, "level": LEVEL},
        "lanes": [_lane(contents, i) for i in range(len(contents.lanes))],
        "cells": [{"shown": members(contents, some), "menu": seeds_menu(contents, some)} for some in groups(contents)],
        "first": 0,
        "choices": {",".join(map(str, lanes)): _choice(contents, lanes) for lanes in choices(contents)},
        "axes": [
            {"steps": step_boxes(axis), "layers": layer_boxes(axis), "top": axis.layers, "thin": axis.thin}
            for axis in contents.axes
        ],
        "statistics": {name: _look(LAYERS[name]) for name in contents.statistics},
        "columns": {name: _look(column) for name, column in LAYERS.items()} | DERIVED,
        "numbers": _base64(cubes),
        "course": {name: METRICS[name] for name in contents.course},
        "overSteps": list(COURSES),
        "courseSteps": [
            {"step": (int(a) + int(b)) / 2, "steps": range_of(a, b)} for a, b in zip(first, last, strict=True)
        ],
        "courseThin": thin,
        "courseNumbers": _base64(part for course in contents.courses for part in _kinds(course, thin)),
        "told": TOLD,
    }


def seeds_menu(contents: Contents, lanes: Sequence[int]) -> list[tuple[str, str]]:
    """Returns value and text of the choices among lanes that are shown together."""
    shown = members(contents, lanes)
    all_of = [("all", f"median of {len(shown)} seeds")] if len(shown) > 1 else []
    return all_of + [(str(i), f"seed {contents.lanes[i]['seed']}") for i in lanes]


def _look(column: Column) -> dict[str, str]:
    return {"label": column.label, "scale": column.scale}


def _kinds(thinned: Thinned, thin: bool) -> Sequence[np.ndarray]:
    return thinned if thin else (thinned.mean,)


def _base64(parts: Iterable[np.ndarray]) -> str:
    return base64.b64encode(b"".join(part.astype("<f4", copy=False).tobytes() for part in parts)).decode()


def _lane(contents: Contents, i: int) -> dict[str, Any]:
    row = contents.lanes[i]
    lane = {"seed": row["seed"], "verdict": contents.verdict(i), "label": contents.label(i)}
    return lane | {"axis": contents.axis_of[i], "diverged": row.get("diverged_step")}


def _choice(contents: Contents, lanes: Sequence[int]) -> dict[str, Any]:
    """What a page says and draws of some lanes together, besides their numbers."""
    said = {"captions": captions(contents, lanes)}
    said |= {"verdicts": words_of(contents, lanes), "tiles": tiles(contents, lanes)}
    if contents.axis_of[lanes[0]] is None:
        return said
    predicted = predicted_fields(contents, lanes[0])
    return said | {
        "predicted": {name: _rounded(values) for name, values in predicted.items()},
        "ends": {key: _rounded(both) for key, both in axis_ends(contents, lanes).items()},
        "maps": {name: _map(contents, lanes, name) for name in contents.statistics},
    }


def _rounded(values: Iterable[float]) -> list[float | None]:
    return [plain(float(f"{x:.7g}")) for x in values]


def _map(contents: Contents, lanes: Sequence[int], name: str) -> list[Any]:
    """The ends of a map's colours, what it shows in words, and what stands for what is no number."""
    drawn, scale = map_of(contents, lanes, name).mean, LAYERS[name].scale
    drawn = drawn[~is_null(together([contents.cubes[lane][name] for lane in lanes]).mean)]
    low, high = (_in_words(x, scale) for x in ends([drawn]))
    odd = sorted({flag(float(x)) for x in drawn[~np.isfinite(drawn)]})
    words = [f"{NAMES[NOTHING]}: exactly 0." if mark == "0" else f"{NAMES[BROKEN]}: {mark}." for mark in odd]
    return [*_rounded(colour_ends(name, drawn)), f"{drawn.size} cells from {low} to {high}.", " ".join(words)]


def _in_words(value: float, scale: str) -> str:
    if scale in ("log10", "log"):
        return power_of_ten(value)
    return f"{100 * value:.2g} %".replace("1e+02", "100") if scale == "share" else f"{value:.2g}"


def score_of(contents: Contents) -> str:
    """Returns the column of the lane table by which lanes are compared: test accuracy, if anything was tested."""
    for name in ("test_accuracy", "validation_accuracy", "train_accuracy"):
        if any(lane.get(name) is not None for lane in contents.lanes):
            return name
    return "test_accuracy"
