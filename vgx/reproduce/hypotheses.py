"""The comparisons that a claim can name: an arm against a published number, a limit, or theory; two in a ratio."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vgx.reproduce.findings import (
    COMPARISONS,
    Arm,
    ClaimVerdict,
    Finding,
    Hypothesis,
    Measured,
    Sample,
    above,
    bounded,
    choices,
    decided,
    direction,
    near,
    paired,
    words_of,
)
from vgx.results import bounds
from vgx.results.intervals import (
    MAX_SEEDS,
    MIN_SEEDS,
    Interval,
    interval_of,
    interval_within,
    wilson,
)

OneOrMoreNumbers = float | Annotated[list[float], Field(min_length=1)]


@COMPARISONS.register("number")
class Number(Hypothesis):
    """A published number, or a curve of them, is ours within a tolerance.

    Reproduced when our mean is, and its interval is no wider than the tolerance; not reproduced when the whole interval
    is outside. The spread over seeds is taken from all points of a curve that have one tolerance.
    """

    formula = "|ours - published| <= tolerance"
    of_number = True

    of: Arm = Field(default_factory=dict)
    """The arm; the only one by default."""
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

    @field_validator("published", "tolerance", mode="before", json_schema_input_type=OneOrMoreNumbers)
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
        columns, limits = [], None
        for point in points:
            ours = measured.sample(self.of, point)
            if self.minus is None:
                columns.append(np.array(list(ours.values.values())))
                limits = ours.limits
            else:
                a, b = paired(ours, measured.sample(self.minus, point))
                columns.append(a - b)
        findings = []
        for i, (point, published, tolerance) in enumerate(zip(points, self.published, tolerances, strict=True)):
            alike = [column for column, other in zip(columns, tolerances, strict=True) if other == tolerance]
            what = " ".join(f"{name} {value:g}" for name, value in point.items()) or self._title()
            findings.append(near(what, columns[i], alike, published, tolerance, limits))
        return findings

    def _title(self) -> str:
        less = f" - {words_of(self.minus)}" if self.minus is not None else ""
        return words_of(self.of) + less


@COMPARISONS.register("bound")
class Threshold(Hypothesis):
    """An arm's mean is on one side of a limit; or each of its seeds is a number exactly."""

    formula = "ours > limit, ours < limit, or every seed == number"

    of: Arm = Field(default_factory=dict)
    """The arm; the only one by default."""
    holds: str
    """The bound, as '> 0.5', '< 0.01' or '== 0'; the last is contradicted by a single seed."""

    @field_validator("holds")
    @classmethod
    def _one_sided(cls, holds: str) -> str:
        if bounds.parse(holds).compare == "+-":
            raise ValueError(f"expected a bound such as '> 0.5', '< 0.01' or '== 0', found '{holds[:60]}'")
        return holds

    def arms(self) -> Iterator[Arm]:
        yield self.of

    def find(self, measured: Measured) -> list[Finding]:
        bound, sample = bounds.parse(self.holds), measured.sample(self.of)
        values = np.array(list(sample.values.values()))
        if bound.compare == "==":
            return [self._exact(sample, values, bound)]
        sign = 1 if bound.compare in (">", ">=") else -1
        found = above(words_of(self.of), self.holds, values, bound.number, sign, choices(sample), sample.limits)
        return [bounded(found, sign, sample)]

    def _exact(self, sample: Sample, values: np.ndarray, bound: bounds.Bound) -> Finding:
        """Whether every seed has the number."""
        others = sum(not bound.holds(value) for value in values)
        interval = interval_of(values) if sample.limits is None else interval_within(values, *sample.limits)
        verdict = ClaimVerdict.CONTRADICTED if others else ClaimVerdict.SUPPORTED
        verdict = decided(values, verdict) if np.isfinite(values).all() else ClaimVerdict.UNDECIDED
        note = "; ".join(
            filter(None, (choices(sample), f"not so in {others} of {len(values)} seeds" if others else ""))
        )
        return Finding(words_of(self.of), self.holds, *interval, verdict, len(values), None, note)


@COMPARISONS.register("share")
class Share(Hypothesis):
    """A share of an arm's seeds, more than a limit, comes to something. The interval is Wilson's (1927)."""

    formula = "share of seeds in which ours is so > more_than"

    of: Arm = Field(default_factory=dict)
    """The arm; the only one by default."""
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
        verdict = direction(found, self.more_than) if n >= MIN_SEEDS else ClaimVerdict.UNDECIDED
        more = None
        if verdict == ClaimVerdict.UNDECIDED and hits / n != self.more_than:
            likely = (k for k in range(n + 1, MAX_SEEDS) if not _within(wilson(round(hits / n * k), k), self.more_than))
            more = next((k - n for k in likely), None)
        what = f"{words_of(self.of)}: seeds with {self.that}".removeprefix(": ")
        return [Finding(what, f"> {self.more_than:g}", *found, verdict, n, more, choices(sample))]


def _within(interval: tuple[float, float], limit: float) -> bool:
    return interval[0] <= limit <= interval[1]


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
        a, b = paired(one, other)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(a) - np.log(b)
        what = f"{words_of(self.of)} / {words_of(self.to)}"
        found = above(what, f"> {self.more_than:g}", logs, math.log(self.more_than), 1, choices(one, other))
        found = bounded(found, 1, one, other)
        ours, low, high = (math.exp(x) if x < 700 else math.inf for x in (found.ours, found.low, found.high))
        return [found._replace(ours=ours, low=low, high=high)]


@COMPARISONS.register("theory")
class Theory(Hypothesis):
    """An arm's mean is what mean-field theory predicts, within a part of it; or a curve of them over layers is.

    Where the interval leaves the prediction out, by how much ours is off is said beside it.
    """

    formula = "|ours / predicted - 1| <= tolerance"

    of: Arm = Field(default_factory=dict)
    """The arm; the only one by default."""
    tolerance: float = Field(gt=0)
    """How far ours may be off, in parts of the prediction."""
    at: Annotated[tuple[Annotated[tuple[int, int], Field(strict=False)], ...], Field(strict=False)] = ()
    """The layers of each point of a curve, first and last, instead of the statistic's."""

    def arms(self) -> Iterator[Arm]:
        yield self.of

    def find(self, measured: Measured) -> list[Finding]:
        points = [{"layers": layers} for layers in self.at] or [{}]
        return [self._point(measured, point) for point in points]

    def _point(self, measured: Measured, point: dict[str, tuple[int, int]]) -> Finding:
        predicted = measured.predicted(self.of, point)
        values = np.array(list(measured.sample(self.of, point).values.values()))
        what = f"layers {point['layers'][0]} to {point['layers'][1]}" if point else words_of(self.of)
        found = near(what, values, [values], predicted, self.tolerance * abs(predicted))
        of_claim: dict[str, str] = {
            ClaimVerdict.REPRODUCED: ClaimVerdict.SUPPORTED,
            ClaimVerdict.NOT_REPRODUCED: ClaimVerdict.CONTRADICTED,
        }
        verdict = of_claim.get(found.verdict, found.verdict)
        note = ""
        if found.low > predicted or found.high < predicted:
            off, low, high = (x / predicted - 1 for x in (found.ours, found.low, found.high))
            note = f"off by {off:+.1%} [{low:+.1%}, {high:+.1%}]"
        return found._replace(claimed=f"{predicted:.4g} ± {self.tolerance:.0%}", verdict=verdict, note=note)
