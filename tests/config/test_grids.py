"""Grids of a sweep in the terminal: what is shown, what it was over, and what the cells have in common."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_show import printed
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.report.terminal.sweep import show_sweep
from vgx.report.words import describe_config
from vgx.results.store import Run
from vgx.results.writer import RunWriter

BASE: dict[str, Any] = {"name": "grid", "model": {"depth": 3, "width": 8}, "train": {"steps": 2}}
GRID: dict[str, list[Any]] = {"model.activation": ["relu", "tanh"], "train.optimizer.learning_rate": [0.01, 0.1]}


@pytest.fixture
def write_sweep(tmp_path: Path) -> Callable[..., Run]:
    """A function that writes a sweep's directory and its lanes, nobody having trained it."""

    def write(axes: dict[str, list[Any]], seeds: int, pending: int = 0) -> Run:
        """`pending` lanes, from the last one back, have not ended."""
        planned = vgx.load_sweep(BASE | {"seeds": seeds, "sweep": {"axes": axes}})
        lanes = list(product(zip(planned.cells, product(*axes.values()), strict=True), range(seeds)))
        meta = {"status": "interrupted" if pending else "done", "step": 2, "devices": ["cpu: cpu"], "programs": 1}
        meta |= {"seconds": 1.0, "compile_seconds": 0.5, "steps_per_second": 9.0}
        counts = {"lanes": len(lanes), "lanes_done": len(lanes) - pending}
        writer = RunWriter.create(tmp_path / planned.folder, planned.to_yaml(), meta | counts)
        rng, rows = np.random.default_rng(0), []
        for lane, ((cell, values), seed) in enumerate(lanes):
            ended = {"status": "done", "verdict": "healthy", "slope": 0.01, "evidence": "written"}
            ended["test_accuracy"] = float(rng.uniform())
            waiting = dict.fromkeys(ended) | {"status": "pending"}
            options = {
                path: value if isinstance(value, int | float) else str(value)
                for path, value in zip(axes, values, strict=True)
            }
            rows.append(
                {"lane": lane, "cell": cell.key, "seed": seed}
                | options
                | (ended if lane < len(lanes) - pending else waiting)
                | {"validation_accuracy": 0.5}
            )
        writer.write_lanes(pa.Table.from_pylist(rows))
        writer.close()
        return Run(writer.path)

    return write


@pytest.mark.parametrize(
    ("seeds", "value", "said"),
    [
        (3, None, "test accuracy, mean ± standard deviation over 3 seeds"),
        (1, None, "test accuracy of one seed"),
        (2, "slope", "slope, mean ± standard deviation over 2 seeds"),
        (2, "verdict", "verdict of 2 seeds"),
    ],
)
def test_a_grid_says_what_its_cells_show(write_sweep, seeds, value, said):
    text = printed(show_sweep(write_sweep(GRID, seeds), value=value))
    assert said in text.splitlines()
    below = "below it the verdict, and the slope in decades per layer"
    assert (below in text.splitlines()) == (value is None)


def test_a_grid_that_is_not_finished_says_over_how_many_seeds_it_goes(write_sweep):
    text = printed(show_sweep(write_sweep(GRID, 3, pending=2)))
    assert "mean ± standard deviation over 1 to 3 seeds" in text


def test_what_was_chosen_and_is_not_shown_is_said(write_sweep):
    text = printed(show_sweep(write_sweep(GRID, 2), best_over="learning_rate"))
    assert "each at the best of 2 values of learning_rate, by validation accuracy" in text


def test_the_subtitle_has_what_the_cells_share_and_names_what_they_differ_in(write_sweep):
    title, subtitle, *_ = printed(show_sweep(write_sweep(GRID, 1))).splitlines()
    assert title == "grid  3 x 8, he_normal, no norm, sgd, digits"
    assert subtitle == "cells differ in activation, learning_rate"


@pytest.mark.parametrize(
    ("swept", "said"),
    [
        ([], "3 x 8 relu, he_normal, no norm, sgd 0.1, digits"),
        (["model.depth"], "width 8 relu, he_normal, no norm, sgd 0.1, digits"),
        (["model.width"], "3 layers relu, he_normal, no norm, sgd 0.1, digits"),
        (["model.depth", "model.width", "data"], "relu, he_normal, no norm, sgd 0.1"),
        (["model.initializer.gain", "model.activation"], "3 x 8, he_normal, no norm, sgd 0.1, digits"),
        (["train.optimizer", "model.normalization"], "3 x 8 relu, he_normal, digits"),
    ],
)
def test_a_net_in_a_line_leaves_out_what_is_swept(swept, said):
    assert describe_config(vgx.load_config(BASE).model_dump(mode="json"), swept) == said


def test_cells_without_a_lane_that_ended_are_said_to_be_left_out_of_a_comparison(write_sweep):
    run = write_sweep(GRID, 1, pending=1)
    result = CliRunner().invoke(app, ["compare", str(run.path)])
    assert result.stderr == f"{run.path.name}: 1 cell left out, of which no lane has ended\n"


def test_one_program_and_one_lane_are_not_several(write_sweep):
    text = printed(show_sweep(write_sweep({"model.activation": ["relu"]}, 1)))
    assert "done: 1 of 1 lane, 1 program, 1 s, 9 run-steps/s once compiled" in text
    assert re.search(r"\b1 \w+s\b(?!/)", text.replace("1 s,", "")) is None
