"""What a few seeds can tell: intervals, rank correlation, and how many seeds would have been enough.

The rule, in reports, comparisons and claims alike: the 95 % interval of a mean over seeds is Student's t below
MIN_BOOTSTRAP_SEEDS values and the percentile bootstrap from there on; a single value has none. Where several groups
share one standard deviation (the points of a published curve, two nets at each step and layer) it is Student's with
the pooled degrees of freedom, however many seeds there are. A share of seeds has Wilson's interval.

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
