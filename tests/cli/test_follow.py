"""`vgx show --follow`: what it draws while somebody writes a run, and when it ends."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from vgx.cli import follow
from vgx.results.store import Run
from vgx.results.writer import RunWriter, layer_rows, metrics_rows


def test_a_run_is_drawn_anew_while_it_is_written_and_no_longer(write_run, monkeypatch):
    run = write_run(
        {"name": "net", "model": {"depth": 2, "width": 4}},
        {"delta_log10": np.zeros((2, 1, 3))},
        {"train_loss": np.ones((2, 1))},
    )
    writer, drawn = RunWriter(run.path), []

    def rows(step: int) -> None:
        metrics = metrics_rows(
            "float32", np.arange(1), np.array([step]), {"train_loss": np.ones((1, 1))}, np.ones((1, 1), bool)
        )
        layers = layer_rows("float32", np.arange(1), 3, np.arange(0), {}, np.ones((0, 1), bool))
        writer.append(metrics, layers)

    def pause(seconds: float) -> None:
        rows(len(drawn) + 2) if len(drawn) < 3 else writer.close()

    def draw() -> str:
        drawn.append(Run(run.path).metrics().num_rows)
        return f"{drawn[-1]} rows"

    monkeypatch.setattr(follow.time, "sleep", pause)
    out = io.StringIO()
    follow.follow(run, draw, Console(file=out, force_terminal=True, highlight=False, width=80))
    assert drawn == [2, 3, 4]
    assert "4 rows" in out.getvalue()
    assert not follow.is_written(run)


def test_in_a_pipe_it_waits_and_draws_nothing(write_run, monkeypatch):
    run = write_run({"name": "net", "model": {"depth": 2, "width": 4}}, {}, {"train_loss": np.ones((2, 1))})
    writer = RunWriter(run.path)
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: writer.close())
    follow.follow(run, lambda: 1 / 0, Console(file=io.StringIO(), width=80))
    assert not follow.is_written(run)
