"""A run as plain tables: CSV files, or the arrays of an npz."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from vgx.results.columns import LAYERS, METRICS
from vgx.results.map_file import cell_table, map_of
from vgx.results.safe_text import csv_cell
from vgx.results.schemas import TABLES
from vgx.results.store import Run


def write_csv(run: Run, draft: Path, output: Path, layers: int) -> None:
    """Writes a CSV file for each table of the run, and its config: NaN as `nan`, -inf as `-inf`, null as nothing.

    A map's cells are `map.csv`.
    """
    del output, layers
    for name, schema in TABLES.items():
        if name == "spectrum" and not run.files(name):
            continue
        with csv.CSVWriter(draft / f"{name}.csv", schema(run.precision)) as writer:
            for part in run.batches(name):
                writer.write_table(part)
    csv.write_csv(_safe(run.lanes()), draft / "lanes.csv")
    if run.paths:
        names = {"layer": range(1, len(run.paths) + 1), "path": run.paths}
        types = [(one.type, " x ".join(map(str, one.shape or ())) or None) for one in run.named_layers]
        names |= {"type": [kind for kind, _ in types], "shape": [shape for _, shape in types]}
        csv.write_csv(_safe(pa.table(names)), draft / "layer_names.csv")
    if len(prediction := run.prediction()):
        csv.write_csv(_safe(prediction), draft / "prediction.csv")
    if (found := map_of(run)) is not None:
        csv.write_csv(_safe(cell_table(found)), draft / "map.csv")
    (draft / "config.yaml").write_bytes((run.path / "config.yaml").read_bytes())


def _safe(table: pa.Table) -> pa.Table:
    """A table whose texts, and the names of whose columns, no spreadsheet computes."""
    for i, name in enumerate(table.column_names):
        column = table.column(i)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            texts = [text if text is None else csv_cell(text) for text in column.to_pylist()]
            column = pa.array(texts, column.type)
        table = table.set_column(i, csv_cell(name), column)
    return table


def write_npz(run: Run, draft: Path, output: Path, layers: int) -> None:
    """Writes the run as arrays over lanes, steps and layers.

    `metrics.<name>` are [R, T] over `metrics.step`, `layers.<name>` [R, T, L + 1] over `layers.step` and
    `layers.layer`, of a watched run with `layers.path` [L + 1], `lanes.<name>` [R]; a map's `map.<name>` are over its
    cells; `config` is JSON. A column with nulls has `null.<name>` beside it, True where nothing was measured (the
    number there is NaN); a column that is null
    throughout is left out.
    """
    del output, layers
    lanes = run.lanes()
    arrays: dict[str, np.ndarray] = {"config": np.array(json.dumps(run.config))}
    for name in lanes.column_names:
        arrays[f"lanes.{name}"] = _plain(lanes[name])
    if (found := map_of(run)) is not None:
        cells = cell_table(found)
        arrays |= {f"map.{name}": _plain(cells[name]) for name in cells.column_names}
    for table, rows, keys, columns in (
        ("metrics", run.metrics(), ("lane", "step"), METRICS),
        ("layers", run.layers(), ("lane", "step", "layer"), LAYERS),
    ):
        axes = [np.unique(rows[key].to_numpy()) for key in keys]
        places = tuple(np.searchsorted(axis, rows[key].to_numpy()) for axis, key in zip(axes, keys, strict=True))
        arrays |= {f"{table}.{key}": axis for key, axis in zip(keys, axes, strict=True)}
        for name in columns:
            column = rows[name]
            if column.null_count == len(column):
                continue
            values = np.full([len(axis) for axis in axes], np.nan, column.type.to_pandas_dtype())
            values[places] = column.to_numpy()
            unknown = np.ones(values.shape, bool)
            unknown[places] = column.is_null().to_numpy()
            arrays[f"{table}.{name}"] = values
            if unknown.any():
                arrays[f"null.{table}.{name}"] = unknown
    if run.paths:
        arrays["layers.path"] = np.array(run.paths)
    with draft.open("wb") as file:  # of a name, numpy would make one that ends in .npz
        np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    """A column as an array that needs no pickle: null is NaN, or an empty text."""
    if pa.types.is_string(column.type):
        return np.array([value or "" for value in column.to_pylist()])
    if pa.types.is_boolean(column.type):
        return np.array([bool(value) for value in column.to_pylist()])
    return column.to_numpy()
