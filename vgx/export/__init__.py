"""A run in the formats of other tools."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vgx.errors import EnvironmentFault, RunError, install
from vgx.results import directories, recognition
from vgx.results.files import drafted, explained, hidden
from vgx.results.store import Run

FORMATS = ("csv", "npz", "tensorboard", "wandb", "mlflow")
LAYERS = 8
"""Hidden layers that get a curve of their own in a tool that draws one picture for each."""
MARK = recognition.EXPORT_MARK


def export(run: Run, to: str, output: Path | None = None, layers: int | None = None, overwrite: bool = False) -> Path:
    """Writes a run in another tool's format, whole or not at all, and returns where.

    Args:
        run: what to write, a sweep with all its lanes that have begun.
        to: one of FORMATS.
        output: a folder (a file for npz); `exports/<to>` in the run directory by default.
        layers: how many hidden layers, evenly over the depth, get curves of their own besides the readout; LAYERS
            by default. csv and npz have every layer.
        overwrite: replaces what an earlier export wrote there, and nothing else.

    Raises RunError when there is something at `output`, EnvironmentFault when the format's library is missing.
    """
    if to not in FORMATS:
        raise RunError(f"--to {to}: expected one of {', '.join(FORMATS)}")
    if layers is not None and to in ("csv", "npz"):
        raise RunError(f"--layers: {to} has every layer; leave it out")
    output = output or run.path / "exports" / (f"{run.path.name}.npz" if to == "npz" else to)
    with _replacing(output, overwrite, folder=to != "npz") as draft:
        _writer(to)(run, draft, output, layers or LAYERS)
    return output


def _writer(to: str) -> Callable[[Run, Path, Path, int], None]:
    from vgx.export import tables, tensorboard, trackers

    return {
        "csv": tables.write_csv,
        "npz": tables.write_npz,
        "tensorboard": tensorboard.write_tensorboard,
        "wandb": trackers.write_wandb,
        "mlflow": trackers.write_mlflow,
    }[to]


@contextmanager
def _replacing(output: Path, overwrite: bool, folder: bool) -> Iterator[Path]:
    """A draft beside `output`, renamed over it when it is whole; what an export did not write stays in its folder."""
    with explained(output, "read"):
        if os.path.lexists(output):
            ours = (output / MARK).is_file() if folder else recognition.is_npz_of_a_run(output)
            if not ours:
                raise RunError(f"{output}: is there, and no export of vgx; choose another --output")
            if not overwrite:
                raise RunError(f"{output}: is there already; --overwrite replaces it")
    with explained(output):
        if not folder:
            with drafted(output) as draft:
                yield draft
            return
        directories.recover(output.parent, output.name)
        draft = hidden(output, "new")
        draft.mkdir(parents=True)
        try:
            (draft / MARK).touch()
            yield draft
            recognition.mark_export(draft)
            directories.publish(draft, output, replace=True)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def require(module: str, extra: str) -> Any:
    """Returns a module of an optional library. Raises EnvironmentFault, with what to install, when it is not there."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        raise EnvironmentFault(f"{missing} is not installed: {install(extra)}") from None
