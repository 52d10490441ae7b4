"""A page's data: what was gathered as JSON, its numbers as exact float32, so that NaN, infinity and null stay apart."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vgx.report.html.binning import Thinned
from vgx.report.html.captions import every_caption, groups
from vgx.report.html.findings import members
from vgx.report.html.page_data import Contents, Forecast, grouped
from vgx.report.palette import BROKEN, NAMES, NOTHING
from vgx.results.agreement import FAR
from vgx.results.columns import LAYERS, METRICS, Column
from vgx.results.words import plain

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
        "lanes": [_lane(contents, i) for i in range(len(contents.lanes))],
        "cells": [{"shown": members(contents, some), "menu": seeds_menu(contents, some)} for some in groups(contents)],
        "first": 0,
        "captions": every_caption(contents),
        "axes": [
            {
                **dict(zip(("first", "last"), map(np.ndarray.tolist, axis.step_edges), strict=True)),
                **dict(zip(("lowest", "highest"), map(np.ndarray.tolist, axis.layer_edges), strict=True)),
                "top": axis.layers,
                "thin": axis.thin,
            }
            for axis in contents.axes
        ],
        "statistics": {name: _look(LAYERS[name]) for name in contents.statistics},
        "columns": {name: _look(column) for name, column in LAYERS.items()} | DERIVED,
        "numbers": _base64(cubes),
        "course": {name: METRICS[name] for name in contents.course},
        "courseSteps": {"first": first.tolist(), "last": last.tolist(), "thin": thin},
        "courseNumbers": _base64(part for course in contents.courses for part in _kinds(course, thin)),
        "told": TOLD,
        "odd": {"0": f"{NAMES[NOTHING]}: exactly 0.", **{mark: f"{NAMES[BROKEN]}: {mark}." for mark in ("NaN", "∞")}},
        "far": FAR,
    }


def seeds_menu(contents: Contents, lanes: Sequence[int]) -> list[tuple[str, str]]:
    """Returns value and text of the choices among lanes that are shown together."""
    shown = members(contents, lanes)
    together = [("all", f"median and range of {len(shown)} seeds")] if len(shown) > 1 else []
    return together + [(str(i), f"seed {contents.lanes[i]['seed']}") for i in lanes]


def _look(column: Column) -> dict[str, str]:
    return {"label": column.label, "scale": column.scale}


def _kinds(thinned: Thinned, thin: bool) -> Sequence[np.ndarray]:
    return thinned if thin else (thinned.mean,)


def _base64(parts: Iterable[np.ndarray]) -> str:
    return base64.b64encode(b"".join(part.astype("<f4", copy=False).tobytes() for part in parts)).decode()


def _lane(contents: Contents, i: int) -> dict[str, Any]:
    number, predicted = contents.axis_of[i], {}
    if number is not None:
        predicted = {name: _forecast(each, contents, number) for name, each in contents.forecasts[i].items()}
    return {
        "seed": contents.lanes[i]["seed"],
        "verdict": contents.verdict(i),
        "label": contents.label(i),
        "axis": number,
        "predicted": predicted,
    }


def _forecast(forecast: Forecast, contents: Contents, number: int) -> dict[str, list[float | None]]:
    axis = contents.axes[number]
    if len(forecast.predicted) != axis.layers:
        return {}
    both = (grouped(forecast.predicted, axis), grouped(forecast.band, axis))
    return {
        name: [plain(float(f"{x:.6g}")) for x in values] for name, values in zip(("value", "band"), both, strict=True)
    }


def score_of(contents: Contents) -> str:
    """Returns the column of the lane table by which lanes are compared: test accuracy, if anything was tested."""
    for name in ("test_accuracy", "validation_accuracy", "train_accuracy"):
        if any(lane.get(name) is not None for lane in contents.lanes):
            return name
    return "test_accuracy"
