"""Weights & Biases and MLflow: a run of theirs for each lane, written to local files."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from vgx.export import require
from vgx.export.series import Series, begun, by_step, lane_name, options_of, series_of
from vgx.results.columns import FINAL
from vgx.results.safe_text import everywhere, one_line
from vgx.results.store import Run

MAX_METRICS = 1000
"""Metrics that MLflow takes in one go."""
MAX_PARAMETERS = 100
"""Parameters, likewise."""


def _lanes(run: Run, layers: int) -> list[tuple[dict[str, Any], list[Series]]]:
    """Each lane's row and its curves."""
    found = []
    for lane in begun(run):
        mine = pc.field("lane") == lane["lane"]
        found.append((lane, series_of(run.metrics(where=mine), run.layers(where=mine), layers, run.paths)))
    return found


def _ended(lane: dict[str, Any]) -> dict[str, Any]:
    """How a lane ended."""
    return {
        name: lane[name] for name in ("status", "verdict", "slope", "evidence", *FINAL) if lane.get(name) is not None
    }


def write_wandb(run: Run, draft: Path, output: Path, layers: int) -> None:
    """Writes offline runs, which `wandb sync` uploads; nothing is sent."""
    wandb = require("wandb", "wandb")
    del output
    settings = wandb.Settings(
        console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True
    )
    for lane, series in _lanes(run, layers):
        theirs = wandb.init(
            project="vgx",
            group=one_line(run.path.name),
            name=one_line(f"{run.config['name']} {lane_name(lane)}"),
            dir=str(draft),
            mode="offline",
            config=everywhere(run.config | options_of(lane) | {"lane": lane["lane"]}),
            settings=settings,
            reinit="finish_previous",
        )
        for step, values in by_step(series):
            theirs.log(values, step=step)
        theirs.summary.update(everywhere(_ended(lane)))
        theirs.finish()


def write_mlflow(run: Run, draft: Path, output: Path, layers: int) -> None:
    """Writes an SQLite store, `mlflow.db`, with an experiment for the run. An infinity becomes the largest double."""
    mlflow = require("mlflow", "mlflow")
    require("sqlalchemy", "mlflow")
    require("alembic", "mlflow")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{(draft / 'mlflow.db').resolve()}")
    artifacts = (output / "artifacts").resolve().as_uri()
    experiment = client.create_experiment(one_line(run.path.name), artifact_location=artifacts)
    entities = mlflow.entities
    for lane, series in _lanes(run, layers):
        theirs = client.create_run(experiment, run_name=lane_name(lane))
        number = theirs.info.run_id
        options = everywhere(_flat(run.config) | options_of(lane))
        parameters = [entities.Param(name, str(value)) for name, value in options.items()]
        tags = [entities.RunTag(f"vgx.{name}", str(value)) for name, value in everywhere(_ended(lane)).items()]
        client.log_batch(number, tags=tags)
        for start in range(0, len(parameters), MAX_PARAMETERS):
            client.log_batch(number, params=parameters[start : start + MAX_PARAMETERS])
        metrics = [
            entities.Metric(one.tag, value, 0, step)
            for one in series
            for step, value in zip(one.steps.tolist(), one.values.tolist(), strict=True)
        ]
        for start in range(0, len(metrics), MAX_METRICS):
            client.log_batch(number, metrics=metrics[start : start + MAX_METRICS])
        client.set_terminated(number, "FINISHED" if lane["status"] in ("done", "diverged") else "FAILED")


def _flat(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """A config's options by path, but for the section that sweeps it."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and key != "sweep":
            found |= _flat(value, f"{above}{key}.")
        elif key != "sweep":
            found[f"{above}{key}"] = json.dumps(value) if isinstance(value, list) else value
    return found
