"""`vgx.train` and `vgx.sweep`: what the bridge does, with a run of `vgx.face` in return."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from vgx import experiment, run_directory, sweeping
from vgx.face import Run

P = ParamSpec("P")


def _with_face(work: Callable[P, run_directory.Run]) -> Callable[P, Run]:
    @wraps(work)
    def door(*given: P.args, **named: P.kwargs) -> Run:
        return Run(work(*given, **named).path)

    door.__module__ = __name__  # where another process finds it, to which it is sent
    return door


train = _with_face(experiment.train)
sweep = _with_face(sweeping.sweep)
