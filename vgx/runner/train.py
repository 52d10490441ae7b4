"""The bridge: a config becomes a program and its lanes, and a host loop feeds it and keeps what it reports."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from vgx.config.schema import Config
from vgx.data import Dataset
from vgx.devices import (
    PerRun,
    Platform,
    find_devices,
    keep_compiled_programs,
    memory_for_lanes,
    numerics,
    own,
    resolve_per_run,
)
from vgx.errors import RunError
from vgx.results import directories
from vgx.results.lane_results import LayerFigures, judge_lanes
from vgx.results.store import Run
from vgx.results.writer import RunWriter, lane_rows
from vgx.runner import checkpoint, processes
from vgx.runner.expected import with_expectations
from vgx.runner.loop import TrainingResult, Watch, train_lanes
from vgx.runner.opening import existing_run, initial_meta, load_data, now, open_writer
from vgx.runner.plan import check_spectrum_fits
from vgx.runner.predictions import Predictions
from vgx.runner.preparation import LaneGroup, LaneSpec, ProgramCache, bad_steps
from vgx.runner.stopping import ending_noted
from vgx.training.batches import batch_size_of
from vgx.training.inputs import BATCH
from vgx.training.lanes import spread_over


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
    devices_per_run: PerRun = 1,
    watch: Watch | None = None,
) -> Run:
    """Trains a config, one lane per seed side by side, and returns its run, with what the config expects of it judged.

    Args:
        config: what to train.
        runs: the folder that the run directory is made in.
        resume: resumes a run that was cut off (to the same bits); starts it when there is none, and leaves one
            that is done.
        overwrite: replaces a run that exists.
        device: cpu, gpu or tpu; jax's own choice when None.
        devices_per_run: how many devices share every batch of a lane, each with a copy of its parameters; `auto`: those
            that lanes leave free. A run that is resumed may have others than it began with.
        watch: called with a `TrainingProgress` whenever a chunk of steps is done.

    Raises:
        DataError: the data set is missing or broken.
        RunError: the run exists already, another process writes it, or a batch does not divide over the devices.
        EnvironmentFault: no such device, too few of them, the disk refuses, or a library is missing that the config
            asks for.
        Interrupted: Ctrl-C or SIGTERM came; the run is saved.
    """
    if resume and overwrite:
        raise RunError("--resume and --overwrite exclude each other: choose one")
    path, groups = run_path(config, runs), [(config, range(len(config.seed_list)))]
    if processes.from_first(lambda: _is_done(path, config, resume, overwrite)):
        return with_expectations(Run(path), groups, {})
    mesh, dataset = _where_and_what(config, device, devices_per_run)
    with numerics(config.train.precision, own(mesh)):
        writer, meta, bad = _open_for_all(path, config, dataset, mesh, overwrite)
        with closing(writer), ending_noted(path, "--resume goes on", partial(_note, writer)):
            run, known = _train(config, dataset, mesh, writer, meta, bad, watch or (lambda progress: None))
    return with_expectations(run, groups, known)


def train_beside(config: Config, *, device: Platform | None = None, devices_per_run: PerRun = "auto") -> None:
    """Trains a config together with the first process, which calls `train` with it and alone writes.

    Raises as `train` does, in all processes alike where the first one finds the fault.
    """
    if processes.from_first(lambda: False):
        return
    mesh, dataset = _where_and_what(config, device, devices_per_run)
    with numerics(config.train.precision, own(mesh)):
        step, bad = processes.from_first(lambda: (0, {}))
        group = LaneGroup(_lane_specs(config), 0, dataset, "checkpoint", step, bad)
        with closing(ProgramCache()) as cache, processes.losses_told():
            train_lanes(group, mesh, None, lambda result: None, lambda progress: None, lambda: None, cache)


def _is_done(path: Path, config: Config, resume: bool, overwrite: bool) -> bool:
    """Whether the run is there, whole. Raises RunError when it is in the way."""
    existing = existing_run(path, [config], overwrite)
    if existing is None:
        return False
    if not resume:
        raise RunError(_in_the_way(existing))
    if existing.status == "done" and (path / "lanes.parquet").exists():
        existing.check()
        existing.lanes()
        return True
    return False


def _where_and_what(config: Config, device: Platform | None, devices_per_run: PerRun) -> tuple[Mesh, Dataset]:
    """The devices that a run has, lanes by batch, and its data set."""
    keep_compiled_programs()
    lanes = len(config.seed_list)
    devices = find_devices(device, lanes if devices_per_run == 1 else 2)
    dataset = load_data(config)
    check_spectrum_fits(config, dataset, memory_for_lanes(devices[:1]))
    batch = batch_size_of(config, len(dataset.train.labels))
    mesh = spread_over(devices, lanes, resolve_per_run(devices_per_run, len(devices), lanes, batch))
    processes.check_use(mesh, devices)
    processes.check_alike(config, dataset)
    return mesh, dataset


def _open_for_all(
    path: Path, config: Config, dataset: Dataset, mesh: Mesh, overwrite: bool
) -> tuple[RunWriter, dict[str, Any], dict[int, int]]:
    """Opens the run, and tells the processes that train it where it stands, or why it cannot be."""
    opened: list[tuple[RunWriter, dict[str, Any]]] = []

    def begin() -> tuple[int, dict[int, int]]:
        opened.append(_open(path, config, dataset, mesh, overwrite))
        step = opened[0][1]["step"]
        return step, bad_steps(Run(path), range(len(config.seed_list))) if step else {}

    _, bad = processes.from_first(begin)
    return *opened[0], bad


def _lane_specs(config: Config) -> list[LaneSpec]:
    return [LaneSpec(lane, 0, config, seed) for lane, seed in enumerate(config.seed_list)]


def _train(
    config: Config,
    dataset: Dataset,
    mesh: Mesh,
    writer: RunWriter,
    meta: dict[str, Any],
    bad: dict[int, int],
    watch: Watch,
) -> tuple[Run, dict[int, LayerFigures]]:
    """Trains the lanes of an open run from where it stands, and judges them."""
    lanes, predictions = range(len(config.seed_list)), Predictions(lambda config: dataset)

    def report(result: TrainingResult) -> None:
        writer.write_json("meta.json", meta | result.added_to(meta))

    def predict() -> None:
        meta["prediction_fault"] = predictions.write(writer, dict.fromkeys(lanes, config)) or None

    group = LaneGroup(_lane_specs(config), 0, dataset, "checkpoint", meta["step"], bad)
    predicting: list[Future[None]] = []
    with closing(ProgramCache()) as cache, ThreadPoolExecutor(1, "predict") as thread:

        def meanwhile() -> None:
            predicting.append(thread.submit(predict))

        with processes.losses_told():
            result = train_lanes(group, mesh, writer, report, watch, meanwhile, cache)
        predicting[0].result()
    run = Run(writer.path)
    judged = judge_lanes(run, lanes, config.seed_list, len(config.model.widths))
    writer.write_lanes(lane_rows([one.result for one in judged]))
    run.check()
    meta["ended"] = now()
    report(result._replace(status="done"))
    watch(result.progress._replace(phase="done", step=result.step))
    return run, {one.result.lane: one.figures for one in judged}


def _note(writer: RunWriter, status: str, error: str | None) -> None:
    """Leaves in meta.json how a run ended that did not come to its end."""
    meta = Run(writer.path).meta
    if meta["status"] != "done":
        writer.write_json("meta.json", meta | {"status": status} | ({"error": error} if error else {}))


def _in_the_way(run: Run) -> str:
    if run.status == "done":
        return f"{run.path}: this config has been run; `vgx show {run.path}` shows it, --overwrite runs it again"
    step = run.meta["step"]
    return f"{run.path}: this run was cut off at step {step}; --resume goes on, --overwrite starts again"


def _open(
    path: Path, config: Config, dataset: Dataset, mesh: Mesh, overwrite: bool
) -> tuple[RunWriter, dict[str, Any]]:
    """Makes the run directory, or opens the one that is there, at its last checkpoint."""
    meta = initial_meta(config, list(mesh.devices.flat), mesh.shape[BATCH]) | {"data_digest": dataset.digest}
    resumes = directories.occupied(path) and not overwrite
    writer = open_writer(path, config.to_yaml(), meta, overwrite)
    if not resumes:
        return writer, meta
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
