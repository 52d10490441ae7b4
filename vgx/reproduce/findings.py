"""What a comparison finds: its figures with their intervals, and what each says of what was claimed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from vgx.registry import Part, Registry
from vgx.results.intervals import (
    LEVEL,
    MIN_SEEDS,
    Interval,
    half_width,
    interval_of,
    interval_within,
    score_interval,
    seeds_to_tell,
)

Arm = dict[str, Any]
"""Which lanes: the value of some swept options, by path."""


Limits = tuple[float, float] | None


class ClaimVerdict(StrEnum):
    """What the figures say: of a claim the first four, of a published number the last three."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    THE_SAME = "the same"
    UNDECIDED = "undecided"
    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"


class Finding(NamedTuple):
    """One figure of ours, and what it says."""

    what: str
    """In a few words: the arms, or the point of a curve."""
    claimed: str
    """What was published or claimed, as text."""
    ours: float
    low: float
    high: float
    verdict: str
    """A ClaimVerdict; empty for a figure that says nothing by itself."""
    seeds: int
    more: int | None
    """How many more seeds would decide it, if all stays as it is; None when decided, or beyond telling."""
    note: str = ""
    bound: str = ""
    """> where the true figure is known to be larger than `ours`, since a run ended too soon; < where it is smaller; ?
    where it may be either."""


class Chosen(NamedTuple):
    """The options that were chosen for an arm on validation data."""

    options: dict[str, Any]
    """By path."""
    at_edge: bool = False
    """Whether one of them is the smallest or the largest that was tried."""
    extended: bool = False
    """Whether one of them is beyond the grid as it was written."""


class Sample(NamedTuple):
    """What an arm measured."""

    values: dict[int, float]
    """By seed."""
    chosen: dict[str, Any]
    """As in `Chosen`, and so are the next two."""
    at_edge: bool = False
    extended: bool = False
    limits: tuple[float, float] | None = None
    """Between which the values must lie; None where they may be anything."""
    beyond: frozenset[int] = frozenset()
    """The seeds whose value is a bound: the true one is larger."""


class Measured(Protocol):
    """Where a comparison gets the figures of its arms; NotMeasured when an arm is not in the grid."""

    def sample(self, arm: Arm, changes: Mapping[str, Any] | None = None) -> Sample:
        """Returns an arm's figures; `changes` are options of the statistic."""
        ...

    def predicted(self, arm: Arm, changes: Mapping[str, Any] | None = None) -> float:
        """Returns the statistic of the curve that theory predicts for the arm; `changes` as for `sample`."""
        ...

    def values(self, path: str) -> list[Any]:
        """Returns the values that an option has in the grid."""
        ...


class NotMeasured(Exception):
    """An arm that this scale leaves out."""


class Hypothesis(Part):
    """What is claimed of a statistic."""

    of_number: ClassVar[bool] = False
    """Whether a published number is to be reproduced, rather than a claim tested."""

    def arms(self) -> Iterator[Arm]:
        """Yields every arm that is named."""
        raise NotImplementedError

    def free(self) -> tuple[str, ...]:
        """Returns paths whose values are arms themselves."""
        return ()

    def find(self, measured: Measured) -> list[Finding]:
        """Returns the figures and what they say. Raises NotMeasured."""
        raise NotImplementedError


COMPARISONS: Registry[Hypothesis] = Registry("comparison")


def words_of(arm: Arm) -> str:
    """Returns an arm in a few words: the values alone."""
    return " ".join(word_of(path, value) for path, value in arm.items())


def word_of(path: str, value: Any) -> str:
    if isinstance(value, Mapping):
        options = [f"{key} {inner}" for key, inner in value.items() if key != "name"]
        return " ".join([str(value.get("name", "")), *options]).strip()
    if isinstance(value, str) and value != "none":
        return value
    return f"{path.rpartition('.')[2]} {value}"


def direction(interval: Interval, limit: float) -> str:
    """Whether an interval lies above a limit."""
    if not math.isfinite(interval.low + interval.high):
        return ClaimVerdict.UNDECIDED
    return (
        ClaimVerdict.SUPPORTED
        if interval.low > limit
        else ClaimVerdict.CONTRADICTED
        if interval.high < limit
        else ClaimVerdict.UNDECIDED
    )


def decided(values: np.ndarray, verdict: str) -> str:
    """The verdict, unless too few seeds gave it."""
    return verdict if len(values) >= MIN_SEEDS else ClaimVerdict.UNDECIDED


def more_seeds(values: np.ndarray, limit: float, verdict: str) -> int | None:
    if verdict != ClaimVerdict.UNDECIDED or len(values) < 2:
        return None
    return seeds_to_tell(float(values.mean()) - limit, float(values.std(ddof=1)), len(values))


def paired(one: Sample, other: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The figures of two arms for the seeds that they share."""
    seeds = [seed for seed in one.values if seed in other.values]
    return np.array([one.values[s] for s in seeds]), np.array([other.values[s] for s in seeds])


def choices(*samples: Sample) -> str:
    """What was chosen for each arm, in a note."""
    parts = []
    for sample in samples:
        values = ", ".join(word_of(path, value) for path, value in sample.chosen.items())
        edge = " (the last one tried)" if sample.at_edge else " (beyond the grid, which was extended)"
        parts.append(values + edge if sample.at_edge or sample.extended else values)
    return " | ".join(parts) if any(parts) else ""


def above(
    what: str, claimed: str, values: np.ndarray, limit: float, sign: int, note: str, limits: Limits = None
) -> Finding:
    """Whether the mean lies above a limit, or below it where `sign` is -1; `limits` are the values' own."""
    interval = interval_of(values) if limits is None else interval_within(values, *limits)
    verdict = decided(values, direction(turned(interval, sign), sign * limit))
    return Finding(what, claimed, *interval, verdict, len(values), more_seeds(values, limit, verdict), note)


def turned(interval: Interval, sign: int) -> Interval:
    """Returns an interval, or that of the opposite where `sign` is -1."""
    return Interval(sign * interval.mean, *sorted((sign * interval.low, sign * interval.high)))


def difference_limits(one: Sample, other: Sample) -> Limits:
    """Between which the difference of two arms must lie."""
    if one.limits is None or other.limits is None:
        return None
    return one.limits[0] - other.limits[1], one.limits[1] - other.limits[0]


def bounded(finding: Finding, sign: int, more: Sample, less: Sample | None = None) -> Finding:
    """Returns a finding that knows of bounds among the values it comes from.

    `more` are values with which the figure grows, `less` those with which it falls; `sign` is 1 where the claim is that
    the figure is large. What the true figure might overturn is undecided, whatever the seeds.
    """
    up, down = bool(more.beyond), bool(less and less.beyond)
    if not up and not down:
        return finding
    bound = "?" if up and down else ">" if up else "<"
    holds = {">": sign > 0, "<": sign < 0}
    kept = (ClaimVerdict.SUPPORTED if holds[bound] else ClaimVerdict.CONTRADICTED) if bound in holds else None
    verdict = finding.verdict and (finding.verdict if finding.verdict == kept else ClaimVerdict.UNDECIDED)
    return finding._replace(verdict=verdict, more=None, bound=bound)


def near(
    what: str,
    values: np.ndarray,
    alike: Sequence[np.ndarray],
    published: float,
    tolerance: float,
    limits: Limits = None,
) -> Finding:
    """Whether a mean is near a number; `alike` are figures with the same spread, `limits` the values' own."""
    n, mean = len(values), float(values.mean())
    claimed = f"{published:g} ± {tolerance:g}"
    if n < 2 or not np.isfinite(values).all():
        return Finding(what, claimed, mean, math.nan, math.nan, ClaimVerdict.UNDECIDED, n, None)
    known = [column for column in alike if np.isfinite(column).all()]
    std = math.sqrt(float(np.mean([column.var(ddof=1) for column in known])))
    freedom = (n - 1) * len(known)
    half = half_width(std, n, LEVEL, freedom)
    low, high = (mean - half, mean + half) if limits is None else score_interval(mean, std, n, *limits, freedom)[1:]
    if abs(mean - published) <= tolerance and half <= tolerance:
        verdict = ClaimVerdict.REPRODUCED
    elif low > published + tolerance or high < published - tolerance:
        verdict = ClaimVerdict.NOT_REPRODUCED
    else:
        verdict = ClaimVerdict.UNDECIDED
    verdict = decided(values, verdict)
    edge = tolerance if abs(mean - published) <= tolerance else abs(mean - published) - tolerance
    more = seeds_to_tell(edge, std, n) if verdict == ClaimVerdict.UNDECIDED else None
    return Finding(what, claimed, mean, low, high, verdict, n, more)


def matches(found: Any, asked: Any) -> bool:
    """Whether an option's value is the one asked for; a bare name fits any options of that part."""
    if found == asked:
        return True
    return isinstance(found, Mapping) and isinstance(asked, str) and found.get("name") == asked
