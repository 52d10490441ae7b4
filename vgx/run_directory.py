"""A run on disk: written in whole parts that are renamed into place, read back as Arrow tables.

A kill at any moment leaves a directory that pandas, polars, DuckDB and pyarrow read, and that `--resume` goes on from.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import yaml
from pyarrow import parquet

from vgx.errors import EnvironmentFault, RunError, did_you_mean

METRICS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "gradient_log10",
    "test_loss",
    "test_accuracy",
    "validation_loss",
    "validation_accuracy",
)
LAYERS = (
    "delta_log10",
    "weight_grad_log10",
    "bias_grad_log10",
    "weight_grad_zero",
    "weight_norm",
    "update_ratio",
    "preact_mean",
    "preact_std",
    "act_mean",
    "act_rms",
    "dead",
    "saturated",
    "cosine",
    "participation",
    "noise_scale",
)
FINAL = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "validation_loss", "validation_accuracy")


def metrics_schema(precision: str) -> pa.Schema:
    """Returns the schema of the metrics table: a row per lane and step."""
    return _schema(("lane", "step"), METRICS, precision)


def layers_schema(precision: str) -> pa.Schema:
    """Returns the schema of the layer table: a row per recorded step, lane and layer (L + 1 is the readout)."""
    return _schema(("lane", "step", "layer"), LAYERS, precision)


def prediction_schema() -> pa.Schema:
    """Returns the schema of the prediction: a row per lane, statistic and layer (L + 1 is the readout).

    `predicted` is what theory says of the first step, `delta_log10` relative to the readout's; `band` a standard
    deviation of that over draws of the weights, null where none is known; `measured` what the first step showed, and
    `z_score` how many bands that is off.
    """
    return pa.schema(
        [
            pa.field("lane", pa.int32(), nullable=False),
            pa.field("layer", pa.int32(), nullable=False),
            pa.field("statistic", pa.string(), nullable=False),
            *(pa.field(name, pa.float64()) for name in ("predicted", "band", "measured", "z_score")),
        ]
    )


def _schema(keys: Sequence[str], values: Sequence[str], precision: str) -> pa.Schema:
    # A float64 run is made to compare tenth digits, so its tables keep them.
    number = pa.float64() if precision == "float64" else pa.float32()
    return pa.schema(
        [pa.field(key, pa.int32(), nullable=False) for key in keys] + [pa.field(name, number) for name in values]
    )


class LaneResult(NamedTuple):
    """How one lane ended: a row of `lanes.parquet`."""

    lane: int
    seed: int
    status: str
    """done, or diverged."""
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


_LANES = pa.schema(
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


class Run:
    """A run directory, to read. Every call looks at the disk, so a run may be watched while it is written.

    Raises RunError when `path` is no run.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / "meta.json").is_file():
            what = "is not a run: it has no meta.json" if self.path.exists() else "does not exist"
            raise RunError(f"{self.path}: {what}; `vgx runs` lists the runs there are")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def meta(self) -> dict[str, Any]:
        """The contents of `meta.json`: status, versions, devices, timing."""
        return json.loads((self.path / "meta.json").read_text())

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, as plain values; `vgx.load_config(run.path / "config.yaml")` gives the typed one."""
        return yaml.safe_load((self.path / "config.yaml").read_text())

    @property
    def status(self) -> str:
        """running, done, interrupted or failed."""
        return self.meta["status"]

    @property
    def is_sweep(self) -> bool:
        """Whether this is a sweep: many cells, rather than one config."""
        return "sweep" in self.config

    def metrics(self, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None) -> pa.Table:
        """Returns a row per lane and step, in order of step (a sweep's round by round); null where not measured."""
        return self._read("metrics", metrics_schema(self._precision), columns, where)

    def layers(self, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None) -> pa.Table:
        """Returns a row per recorded step, lane and layer, in that order; `where` filters while reading."""
        return self._read("layers", layers_schema(self._precision), columns, where)

    def prediction(self, *, where: pc.Expression | None = None) -> pa.Table:
        """Returns what theory said of each lane's layers, beside what its first step showed; none where it is silent.

        A sweep's is written when the sweep ends.
        """
        path = self.path / "prediction.parquet"
        return parquet.read_table(path, filters=where) if path.exists() else prediction_schema().empty_table()

    def lanes(self) -> pa.Table:
        """Returns a row per lane with its seed, status, verdict and final metrics; none while the run is going on.

        A sweep's table is there from the start, and has a column for each swept option besides.
        """
        path = self.path / "lanes.parquet"
        return parquet.read_table(path) if path.exists() else _LANES.empty_table()

    @property
    def _precision(self) -> str:
        return self.config["train"]["precision"]

    def _read(
        self, table: str, schema: pa.Schema, columns: Sequence[str] | None, where: pc.Expression | None
    ) -> pa.Table:
        files = sorted((self.path / table).glob("[0-9]*.parquet"))
        if not files:
            return schema.empty_table().select(columns or schema.names)
        return pyarrow.dataset.dataset(files, schema=schema).to_table(columns=columns and list(columns), filter=where)


def find_runs(root: str | Path) -> list[Run]:
    """Returns the runs right below `root`, the newest first."""
    folders = [path.parent for path in Path(root).glob("[!.]*/meta.json")]
    return [Run(path) for path in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)]


def runs_called(name: str | Path, root: str | Path = "runs") -> list[Run]:
    """Returns the runs that `name` stands for, the newest first.

    It is a path; or else, below `root`, the name of a directory; or else that of a config, which may have several runs;
    or else the beginning of some names.
    """
    if (Path(name) / "meta.json").is_file():
        return [Run(name)]
    word, runs = str(name), find_runs(root)
    for fits in (word.__eq__, lambda folder: config_of(folder) == word, lambda folder: folder.startswith(word)):
        if found := [run for run in runs if fits(run.path.name)]:
            return found
    return []


def config_of(folder: str) -> str:
    """Returns the name of the config that a run directory was made for: the folder's, without the digest."""
    return re.sub(r"-[0-9a-f]{8}$", "", folder)


def find_run(name: str | Path, root: str | Path = "runs") -> Run:
    """Returns the one run that `name` stands for, as `runs_called` finds it.

    Raises RunError where there is none, or more than one.
    """
    found = runs_called(name, root)
    if len(found) > 1:
        lines = "\n".join(f"  {run.path.name}" for run in found)
        raise RunError(f"{name}: {len(found)} runs are called so; say which, by its directory's name:\n{lines}")
    if not found and not Path(name).exists():
        known = [word for run in find_runs(root) for word in (config_of(run.path.name), run.path.name)]
        if near := did_you_mean(Path(name).name, known):
            raise RunError(f"{name}: does not exist{near}")
    return found[0] if found else Run(name)


class RunWriter:
    """A run directory, to write; one writer at a time holds its lock."""

    def __init__(self, path: Path):
        self.path = path
        with explained(path):
            self._lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode() or "?"
            os.close(self._lock)
            raise RunError(
                f"{path}: another vgx is writing this run (process {holder}); wait for it, or stop it"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Lets go of the lock."""
        os.close(self._lock)

    @classmethod
    def create(cls, path: Path, config_yaml: str, meta: dict[str, Any]) -> RunWriter:
        """Makes a new run directory, whole or not at all, and opens it."""
        draft = path.with_name(f".{path.name}.{os.getpid()}.new")
        with explained(path):
            shutil.rmtree(draft, ignore_errors=True)
            (draft / "metrics").mkdir(parents=True)
            (draft / "layers").mkdir()
            (draft / "config.yaml").write_text(config_yaml)
            (draft / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
            draft.rename(path)
        return cls(path)

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Replaces a file such as `meta.json`."""
        with self._in_place(name) as draft:
            draft.write_text(json.dumps(values, indent=2) + "\n")

    def append(self, metrics: pa.Table, layers: pa.Table) -> None:
        """Writes the next part of both tables."""
        for name, table in (("layers", layers), ("metrics", metrics)):
            taken = [int(path.stem) for path in (self.path / name).glob("[0-9]*.parquet")]
            with self._in_place(f"{name}/{max(taken, default=-1) + 1:06d}.parquet") as draft:
                parquet.write_table(table, draft, compression="zstd", compression_level=1)

    def write_lanes(self, lanes: pa.Table) -> None:
        """Writes `lanes.parquet`, a row per lane."""
        with self._in_place("lanes.parquet") as draft:
            parquet.write_table(lanes, draft)

    def write_prediction(self, parts: Iterable[pa.Table]) -> None:
        """Writes `prediction.parquet`, part by part."""
        with self._in_place("prediction.parquet") as draft, parquet.ParquetWriter(draft, prediction_schema()) as file:
            for part in parts:
                file.write_table(part)

    def drop_lanes(self) -> None:
        """Removes `lanes.parquet`: how a run ended, when it is to go on."""
        with explained(self.path):
            (self.path / "lanes.parquet").unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Replaces a file of text."""
        with self._in_place(name) as draft:
            draft.write_text(text)

    def drop_after(self, step: int, lanes: Sequence[int] | None = None) -> None:
        """Removes every row after `step` (of some lanes): what a killed run wrote since its last checkpoint."""
        late = pc.field("step") > step
        if lanes is not None:
            late &= pc.field("lane").isin(list(lanes))
        with explained(self.path):
            for table in ("metrics", "layers"):
                for stray in (self.path / table).glob(".*"):
                    stray.unlink()
                for path in sorted((self.path / table).glob("[0-9]*.parquet")):
                    if not _holds(path, lanes):
                        continue
                    rows = parquet.read_table(path)
                    kept = rows.filter(~late)
                    if kept.num_rows == rows.num_rows and (rows.num_rows or step):
                        continue
                    if kept.num_rows == 0:
                        path.unlink()
                        continue
                    with self._in_place(f"{table}/{path.name}") as draft:
                        parquet.write_table(kept, draft, compression="zstd", compression_level=1)

    @contextmanager
    def _in_place(self, name: str) -> Iterator[Path]:
        """A draft beside the file `name`, renamed over it when it is whole."""
        path = self.path / name
        draft = path.with_name(f".{path.name}.tmp")
        with explained(path):
            try:
                yield draft
                with draft.open("rb") as file:
                    os.fsync(file.fileno())
                draft.rename(path)
            finally:
                draft.unlink(missing_ok=True)


def _holds(path: Path, lanes: Sequence[int] | None) -> bool:
    """Whether a part has rows of any of these lanes."""
    if lanes is None:
        return True
    present = parquet.read_table(path, columns=["lane"])["lane"].unique()
    return not set(present.to_pylist()).isdisjoint(lanes)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into one line: no space, no permission, no such folder."""
    try:
        yield
    except OSError as error:
        mend = {
            errno.ENOSPC: "make room, then go on with --resume",
            errno.EDQUOT: "make room, then go on with --resume",
            errno.EACCES: "choose another folder with --runs, or mend its permissions",
            errno.EROFS: "choose another folder with --runs",
        }.get(error.errno or 0, "what was written before is whole")
        raise EnvironmentFault(f"{path}: cannot write: {error.strerror or error}; {mend}") from error


def lane_rows(results: Sequence[LaneResult]) -> pa.Table:
    """Returns the rows of `lanes.parquet` for lanes that have ended."""
    return pa.Table.from_pylist([result._asdict() for result in results], schema=_LANES)


def metrics_rows(
    precision: str, lanes: np.ndarray, steps: np.ndarray, columns: dict[str, np.ndarray], keep: np.ndarray
) -> pa.Table:
    """Returns rows of the metrics table, ordered by step and lane.

    Args:
        precision: of the run.
        lanes: [R], the lanes' numbers.
        steps: [T], the steps' numbers.
        columns: by name [T, R] arrays; a masked array's masked entries become null, and so does a missing column.
        keep: [T, R], which rows there are.
    """
    keys = {"lane": np.tile(lanes, len(steps)), "step": np.repeat(steps, len(lanes))}
    return _table(metrics_schema(precision), keys, columns, keep.reshape(-1))


def layer_rows(
    precision: str, lanes: np.ndarray, layers: int, steps: np.ndarray, columns: dict[str, np.ndarray], keep: np.ndarray
) -> pa.Table:
    """Returns rows of the layer table, ordered by step, lane and layer, from columns [T, R, layers]."""
    keys = {
        "lane": np.tile(np.repeat(lanes, layers), len(steps)),
        "step": np.repeat(steps, len(lanes) * layers),
        "layer": np.tile(np.arange(1, layers + 1), len(steps) * len(lanes)),
    }
    return _table(layers_schema(precision), keys, columns, np.repeat(keep.reshape(-1), layers))


def _table(
    schema: pa.Schema, keys: dict[str, np.ndarray], columns: dict[str, np.ndarray], keep: np.ndarray
) -> pa.Table:
    rows = len(keep)

    def column(field: pa.Field) -> pa.Array:
        if field.name in keys:
            return pa.array(keys[field.name].astype(np.int32), field.type)
        values = columns.get(field.name)
        if values is None:
            return pa.nulls(rows, field.type)
        mask = np.ma.getmaskarray(values).reshape(-1) if isinstance(values, np.ma.MaskedArray) else None
        return pa.array(np.asarray(values).reshape(-1).astype(field.type.to_pandas_dtype()), field.type, mask=mask)

    table = pa.Table.from_arrays([column(field) for field in schema], schema=schema)
    return table if keep.all() else table.filter(pa.array(keep))
