"""What figures show, in words: captions that say the finding, not the axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml

from vgx.report.html.binning import is_null
from vgx.report.html.chart_rows import Rows, course_rows, layer_rows
from vgx.report.html.page_data import Contents
from vgx.report.words import flat_share
from vgx.results.columns import METRICS
from vgx.results.words import power_of_ten


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
    if contents.run.is_watched:
        return "No layer was recorded here."
    tier = row.get("log.statistics") or contents.config["log"]["statistics"]
    if tier == "none":
        return "No layer was recorded here: log.statistics is none."
    return f"No layer was recorded here (log.statistics: {tier}); this lane is noted as {row['status']}."


def gradient_finding(contents: Contents, lanes: Sequence[int]) -> str:
    """Returns how the gradient ran through the layers at the first and the last recorded step."""
    steps = recorded_steps(contents, lanes)
    if not steps:
        return "No layer was recorded."
    ends = list(dict.fromkeys((steps[0], steps[-1])))
    rows = [layer_rows(contents, lanes, step, ["delta_log10"]) for step in ends]
    text = f"{_when(contents, lanes, ends[0])} the gradient is {_travel(rows[0])}"
    if len(rows[0]) > 2 and len(ends) > 1:
        low, high = rows[1][0], _top(rows[1])
        text += f"; {_when(contents, lanes, ends[1]).lower()} {_size(high)} and {_size(low)}"
    return f"{text}."


def _when(contents: Contents, lanes: Sequence[int], step: int) -> str:
    """A bin of steps in words: `At step 1,000`."""
    number = contents.axis_of[lanes[0]]
    assert number is not None
    first, last = (int(edge[step]) for edge in contents.axes[number].step_edges)
    return f"At step {first:,}" if first == last else f"At steps {first:,} to {last:,}"


def _travel(rows: Rows) -> str:
    low, high = rows[0], _top(rows)
    if low["readout"] or high is low:
        return f"{_size(low)} in the only {'hidden ' * any(row['readout'] for row in rows)}layer"
    if not rows[-1]["readout"]:
        return f"{_size(high)} in {high['place']} and {_size(low)} in {low['place']}"
    return f"{_size(high)} in the top hidden layer and {_size(low)} in layer 1"


def _top(rows: Rows) -> dict:
    """The row of the top hidden layer; of named ones the last."""
    return rows[-2] if rows[-1]["readout"] and len(rows) > 1 else rows[-1]


def _size(row: dict) -> str:
    if row["delta_log10_flag"]:
        return row["delta_log10_flag"]
    return "not measured" if row["delta_log10"] is None else power_of_ten(row["delta_log10"])


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
    precision = contents.lanes[lanes[0]].get("train.precision") or contents.run.precision
    if not blind:
        said = "" if contents.run.is_watched else f", in {precision}"
        return f"{when} the optimizer saw something of every layer{said}."
    if contents.paths:
        return f"{when} the optimizer saw only zeros in {_listed([row['place'] for row in unseen])}."
    where = f"layers {blind[0].split('–')[0]} to {blind[-1].split('–')[-1]}" if len(blind) > 1 else f"layer {blind[0]}"
    lost = any(row.get("weight_grad_log10") is not None for row in unseen)
    why = f"the true gradient is below the least {precision} number" if lost else "there is no gradient"
    return f"{when} the optimizer saw only zeros in {where}: {why}."


def signal_finding(contents: Contents, lanes: Sequence[int], key: str) -> str:
    """Returns what a figure over the layers shows at the last recorded step; `key` is its name in FINDINGS."""
    steps, names = recorded_steps(contents, lanes), FINDINGS[key]
    known = [name for name in names if name in contents.statistics]
    if not steps or not known:
        return ""
    rows = layer_rows(contents, lanes, steps[-1], known)
    rows = rows if key == "updates" or not rows[-1]["readout"] else rows[:-1]
    text = {"activations": _means, "sizes": _sizes, "shares": _shares, "updates": _updates}[key](contents, lanes, rows)
    return f"{_when(contents, lanes, steps[-1])} {text}." if text else ""


FINDINGS = {
    "activations": ("act_mean", "act_rms"),
    "sizes": ("preact_std", "act_rms"),
    "shares": ("dead", "saturated", "weight_grad_zero"),
    "updates": ("update_ratio",),
}
"""The figures over the layers besides the gradients, and the statistics that are told of them."""


def _ends_of(rows: Rows, name: str) -> tuple[dict, dict] | None:
    """The rows with the least and the greatest finite value; None where there is none."""
    known = [row for row in rows if row.get(name) is not None]
    return (min(known, key=lambda row: row[name]), max(known, key=lambda row: row[name])) if known else None


def _means(contents: Contents, lanes: Sequence[int], rows: Rows) -> str:
    found = _ends_of(rows, "act_mean")
    if found is None:
        return "no mean is a number"
    low, high = (f"{row['act_mean']:.2g}" for row in found)
    return f"every layer's mean is {low}" if low == high else f"the layers' means lie between {low} and {high}"


def _sizes(contents: Contents, lanes: Sequence[int], rows: Rows) -> str:
    bottom, top = rows[0].get("act_rms"), rows[-1].get("act_rms")
    if bottom is None or top is None:
        return ""
    if rows[0] is rows[-1]:
        return f"what the layer passes on has a size of {bottom:.2g}"
    high = rows[-1]["place"] if contents.paths else "the top"
    return f"what a layer passes on has a size of {bottom:.2g} in {rows[0]['place']} and of {top:.2g} at {high}"


def _shares(contents: Contents, lanes: Sequence[int], rows: Rows) -> str:
    parts = []
    for name, many, none in (
        ("dead", "a layer's units are dead", "no unit is dead"),
        ("saturated", "a layer's entries are flat", "no entry is flat"),
    ):
        found = _ends_of(rows, name)
        if found is not None:
            most = found[1]
            share = f"{100 * most[name]:.2g} %".replace("1e+02", "100")
            parts.append(f"up to {share} of {many} ({_place(most)})" if most[name] > 0 else none)
    if contents.run.is_watched:
        return " and ".join(parts)
    activation = _activation(contents, lanes[0])
    share = flat_share(activation)
    normal = f"; about {100 * share:.0f} % is normal for {activation['name']}" if share else ""
    return " and ".join(parts) + normal if parts else ""


def _activation(contents: Contents, lane: int) -> dict[str, Any]:
    """The activation of a lane, swept or not, as a config has it."""
    swept = contents.lanes[lane].get("model.activation")
    activation = contents.config["model"]["activation"] if swept is None else yaml.safe_load(str(swept))
    return activation if isinstance(activation, dict) else {"name": str(activation)}


def _updates(contents: Contents, lanes: Sequence[int], rows: Rows) -> str:
    found = _ends_of(rows, "update_ratio")
    if found is None:
        return "no weight moves"
    low, high = (power_of_ten(row["update_ratio"]) for row in found)
    if low == high:
        return f"a step moves every layer's weights by {low} of their size"
    least, most = map(_place, found)
    return f"a step moves weights by {low} ({least}) to {high} ({most}) of their size"


def _place(row: dict) -> str:
    return row["place"]


def _listed(places: Sequence[str]) -> str:
    """A few places by name, of more how many."""
    return " and ".join(places) if len(places) < 3 else f"{len(places)} layers from {places[0]} to {places[-1]}"


def course_finding(contents: Contents, lanes: Sequence[int], names: Sequence[str]) -> str:
    """Returns where curves of the metrics table began and ended."""
    rows = course_rows(contents, lanes, names)
    parts = []
    for name in names:
        values = [row["value"] for row in rows if row["name"] == METRICS[name]]
        if values:
            first, last = (f"{value:.2g}" if value is not None else "∞" for value in (values[0], values[-1]))
            parts.append(f"{METRICS[name]} {first}" + ("" if first == last else f" to {last}"))
    text = "; ".join(parts) or "nothing was measured"
    return text[0].upper() + text[1:] + "."
