"""Profiles and nets whose word an expert knows, and the figures that the evidence must give; docs/verdicts.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vgx
from vgx.results.lane_results import judge_lanes
from vgx.results.verdict import DEAD_LAYER, SPAN, WORDS, ZEROS, Fit, LayerCurves, judge, largest_change, rules_table

FLAT = np.zeros(20)


def through(*points: float) -> np.ndarray:
    """The gradient of 20 layers from the bottom to the top: straight lines through these points."""
    return np.interp(np.linspace(0, 1, 20), np.linspace(0, 1, len(points)), points)


def among(layers: int, value: float, *places: int, others: float = 0.0) -> np.ndarray:
    """A share of each layer: `value` in the layers numbered, `others` in the others."""
    found = np.full(layers, others)
    found[np.array(places, int) - 1] = value
    return found


def dip(depth: float, after: float = 0.0) -> np.ndarray:
    """From the top straight down to `depth` in layer 10, and straight to `after` at the bottom."""
    return np.interp(np.arange(1, 21), [1, 10, 20], [after, depth, 0])


PROFILES = {
    "level": ("healthy", "+0.0 from top to bottom", FLAT),
    "one layer": ("healthy", "the gradient keeps its size", np.zeros(1)),
    "a decade down": ("healthy", "-1.0 from top to bottom", through(-1, 0)),
    "just below the threshold": ("healthy", "-1.9 from top to bottom", through(-1.94, 0)),
    "a step of 1.5 decades": ("healthy", "-1.5 from top to bottom", np.repeat([-1.5, 0.0], 10)),
    "a step of 1.5 decades up": ("healthy", "+1.5 from top to bottom", np.repeat([1.5, 0.0], 10)),
    "a dip of 1.5 decades": ("healthy", "-1.5 from layer 20 to layer 10, recovers by +1.5", among(20, -1.5, 10)),
    "noise of a quarter decade": ("healthy", "keeps its size", np.random.default_rng(0).normal(0, 0.25, 20)),
    "twelve decades down": ("vanishing", "-12.0 from top to bottom", through(-12, 0)),
    "at the threshold": ("vanishing", "-2.0 from top to bottom", through(-SPAN, 0)),
    "628 decades down": ("vanishing", "-628.0 from top to bottom", through(-628, 0)),
    "down in one step": ("vanishing", "-2.4 from top to bottom", among(20, -2.4, 1)),
    "a dip that recovers": ("vanishing", "-4.0 from layer 20 to layer 10, recovers by +4.0", dip(-4)),
    "a dip that all but recovers": (
        "vanishing",
        "-4.1 from layer 20 to layer 10, recovers by +3.9",
        among(20, -4.1, 10) - among(20, 0.2, *range(1, 10)),
    ),
    "a dip that more than recovers": (
        "vanishing",
        "-4.0 from layer 20 to layer 10, recovers by +4.5",
        among(20, -4, 10) + among(20, 0.5, *range(1, 10)),
    ),
    "up by 1.5, then down by 3": (
        "vanishing",
        "-3.0 from layer 10 to layer 1",
        dip(1.5, after=-1.5),
    ),
    "a small dip in a steep climb": (
        "exploding",
        "+10.0 from layer 15 to layer 1",
        np.interp(np.arange(1, 21), [1, 15, 20], [7.9, -2.1, 0]),
    ),
    "twelve decades up": ("exploding", "+12.0 from top to bottom", through(12, 0)),
    "at the threshold, up": ("exploding", "+2.0 from top to bottom", through(SPAN, 0)),
    "a bump that recovers": ("exploding", "+4.0 from layer 20 to layer 10, recovers by -4.0", among(20, 4, 10)),
    "down by 1.5, then up by 3": (
        "exploding",
        "+3.0 from layer 10 to layer 1",
        dip(-1.5, after=1.5),
    ),
    "nothing below layer 3": ("vanishing", "no gradient reaches layers 1-2; ", among(20, -np.inf, 1, 2)),
    "nothing anywhere": ("vanishing", "no gradient reaches the hidden layers", np.full(20, -np.inf)),
}
CURVES = {
    "a dead layer": ("dead", "every unit of layer 3 is dead", {"dead": among(20, 1, 3)}),
    "a layer that is 98 % dead": ("dead", "98% of the units of layer 7 are dead", {"dead": among(20, 0.98, 7)}),
    "a layer just dead enough": ("dead", "95% of the units of layer 7", {"dead": among(20, DEAD_LAYER, 7)}),
    "half of all units dead": ("dead", "50% of the hidden units are dead", {"dead": np.full(20, 0.5)}),
    "a third of all units dead": ("healthy", "keeps", {"dead": np.full(20, 0.33)}),
    "a trained ReLU net": (
        "healthy",
        "keeps",
        {
            "dead": among(20, 0.71, 10, others=0.45),
            "saturated": np.full(20, 0.63),
            "weight_grad_zero": np.full(20, 0.89),
        },
    ),
    "saturated throughout": ("saturated", "90% of the median layer's", {"saturated": np.full(20, 0.9)}),
    "half of the layers saturated": (
        "saturated",
        "100% or more of the entries of layers 1-10",
        {"saturated": among(20, 1, *range(1, 11))},
    ),
    "half of two layers saturated": (
        "saturated",
        "97% or more of the entries of layer 2",
        {"delta_log10": np.zeros(2), "saturated": among(2, 0.97, 2)},
    ),
    "nine of twenty layers saturated": ("healthy", "keeps", {"saturated": among(20, 1, *range(1, 10))}),
    "the top layer saturated": ("healthy", "keeps", {"saturated": among(20, 1, 20)}),
    "ReLU's flat half": ("healthy", "keeps", {"saturated": np.full(20, 0.5)}),
    "only zeros for the optimizer": (
        "vanishing",
        "the optimizer sees only zeros in layer 1",
        {"weight_grad_zero": among(20, 1, 1)},
    ),
    "99.9 % underflowed": (
        "vanishing",
        "99.9% of the weights' gradient underflows in layer 1",
        {"weight_grad_zero": among(20, 0.999, 1)},
    ),
    "underflowed at 1e-37": (
        "vanishing",
        "99% of the weights' gradient underflows in layer 1",
        {"weight_grad_zero": among(20, ZEROS, 1), "weight_grad_log10": np.full(20, -37.0)},
    ),
    "a sparse input": (
        "healthy",
        "keeps",
        {"weight_grad_zero": among(20, 0.999, 1), "weight_grad_log10": np.full(20, -1.0)},
    ),
    "black pixels": ("healthy", "keeps", {"weight_grad_zero": among(20, 0.8, 1)}),
    "99.96 % are not 100 %": ("dead", "99.9% of the units of layer 2", {"dead": among(20, 0.9996, 2)}),
}


@pytest.mark.parametrize(("word", "said", "profile"), PROFILES.values(), ids=PROFILES)
def test_a_profile_gets_its_word_at_any_scale(word, said, profile):
    for shift in (0, -500, 30):
        found = judge(LayerCurves(profile + shift))
        assert (found.word, said in found.evidence) == (word, True), found
        assert (found.word == "healthy") == (abs(found.span) < SPAN)


@pytest.mark.parametrize(("word", "said", "columns"), CURVES.values(), ids=CURVES)
def test_what_units_do_and_the_optimizer_sees_gets_its_word(word, said, columns):
    for shift in (0, -500):
        curves = LayerCurves(**({"delta_log10": FLAT} | columns))
        found = judge(curves._replace(delta_log10=curves.delta_log10 + shift))
        assert (found.word, said in found.evidence) == (word, True), found


def test_the_largest_change_is_that_of_all_pairs_of_layers():
    random = np.random.default_rng(1)
    for profile in random.normal(0, 0.25, (200, 12)):
        changes = [low - high for at, low in enumerate(profile) for high in profile[at:]]
        found = largest_change(profile)
        assert found is not None
        assert found.decades == pytest.approx(max(changes, key=abs))


def test_a_verdict_has_the_slope_from_the_top_down():
    assert judge(LayerCurves(np.linspace(-9.5, 0, 20))).slope == pytest.approx(-0.5)


def test_the_decades_of_the_evidence_were_measured_and_not_read_off_a_fit():
    bent = np.append(-2.4, np.zeros(9))  # its straight fit falls by 1.2 over the whole net
    found = judge(LayerCurves(bent))
    assert (found.word, found.span) == ("vanishing", pytest.approx(-2.4))
    assert found.evidence.endswith("-0.131 decades per layer (-2.6 dB, fitted), -2.4 from top to bottom")


def test_where_no_gradient_arrives_a_verdict_says_between_which_layers_it_falls():
    found = judge(LayerCurves(np.array([-np.inf, -np.inf, -0.3, -0.2, -0.1])))
    assert (found.word, found.span) == ("vanishing", -np.inf)
    assert found.evidence.startswith("no gradient reaches layers 1-2; ")
    assert found.evidence.endswith("-0.2 from layer 5 to layer 3")


def test_layers_without_a_finite_value_are_passed_over():
    assert judge(LayerCurves(np.array([np.nan, 3.0, np.inf, 0.0]))).evidence.endswith("+3.0 from layer 4 to layer 2")
    assert judge(LayerCurves(np.full(4, np.nan))).evidence == "the gradient keeps its size"


@pytest.mark.parametrize(
    ("fit", "word"),
    [
        (Fit(1.0, -np.inf), "healthy"),
        (Fit(1.0, -37.0), "healthy"),
        (Fit(1.0, -3.0), "vanishing"),  # right by chance, and a gradient enters that does not arrive
        (Fit(0.9, -np.inf), "vanishing"),
    ],
)
def test_a_net_that_has_fitted_has_no_gradient_and_is_healthy(fit, word):
    found = judge(LayerCurves(np.full(5, -np.inf), np.ones(5)), fit=fit)
    assert (found.word, found.evidence.startswith("has fitted")) == (word, word == "healthy")


@pytest.fixture
def judged(write_run):
    """A lane's row, from the gradient of its layers [T, L + 1] and its training loss and accuracy [T]."""

    made: list[Any] = []

    def result(delta_log10: np.ndarray, loss: Any = 1.0, accuracy: Any = 0.5, steps: Any = None):
        count, layers = delta_log10.shape
        metrics = {
            "train_loss": np.broadcast_to(loss, count)[:, None],
            "train_accuracy": np.broadcast_to(accuracy, count)[:, None],
            "gradient_log10": np.where(np.isnan(np.broadcast_to(loss, count)), np.nan, 0.0)[:, None],
        }
        settings = {"name": f"made-{len(made)}", "model": {"depth": layers - 1, "width": 8}, "train": {"steps": count}}
        made.append(settings)
        written = write_run(settings, {"delta_log10": delta_log10[:, None]}, metrics, steps)
        return judge_lanes(written, [0], [0], layers - 1)[0].result

    return result


EXPLODES = np.append(through(9, 0), 0.0)


@pytest.mark.parametrize("count", [4, 12, 100])
@pytest.mark.parametrize("wild", [-1, -2, -3])
def test_a_single_noisy_step_does_not_change_the_word(judged, count, wild):
    curves = np.zeros((count, 21))
    curves[wild] = EXPLODES
    assert judged(curves).verdict == "healthy"


@pytest.mark.parametrize("bad", [1, 2, 7])
def test_a_gradient_that_explodes_from_the_start_explodes_before_it_diverges(judged, bad):
    curves, loss = np.tile(EXPLODES, (8, 1)), np.ones(8)
    loss[bad - 1 :] = np.nan
    curves[bad:] = np.nan  # the gradient's exponent is carried: at the first bad step itself it may be known
    found = judged(curves, loss)
    assert (found.status, found.verdict, found.diverged_step) == ("diverged", "exploding", bad)
    assert f"+9.0 from top to bottom; then NaN or infinity at step {bad}" in found.evidence


@pytest.mark.parametrize("exploding", [slice(1, 7), slice(0, 6)], ids=["later", "no more"])
def test_a_net_that_diverges_for_another_reason_diverged(judged, exploding):
    curves, loss = np.zeros((8, 21)), np.ones(8)
    curves[exploding] = EXPLODES
    loss[7], curves[7] = np.nan, np.nan
    assert (judged(curves, loss).verdict, judged(curves, loss).diverged_step) == ("diverged", 8)


def test_a_net_that_has_fitted_is_called_by_how_it_began(judged):
    curves = np.zeros((8, 6))
    curves[2:] = -np.inf
    assert judged(curves, accuracy=1.0).evidence.startswith("has fitted: ")
    assert judged(curves, accuracy=1.0).verdict == "healthy"
    assert judged(curves, accuracy=0.9).verdict == "vanishing"
    curves[0] = np.linspace(-3, 0, 6)
    found = judged(curves, accuracy=1.0)
    assert found.verdict == "vanishing"
    assert "by step 8 it has fitted" in found.evidence


def test_the_table_in_the_docs_is_that_of_the_code():
    root = Path(vgx.__file__).parent.parent
    assert rules_table() in (root / "docs" / "verdicts.md").read_text()
    assert "docs/verdicts.md" in (root / "README.md").read_text()
    assert all(f"| `{word}` |" in rules_table() for word in WORDS)


RELU, TANH = {"model.activation": "relu"}, {"model.activation": "tanh", "model.initializer.name": "lecun_normal"}
NETS = [
    ("healthy", "keeps its size", RELU),
    ("vanishing", "shrinks on its way down", RELU | {"model.initializer.gain": 0.5}),
    ("vanishing", "the optimizer sees only zeros in layers", RELU | {"model.initializer.gain": 2e-4}),
    ("exploding", "then NaN or infinity", RELU | {"model.initializer.gain": 4.0}),
    ("diverged", "NaN or infinity", RELU | {"train.optimizer.learning_rate": 1e30}),
    ("dead", "every unit", RELU | {"model.bias": {"name": "constant", "value": -30.0}}),
    ("healthy", "keeps its size", TANH),
    ("saturated", "of the median layer's", TANH | {"model.initializer.gain": 60.0}),
]


def test_small_nets_get_their_words(tmp_path):
    settings = {
        "name": "labelled",
        "data": {"name": "digits", "input": "standardized"},
        "model": {"depth": 10, "width": 64, "initializer": {"name": "he_normal", "gain": 1.0}},
        "train": {"steps": 6, "batch_size": 64, "optimizer": {"name": "sgd", "learning_rate": 0.001}},
        "sweep": {"cells": [net for *_, net in NETS]},
    }
    lanes = vgx.sweep(vgx.load_sweep(settings), runs=tmp_path).lanes().to_pylist()
    found = [(row["verdict"], row["evidence"]) for row in lanes]
    assert [word for word, _ in found] == [word for word, *_ in NETS], found
    for (_, said, _), (_, told) in zip(NETS, found, strict=True):
        assert said in told


def test_a_small_net_that_separates_its_examples_has_fitted(tmp_path):
    settings = {
        "data": {"name": "synthetic", "examples": 16, "classes": 2, "features": 512, "input": "standardized"},
        "model": {"depth": 1, "width": 64, "activation": "tanh", "initializer": "lecun_normal"},
        "train": {"steps": 20, "batch_size": 16, "optimizer": {"name": "sgd", "learning_rate": 10.0}},
    }
    lane = vgx.train(vgx.load_config(settings), runs=tmp_path).lanes().to_pylist()[0]
    assert (lane["train_accuracy"], lane["verdict"]) == (1, "healthy")
    assert lane["evidence"].startswith("has fitted")
