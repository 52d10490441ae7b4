"""`prediction.parquet`, and what is said of it: theory beside each run's own measurement."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pyarrow.compute as pc
import pytest
from pyarrow import parquet
from rich.console import Console
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.report.terminal.run import show
from vgx.results.agreement import FALSE_ALARM, PER_LAYER, agreement, agreement_of, allowed_off, lanes_that_hold

MODEL = {"depth": 6, "width": 64, "activation": "tanh", "initializer": "glorot_normal"}
TREE = {
    "name": "foretold",
    "seeds": 2,
    "data": {"name": "digits", "input": "standardized"},
    "model": MODEL,
    "train": {"steps": 6, "optimizer": {"name": "sgd", "learning_rate": 3.0}},
    "log": {"statistics": "full", "every": 2},
}
STATISTICS = {"delta_log10": "band", "act_rms": "act_band", "preact_std": "preact_band", "cosine": None}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return vgx.train(vgx.load_config(TREE), runs=tmp_path_factory.mktemp("runs"))


def rows_of(run, statistic: str, lane: int) -> dict[str, np.ndarray]:
    rows = run.prediction(where=(pc.field("statistic") == statistic) & (pc.field("lane") == lane))
    return {name: rows[name].to_numpy() for name in ("layer", "predicted", "band", "measured", "z_score")}


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("lane", [0, 1])
def test_a_run_keeps_its_prediction_beside_its_first_step(run, statistic, lane):
    curves, rows = vgx.predict(vgx.load_config(TREE)).curves, rows_of(run, statistic, lane)
    assert rows["layer"].tolist() == list(range(1, MODEL["depth"] + 2))
    assert rows["predicted"] == pytest.approx(getattr(curves, statistic), abs=1e-12)
    first = run.layers(where=(pc.field("lane") == lane) & (pc.field("step") == 1))[statistic].to_numpy()
    first = first - (first[-1] if statistic == "delta_log10" else 0)
    assert rows["measured"] == pytest.approx(first, abs=1e-6)
    name = STATISTICS[statistic]
    if name is None:
        assert np.isnan(rows["band"]).all()
        assert np.isnan(rows["z_score"]).all()
        return
    assert rows["band"] == pytest.approx(getattr(curves, name), abs=1e-12)
    known = rows["band"] > 0
    z = (rows["measured"] - rows["predicted"])[known] / rows["band"][known]
    assert rows["z_score"][known] == pytest.approx(z, rel=1e-9)
    assert np.isnan(rows["z_score"][~known]).all()
    assert np.all(np.abs(z) < 4)  # theory holds: these nets are drawn as it says


def test_the_file_has_what_was_predicted_alone(run):
    path = run.path / "prediction.parquet"
    assert parquet.read_schema(path).names == ["lane", "layer", "statistic", "predicted", "band"]
    assert run.prediction(["layer", "band"]).column_names == ["layer", "band"]
    scores = run.prediction(["z_score"])["z_score"].drop_null().to_numpy()
    middle = float(np.median(scores))
    far = run.prediction(["statistic", "z_score"], where=pc.field("z_score") > middle)
    assert far["z_score"].to_pylist() == scores[scores > middle].tolist()


def test_a_prediction_of_an_older_run_which_holds_what_was_measured_reads_the_same(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "older")
    parquet.write_table(run.prediction(), tmp_path / "older" / "prediction.parquet")
    assert vgx.open_run(tmp_path / "older").prediction().equals(run.prediction())


@pytest.mark.slow
def test_every_cell_of_a_sweep_has_its_own_prediction(tmp_path):
    axes = ["model.activation=relu,logistic", "model.depth=1,3"]
    sweep = vgx.load_sweep(TREE | {"seeds": 1, "train": {"steps": 1}}, [], axes)
    run = vgx.sweep(sweep, runs=tmp_path)
    for lane, cell in zip(run.lanes().to_pylist(), sweep.cells, strict=True):
        rows = rows_of(run, "delta_log10", lane["lane"])
        assert rows["predicted"] == pytest.approx(vgx.predict(cell.config).curves.delta_log10, abs=1e-12)
        assert not np.isnan(rows["measured"]).any()
    holds = [agreement_of(run, lane).holds for lane in range(4)]
    assert lanes_that_hold(run) == (sum(holds), 4)


@pytest.mark.slow
def test_layers_of_unequal_width_are_predicted_too(tmp_path):
    tree = TREE | {"seeds": 1, "model": {"width": [16, 8]}, "train": {"steps": 1}}
    run = vgx.sweep(vgx.load_sweep(tree, [], ["model.initializer=he_normal,orthogonal"]), runs=tmp_path)
    assert len(run.prediction(["layer"])) == 2 * 4 * 3


def test_a_run_without_statistics_has_a_prediction_and_no_measurement(tmp_path):
    run = vgx.train(vgx.load_config(TREE | {"train": {"steps": 1}, "log": {"statistics": "none"}}), runs=tmp_path)
    rows = rows_of(run, "delta_log10", 0)
    assert np.isfinite(rows["predicted"]).all()
    assert np.isnan(rows["measured"]).all()
    assert agreement_of(run, 0) is None
    assert lanes_that_hold(run) == (0, 0)


def test_theory_departs_at_the_first_step_that_a_right_theory_would_hardly_show():
    predicted, band = np.array([-2.0, -1.0, 0.0]), np.array([0.2, 0.1, 0.0])
    allowed = allowed_off(band)
    delta = np.tile(predicted, (4, 1)) + 5.0  # relative to the readout it is as predicted
    delta[2, 1] += allowed[1] + 0.001
    delta[3, 0] += 9.0
    found = agreement(predicted, band, delta, np.array([1, 5, 9, 13]))
    assert (found.holds, found.departed) == (True, 9)
    off = f"{allowed[1] + 0.001:+.2f} decades, {(allowed[1] + 0.001) / 0.1:.1f} sigma"
    assert f"first deviates at step 9 (layer 2: {off})" in found.sentence
    assert agreement(predicted, band, delta[:2], np.array([1, 5])).sentence.endswith("and up to step 5")
    off = agreement(predicted, band, delta[3:], np.array([1]))
    assert not off.holds
    assert "theory deviates in 1 of 2 layers at step 1" in off.sentence


@pytest.mark.parametrize("layers", [1, 5, 50])
def test_a_right_theory_is_said_to_deviate_in_a_hundredth_of_nets(layers):
    # What layers add is independent, from the top down: a curve of them strays as a Brownian motion does.
    steps = np.random.default_rng(0).standard_normal((40_000, layers)) * 0.1
    curves = np.cumsum(steps, 1)[:, ::-1]
    band = 0.1 * np.sqrt(np.arange(layers, -1, -1.0))
    allowed = allowed_off(band) - PER_LAYER * np.arange(layers, 0, -1)
    share = np.mean(np.any(np.abs(curves) > allowed, 1))
    assert 0.3 * FALSE_ALARM < share < 1.15 * FALSE_ALARM


def test_a_theory_that_is_wrong_by_a_few_percent_per_layer_is_found_out():
    layers, wrong = 50, np.log10(1.05) / 2 * np.arange(50, 0, -1)
    steps = np.random.default_rng(0).standard_normal((2000, layers)) * 0.01  # as ReLU nets of 512 units
    curves, band = np.cumsum(steps, 1)[:, ::-1], 0.01 * np.sqrt(np.arange(layers, -1, -1.0))
    assert np.mean(np.any(np.abs(curves + wrong) > allowed_off(band), 1)) > 0.9


def test_a_gradient_that_is_no_number_is_off():
    predicted, band = np.zeros(3), np.full(3, 0.1)
    delta = np.array([[0.0, 0.0, 0.0], [np.nan, 0.0, 0.0]])
    found = agreement(predicted, band, delta, np.array([1, 2]))
    assert found.departed == 2
    assert "layer 1: no finite gradient" in found.sentence


def test_show_draws_the_prediction_and_says_where_it_ceased_to_hold(run):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(show(run, step=1))
    text = console.export_text()
    assert "● predicted" in text
    assert text.count("●") == 1 + MODEL["depth"]
    held = agreement_of(run, 0)
    assert held is not None
    assert " ".join(held.sentence.split()) in " ".join(text.split())


@pytest.mark.slow
def test_a_sweep_says_in_how_many_lanes_theory_held(tmp_path):
    sweep = vgx.load_sweep(TREE | {"train": {"steps": 1}}, [], ["model.activation=relu,tanh"])
    run = vgx.sweep(sweep, runs=tmp_path)
    output = CliRunner().invoke(app, ["show", str(run.path)]).output
    held, known = lanes_that_hold(run)
    assert known == 4
    assert f"theory matched at the first step of {held} of 4 lanes" in output
