"""What a comparison finds: its figures with their intervals, and what each says of what was claimed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from vgx.registry import Part, Registry
from vgx.results.intervals import LEVEL, MIN_SEEDS, Interval, half_width, interval_of, seeds_to_tell

Arm = dict[str, Any]
"""Which lanes: the value of some swept options, by path."""


class ClaimVerdict(StrEnum):
    """What the figures say: of a claim the first three, of a published number the last three."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
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


class Sample(NamedTuple):
    """What an arm measured."""

    values: dict[int, float]
    """By seed."""
    chosen: dict[str, Any]
    """The option values chosen for it on validation data, by path."""
    at_edge: bool
    """Whether one of them is the smallest or the largest that was tried."""


class Measured(Protocol):
    """Where a comparison gets the figures of its arms; NotMeasured when an arm is not in the grid."""

    def sample(self, arm: Arm, changes: Mapping[str, Any] | None = None) -> Sample:
        """Returns an arm's figures; `changes` are options of the statistic."""
        ...

    def predicted(self, arm: Arm) -> float:
        """Returns the statistic of the curve that theory predicts for the arm."""
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
        parts.append(f"{values} (the last one tried)" if sample.at_edge else values)
    return " | ".join(parts) if any(parts) else ""


def above(what: str, claimed: str, values: np.ndarray, limit: float, sign: int, note: str) -> Finding:
    """Whether the mean lies above a limit, or below it where `sign` is -1."""
    interval = interval_of(values)
    signed = Interval(sign * interval.mean, *sorted((sign * interval.low, sign * interval.high)))
    verdict = decided(values, direction(signed, sign * limit))
    return Finding(what, claimed, *interval, verdict, len(values), more_seeds(values, limit, verdict), note)


def near(what: str, values: np.ndarray, alike: Sequence[np.ndarray], published: float, tolerance: float) -> Finding:
    """Whether a mean is near a number; `alike` are figures with the same spread."""
    n, mean = len(values), float(values.mean())
    claimed = f"{published:g} ± {tolerance:g}"
    if n < 2 or not np.isfinite(values).all():
        return Finding(what, claimed, mean, math.nan, math.nan, ClaimVerdict.UNDECIDED, n, None)
    known = [column for column in alike if np.isfinite(column).all()]
    std = math.sqrt(float(np.mean([column.var(ddof=1) for column in known])))
    freedom = (n - 1) * len(known)
    half = half_width(std, n, LEVEL, freedom)
    low, high = mean - half, mean + half
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
