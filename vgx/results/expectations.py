"""What a config expects of its run, held against what the run measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vgx.results import bounds
from vgx.results.columns import FINAL
from vgx.results.store import Run
from vgx.results.verdict import slope_of


class ExpectationResult(NamedTuple):
    """One expectation of one lane."""

    lane: int
    what: str
    expected: str
    found: str | float | None
    """None where it was not measured."""
    holds: bool


def facts_of(run: Run) -> list[dict[str, Any]]:
    """Returns, for each lane, all that can be expected: verdict, slopes, final figures, and shares of units and zeros.

    `dead` is the mean over hidden layers at the last recorded step, `saturated` the median, `zeros` the largest;
    `first_slope` is the slope at the first recorded step, which theory predicts.
    """
    facts = []
    for lane in run.lanes().to_pylist():
        rows = run.layers(where=pc.field("lane") == lane["lane"])
        steps = rows["step"].to_numpy()
        shares: dict[str, float | None] = dict.fromkeys(("dead", "saturated", "zeros", "first_slope"))
        if len(steps):
            first, last = (rows.filter(pc.field("step") == int(step)) for step in (steps.min(), steps.max()))
            shares = {
                "dead": _over_hidden(np.mean, last, "dead"),
                "saturated": _over_hidden(np.median, last, "saturated"),
                "zeros": _over_hidden(np.max, last, "weight_grad_zero"),
                "first_slope": _over_hidden(slope_of, first, "delta_log10"),
            }
        figures = {name: lane[name] for name in ("lane", "verdict", "slope", *FINAL)}
        facts.append(figures | shares)
    return facts


def _over_hidden(summary: Callable[[np.ndarray], Any], rows: pa.Table, name: str) -> float | None:
    column = rows[name]
    return None if column.null_count else float(summary(column.to_numpy()[:-1]))


def evaluate(
    expect: Mapping[str, Any], facts: Sequence[Mapping[str, Any]], predicted: tuple[float, float] | str | None = None
) -> list[ExpectationResult]:
    """Returns whether each lane is as expected.

    Args:
        expect: the config's section, as JSON; None where nothing is expected.
        facts: of each lane, by `facts_of`.
        predicted: the predicted slope and its tolerance, where `slope: predicted` asks for it; or why there is none,
            and so none can hold.
    """
    held = []
    for lane in facts:
        for what, expected in expect.items():
            if expected is None:
                continue
            if what == "verdict":
                words = [expected] if isinstance(expected, str) else expected
                held.append(ExpectationResult(lane["lane"], what, " or ".join(words), lane[what], lane[what] in words))
                continue
            bound, found = bounds.parse(expected), lane[what]
            if bound.predicted:
                assert predicted is not None
                if isinstance(predicted, str):
                    held.append(
                        ExpectationResult(lane["lane"], what, f"predicted, and {predicted}", lane["first_slope"], False)
                    )
                    continue
                slope, tolerance = predicted
                bound = bound._replace(
                    number=slope, tolerance=tolerance if bound.tolerance is None else bound.tolerance
                )
                found, expected = lane["first_slope"], f"predicted: {bound.number:.4f} +- {bound.tolerance:.4f}"
            held.append(ExpectationResult(lane["lane"], what, expected, found, bound.holds(found)))
    return held
