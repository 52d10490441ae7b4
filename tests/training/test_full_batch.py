"""Gradient descent proper: with `train.batch_size: full` every step sees all training examples."""

from __future__ import annotations

import numpy as np
import pytest

import vgx
from vgx.config.sweep import load_sweep
from vgx.errors import ConfigError, DataError, RunError
from vgx.runner.first_step import first_step
from vgx.theory.predict import net_of, source_of
from vgx.training.batches import batches_of

EXAMPLES, HELD_OUT = 50, 4
SETTINGS = {
    "name": "whole",
    "data": {"name": "synthetic", "examples": EXAMPLES, "features": 6, "classes": 3, "validation": HELD_OUT},
    "model": {"width": [8, 8], "activation": "tanh", "normalization": {"name": "batch", "placement": "after"}},
    "train": {"epochs": 6, "evaluate_every": 4, "precision": "float64"},
    "log": {"every": 2, "statistics": "full"},
}


def config_of(batch_size: int | str, **settings: object) -> vgx.Config:
    return vgx.load_config(SETTINGS | {"train": SETTINGS["train"] | {"batch_size": batch_size} | settings})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    examples = len(config_of("full").data.load().train.labels)
    return [vgx.train(config_of(size), runs=folder) for size in ("full", examples)]


def test_full_is_the_number_of_training_examples(runs):
    full, number = runs
    assert full.config["train"]["batch_size"] == "full"
    assert number.config["train"]["batch_size"] == len(config_of("full").data.load().train.labels)
    assert full.path.name != number.path.name
    for ours, theirs, keys in (
        (full.metrics(), number.metrics(), ("lane", "step", "epoch")),
        (full.layers(), number.layers(), ("lane", "step", "layer")),
    ):
        for name in keys:
            assert ours[name].equals(theirs[name])
        for name in ours.column_names:
            # Shuffled examples are summed in another order, and float64 rounds at 1e-16.
            a, b = (np.asarray(table[name], np.float64) for table in (ours, theirs))
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10, err_msg=name)


def test_a_step_is_an_epoch(runs):
    metrics = runs[0].metrics()
    assert metrics["epoch"].to_pylist() == metrics["step"].to_pylist() == [1, 2, 3, 4, 5, 6]


def test_every_step_sees_every_example_in_the_same_order():
    batches = batches_of(config_of("full"), (0, 3), 7)
    assert [batches.at(step).tolist() for step in (0, 5)] == [[list(range(7))] * 2] * 2


def test_theory_and_the_first_step_know_how_many_there_are(runs):
    config = config_of("full")
    examples = len(config.data.load().train.labels)
    assert net_of(config, source_of(config.data.load(), "unit")).batch == examples
    first = first_step(config).delta_log10[0]
    assert first == pytest.approx(runs[0].curves("delta_log10")[0].values[0], abs=1e-9)


@pytest.mark.slow
def test_cells_of_a_sweep_may_differ_in_it(tmp_path):
    axes = {"train.batch_size": [16, "full"]}
    run = vgx.sweep(load_sweep(SETTINGS | {"sweep": {"axes": axes}}), runs=tmp_path)
    assert [str(size) for size in run.lanes()["train.batch_size"].to_pylist()] == ["16", "full"]
    last = run.metrics().to_pylist()
    assert {row["lane"]: row["step"] for row in last} == {0: 6 * ((EXAMPLES - HELD_OUT) // 16), 1: 6}


def test_devices_that_cannot_share_all_examples_are_refused(tmp_path):
    settings = SETTINGS | {"data": SETTINGS["data"] | {"validation": 3}, "train": {"batch_size": "full", "steps": 1}}
    with pytest.raises(RunError, match="a batch of 47 cannot be dealt out evenly"):
        vgx.train(vgx.load_config(settings), runs=tmp_path, devices_per_run=2)


def test_batch_norm_needs_two_examples(tmp_path):
    settings = SETTINGS | {"data": SETTINGS["data"] | {"examples": 2, "validation": 1}}
    settings["train"] = {"batch_size": "full", "steps": 1}
    with pytest.raises(
        DataError, match="full is the one training example of 'synthetic', and batch norm needs at least 2"
    ):
        vgx.train(vgx.load_config(settings), runs=tmp_path)
    with pytest.raises(ConfigError, match="expected a whole number or full, found the text 'fll'"):
        vgx.load_config({"train": {"batch_size": "fll"}})
