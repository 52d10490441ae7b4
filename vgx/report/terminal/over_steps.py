"""Statistics over the steps in the terminal: all layers as a map, one layer line by line, the cells of a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from vgx.errors import RunError
from vgx.report.terminal.bars import lowest, picture, sparkline
from vgx.report.terminal.heatmap import WIDEST, HeatMap
from vgx.report.terminal.tables import plain_table, right
from vgx.results.columns import LAYERS, known_statistic, known_step, swept_columns
from vgx.results.curves import evenly
from vgx.results.divergence import aligned
from vgx.results.layer_names import short_names
from vgx.results.store import Run
from vgx.results.values import in_words
from vgx.results.words import compact, counted, power_of_ten

MAX_CELLS = 60
"""Lines of a map of a sweep."""


def heat_map(run: Run, lane: int, statistic: str, steps: np.ndarray) -> RenderableType:
    """Returns a lane's statistic as a map of steps and hidden layers; of a watched run, all layers that have it.

    Args:
        run: what to show.
        lane: of it.
        statistic: a column of the layer table.
        steps: [T], the recorded ones.
    """
    column, shown = LAYERS[statistic], evenly(steps, 4 * WIDEST)
    found = run.curves(statistic, [lane], steps=shown)
    if lane not in found:
        return Text()
    ends = (f"step {shown[0]:,}", f"{shown[-1]:,}" if len(shown) > 1 else "")
    if paths := run.paths:
        values = column.shown(found[lane].values)
        some = np.flatnonzero(~np.isnan(values).all(0))
        values, names = values[:, some], short_names([paths[i] for i in some])
    else:
        values = column.shown(found[lane].hidden)
        names = [str(layer) for layer in range(1, values.shape[1] + 1)]
    title = Text(f"{column.title}, by layer and step", "bold")
    return Group(title, HeatMap(values, names, ends, column.is_log))


def layer_over_steps(
    run: Run, layer: int, lane: int, step: int | None, statistic: str | None, width: int
) -> RenderableType:
    """Returns what was measured of a layer over the steps: a line for each statistic, or a picture of one.

    Args:
        run: what to show.
        layer: from 1; L + 1 is the readout.
        lane: of the run.
        step: of which the numbers stand beside the first ones; the last one by default.
        statistic: a column of the layer table; every one by default.
        width: columns.

    Raises RunError for a layer, a lane, a step or a statistic that is not there.
    """
    rows = run.layers(where=(pc.field("lane") == lane) & (pc.field("layer") == layer))
    steps = rows["step"].to_numpy()
    if not len(steps):
        raise RunError(f"{run.path}: {_no_layer(run, layer, lane)}")
    at = len(steps) - 1 if step is None else int(np.searchsorted(steps, known_step(run, step, steps)))
    named = run.paths
    layer_name = named[layer - 1] if named else f"layer {layer}"
    where = f"{layer_name}, steps {steps[0]:,} to {steps[-1]:,}"
    if statistic is not None:
        column = LAYERS[name := known_statistic(run, statistic, rows)]
        values, ends = column.shown(rows[name]), (f"step {steps[0]:,}", f"{steps[-1]:,}")
        title = f"{column.title}, of {where}"
        form = column.axis_form
        drawn = picture(values, width, title=title, log=column.is_log, ends=ends, form=form)
        first, then = (_said(x, column.is_log) for x in (values[0], values[at]))
        said = f"{first} at step {steps[0]:,}, {then} at step {steps[at]:,}"
        return Group(drawn, Text(f"\n{said}"))
    return _statistics_table(rows, steps, at, where if len(where) < 27 else layer_name, width)


def _said(value: float, log: bool) -> str:
    if not log:
        return compact(value)
    return power_of_ten(value) if math.isfinite(value) else "0" if value < 0 else compact(value)


def _statistics_table(rows: pa.Table, steps: np.ndarray, at: int, where: str, width: int) -> Table:
    """Every statistic that a layer's rows have: the first value, the one `at` a row, the range, and a line of bars."""
    first, *others = (
        right(head, no_wrap=False) for head in (f"step {steps[0]:,}", f"step {steps[at]:,}", "lowest", "highest")
    )
    line = Column("over steps", style="cyan")
    table = plain_table(Column(where, no_wrap=True), first, line, *others, padding=(0, 1, 0, 0))
    for name, column in LAYERS.items():
        if rows[name].null_count == len(rows):
            continue
        values = column.shown(rows[name])
        known = values[~np.isnan(values)]
        least, most = (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
        figures = [compact(x) for x in (values[0], values[at], least, most)]
        table.add_row(column.axis_label, figures[0], sparkline(values, max(8, width - 64), column.is_log), *figures[1:])
    return table


def _no_layer(run: Run, layer: int, lane: int) -> str:
    first = run.layers(["layer"], where=(pc.field("lane") == lane))["layer"].to_numpy()
    if run.is_watched:
        return f"has no layer {layer}; its layers are 1 to {len(run.paths)}, or their paths"
    if len(first):
        return f"has no layer {layer}; its layers are 1 to {first.max() - 1}, and {first.max()} is the readout"
    lanes = run.layers(["lane"], where=pc.field("layer") == 1)["lane"].to_numpy()
    return f"has no lane {lane}: it has {lanes.max() + 1}, from 0" if len(lanes) else "no layers are recorded"


def cells_map(run: Run, statistic: str | None, step: int | None, layer: int | None) -> RenderableType:
    """Returns a statistic of the cells of a sweep, a line each, the mean over their seeds.

    Args:
        run: a sweep.
        statistic: a column of the layer table; the gradient by default.
        step: at which the columns are relative depths; each lane's last one by default.
        layer: of which the columns are steps instead.

    Raises RunError for a statistic, a step or a layer that no lane has, and for both a step and a layer.
    """
    if step is not None and layer is not None:
        raise RunError(f"{run.path}: a step and a layer are one number for each cell; name one, or a --lane")
    name = known_statistic(run, statistic)
    table = run.lanes()
    options = swept_columns(table.column_names)
    cells: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        label = ", ".join(in_words(row[path]) for path in options)
        cells.setdefault(label, []).append(row)
    shown = dict(list(cells.items())[:MAX_CELLS])
    steps = run.recorded_steps()
    if layer is None and step is not None:
        known_step(run, step, steps)
    columns = evenly(steps, WIDEST)
    of_cell = _at_layer if layer is not None else _at_step
    values = [
        _over_seeds([of_cell(run, row["lane"], name, step, layer, columns) for row in rows]) for rows in shown.values()
    ]
    if all(np.isnan(line).all() for line in values):
        known_statistic(run, name, run.layers(where=pc.field("lane") == 0))
        raise RunError(
            f"{run.path}: no cell has a layer {layer}" if layer is not None else f"{run.path}: no layers are recorded"
        )
    if layer is not None:
        ends, what = (f"step {columns[0]:,}", f"{columns[-1]:,}"), f"of layer {layer} by step"
    else:
        ends, what = ("input", "top"), f"by depth at step {step:,}" if step is not None else "by depth at the last step"
    title = Text(f"{LAYERS[name].title}, {what}", "bold")
    left = len(cells) - len(shown)
    more = [Text(f"... and {counted(left, 'more cell')}", "dim")] if left else []
    return Group(title, HeatMap(np.array(values).T, list(shown), ends, LAYERS[name].is_log, separate=True), *more)


def _at_step(run: Run, lane: int, name: str, step: int | None, layer: int | None, columns: np.ndarray) -> np.ndarray:
    """A lane's statistic at a step over relative depths, [64]; NaN where it has none."""
    del layer, columns
    step = int(run.recorded_steps([lane]).max(initial=0)) if step is None else step
    curves = run.curves(name, [lane], steps=[step]).get(lane)
    if curves is None:
        return np.full(64, np.nan)
    values = LAYERS[name].shown(curves.hidden[0])
    return aligned(values, np.linspace(0, 1, 64))


def _at_layer(run: Run, lane: int, name: str, step: int | None, layer: int | None, columns: np.ndarray) -> np.ndarray:
    """A lane's statistic of a layer at these steps; NaN where it has none."""
    del step
    rows = run.layers(["step", name], where=(pc.field("lane") == lane) & (pc.field("layer") == layer))
    values, steps = np.full(len(columns), np.nan), rows["step"].to_numpy()
    values[np.isin(columns, steps)] = LAYERS[name].shown(rows[name])[np.isin(steps, columns)]
    return values


def _over_seeds(values: Sequence[np.ndarray]) -> np.ndarray:
    """The mean, or where a seed has no finite number, the lowest."""
    stacked = np.array(values)
    with np.errstate(invalid="ignore"):
        mean = stacked.mean(0)
    odd = ~np.isfinite(stacked).all(0)
    mean[odd] = [lowest(column) for column in stacked.T[odd]]
    return mean
