"""Runs by name, on the command line: which one is meant, and what a shell may complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vgx.cli.hints import say_aside

if TYPE_CHECKING:
    from vgx.run_directory import Run


def newest_run(name: str, runs: Path) -> Run:
    """Returns the newest of the runs that `name` stands for, and says on standard error which that is of several.

    Raises RunError where there is none.
    """
    from vgx.run_directory import find_run, runs_called

    found = runs_called(name, runs)
    if len(found) < 2:
        return find_run(name, runs)
    newest, *others = (run.path.name for run in found)
    say_aside(f"'{name}' names {len(found)} runs: this is {newest}, the newest; also {', '.join(others)}")
    return found[0]
