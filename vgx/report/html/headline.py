"""What a page answers first: the verdict, one sentence of what it means for this net, and how well it does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vgx.report.html.page_data import Contents
from vgx.results.layer_names import chains_of
from vgx.results.words import mean_and_spread, power_of_ten

NOTABLE = 1.5
"""Decades from which a gradient is said to shrink or grow from layer to layer; else what happened is told."""
CONSEQUENCES = {
    "vanishing": "the lowest layers do not learn",
    "exploding": "no learning rate suits all layers",
    "healthy": "every layer can learn",
    "saturated": "they pass on next to no gradient",
    "dead": "they pass on no gradient",
    "diverged": "what comes after is no measurement",
}
"""What a verdict means for the net, to end a sentence with."""


class Tile(NamedTuple):
    """A figure with its name, and what stands small below it."""

    name: str
    value: str
    note: str


def words_of(contents: Contents, lanes: Sequence[int]) -> list[tuple[str, str]]:
    """Returns each verdict of these lanes, the most frequent first, and how many have it if not all do."""
    counts = Counter(contents.verdict(lane) for lane in lanes)
    return [(word, "" if len(counts) == 1 else f"{count} of {len(lanes)}") for word, count in counts.most_common()]


def headline(contents: Contents, lanes: Sequence[int]) -> str:
    """Returns what the verdict on these lanes means for their net, in a sentence; of several verdicts the commonest."""
    word = words_of(contents, lanes)[0][0]
    some = [lane for lane in lanes if contents.verdict(lane) == word]
    row = contents.lanes[some[0]]
    if word not in CONSEQUENCES:
        return row.get("error") or f"There is no verdict yet: this is noted as {row['status']}."
    reason = (row.get("evidence") or "").partition(";")[0]
    travels = _travel(contents, some)
    if word == "healthy" and "fitted" in reason:
        return f"The net {reason}."
    if word in ("vanishing", "exploding", "healthy") and travels:
        return f"{travels}: {CONSEQUENCES[word]}."
    return f"{reason[:1].upper()}{reason[1:]}: {CONSEQUENCES[word]}." if reason else ""


def _travel(contents: Contents, lanes: Sequence[int]) -> str:
    """How much of the gradient each layer passes on, and what is left below the last; nothing where no slope says."""
    if contents.paths:  # no chain of layers: the evidence says along which of them the gradient changes
        return ""
    slope, layers = slope_in(contents, lanes), hidden_layers(contents, lanes)
    word = contents.verdict(lanes[0])
    if not math.isfinite(slope) or layers < 2 or (word != "healthy" and abs(slope * layers) < NOTABLE):
        return ""
    if word != "healthy" and (slope < 0) != (word == "vanishing"):
        return ""
    each, left = power_of_ten(slope), power_of_ten(slope * layers)
    if slope > 0:
        passes = f"Each layer passes on {each} times the gradient above it"
        return f"{passes}; after {layers} layers it is {left} times as large"
    return f"Each layer passes on {each} of the gradient above it; after {layers} layers {left} is left"


def slope_in(contents: Contents, lanes: Sequence[int]) -> float:
    """Returns the slope on which the verdict rests, in decades per layer, the mean of these lanes; NaN for none."""
    known = [slope for lane in lanes if (slope := contents.lanes[lane].get("slope")) is not None]
    return float(np.mean(known)) if known else math.nan


def hidden_layers(contents: Contents, lanes: Sequence[int]) -> int:
    """Returns how many hidden layers these lanes have; 0 where none was recorded."""
    number = contents.axis_of[lanes[0]]
    return 0 if number is None else contents.axes[number].layers - 1


def tiles(contents: Contents, lanes: Sequence[int]) -> list[Tile]:
    """Returns how well these lanes do in the end, and how much of a gradient a layer passes on, beside theory."""
    found = []
    for name, note in (("test_accuracy", ""), ("validation_accuracy", ""), ("train_accuracy", "of the last batch")):
        values = [x for lane in lanes if (x := _final(contents, lane, name)) is not None and math.isfinite(x)]
        if values:
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
            value = mean_and_spread(float(np.mean(values)), spread, "{:.4f}")
            found.append(Tile(name.replace("train_", "training ").replace("_", " "), value, note))
    slope, predicted = slope_in(contents, lanes), contents.predicted_slope(lanes[0])
    if math.isfinite(slope):
        theory = f"theory: {power_of_ten(predicted)} at the start" if math.isfinite(predicted) else ""
        unit = "block" if chains_of(contents.paths) else "layer"
        found.append(Tile(f"passed on by a {unit}", power_of_ten(slope), theory))
    return found


def _final(contents: Contents, lane: int, name: str) -> float | None:
    """A lane's last figure of a column of the metrics table: of one that has not ended, the last that was written."""
    value = contents.lanes[lane].get(name)
    if value is not None or name not in contents.course:
        return value
    known = contents.courses[lane].mean[:, contents.course.index(name)]
    known = known[np.isfinite(known)]
    return float(known[-1]) if len(known) else None
