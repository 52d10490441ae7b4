"""`vgx predict` and `vgx.predict`: what is printed, and theory against what vgx itself measures at the first step."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from pydantic import Field
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.parts import ACTIVATIONS
from vgx.parts.activations import Activation
from vgx.registry import temporary
from vgx.results.verdict import SPAN
from vgx.runner.first_step import first_step
from vgx.theory.layer_response import Signal
from vgx.theory.predict import InputStatistics, predict, source_of

SEEDS, DEPTH, WIDTH = 2, 10, 256


def config(train: dict[str, Any] | None = None, data: Any = "digits", **model: Any) -> vgx.Config:
    return vgx.load_config({"name": "net", "data": data, "model": model, "train": train or {}})


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["predict", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def file(tmp_path):
    """Writes a config's model to a file and returns its path."""

    def write(**model: Any) -> str:
        path = tmp_path / "net.yaml"
        path.write_text(json.dumps({"model": model}))
        return str(path)

    return write


# Against measurement.

NETS = {
    "relu, He": ({}, {}),
    "tanh, Xavier, layer norm": ({"activation": "tanh", "initializer": "glorot_normal", "normalization": "layer"}, {}),
    "logistic, batch norm of 32": (
        {"activation": "logistic", "normalization": {"name": "batch", "placement": "before"}},
        {"batch_size": 32},
    ),
    "relu, batch norm of 32 after": (
        {"normalization": {"name": "batch", "placement": "after"}},
        {"batch_size": 32},
    ),
    "elu, orthogonal, RMS norm after, dropout, biases": (
        {
            "activation": "elu",
            "initializer": "orthogonal",
            "normalization": {"name": "rms", "placement": "after"},
            "dropout": 0.2,
            "bias": {"name": "normal", "std": 0.3},
        },
        {},
    ),
    "rrelu, constant biases": ({"activation": "rrelu", "bias": {"name": "constant", "value": 0.2}}, {}),
}


QUICK = ("relu, He", "tanh, Xavier, layer norm", "logistic, batch norm of 32")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in NETS])
def test_theory_predicts_what_is_measured_at_the_first_step(name):
    model, train = NETS[name]
    tree = {
        "data": {"name": "synthetic", "input": "standardized", "examples": 512},
        "model": {"depth": DEPTH, "width": WIDTH} | model,
        "train": {"steps": 1} | train,
        "log": {"statistics": "full"},
        "seeds": SEEDS,
    }
    asked = vgx.load_config(tree)
    record, curves = first_step(asked), predict(asked).curves

    def measured(column: str) -> np.ndarray:
        """[L + 1], the mean over seeds."""
        return np.asarray(getattr(record, column)).mean(0)

    # Raw inputs are no f(z), so the first layer's output is where theory's layers begin.
    inner = slice(1, DEPTH - 1)
    growth = -2 * np.diff(measured("delta_log10"))[inner]
    expected = np.log10(curves.factor[inner])
    # Three deviations of the mean of ln(factor) over layers and nets, which for ReLU is sqrt(5 / (n L K)), and 1 % for
    # what is left of 1 / n.
    tolerance = 3 * math.sqrt(5 / (WIDTH * len(growth) * SEEDS)) + 0.01
    assert growth.mean() == pytest.approx(expected.mean(), abs=math.log10(1 + tolerance))
    # Sizes add up their fluctuations, of up to sqrt(5 / n) per layer in the square, on the way from the input.
    up = slice(1, DEPTH)
    drift = 3 * math.sqrt(5 * DEPTH / (WIDTH * SEEDS)) / 2
    assert measured("act_rms")[up] == pytest.approx(curves.act_rms[up], rel=drift)
    assert measured("preact_std")[up] == pytest.approx(curves.preact_std[up], rel=drift)
    assert measured("cosine")[up] == pytest.approx(curves.cosine[up], abs=0.1)


def test_the_moments_are_those_of_the_encoded_inputs():
    dataset = config().data.load()
    x = dataset.train.images / np.float64(dataset.scale) - 0.5
    found = source_of(dataset, "centered")
    n, features = x.shape
    gram = x @ x.T / features
    assert (found.features, found.classes) == (64, 10)
    assert found.signal.square == pytest.approx(np.trace(gram) / n, rel=1e-6)
    assert found.signal.cross == pytest.approx((gram.sum() - np.trace(gram)) / (n * (n - 1)), rel=1e-6)
    assert found.signal.mean == pytest.approx(x.mean(), rel=1e-6)


def test_moments_may_be_given_instead_of_data():
    given = InputStatistics(features=50, classes=3, signal=Signal(square=2.0, cross=1.0, mean=0.0))
    found = predict(config(data="mnist", depth=3, width=40, initializer="lecun_normal"), given)
    assert found.curves.preact_std == pytest.approx(np.sqrt([2, 1, 0.5, 0.25]))


# What is printed.


def test_json_is_that_of_the_design(file):
    path = file(depth=30, width=64, activation="logistic", initializer="lecun_normal")
    found = json.loads(run(path, "--json"), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert list(found) == [
        "layers",
        "slope",
        "decibels_per_layer",
        "verdict",
        "phase",
        "depth_scale",
        "correlation_depth_scale",
        "fixed_point",
        "band",
        "spectrum",
        "ends",
    ]
    assert {tuple(layer) for layer in found["layers"]} == {
        ("layer", "delta_log10", "act_rms", "preact_std", "cosine", "factor", "coherence")
    }
    assert [layer["layer"] for layer in found["layers"]] == list(range(1, 32))
    assert found["layers"][-1]["delta_log10"] == 0
    assert found["layers"][-1]["factor"] is None
    assert found["slope"] == pytest.approx(math.log10(0.055721) / 2, abs=0.004)  # and what 64 units add
    assert found["decibels_per_layer"] == pytest.approx(20 * found["slope"])
    assert (found["verdict"], found["phase"]) == ("vanishing", "ordered")
    assert list(found["fixed_point"]) == ["q", "c", "factor"]
    assert found["fixed_point"]["q"] == pytest.approx(0.26469, abs=5.1e-6)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param({"activation": "selu", "depth": 3000}, marks=pytest.mark.slow),  # E[h^2] leaves every range
        {"initializer": "zeros"},  # no gradient at all
        {"initializer": {"name": "constant", "value": 0.1}, "normalization": "batch"},
        {"depth": 1},  # no slope
        {"normalization": "layer", "initializer": "zeros"},
    ],
)
def test_json_has_null_where_there_is_no_number(model, file):
    found = json.loads(run(file(**model), "--json"), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert len(found["layers"]) == model.get("depth", 20) + 1


def test_the_command_and_python_say_the_same(file):
    def to_nine_digits(text: str) -> Any:
        # A table of moments is interpolated once it has been asked for enough of them: that changes the eleventh digit.
        return json.loads(text, parse_float=lambda number: float(f"{float(number):.9g}"))

    path = file(activation="tanh", depth=5)
    in_python = json.dumps(vgx.predict(vgx.load_config(path)).to_json())
    assert to_nine_digits(run(path, "--json")) == to_nine_digits(in_python)


def test_overrides_reach_the_prediction(file):
    path = file(depth=30)
    found = json.loads(run(path, "--set", "model.initializer=glorot_normal", "--set", "model.depth=64", "--json"))
    assert len(found["layers"]) == 65
    assert found["slope"] == pytest.approx(-0.5 * math.log10(2), abs=0.01)
    assert found["verdict"] == "vanishing"


@pytest.mark.parametrize(
    "model",
    [
        {"depth": 20, "activation": "logistic", "initializer": "lecun_normal"},
        {"depth": 30},
        {"depth": 500, "activation": "selu"},
        {"initializer": "zeros"},
        {"depth": 1, "activation": "hard_tanh", "normalization": {"name": "batch", "placement": "after"}},
    ],
)
def test_the_picture_is_plain_and_fits_80_columns_in_a_pipe(model, file):
    text = run(file(**model))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "predicted by mean-field theory" in text
    labels = [line.split("  ")[0] for line in text.splitlines()]
    assert [
        label
        for label in ("slope", "spread", "phase", "fixed point", "decay length", "trainable to")
        if label in labels
    ]
    assert text.rstrip().splitlines()[-1]


def test_the_last_line_is_the_verdict(file):
    text = run(file(depth=20, width=100_000, activation="logistic", initializer="lecun_normal"))
    assert "vanishing (predicted): the gradient shrinks on its way down; -0.627 decades per" in text
    assert "slope        -0.6270 decades per layer (-12.54 dB)" in text


def test_measure_draws_the_first_step_over_the_prediction_and_says_why(file):
    path = file(depth=12, width=64, activation="logistic", initializer="lecun_normal")
    text = run(path, "--measure")
    assert max(map(len, text.splitlines())) <= 80
    assert "●" in text
    assert "theory matched at step 1" in text
    assert "by the activation's derivative" in " ".join(text.split())
    found = json.loads(run(path, "--measure", "--json"))
    assert found["measured"]["slope"] == pytest.approx(found["slope"], abs=0.03)
    assert sum(found["measured"]["causes"].values()) == pytest.approx(found["measured"]["slope"])
    assert found["layers"][-1]["measured_delta_log10"] == 0


def test_the_grid_has_every_activation_and_says_what_a_prediction_of_each_cell_says(file, monkeypatch):
    monkeypatch.setattr("vgx.theory.predict.default_activations", lambda: [ACTIVATIONS.parse("relu")])
    path = file(depth=6, width=64)
    cells = json.loads(run(path, "--grid", "--json"))["cells"]
    assert len(cells) == 7 * 5
    for cell in cells[::4]:
        parts = {name: cell[name] for name in ("activation", "initializer", "normalization")}
        assert cell["slope"] == pytest.approx(predict(config(depth=6, width=64, **parts)).slope, abs=1e-9)
    text = run(path, "--grid")
    assert max(map(len, text.splitlines())) <= 80
    assert "batch norm before" in text


# What is concluded.


def test_a_net_trains_as_deep_as_its_inputs_stay_apart_and_its_gradient_keeps_its_size():
    tanh = predict(
        config(
            depth=50,
            activation="tanh",
            initializer={"name": "variance_scaling", "scale": 2.25},
            bias={"name": "normal", "std": math.sqrt(0.05)},
        )
    )
    assert tanh.trainable_depth == pytest.approx(6 * 15.117, abs=0.01)
    logistic_batch = predict(config(depth=50, activation="relu", normalization="batch"))
    factor = logistic_batch.limit.fixed_point.factor
    assert logistic_batch.trainable_depth == pytest.approx(1 + SPAN / (math.log10(factor) / 2))
    assert predict(config(depth=50)).trainable_depth == math.inf


def test_batch_norm_on_the_logits_reaches_the_top_layer():
    plain, logits = (
        predict(config(depth=4, normalization={"name": "batch", "logits": on}, train={"batch_size": 16})).curves
        for on in (False, True)
    )
    assert plain.factor[:3] == pytest.approx(logits.factor[:3], rel=1e-9)
    # The readout's gradients then add up to 0 over the batch, as every other layer's do.
    assert logits.factor[3] > plain.factor[3]
    assert logits.act_rms[-1] == pytest.approx(1, abs=1e-4)


def test_an_activation_that_a_user_registers_is_predicted():
    class Steps(Activation):
        """Three slopes."""

        outer: float = Field(default=0.5, ge=0)
        """The slope beyond the kinks."""
        kinks = (-1.0, 1.0)

        def __call__(self, h):
            inner = ((h > -1) & (h < 1)) * h
            return inner + (h <= -1) * (self.outer * (h + 1) - 1) + (h >= 1) * (self.outer * (h - 1) + 1)

    with temporary():
        ACTIVATIONS.register("steps")(Steps)
        found = predict(
            config(activation={"name": "steps", "outer": 0.25}, normalization={"name": "rms", "epsilon": 0.0})
        )
    inside = math.erf(1 / math.sqrt(2))
    slope = inside + (1 - inside) / 16
    density = math.exp(-0.5) / math.sqrt(2 * math.pi)
    # Beyond 1, f = h / 4 + 3 / 4: E f^2 = E[(h + 3)^2; h > 1] / 8, over both sides.
    tail = (1 - inside) / 2
    beyond = (tail + density) + 6 * density + 9 * tail
    square = inside - 2 * density + beyond / 8
    assert found.limit.fixed_point.factor == pytest.approx(slope / square, rel=1e-9)


# Sweeps.


def test_a_sweep_is_predicted_cell_by_cell(tmp_path):
    path = tmp_path / "grid.yaml"
    axes = {"model.activation": ["relu", "tanh"], "train.optimizer.learning_rate": [0.1, 0.2]}
    path.write_text(json.dumps({"model": {"depth": 5, "width": 32}, "sweep": {"axes": axes}}))
    found = json.loads(run(str(path), "--json"))["cells"]
    assert [(cell["model.activation"], cell["train.optimizer.learning_rate"]) for cell in found] == [
        ("relu", 0.1),
        ("relu", 0.2),
        ("tanh", 0.1),
        ("tanh", 0.2),
    ]
    for cell in found:
        alone = predict(config(depth=5, width=32, activation=cell["model.activation"])).to_json()
        assert {name: cell[name] for name in alone} == alone
    lines = run(str(path)).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["relu", "relu", "tanh", "tanh"]


@pytest.mark.slow
def test_axes_on_the_command_line_make_a_sweep_and_a_measurement_stands_beside_it(file):
    output = run(file(depth=4, width=64), "--axis", "model.initializer=he_normal,lecun_normal", "--measure")
    rows = [line.split() for line in output.splitlines()[1:3]]
    assert [row[0] for row in rows] == ["he_normal", "lecun_normal"]
    measured = json.loads(run(file(depth=4, width=64), "--measure", "--json"))["measured"]["slope"]
    assert float(rows[0][2]) == pytest.approx(measured, abs=1e-4)


def test_a_grid_of_a_sweep_is_refused(file):
    result = CliRunner().invoke(app, ["predict", file(depth=2), "--axis", "model.depth=2,3", "--grid"])
    assert isinstance(result.exception, vgx.VgxError)
    assert "--grid" in str(result.exception)


def test_a_net_of_dead_units_is_predicted_to_be_dead():
    # Biases of -3 deviations: hardly any unit is ever on.
    assert predict(config(depth=3, width=64, bias={"name": "constant", "value": -30.0})).verdict.word == "dead"
    wide = config(depth=8, width=64, activation="logistic", initializer={"name": "lecun_normal", "gain": 60.0})
    assert predict(wide).verdict.word == "saturated"


@pytest.mark.parametrize(
    ("model", "batch", "ratios"),
    [
        ({"depth": 20, "width": 128}, 32, []),
        ({"depth": 40, "width": 128}, 32, ["L / n"]),
        ({"depth": 20, "width": 100, "normalization": "batch"}, 100, ["B / n"]),
        (
            {
                "depth": 200,
                "width": 100,
                "activation": "identity",
                "initializer": "orthogonal",
                "normalization": "batch",
            },
            100,
            ["L / n", "B / n"],
        ),
        (
            {"depth": 30, "width": 64, "activation": "gelu"},
            32,
            ["L / n", "deviation of ln |dloss/dh|^2 by an example's own size"],
        ),
    ],
)
def test_where_theory_ends_is_said_with_the_ratio_that_decides(model, batch, ratios, tmp_path):
    tree = {"name": "net", "data": "digits", "model": model, "train": {"batch_size": batch}}
    found = predict(vgx.load_config(tree))
    assert [end.edge.ratio for end in found.ends] == ratios
    path = tmp_path / "net.yaml"
    path.write_text(json.dumps(tree))
    text, read = run(str(path)), json.loads(run(str(path), "--json"))
    assert ("theory ends" in text) == bool(ratios)
    assert [end["ratio"] for end in read["ends"]] == ratios
    assert all(end["value"] >= end["from"] for end in read["ends"])


def test_batches_of_which_theory_knows_nothing_are_refused_by_name(tmp_path):
    tree = {"model": {"normalization": {"name": "batch", "placement": "after"}}, "train": {"batch_size": 3}}
    path = tmp_path / "net.yaml"
    path.write_text(json.dumps(tree))
    result = CliRunner().invoke(app, ["predict", str(path)])
    assert "theory of batch norm after holds from a batch of 4 on, and this one is of 3" in str(result.exception)


def test_uneven_inputs_move_the_signal_as_each_of_them_does():
    # Inputs whose sizes are log-normal: tanh squeezes the large ones.
    normals, weights = np.polynomial.hermite_e.hermegauss(15)
    weights = weights / weights.sum()
    sizes = np.exp(0.8 * normals)
    mean = float(weights @ sizes)
    uneven = Signal(mean, 0.0, 0.0, -math.log(mean), 0.8**2)
    nets = config(depth=2, width=10_000, activation="tanh", initializer="lecun_normal")

    def squares(signal: Signal) -> np.ndarray:
        return predict(nets, InputStatistics(64, 10, signal)).curves.act_rms[:2] ** 2

    each = np.array([squares(Signal(size, 0.0, 0.0)) for size in sizes.tolist()])
    assert squares(uneven) == pytest.approx(weights @ each, rel=0.01)
    assert squares(Signal(mean, 0.0, 0.0)) != pytest.approx(weights @ each, rel=0.05)
