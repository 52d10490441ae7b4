"""The comparisons of arms with arms, seed by seed: one ahead of another, or of several, and a claimed order.

Where several pairs are compared at once, each is tested at its level in Holm's procedure, and shown with Student's
interval of that level. With a `margin`, a pair whose whole interval lies within it is *the same*: two one-sided tests.
What a pair is said to be can be read off the interval that is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from vgx.reproduce.findings import (
    COMPARISONS,
    Arm,
    ClaimVerdict,
    Finding,
    Hypothesis,
    Measured,
    NotMeasured,
    Sample,
    above,
    bounded,
    choices,
    decided,
    difference_limits,
    direction,
    matches,
    paired,
    turned,
    word_of,
    words_of,
)
from vgx.results.intervals import (
    LEVEL,
    Interval,
    bootstrap,
    difference_p,
    equivalence_p,
    half_width,
    holm_levels,
    interval_of,
    interval_within,
    kendall,
    seeds_to_tell,
)

Margin = Annotated[float, Field(gt=0)] | None


class Pair(NamedTuple):
    """Two arms to be compared."""

    what: str
    one: Sample
    other: Sample
    note: str = ""


def compared(pairs: Sequence[Pair], sign: int = 1, by: float = 0.0, margin: Margin = None) -> list[Finding]:
    """Returns what each pair says of the claim that one is ahead of the other, all pairs tested together.

    A pair is decided where its interval lies on one side of the limit, or within the margin, which goes first; what
    Holm's procedure takes for its p-value is the level from which on that is so.

    Args:
        pairs: the arms, the first the one that is claimed to be ahead.
        sign: 1 where ahead is larger, -1 where it is smaller.
        by: by how much it is claimed to be ahead.
        margin: differences smaller than this are none; None where every difference counts.
    """
    claimed = f"{'>' if sign > 0 else '<'} {sign * by + 0.0:g}"
    limit = sign * by
    differences = [np.subtract(*paired(pair.one, pair.other)) for pair in pairs]
    if min(map(len, differences)) < 2:
        return [
            Finding(pair.what, claimed, *interval_of(values), ClaimVerdict.UNDECIDED, len(values), None, pair.note)
            for pair, values in zip(pairs, differences, strict=True)
        ]
    wide = margin or 0.0
    p = [min(difference_p(values - limit), 2 * equivalence_p(values, wide)) for values in differences]
    found = []
    for pair, values, level in zip(pairs, differences, 1 - holm_levels(p, 1 - LEVEL), strict=True):
        interval = _student(values, float(level), difference_limits(pair.one, pair.other))
        same = -wide <= interval.low and interval.high <= wide
        verdict = ClaimVerdict.THE_SAME if same and wide else direction(turned(interval, sign), by)
        verdict = decided(values, verdict)
        more = _more(values, limit, wide, float(level)) if verdict == ClaimVerdict.UNDECIDED else None
        finding = Finding(pair.what, claimed, *interval, verdict, len(values), more, pair.note)
        found.append(bounded(finding, sign, pair.one, pair.other))
    return found


def _student(values: np.ndarray, level: float, limits: tuple[float, float] | None) -> Interval:
    """Student's interval, as far as the values can reach."""
    mean = float(values.mean())
    if not np.isfinite(values).all():
        return interval_of(values)
    half = half_width(float(values.std(ddof=1)), len(values), level)
    least, most = limits or (-np.inf, np.inf)
    return Interval(mean, max(mean - half, least), min(mean + half, most))


def _more(values: np.ndarray, limit: float, margin: float, level: float) -> int | None:
    """How many more seeds would tell two arms apart, or that they are the same, whichever is sooner."""
    mean, std, n = float(values.mean()), float(values.std(ddof=1)), len(values)
    distances = [mean - limit, *([margin - abs(mean)] if abs(mean) < margin else [])]
    wanted = [seeds_to_tell(distance, std, n, level) for distance in distances]
    return min((more for more in wanted if more is not None), default=None)


OneOrMoreArms = Arm | Annotated[list[Arm], Field(min_length=1)]


def _arms(value: Any) -> Any:
    return [value] if isinstance(value, Mapping) else value


class Versus(Hypothesis):
    """An arm and another, or several others, paired by seed."""

    sign: ClassVar[int]

    arm: Arm
    """The one that is claimed to be ahead."""
    than: Annotated[
        tuple[Arm, ...], Field(strict=False, min_length=1), BeforeValidator(_arms, json_schema_input_type=OneOrMoreArms)
    ]
    """The other, or a list of others."""
    by: float = 0.0
    """By how much at least; negative: it may be behind by so much."""
    margin: Margin = None
    """How small a difference is none: a pair whose interval lies within is the same."""

    @model_validator(mode="after")
    def _one_limit(self) -> Versus:
        if self.by and self.margin is not None:
            raise PydanticCustomError("limits", "`by` moves the limit and `margin` stands around 0; leave one out")
        return self

    def arms(self) -> Iterator[Arm]:
        yield self.arm
        yield from self.than

    def find(self, measured: Measured) -> list[Finding]:
        one = measured.sample(self.arm)
        pairs = []
        for than in self.than:
            other = measured.sample(than)
            pairs.append(Pair(f"{words_of(self.arm)} - {words_of(than)}", one, other, choices(one, other)))
        if len(pairs) > 1 or self.margin is not None:
            return compared(pairs, self.sign, self.by, self.margin)
        (pair,) = pairs
        a, b = paired(pair.one, pair.other)
        claimed = f"{'>' if self.sign > 0 else '<'} {self.sign * self.by + 0.0:g}"
        limits = difference_limits(pair.one, pair.other)
        found = above(pair.what, claimed, a - b, self.sign * self.by, self.sign, pair.note, limits)
        return [bounded(found, self.sign, pair.one, pair.other)]


@COMPARISONS.register("greater")
class Greater(Versus):
    """One arm's mean is greater than another's, or than those of several (Holm), paired by seed."""

    formula = "arm - than > by"
    sign = 1


@COMPARISONS.register("less")
class Less(Versus):
    """One arm's mean is less than another's, or than those of several (Holm), paired by seed."""

    formula = "arm - than < -by"
    sign = -1


@COMPARISONS.register("rank")
class Rank(Hypothesis):
    """The arms' means are in a claimed order, the best first.

    Kendall's tau over all arms, and every pair of them by Holm's procedure. The order is supported when every pair of
    neighbours is; contradicted when a pair is the other way round, or neighbours are the same; and the arms are the
    same when every pair is.
    """

    formula = "mean(first) > mean(second) > ..."

    over: str
    """The option that the arms differ in."""
    order: Annotated[tuple[Any, ...], Field(strict=False, min_length=2)]
    """Its values, the one that is claimed to be best first."""
    less_is_better: bool = False
    """Whether the best is the smallest."""
    margin: Margin = None
    """How small a difference is none: a pair whose interval lies within is the same."""

    def arms(self) -> Iterator[Arm]:
        for value in self.order:
            yield {self.over: value}

    def free(self) -> tuple[str, ...]:
        return (self.over,)

    def find(self, measured: Measured) -> list[Finding]:
        grid = measured.values(self.over)
        order = [value for value in self.order if any(matches(found, value) for found in grid)]
        if len(order) < 2:
            raise NotMeasured
        others = [value for value in grid if not any(matches(value, known) for known in order)]
        samples = {word_of(self.over, value): measured.sample({self.over: value}) for value in (*order, *others)}
        claimed = list(samples)[: len(order)]
        sign = -1 if self.less_is_better else 1
        pairs = [Pair(f"{a} - {b}", samples[a], samples[b]) for a, b in combinations(claimed, 2)]
        verdicts = compared(pairs, sign, 0.0, self.margin)
        return [self._tau(claimed, samples, sign, verdicts), *self._means(samples), *verdicts]

    def _tau(self, claimed: list[str], samples: Mapping[str, Sample], sign: int, pairs: list[Finding]) -> Finding:
        seeds = sorted(set.intersection(*(set(samples[name].values) for name in claimed)))
        values = sign * np.array([[samples[name].values[seed] for seed in seeds] for name in claimed])
        order, n = -np.arange(len(claimed)), len(seeds)
        tau = float(kendall(values.mean(1), order))
        low, high = (
            bootstrap(lambda picked: kendall(values[:, picked].mean(-1).T, order), n)
            if n > 1 and np.isfinite(values).all()
            else (np.nan, np.nan)
        )
        observed = sorted(range(len(claimed)), key=lambda i: -values[i].mean())
        verdict = decided(values[0], _of_order([pair.verdict for pair in pairs], len(claimed)))
        note = " > ".join(claimed[i] for i in observed)
        return Finding("Kendall's tau", "1", tau, low, high, verdict, n, None, note)

    def _means(self, samples: Mapping[str, Sample]) -> Iterator[Finding]:
        for name, sample in samples.items():
            values = np.array(list(sample.values.values()))
            interval = interval_of(values) if sample.limits is None else interval_within(values, *sample.limits)
            yield bounded(Finding(name, "", *interval, "", len(values), None, choices(sample)), 1, sample)


def _of_order(pairs: list[str], arms: int) -> str:
    """What the verdicts on all pairs, each arm with those behind it, say of an order."""
    neighbours = [verdict for (i, j), verdict in zip(combinations(range(arms), 2), pairs, strict=True) if j == i + 1]
    if all(verdict == ClaimVerdict.THE_SAME for verdict in pairs):
        return ClaimVerdict.THE_SAME
    if ClaimVerdict.CONTRADICTED in pairs or ClaimVerdict.THE_SAME in neighbours:
        return ClaimVerdict.CONTRADICTED
    supported = all(verdict == ClaimVerdict.SUPPORTED for verdict in neighbours)
    return ClaimVerdict.SUPPORTED if supported else ClaimVerdict.UNDECIDED
