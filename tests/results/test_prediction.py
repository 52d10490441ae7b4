"""What was measured, joined to what was predicted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from vgx.results.prediction import prediction_schema, with_measured
from vgx.results.schemas import layers_schema


def layers(rows):
    """Rows of the layer table: lane, layer, gradient, activation; the rest is null."""
    lane, layer, delta, rms = zip(*rows, strict=True) if rows else ([],) * 4
    columns = {"lane": lane, "step": [1] * len(rows), "layer": layer, "delta_log10": delta, "act_rms": rms}
    known = pa.table(
        {name: pa.array(values, layers_schema("float64").field(name).type) for name, values in columns.items()}
    )
    return known.append_column("preact_std", pa.nulls(len(rows), pa.float64()))


def prediction(rows):
    names = prediction_schema().names
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=prediction_schema())


def joined(rows, first):
    table = with_measured(prediction(rows), layers(first))
    return table["measured"].to_pylist(), table["z_score"].to_pylist()


def test_a_gradient_is_measured_relative_to_its_own_readout():
    rows = [(lane, layer, "delta_log10", -1.0, 0.5) for lane in (1, 0) for layer in (1, 2)]
    first = [(0, 1, -5.0, 1.0), (0, 2, -3.0, 1.0), (1, 1, 4.0, 1.0), (1, 2, 1.0, 1.0)]
    assert joined(rows, first) == ([3.0, 0.0, -2.0, 0.0], [8.0, 2.0, -2.0, 2.0])


def test_other_statistics_are_measured_as_they_are():
    assert joined([(0, 2, "act_rms", 1.0, 0.25)], [(0, 1, 0.0, 7.0), (0, 2, 0.0, 1.5)]) == ([1.5], [2.0])


def test_what_was_not_measured_or_has_no_band_is_null():
    first = [(0, 1, -5.0, 1.0), (0, 2, -3.0, np.nan)]
    rows = [
        (0, 1, "preact_std", 1.0, 0.5),
        (0, 2, "act_rms", 1.0, 0.5),
        (0, 1, "act_rms", 1.0, None),
        (0, 3, "act_rms", 1.0, 0.5),
        (7, 1, "act_rms", 1.0, 0.5),
        (0, 1, "nonsense", 1.0, 0.5),
    ]
    assert joined(rows, first) == ([None, None, 1.0, None, None, None], [None] * 6)
    assert joined(rows, []) == ([None] * 6, [None] * 6)
    assert joined([], first) == ([], [])
