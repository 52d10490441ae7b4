"""The bridge from an experiment to its verdicts: run what is missing, choose on validation data, compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vgx.config.sweep import Cell
from vgx.devices import Platform
from vgx.reproduce.experiment import Check, Claim, Experiment
from vgx.reproduce.findings import Arm, ClaimVerdict, Finding, NotMeasured, Sample, words_of
from vgx.reproduce.metrics import Accuracy, LaneOutcome, LayerMetric, Metric, StepsTo
from vgx.results.store import ENDED, Run
from vgx.runner.rounds import PENDING
from vgx.runner.sweep import sweep, sweep_path
from vgx.runner.sweep_progress import Watch
from vgx.theory.predict import predict


class CheckResult(NamedTuple):
    """What became of one check, in one setting."""

    says: str
    setting: str
    """The values of `for_each`, in words; nothing where there is one setting."""
    published: str
    statistic: str
    verdict: str
    findings: tuple[Finding, ...]
    note: str


class Result(NamedTuple):
    """What became of an experiment."""

    name: str
    claim: Claim
    scale: str
    seeds: tuple[int, ...]
    run: Run
    outcomes: tuple[CheckResult, ...]

    @property
    def verdicts(self) -> list[str]:
        return [outcome.verdict for outcome in self.outcomes]

    @property
    def failed(self) -> bool:
        """Whether a published number fell outside its tolerance."""
        return ClaimVerdict.NOT_REPRODUCED in self.verdicts


def reproduce(
    experiment: Experiment,
    *,
    runs: str | Path = "runs",
    overwrite: bool = False,
    device: Platform | None = None,
    watch: Watch | None = None,
) -> Result:
    """Runs what is missing of an experiment's sweep, and returns what it says of the claim.

    Raises as `vgx.sweep`.
    """
    known = None if overwrite else finished(experiment, runs)
    if known is not None:
        return known
    return result_of(experiment, sweep(experiment.sweep, runs=runs, overwrite=overwrite, device=device, watch=watch))


class LaneCount(NamedTuple):
    """How far an experiment is."""

    path: Path
    lanes: int
    done: int


def count(experiment: Experiment, runs: str | Path = "runs") -> LaneCount:
    """Returns how many lanes an experiment has, and how many of them have ended."""
    path = sweep_path(experiment.sweep, runs)
    wanted = {(cell.key, seed) for cell in experiment.sweep.cells for seed in experiment.sweep.base.seed_list}
    rows = Run(path).lanes().to_pylist() if (path / "meta.json").is_file() else []
    done = {(row["cell"], row["seed"]) for row in rows if row["status"] not in PENDING}
    return LaneCount(path, len(wanted), len(wanted & done))


def finished(experiment: Experiment, runs: str | Path = "runs") -> Result | None:
    """Returns the result of an experiment whose lanes have all ended; None when some have not."""
    path, lanes, done = count(experiment, runs)
    return result_of(experiment, Run(path)) if done == lanes else None


def result_of(experiment: Experiment, run: Run) -> Result:
    """Returns what a run says of the claim."""
    lanes = _Lanes(experiment, run)
    outcomes = [
        _outcome(experiment, check, setting, lanes)
        for check in experiment.claim.checks
        for setting in experiment.settings(check)
    ]
    seeds = experiment.sweep.base.seed_list
    return Result(experiment.name, experiment.claim, experiment.scale, seeds, run, tuple(outcomes))


def _outcome(experiment: Experiment, check: Check, setting: Arm, lanes: _Lanes) -> CheckResult:
    each = words_of({path: setting[path] for path in check.for_each})
    note = ""
    measured = _Measured(experiment, check, setting, lanes)
    try:
        findings = check.compare.find(measured)
        note = f"steps are known to {measured.resolution:.1%}" if measured.resolution else ""
    except NotMeasured:
        findings, note = [], "an arm is left out at this scale"
    verdict = _overall([finding.verdict for finding in findings if finding.verdict])
    if not experiment.size.judged:
        verdict = ClaimVerdict.UNDECIDED
        findings = [f._replace(verdict=f.verdict and ClaimVerdict.UNDECIDED, more=None) for f in findings]
        note = note if not findings else f"not judged at scale {experiment.scale}"
    return CheckResult(check.says, each, check.published, str(check.statistic), verdict, tuple(findings), note)


def _overall(verdicts: list[str]) -> str:
    """One verdict of several; of a ranking's the first, which knows of the others."""
    for bad in (ClaimVerdict.NOT_REPRODUCED, ClaimVerdict.CONTRADICTED):
        if bad in verdicts:
            return bad
    return verdicts[0] if len(set(verdicts)) == 1 else ClaimVerdict.UNDECIDED


class _Lanes:
    """The lanes of an experiment in its run, and each statistic of them, read once."""

    def __init__(self, experiment: Experiment, run: Run):
        self.run = run
        cells = {cell.key: cell for cell in experiment.sweep.cells}
        seeds = set(experiment.sweep.base.seed_list)
        rows = [row for row in run.lanes().to_pylist() if row["cell"] in cells and row["seed"] in seeds]
        self.by_cell: dict[str, dict[int, LaneOutcome]] = {}
        for row in rows:
            if row["status"] in ENDED:
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


class _Measured:
    """The arms of one check in one setting."""

    def __init__(self, experiment: Experiment, check: Check, setting: Arm, lanes: _Lanes):
        self.experiment, self.check, self.setting, self.lanes = experiment, check, setting, lanes
        self.resolution = 0.0
        """How far apart the evaluations are that steps are counted by, in parts of the fewest steps."""

    def values(self, path: str) -> list[Any]:
        return self.experiment.values(path, self.setting)

    def sample(self, arm: Arm, changes: Mapping[str, Any] | None = None) -> Sample:
        check = self.check
        statistic = check.statistic.model_copy(update=dict(changes or {}))
        if check.spread_over:
            return _spread(
                [self._best(arm | {check.spread_over: x}, statistic) for x in self.values(check.spread_over)]
            )
        if check.largest:
            rates = sorted(self.values(check.largest.over))
            parts = [self._best(arm | {check.largest.over: rate}, statistic) for rate in rates]
            return _largest(rates, parts, check.largest.at_least)
        return self._best(arm, statistic)

    def _best(self, arm: Arm, statistic: Metric) -> Sample:
        """An arm's figures with the options that are best on validation data."""
        cell, chosen, at_edge = self._chosen(arm)
        lanes = dict(sorted(self.lanes.by_cell.get(cell.key, {}).items()))
        if not lanes:
            raise NotMeasured
        if isinstance(statistic, StepsTo) and self.check.as_accurate_as is not None:
            values, beyond = self._reached(lanes, statistic, self.check.as_accurate_as)
        else:
            figures = self.lanes.read(statistic)
            values = {seed: figures[lane.lane] for seed, lane in lanes.items()}
            beyond = {seed for seed, lane in lanes.items() if lane.lane in self.lanes.bounds[statistic]}
        if isinstance(statistic, StepsTo):
            found = np.array([*values.values()])
            self.resolution = max(self.resolution, cell.config.train.evaluate_every / float(found.mean()))
        return Sample(values, chosen, at_edge, statistic.limits, frozenset(beyond))

    def _reached(
        self, lanes: Mapping[int, LaneOutcome], statistic: StepsTo, baseline: Arm
    ) -> tuple[dict[int, float], set[int]]:
        """The steps to what another arm comes to in the end, seed by seed, and the seeds where they are a bound."""
        ends = self._best(baseline, Accuracy(split=statistic.split)).values
        if not (seeds := [seed for seed in lanes if seed in ends]):
            raise NotMeasured
        asked = np.array([ends[seed] for seed in seeds])
        steps, beyond = statistic.reached(self.lanes.run, [lanes[seed] for seed in seeds], asked)
        return dict(zip(seeds, steps.tolist(), strict=True)), {s for s, over in zip(seeds, beyond, strict=True) if over}

    def _chosen(self, arm: Arm) -> tuple[Cell, dict[str, Any], bool]:
        """The cell of an arm with the options that are best on validation data, these, and whether one is at an edge.

        Raises NotMeasured when there is none.
        """
        paths, score = self.check.best_over, self.check.best_by
        options = [self.values(path) for path in paths]
        best: tuple[float, dict[str, Any], list[Any]] | None = None
        for values in product(*options):
            chosen = dict(zip(paths, values, strict=True))
            cells = self.experiment.cells_of(self.setting | arm | chosen)
            if not cells:
                continue
            mean = 0.0
            if paths:
                scores = self.lanes.read(score)
                mean = float(np.mean([scores[lane.lane] for lane in self.lanes.by_cell.get(cells[0].key, {}).values()]))
                mean = -mean if score.less_is_better else mean
                mean = mean if not math.isnan(mean) else -math.inf
            if best is None or mean > best[0]:
                best = mean, chosen, cells
        if best is None:
            raise NotMeasured
        _, chosen, cells = best
        return cells[0], chosen, any(_at_edge(chosen[p], o) for p, o in zip(paths, options, strict=True))

    def predicted(self, arm: Arm, changes: Mapping[str, Any] | None = None) -> float:
        cells = self.experiment.cells_of(self.setting | arm)
        if not cells:
            raise NotMeasured
        statistic = self.check.statistic.model_copy(update=dict(changes or {}))
        assert isinstance(statistic, LayerMetric)
        curve = getattr(predict(cells[0].config).curves, statistic.column)
        return statistic.over(np.asarray(curve)[:-1])


def _spread(parts: Sequence[Sample]) -> Sample:
    """The range of some arms' figures, seed by seed."""
    seeds = set.intersection(*(set(part.values) for part in parts))
    figures = {seed: [part.values[seed] for part in parts] for seed in sorted(seeds)}
    limits = parts[0].limits and (0.0, parts[0].limits[1] - parts[0].limits[0])
    return Sample({seed: max(values) - min(values) for seed, values in figures.items()}, {}, False, limits)


def _largest(rates: Sequence[float], parts: Sequence[Sample], limit: float) -> Sample:
    """The largest number whose arm reaches a limit, seed by seed; a bound if it is the largest of all; or NaN."""
    reached = {
        seed: [rate for rate, part in zip(rates, parts, strict=True) if part.values.get(seed, math.nan) >= limit]
        for seed in parts[0].values
    }
    values = {seed: max(some, default=math.nan) for seed, some in reached.items()}
    beyond = frozenset(seed for seed, value in values.items() if value == rates[-1])
    return Sample(values, {}, bool(beyond), beyond=beyond)


def _at_edge(value: Any, options: list[Any]) -> bool:
    """Whether a number is the smallest or the largest of three or more."""
    numbers = all(isinstance(other, int | float) for other in options)
    return numbers and len(options) > 2 and value in (min(options), max(options))
