"""What arms measured becomes a verdict: each comparison on figures whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from vgx.reproduce.experiment import COMPARISONS
from vgx.reproduce.findings import NotMeasured, Sample, matches
from vgx.results.intervals import difference_p, equivalence_p, half_width


class Arms:
    """Arms with given figures, by the value of the one option in which they differ."""

    def __init__(self, figures: dict[Any, list[float]], predicted: float = math.nan, limits=None, beyond=None):
        self.figures, self.of_theory, self.limits, self.beyond = figures, predicted, limits, beyond or {}

    def sample(self, arm, changes=None):
        value = next(iter(arm.values()), "all")
        if changes:
            value = next(iter(changes.values()))
        if value not in self.figures:
            raise NotMeasured
        return Sample(
            dict(enumerate(self.figures[value])), {}, limits=self.limits, beyond=frozenset(self.beyond.get(value, ()))
        )

    def predicted(self, arm, changes=None):
        return self.of_theory

    def values(self, path):
        return list(self.figures)


def find(figures: dict[Any, list[float]], predicted: float = math.nan, **options):
    return COMPARISONS.parse(options).find(Arms(figures, predicted))


def find_in(figures: dict[Any, list[float]], limits=None, beyond=None, **options):
    return COMPARISONS.parse(options).find(Arms(figures, math.nan, limits, beyond))


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ([0.951, 0.953, 0.952], "reproduced"),
        ([0.951, 0.953, 0.974], "undecided"),  # the mean is near, but the interval is wider than the tolerance
        ([0.971, 0.973, 0.972], "not reproduced"),
        ([0.955, 0.956, 0.958], "undecided"),  # the mean is off, but its interval reaches the tolerance
        ([0.952, 0.952], "undecided"),  # two seeds decide nothing
        ([0.952], "undecided"),
        ([0.952, math.nan, 0.952], "undecided"),
    ],
)
def test_a_number_is_reproduced_within_its_tolerance(figures, verdict):
    (found,) = find({"all": figures}, name="number", published=0.95, tolerance=0.005)
    assert found.verdict == verdict
    assert found.seeds == len(figures)


def test_a_curve_has_a_finding_for_each_point_and_one_spread_for_each_tolerance():
    figures = {1.0: [0.90, 0.92, 0.91], 2.0: [0.95, 0.951, 0.952], 3.0: [0.96, 0.962, 0.961]}
    options = {"over": "epoch", "at": [1, 2, 3], "published": [0.91, 0.95, 0.99], "tolerance": [0.05, 0.01, 0.01]}
    first, second, third = find(figures, name="number", **options)
    assert [first.verdict, second.verdict, third.verdict] == ["reproduced", "reproduced", "not reproduced"]
    assert second.high - second.low == pytest.approx(third.high - third.low)
    std = math.sqrt((np.var(figures[2.0], ddof=1) + np.var(figures[3.0], ddof=1)) / 2)
    # 2.776 is Student's quantile for four degrees of freedom
    assert (second.high - second.low) / 2 == pytest.approx(2.776445 * std / math.sqrt(3), rel=1e-5)


def test_a_number_may_be_the_difference_of_two_arms_by_seed():
    figures = {"he": [5.0, 9.0, 7.0], "glorot": [1.0, 5.0, 3.0]}
    arms = {"of": {"init": "glorot"}, "minus": {"init": "he"}}
    (found,) = find(figures, name="number", **arms, published=-4.0, tolerance=1e-4)
    assert found.verdict == "reproduced"
    assert found.low == found.high == found.ours == -4


@pytest.mark.parametrize(
    "options",
    [
        {"published": [1, 2], "tolerance": 0.1},
        {"published": [1, 2], "tolerance": [0.1], "over": "epoch", "at": [1, 2, 3]},
        {"published": [1, 2], "tolerance": [0.1] * 3, "over": "epoch", "at": [1, 2]},
    ],
)
def test_a_curve_needs_as_many_points_everywhere(options):
    with pytest.raises(ValidationError, match="as many values"):
        COMPARISONS.parse({"name": "number"} | options)


def test_arms_are_paired_by_seed():
    # each arm ranges over .2, the differences over .002
    figures = {"a": [0.7, 0.8, 0.9, 0.75], "b": [0.69, 0.789, 0.892, 0.739]}
    (found,) = find(figures, name="greater", arm={"p": "a"}, than={"p": "b"})
    assert found.verdict == "supported"
    assert found.ours == pytest.approx(0.01, abs=1e-3)
    (found,) = find(figures, name="less", arm={"p": "a"}, than={"p": "b"})
    assert found.verdict == "contradicted"
    assert find(figures, name="less", arm={"p": "b"}, than={"p": "a"})[0].verdict == "supported"


def test_a_margin_moves_the_limit():
    figures = {"a": [0.70, 0.71, 0.72], "b": [0.705, 0.716, 0.724]}
    arms = {"arm": {"p": "a"}, "than": {"p": "b"}}
    assert find(figures, name="greater", **arms)[0].verdict == "contradicted"
    assert find(figures, name="greater", **arms, by=-0.01)[0].verdict == "supported"
    assert find(figures, name="less", **arms, by=0.01)[0].verdict == "contradicted"


def test_what_is_undecided_says_how_many_more_seeds_would_decide_it():
    figures = {"a": [0.0, 0.02, 0.04], "b": [0.0, 0.0, 0.0]}
    (found,) = find(figures, name="greater", arm={"p": "a"}, than={"p": "b"})
    assert found.verdict == "undecided"
    # Student's 2.571 of six values: 2.571 * .02 / sqrt(6) = .0210 > .02; of seven 2.447 * .02 / sqrt(7) = .0185
    assert found.more == 4


@pytest.mark.parametrize(
    ("bound", "verdict"), [("> 0.5", "supported"), ("< 0.5", "contradicted"), ("> 0.61", "undecided")]
)
def test_a_bound_is_on_one_side_or_the_other(bound, verdict):
    (found,) = find({"all": [0.58, 0.61, 0.63]}, name="bound", holds=bound)
    assert found.verdict == verdict


def test_a_bound_has_two_sides_and_not_three():
    with pytest.raises(ValidationError, match="expected a bound"):
        COMPARISONS.parse({"name": "bound", "holds": "0 +- 1"})


def test_a_ratio_is_a_geometric_mean():
    figures = {"plain": [100.0, 400.0, 200.0], "batch": [50.0, 100.0, 100.0]}
    (found,) = find(figures, name="ratio", of={"p": "plain"}, to={"p": "batch"})
    assert found.ours == pytest.approx(16 ** (1 / 3))
    assert found.low < found.ours < found.high
    flat = {"plain": [300.0, 310.0, 290.0], "batch": [100.0, 100.0, 100.0]}
    (found,) = find(flat, name="ratio", of={"p": "plain"}, to={"p": "batch"})
    assert found.verdict == "supported"
    (found,) = find(flat, name="ratio", of={"p": "plain"}, to={"p": "batch"}, more_than=14)
    assert found.verdict == "contradicted"


def test_a_share_of_seeds_counts_them():
    figures = {"all": [0.2] * 9 + [0.97]}
    (found,) = find(figures, name="share", that="< 0.3")
    assert (found.ours, found.verdict) == (0.9, "supported")
    (found,) = find({"all": [0.2, 0.2, 0.9, 0.9, 0.9, 0.9]}, name="share", that="< 0.3")
    assert found.verdict == "undecided"
    assert found.more is not None


ORDER = {"name": "rank", "over": "p", "order": ["elu", "relu", "tanh"]}


def test_an_order_is_supported_when_every_pair_of_neighbours_is():
    steps = np.array([0.0, 0.001, -0.001, 0.0005])
    figures = {"tanh": list(0.8 + steps), "relu": list(0.85 + 2 * steps), "elu": list(0.9 - steps)}
    tau, *rest = find(figures, **ORDER)
    assert (tau.ours, tau.low, tau.high, tau.verdict) == (1, 1, 1, "supported")
    assert tau.note == "elu > relu > tanh"
    assert [one.what for one in rest] == ["elu", "relu", "tanh", "elu - relu", "elu - tanh", "relu - tanh"]


def test_an_order_is_contradicted_by_one_pair_that_is_the_other_way_round():
    figures = {"elu": [0.85, 0.851, 0.849], "relu": [0.9, 0.901, 0.902], "tanh": [0.8, 0.801, 0.802]}
    tau, *_ = find(figures, **ORDER)
    assert tau.verdict == "contradicted"
    assert tau.ours == pytest.approx(1 / 3)
    upside_down, *_ = find(figures, **ORDER, less_is_better=True)
    assert upside_down.ours == pytest.approx(-1 / 3)


def test_an_order_is_open_where_neighbours_are_alike():
    figures = {"elu": [0.90, 0.91, 0.92], "relu": [0.91, 0.90, 0.92], "tanh": [0.8, 0.8, 0.8]}
    assert find(figures, **ORDER)[0].verdict == "undecided"


def test_an_arm_beside_the_claimed_order_is_shown_and_does_not_count():
    figures = {"elu": [0.9] * 3, "relu": [0.85] * 3, "tanh": [0.8] * 3, "mish": [0.95] * 3}
    tau, *rest = find(figures, **ORDER)
    assert tau.ours == 1
    assert [one.what for one in rest][:4] == ["elu", "relu", "tanh", "mish"]


def test_a_smaller_grid_ranks_the_arms_it_has():
    assert find({"elu": [0.9] * 3, "tanh": [0.8] * 3}, **ORDER)[0].ours == 1
    with pytest.raises(NotMeasured):
        find({"elu": [0.9] * 3}, **ORDER)


DRAWS = np.random.default_rng(3).normal(0, 0.002, (4, 10))


def arms_apart(*means: float) -> dict[str, list[float]]:
    names = ("elu", "relu", "tanh", "mish")
    return {name: list(mean + draws) for name, mean, draws in zip(names, means, DRAWS, strict=False)}


def test_pairs_of_an_order_are_tested_by_holms_procedure():
    figures = arms_apart(0.905, 0.901, 0.9)
    pairs = find(figures, **ORDER)[4:]
    values = [np.subtract(figures[a], figures[b]) for a, b in (pair.what.split(" - ") for pair in pairs)]
    p = [difference_p(one) for one in values]
    level, kept = 0.0, False
    for place, i in enumerate(np.argsort(p)):
        level = level if kept else 0.05 / (3 - place)
        kept = kept or p[i] > level
        assert (pairs[i].verdict == "supported") == (not kept)
        half = half_width(float(values[i].std(ddof=1)), 10, 1 - level)
        assert (pairs[i].low, pairs[i].high) == pytest.approx((values[i].mean() - half, values[i].mean() + half))
    assert 0 < sum(pair.verdict == "supported" for pair in pairs) < 3


def test_neighbours_within_a_margin_are_the_same_and_contradict_an_order():
    figures = arms_apart(0.9, 0.9005, 0.8)
    tau, *rest = find(figures, **ORDER, margin=0.005)
    assert [one.verdict for one in rest[3:]] == ["the same", "supported", "supported"]
    assert tau.verdict == "contradicted"
    assert find(figures, **ORDER)[0].verdict == "undecided"
    assert find(arms_apart(0.9, 0.9005, 0.8995), **ORDER, margin=0.01)[0].verdict == "the same"


@pytest.mark.parametrize("margin", [0.001, 0.003, 0.005, 0.01])
def test_what_a_pair_is_said_to_be_can_be_read_off_its_interval(margin):
    for spread in np.linspace(0, 0.004, 9):
        figures = arms_apart(0.9 + spread, 0.9, 0.9015)
        for pair in find(figures, **ORDER, margin=margin)[4:]:
            within, over, under = max(-pair.low, pair.high) <= margin, pair.low > 0, pair.high < 0
            expected = "the same" if within else "supported" if over else "contradicted" if under else "undecided"
            assert pair.verdict == expected


@pytest.mark.parametrize("margin", [0.0005, 0.002, 0.005])
def test_two_arms_are_the_same_where_the_whole_interval_lies_within_the_margin(margin):
    figures = arms_apart(0.9, 0.9005)
    arms = {"arm": {"p": "elu"}, "than": {"p": "relu"}}
    (found,) = find(figures, name="greater", **arms, margin=margin)
    values = np.subtract(figures["elu"], figures["relu"])
    within = bool(max(abs(found.low), abs(found.high)) <= margin)
    assert (found.verdict == "the same") == within == (equivalence_p(values, margin) <= 0.025)
    assert found.high - found.low == pytest.approx(2 * half_width(float(values.std(ddof=1)), 10))
    assert find(figures, name="less", **arms, margin=margin)[0].verdict == found.verdict


def test_a_difference_smaller_than_the_margin_is_none_even_if_it_is_sure():
    figures = {"a": [0.9020, 0.9021, 0.9019, 0.9020], "b": [0.9] * 4}
    arms = {"arm": {"p": "a"}, "than": {"p": "b"}}
    assert find(figures, name="greater", **arms)[0].verdict == "supported"
    assert find(figures, name="greater", **arms, margin=0.005)[0].verdict == "the same"


def test_one_arm_against_several_shares_the_level_out():
    figures = arms_apart(0.9035, 0.9015, 0.9, 0.9)
    others = [{"p": "relu"}, {"p": "tanh"}, {"p": "mish"}]
    found = find(figures, name="greater", arm={"p": "elu"}, than=others)
    assert [one.what for one in found] == ["elu - relu", "elu - tanh", "elu - mish"]
    (alone,) = find(figures, name="greater", arm={"p": "elu"}, than=others[:1], margin=1e-9)
    assert found[0].high - found[0].low >= alone.high - alone.low


def test_a_margin_and_a_limit_do_not_stand_together():
    with pytest.raises(ValidationError, match="leave one out"):
        COMPARISONS.parse({"name": "greater", "arm": {"p": 1}, "than": {"p": 2}, "by": 0.1, "margin": 0.1})


def test_a_share_of_units_stays_a_share():
    figures = {"all": [1.0, 1.0, 0.45, 1.0, 1.0]}
    assert find_in(figures, name="bound", holds="> 0.5")[0].high > 1
    (found,) = find_in(figures, (0.0, 1.0), name="bound", holds="> 0.5")
    assert 0 < found.low < found.ours == 0.89 < found.high < 1
    assert find_in(figures, (0.0, 1.0), name="number", published=0.9, tolerance=0.1)[0].high < 1
    (found,) = find_in(figures | {"b": [0.0] * 5}, (0.0, 1.0), name="less", arm={"p": "b"}, than={"p": "all"})
    assert -1 < found.low < -0.89 < found.high
    order = {"name": "rank", "over": "p", "order": ["all", "b"]}
    tau, mean, _, pair = find_in(figures | {"b": [0.0] * 5}, (0.0, 1.0), **order)
    assert mean.high < 1
    assert pair.high <= 1
    assert tau.verdict == "supported"


def test_an_exact_number_is_that_of_every_seed():
    assert find({"all": [0.0, 0.0, 0.0]}, name="bound", holds="== 0")[0].verdict == "supported"
    assert find({"all": [0.0, 0.0]}, name="bound", holds="== 0")[0].verdict == "undecided"
    assert find({"all": [0.0, math.nan, 0.0]}, name="bound", holds="== 0")[0].verdict == "undecided"
    (found,) = find({"all": [0.0, 0.0, 1e-9, 0.0]}, name="bound", holds="== 0")
    assert (found.verdict, found.note) == ("contradicted", "not so in 1 of 4 seeds")


@pytest.mark.parametrize(
    ("beyond", "more_than", "bound", "verdict"),
    [
        ({}, 2, "", "supported"),
        ({"plain": [1]}, 2, ">", "supported"),
        ({"plain": [1]}, 14, ">", "undecided"),  # the true ratio may be larger
        ({"batch": [0]}, 2, "<", "undecided"),
        ({"batch": [0]}, 14, "<", "contradicted"),
        ({"batch": [0], "plain": [0]}, 2, "?", "undecided"),
    ],
)
def test_a_ratio_of_runs_that_ended_too_soon_is_a_bound(beyond, more_than, bound, verdict):
    figures = {"plain": [300.0, 310.0, 290.0], "batch": [100.0, 100.0, 100.0]}
    arms = {"of": {"p": "plain"}, "to": {"p": "batch"}}
    (found,) = find_in(figures, None, beyond, name="ratio", **arms, more_than=more_than)
    assert (found.bound, found.verdict) == (bound, verdict)
    assert found.more is None
    assert found.ours == pytest.approx(300, rel=1e-2) or found.ours == pytest.approx(3, rel=1e-2)


def test_a_difference_of_bounds_decides_in_one_direction_alone():
    figures = {"a": [300.0, 310.0, 290.0], "b": [100.0, 101.0, 102.0]}
    arms = {"arm": {"p": "a"}, "than": {"p": "b"}}
    for name, verdict in (("greater", "supported"), ("less", "contradicted")):
        assert find_in(figures, None, {"a": [0]}, name=name, **arms)[0].verdict == verdict
        assert find_in(figures, None, {"b": [0]}, name=name, **arms)[0].verdict == "undecided"
    assert find_in(figures, None, {"a": [0]}, name="bound", of={"p": "a"}, holds="< 400")[0].verdict == "undecided"
    assert find_in(figures, None, {"a": [0]}, name="bound", of={"p": "a"}, holds="> 200")[0].verdict == "supported"


def test_theory_holds_within_a_part_of_the_prediction():
    assert find({"all": [1.45, 1.47, 1.46]}, 1.4669, name="theory", tolerance=0.03)[0].verdict == "supported"
    assert find({"all": [1.65, 1.67, 1.66]}, 1.4669, name="theory", tolerance=0.03)[0].verdict == "contradicted"


def test_a_difference_from_theory_is_stated_where_the_interval_leaves_it_out():
    (found,) = find({"all": [1.50, 1.51, 1.52]}, 1.4669, name="theory", tolerance=0.05)
    assert found.note == "off by +2.9% [+1.2%, +4.6%]"
    assert find({"all": [1.45, 1.47, 1.46]}, 1.4669, name="theory", tolerance=0.05)[0].note == ""


def test_theorys_curve_has_a_point_for_each_stretch_of_layers():
    figures = {(1, 5): [0.7, 0.71, 0.72], (1, 9): [0.8, 0.81, 0.82]}
    first, second = find(figures, 0.81, name="theory", tolerance=0.05, at=[[1, 5], [1, 9]])
    assert [first.what, second.what] == ["layers 1 to 5", "layers 1 to 9"]
    assert (first.verdict, second.verdict) == ("contradicted", "supported")


def test_a_bare_name_is_a_part_with_any_options():
    assert matches({"name": "leaky_relu", "negative_slope": 0.2}, "leaky_relu")
    assert not matches({"name": "leaky_relu"}, "relu")
    assert not matches("relu", {"name": "relu", "x": 1})
    assert matches(0.1, 0.1)


def test_every_comparison_says_what_it_is():
    for comparison in COMPARISONS:
        assert comparison.summary().endswith(".")
        assert comparison.formula
