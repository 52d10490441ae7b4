"""What theory says of the first step of a run's lanes, as a table; what was measured is joined when it is read."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow as pa

STATISTICS = ("delta_log10", "act_rms", "preact_std", "cosine")
"""Columns of the layer table that are predicted; `stream_grad_log10` besides where layers add to a stream."""
GRADIENTS = ("delta_log10", "stream_grad_log10")
"""Those that are relative to the readout's `delta_log10`."""
JOINED = ("measured", "z_score")
"""What is joined: what the first step showed, as `predicted` takes it, and how many bands that is off."""


class Predicted(Protocol):
    """What theory says of each layer, `theory.Propagation`: [L + 1] each."""

    @property
    def delta_log10(self) -> np.ndarray: ...
    @property
    def stream_grad_log10(self) -> np.ndarray: ...
    @property
    def has_stream(self) -> bool: ...
    @property
    def act_rms(self) -> np.ndarray: ...
    @property
    def preact_std(self) -> np.ndarray: ...
    @property
    def cosine(self) -> np.ndarray: ...
    @property
    def band(self) -> np.ndarray: ...
    @property
    def act_band(self) -> np.ndarray: ...
    @property
    def preact_band(self) -> np.ndarray: ...


def prediction_schema() -> pa.Schema:
    """Returns the schema of `prediction.parquet`: a row per lane, statistic and layer (L + 1 is the readout).

    `predicted` is what theory says of the first step, gradients relative to the readout's; `band` a standard deviation
    of that over draws of the weights, null where none is known.
    """
    return pa.schema(
        [
            pa.field("lane", pa.int32(), nullable=False),
            pa.field("layer", pa.int32(), nullable=False),
            pa.field("statistic", pa.string(), nullable=False),
            *(pa.field(name, pa.float64()) for name in ("predicted", "band")),
        ]
    )


def prediction_rows(curves: Predicted, lane: int) -> pa.Table:
    """Returns a lane's rows of `prediction.parquet`."""
    layers = len(curves.delta_log10)
    keys = [pa.array(np.full(layers, lane, np.int32)), pa.array(np.arange(1, layers + 1, dtype=np.int32))]
    bands = {
        "delta_log10": curves.band,
        "stream_grad_log10": curves.band,
        "act_rms": curves.act_band,
        "preact_std": curves.preact_band,
    }
    tables = []
    for name in (*STATISTICS, *(["stream_grad_log10"] if curves.has_stream else [])):
        values = [_nullable(x) for x in (getattr(curves, name), bands.get(name, np.full(layers, np.nan)))]
        tables.append(pa.Table.from_arrays([*keys, pa.array([name] * layers), *values], schema=prediction_schema()))
    return pa.concat_tables(tables)


def with_measured(prediction: pa.Table, first: pa.Table) -> pa.Table:
    """Returns the rows of a prediction with the columns `JOINED`; `first` has the layers of its lanes at step 1."""
    measured = np.full(len(prediction), np.nan)
    first = first.sort_by([("lane", "ascending"), ("layer", "ascending")])
    lane, layer = (first[name].to_numpy() for name in ("lane", "layer"))
    readout = np.searchsorted(lane, lane, "right") - 1
    wanted = _place(*(prediction[name].to_numpy() for name in ("lane", "layer")))
    at = np.searchsorted(place := _place(lane, layer), wanted)
    there = (at < len(place)) & (np.append(place, 0)[at] == wanted)
    statistic = prediction["statistic"].combine_chunks().dictionary_encode()
    for code, name in enumerate(statistic.dictionary.to_pylist()):
        rows = there & (statistic.indices.to_numpy() == code)
        if name in (*STATISTICS, *GRADIENTS):
            values = first[name].to_numpy().astype(np.float64)
            top = first["delta_log10"].to_numpy().astype(np.float64)[readout]
            measured[rows] = (values - top if name in GRADIENTS else values)[at[rows]]
    predicted, band = (prediction[name].to_numpy() for name in ("predicted", "band"))
    with np.errstate(divide="ignore", invalid="ignore"):
        z_score = np.where(band > 0, (measured - predicted) / band, np.nan)
    for name, values in zip(JOINED, (measured, z_score), strict=True):
        prediction = prediction.append_column(name, _nullable(values))
    return prediction


def _place(lane: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """A number for each lane and layer, in their order."""
    return lane.astype(np.int64) * 2**32 + layer


def _nullable(values: np.ndarray) -> pa.Array:
    """NaN is null: nothing is known."""
    return pa.array(values, pa.float64(), mask=np.isnan(values))
