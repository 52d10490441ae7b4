"""What a page shows of a run: its tables, downsampled for display, lane by lane."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vgx.report.html.binning import Bins, Thinned, bins, thin
from vgx.results.agreement import agreement, agreement_of
from vgx.results.columns import LAYERS, METRICS
from vgx.results.layer_names import roles_of, short_names, without_shared
from vgx.results.store import Run
from vgx.results.values import label, swept_options
from vgx.results.verdict import slope_of, slopes_of

NUMBERS = 790_000
"""How many numbers of the layer table a page holds at the most, about; one of 2,000 lanes is about 10 MB."""
STEPS, GROUPS = 100, 100
"""How many steps, and how many layers, are told apart at the most."""
POINTS = 300
"""How many steps a curve over the steps has at the most."""
COURSE_NUMBERS = 150_000
NEEDED = ("delta_log10", "weight_grad_log10", "weight_grad_zero")
"""What a page of very many lanes still shows."""
PREDICTED = ("delta_log10", "stream_grad_log10", "act_rms", "preact_std", "cosine")
COURSE = tuple(name for name in METRICS if name != "epoch")


class Axis(NamedTuple):
    """The bins of steps and of layers that lanes of one depth share."""

    steps: np.ndarray
    """[T], the recorded steps of any of these lanes."""
    layers: int
    """L + 1."""
    by_step: Bins
    by_layer: Bins
    names: tuple[str, ...] = ()
    """[L + 1] of a watched run, whose last layer is one like the others; of others empty."""
    roles: tuple[str, ...] = ()
    """[L + 1], likewise: the chain over the blocks that each is in, `blocks.*.mlp.up`, or an empty text."""

    @property
    def step_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """[S] each: the first and the last step of every bin."""
        starts = self.by_step.starts
        return self.steps[starts], self.steps[np.append(starts[1:], len(self.steps)) - 1]

    @property
    def layer_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """[G] each: the first and the last layer of every bin, from 1."""
        starts = self.by_layer.starts
        return starts + 1, np.append(starts[1:], self.layers)

    @property
    def thin(self) -> bool:
        return self.by_step.thin or self.by_layer.thin


class Forecast(NamedTuple):
    """What was predicted of one statistic of a lane: [L + 1] each, NaN where unknown."""

    predicted: np.ndarray
    band: np.ndarray
    """A standard deviation over draws of the weights."""
    measured: np.ndarray
    """At the first recorded step."""


class Contents(NamedTuple):
    """A run, as a page shows it."""

    run: Run
    meta: dict[str, Any]
    config: dict[str, Any]
    lanes: list[dict[str, Any]]
    """Rows of the lane table; of a run that has not ended, what is known of each lane."""
    options: list[str]
    """Paths that the lanes of a sweep differ in."""
    statistics: list[str]
    """Columns of the layer table that were measured, in its order."""
    axes: list[Axis]
    axis_of: list[int | None]
    """For each lane its axis; None where no layer was recorded."""
    cubes: list[dict[str, Thinned]]
    """For each lane its statistics, [S, G]."""
    course: list[str]
    """Columns of the metrics table that were measured."""
    course_steps: tuple[np.ndarray, np.ndarray]
    """[P] each: the first and the last step of every bin."""
    courses: list[Thinned]
    """For each lane its metrics, [P, columns]."""
    forecasts: list[dict[str, Forecast]]
    """For each lane what was predicted, by statistic."""
    held: list[str | None]
    """For each lane whether theory matched; of a sweep's lanes at the first step."""

    @property
    def is_sweep(self) -> bool:
        return self.run.is_sweep

    @property
    def roles(self) -> list[str]:
        """The chains over the blocks of a watched run that is drawn layer by layer; none of others."""
        known = {role: None for axis in self.axes if not axis.by_layer.thin for role in axis.roles if role}
        return list(known)

    @property
    def paths(self) -> list[str]:
        """Of a watched run's layers; none of others, whose layers are numbers."""
        return self.run.paths

    def label(self, lane: int) -> str:
        """A lane in words: what was swept, and its seed."""
        words = [self.word(lane, option) for option in self.options if self.lanes[lane].get(option) is not None]
        return ", ".join([*words, f"seed {self.lanes[lane]['seed']}"])

    def word(self, lane: int, option: str) -> str:
        """A lane's value of a swept option, as labels have it."""
        return label(self.lanes[lane].get(option))

    def verdict(self, lane: int) -> str:
        """A lane's verdict; its status before it has one."""
        return self.lanes[lane].get("verdict") or self.lanes[lane]["status"]

    def predicted_slope(self, lane: int) -> float:
        """Decades per layer from the top down, NaN where nothing was predicted."""
        forecast = self.forecasts[lane].get(self._gradient(lane))
        return math.nan if forecast is None else slope_of(forecast.predicted[:-1])

    def measured_slope(self, lane: int) -> float:
        """The same at the first recorded step; NaN where no layer was recorded."""
        number = self.axis_of[lane]
        if number is None or "delta_log10" not in self.statistics:
            return math.nan
        lowest, highest = self.axes[number].layer_edges
        curve = self.cubes[lane][self._gradient(lane)].mean[0, :-1]
        return float(slopes_of(curve, ((lowest + highest) / 2)[:-1]))

    def _gradient(self, lane: int) -> str:
        """The statistic that a lane's verdict rests on: the stream's gradient, where its layers add to one."""
        name = "stream_grad_log10"
        streams = name in self.statistics and np.isfinite(self.cubes[lane][name].mean[0, :-1]).any()
        return name if streams else "delta_log10"


def gather(run: Run) -> Contents:
    """Returns what a page shows of a run, whatever state it is in."""
    config, meta = run.config, run.meta
    lanes = run.lanes().to_pylist() or _lanes_of(config, meta["status"])
    numbers = [lane["lane"] for lane in lanes]
    statistics, axes, axis_of, cubes = _cubes(run, numbers)
    course, course_steps, courses = _courses(run, numbers)
    options = swept_options(run) if run.is_sweep else []
    forecasts = _forecasts(run, numbers)
    held = [_held(run, number, forecast) for number, forecast in zip(numbers, forecasts, strict=True)]
    return Contents(
        run,
        meta,
        config,
        lanes,
        options,
        statistics,
        axes,
        axis_of,
        cubes,
        course,
        course_steps,
        courses,
        forecasts,
        held,
    )


def _held(run: Run, number: int, forecasts: Mapping[str, Forecast]) -> str | None:
    forecast = forecasts.get("delta_log10")
    if forecast is None or np.isnan(forecast.measured).all():
        return None
    if run.is_sweep:
        return agreement(forecast.predicted, forecast.band, forecast.measured[None], np.array([1])).sentence
    full = agreement_of(run, number)
    return full and full.sentence


def _lanes_of(config: Mapping[str, Any], status: str) -> list[dict[str, Any]]:
    """The lanes of a run that has not ended."""
    seeds = config["seeds"]
    listed = list(range(seeds)) if isinstance(seeds, int) else seeds
    return [{"lane": lane, "seed": seed, "status": status, "verdict": None} for lane, seed in enumerate(listed)]


def _split(table: pa.Table, numbers: Sequence[int]) -> tuple[np.ndarray, list[slice]]:
    """The order that puts the rows of each lane together, and where each lane's are then."""
    lane = table["lane"].to_numpy()
    order = np.argsort(lane, kind="stable")
    found = lane[order]
    starts, stops = np.searchsorted(found, numbers, "left"), np.searchsorted(found, numbers, "right")
    return order, [slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]


def _cubes(
    run: Run, numbers: Sequence[int]
) -> tuple[list[str], list[Axis], list[int | None], list[dict[str, Thinned]]]:
    keys = run.layers(["lane", "step", "layer"])
    order, where = _split(keys, numbers)
    step, layer = keys["step"].to_numpy()[order], keys["layer"].to_numpy()[order]
    depth_of = [int(layer[rows].max()) if rows.stop > rows.start else None for rows in where]
    depths = sorted({depth for depth in depth_of if depth is not None})
    columns: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in LAYERS:
        column = run.layers([name])[name]
        if column.null_count < len(column):
            known = np.ones(len(column), bool) if not column.null_count else column.is_valid().to_numpy()
            columns[name] = column.to_numpy()[order], known[order]
    names = _affordable(list(columns), len(numbers))
    axes = []
    for depth in depths:
        same = [rows for rows, its in zip(where, depth_of, strict=True) if its == depth]
        steps = np.unique(np.concatenate([np.unique(step[rows]) for rows in same]))
        axis = _axis(steps, depth, len(numbers) * len(names))
        roles = roles_of(without_shared(run.paths))
        axes.append(axis._replace(names=tuple(short_names(run.paths)), roles=tuple(roles)))
    axis_of = [None if depth is None else depths.index(depth) for depth in depth_of]
    cubes: list[dict[str, Thinned]] = []
    for rows, number in zip(where, axis_of, strict=True):
        if number is None:
            cubes.append({})
            continue
        axis = axes[number]
        at = np.searchsorted(axis.steps, step[rows][:: axis.layers])
        cubes.append({name: _cube(axis, at, *(column[rows] for column in columns[name])) for name in names})
    return names, axes, axis_of, cubes


def _affordable(names: list[str], lanes: int) -> list[str]:
    """All statistics; of very many lanes those that matter most."""
    return names if lanes * len(names) * 3 * 6 * 12 <= NUMBERS else [name for name in names if name in NEEDED]


def _axis(steps: np.ndarray, layers: int, series: int) -> Axis:
    """Bins such that so many series of them stay within what a page holds."""
    if series * len(steps) * layers <= NUMBERS and len(steps) <= STEPS and layers <= GROUPS:
        return Axis(steps, layers, bins(len(steps), STEPS), bins(layers, GROUPS, 2))
    cells = NUMBERS // (3 * series)
    groups = min(layers, GROUPS, max(6, cells // 6, math.isqrt(cells)) if cells < 24 * layers else GROUPS)
    return Axis(steps, layers, bins(len(steps), min(STEPS, max(4, cells // groups))), bins(layers, groups, 2))


def _cube(axis: Axis, at: np.ndarray, values: np.ndarray, known: np.ndarray) -> Thinned:
    """One statistic of one lane in bins; `at` says which of the axis's steps its rows are."""
    shape = len(at), axis.layers
    if len(at) == len(axis.steps):
        return thin(values.reshape(shape), known.reshape(shape), axis.by_step, axis.by_layer)
    whole, there = np.zeros((len(axis.steps), axis.layers)), np.zeros((len(axis.steps), axis.layers), bool)
    whole[at], there[at] = values.reshape(shape), known.reshape(shape)
    return thin(whole, there, axis.by_step, axis.by_layer)


def _courses(run: Run, numbers: Sequence[int]) -> tuple[list[str], tuple[np.ndarray, np.ndarray], list[Thinned]]:
    table = run.metrics(["lane", "step", *COURSE])
    names = [name for name in COURSE if table[name].null_count < len(table)]
    order, where = _split(table, numbers)
    step = table["step"].to_numpy()[order]
    steps = np.unique(step)
    if not len(steps):
        empty = Thinned(*[np.zeros((0, 0), np.float32)] * 3)
        return [], (steps, steps), [empty] * len(numbers)
    limit = min(POINTS, max(8, COURSE_NUMBERS // (3 * len(names) * len(numbers))))
    by_step, unit = bins(len(steps), limit), bins(len(names), len(names))
    values = np.stack([table[name].to_numpy()[order] for name in names], 1)
    known = np.stack([table[name].is_valid().to_numpy()[order] for name in names], 1)
    courses = []
    for rows in where:
        whole, there = np.zeros((len(steps), len(names))), np.zeros((len(steps), len(names)), bool)
        at = np.searchsorted(steps, step[rows])
        whole[at], there[at] = values[rows], known[rows]
        courses.append(thin(whole, there, by_step, unit))
    lasts = np.append(by_step.starts[1:], len(steps)) - 1
    return names, (steps[by_step.starts], steps[lasts]), courses


def _forecasts(run: Run, numbers: Sequence[int]) -> list[dict[str, Forecast]]:
    table = run.prediction()
    forecasts: list[dict[str, Forecast]] = [{} for _ in numbers]
    for name in PREDICTED:
        of_statistic = table.filter(pc.field("statistic") == name)
        order, where = _split(of_statistic, numbers)
        columns = [of_statistic[column].to_numpy()[order] for column in Forecast._fields]
        for forecast, rows in zip(forecasts, where, strict=True):
            if rows.stop > rows.start:
                forecast[name] = Forecast(*(column[rows].astype(np.float64) for column in columns))
    return forecasts


def grouped(values: np.ndarray, axis: Axis) -> np.ndarray:
    """Returns the mean over each bin of layers of `values` [L + 1], NaN left out."""
    known = np.isfinite(values)
    starts = axis.by_layer.starts
    counts = np.add.reduceat(known.astype(int), starts)
    with np.errstate(invalid="ignore"):
        return np.add.reduceat(np.where(known, values, 0.0), starts) / counts


def flag(value: float) -> str:
    """Returns how what is no number is shown: `0` for the logarithm of 0, `NaN`, `∞`; nothing for a number."""
    if math.isnan(value):
        return "NaN"
    return "" if math.isfinite(value) else "0" if value < 0 else "∞"


def cells_of(contents: Contents) -> Iterator[tuple[str, list[int]]]:
    """Yields each cell of a sweep in words, and the positions of its lanes: one for each seed."""
    members: dict[str, list[int]] = {}
    for i, lane in enumerate(contents.lanes):
        members.setdefault(lane.get("cell", ""), []).append(i)
    for positions in members.values():
        yield contents.label(positions[0]).rpartition(", seed")[0], positions
