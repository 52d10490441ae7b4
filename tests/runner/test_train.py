"""A whole run: what it leaves, how it ends, and that a killed one goes on to the same bits."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import vgx
from vgx.errors import DataError, EnvironmentFault, RunError
from vgx.results.writer import RunWriter, layer_rows, metrics_rows

SMALL = {
    "name": "small",
    "seeds": 2,
    "model": {"depth": 3, "width": 16, "activation": "rrelu", "normalization": "batch", "dropout": 0.1},
    "train": {"batch_size": 32, "steps": 40, "optimizer": "adam", "evaluate_every": 7},
    "log": {"every": 3},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return vgx.train(vgx.load_config(SMALL), runs=tmp_path_factory.mktemp("runs"))


def test_a_run_leaves_the_tables_of_the_contract(run):
    metrics, layers = run.metrics(), run.layers()
    assert metrics.num_rows == 40 * 2
    assert sorted(set(layers["step"].to_pylist())) == list(range(1, 41, 3))
    assert sorted(set(layers["layer"].to_pylist())) == [1, 2, 3, 4]
    assert {str(field.type) for field in metrics.schema} == {"int32", "float"}
    gradient = metrics["gradient_log10"]
    assert gradient.null_count == 2 * (40 - 14)
    assert np.isfinite(gradient.drop_null().to_numpy()).all()
    evaluated = metrics.filter(metrics["test_accuracy"].is_valid())["step"].to_pylist()
    assert sorted(set(evaluated)) == [7, 14, 21, 28, 35, 40]
    assert layers["noise_scale"].null_count == layers.num_rows
    assert layers["dead"].null_count == 0
    assert {"status", "versions", "devices", "precision", "git_commit", "seconds", "compile_seconds"} <= set(run.meta)


def test_a_resolved_config_repeats_the_run(run, tmp_path):
    again = vgx.train(vgx.load_config(run.path / "config.yaml"), runs=tmp_path)
    assert again.path.name == run.path.name
    assert again.metrics().equals(run.metrics())
    assert again.layers().equals(run.layers())


def test_a_run_that_is_done_is_not_overwritten_unasked(run):
    config = vgx.load_config(SMALL)
    with pytest.raises(RunError, match="has been run"):
        vgx.train(config, runs=run.path.parent)
    assert vgx.train(config, runs=run.path.parent, resume=True).lanes().equals(run.lanes())


KILLED = """
import sys, vgx, vgx.runner.loop
vgx.runner.loop.FLUSH_SECONDS, vgx.runner.loop.CHUNK_SECONDS = 0.0, 0.01
vgx.train(vgx.load_config(__import__("json").loads(sys.argv[1])), runs=sys.argv[2], resume=True)
"""


@pytest.mark.parametrize(
    "how",
    [pytest.param(signal.SIGKILL, marks=pytest.mark.slow, id="kill -9"), pytest.param(signal.SIGINT, id="Ctrl-C")],
)
def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(how, tmp_path):
    settings = SMALL | {"train": SMALL["train"] | {"steps": 400}}
    config = vgx.load_config(settings)
    path = tmp_path / f"{config.name}-{config.digest}"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, json.dumps(settings), str(tmp_path)], stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list(path.glob("checkpoint/[0-9]*")):
        time.sleep(0.01)
    os.kill(process.pid, how)
    assert process.wait(60) != 0
    assert vgx.open_run(path).status == ("running" if how == signal.SIGKILL else "interrupted")
    resumed = vgx.train(config, runs=tmp_path, resume=True)
    whole = vgx.train(config, runs=tmp_path / "whole")
    assert resumed.metrics().equals(whole.metrics())
    assert resumed.layers().equals(whole.layers())
    assert resumed.lanes().equals(whole.lanes())


def test_divergence_is_a_result_and_names_the_step(tmp_path):
    settings = {
        "model": {"depth": 3, "width": 16},
        "train": {"batch_size": 32, "steps": 50, "optimizer": {"name": "sgd", "learning_rate": 1e30}},
    }
    run = vgx.train(vgx.load_config(settings), runs=tmp_path)
    lane = run.lanes().to_pylist()[0]
    assert (run.status, lane["status"], lane["verdict"]) == ("done", "diverged", "diverged")
    assert lane["diverged_step"] == run.metrics()["step"].to_numpy().max() < 50
    assert lane["diverged_layer"] is not None
    going_on = vgx.train(vgx.load_config(settings, ["train.stop_when_diverged=false"]), runs=tmp_path)
    assert going_on.metrics()["step"].to_numpy().max() == 50


def test_a_full_disk_says_so_and_loses_nothing(tmp_path, monkeypatch):
    timing = {"seconds": 0.0, "compile_seconds": 0.0, "steps_per_second": None}
    meta = {"status": "running", "step": 0, "devices": ["cpu: cpu"]} | timing
    writer = RunWriter.create(tmp_path / "run", vgx.load_config(SMALL).to_yaml(), meta)
    part = metrics_rows(
        "float32", np.arange(1), np.arange(1, 3), {"train_loss": np.ones((2, 1))}, np.ones((2, 1), bool)
    )
    layers = layer_rows("float32", np.arange(1), 2, np.arange(0), {}, np.ones((0, 1), bool))
    writer.append(part, layers)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EnvironmentFault, match="No space left on device; make room, then go on with resume=True"):
        writer.append(part, layers)
    monkeypatch.undo()
    assert vgx.open_run(tmp_path / "run").metrics().num_rows == 2
    assert not list((tmp_path / "run").rglob("*.tmp"))
    with pytest.raises(RunError, match=f"process {os.getpid()}"):
        RunWriter(tmp_path / "run")
    writer.close()


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(DataError, match="batch_size: 2000 is more than the 1437 training examples"):
        vgx.train(vgx.load_config({"train": {"batch_size": 2000}}), runs=tmp_path)


def test_without_statistics_there_is_no_verdict(tmp_path):
    settings = {"model": {"depth": 2, "width": 8}, "train": {"steps": 5}, "log": {"statistics": "none"}}
    run = vgx.train(vgx.load_config(settings), runs=tmp_path)
    assert run.lanes()["verdict"].to_pylist() == [None]
    assert run.layers().num_rows == 0


@pytest.mark.slow
@pytest.mark.skipif("VGX_DATA_DIR" not in os.environ, reason="MNIST is not here: set VGX_DATA_DIR")
def test_twenty_layers_reach_96_percent_on_mnist_in_three_epochs(tmp_path):
    run = vgx.train(vgx.load_config("configs/mnist.yaml"), runs=tmp_path)
    assert run.lanes()["test_accuracy"][0].as_py() >= 0.96
