"""The bridge from an experiment to its verdicts: run what is missing, choose on validation data, compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from vgx.config.sweep import Cell, Sweep
from vgx.devices import Platform
from vgx.reproduce.experiment import Check, Claim, Experiment, option
from vgx.reproduce.findings import Arm, Chosen, ClaimVerdict, Finding, NotMeasured, Sample, words_of
from vgx.reproduce.lanes import LaneCount, Lanes, count_lanes
from vgx.reproduce.metrics import Accuracy, LaneOutcome, Metric, StepsTo
from vgx.reproduce.stages import available, next_stage, representative
from vgx.results.store import Run
from vgx.runner.sweep import plan, sweep, sweep_path
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
    notes: tuple[str, ...] = ()
    """What else there is to know of how it was done."""

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
    """Runs what is missing of an experiment, both stages of it, and returns what it says of the claim.

    Data sets besides the base config's own whose files are not here are left out, and the result's notes say so. Raises
    as `vgx.sweep`.
    """
    experiment = available(experiment)
    known = None if overwrite else finished(experiment, runs)
    if known is not None:
        return known
    begun: set[Path] = set()

    def trained(one: Sweep) -> Run:
        path = sweep_path(one, runs)
        fresh = overwrite and path not in begun
        begun.add(path)
        return sweep(one, runs=runs, overwrite=fresh, device=device, watch=watch)

    if overwrite and experiment.tuning:
        trained(experiment.tuning.sweep)
    while isinstance(stage := next_stage(experiment, runs), Sweep):
        trained(stage)
    return result_of(stage, trained(stage.sweep))


def count(experiment: Experiment, runs: str | Path = "runs") -> LaneCount:
    """Returns how many lanes an experiment has, both stages together, and how many of them have ended."""
    experiment = available(experiment)
    stage = next_stage(experiment, runs)
    if isinstance(stage, Experiment):
        last = count_lanes(stage.sweep, runs)
        first = len(stage.tuning.sweep.cells) * len(stage.tuning.sweep.base.seed_list) if stage.tuning else 0
        return LaneCount(last.path, first + last.lanes, first + last.done)
    first, last = count_lanes(stage, runs), representative(experiment)
    return first._replace(lanes=first.lanes + len(last.cells) * len(last.base.seed_list))


def finished(experiment: Experiment, runs: str | Path = "runs") -> Result | None:
    """Returns the result of an experiment whose lanes have all ended; None when some have not."""
    stage = next_stage(available(experiment), runs)
    if isinstance(stage, Sweep):
        return None
    path, lanes, done = count_lanes(stage.sweep, runs)
    return result_of(stage, Run(path)) if done == lanes else None


def expected_seconds(
    experiment: Experiment, runs: str | Path = "runs", *, overwrite: bool = False, device: Platform | None = None
) -> float:
    """Returns about how long `reproduce` takes on this machine, in seconds: what is left of it, or all to `overwrite`.

    It comes from the operations of its steps and evaluations, and from how fast a matrix product is here now; a grid
    that has yet to grow is taken as it is. Raises as `vgx.sweep`.
    """
    experiment = available(experiment)
    with TemporaryDirectory() as nothing:
        where = nothing if overwrite else runs
        stage = next_stage(experiment, where)
        left = [stage.sweep] if isinstance(stage, Experiment) else [stage, representative(experiment)]
        undone = [one for one in left if len(set(count_lanes(one, where)[1:])) > 1]
        return sum(plan(one, runs=where, device=device).seconds for one in undone)


def result_of(experiment: Experiment, run: Run) -> Result:
    """Returns what a run says of the claim."""
    lanes = Lanes(experiment.sweep, run)
    outcomes = [
        _outcome(experiment, check, setting, lanes)
        for check in experiment.claim.checks
        for setting in experiment.settings(check)
    ]
    seeds = experiment.sweep.base.seed_list
    notes = tuple(experiment.notes)
    return Result(experiment.name, experiment.claim, experiment.scale, seeds, run, tuple(outcomes), notes)


def _outcome(experiment: Experiment, check: Check, setting: Arm, lanes: Lanes) -> CheckResult:
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


class _Measured:
    """The arms of one check in one setting."""

    def __init__(self, experiment: Experiment, check: Check, setting: Arm, lanes: Lanes):
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
        cell, choice = self._chosen(arm)
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
        return Sample(values, *choice, statistic.limits, frozenset(beyond))

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

    def _chosen(self, arm: Arm) -> tuple[Cell, Chosen]:
        """The cell of an arm with the options that are best on validation data, and these.

        Raises NotMeasured when there is none.
        """
        paths = self.check.best_over
        cells = self.experiment.cells_of(self.setting | arm)
        tuned = self.experiment.choices
        if tuned is not None and paths:
            picked = [cell for cell in cells if cell.key in tuned]
            if not picked:
                raise NotMeasured
            choice, options = tuned[picked[0].key], {path: option(picked[0], path) for path in paths}
            return picked[0], Chosen(options, choice.at_edge, choice.extended)
        if paths:
            cells = sorted((cell for cell in cells if cell.key in self.lanes.by_cell), key=self._score, reverse=True)
        if not cells:
            raise NotMeasured
        chosen = {path: option(cells[0], path) for path in paths}
        return cells[0], Chosen(chosen, any(_at_edge(value, self.values(path)) for path, value in chosen.items()))

    def _score(self, cell: Cell) -> float:
        return self.lanes.score(cell.key, self.check.best_by)

    def predicted(self, arm: Arm, changes: Mapping[str, Any] | None = None) -> float:
        cells = self.experiment.cells_of(self.setting | arm)
        if not cells:
            raise NotMeasured
        statistic = self.check.statistic.model_copy(update=dict(changes or {}))
        return statistic.predicted(predict(cells[0].config))


def _spread(parts: Sequence[Sample]) -> Sample:
    """The range of some arms' figures, seed by seed."""
    seeds = set.intersection(*(set(part.values) for part in parts))
    figures = {seed: [part.values[seed] for part in parts] for seed in sorted(seeds)}
    limits = parts[0].limits and (0.0, parts[0].limits[1] - parts[0].limits[0])
    return Sample({seed: max(values) - min(values) for seed, values in figures.items()}, {}, limits=limits)


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
