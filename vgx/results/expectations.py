"""What a config expects of its run, held against what the run measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vgx.results import bounds
from vgx.results.columns import FINAL
from vgx.results.lane_results import LayerFigures


class ExpectationResult(NamedTuple):
    """One expectation of one lane."""

    lane: int
    what: str
    expected: str
    found: str | float | None
    """None where it was not measured."""
    holds: bool


def facts_of(lane: Mapping[str, Any], figures: LayerFigures) -> dict[str, Any]:
    """Returns all that can be expected of a lane, by name, from its row in the lane table and its layers' figures."""
    return {name: lane[name] for name in ("lane", "verdict", "slope", *FINAL)} | figures._asdict()


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
