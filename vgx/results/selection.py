"""Which lanes of a sweep belong together, and which value of an option was the best of each setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from vgx.errors import RunError
from vgx.results.store import Run
from vgx.results.values import in_words

Row = dict[str, Any]
"""A lane's row in the lane table."""


def best_lanes(run: Run, lanes: Sequence[Row], options: Sequence[str], chosen: str) -> list[Row]:
    """Returns the lanes whose value of an option is the best of its setting on validation data, the mean over seeds.

    Args:
        run: the sweep.
        lanes: to choose from.
        options: all that is swept.
        chosen: the one of them that is chosen. A value with a lane that has no validation accuracy never is.

    Raises RunError where no examples were held out.
    """
    if all(lane["validation_accuracy"] is None for lane in lanes):
        raise RunError(
            f"{run.path}: --best-over {chosen} chooses by validation accuracy, and this sweep holds no examples out;"
            " run it with --set data.validation=5000, say (never choose by test accuracy)"
        )
    others = [option for option in options if option != chosen]
    best: list[Row] = []
    for members in by_setting(lanes, others).values():
        best += max(by_value(members, chosen).values(), key=_mean_validation_accuracy)
    return best


def _mean_validation_accuracy(lanes: Sequence[Row]) -> float:
    accuracies = [lane["validation_accuracy"] for lane in lanes]
    known = [x for x in accuracies if x is not None and math.isfinite(x)]
    return fmean(known) if len(known) == len(accuracies) else -math.inf


def by_setting(lanes: Sequence[Row], options: Sequence[str]) -> dict[str, list[Row]]:
    """Returns the lanes of each setting of some options, by the setting in words."""
    settings: dict[str, list[Row]] = {}
    for lane in lanes:
        settings.setdefault(", ".join(f"{option} = {in_words(lane[option])}" for option in options), []).append(lane)
    return settings


def by_value(lanes: Sequence[Row], option: str | None) -> dict[str, list[Row]]:
    """Returns the lanes of each value of an option, by the value in words; all together under '' without one."""
    values: dict[str, list[Row]] = {}
    for lane in lanes:
        values.setdefault(in_words(lane[option]) if option else "", []).append(lane)
    return values
