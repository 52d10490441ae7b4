"""Runs to damage and to compare with, trained once for a whole campaign.

    whole/      a single run, done, in three parts
    cut/        the same config under another name, interrupted in its third part
    uncut/      `cut`'s config, never interrupted
    grid/       a sweep, done, in two programs
    gridcut/    a sweep, interrupted in its second program
    griduncut/  `gridcut`'s sweep, never interrupted
    other/      a neighbour that nothing happens to

Each is a folder of runs with one run in it. `python -m faults.samples FOLDER` makes them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

SINGLE: dict[str, Any] = {
    "name": "whole",
    "seeds": 2,
    "model": {"depth": 3, "width": 8},
    "train": {"batch_size": 16, "steps": 300, "evaluate_every": 50},
}
SWEEP: dict[str, Any] = SINGLE | {
    "name": "grid",
    "train": {"batch_size": 16, "steps": 120, "evaluate_every": 40},
    "sweep": {"axes": {"model.activation": ["relu", "tanh"], "model.initializer": ["he_normal", "orthogonal"]}},
}
STOPS = (90, 180)
"""The steps after which a run is interrupted, so that it has several parts."""


def single(name: str, **train: Any) -> dict[str, Any]:
    """Returns the config of a single run of another name, and other options of `train`."""
    return SINGLE | {"name": name, "train": SINGLE["train"] | train}


def grid(name: str, **train: Any) -> dict[str, Any]:
    """Returns a sweep of another name, and other options of `train`."""
    return SWEEP | {"name": name, "train": SWEEP["train"] | train}


def text(settings: dict[str, Any]) -> str:
    """Returns a config as a file holds it: JSON is YAML."""
    return json.dumps(settings, indent=2)


def stop_after(step: int):
    """Returns what watches a run, or a sweep, and stops it with SIGTERM once it has come to a step."""
    asked = []

    def watch(progress: Any) -> None:
        if not asked and reached(progress) >= step:
            asked.append(step)
            os.kill(os.getpid(), signal.SIGTERM)

    return watch


def reached(progress: Any) -> float:
    """How many steps are done; of a sweep, of all its lanes together."""
    return progress.run_steps_done if hasattr(progress, "run_steps_done") else progress.step


def make(folder: Path) -> None:
    """Trains all of them."""
    import vgx
    from vgx.runner.stopping import Interrupted

    def trained(settings: dict[str, Any], runs: Path, stops: tuple[int, ...], finish: bool) -> None:
        for step in stops:
            with contextlib.suppress(Interrupted):
                vgx.train(vgx.load_config(settings), runs=runs, resume=True, watch=stop_after(step))
        if finish:
            vgx.train(vgx.load_config(settings), runs=runs, resume=True)

    trained(SINGLE, folder / "whole", STOPS, finish=True)
    trained(single("cut"), folder / "cut", STOPS, finish=False)
    trained(single("cut"), folder / "uncut", (), finish=True)
    trained(single("other", steps=40), folder / "other", (), finish=True)
    vgx.sweep(vgx.load_sweep(SWEEP), runs=folder / "grid")
    with contextlib.suppress(Interrupted):
        half = SWEEP["train"]["steps"] * 4  # lanes of the first program
        vgx.sweep(vgx.load_sweep(grid("gridcut")), runs=folder / "gridcut", watch=stop_after(int(half * 1.4)))
    vgx.sweep(vgx.load_sweep(grid("gridcut")), runs=folder / "griduncut")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
