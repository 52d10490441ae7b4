"""Counts and figures in words: one thing is not several, and what was not measured is no number."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from test_show import curves, printed, written

import vgx
from vgx.report.terminal.progress import _figures, watching
from vgx.report.terminal.run import show
from vgx.results.verdict import DEAD, DEAD_LAYER, SATURATED, SPAN
from vgx.results.words import counted, figure, speed_of
from vgx.runner.loop import TrainingProgress


@pytest.mark.parametrize(("count", "words"), [(0, "0 lanes"), (1, "1 lane"), (2, "2 lanes"), (12_000, "12,000 lanes")])
def test_one_lane_is_not_1_lanes(count, words):
    assert counted(count, "lane") == words


def test_nowhere_else_is_a_plural_made():
    """Counts of what may be one go through `counted`; a count that is never one may stand as it is."""
    made = re.compile(r"""['"]s['"] (\*|if)""")
    files = Path(vgx.__file__).parent.rglob("*.py")
    assert [path.name for path in files if path.name != "words.py" and made.search(path.read_text())] == []


@pytest.mark.parametrize(
    ("value", "words"), [(None, "-"), (math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "-∞"), (0.97124, "0.9712")]
)
def test_what_is_no_number_has_its_sign(value, words):
    assert figure(value) == words


def test_speed_says_that_compiling_is_left_out():
    assert speed_of({"steps_per_second": 1234.5}) == ", 1,234 steps/s once compiled"
    assert speed_of({"steps_per_second": None}) == ""
    assert speed_of({}) == ""


START = TrainingProgress("compiling", 0, 10, 0.0, 1, math.nan, math.nan, math.nan, 0, None)
UNEVALUATED = START._replace(phase="training", step=3, train_loss=2.0, train_accuracy=0.5, steps_per_second=9.0)


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (START, ["-", "-", "-"]),
        (UNEVALUATED, ["2.0000", "0.5000", "-"]),
        (UNEVALUATED._replace(train_loss=math.nan), ["NaN", "0.5000", "-"]),  # a loss that was measured, and is NaN
        (UNEVALUATED._replace(test_accuracy=0.25, evaluated=3), ["2.0000", "0.5000", "0.2500"]),
    ],
)
def test_before_the_first_evaluation_the_accuracy_is_a_dash(progress, shown):
    words = ["train loss", "train accuracy", "test accuracy"]
    assert _figures(progress).plain.split("   ")[:3] == [f"{a} {b}" for a, b in zip(words, shown, strict=True)]


def test_a_diverged_loss_is_called_NaN_in_a_pipe_too(capsys):
    from rich.console import Console

    lost = UNEVALUATED._replace(train_loss=math.nan, test_accuracy=math.nan, evaluated=3)
    with watching(Console(), vgx.load_config({"name": "net"}), silent=False) as watch:
        assert watch
        watch(lost)
    assert "loss NaN  test accuracy NaN" in capsys.readouterr().out


def test_layers_that_the_table_leaves_out_are_counted(write_run):
    assert "11 of 20 layers and the readout; --layer N shows another" in printed(show(written(write_run, 20)))
    assert "layers and the readout" not in printed(show(written(write_run, 11)))


def test_the_verdict_stands_beside_its_thresholds(write_run):
    text = printed(show(written(write_run, 3)), width=300)
    dead = f"dead from {DEAD:.0%} of units ({DEAD_LAYER:.0%} of a layer's)"
    for said in (f"exploding from {SPAN:g} decades", dead, f"saturated from {SATURATED:.0%}"):
        assert said in text
    assert text.splitlines()[-1].startswith("healthy  ")  # the last line stays the verdict's


def test_a_run_of_a_diverged_net_says_NaN(write_run):
    settings = {"name": "lost", "model": {"depth": 3, "width": 8}, "train": {"steps": 12}}
    metrics = {"train_loss": np.full((12, 2), np.nan), "test_accuracy": np.full((12, 2), np.nan)}
    two = {name: np.repeat(values, 2, 1) for name, values in curves(3).items()}
    text = printed(show(write_run(settings, two, metrics)))
    assert re.search(r"\bnan\b", text) is None
    assert "loss NaN" in text
