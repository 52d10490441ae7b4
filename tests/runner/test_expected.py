"""What a config expects, as Python gets it judged."""

from __future__ import annotations

import math

import vgx

TREE = {
    "name": "expecting",
    "seeds": 2,
    "model": {"depth": 3, "width": 16},
    "train": {"steps": 3, "batch_size": 64},
}


def trained(runs, expect, **options):
    return vgx.train(vgx.load_config(TREE | {"expect": expect}), runs=runs, **options)


def test_a_run_comes_back_with_what_was_expected_of_each_lane(tmp_path):
    run = trained(tmp_path, {"slope": "predicted", "test_accuracy": ">= 0.999"})
    assert [(one.lane, one.what, one.holds) for one in run.expectations] == [
        (0, "slope", True),
        (0, "test_accuracy", False),
        (1, "slope", True),
        (1, "test_accuracy", False),
    ]
    assert [one.found for one in run.expectations[1::2]] == run.lanes()["test_accuracy"].to_pylist()


def test_a_run_that_is_done_is_judged_by_what_is_expected_now(tmp_path):
    assert trained(tmp_path, {}).expectations == ()
    again = trained(tmp_path, {"verdict": "healthy"}, resume=True)
    assert [one.holds for one in again.expectations] == [True, True]
    assert vgx.open_run(again.path).expectations == ()


def test_a_sweep_comes_back_with_what_its_cells_expect(tmp_path):
    grown = ["model.activation=relu,tanh"]
    tree = TREE | {"expect": {"slope": "predicted +- 9", "validation_accuracy": ">= 0"}}
    vgx.sweep(vgx.load_sweep(tree, [], ["model.activation=logistic"]), runs=tmp_path)
    run = vgx.sweep(vgx.load_sweep(tree, [], grown), runs=tmp_path)
    lanes = [lane["lane"] for lane in run.lanes().to_pylist() if lane["model.activation"] != "logistic"]
    assert len(run.lanes()) == 6
    assert [(one.lane, one.what, one.holds) for one in run.expectations] == [
        (lane, what, what == "slope") for lane in lanes for what in ("slope", "validation_accuracy")
    ]


def test_a_cell_may_expect_what_others_do_not(tmp_path):
    cells = [{"model.activation": "relu", "expect.verdict": "healthy"}, {"model.activation": "tanh"}]
    run = vgx.sweep(vgx.load_sweep(TREE | {"seeds": 1, "sweep": {"cells": cells}}), runs=tmp_path)
    assert [(one.lane, one.what) for one in run.expectations] == [(0, "verdict")]


def test_a_slope_that_theory_cannot_predict_does_not_hold(tmp_path, monkeypatch):
    def fail(config):
        raise ValueError("math domain error")

    monkeypatch.setattr("vgx.runner.expected.predict", fail)
    run = trained(tmp_path, {"slope": "predicted"})
    assert [one.holds for one in run.expectations] == [False, False]
    assert "math domain error" in run.expectations[0].expected
    assert math.isfinite(run.expectations[0].found)
