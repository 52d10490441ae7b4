"""The columns and types of a run's tables, and a lane's row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from vgx.results.columns import DEAD_UNITS, FINAL, LAYERS, METRICS, OF_STREAMS


def metrics_schema(precision: str) -> pa.Schema:
    """Returns the schema of the metrics table: a row per lane and step."""
    return _schema(("lane", "step"), METRICS, precision)


def examined_schema(precision: str) -> pa.Schema:
    """Returns the schema of the metrics table of a run in batches so small that evaluations look for dead units."""
    number = metrics_schema(precision).field("epoch").type
    return metrics_schema(precision).append(pa.field(DEAD_UNITS, pa.list_(number)))


def layers_schema(precision: str, *, streams: bool = True) -> pa.Schema:
    """Returns the schema of the layer table: a row per recorded step, lane and layer (L + 1 is the readout).

    Without `streams`, that of nets without skip connections.
    """
    return _schema(("lane", "step", "layer"), (name for name in LAYERS if streams or name not in OF_STREAMS), precision)


def spectrum_schema(precision: str) -> pa.Schema:
    """Returns the schema of the spectrum table: a row per lane, step, example, map and singular value.

    `step` is that after which it was taken, 0 before the first; `index` counts from 1, the largest first.
    """
    keys = [pa.field(key, pa.int32(), nullable=False) for key in ("lane", "step", "example", "index")]
    keys.insert(3, pa.field("map", pa.string(), nullable=False))
    return pa.schema([*keys, pa.field("log10", _number(precision))])


TABLES = {"metrics": metrics_schema, "layers": layers_schema, "spectrum": spectrum_schema}
"""The tables that grow while a run goes on, and their schemas; runs without `log.spectrum` have no spectrum."""


def _number(precision: str) -> pa.DataType:
    # A float64 run is made to compare tenth digits, so its tables keep them.
    return pa.float64() if precision == "float64" else pa.float32()


def _schema(keys: Iterable[str], values: Iterable[str], precision: str) -> pa.Schema:
    found = [pa.field(key, pa.int32(), nullable=False) for key in keys]
    return pa.schema([*found, *(pa.field(name, _number(precision)) for name in values)])


ENDED = ("done", "diverged")
"""The statuses of a lane that has ended by itself."""


class LaneResult(NamedTuple):
    """How one lane ended: a row of `lanes.parquet`."""

    lane: int
    seed: int
    status: str
    """Of `ENDED`."""
    verdict: str | None
    slope: float | None
    """Decades of norm per layer from the top down: vanishing is negative."""
    evidence: str
    """Why the verdict, in a sentence."""
    diverged_step: int | None
    diverged_layer: int | None
    train_loss: float | None
    train_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None


LANE_SCHEMA = pa.schema(
    [
        pa.field("lane", pa.int32(), nullable=False),
        pa.field("seed", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("verdict", pa.string()),
        pa.field("slope", pa.float64()),
        pa.field("evidence", pa.string()),
        pa.field("diverged_step", pa.int32()),
        pa.field("diverged_layer", pa.int32()),
        *(pa.field(name, pa.float64()) for name in FINAL),
    ]
)
