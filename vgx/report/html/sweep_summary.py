"""A sweep's cells side by side: each one's figures over its seeds, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from vgx.report.html.chart_rows import Rows
from vgx.report.html.encode import score_of
from vgx.report.html.page_data import Contents, cells_of
from vgx.report.palette import BLUE_ORANGE, UNJUDGED, VERDICTS, VIRIDIS, colour_at, ink_on
from vgx.results.intervals import interval_of
from vgx.results.words import plain

OPTIONS = 8
"""Swept options that a grid may be over, at the most."""
Square = dict[str, Any]
"""What a grid says in a place, its text, spread, colour and ink for each field that it may show, and where it leads."""


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
        row["verdict"], row["verdicts"] = _most_frequent([contents.verdict(i) for i in lanes])
        rows.append(row | {"words": {option: contents.word(lanes[0], option) for option in grid_options(contents)}})
    return rows


def grid_options(contents: Contents) -> list[str]:
    """Returns the swept options that a grid may be over; cells that differ in others are averaged."""
    return contents.options[:OPTIONS]


def _most_frequent(words: Sequence[str]) -> tuple[str, str]:
    """The most frequent word, and the same with its share: `2/3 vanishing`."""
    most = max(sorted(set(words)), key=words.count)
    return most, most if words.count(most) == len(words) else f"{words.count(most)}/{len(words)} {most}"


def _over_seeds(name: str, values: Sequence[Any], clip: bool = False) -> dict[str, Any]:
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_seeds": 0}
    mean, low, high = interval_of(known)
    if len(known) == 1:  # no interval: drawn as a point
        low = high = mean
    if clip:
        low, high = max(low, 0.0), min(high, 1.0)
    ends = {f"{name}_low": plain(low), f"{name}_high": plain(high), f"{name}_seeds": len(known)}
    return {name: mean, **ends}


def ranking(summaries: Rows) -> Rows:
    """Returns the cells that have a score, the best first."""
    scored = [row for row in summaries if row["score"] is not None]
    return sorted(scored, key=lambda row: -row["score"])


def first_cell(ranked: Rows) -> int:
    """Returns the cell whose curves are shown at first: the best."""
    return ranked[0]["cell"] if ranked else 0


def squares(contents: Contents, summaries: Rows) -> dict[str, Square]:
    """Returns what a grid says of all the cells that share the values of some options, by their numbers: `3`, `0,3`."""
    found: dict[str, Square] = {}
    place = {"score": _place_of(summaries, "score"), "slope": _place_of(summaries, "slope")}
    for group in _groups(grid_options(contents), summaries):
        key = ",".join(str(row["cell"]) for row in group)
        if key not in found:
            found[key] = _square(contents, group, place)
    return found


def _groups(options: Sequence[str], summaries: Rows) -> Iterator[Rows]:
    """The cells that share the values of some options, for any choice of the options and the values."""
    for count in range(len(options) + 1):
        for some in combinations(options, count):
            shared: dict[tuple[str, ...], Rows] = {}
            for row in summaries:
                shared.setdefault(tuple(row["words"][option] for option in some), []).append(row)
            yield from shared.values()


def _place_of(summaries: Rows, field: str) -> Callable[[float], str]:
    """The colour of a value: scores from the least to the greatest of any cell, slopes around 0."""
    known = [row[field] for row in summaries if row[field] is not None]
    if field == "slope":
        steepest = max(map(abs, known), default=0.0) or 1.0
        return lambda x: colour_at(BLUE_ORANGE, (x / steepest + 1) / 2)
    low, spread = (min(known), max(known) - min(known)) if known else (0.0, 0.0)
    return lambda x: colour_at(VIRIDIS, (x - low) / spread if spread else 1.0)


def _square(contents: Contents, group: Rows, place: Mapping[str, Callable[[float], str]]) -> Square:
    lanes, several = [i for row in group for i in row["lanes"]], len(group) > 1
    square: Square = {
        "title": f"mean of {len(group)} cells; leads to {group[0]['label']}" if several else group[0]["label"]
    }
    status = contents.lanes[lanes[0]]["status"]
    for field, column, form in (("score", score_of(contents), ".4f"), ("slope", "slope", "+.3f")):
        values = [x for i in lanes if (x := plain(contents.lanes[i].get(column))) is not None]
        text, spread, colour = UNJUDGED.letter if status == "done" else status, "", ""
        if values:
            text, colour = f"{np.mean(values):{form}}", place[field](float(np.mean(values)))
            spread = f"±{np.std(values, ddof=1):{form.lstrip('+')}}" if len(values) > 1 else ""
        square[field] = [text, spread, colour, ink_on(colour) if colour else ""]
    most, share = _most_frequent([contents.verdict(i) for i in lanes])
    sign = VERDICTS.get(most, UNJUDGED)
    return square | {"verdict": [f"{sign.letter} {share}", "", sign.colour, ink_on(sign.colour)]}


def squares_of_two(contents: Contents, summaries: Rows) -> dict[tuple[str, str], Square]:
    """Returns the grid over the first two options, by the words of its rows and columns; averaged over the others."""
    first, second = [*contents.options, "", ""][:2]
    members: dict[tuple[str, str], list[str]] = {}
    for row in summaries:
        a, b = (row["words"][option] if option else "" for option in (first, second))
        members.setdefault((a, b), []).append(str(row["cell"]))
    made = squares(contents, summaries)
    return {place: made[",".join(cells)] for place, cells in members.items()}
