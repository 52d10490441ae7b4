"""The training state on disk: one whole checkpoint, the newest, under `checkpoint/STEP`."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax

from vgx.errors import Damaged
from vgx.run_directory import explained

Tree = TypeVar("Tree")


def save(folder: Path, step: int, state: Any) -> None:
    """Writes `state`, a tree of arrays, as `folder/STEP`, and then removes what stood there before it."""
    path = folder / f"{step:09d}"
    with explained(folder), _checkpointer() as checkpointer:
        shutil.rmtree(path, ignore_errors=True)
        checkpointer.save(path.absolute(), _named(state))
        checkpointer.wait_until_finished()
        for stale in folder.iterdir():
            if stale != path:
                shutil.rmtree(stale, ignore_errors=True)


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

    logging.getLogger("absl").setLevel(logging.ERROR)
    return orbax.checkpoint.StandardCheckpointer()
