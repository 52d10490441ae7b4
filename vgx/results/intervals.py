"""What a few seeds can tell: intervals, rank correlation, and how many seeds would have been enough.

The rule, in reports, comparisons and claims alike: the 95 % interval of a mean over seeds is Student's t below
MIN_BOOTSTRAP_SEEDS values and the percentile bootstrap from there on; a single value has none. Where several groups
share one standard deviation (the points of a published curve, two nets at each step and layer) it is Student's with
the pooled degrees of freedom, however many seeds there are. A share of seeds has Wilson's interval; with the spread
that the seeds show, so has the mean of a few values that cannot leave a range. Of several pairs that are compared at
once each has Student's interval at its level in Holm's procedure.

scipy is imported inside the functions: `scipy.stats` takes a second, which a page without intervals need not wait for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

MIN_SEEDS = 3
"""Seeds below which nothing is decided."""
MIN_BOOTSTRAP_SEEDS = 10
"""Seeds below which an interval is Student's; a bootstrap of fewer is too narrow."""
LEVEL = 0.95
RESAMPLES = 10_000
MAX_SEEDS = 1000
"""Seeds beyond which no answer is to be had."""


class Interval(NamedTuple):
    """A mean over seeds, and the interval that holds the true one in `LEVEL` of all cases."""

    mean: float
    low: float
    high: float


def interval_of(values: Sequence[float] | np.ndarray, level: float = LEVEL) -> Interval:
    """Returns the mean of values [n] with its interval.

    It is Student's below MIN_BOOTSTRAP_SEEDS values, else bootstrapped percentiles.

    Infinite for a single value; NaN when a value is.
    """
    values = np.asarray(values, np.float64)
    n, mean = len(values), float(np.mean(values))
    if not np.isfinite(values).all():
        return Interval(mean, math.nan, math.nan)
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    if n < MIN_BOOTSTRAP_SEEDS:
        half = half_width(float(np.std(values, ddof=1)), n, level)
        return Interval(mean, mean - half, mean + half)
    return Interval(mean, *bootstrap(lambda picked: values[picked].mean(-1), n, level))


def interval_within(values: Sequence[float] | np.ndarray, least: float, most: float) -> Interval:
    """Returns the mean of values [n] that lie between `least` and `most`, with an interval that stays there, too.

    It is `score_interval`'s below MIN_BOOTSTRAP_SEEDS values, else `interval_of`'s; and where a value is NaN or alone.
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    if not 1 < n < MIN_BOOTSTRAP_SEEDS or not np.isfinite(values).all():
        return interval_of(values)
    return score_interval(float(values.mean()), float(values.std(ddof=1)), n, least, most)


def score_interval(
    mean: float, std: float, n: int, least: float = 0.0, most: float = 1.0, freedom: int | None = None
) -> Interval:
    """Returns the mean of n values of standard deviation `std` with the score interval of a mean in a range.

    It holds the p with (mean - p)^2 <= t^2 s^2/n p (1 - p) / (mean (1 - mean)), in parts of the range: Wilson's
    interval, with the spread of the values in the place of a coin's, and Student's t. It is `half_width`'s where the
    spread is small against the way to either end. Wilson 1927; Franco, Little, Louis and Slud 2019, Comparative study
    of confidence intervals for proportions in complex sample surveys.

    `freedom` are the degrees that `std` is known with; n - 1 by default.
    """
    width = most - least
    p = (mean - least) / width
    if std == 0 or not 0 < p < 1:
        return Interval(mean, mean, mean)
    a = (half_width(std, n, LEVEL, freedom) / width) ** 2 / (p * (1 - p))
    middle, half = (p + a / 2) / (1 + a), math.sqrt(a * p * (1 - p) + a * a / 4) / (1 + a)
    return Interval(mean, least + width * (middle - half), least + width * (middle + half))


def quantile(freedom: float | np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Returns how many standard errors Student's two-sided interval of a level reaches to either side of a mean."""
    from scipy.special import stdtrit

    return stdtrit(freedom, (1 + level) / 2)


def normal_quantile(level: float = LEVEL) -> float:
    """Returns the same where the standard deviation is known."""
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))


def half_width(std: float, n: int, level: float = LEVEL, freedom: int | None = None) -> float:
    """Returns half of Student's interval around the mean of n values of standard deviation `std`.

    `freedom` are the degrees that `std` is known with; n - 1 by default.
    """
    return float(quantile(freedom or n - 1, level)) * std / math.sqrt(n)


def half_width_of_difference(stds: Sequence[np.ndarray], counts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns half of Student's interval around the difference of two means, with one pooled standard deviation.

    Args:
        stds: of the two groups, [...] each; NaN for a group of fewer than two.
        counts: how many values each has, [...]. NaN is returned where neither has two.
    """
    degrees = [np.maximum(n - 1, 0) for n in counts]
    freedom = degrees[0] + degrees[1]
    square = sum(np.nan_to_num(std) ** 2 * free for std, free in zip(stds, degrees, strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(square / freedom * (1 / counts[0] + 1 / counts[1]))
    return quantile(np.maximum(freedom, 1)) * error


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], n: int, level: float = LEVEL) -> tuple[float, float]:
    """Returns the percentile interval of a statistic over n > 1 seeds; always the same one.

    Args:
        statistic: from indices [..., n] to a figure for each resample, [...].
        n: seeds.
        level: of the interval.

    Efron 1979, Bootstrap methods: another look at the jackknife.
    """
    from scipy import stats

    found = stats.bootstrap(
        (np.arange(n),),
        lambda picked, axis: statistic(picked.astype(int)),
        n_resamples=RESAMPLES,
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.Generator(np.random.PCG64(0)),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Returns the interval of a share, of which `hits` of n were seen.

    Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    from scipy import stats

    found = stats.binomtest(hits, n).proportion_ci(LEVEL, "wilson")
    return float(found.low), float(found.high)


def difference_p(values: np.ndarray) -> float:
    """Returns the two-sided p-value of Student's test that the mean of values [n > 1] is 0; 1 where it is not known."""
    mean, error = _mean_and_error(values)
    return min(1.0, 2 * _above(-abs(mean), error, len(values)))


def equivalence_p(values: np.ndarray, margin: float) -> float:
    """Returns the p-value of the two one-sided tests that the mean of values [n > 1] lies within +-margin.

    It is at most .025 where Student's 95 % interval lies within. Schuirmann 1987, A comparison of the two one-sided
    tests procedure and the power approach for assessing the equivalence of average bioavailability.
    """
    mean, error = _mean_and_error(values)
    return _above(abs(mean) - margin, error, len(values)) if margin > 0 else 1.0


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))


def _above(distance: float, error: float, n: int) -> float:
    """The chance of a mean so far below its limit, if it were the limit; 1 where it is not known."""
    from scipy.special import stdtr

    if not math.isfinite(distance + error):
        return 1.0
    if error == 0:
        return 0.0 if distance < 0 else 1.0
    return float(stdtr(n - 1, distance / error))


def holm_levels(p: Sequence[float] | np.ndarray, alpha: float) -> np.ndarray:
    """Returns the level at which Holm's procedure tests each of m hypotheses: reject where p is at most this.

    In order of p they are alpha / m, alpha / (m - 1), ... as far as the first that is kept, and its level from there
    on: the chance of rejecting any that is true is alpha at the most. Holm 1979, A simple sequentially rejective
    multiple test procedure.

    Args:
        p: the p-values, [m].
        alpha: of all together.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    steps = alpha / (len(p) - np.arange(len(p)))
    kept = np.flatnonzero(~(p[order] <= steps))
    if len(kept):
        steps[kept[0] :] = steps[kept[0]]
    levels = np.empty(len(p))
    levels[order] = steps
    return levels


def kendall(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns Kendall's tau between rankings a [..., n] and b [n]: 1 for the same order, -1 for the opposite one.

    This is tau-a, in which a tie counts for neither, of all rankings at once: scipy has tau-b, of one pair a call, and
    a bootstrap asks for 10,000. The two agree where nothing is tied. Kendall 1938, A new measure of rank correlation.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    first, second = np.triu_indices(len(b), 1)
    agree = np.sign(a[..., first] - a[..., second]) * np.sign(b[first] - b[second])
    return agree.mean(-1)


def seeds_to_tell(distance: float, std: float, seeds: int, level: float = LEVEL) -> int | None:
    """Returns how many more seeds would tell a mean from a limit that is `distance` away, if all stays as it is.

    None when more than MAX_SEEDS would be needed, or when it cannot be known.
    """
    if not (math.isfinite(distance) and math.isfinite(std)) or seeds < 2:
        return None
    low, high = max(seeds, MIN_SEEDS) - 1, MAX_SEEDS + 1
    while high - low > 1:  # the interval narrows with every seed
        n = (low + high) // 2
        low, high = (low, n) if half_width(std, n, level) < abs(distance) else (n, high)
    return max(high - seeds, 1) if high <= MAX_SEEDS else None
