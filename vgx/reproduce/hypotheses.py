"""Comparisons that a claim can name: what its arms measured, against what was published, each other, or theory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

import numpy as np
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vgx.registry import Part, Registry
from vgx.results import bounds
from vgx.results.intervals import (
    LEVEL,
    MAX_SEEDS,
    MIN_SEEDS,
    Interval,
    bootstrap,
    half_width,
    interval_of,
    kendall,
    seeds_to_tell,
    wilson,
)

Arm = dict[str, Any]
"""Which lanes: the value of some swept options, by path."""

GOOD, BAD, OPEN = "supported", "contradicted", "undecided"
SAME, OTHER = "reproduced", "not reproduced"
WORDS = (SAME, GOOD, OTHER, BAD, OPEN)


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
    """supported, contradicted, reproduced, not reproduced or undecided."""
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
    return " ".join(_word(path, value) for path, value in arm.items())


def _word(path: str, value: Any) -> str:
    if isinstance(value, Mapping):
        options = [f"{key} {inner}" for key, inner in value.items() if key != "name"]
        return " ".join([str(value.get("name", "")), *options]).strip()
    if isinstance(value, str) and value != "none":
        return value
    return f"{path.rpartition('.')[2]} {value}"


def _direction(interval: Interval, limit: float) -> str:
    """Whether an interval lies above a limit."""
    if not math.isfinite(interval.low + interval.high):
        return OPEN
    return GOOD if interval.low > limit else BAD if interval.high < limit else OPEN


def _decided(values: np.ndarray, verdict: str) -> str:
    """The verdict, unless too few seeds gave it."""
    return verdict if len(values) >= MIN_SEEDS else OPEN


def _more(values: np.ndarray, limit: float, verdict: str) -> int | None:
    if verdict != OPEN or len(values) < 2:
        return None
    return seeds_to_tell(float(values.mean()) - limit, float(values.std(ddof=1)), len(values))


def _paired(one: Sample, other: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The figures of two arms for the seeds that they share."""
    seeds = [seed for seed in one.values if seed in other.values]
    return np.array([one.values[s] for s in seeds]), np.array([other.values[s] for s in seeds])


def _choices(*samples: Sample) -> str:
    """What was chosen for each arm, in a note."""
    parts = []
    for sample in samples:
        values = ", ".join(_word(path, value) for path, value in sample.chosen.items())
        parts.append(f"{values} (the last one tried)" if sample.at_edge else values)
    return " | ".join(parts) if any(parts) else ""


def _above(what: str, claimed: str, values: np.ndarray, limit: float, sign: int, note: str) -> Finding:
    """Whether the mean lies above a limit, or below it where `sign` is -1."""
    interval = interval_of(values)
    signed = Interval(sign * interval.mean, *sorted((sign * interval.low, sign * interval.high)))
    verdict = _decided(values, _direction(signed, sign * limit))
    return Finding(what, claimed, *interval, verdict, len(values), _more(values, limit, verdict), note)


@COMPARISONS.register("number")
class Number(Hypothesis):
    """A published number, or a curve of them, is ours within a tolerance.

    Reproduced when our mean is, and its interval is no wider than the tolerance; not reproduced when the whole interval
    is outside. The spread over seeds is taken from all points of a curve that have one tolerance.
    """

    formula = "|ours - published| <= tolerance"
    of_number = True

    of: Arm = Field(default_factory=dict)
    """The arm; the only one unless told."""
    minus: Arm | None = None
    """An arm whose figures are taken off, seed by seed."""
    published: Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
    """The number, or one for each point of a curve."""
    tolerance: Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
    """How far ours may be off: one for all, or one for each."""
    over: str | None = None
    """The option of the statistic that a curve goes over, such as epoch."""
    at: Annotated[tuple[float, ...], Field(strict=False)] = ()
    """Its values."""

    @field_validator("published", "tolerance", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _of_one_length(self) -> Number:
        points = len(self.at) if self.over else 1
        if len(self.published) != points or len(self.tolerance) not in (1, points):
            raise PydanticCustomError(
                "points", "a curve has as many values in `at`, `published` and (if more than one) `tolerance`"
            )
        return self

    def arms(self) -> Iterator[Arm]:
        yield self.of
        if self.minus is not None:
            yield self.minus

    def find(self, measured: Measured) -> list[Finding]:
        points = [{self.over: at} for at in self.at] if self.over else [{}]
        tolerances = self.tolerance * (len(points) if len(self.tolerance) == 1 else 1)
        columns = []
        for point in points:
            ours = measured.sample(self.of, point)
            if self.minus is None:
                columns.append(np.array(list(ours.values.values())))
            else:
                a, b = _paired(ours, measured.sample(self.minus, point))
                columns.append(a - b)
        findings = []
        for i, (point, published, tolerance) in enumerate(zip(points, self.published, tolerances, strict=True)):
            alike = [column for column, other in zip(columns, tolerances, strict=True) if other == tolerance]
            what = " ".join(f"{name} {value:g}" for name, value in point.items()) or self._title()
            findings.append(_near(what, columns[i], alike, published, tolerance))
        return findings

    def _title(self) -> str:
        less = f" less {words_of(self.minus)}" if self.minus is not None else ""
        return words_of(self.of) + less


def _near(what: str, values: np.ndarray, alike: Sequence[np.ndarray], published: float, tolerance: float) -> Finding:
    """Whether a mean is near a number; `alike` are figures with the same spread."""
    n, mean = len(values), float(values.mean())
    claimed = f"{published:g} ± {tolerance:g}"
    if n < 2 or not np.isfinite(values).all():
        return Finding(what, claimed, mean, math.nan, math.nan, OPEN, n, None)
    known = [column for column in alike if np.isfinite(column).all()]
    std = math.sqrt(float(np.mean([column.var(ddof=1) for column in known])))
    freedom = (n - 1) * len(known)
    half = half_width(std, n, LEVEL, freedom)
    low, high = mean - half, mean + half
    if abs(mean - published) <= tolerance and half <= tolerance:
        verdict = SAME
    elif low > published + tolerance or high < published - tolerance:
        verdict = OTHER
    else:
        verdict = OPEN
    verdict = _decided(values, verdict)
    edge = tolerance if abs(mean - published) <= tolerance else abs(mean - published) - tolerance
    more = seeds_to_tell(edge, std, n) if verdict == OPEN else None
    return Finding(what, claimed, mean, low, high, verdict, n, more)


@COMPARISONS.register("bound")
class Threshold(Hypothesis):
    """An arm's mean is on one side of a limit."""

    formula = "ours > limit, or ours < limit"

    of: Arm = Field(default_factory=dict)
    """The arm; the only one unless told."""
    holds: str
    """The bound, as '> 0.5' or '< 0.01'."""

    @field_validator("holds")
    @classmethod
    def _one_sided(cls, holds: str) -> str:
        if bounds.parse(holds).compare not in (">", "<", ">=", "<="):
            raise ValueError(f"expected a bound such as '> 0.5' or '< 0.01', found '{holds[:60]}'")
        return holds

    def arms(self) -> Iterator[Arm]:
        yield self.of

    def find(self, measured: Measured) -> list[Finding]:
        bound, sample = bounds.parse(self.holds), measured.sample(self.of)
        values = np.array(list(sample.values.values()))
        sign = 1 if bound.compare in (">", ">=") else -1
        return [_above(words_of(self.of), self.holds, values, bound.number, sign, _choices(sample))]


@COMPARISONS.register("share")
class Share(Hypothesis):
    """A share of an arm's seeds, more than a limit, comes to something. The interval is Wilson's (1927)."""

    formula = "share of seeds in which ours is so > more_than"

    of: Arm = Field(default_factory=dict)
    """The arm; the only one unless told."""
    that: str
    """What a seed comes to, as '< 0.25'."""
    more_than: float = Field(default=0.5, ge=0, lt=1)
    """The share of seeds that is claimed to be exceeded."""

    @field_validator("that")
    @classmethod
    def _bounded(cls, that: str) -> str:
        bounds.parse(that)
        return that

    def arms(self) -> Iterator[Arm]:
        yield self.of

    def find(self, measured: Measured) -> list[Finding]:
        sample, bound = measured.sample(self.of), bounds.parse(self.that)
        hits, n = sum(bound.holds(value) for value in sample.values.values()), len(sample.values)
        found = Interval(hits / n, *wilson(hits, n))
        verdict = _direction(found, self.more_than) if n >= MIN_SEEDS else OPEN
        more = None
        if verdict == OPEN and hits / n != self.more_than:
            likely = (k for k in range(n + 1, MAX_SEEDS) if not _within(wilson(round(hits / n * k), k), self.more_than))
            more = next((k - n for k in likely), None)
        what = f"{words_of(self.of)}: seeds with {self.that}".removeprefix(": ")
        return [Finding(what, f"> {self.more_than:g}", *found, verdict, n, more, _choices(sample))]


def _within(interval: tuple[float, float], limit: float) -> bool:
    return interval[0] <= limit <= interval[1]


class Versus(Hypothesis):
    """Two arms, paired by seed."""

    sign: ClassVar[int]

    arm: Arm
    """The one that is claimed to be ahead."""
    than: Arm
    """The other."""
    by: float = 0.0
    """By how much at least; negative: it may be behind by so much."""

    def arms(self) -> Iterator[Arm]:
        yield self.arm
        yield self.than

    def find(self, measured: Measured) -> list[Finding]:
        one, other = measured.sample(self.arm), measured.sample(self.than)
        a, b = _paired(one, other)
        what = f"{words_of(self.arm)} less {words_of(self.than)}"
        claimed = f"{'>' if self.sign > 0 else '<'} {self.sign * self.by + 0.0:g}"
        return [_above(what, claimed, a - b, self.sign * self.by, self.sign, _choices(one, other))]


@COMPARISONS.register("greater")
class Greater(Versus):
    """One arm's mean is greater than another's, paired by seed."""

    formula = "arm - than > by"
    sign = 1


@COMPARISONS.register("less")
class Less(Versus):
    """One arm's mean is less than another's, paired by seed."""

    formula = "arm - than < -by"
    sign = -1


@COMPARISONS.register("ratio")
class Ratio(Hypothesis):
    """One arm over another, paired by seed, exceeds a number; the mean is the geometric one."""

    formula = "of / to > more_than"

    of: Arm
    """The numerator's arm."""
    to: Arm
    """The denominator's arm."""
    more_than: float = Field(default=1.0, gt=0)
    """What it is claimed to exceed."""

    def arms(self) -> Iterator[Arm]:
        yield self.of
        yield self.to

    def find(self, measured: Measured) -> list[Finding]:
        one, other = measured.sample(self.of), measured.sample(self.to)
        a, b = _paired(one, other)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(a) - np.log(b)
        what = f"{words_of(self.of)} over {words_of(self.to)}"
        found = _above(what, f"> {self.more_than:g}", logs, math.log(self.more_than), 1, _choices(one, other))
        ours, low, high = (math.exp(x) if x < 700 else math.inf for x in (found.ours, found.low, found.high))
        return [found._replace(ours=ours, low=low, high=high)]


@COMPARISONS.register("rank")
class Rank(Hypothesis):
    """The arms' means are in a claimed order, the best first.

    Kendall's tau over all arms, and each pair of neighbours. The order is supported when every pair of neighbours is,
    contradicted when a pair is the other way round, each with the level shared out over the pairs (Bonferroni).
    """

    formula = "mean(first) > mean(second) > ..."

    over: str
    """The option that the arms differ in."""
    order: Annotated[tuple[Any, ...], Field(strict=False, min_length=2)]
    """Its values, the one that is claimed to be best first."""
    less_is_better: bool = False
    """Whether the best is the smallest."""

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
        samples = {_word(self.over, value): measured.sample({self.over: value}) for value in (*order, *others)}
        claimed = list(samples)[: len(order)]
        seeds = sorted(set.intersection(*(set(sample.values) for sample in samples.values())))
        table = {name: np.array([sample.values[seed] for seed in seeds]) for name, sample in samples.items()}
        sign = -1 if self.less_is_better else 1
        pairs = [self._pair(*pair, table, len(claimed) - 1, sign) for pair in pairwise(claimed)]
        return [self._tau(claimed, table, sign, [pair.verdict for pair in pairs]), *self._means(samples, table), *pairs]

    def _tau(self, claimed: list[str], table: Mapping[str, np.ndarray], sign: int, pairs: list[str]) -> Finding:
        values = sign * np.array([table[name] for name in claimed])
        order = -np.arange(len(claimed))
        n = values.shape[1]
        reversed_pairs = [
            _direction(_bonferroni(b - a, math.comb(len(values), 2)), 0.0) == GOOD for a, b in combinations(values, 2)
        ]
        tau = float(kendall(values.mean(1), order))
        low, high = (
            bootstrap(lambda picked: kendall(values[:, picked].mean(-1).T, order), n)
            if n > 1 and np.isfinite(values).all()
            else (math.nan, math.nan)
        )
        verdict = BAD if any(reversed_pairs) else GOOD if all(pair == GOOD for pair in pairs) else OPEN
        observed = sorted(claimed, key=lambda name: -sign * float(table[name].mean()))
        verdict = verdict if n >= MIN_SEEDS else OPEN
        return Finding("Kendall's tau", "1", tau, low, high, verdict, n, None, " > ".join(observed))

    def _means(self, samples: Mapping[str, Sample], table: Mapping[str, np.ndarray]) -> list[Finding]:
        return [
            Finding(name, "", *interval_of(table[name]), "", len(table[name]), None, _choices(sample))
            for name, sample in samples.items()
        ]

    def _pair(self, better: str, worse: str, table: Mapping[str, np.ndarray], pairs: int, sign: int) -> Finding:
        with np.errstate(invalid="ignore"):
            values = sign * (table[better] - table[worse])
        interval = _bonferroni(values, pairs)
        verdict = _decided(values, _direction(interval, 0.0))
        more = _more(values, 0.0, verdict)
        return Finding(f"{better} over {worse}", "> 0", *interval, verdict, len(values), more)


def _bonferroni(values: np.ndarray, pairs: int) -> Interval:
    return interval_of(values, 1 - (1 - LEVEL) / pairs)


@COMPARISONS.register("theory")
class Theory(Hypothesis):
    """An arm's mean is what mean-field theory predicts, within a part of it."""

    formula = "|ours / predicted - 1| <= tolerance"

    of: Arm = Field(default_factory=dict)
    """The arm; the only one unless told."""
    tolerance: float = Field(gt=0)
    """How far ours may be off, in parts of the prediction."""

    def arms(self) -> Iterator[Arm]:
        yield self.of

    def find(self, measured: Measured) -> list[Finding]:
        predicted = measured.predicted(self.of)
        values = np.array(list(measured.sample(self.of).values.values()))
        found = _near(words_of(self.of), values, [values], predicted, self.tolerance * abs(predicted))
        verdict = {SAME: GOOD, OTHER: BAD}.get(found.verdict, found.verdict)
        return [found._replace(claimed=f"{predicted:.4g} ± {self.tolerance:.0%}", verdict=verdict)]


def matches(found: Any, asked: Any) -> bool:
    """Whether an option's value is the one asked for; a bare name fits any options of that part."""
    if found == asked:
        return True
    return isinstance(found, Mapping) and isinstance(asked, str) and found.get("name") == asked
