"""What was found of a claim, in words, as terminal and docs say it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vgx.results.words import counted, rounded

if TYPE_CHECKING:
    from vgx.reproduce.evaluate import CheckResult, Result
    from vgx.reproduce.findings import Finding

COLOURS = {
    "reproduced": "green",
    "supported": "green",
    "not reproduced": "red",
    "contradicted": "magenta",
    "the same": "cyan",
    "undecided": "yellow",
}


def verdict_words(result: Result) -> str:
    """Returns the verdicts on an experiment's checks: `supported`, or `2 supported, 1 contradicted`."""
    words = [word for word in COLOURS if word in result.verdicts]
    if len(words) == 1 and len(result.verdicts) == 1:
        return words[0]
    return ", ".join(f"{result.verdicts.count(word)} {word}" for word in words)


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Returns `seeds 0 to 4`, or the list of them where they do not count up from the first."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    run = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"seeds {seeds[0]} to {seeds[-1]}" if run else "seeds " + ", ".join(map(str, seeds))


def in_words(outcome: CheckResult) -> str:
    """Returns what a check says, and the setting it is made in."""
    return f"{outcome.says} ({outcome.setting})" if outcome.setting else outcome.says


def more_seeds(finding: Finding, before: str = "") -> str:
    """Returns how many more seeds would decide a finding, if that is known."""
    return f"{before}{counted(finding.more, 'more seed')}" if finding.more else ""


def ours(finding: Finding) -> str:
    """Returns a finding's figure with two digits of its uncertainty: a bound as `> 6.04`, `-` if it bounds nothing."""
    if finding.bound == "?":
        return "-"
    return f"{finding.bound} {rounded(finding.ours, (finding.high - finding.low) / 2)}".strip()


def interval(finding: Finding) -> str:
    """Returns a finding's interval as `[0.971, 0.974]`, of a bound the end that holds as `[5.14, ∞)`; or `-`."""
    if not math.isfinite(finding.low + finding.high) or finding.bound == "?":
        return "-"
    half_width = (finding.high - finding.low) / 2
    low, high = rounded(finding.low, half_width), rounded(finding.high, half_width)
    return {">": f"[{low}, ∞)", "<": f"(-∞, {high}]"}.get(finding.bound, f"[{low}, {high}]")
