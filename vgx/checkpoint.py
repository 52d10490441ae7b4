"""The training state on disk: one whole checkpoint, the newest, under `checkpoint/STEP`."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, TypeVar

import jax

from vgx.disk import explained, named_in
from vgx.errors import Damaged

Tree = TypeVar("Tree")
FILES = 16
"""Files that orbax has open at once while it saves, at the most, and two for each core."""


def save(folder: Path, step: int, state: Any) -> None:
    """Writes `state`, a tree of arrays, as `folder/STEP`, and then removes what stood there before it.

    Raises EnvironmentFault when the disk refuses; the checkpoint before stands then.
    """
    path = folder / f"{step:09d}"
    with explained(folder, run=True):
        shutil.rmtree(path, ignore_errors=True)
        _try_to_open(FILES + 2 * (os.cpu_count() or 1))
        hook = sys.unraisablehook
        sys.unraisablehook = lambda what: None if "Event loop is closed" in str(what.exc_value) else hook(what)
        try:
            with _checkpointer() as checkpointer:
                checkpointer.save(path.absolute(), _named(state))
                checkpointer.wait_until_finished()
        except (ValueError, RuntimeError) as error:
            # tensorstore says in its own words what the file system refused. Those of its writes that nobody waited for
            # would say it again, each with a traceback, whenever they end: so the hook stays.
            refusal = named_in(error)
            if refusal is None:
                raise
            logging.getLogger("asyncio").addFilter(_is_news)
            for draft in _checkpoints(folder):
                if not draft.name.isdigit():
                    shutil.rmtree(draft, ignore_errors=True)
            raise refusal from None
        sys.unraisablehook = hook
        for stale in _checkpoints(folder):
            if stale != path:
                shutil.rmtree(stale, ignore_errors=True)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether asyncio logs anything but that nobody waited for a write."""
    return "never retrieved" not in record.getMessage()


def _try_to_open(count: int) -> None:
    """Raises OSError when so many files cannot be open at once: orbax would hang, or end in a heap of errors."""
    opened: list[int] = []
    try:
        opened += (os.open(os.devnull, os.O_RDONLY) for _ in range(count))
    finally:
        for file in opened:
            os.close(file)


def _checkpoints(folder: Path) -> list[Path]:
    """What is a checkpoint in a folder, or orbax's draft of one."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return [path for path in paths if re.fullmatch(r"[0-9]+(\.orbax-checkpoint-tmp.*)?", path.name)]


def newest(folder: Path) -> int | None:
    """Returns the step of the newest complete checkpoint, or None when there is none."""
    steps = [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()]
    return max(steps, default=None)


def load(folder: Path, step: int, like: Tree) -> Tree:
    """Returns the checkpoint of `step`, in the structure, types and placement of `like`.

    Raises Damaged when it cannot be read, or is of another state.
    """
    path = folder / f"{step:09d}"
    try:
        with _checkpointer() as checkpointer:
            named = checkpointer.restore(path.absolute(), _named(like))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        # What orbax and tensorstore raise where files are missing, cut short, altered, or of another state.
        raise Damaged(path, f"cannot be read ({' '.join(str(error).split())[:100]})") from None
    return jax.tree.unflatten(jax.tree.structure(like), list(named.values()))


def _named(tree: Any) -> dict[str, Any]:
    """The leaves alone, under numbers: a checkpoint should not depend on how the state's classes are called."""
    return {f"{i:06d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def _checkpointer() -> Any:
    import orbax.checkpoint

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what goes wrong is raised too
    return orbax.checkpoint.StandardCheckpointer()
