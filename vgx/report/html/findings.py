"""What figures show, in words: captions that say the finding, not the axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vgx.report.html.binning import is_null
from vgx.report.html.chart_rows import Rows, course_rows, layer_rows
from vgx.report.html.page_data import Contents
from vgx.results.columns import METRICS
from vgx.results.words import power_of_ten, signed


def members(contents: Contents, lanes: Sequence[int] | None = None) -> list[int]:
    """Returns the lanes (of those given, or of all) that are shown together: those of the first's depth."""
    some = list(range(len(contents.lanes))) if lanes is None else list(lanes)
    first = next((contents.axis_of[lane] for lane in some if contents.axis_of[lane] is not None), None)
    same = [lane for lane in some if first is not None and contents.axis_of[lane] == first]
    return same or some[:1]


def recorded_steps(contents: Contents, lanes: Sequence[int]) -> list[int]:
    """Returns the bins of steps, from 0, in which any layer of any of the lanes was recorded."""
    number = contents.axis_of[lanes[0]]
    if number is None:
        return []
    known = [~is_null(cube.mean).all(1) for lane in lanes for cube in contents.cubes[lane].values()]
    return np.flatnonzero(np.any(known, axis=0)).tolist()


def unrecorded_finding(contents: Contents, lanes: Sequence[int]) -> str:
    """Returns why there are no layers of these lanes."""
    row = contents.lanes[lanes[0]]
    tier = row.get("log.statistics") or contents.config["log"]["statistics"]
    if tier == "none":
        return "No layer was recorded here: log.statistics is none."
    return f"No layer was recorded here (log.statistics: {tier}); this lane is noted as {row['status']}."


def gradient_finding(contents: Contents, lanes: Sequence[int]) -> str:
    """Returns how the gradient ran through the layers at the first and the last recorded step, and as predicted."""
    steps = recorded_steps(contents, lanes)
    if not steps:
        return "No layer was recorded."
    ends = dict.fromkeys((steps[0], steps[-1]))
    text = " ".join(_travel(layer_rows(contents, lanes, s, ["delta_log10"]), _when(contents, lanes, s)) for s in ends)
    return f"{text} {prediction_finding(contents, lanes)}".strip()


def _when(contents: Contents, lanes: Sequence[int], step: int) -> str:
    """A bin of steps in words: `At step 1,000`."""
    number = contents.axis_of[lanes[0]]
    assert number is not None
    first, last = (int(edge[step]) for edge in contents.axes[number].step_edges)
    return f"At step {first:,}" if first == last else f"At steps {first:,} to {last:,}"


def _travel(rows: Rows, when: str) -> str:
    low, high = rows[0], rows[-2]
    bottom, top = (_size(row) for row in (low, high))
    if low is high:
        return f"{when} the gradient is {bottom} in the only hidden layer."
    change = ""
    if low["delta_log10"] is not None and high["delta_log10"] is not None:
        decades = low["delta_log10"] - high["delta_log10"]
        change = (
            f", {abs(decades):.3g} decades {'less' if decades < 0 else 'more'}"
            if abs(decades) >= 0.05
            else ", the same"
        )
    return f"{when} the gradient is {top} in the top hidden layer and {bottom} in layer 1{change}."


def _size(row: dict) -> str:
    if row["delta_log10_flag"]:
        return row["delta_log10_flag"]
    return "not measured" if row["delta_log10"] is None else power_of_ten(row["delta_log10"])


def prediction_finding(contents: Contents, lanes: Sequence[int]) -> str:
    """Returns the predicted and the measured slope; nothing where there is no prediction."""
    predicted = contents.predicted_slope(lanes[0])
    measured = [contents.measured_slope(lane) for lane in lanes]
    if not math.isfinite(predicted) or not np.isfinite(measured).any():
        return ""
    found = signed(float(np.nanmean(measured)))
    return f"Theory: {signed(predicted)} decades per layer from the top down; measured at the first step {found}."


def weights_finding(contents: Contents, lanes: Sequence[int]) -> str:
    """Returns in how many layers the optimizer saw nothing, at the last recorded step."""
    steps = recorded_steps(contents, lanes)
    if not steps or "weight_grad_zero" not in contents.statistics:
        return ""
    when = _when(contents, lanes, steps[-1])
    names = [name for name in ("weight_grad_log10", "weight_grad_zero") if name in contents.statistics]
    rows = layer_rows(contents, lanes, steps[-1], names)
    unseen = [row for row in rows if row.get("seen") == "only zeros"]
    blind = [row["layers"] for row in unseen]
    precision = contents.lanes[lanes[0]].get("train.precision") or contents.config["train"]["precision"]
    if not blind:
        return f"{when} the optimizer saw something of every layer, in {precision}."
    where = f"layers {blind[0].split('–')[0]} to {blind[-1].split('–')[-1]}" if len(blind) > 1 else f"layer {blind[0]}"
    lost = any(row.get("weight_grad_log10") is not None for row in unseen)
    why = f"the true gradient is below the least {precision} number" if lost else "there is no gradient"
    return f"{when} the optimizer saw only zeros in {where}: {why}."


def course_finding(contents: Contents, lanes: Sequence[int], names: Sequence[str]) -> str:
    """Returns where curves of the metrics table began and ended."""
    rows = course_rows(contents, lanes, names)
    parts = []
    for name in names:
        values = [row["value"] for row in rows if row["name"] == METRICS[name]]
        if values:
            first, last = (f"{value:.4g}" if value is not None else "∞" for value in (values[0], values[-1]))
            constant = all(value == values[0] for value in values)
            parts.append(f"{METRICS[name]} {first}" + ("" if constant else f" to {last}"))
    text = "; ".join(parts) or "nothing was measured"
    return text[0].upper() + text[1:] + "."
