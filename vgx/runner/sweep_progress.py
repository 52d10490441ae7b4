"""What a watcher of a sweep is told: how much of it is done, and about how long the rest takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vgx.config.schema import Config
from vgx.runner.loop import TrainingProgress
from vgx.runner.preparation import LaneSpec
from vgx.runner.rounds import PENDING, SweepState


class SweepProgress(NamedTuple):
    """What a watcher is told whenever something happened."""

    rounds: int
    rounds_done: int
    programs: int
    lanes: int
    lanes_done: int
    run_steps: float
    """Steps times lanes, of the whole sweep."""
    run_steps_done: float
    seconds_left: float
    """About; NaN before anything is known."""
    config: Config | None
    """Of the first lane of the round that runs; on a cluster, of the first of those."""
    current: TrainingProgress | None
    """Of that round."""
    note: str
    """What went wrong just now, if anything."""
    rounds_running: int = 0
    nodes: int = 0
    """Of a cluster, those that have a part in the sweep; 0 on this machine alone."""
    devices: int = 0
    """Of those nodes together."""


Watch = Callable[[SweepProgress], None]


class ProgressTeller:
    """Tells a watcher how far a sweep is, and how fast it goes since this process began with it."""

    def __init__(self, state: SweepState, steps: Callable[[int], int], watch: Watch):
        self.state, self.watch = state, watch
        self.steps = steps
        """The steps that a lane, by its number, is to have."""
        self.began = time.monotonic()
        self.before: float | None = None

    def tell(
        self,
        running: Sequence[tuple[Sequence[LaneSpec], TrainingProgress]] = (),
        note: str = "",
        nodes: int = 0,
        devices: int = 0,
    ) -> None:
        """Tells of the rounds that run, and what went wrong just now, if anything."""
        rounds = self.state.rounds.values()
        done = [state for state in rounds if state["status"] not in PENDING]
        run_steps = [float(len(state["lanes"]) * self.steps(state["lanes"][0])) for state in rounds]
        total = sum(run_steps)
        so_far = sum(steps for state, steps in zip(rounds, run_steps, strict=True) if state["status"] not in PENDING)
        so_far += sum(len(specs) * float(current.step) for specs, current in running)
        if self.before is None:
            self.before = so_far
        seconds, gained = time.monotonic() - self.began, so_far - self.before
        self.watch(
            SweepProgress(
                rounds=len(rounds),
                rounds_done=len(done),
                programs=len({state["program"] for state in rounds}),
                lanes=len(self.state.lanes),
                lanes_done=sum(len(state["lanes"]) for state in done),
                run_steps=total,
                run_steps_done=so_far,
                seconds_left=seconds / gained * (total - so_far) if gained > 0 else math.nan,
                config=running[0][0][0].config if running else None,
                current=running[0][1] if running else None,
                note=note,
                rounds_running=len(running),
                nodes=nodes,
                devices=devices,
            )
        )
