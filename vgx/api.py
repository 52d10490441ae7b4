"""What Python meets: a run that shows itself, and what trains and returns one: `train`, `sweep`, `trainability_map`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from vgx.results import store

P = ParamSpec("P")


class Run(store.Run):
    """A run directory, to read. Every call looks at the disk, so a run may be watched while it is written.

    A notebook shows it as a small table with its gradient. Raises RunError when `path` is no run, and `Damaged` when a
    file of it is missing or not what vgx wrote.
    """

    @property
    def verdict(self) -> str | None:
        """The word for its lanes: `healthy` where all are; several in the order of the alphabet, `dead, healthy`, where
        they differ; None before any has ended. A lane without a verdict counts with its status, `failed` or `pending`.
        """
        from vgx.report.html.notebook import verdict_of

        return verdict_of(self)

    def report(self, output: str | Path | None = None) -> Path:
        """Writes the run as one HTML page that works offline, and its figures as files; returns the page's path.

        Args:
            output: the page's path; `report.html` in the run directory by default. An older page is replaced.

        Raises RunError when something else than a page of vgx is there; EnvironmentFault when the disk refuses.
        """
        from vgx.report.html.write import write_report

        return write_report(self, None if output is None else Path(output))[0]

    def __repr__(self) -> str:
        from vgx.report.html.notebook import in_words

        return in_words(self)

    def _repr_html_(self) -> str:
        from vgx.report.html.notebook import as_html

        return as_html(self)


def _returning_run(work: Callable[P, store.Run]) -> Callable[P, Run]:
    @wraps(work)
    def wrapped(*given: P.args, **named: P.kwargs) -> Run:
        done = work(*given, **named)
        return Run(done.path, done.expectations)

    wrapped.__module__ = __name__  # where another process finds it, to which it is sent
    return wrapped


def __getattr__(name: str) -> Any:
    """Imports what trains when it is first asked for: a run alone is read without jax."""
    if name == "train":
        from vgx.runner.train import train

        globals()[name] = _returning_run(train)
    elif name == "sweep":
        from vgx.runner.sweep import sweep

        globals()[name] = _returning_run(sweep)
    elif name == "trainability_map":
        from vgx.runner.map import trainability_map

        globals()[name] = _returning_run(trainability_map)
    else:
        raise AttributeError(f"module 'vgx.api' has no attribute '{name}'")
    return globals()[name]
