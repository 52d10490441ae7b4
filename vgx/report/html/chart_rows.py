"""The rows that figures draw, of a lane or of several seeds: and the ends of their axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vgx.report.html.binning import Thinned, is_null
from vgx.report.html.page_data import Axis, Contents, flag, grouped
from vgx.results.columns import LAYERS, METRICS
from vgx.results.intervals import normal_quantile
from vgx.results.prediction import GRADIENTS

Rows = list[dict[str, Any]]
OUTSIDE = "in no block"
"""What layers of a watched run are that are in no chain."""
SUFFIXES = ("", "_low", "_high")
"""Of the fields of a statistic: its mean or median, the lowest and the highest."""


ACCURACY_LEAST = 0.1
"""How long an axis of accuracies is at the least."""
LEVEL = 0.25
"""And one of losses, as a share of the largest of them: noise on a level curve is not to look like a fall."""


class Axes(NamedTuple):
    """What the axis of a figure over the layers holds."""

    fields: tuple[str, ...]
    least: float
    """How long it is at the least: noise on a level curve is not to look like a cliff."""
    readout: bool = True
    """Whether the readout is drawn."""
    zero: bool = False
    """Whether it begins at 0."""


AXES = {
    "gradient": Axes(("delta_log10_low", "delta_log10_high", "predicted", "predicted_low", "predicted_high"), 2.0),
    "weights": Axes(("weight_grad_log10_low", "weight_grad_log10_high"), 2.0),
    "activations": Axes(("act_below", "act_above"), 0.0, readout=False),
    "sizes": Axes(("preact_std", "act_rms", "predicted_preact_std", "predicted_act_rms"), 0.0, False, zero=True),
    "shares": Axes(("dead", "saturated", "weight_grad_zero"), 0.1, False, zero=True),
    "updates": Axes(("update_ratio_low", "update_ratio_high"), 2.0),
}
"""By the names of the figures; the page's script finds the ends at the step that it shows by the same table."""


def together(cubes: Sequence[Thinned]) -> Thinned:
    """Returns several lanes as one: their median, and the lowest and highest of any; NaN where no lane has a number."""
    if len(cubes) == 1:
        return cubes[0]
    with np.errstate(all="ignore"):
        means = np.stack([cube.mean for cube in cubes])
        ordered = np.sort(means, axis=0)  # NaN last
        count = (~np.isnan(means)).sum(0)
        at = np.maximum(count - 1, 0)
        lower, upper = (np.take_along_axis(ordered, (index // 2)[None], 0)[0] for index in (at, at + 1))
        median = np.where(count == 0, np.nan, np.where(lower == upper, lower, (lower + upper) / 2))
        low, high = np.fmin.reduce([cube.low for cube in cubes]), np.fmax.reduce([cube.high for cube in cubes])
        return Thinned(*(x.astype(np.float32) for x in (median, low, high)))


def _scaled(name: str, x: np.ndarray) -> np.ndarray:
    if LAYERS[name].scale != "log":
        return x
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(x)


def layer_rows(contents: Contents, lanes: Sequence[int], step: int, names: Sequence[str] | None = None) -> Rows:
    """Returns a row for each bin of layers, at a bin of steps, for the lanes (of one depth) taken together.

    Args:
        contents: of the run.
        lanes: their positions.
        step: of the bins, from 0.
        names: of the statistics that are wanted; every one by default.
    """
    number = contents.axis_of[lanes[0]]
    assert number is not None
    axis = contents.axes[number]
    rows = layer_boxes(axis)
    for name in contents.statistics if names is None else names:
        cubes = [Thinned(*(kind[step] for kind in contents.cubes[lane][name])) for lane in lanes]
        for suffix, kind in zip(SUFFIXES, together(cubes), strict=True):
            for row, value, shown in zip(rows, kind, _scaled(name, kind), strict=True):
                row[name + suffix] = _drawn(shown)
                if not suffix:
                    row[f"{name}_flag"] = "" if is_null(value) else flag(float(shown))
    for row in rows:
        _derive(row)
    for name, values in predicted_fields(contents, lanes[0]).items():
        for row, value in zip(rows, values, strict=True):
            row[name] = _drawn(value)
    return rows


def step_boxes(axis: Axis) -> Rows:
    """Returns where each bin of steps stands on a map, and what it is called."""
    first, last = axis.step_edges
    ends = np.append(first[1:], last[-1] + (first[1] - first[0] if len(first) > 1 else 1))
    return [
        {
            "x": int(a),
            "x2": int(end),
            "steps": range_of(a, b),
            "when": f"{'step' if a == b else 'steps'} {range_of(a, b)}",
        }
        for a, b, end in zip(first, last, ends, strict=True)
    ]


def layer_boxes(axis: Axis) -> Rows:
    """Returns where each bin of layers stands on a map and on an axis of layers, and what it is called."""
    return [
        {
            "layer": (int(a) + int(b)) / 2,
            **_called(axis, int(a), int(b)),
            "y": int(a) - 0.5,
            "y2": int(b) + 0.5,
        }
        for a, b in zip(*axis.layer_edges, strict=True)
    ]


def _called(axis: Axis, first: int, last: int) -> dict[str, Any]:
    """What a bin of layers is called: in a column of layers, and by itself; and whether it is the readout."""
    if axis.names:
        name = " – ".join(dict.fromkeys((axis.names[first - 1], axis.names[last - 1])))
        # A line joins the layers of one chain, where there are chains and each layer is drawn.
        chained = any(axis.roles) and not axis.by_layer.thin
        role = axis.roles[first - 1] if chained else ""
        chain = (role or name) if chained else ""
        return {"layers": name, "place": name, "readout": False, "role": role or OUTSIDE, "chain": chain}
    if first == last == axis.layers:
        return {"layers": "readout", "place": "readout", "readout": True}
    return {"layers": range_of(first, last), "place": f"layer {range_of(first, last)}", "readout": False}


def ranges(contents: Contents) -> dict[str, Axes]:
    """Returns what the axes of the figures hold; the last of named layers is drawn as all others are."""
    return {key: axis._replace(readout=axis.readout or bool(contents.paths)) for key, axis in AXES.items()}


def range_of(first: int, last: int) -> str:
    """Returns steps or layers in words: `7`, `8–12`, `1,000`."""
    return f"{first:,}" if first == last else f"{first:,}–{last:,}"


def _drawn(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _derive(row: dict[str, Any]) -> None:
    mean, rms, zero = (row.get(name) for name in ("act_mean", "act_rms", "weight_grad_zero"))
    if mean is not None and rms is not None:
        spread = math.sqrt(max(rms * rms - mean * mean, 0.0))
        row |= {"act_below": mean - spread, "act_above": mean + spread}
    if zero is not None:
        row["seen"] = "only zeros" if zero == 1 else "some zeros" if zero > 0 else "no zeros"


def predicted_fields(contents: Contents, lane: int) -> dict[str, np.ndarray]:
    """Returns what was predicted of a lane in each bin of layers, by the name that rows have it under."""
    number, cube = contents.axis_of[lane], contents.cubes[lane]
    assert number is not None
    made: dict[str, np.ndarray] = {}
    for name, forecast in contents.forecasts[lane].items():
        if len(forecast.predicted) != contents.axes[number].layers:
            continue
        value, band = (grouped(each, contents.axes[number]) for each in (forecast.predicted, forecast.band))
        if name in GRADIENTS:
            # The prediction is relative to the readout's gradient: it hangs on the one that was measured first.
            value = value + float(cube["delta_log10"].mean[0, -1])
        if name == "delta_log10":
            reach = normal_quantile() * band
            made |= {"predicted": value, "predicted_low": value - reach, "predicted_high": value + reach}
        else:
            made[f"predicted_{name}"] = value
    return made


def axis_ends(contents: Contents, lanes: Sequence[int], steps: slice = slice(None)) -> dict[str, tuple[float, float]]:
    """Returns the ends of the axis of each figure over the layers, for all that it draws at these bins of steps."""
    made: dict[str, np.ndarray] = predicted_fields(contents, lanes[0])
    for name in contents.statistics:
        cube = together([Thinned(*(kind[steps] for kind in contents.cubes[lane][name])) for lane in lanes])
        made |= {name + suffix: _scaled(name, kind) for suffix, kind in zip(SUFFIXES, cube, strict=True)}
    if "act_mean" in made and "act_rms" in made:
        mean, rms = (made[name].astype(np.float64) for name in ("act_mean", "act_rms"))
        with np.errstate(invalid="ignore"):
            spread = np.sqrt(np.maximum(rms * rms - mean * mean, 0.0))
            made |= {"act_below": mean - spread, "act_above": mean + spread}
    found = {}
    for key, axis in ranges(contents).items():
        drawn = slice(None, None if axis.readout else -1)
        zero = [np.zeros(1)] if axis.zero else []
        low, high = ends([made[field][..., drawn] for field in axis.fields if field in made] + zero, axis.least)
        found[key] = (0.0, high - low) if axis.zero else (low, high)
    return found


def colour_ends(name: str, mean: np.ndarray) -> tuple[float, float]:
    """Returns the ends of the colours of a statistic on its map, given all that is drawn of it."""
    if LAYERS[name].scale == "share":
        return 0.0, 1.0
    low, high = ends([mean])
    return (-max(-low, high), max(-low, high)) if LAYERS[name].scale == "signed" else (low, high)


def map_of(contents: Contents, lanes: Sequence[int], name: str) -> Thinned:
    """Returns what a map of a statistic draws of lanes taken together: [S, G] each, by its scale."""
    return Thinned(*(_scaled(name, kind) for kind in together([contents.cubes[lane][name] for lane in lanes])))


def cell_rows(contents: Contents, lanes: Sequence[int], name: str) -> Rows:
    """Returns a row for each bin of steps and of layers of a statistic: a rectangle and its value."""
    number = contents.axis_of[lanes[0]]
    assert number is not None
    axis = contents.axes[number]
    mean, low, high = map_of(contents, lanes, name)
    null = is_null(together([contents.cubes[lane][name] for lane in lanes]).mean)
    return [
        when
        | where
        | {
            "value": _drawn(mean[s, g]),
            "low": _drawn(low[s, g]),
            "high": _drawn(high[s, g]),
            "flag": flag(float(mean[s, g])),
        }
        for s, when in enumerate(step_boxes(axis))
        for g, where in enumerate(layer_boxes(axis))
        if not null[s, g]
    ]


def course_rows(contents: Contents, lanes: Sequence[int], names: Sequence[str] | None = None) -> Rows:
    """Returns a row for each bin of steps and each curve of the metrics table, or those named alone."""
    if not contents.course:
        return []
    course = together([contents.courses[lane] for lane in lanes])
    first, last = contents.course_steps
    rows: Rows = []
    for c, name in enumerate(contents.course):
        if names is not None and name not in names:
            continue
        null = is_null(course.mean[:, c]) | np.isnan(course.mean[:, c])
        sparse = null.mean() > 0.5 or len(null) - null.sum() == 1
        rows += [
            {
                "step": (int(first[p]) + int(last[p])) / 2,
                "name": METRICS[name],
                "value": _drawn(course.mean[p, c]),
                "low": _drawn(course.low[p, c]),
                "high": _drawn(course.high[p, c]),
                "sparse": bool(sparse),
            }
            for p in np.flatnonzero(~null)
        ]
    return rows


def ends(values: Sequence[np.ndarray], least: float = 0.0) -> tuple[float, float]:
    """Returns the ends of an axis that holds all numbers of these arrays, at least `least` from each other."""
    known = np.concatenate([each[np.isfinite(each)].ravel() for each in values]) if values else np.zeros(0)
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    lack = max(least - (high - low), 1e-9 if high == low else 0.0) / 2
    return low - lack, high + lack
