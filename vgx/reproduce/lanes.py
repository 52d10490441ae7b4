"""The lanes of a sweep as claims see them: how many have ended, and each statistic of them, read once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgx.config.sweep import Sweep
from vgx.reproduce.metrics import LaneOutcome, Metric
from vgx.results.schemas import ENDED
from vgx.results.store import Run
from vgx.runner.rounds import PENDING
from vgx.runner.sweep import sweep_path


class LaneCount(NamedTuple):
    """How far a sweep is, or the experiment that it is of."""

    path: Path
    lanes: int
    done: int


def count_lanes(sweep: Sweep, runs: str | Path) -> LaneCount:
    """Returns how many lanes a sweep has, and how many of them have ended."""
    path = sweep_path(sweep, runs)
    wanted = {(cell.key, seed) for cell in sweep.cells for seed in sweep.base.seed_list}
    rows = Run(path).lanes().to_pylist() if (path / "meta.json").is_file() else []
    done = {(row["cell"], row["seed"]) for row in rows if row["status"] not in PENDING}
    return LaneCount(path, len(wanted), len(wanted & done))


class Lanes:
    """The lanes of a sweep in its run, and each statistic of them, read once."""

    def __init__(self, sweep: Sweep, run: Run):
        self.run = run
        cells = {cell.key for cell in sweep.cells}
        seeds = set(sweep.base.seed_list)
        self.by_cell: dict[str, dict[int, LaneOutcome]] = {}
        for row in run.lanes().to_pylist():
            if row["cell"] in cells and row["seed"] in seeds and row["status"] in ENDED:
                found = LaneOutcome(row["lane"], row["status"] == "diverged")
                self.by_cell.setdefault(row["cell"], {})[row["seed"]] = found
        self.known: dict[Metric, dict[int, float]] = {}
        self.bounds: dict[Metric, frozenset[int]] = {}

    def read(self, statistic: Metric) -> dict[int, float]:
        """Returns a statistic of every lane, by its number; those of which it is a bound are in `bounds`."""
        if statistic not in self.known:
            lanes = [lane for seeds in self.by_cell.values() for lane in seeds.values()]
            values, beyond = statistic.read(self.run, lanes).tolist(), statistic.beyond(self.run, lanes)
            self.known[statistic] = {lane.lane: value for lane, value in zip(lanes, values, strict=True)}
            self.bounds[statistic] = frozenset(lane.lane for lane, over in zip(lanes, beyond, strict=True) if over)
        return self.known[statistic]

    def score(self, cell: str, statistic: Metric) -> float:
        """Returns the mean of a statistic over a cell's seeds, turned so that more is better; -inf where it is NaN."""
        figures = self.read(statistic)
        mean = float(np.mean([figures[lane.lane] for lane in self.by_cell[cell].values()]))
        mean = -mean if statistic.less_is_better else mean
        return mean if not np.isnan(mean) else -np.inf
