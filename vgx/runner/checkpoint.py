"""The training state on disk: one whole checkpoint, the newest, under `checkpoint/STEP`."""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from vgx.errors import Damaged
from vgx.results.files import explained, named_in, try_to_open
from vgx.results.manifest import unreadable
from vgx.runner import processes

Tree = TypeVar("Tree")
FILES = 16
"""Files that orbax has open at once while it saves, at the most, and two for each core."""


def save(folder: Path, step: int, state: Any) -> None:
    """Writes `state`, a tree of NumPy's arrays, as `folder/STEP`, and then removes what stood there before it.

    Raises EnvironmentFault when the disk refuses; the checkpoint before stands then.
    """
    path = folder / f"{step:09d}"
    with explained(folder, run=True):
        shutil.rmtree(path, ignore_errors=True)
        try_to_open(FILES + 2 * (os.cpu_count() or 1))
        try:
            with _said_once(), _checkpointer() as checkpointer:
                checkpointer.save(path.absolute(), _named(state))
                checkpointer.wait_until_finished()
        except (ValueError, RuntimeError) as error:
            # tensorstore says in its own words what the file system refused.
            refusal = named_in(error)
            if refusal is None:
                raise
            for draft in _checkpoints(folder):
                if not draft.name.isdigit():
                    shutil.rmtree(draft, ignore_errors=True)
            raise refusal from None
        for stale in _checkpoints(folder):
            if stale != path:
                shutil.rmtree(stale, ignore_errors=True)


@contextmanager
def _said_once() -> Iterator[None]:
    """Keeps tensorstore from telling of a failure more than once.

    Those of its reads and writes that nobody waited for would each print a traceback whenever they end, so after a
    failure they stay silent.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda what: None if "Event loop is closed" in str(what.exc_value) else hook(what)
    try:
        yield
    except Exception:
        logging.getLogger("asyncio").addFilter(_is_news)
        raise
    sys.unraisablehook = hook


def _is_news(record: logging.LogRecord) -> bool:
    """Whether asyncio logs anything but that nobody waited for a write."""
    return "never retrieved" not in record.getMessage()


def _checkpoints(folder: Path) -> list[Path]:
    """What is a checkpoint in a folder, or orbax's draft of one."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return [path for path in paths if re.fullmatch(r"[0-9]+(\.orbax-checkpoint-tmp.*)?", path.name)]


def newest(folder: Path) -> int | None:
    """Returns the step of the newest complete checkpoint, or None when there is none.

    Raises Damaged when the folder is something else, or may not be read.
    """
    try:
        return max((int(name) for name in os.listdir(folder) if name.isdigit()), default=None)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(folder, error) from None


def load(folder: Path, step: int, like: Tree) -> Tree:
    """Returns the checkpoint of `step` as NumPy's arrays, in the structure and types of `like`.

    Raises Damaged when it cannot be read, or is of another state.
    """
    path = folder / f"{step:09d}"
    try:
        with _said_once(), _checkpointer() as checkpointer:
            wanted = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in _named(like).items()}
            named = checkpointer.restore(path.absolute(), wanted)
    except MemoryError:
        raise
    except Exception as error:
        # Where files are missing, cut short, altered, or of another state, orbax and tensorstore raise of any kind.
        raise Damaged(path, f"cannot be read ({' '.join(str(error).split())[:100]})") from None
    return jax.tree.unflatten(jax.tree.structure(like), list(named.values()))


def packed(folder: Path, step: int) -> bytes:
    """Returns the files of the checkpoint of `step`, for another machine. Raises Damaged when it cannot be read."""
    sink = io.BytesIO()
    try:
        with tarfile.open(fileobj=sink, mode="w") as archive:
            archive.add(folder / f"{step:09d}", arcname=".")
    except OSError as error:
        raise unreadable(folder / f"{step:09d}", error) from None
    return sink.getvalue()


def unpack(folder: Path, step: int, files: bytes) -> None:
    """Writes the checkpoint that another machine `packed` as `folder/STEP`, and then removes what stood there before.

    Raises EnvironmentFault when the disk refuses; the checkpoint before stands then.
    """
    path = folder / f"{step:09d}"
    draft = folder / f"{step:09d}.orbax-checkpoint-tmp-sent"
    with explained(folder, run=True):
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            with tarfile.open(fileobj=io.BytesIO(files)) as archive:
                archive.extractall(draft, filter="data")
            shutil.rmtree(path, ignore_errors=True)
            draft.rename(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for stale in _checkpoints(folder):
            if stale != path:
                shutil.rmtree(stale, ignore_errors=True)


def _named(tree: Any) -> dict[str, Any]:
    """The leaves alone, under numbers: a checkpoint should not depend on how the state's classes are called."""
    return {f"{i:06d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def _checkpointer() -> Any:
    import orbax.checkpoint

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what goes wrong is raised too
    if not processes.several():
        return orbax.checkpoint.StandardCheckpointer()
    # The others train with this process, but do not write.
    mine = jax.process_index()
    alone = orbax.checkpoint.options.MultiprocessingOptions(primary_host=mine, active_processes={mine})
    return orbax.checkpoint.StandardCheckpointer(multiprocessing_options=alone)
