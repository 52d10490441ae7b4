"""What a few seeds can tell: intervals, rank correlation, and how many seeds would have been enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

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


def half_width(std: float, n: int, level: float = LEVEL, freedom: int | None = None) -> float:
    """Returns half of Student's interval around the mean of n values of standard deviation `std`.

    `freedom` are the degrees that `std` is known with, n - 1 unless told.
    """
    return float(stdtrit(freedom or n - 1, (1 + level) / 2)) * std / math.sqrt(n)


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], n: int, level: float = LEVEL) -> tuple[float, float]:
    """Returns the percentile interval of a statistic over n seeds; always the same one.

    Args:
        statistic: from indices [RESAMPLES, n] to a figure for each resample, [RESAMPLES].
        n: seeds.
        level: of the interval.

    Efron 1979, Bootstrap methods: another look at the jackknife.
    """
    random = np.random.Generator(np.random.PCG64(0))
    figures = statistic(random.integers(n, size=(RESAMPLES, n)))
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Returns the interval of a share, of which `hits` of n were seen.

    Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    share, normal = hits / n, float(ndtri((1 + LEVEL) / 2))
    square = normal**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = normal / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def kendall(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns Kendall's tau between rankings a [..., n] and b [n]: 1 for the same order, -1 for the opposite one.

    A tie counts for neither. Kendall 1938, A new measure of rank correlation.
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
