"""A lane as curves over the steps, under the names that trackers group them by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vgx.results.columns import LAYERS, METRICS, swept_columns
from vgx.results.curves import curves_of, evenly
from vgx.results.safe_text import file_name
from vgx.results.store import Run
from vgx.results.verdict import slopes_of

TAGS = {
    name: f"{name.partition('_')[2]}/{name.partition('_')[0]}"
    if name.endswith(("_loss", "_accuracy"))
    else f"train/{name}"
    for name in METRICS
}
"""Of each metric: `loss/train` and `loss/test` stand in one group, as `accuracy/...` do."""


class Series(NamedTuple):
    """One curve."""

    tag: str
    steps: np.ndarray
    values: np.ndarray
    """Float64; NaN and infinities as measured, and nothing where nothing was."""


def series_of(metrics: pa.Table, layers: pa.Table, count: int, paths: Sequence[str] = ()) -> list[Series]:
    """Returns the curves of one lane: metrics, the gradient's slope, and statistics of some layers and the readout.

    Args:
        metrics: rows of the lane, in order of step.
        layers: likewise, in order of step and layer.
        count: how many hidden layers have curves, evenly over the depth; a net with fewer has all.
        paths: of a watched run's layers, which name their curves.
    """
    measured = [name for name in METRICS if name in metrics.column_names]  # some are of runs alone that ask for them
    found = [_series(TAGS[name], metrics["step"], metrics[name]) for name in measured]
    if not len(layers):
        return [one for one in found if len(one.steps)]
    steps, delta = curves_of(layers, "delta_log10")
    width = delta.shape[1]
    if not paths:  # named layers are no chain
        slopes = slopes_of(delta[:, :-1])
        kept = ~np.isnan(slopes)
        found.append(Series("gradient/slope", steps[kept], slopes[kept]))
    for layer in (*evenly(np.arange(1, width), count).tolist(), width):
        rows = layers.slice(layer - 1).take(np.arange(0, len(layers) - layer + 1, width))
        name = "readout" if layer == width else f"layer_{layer:0{len(str(width - 1))}d}"
        name = paths[layer - 1] if paths else name
        found += [
            _series(f"{statistic}/{name}", rows["step"], rows[statistic])
            for statistic in LAYERS
            if statistic in rows.column_names
        ]
    return [one for one in found if len(one.steps)]


def _series(tag: str, steps: pa.ChunkedArray, column: pa.ChunkedArray) -> Series:
    known = column.is_valid().to_numpy()
    return Series(tag, steps.to_numpy()[known], column.to_numpy()[known].astype(np.float64))


def by_step(series: Sequence[Series]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yields every step, in order, with the values that the curves have there."""
    steps: dict[int, dict[str, float]] = {}
    for one in series:
        for step, value in zip(one.steps.tolist(), one.values.tolist(), strict=True):
            steps.setdefault(step, {})[one.tag] = value
    yield from sorted(steps.items())


def lane_name(lane: Mapping[str, Any]) -> str:
    """Returns what a lane is called in a tool that shows many: `lane-0003-seed-1`, a sweep's `...-relu-0.1`."""
    options = [str(value) for name, value in options_of(lane).items() if name != "seed"]
    words = [file_name(option) for option in options]
    return "-".join([f"lane-{lane['lane']:04d}-seed-{lane['seed']}", *words])[:120]


def options_of(lane: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what sets a lane apart: its seed and the swept options."""
    return {"seed": lane["seed"]} | {name: lane[name] for name in swept_columns(lane) if lane[name] is not None}


def begun(run: Run) -> list[dict[str, Any]]:
    """Returns the lanes that have something to show, as rows of `lanes.parquet`."""
    rows = run.lanes().to_pylist()
    if not rows:
        config = run.config["seeds"]
        seeds = range(config) if isinstance(config, int) else config
        rows = [{"lane": lane, "seed": seed, "status": run.status} for lane, seed in enumerate(seeds)]
    there = set(run.metrics(["lane"])["lane"].unique().to_pylist())
    return [row for row in rows if row["lane"] in there]
