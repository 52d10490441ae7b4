"""The rows that figures draw, of a lane or of several seeds: for stills what report.js makes on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vgx.report.html.binning import Thinned, is_null
from vgx.report.html.page_data import Contents, flag, grouped
from vgx.results.agreement import FAR
from vgx.results.columns import LAYERS, METRICS

Rows = list[dict[str, Any]]


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
    rows: Rows = [
        {"layer": (first + last) / 2, "layers": span(int(first), int(last), axis.layers)}
        for first, last in zip(*axis.layer_edges, strict=True)
    ]
    for name in contents.statistics if names is None else names:
        cubes = [Thinned(*(kind[step] for kind in contents.cubes[lane][name])) for lane in lanes]
        for suffix, kind in zip(("", "_low", "_high"), together(cubes), strict=True):
            for row, value, shown in zip(rows, kind, _scaled(name, kind), strict=True):
                row[name + suffix] = _drawn(shown)
                if not suffix:
                    row[f"{name}_flag"] = "" if is_null(value) else flag(float(shown))
    for row in rows:
        _derive(row)
    _add_prediction(rows, contents, lanes[0])
    return rows


def _drawn(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _derive(row: dict[str, Any]) -> None:
    mean, rms, zero = (row.get(name) for name in ("act_mean", "act_rms", "weight_grad_zero"))
    if mean is not None and rms is not None:
        spread = math.sqrt(max(rms * rms - mean * mean, 0.0))
        row |= {"act_below": mean - spread, "act_above": mean + spread}
    if zero is not None:
        row["seen"] = "only zeros" if zero == 1 else "some zeros" if zero > 0 else "no zeros"


def _add_prediction(rows: Rows, contents: Contents, lane: int) -> None:
    number, cube = contents.axis_of[lane], contents.cubes[lane]
    assert number is not None
    for name, forecast in contents.forecasts[lane].items():
        if len(forecast.predicted) != contents.axes[number].layers:
            continue
        value, band = (grouped(each, contents.axes[number]) for each in (forecast.predicted, forecast.band))
        # The prediction is relative to the readout's gradient: it hangs on the one that was measured first.
        anchor = float(cube[name].mean[0, -1]) if name == "delta_log10" else 0.0
        prefix = "predicted" if name == "delta_log10" else f"predicted_{name}"
        for row, x, spread in zip(rows, value + anchor, band, strict=True):
            row[prefix] = _drawn(x)
            row[f"{prefix}_low"], row[f"{prefix}_high"] = _drawn(x - FAR * spread), _drawn(x + FAR * spread)


def cell_rows(contents: Contents, lanes: Sequence[int], name: str) -> Rows:
    """Returns a row for each bin of steps and of layers of a statistic: a rectangle and its value."""
    number = contents.axis_of[lanes[0]]
    assert number is not None
    axis = contents.axes[number]
    cube = together([contents.cubes[lane][name] for lane in lanes])
    (first, last), (lowest, highest) = axis.step_edges, axis.layer_edges
    ends = np.append(first[1:], last[-1] + (first[1] - first[0] if len(first) > 1 else 1))
    null = is_null(cube.mean)
    mean, low, high = (_scaled(name, kind) for kind in cube)
    return [
        {
            "x": int(first[s]),
            "x2": int(ends[s]),
            "y": float(lowest[g]) - 0.5,
            "y2": float(highest[g]) + 0.5,
            "value": _drawn(mean[s, g]),
            "low": _drawn(low[s, g]),
            "high": _drawn(high[s, g]),
            "flag": flag(float(mean[s, g])),
        }
        for s in range(len(first))
        for g in range(len(lowest))
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


def span(first: int, last: int, top: int) -> str:
    """Returns layers in words: 7, 8–12, readout."""
    if first == last:
        return "readout" if first == top else str(first)
    return f"{first}–{last}"


def ends(rows: Rows, fields: Sequence[str], least: float = 0.0) -> tuple[float, float]:
    """Returns the ends of an axis that holds these fields, at least `least` apart."""
    values = [row[field] for row in rows for field in fields if row.get(field) is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    lack = max(least - (high - low), 1e-9 if high == low else 0.0) / 2
    return low - lack, high + lack
