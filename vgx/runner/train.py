"""The bridge: a config becomes a program and its lanes, and a host loop feeds it and keeps what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from vgx.config.schema import Config
from vgx.data import Dataset
from vgx.devices import Device, Platform, describe, find_devices, keep_compiled_programs, matmul_precision, numerics
from vgx.errors import DataError, RunError
from vgx.export import tensorboard
from vgx.results import directories
from vgx.results.lane_results import judge_lanes
from vgx.results.reading import FORMAT
from vgx.results.store import Run
from vgx.results.writer import RunWriter, lane_rows
from vgx.runner import checkpoint
from vgx.runner.loop import LaneSpec, Loop, ProgressPaths, Watch
from vgx.runner.predictions import PredictionWriter
from vgx.runner.stopping import Interrupted, ending_noted


def run_path(config: Config, runs: str | Path = "runs") -> Path:
    """Returns the directory of a config's run: the same config has the same directory."""
    return Path(runs) / f"{config.name}-{config.digest}"


def train(
    config: Config,
    *,
    runs: str | Path = "runs",
    resume: bool = False,
    overwrite: bool = False,
    device: Platform | None = None,
    watch: Watch | None = None,
) -> Run:
    """Trains a config, one lane per seed side by side, and returns its run.

    Args:
        config: what to train.
        runs: the folder that the run directory is made in.
        resume: goes on with a run that was cut off (to the same bits); starts it when there is none, and leaves one
            that is done.
        overwrite: replaces a run that exists.
        device: cpu, gpu or tpu; jax's own choice when None.
        watch: called with a `TrainingProgress` whenever a chunk of steps is done.

    Raises:
        DataError: the data set is missing or broken.
        RunError: the run exists already, or another process writes it.
        EnvironmentFault: no such device, the disk refuses, or a library is missing that the config asks for.
        Interrupted: Ctrl-C or SIGTERM came; the run is saved.
    """
    if resume and overwrite:
        raise RunError("--resume goes on with a run, and --overwrite starts it again: choose one")
    path = run_path(config, runs)
    if config.log.tensorboard:
        tensorboard.check()
    directories.ready(path, overwrite)
    if directories.occupied(path) and not overwrite:
        existing = Run(path)
        if not resume:
            raise RunError(_in_the_way(existing))
        if existing.status == "done" and (path / "lanes.parquet").exists():
            existing.check()
            existing.lanes()
            return existing
    keep_compiled_programs()
    devices = find_devices(device, len(config.seed_list))
    dataset = load_data(config)
    with numerics(config.train.precision, devices[0]):
        writer, meta = _open(path, config, dataset, devices, overwrite)
        with closing(writer), ending_noted(path, "--resume goes on", partial(_note, writer)):
            lanes, oracle = range(len(config.seed_list)), PredictionWriter(lambda config: dataset)
            oracle.write(writer, dict.fromkeys(lanes, config))
            meta["prediction_fault"] = oracle.fault or None
            seats = [LaneSpec(lane, 0, config, seed) for lane, seed in enumerate(config.seed_list)]
            account = ProgressPaths("meta.json", "checkpoint")
            loop = Loop(seats, 0, dataset, devices, writer, account, meta, watch or (lambda progress: None))
            try:
                step = loop.run()
            except Interrupted as interrupted:
                raise Interrupted(f"{interrupted}; --resume goes on") from None
            oracle.write(writer, dict.fromkeys(lanes, config))
            results = judge_lanes(Run(path), lanes, config.seed_list, len(config.model.widths))
            writer.write_lanes(lane_rows(results))
            Run(path).check()
            meta["ended"] = now()
            loop.note(step, "done")
            loop.watch(loop.progress._replace(phase="done", step=step))
    return Run(path)


def _note(writer: RunWriter, status: str, error: str | None) -> None:
    """Leaves in meta.json how a run ended that did not come to its end."""
    meta = Run(writer.path).meta
    if meta["status"] != "done":
        writer.write_json("meta.json", meta | {"status": status} | ({"error": error} if error else {}))


def now() -> str:
    """Returns the time as a run notes it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_data(config: Config) -> Dataset:
    """Returns the config's data set. Raises DataError when it is missing, broken or smaller than a batch."""
    dataset = config.data.load()
    examples, batch = len(dataset.train.labels), config.train.batch_size
    if batch > examples:
        raise DataError(
            f"train.batch_size: {batch} is more than the {examples} training examples of '{dataset.name}'; lower it"
        )
    return dataset


def _in_the_way(run: Run) -> str:
    if run.status == "done":
        return f"{run.path}: this config has been run; `vgx show {run.path}` shows it, --overwrite runs it again"
    step = run.meta["step"]
    return f"{run.path}: this run was cut off at step {step}; --resume goes on, --overwrite starts again"


def _open(
    path: Path, config: Config, dataset: Dataset, devices: Sequence[Device], overwrite: bool
) -> tuple[RunWriter, dict[str, Any]]:
    """Makes the run directory, or opens the one that is there, at its last checkpoint."""
    meta: dict[str, Any] = {
        "format": FORMAT,
        "status": "running",
        "step": 0,
        "started": now(),
        **describe(devices[: len(config.seed_list)]),
        "precision": config.train.precision,
        "matmul_precision": matmul_precision(config.train.precision),
        "data_digest": dataset.digest,
        "seconds": 0.0,
        "compile_seconds": 0.0,
        "steps_per_second": None,
    }
    if overwrite or not directories.occupied(path):
        return RunWriter.create(path, config.to_yaml(), meta, overwrite), meta
    writer = RunWriter(path)
    kept = Run(path).meta
    if kept.get("data_digest") != dataset.digest:
        writer.close()
        raise RunError(
            f"{path}: the data set '{dataset.name}' is no longer what this run began with; --overwrite starts again"
        )
    step = checkpoint.newest(path / "checkpoint") or 0
    writer.drop_lanes()
    writer.drop_after(step)
    kept_of = {key: kept[key] for key in ("started", "seconds", "compile_seconds") if key in kept}
    return writer, meta | kept_of | {"step": step}
