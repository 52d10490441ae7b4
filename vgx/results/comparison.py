"""Nets side by side: aligned by relative depth, and where and when their curves diverge beyond the seeds' spread."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from vgx.errors import RunError
from vgx.results.alignment import align
from vgx.results.columns import known_statistic, swept_columns
from vgx.results.curves import evenly, rows_by_lane
from vgx.results.divergence import Divergence, Trajectory, aligned, divergence_of, trajectory_of
from vgx.results.schemas import ENDED
from vgx.results.store import Run
from vgx.results.values import in_words, option_called, scalar

MAX_GROUPS = 8
"""Groups in one comparison."""
MAX_STEPS = 256
"""Of a run that recorded more steps, so many are compared, evenly spread."""
LEFT_OUT = ("name", "seeds", "expect", "import", "sweep", "log", "data.max_bytes")
"""What is no difference between two configs, by path: `config.schema.NO_NUMBERS`, names, seeds and all of the log."""


class RunGroup(NamedTuple):
    """A config of a run, or a cell of a sweep, with its seeds."""

    name: str
    """Tells it from the others."""
    run: Run
    lanes: tuple[int, ...]
    config: dict[str, Any]
    """The resolved config, as plain values."""

    @property
    def layers(self) -> int:
        """Hidden layers, of a watched run all: L."""
        if self.run.is_watched:
            return len(self.run.paths)
        model = self.config["model"]
        return len(model["width"]) if isinstance(model["width"], list) else model["depth"]


class Figure(NamedTuple):
    """A number over seeds."""

    mean: float
    """NaN where no seed has it."""
    spread: float
    """The standard deviation; NaN of fewer than two."""
    seeds: int


class GroupOutcome(NamedTuple):
    """How a group did, and what it cost."""

    words: tuple[str, ...]
    """Each seed's verdict, or its status where it has none."""
    slope: Figure
    """Decades of norm per layer, from the top down."""
    train_loss: Figure
    test_accuracy: Figure
    steps: int
    """The last step."""
    reached: int | None
    """The first step at which the mean test accuracy is what the worst group ends with; None for never."""
    seconds: float
    """Of training, compilation left out: its lanes' share of what ran side by side."""


class RunComparison(NamedTuple):
    """Groups of runs side by side."""

    groups: tuple[RunGroup, ...]
    outcomes: tuple[GroupOutcome, ...]
    differences: dict[str, tuple[str, ...]]
    """By path, the options that the configs differ in, each group's value in words; `-` where it has none."""
    accuracy: float
    """The mean test accuracy that the worst group ends with, to which `reached` refers; NaN for none."""
    statistic: str
    positions: np.ndarray
    """[P], relative depths, from 0 at the first hidden layer to 1 at the top; empty where no layers are recorded."""
    paths: tuple[str, ...]
    """[P], of watched runs that have layers of the same path, which stand side by side; else empty."""
    alone: tuple[tuple[str, ...], ...]
    """Of watched runs, for each group the paths that not all have; else empty."""
    trajectories: tuple[Trajectory, ...]
    divergences: tuple[Divergence, ...]
    """Of each group but the first."""
    loss_divergences: tuple[Divergence, ...]
    """Likewise of the training loss, P = 1."""
    losses: tuple[Trajectory, ...]
    """Of the training loss, P = 1."""
    accuracies: tuple[Trajectory, ...]
    """Of the test accuracy, P = 1, at the steps that measured it; T = 0 for none."""


def groups_of(
    run: Run, configs: Mapping[str, dict[str, Any]] | None = None, where: Sequence[str] = ()
) -> list[RunGroup]:
    """Returns the group of lanes that a run is, or those that the cells of a sweep are.

    Args:
        run: what to compare.
        configs: of a sweep, the resolved config of each cell, by its key, as far as it is known.
        where: of a sweep, the cells to take, as `activation=relu`: the end of an option's path, and its value.

    Raises RunError when nothing is left, or an option is not there.
    """
    if not run.is_sweep:
        config = run.config
        seeds = config["seeds"]
        return [RunGroup(config["name"], run, tuple(range(seeds if isinstance(seeds, int) else len(seeds))), config)]
    table = run.lanes()
    options = swept_columns(table.column_names)
    wanted = [_condition(run, text, options) for text in where]
    cells: dict[str, list[dict[str, Any]]] = {}
    for lane in table.to_pylist():
        if lane["status"] in ENDED and all(in_words(lane[path]) == value for path, value in wanted):
            cells.setdefault(lane["cell"], []).append(lane)
    if not cells:
        raise RunError(f"{run.path}: no lane has ended{' where ' + ' and '.join(where) if where else ''}")
    free = [path for path in options if len(set(table[path].to_pylist())) > 1] or options
    return [
        RunGroup(
            ", ".join(in_words(lanes[0][path]) for path in free if lanes[0][path] is not None),
            run,
            tuple(lane["lane"] for lane in lanes),
            (configs or {}).get(cell) or _overlaid(run.config, {path: lanes[0][path] for path in options}),
        )
        for cell, lanes in cells.items()
    ]


def unended_cells(run: Run) -> int:
    """Returns how many cells of a sweep are in no group: none of their lanes has ended."""
    lanes = run.lanes().select(["cell", "status"]).to_pylist()
    ended = {lane["cell"] for lane in lanes if lane["status"] in ENDED}
    return len({lane["cell"] for lane in lanes} - ended)


def _overlaid(base: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a cell whose parts are not known here: the base, with its swept options as the lanes have them."""
    config = copy.deepcopy(base)
    for path, value in options.items():
        if value is None:
            continue
        *above, last = path.split(".")
        section = config
        for key in above:
            inner = section.get(key)
            section[key] = inner if isinstance(inner, dict) else {"name": inner}
            section = section[key]
        value = scalar(value) if isinstance(value, str) else value
        section[last] = {"name": value} if isinstance(section.get(last), dict) and isinstance(value, str) else value
    return config


def _condition(run: Run, text: str, options: Sequence[str]) -> tuple[str, str]:
    word, equals, value = text.partition("=")
    if not equals:
        raise RunError(f"{run.path}: --where {text}: expected OPTION=VALUE; swept: {', '.join(options)}")
    try:
        return option_called(word, options, "swept option"), value
    except ValueError as error:
        raise RunError(f"{run.path}: --where {text}: {error}") from None


def compare(groups: Sequence[RunGroup], statistic: str = "delta_log10") -> RunComparison:
    """Returns groups of runs side by side, each compared with the first.

    Args:
        groups: two or more, by `groups_of`.
        statistic: a column of the layer table.

    Raises RunError for fewer than two or more than MAX_GROUPS, and for a statistic that one of them did not measure.
    """
    named = _named(groups)
    known_statistic(groups[0].run, statistic)
    raw = [_curves(one, statistic) for one in named]
    recorded = all(steps.size for steps, _ in raw)
    measured = [np.any(~np.isnan(values), axis=(0, 1), keepdims=True)[0, 0] for _, values in raw]
    alignment = align([one.run.paths for one in named], [one.layers for one in named], measured)
    positions = alignment.positions
    trajectories = [trajectory_of(steps, alignment.at(i, values)) for i, (steps, values) in enumerate(raw) if recorded]
    losses = [trajectory_of(*_metric(one, "train_loss")) for one in named]
    bands = [_band(one, positions) if statistic == "delta_log10" else None for one in named]
    ends = [_evaluated(one) for one in named]
    finals = [accuracy[-1] for _, accuracy in ends if len(accuracy)]
    least = min(finals) if len(finals) == len(named) else math.nan
    return RunComparison(
        groups=named,
        outcomes=tuple(_outcome(one, end, least) for one, end in zip(named, ends, strict=True)),
        differences=differences([one.config for one in named]),
        accuracy=least,
        statistic=statistic,
        positions=positions if recorded else positions[:0],
        paths=alignment.paths if recorded else (),
        alone=alignment.alone,
        trajectories=tuple(trajectories),
        divergences=tuple(
            divergence_of(statistic, trajectories[0], trajectory, bands[0], band)
            for trajectory, band in zip(trajectories[1:], bands[1:], strict=False)
        ),
        loss_divergences=tuple(divergence_of("train_loss", losses[0], one) for one in losses[1:]),
        losses=tuple(losses),
        accuracies=tuple(trajectory_of(*_metric(one, "test_accuracy")) for one in named),
    )


def _named(groups: Sequence[RunGroup]) -> tuple[RunGroup, ...]:
    """The groups under names that tell them apart."""
    if len(groups) < 2:
        raise RunError("there is only one to compare; name another run")
    if len(groups) > MAX_GROUPS:
        raise RunError(
            f"{len(groups):,} are too many to compare, {MAX_GROUPS} are the most; choose with --where OPTION=VALUE"
        )
    places = [(one.run.path.resolve(), one.lanes) for one in groups]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise RunError(f"{groups[i].run.path}: given twice; name another run")
    for longer in (lambda one: f"{one.run.config['name']}: {one.name}", lambda one: one.run.path.name, _whole_name):
        names = [one.name for one in groups]
        groups = [one._replace(name=longer(one)) if names.count(one.name) > 1 else one for one in groups]
    return tuple(groups)


def _whole_name(one: RunGroup) -> str:
    return f"{one.run.path} {one.lanes[0]}" if one.run.is_sweep else str(one.run.path)


def _curves(one: RunGroup, statistic: str) -> tuple[np.ndarray, np.ndarray]:
    """The recorded steps [T], and the hidden layers' statistic [S, T, L]; NaN where a seed has ended."""
    steps = evenly(one.run.recorded_steps(one.lanes), MAX_STEPS)
    curves = one.run.curves(statistic, one.lanes, steps=steps)
    if len(steps) and not curves:
        why = "" if one.run.is_watched else f" (log.statistics: {one.config['log']['statistics']})"
        raise RunError(f"{one.run.path}: '{statistic}' was not measured{why}")
    values = np.full((len(one.lanes), len(steps), one.layers), np.nan)
    for i, lane in enumerate(one.lanes):
        if lane in curves:
            mine = curves[lane].values if one.run.is_watched else curves[lane].hidden
            values[i, np.searchsorted(steps, curves[lane].steps)] = mine
    return steps, values


def _metric(one: RunGroup, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps [T] at which a column of the metrics table was measured, and its values [S, T, 1]."""
    table = one.run.metrics(["lane", "step", name], where=pc.field("lane").isin(list(one.lanes)))
    table = table.filter(pc.field(name).is_valid())
    steps = evenly(np.unique(table["step"].to_numpy()), MAX_STEPS)
    table = table.filter(pc.field("step").isin(steps.tolist()))
    values = np.full((len(one.lanes), len(steps), 1), np.nan)
    rows = rows_by_lane(table)
    for i, lane in enumerate(one.lanes):
        if lane in rows:
            mine = table.take(rows[lane])
            values[i, np.searchsorted(steps, mine["step"].to_numpy()), 0] = mine[name].to_numpy()
    return steps, values


def _band(one: RunGroup, positions: np.ndarray) -> np.ndarray | None:
    """The deviation of log10 of the gradient over draws of the weights, [P], as theory has it; None for none."""
    mine = (pc.field("lane") == one.lanes[0]) & (pc.field("statistic") == "delta_log10")
    rows = one.run.prediction(["band"], where=mine & (pc.field("layer") <= one.layers))
    if len(rows) != one.layers or rows["band"].null_count:
        return None
    return aligned(rows["band"].to_numpy(), positions)


def _evaluated(one: RunGroup) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which the test accuracy was measured, and its mean over seeds."""
    table = one.run.metrics(["lane", "step", "test_accuracy"], where=pc.field("lane").isin(list(one.lanes)))
    means = table.filter(pc.field("test_accuracy").is_valid()).group_by("step").aggregate([("test_accuracy", "mean")])
    means = means.sort_by("step")
    return means["step"].to_numpy(), means["test_accuracy_mean"].to_numpy()


def _outcome(one: RunGroup, evaluated: tuple[np.ndarray, np.ndarray], least: float) -> GroupOutcome:
    table = one.run.lanes()
    rows = table.filter(pc.field("lane").isin(list(one.lanes))).to_pylist()
    steps, accuracy = evaluated
    there = steps[accuracy >= least]
    last = one.run.metrics(["step"], where=pc.field("lane").isin(list(one.lanes)))["step"]
    return GroupOutcome(
        words=tuple(row["verdict"] or row["status"] for row in rows) or (one.run.status,),
        slope=_figure(row["slope"] for row in rows),
        train_loss=_figure(row["train_loss"] for row in rows),
        test_accuracy=_figure(row["test_accuracy"] for row in rows),
        steps=int(last.to_numpy().max(initial=0)),
        reached=int(there[0]) if len(there) else None,
        seconds=_seconds(one),
    )


def _figure(values: Iterable[float | None]) -> Figure:
    known = np.array([value for value in values if value is not None], float)
    return Figure(
        float(known.mean()) if len(known) else math.nan,
        float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        len(known),
    )


def _seconds(one: RunGroup) -> float:
    rounds: list[dict[str, Any]] = [one.run.meta | {"lanes": list(one.lanes)}]
    if one.run.is_sweep:
        rounds = list(one.run.rounds.values())
    share = {}
    for state in rounds:
        seconds = state["seconds"] - state["compile_seconds"]
        share |= dict.fromkeys(state["lanes"], seconds / len(state["lanes"]))
    return sum(share[lane] for lane in one.lanes)


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Returns the options that resolved configs differ in, by path, each config's value in words; `-` for none."""
    found: dict[str, tuple[str, ...]] = {}
    _differ([_numbers(config.get("watched", config)) for config in configs], (), found)
    return found


def _numbers(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A config without what changes no number."""
    kept = {key: value for key, value in config.items() if f"{above}{key}" not in LEFT_OUT}
    return {key: _numbers(value, f"{above}{key}.") if isinstance(value, dict) else value for key, value in kept.items()}


def _differ(values: Sequence[Any], keys: tuple[str, ...], found: dict[str, tuple[str, ...]]) -> None:
    """Goes down where all have the same part, and notes what differs; parts of other names differ as a whole."""
    if all(value == values[0] for value in values):
        return
    if all(isinstance(value, dict) for value in values) and len({value.get("name") for value in values}) == 1:
        for key in dict.fromkeys(key for value in values for key in value):
            _differ([value.get(key) for value in values], (*keys, key), found)
        return
    parts = [value for value in values if isinstance(value, dict)]
    found[".".join(keys)] = tuple(in_words(_bare(value, parts)) for value in values)


def _bare(value: Any, parts: Sequence[dict[str, Any]]) -> Any:
    """A part without the options that others have as well, with the same value."""
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, inner in value.items():
        theirs = [part[key] for part in parts if key in part]
        if key == "name" or len(theirs) == 1 or any(other != inner for other in theirs):
            kept[key] = inner
    return kept
