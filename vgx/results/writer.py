"""A run on disk, to write: whole parts that are renamed into place, and a list of them.

A kill at any moment leaves a directory that pandas, polars, DuckDB and pyarrow read, and that `--resume` goes on from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from vgx.errors import Damaged
from vgx.results import directories, layer_names, manifest
from vgx.results.columns import ON_REQUEST
from vgx.results.files import explained
from vgx.results.layer_names import NamedLayer
from vgx.results.manifest import Part
from vgx.results.prediction import prediction_schema
from vgx.results.reading import FORMAT, table_files
from vgx.results.schemas import (
    LANE_SCHEMA,
    TABLES,
    LaneResult,
    examined_schema,
    layers_schema,
    metrics_schema,
    spectrum_schema,
)
from vgx.results.store import DEAD_UNITS


class RunWriter:
    """A run directory, to write; one writer at a time holds its lock."""

    def __init__(self, path: Path, lock: int | None = None):
        """Opens a directory that is there; `lock` is its lock when it is taken already."""
        self.path = path
        self._lock = directories.lock(path) if lock is None else lock
        self._reach: dict[str, Reach] = {}
        try:
            self._parts = self._listed()
        except BaseException:
            self.close()
            raise

    def _listed(self) -> dict[str, Part]:
        """The parts of the run; one of format 1 gets a list of those that are there."""
        parts = manifest.read(self.path)
        files = [path for table in TABLES for path in table_files(self.path / table)]
        if parts is None:
            rows = {path: parquet.read_metadata(path).num_rows for path in files}
            named = {path: f"{path.parent.name}/{path.name}" for path in files}
            parts = {named[path]: manifest.part_of(named[path], path, rows[path]) for path in files}
        self.write_text(manifest.FILE, manifest.to_lines(parts.values()))
        return parts

    def close(self) -> None:
        """Lets go of the lock."""
        os.close(self._lock)

    @classmethod
    def create(cls, path: Path, config_yaml: str, meta: dict[str, Any], overwrite: bool = False) -> RunWriter:
        """Makes a new run directory, whole or not at all, and opens it; overwriting, in the place of another run."""
        directories.ready(path, overwrite)
        earlier = directories.lock(path) if overwrite and directories.occupied(path) else None
        text = json.dumps({"format": FORMAT} | meta, indent=2) + "\n"
        try:
            with explained(path, run=True), directories.draft(path) as (draft, lock):
                (draft / "metrics").mkdir()
                (draft / "layers").mkdir()
                (draft / "config.yaml").write_text(config_yaml, encoding="utf-8")
                (draft / manifest.FILE).touch()
                parquet.write_table(prediction_schema().empty_table(), draft / "prediction.parquet")
                (draft / "meta.json").write_text(text, encoding="utf-8")
                directories.publish(draft, path, overwrite)
        finally:
            if earlier is not None:
                os.close(earlier)
        return cls(path, lock)

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Replaces a file such as `meta.json`."""
        with self._in_place(name) as draft:
            draft.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    def append(self, metrics: pa.Table, layers: pa.Table, spectrum: pa.Table | None = None) -> None:
        """Writes the next part of the tables, which count from when all are there."""
        self.append_encoded(encode(metrics), encode(layers), encode(spectrum) if spectrum else None)

    def append_encoded(self, metrics: EncodedTable, layers: EncodedTable, spectrum: EncodedTable | None = None) -> None:
        """Writes the next part of the tables, which another process may have encoded."""
        number = max((int(Path(file).stem) for file in self._parts), default=-1) + 1
        written = []
        for name, table in (("spectrum", spectrum), ("layers", layers), ("metrics", metrics)):
            if table is None:
                continue
            (self.path / name).mkdir(exist_ok=True)
            file = f"{name}/{number:06d}.parquet"
            with self._in_place(file) as draft:
                draft.write_bytes(table.parquet)
            written.append(manifest.part_of(file, self.path / file, table.rows))
            self._reach[file] = table.reach
        with explained(self.path / manifest.FILE, run=True):
            manifest.append(self.path, written)
        self._parts |= {part.file: part for part in written}

    def write_lanes(self, lanes: pa.Table) -> None:
        """Writes `lanes.parquet`, a row per lane."""
        with self._in_place("lanes.parquet") as draft:
            parquet.write_table(lanes, draft)

    def write_layer_names(self, layers: Sequence[NamedLayer]) -> None:
        """Writes `layers.parquet`, a row per layer of a watched run."""
        with self._in_place(layer_names.FILE) as draft:
            parquet.write_table(layer_names.to_table(layers), draft)

    def write_prediction(self, parts: Iterable[pa.Table]) -> None:
        """Writes `prediction.parquet`, part by part."""
        with self._in_place("prediction.parquet") as draft, parquet.ParquetWriter(draft, prediction_schema()) as file:
            for part in parts:
                file.write_table(part)

    def drop_lanes(self) -> None:
        """Removes `lanes.parquet`: how a run ended, when it is to go on."""
        with explained(self.path, run=True):
            (self.path / "lanes.parquet").unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Replaces a file of text."""
        with self._in_place(name) as draft:
            draft.write_text(text, encoding="utf-8")

    def drop_after(self, step: int, lanes: Sequence[int] | None = None) -> None:
        """Removes the parts that were written after `step` (of some lanes), since a killed run's last checkpoint.

        A checkpoint is written where a part ends, so no part has rows of both sides. Raises Damaged when one has, or
        when a part that stays is not what was written.
        """
        late = []
        for part in self._parts.values():
            first, last, held = self._reach_of(part)
            if lanes is None or not held.isdisjoint(lanes):
                if first <= step < last:
                    raise Damaged(self.path / part.file, f"reaches over step {step}, where the checkpoint was written")
                if last > step or step == 0:
                    late.append(part)
        kept = [self._reach_of(part) for part in self._parts.values() if part not in late]
        reached = max((last for _, last, held in kept if lanes is None or not held.isdisjoint(lanes)), default=0)
        if reached < step:
            what = f"lists rows up to step {reached}, and the checkpoint is of step {step}"
            raise Damaged(self.path / manifest.FILE, what)
        # The list first: what it does not name is not read.
        for part in late:
            del self._parts[part.file]
        self.write_text(manifest.FILE, manifest.to_lines(self._parts.values()))
        self._remove_unlisted()

    def _remove_unlisted(self) -> None:
        """Removes the parts that a kill left out of the list."""
        with explained(self.path, run=True):
            for table in TABLES:
                for draft in (self.path / table).glob(".[0-9]*.parquet.tmp"):
                    draft.unlink()
                for path in table_files(self.path / table):
                    if f"{table}/{path.name}" not in self._parts:
                        path.unlink()

    def ends(self) -> list[int]:
        """Returns the last step of each part."""
        return [self._reach_of(part).last for part in self._parts.values()]

    def _reach_of(self, part: Part) -> Reach:
        """What a part holds, read once."""
        if part.file not in self._reach:
            manifest.check(self.path, part)
            self._reach[part.file] = _reach(parquet.read_table(self.path / part.file, columns=["lane", "step"]))
        return self._reach[part.file]

    @contextmanager
    def _in_place(self, name: str) -> Iterator[Path]:
        """A draft beside the file `name`, renamed over it when it is whole."""
        path = self.path / name
        draft = path.with_name(f".{path.name}.tmp")
        with explained(path, run=True):
            try:
                yield draft
                with draft.open("rb") as file:
                    os.fsync(file.fileno())
                draft.rename(path)
            finally:
                draft.unlink(missing_ok=True)


class Reach(NamedTuple):
    """The steps and lanes of a part."""

    first: int
    last: int
    """0 of a part without rows."""
    lanes: frozenset[int]


class EncodedTable(NamedTuple):
    """A part of a table as it stands on disk."""

    parquet: bytes
    rows: int
    reach: Reach

    def table(self) -> pa.Table:
        """Returns the rows."""
        return parquet.read_table(pa.BufferReader(self.parquet))


def encode(table: pa.Table) -> EncodedTable:
    """Returns rows of the metrics or the layer table as the Parquet file that holds them."""
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd", compression_level=1)
    return EncodedTable(sink.getvalue().to_pybytes(), table.num_rows, _reach(table))


def _reach(table: pa.Table) -> Reach:
    steps = table["step"].to_numpy()
    lanes = frozenset(table["lane"].unique().to_pylist())
    return Reach(int(steps.min()), int(steps.max()), lanes) if len(steps) else Reach(0, 0, lanes)


def lane_rows(results: Sequence[LaneResult]) -> pa.Table:
    """Returns the rows of `lanes.parquet` for lanes that have ended."""
    return pa.Table.from_pylist([result._asdict() for result in results], schema=LANE_SCHEMA)


def metrics_rows(
    precision: str, lanes: np.ndarray, steps: np.ndarray, columns: Mapping[str, np.ndarray | pa.Array], keep: np.ndarray
) -> pa.Table:
    """Returns rows of the metrics table, ordered by step and lane.

    Args:
        precision: of the run.
        lanes: [R], the lanes' numbers.
        steps: [T], the steps' numbers.
        columns: by name [T, R] arrays; a masked array's masked entries become null, and so does a missing column.
            An Arrow array, of lists, is a column in the order of the rows.
        keep: [T, R], which rows there are.
    """
    schema = examined_schema(precision) if DEAD_UNITS in columns else metrics_schema(precision)
    for name in (name for name in ON_REQUEST if name not in columns):
        schema = schema.remove(schema.get_field_index(name))
    keys = {"lane": np.tile(lanes, len(steps)), "step": np.repeat(steps, len(lanes))}
    return _table(schema, keys, columns, keep.reshape(-1))


def layer_rows(
    precision: str,
    lanes: np.ndarray,
    layers: int,
    steps: np.ndarray,
    columns: dict[str, np.ndarray],
    keep: np.ndarray,
    branches: Sequence[bool] = (),
) -> pa.Table:
    """Returns rows of the layer table, ordered by step, lane and layer, from columns [T, R, layers].

    `branches` [L] says which hidden layers add to a stream; where there is no stream or no branch, nothing was
    measured.
    """
    for name, there in (("stream_grad_log10", [True] * len(branches)), ("branch_ratio", branches)):
        if name in columns:
            missing = np.broadcast_to(~np.array([*there, False]), columns[name].shape)
            columns = columns | {name: np.ma.array(columns[name], mask=missing)}
    keys = {
        "lane": np.tile(np.repeat(lanes, layers), len(steps)),
        "step": np.repeat(steps, len(lanes) * layers),
        "layer": np.tile(np.arange(1, layers + 1), len(steps) * len(lanes)),
    }
    schema = layers_schema(precision, streams="stream_grad_log10" in columns)
    return _table(schema, keys, columns, np.repeat(keep.reshape(-1), layers))


def spectrum_rows(
    precision: str,
    lanes: np.ndarray,
    steps: np.ndarray,
    examples: np.ndarray,
    spectra: Sequence[Mapping[str, np.ndarray]],
    keep: np.ndarray,
) -> pa.Table:
    """Returns rows of the spectrum table, ordered by step, lane, map, example and index.

    Args:
        precision: of the run.
        lanes: [R], the lanes' numbers.
        steps: [T], after which steps the singular values were taken.
        examples: [E], the numbers of the training examples.
        spectra: [T] of each map's log10 of singular values [R, E, k], the largest first.
        keep: [T, R], which rows there are.
    """
    parts = []
    for step, of_step, kept in zip(steps, spectra, keep, strict=True):
        for at in np.flatnonzero(kept):
            for name, log10 in of_step.items():
                count, k = log10.shape[1:]
                rows = {
                    "lane": np.full(count * k, lanes[at]),
                    "step": np.full(count * k, step),
                    "example": np.repeat(examples, k),
                    "map": np.full(count * k, name),
                    "index": np.tile(np.arange(1, k + 1), count),
                    "log10": log10[at].reshape(-1),
                }
                parts.append(pa.table(rows).cast(spectrum_schema(precision)))
    return pa.concat_tables(parts) if parts else spectrum_schema(precision).empty_table()


def _table(
    schema: pa.Schema, keys: dict[str, np.ndarray], columns: Mapping[str, np.ndarray | pa.Array], keep: np.ndarray
) -> pa.Table:
    rows = len(keep)

    def column(field: pa.Field) -> pa.Array:
        if field.name in keys:
            return pa.array(keys[field.name].astype(np.int32), field.type)
        values = columns.get(field.name)
        if values is None:
            return pa.nulls(rows, field.type)
        if not isinstance(values, np.ndarray):
            return values.cast(field.type)
        mask = np.ma.getmaskarray(values).reshape(-1) if isinstance(values, np.ma.MaskedArray) else None
        return pa.array(np.asarray(values).reshape(-1).astype(field.type.to_pandas_dtype()), field.type, mask=mask)

    table = pa.Table.from_arrays([column(field) for field in schema], schema=schema)
    return table if keep.all() else table.filter(pa.array(keep))
