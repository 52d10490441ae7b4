"""How a run or a sweep begins: its directory made or opened again, what it runs on noted, its data read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vgx.config.schema import Config
from vgx.data import Dataset
from vgx.devices import Device, PerRun, describe, matmul_precision
from vgx.errors import DataError
from vgx.export import tensorboard
from vgx.results import directories
from vgx.results.reading import FORMAT
from vgx.results.store import Run
from vgx.results.writer import RunWriter
from vgx.runner import processes
from vgx.runner.preparation import steps_of
from vgx.training.batches import batch_size_of


def existing_run(path: Path, configs: Iterable[Config], overwrite: bool) -> Run | None:
    """Makes a path ready for a run of these configs, and returns the run that is there, unless it is overwritten.

    Raises RunError where none can be, and EnvironmentFault when a library is missing that a config asks for.
    """
    if any(config.log.tensorboard for config in configs):
        tensorboard.check()
    directories.ready(path, overwrite)
    return Run(path) if directories.occupied(path) and not overwrite else None


def initial_meta(config: Config, devices: Sequence[Device], per_run: PerRun) -> dict[str, Any]:
    """Returns what `meta.json` says of a run before its first step, on so many devices for each of its lanes."""
    return {
        "format": FORMAT,
        "status": "running",
        "step": 0,
        "started": now(),
        **describe(devices),
        "devices_per_run": per_run,
        "processes": processes.count(),
        "precision": config.train.precision,
        "matmul_precision": matmul_precision(config.train.precision),
        "seconds": 0.0,
        "compile_seconds": 0.0,
        "steps_per_second": None,
    }


def open_writer(path: Path, text: str, meta: dict[str, Any], overwrite: bool) -> RunWriter:
    """Returns the writer of the run that is there, or of a new one with the config `text` and with `meta`."""
    if directories.occupied(path) and not overwrite:
        return RunWriter(path)
    return RunWriter.create(path, text, meta, overwrite)


def now() -> str:
    """Returns the time as a run notes it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_data(config: Config) -> Dataset:
    """Returns the config's data set. Raises DataError when it is missing, broken or smaller than a batch."""
    dataset = config.data.load()
    examples = len(dataset.train.labels)
    batch = batch_size_of(config, examples)
    if batch > examples:
        raise DataError(
            f"train.batch_size: {batch} is more than the {examples} training examples of '{dataset.name}'; lower it"
        )
    if batch == 1 and config.model.normalization.over_batch:
        raise DataError(
            f"train.batch_size: {config.train.batch_size} is the one training example of '{dataset.name}', and batch "
            "norm needs at least 2; give it more examples"
        )
    steps, spectrum = steps_of(config, dataset), config.log.spectrum
    if spectrum and (late := spectrum.beyond(steps)) is not None:
        raise DataError(f"log.spectrum.at: step {late}: the run has {steps} steps in its {config.train.epochs} epochs")
    return dataset
