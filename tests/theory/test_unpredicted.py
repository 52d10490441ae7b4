"""Where theory has nothing to say: figures that are not defined, with their reason, and predictions that fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.parts import ACTIVATIONS
from vgx.results.expectations import evaluate
from vgx.theory import mean_field
from vgx.theory.cure import diagnose
from vgx.theory.predict import predict

OFF = {"depth": 20, "width": 64, "activation": "relu", "bias": {"name": "constant", "value": -5.0}}
"""Seven deviations below zero: every unit of every layer but the first is off."""


@pytest.fixture
def write(tmp_path):
    """Writes a config to a file, as JSON, and returns its path."""

    def to_file(**config: Any) -> str:
        path = tmp_path / "net.yaml"
        path.write_text(json.dumps({"name": "net"} | config))
        return str(path)

    return to_file


@pytest.fixture
def failing(monkeypatch):
    """Makes theory fail, at nets with a part of these names if there are any."""
    whole = mean_field.propagate

    def fail(error: Exception, *names: str) -> None:
        def propagate(net, signal, **options):
            if not names or {net.activation.name, net.initializer.name, net.normalization.name} & set(names):
                raise error
            return whole(net, signal, **options)

        monkeypatch.setattr(mean_field, "propagate", propagate)

    return fail


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


def as_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_where_every_unit_is_off_the_figures_are_null_with_their_reasons(write):
    path = write(model=OFF)
    found = as_json("predict", path)
    assert (found["slope"], found["verdict"]) == (None, "dead")
    assert [layer["delta_log10"] for layer in found["layers"]] == [None] * 20 + [0]
    assert [layer["cosine"] for layer in found["layers"]][1:20] == [None] * 19
    assert set(found["reasons"]) == {"slope", "delta_log10", "cosine"}
    assert "every unit of layers 2-20 is off" in found["reasons"]["delta_log10"]
    text = run("predict", path).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "slope        -: it takes two hidden layers with a gradient" in text
    assert "gradient     -: no gradient reaches layers 1-20" in text


@pytest.mark.parametrize(
    ("model", "name", "why"),
    [
        (
            {"depth": 3, "activation": "tanh", "initializer": "zeros"},
            "delta_log10",
            "the weights above layers 1-3 are 0",
        ),
        ({"depth": 1}, "slope", "two hidden layers"),
        ({"depth": 3, "initializer": "zeros"}, "cosine", "no direction"),
    ],
)
def test_a_figure_that_is_not_defined_says_why(model, name, why):
    assert why in predict(vgx.load_config({"model": {"width": 8} | model})).reasons[name]


def test_a_prediction_whose_figures_are_all_defined_has_no_reasons():
    assert "reasons" not in predict(vgx.load_config({"model": {"depth": 3, "width": 8}})).to_json()


def test_a_net_without_a_gradient_is_not_called_healthy_by_cure():
    diagnosis = diagnose(vgx.load_config({"model": OFF}))
    assert diagnosis.effect.fault == "no gradient reaches the hidden layers"
    assert diagnosis.cures
    found = diagnosis.to_json()
    assert (found["healthy"], found["slope"], found["cosine"]) == (False, None, None)
    json.dumps(found, allow_nan=False)


def test_a_prediction_that_fails_does_not_stop_a_training(failing, write, tmp_path):
    error = "math domain error"
    failing(ValueError(error))
    train = {"steps": 2, "batch_size": 64}
    path = write(model={"depth": 2, "width": 8}, train=train, expect={"slope": "predicted"})
    result = CliRunner().invoke(app, ["train", path, "--runs", str(tmp_path / "runs"), "--json"])
    assert result.exit_code == 3  # the expectation: what is not predicted cannot hold
    found = json.loads(result.stdout)
    assert (found["status"], found["lanes"][0]["status"]) == ("done", "done")
    assert not found["expect"][0]["holds"]
    assert error in found["expect"][0]["expected"]
    (line,) = result.stderr.splitlines()
    assert error in line
    left = vgx.open_run(found["run"])
    assert left.prediction().num_rows == 0
    assert left.layers().num_rows == 2 * 3
    assert error in left.meta["prediction_fault"]


@pytest.mark.slow
def test_a_sweep_predicts_the_cells_that_it_can(failing, write, tmp_path):
    failing(ValueError("math domain error"), "orthogonal")
    path = write(model={"depth": 2, "width": 8}, train={"steps": 1, "batch_size": 64})
    grid = [path, "--axis", "model.initializer=he_normal,orthogonal"]
    result = run("sweep", *grid, "--runs", str(tmp_path / "runs"), "--json")
    assert [lane["status"] for lane in json.loads(result.stdout)["lanes"]] == ["done", "done"]
    assert result.stderr.count("math domain error") == 1
    left = vgx.open_run(json.loads(result.stdout)["run"])
    assert set(left.prediction()["lane"].to_pylist()) == {0}
    he, orthogonal = as_json("predict", *grid)["cells"]
    assert he["verdict"] == "healthy"
    assert (orthogonal["slope"], orthogonal["verdict"]) == (None, None)
    assert "math domain error" in orthogonal["reasons"]["prediction"]
    assert "-: theory failed: ValueError: math domain error" in run("predict", *grid).stdout


def test_a_grid_and_a_cure_go_on_past_a_net_at_which_theory_fails(failing, write, monkeypatch):
    failing(OverflowError("too large"), "elu")
    parts = [ACTIVATIONS.parse(name) for name in ("relu", "elu")]
    monkeypatch.setattr("vgx.theory.predict.default_activations", lambda: parts)
    cells = as_json("predict", write(model={"depth": 2, "width": 8}), "--grid")["cells"]
    assert {cell["slope"] is None for cell in cells if cell["activation"]["name"] == "relu"} == {False}
    assert all("too large" in cell["reason"] for cell in cells if cell["activation"]["name"] == "elu")

    failing(ZeroDivisionError("division by zero"), "lecun_normal", "glorot_normal", "orthogonal", "lsuv")
    found = diagnose(vgx.load_config({"model": {"depth": 30, "width": 64, "activation": "logistic"}})).to_json()
    fault = next(cure["fault"] for cure in found["vain"] if cure["verdict"] is None)
    assert "theory failed: ZeroDivisionError: division by zero" in fault


def test_a_bug_in_a_prediction_is_not_taken_for_a_number_out_of_range(failing, tmp_path):
    failing(TypeError("a bug"))
    config = vgx.load_config({"model": {"depth": 2, "width": 8}, "train": {"steps": 1}})
    with pytest.raises(TypeError, match="a bug"):
        vgx.train(config, runs=tmp_path)


def test_a_slope_that_is_not_defined_is_not_as_predicted():
    (held,) = evaluate({"slope": "predicted"}, [{"lane": 0, "slope": None, "first_slope": 0.0}], predicted="no slope")
    assert (held.holds, held.expected) == (False, "predicted, and no slope")
