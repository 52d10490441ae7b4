"""The stages of an experiment: the sweep that is to be run next, until the arms to be compared are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vgx.config import grid
from vgx.config.sweep import Cell, Sweep
from vgx.errors import ConfigError
from vgx.reproduce.experiment import Experiment, arms_of
from vgx.reproduce.lanes import Lanes, count_lanes
from vgx.reproduce.tuning import Choice, Tuning, arm_of, choose, further
from vgx.results.store import Run
from vgx.results.values import inline


def available(experiment: Experiment) -> Experiment:
    """Returns the experiment without the data sets whose files are not here, but for the base config's own."""
    sets = {cell.config.data.name: cell.config.data for cell in experiment.sweep.cells}
    base = experiment.sweep.base.data.name
    absent = tuple(name for name, data in sets.items() if name != base and not data.is_here())
    if not absent:
        return experiment
    tuning = experiment.tuning and replace(experiment.tuning, sweep=_without(experiment.tuning.sweep, absent))
    return replace(experiment, sweep=_without(experiment.sweep, absent), tuning=tuning, absent=absent)


def _without(sweep: Sweep, data: Sequence[str]) -> Sweep:
    """The sweep less the cells of some data sets, and less what only those have of its axes."""
    kept = [cell.overlay for cell in sweep.cells if cell.config.data.name not in data]
    axes = {
        path: [value for value in values if any(overlay.get(path) == value for overlay in kept)]
        for path, values in sweep.axes.items()
    }
    return sweep.rebuilt(axes, [cell for cell in sweep.explicit if grid.flat(cell) in kept])


def next_stage(experiment: Experiment, runs: str | Path) -> Sweep | Experiment:
    """Returns the sweep that has to be run before anything can be chosen, or the experiment with its chosen cells.

    An experiment without a first stage is returned as it is.
    """
    tuning = experiment.tuning
    if tuning is None or experiment.choices is not None:
        return experiment
    sweep, turns = tuning.sweep, tuning.options.extend
    while True:
        path, lanes, done = count_lanes(sweep, runs)
        if done < lanes:
            return sweep
        scores = _scores(tuning, sweep, path)
        grown = _grown(sweep, further(tuning, sweep, scores) if turns else [])
        if grown is sweep:
            return chosen(experiment, choose(tuning, sweep, scores))
        sweep, turns = grown, turns - 1


def _scores(tuning: Tuning, sweep: Sweep, path: Path) -> dict[str, float]:
    """The score of each cell of which a lane has ended."""
    lanes = Lanes(sweep, Run(path))
    return {cell: lanes.score(cell, tuning.options.by) for cell in lanes.by_cell}


def _grown(sweep: Sweep, more: Sequence[grid.Overlay]) -> Sweep:
    """The sweep with those of some more cells that can be run; itself where none can."""
    allowed = [overlay for overlay in more if _can_run(sweep, overlay)]
    return sweep.rebuilt(sweep.axes, [*sweep.explicit, *allowed]) if allowed else sweep


def _can_run(sweep: Sweep, overlay: grid.Overlay) -> bool:
    try:
        sweep.rebuilt({}, [overlay])
    except ConfigError:
        return False
    return True


def chosen(experiment: Experiment, choices: dict[str, Choice]) -> Experiment:
    """Returns the experiment with the cells that its checks need: of what is chosen, the choices alone.

    `choices` are by arm, as `choose` returns them.
    """
    assert experiment.tuning
    over = experiment.tuning.options.over
    fixed, tuned = needed(experiment)
    arms = dict.fromkeys(arm_of(cell, over) for cell in tuned)
    picked = {inline(choices[arm].overlay): choices[arm] for arm in arms if arm in choices}
    overlays = {inline(cell.overlay): cell.overlay for cell in fixed} | {
        text: choice.overlay for text, choice in picked.items()
    }
    sweep = _of_cells(experiment, list(overlays.values()))
    by_key = {cell.key: picked[inline(cell.overlay)] for cell in sweep.cells if inline(cell.overlay) in picked}
    return replace(experiment, sweep=sweep, choices=by_key)


def representative(experiment: Experiment) -> Sweep:
    """Returns a sweep as long as the second stage: one cell of each arm that is to be chosen, and the others."""
    assert experiment.tuning
    over = experiment.tuning.options.over
    fixed, tuned = needed(experiment)
    one_each = {arm_of(cell, over): cell for cell in reversed(tuned)}
    return _of_cells(experiment, [cell.overlay for cell in [*fixed, *one_each.values()]])


def _of_cells(experiment: Experiment, overlays: list[grid.Overlay]) -> Sweep:
    """The second stage of these cells; of the first of all where no check finds its arms at this scale."""
    return experiment.sweep.rebuilt({}, overlays or [experiment.sweep.cells[0].overlay])


def needed(experiment: Experiment) -> tuple[list[Cell], list[Cell]]:
    """Returns the cells that checks look at as they are, and those from which they choose."""
    kinds: tuple[dict[str, Cell], dict[str, Cell]] = {}, {}
    for check in experiment.claim.checks:
        found = kinds[bool(check.best_over)]
        for setting in experiment.settings(check):
            arms = [{}] if check.compare.free() else arms_of(check)
            found |= {cell.key: cell for arm in arms for cell in experiment.cells_of(setting | arm)}
    return list(kinds[0].values()), list(kinds[1].values())
