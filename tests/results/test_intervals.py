"""Intervals, rank correlation and seeds that are wanting, against scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vgx.results.intervals import (
    MIN_BOOTSTRAP_SEEDS,
    RESAMPLES,
    bootstrap,
    difference_p,
    equivalence_p,
    half_width,
    half_width_of_difference,
    holm_levels,
    interval_of,
    interval_within,
    kendall,
    quantile,
    score_interval,
    seeds_to_tell,
    wilson,
)


def test_few_values_have_students_interval():
    values = [0.91, 0.93, 0.90, 0.94]
    mean, low, high = interval_of(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (low, high) == pytest.approx(expected, rel=1e-12)
    assert mean == pytest.approx(np.mean(values))


def test_students_quantiles_are_the_closed_forms_of_one_and_two_degrees():
    assert quantile(1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-12)
    assert quantile(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)
    assert half_width(3.0, 4, freedom=1) == pytest.approx(1.5 * math.tan(0.475 * math.pi), rel=1e-12)


@pytest.mark.parametrize("counts", [(2, 3), (1, 4), (12, 30)])
def test_the_difference_of_two_means_has_students_pooled_interval(counts):
    random = np.random.Generator(np.random.PCG64(5))
    a, b = (random.normal(scale=2.0, size=n) for n in counts)
    stds = [x.std(ddof=1) if len(x) > 1 else np.nan for x in (a, b)]
    half = half_width_of_difference([np.array([std]) for std in stds], [np.array([n]) for n in counts])
    if min(counts) > 1:
        theirs = stats.ttest_ind(a, b, equal_var=True).confidence_interval(0.95)
        assert half == pytest.approx((theirs.high - theirs.low) / 2, rel=1e-12)
    else:  # the one value joins the other group's spread
        assert half == pytest.approx(stats.t.ppf(0.975, 3) * stds[1] * math.sqrt(1 + 1 / 4), rel=1e-12)
    nothing = half_width_of_difference([np.array([np.nan])] * 2, [np.array([1])] * 2)
    assert np.isnan(nothing).all()


def test_the_rule_changes_at_ten_values():
    values = np.random.Generator(np.random.PCG64(2)).normal(size=MIN_BOOTSTRAP_SEEDS)
    few = values[:-1]
    assert interval_of(few)[1:] == pytest.approx(stats.t.interval(0.95, 8, few.mean(), stats.sem(few)), rel=1e-12)
    picked = np.random.Generator(np.random.PCG64(0)).integers(len(values), size=(RESAMPLES, len(values)))
    percentiles = np.quantile(values[picked].mean(-1), [0.025, 0.975])
    assert interval_of(values)[1:] == pytest.approx(percentiles, rel=1e-12)


def test_many_values_have_percentiles_of_resampled_means():
    values = np.random.Generator(np.random.PCG64(3)).exponential(size=40)
    _, low, high = interval_of(values)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1))
    # two runs of a bootstrap of 10,000 agree to about a hundredth of the width
    width = high - low
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.05 * width)
    assert interval_of(values) == interval_of(values)


def test_an_interval_of_normal_values_covers_the_mean_as_often_as_it_says():
    random = np.random.Generator(np.random.PCG64(0))
    covered = [low <= 0 <= high for _, low, high in (interval_of(random.normal(size=5)) for _ in range(2000))]
    # a binomial of 2000 at .95 has a deviation of .0049
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_one_value_says_nothing_and_a_missing_one_leaves_no_interval():
    assert interval_of([1.0]) == (1.0, -math.inf, math.inf)
    assert np.isnan(interval_of([1.0, math.nan, 2.0])[1:]).all()
    assert interval_of([2.0] * MIN_BOOTSTRAP_SEEDS) == (2.0, 2.0, 2.0)


def test_kendalls_tau_is_scipys_and_broadcasts():
    random = np.random.Generator(np.random.PCG64(0))
    a, b = random.normal(size=(20, 6)), random.normal(size=6)
    assert kendall(a, b) == pytest.approx([stats.kendalltau(row, b).statistic for row in a])
    assert kendall([1, 2, 3], [1, 2, 3]) == 1
    assert kendall([3, 2, 1], [1, 2, 3]) == -1
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (1, 2), (40, 50)])
def test_a_shares_interval_is_wilsons(hits, n):
    theirs = stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(3, 10), (1, 4), (49, 50)])
def test_the_score_interval_of_a_coins_spread_is_wilsons(hits, n):
    share = hits / n
    found = score_interval(share, math.sqrt(share * (1 - share)), n, freedom=10**9)
    assert found[1:] == pytest.approx(wilson(hits, n), rel=1e-6)


@pytest.mark.parametrize("values", [[1, 1, 0.45, 1, 1], [0.0, 0.0, 0.1], [0.98, 0.99, 1.0, 1.0]])
def test_a_few_values_of_a_range_have_an_interval_inside_it(values):
    mean, low, high = interval_within(values, 0, 1)
    t, error = stats.t.ppf(0.975, len(values) - 1), stats.sem(values)
    for end in (low, high):  # the ends solve the quadratic that defines them
        p = np.mean(values)
        assert (p - end) ** 2 == pytest.approx(t**2 * error**2 * end * (1 - end) / (p * (1 - p)))
    assert 0 <= low < mean < high <= 1
    shifted = interval_within(2 * np.array(values) - 1, -1, 1)
    assert shifted == pytest.approx([2 * end - 1 for end in (mean, low, high)])


def test_far_from_the_ends_it_is_students_and_with_no_spread_it_is_a_point():
    values = np.array([0.501, 0.499, 0.5002, 0.4998])
    assert interval_within(values, 0, 1) == pytest.approx(interval_of(values), abs=1e-5)
    assert interval_within([1.0, 1.0, 1.0], 0, 1) == (1, 1, 1)
    assert interval_within([0.4], 0, 1) == interval_of([0.4])
    assert math.isnan(interval_within([0.4, math.nan, 0.3], 0, 1).low)
    many = np.random.default_rng(0).uniform(0, 1, MIN_BOOTSTRAP_SEEDS)
    assert interval_within(many, 0, 1) == interval_of(many)


def test_a_range_keeps_what_it_says_near_its_end():
    draws = np.random.default_rng(0).beta(18, 2, (1000, 5))  # of mean .9
    held = np.mean([low <= 0.9 <= high for _, low, high in (interval_within(row, 0, 1) for row in draws)])
    assert 0.92 < held < 0.99


@pytest.mark.parametrize("margin", [0.005, 0.02])
def test_p_values_are_scipys_of_one_test_and_of_the_two_one_sided_ones(margin):
    values = np.array([0.003, 0.001, -0.002, 0.004, 0.0015, 0.008])
    assert difference_p(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    lower = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    upper = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert equivalence_p(values, margin) == pytest.approx(max(lower, upper))
    _, low, high = interval_of(values)
    assert (equivalence_p(values, margin) <= 0.025) == (-margin <= low and high <= margin)


def test_p_values_of_figures_without_spread_or_that_are_missing():
    assert (difference_p(np.zeros(3)), difference_p(np.ones(3))) == (1, 0)
    assert (equivalence_p(np.zeros(3), 0.1), equivalence_p(np.ones(3), 0.1), equivalence_p(np.zeros(3), 0)) == (0, 1, 1)
    assert difference_p(np.array([1, math.nan, 1])) == equivalence_p(np.array([1, math.nan, 1]), 9) == 1


def holm_adjusted(p: list[float]) -> list[float]:
    """As R's p.adjust(p, "holm") has it, written out."""
    order, adjusted, worst = sorted(range(len(p)), key=lambda i: p[i]), [0.0] * len(p), 0.0
    for place, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - place) * p[i]))
        adjusted[i] = worst
    return adjusted


def test_holms_procedure_rejects_what_its_adjusted_p_values_reject():
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R's
    levels = holm_levels([0.01, 0.04, 0.03, 0.005], 0.05)
    assert levels == pytest.approx([0.05 / 3, 0.025, 0.025, 0.0125])
    for p in np.random.default_rng(0).uniform(0, 0.05, (50, 6)):
        assert (p <= holm_levels(p, 0.05)).tolist() == [one <= 0.05 for one in holm_adjusted(p.tolist())]


def test_seeds_that_are_wanting_are_the_first_number_whose_interval_is_narrow_enough():
    more = seeds_to_tell(0.01, 0.02, 5)
    assert more is not None
    n = 5 + more
    assert half_width(0.02, n) < 0.01 <= half_width(0.02, n - 1)
    assert seeds_to_tell(1e-6, 1.0, 5) is None
    assert seeds_to_tell(math.nan, 1.0, 5) is None


def test_a_bootstrap_resamples_seeds_of_all_arms_together():
    values = np.array([[1.0, 2.0, 3.0], [1.5, 2.5, 3.5]])
    low, high = bootstrap(lambda picked: values[1, picked].mean(-1) - values[0, picked].mean(-1), 3)
    assert (low, high) == pytest.approx((0.5, 0.5))
