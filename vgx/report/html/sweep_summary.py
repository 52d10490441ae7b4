"""A sweep's cells side by side: each one's figures over its seeds, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vgx.report.html.chart_rows import Rows
from vgx.report.html.encode import finite, score_of
from vgx.report.html.page_data import Contents, cells_of
from vgx.results.intervals import interval_of


def cell_summaries(contents: Contents) -> Rows:
    """Returns a row for each cell: what it is, its lanes, and its score, slopes and verdict over seeds."""
    score = score_of(contents)
    rows: Rows = []
    for number, (label, lanes) in enumerate(cells_of(contents)):
        row: dict[str, Any] = {"cell": number, "label": label, "lanes": lanes}
        row |= _over_seeds("score", [contents.lanes[i].get(score) for i in lanes], clip=True)
        row |= _over_seeds("slope", [contents.lanes[i].get("slope") for i in lanes])
        row |= _over_seeds("measured", [contents.measured_slope(i) for i in lanes])
        row |= _over_seeds("predicted", [contents.predicted_slope(i) for i in lanes])
        words = [contents.lanes[i].get("verdict") or contents.lanes[i]["status"] for i in lanes]
        most = max(sorted(set(words)), key=words.count)
        share = "" if words.count(most) == len(words) else f"{words.count(most)}/{len(words)} "
        rows.append(row | {"verdict": most, "verdicts": share + most})
    return rows


def _over_seeds(name: str, values: Sequence[Any], clip: bool = False) -> dict[str, Any]:
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_seeds": 0}
    mean, low, high = interval_of(known)
    if len(known) == 1:  # no interval: drawn as a point
        low = high = mean
    if clip:
        low, high = max(low, 0.0), min(high, 1.0)
    ends = {f"{name}_low": finite(low), f"{name}_high": finite(high), f"{name}_seeds": len(known)}
    return {name: mean, **ends}


def ranking(summaries: Rows) -> Rows:
    """Returns the cells that have a score, the best first."""
    scored = [row for row in summaries if row["score"] is not None]
    return sorted(scored, key=lambda row: -row["score"])


def first_cell(ranked: Rows) -> int:
    """Returns the cell whose curves are shown at first: the best."""
    return ranked[0]["cell"] if ranked else 0
