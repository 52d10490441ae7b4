"""A run on disk: written in whole parts that are renamed into place, read back as Arrow tables.

A kill at any moment leaves a directory that pandas, polars, DuckDB and pyarrow read, and that `--resume` goes on from.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
from pyarrow import parquet

from vgx import directories, manifest
from vgx.disk import explained
from vgx.errors import Damaged, RunError, did_you_mean
from vgx.manifest import Part
from vgx.run_files import (
    FORMAT,
    Meta,
    Round,
    RunConfig,
    check_schema,
    read_json,
    read_table,
    read_yaml,
    table_files,
)

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
DEAD_UNITS = "dead_units"
"""A column of the metrics table, of runs in batches under 32 alone: at each evaluation, for each hidden layer the share
of its units whose slope is 0 for every one of a fixed set of training examples."""
FINAL = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "validation_loss", "validation_accuracy")


def metrics_schema(precision: str) -> pa.Schema:
    """Returns the schema of the metrics table: a row per lane and step."""
    return _schema(("lane", "step"), METRICS, precision)


def examined_schema(precision: str) -> pa.Schema:
    """Returns the schema of the metrics table of a run in batches so small that evaluations look for dead units."""
    number = metrics_schema(precision).field(METRICS[0]).type
    return metrics_schema(precision).append(pa.field(DEAD_UNITS, pa.list_(number)))


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

    Raises RunError when `path` is no run, and `Damaged` when a file of it is missing or not what vgx wrote.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._read: dict[str, tuple[Any, Any]] = {}
        self._checked: dict[Part, Any] = {}
        try:
            found = is_run(self.path)
            there = found or self.path.exists()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise RunError(f"{str(self.path)[:200]}: cannot be read: {reason.lower()}") from None
        if not found:
            what = "is not a run: it has no meta.json" if there else "does not exist"
            raise RunError(f"{self.path}: {what}; `vgx runs` lists the runs there are")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def meta(self) -> dict[str, Any]:
        """The contents of `meta.json`: status, versions, devices, timing."""
        meta = self._file("meta.json", read_json, Meta)
        counts = dict.fromkeys(("lanes", "lanes_done", "programs", "rounds", "rounds_done"), 0)
        return (counts | meta) if self.is_sweep else dict(meta)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, as plain values; `vgx.load_config(run.path / "config.yaml")` gives the typed one."""
        return copy.deepcopy(self._file("config.yaml", read_yaml, RunConfig))

    @property
    def status(self) -> str:
        """running, done, interrupted or failed."""
        return self.meta["status"]

    @property
    def is_sweep(self) -> bool:
        """Whether this is a sweep: many cells, rather than one config."""
        return "sweep" in self._file("config.yaml", read_yaml, RunConfig)

    @property
    def rounds(self) -> dict[int, dict[str, Any]]:
        """Of a sweep, how far each round of lanes is, by its number: the contents of `rounds/0000.json`, ..."""
        folder = self.path / "rounds"
        known = {int(path.stem) for path in folder.glob("[0-9]*.json") if path.stem.isdigit()}
        known |= set(range(self.meta["rounds"] if self.is_sweep else 0))
        return {number: dict(read_json(folder / f"{number:04d}.json", Round)) for number in sorted(known)}

    def metrics(self, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None) -> pa.Table:
        """Returns a row per lane and step, in order of step (a sweep's round by round); null where not measured."""
        return self._table("metrics", metrics_schema(self._precision), columns, where)

    def layers(self, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None) -> pa.Table:
        """Returns a row per recorded step, lane and layer, in that order; `where` filters while reading."""
        return self._table("layers", layers_schema(self._precision), columns, where)

    def dead_units(self, *, where: pc.Expression) -> pa.Table:
        """Returns what evaluations saw of dead units: `lane`, `step`, and `dead_units`, a share for each hidden layer.

        Of runs in batches under 32 alone, which are too small to tell; of others, and older ones, there are no rows.
        """
        schema = examined_schema(self._precision)
        files = [path for path in self.files("metrics") if DEAD_UNITS in parquet.read_schema(path).names]
        return _rows(files, schema, ["lane", "step", DEAD_UNITS], where & pc.field(DEAD_UNITS).is_valid())

    def batches(
        self, table: str, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None
    ) -> Iterator[pa.Table]:
        """Yields `metrics` or `layers` part by part: a long run's table need not be in memory at once."""
        schema = {"metrics": metrics_schema, "layers": layers_schema}[table](self._precision)
        for path in self.files(table):
            yield _rows([path], schema, columns, where)

    def prediction(self, *, where: pc.Expression | None = None) -> pa.Table:
        """Returns what theory said of each lane's layers, beside what its first step showed; none where it is silent.

        A sweep's is written when the sweep ends.
        """
        path = self.path / "prediction.parquet"
        if "format" not in self.meta and not path.exists():
            return prediction_schema().empty_table()
        return read_table(path, prediction_schema(), where)

    def lanes(self) -> pa.Table:
        """Returns a row per lane with its seed, status, verdict and final metrics; none while the run is going on.

        A sweep's table is there from the start, and has a column for each swept option besides.
        """
        path, done = self.path / "lanes.parquet", self.meta["status"] == "done"
        again = "run the same command again" if self.is_sweep else "run the same command with --resume"
        if not path.exists():
            if done:
                raise Damaged(path, "is missing", f"{again} to make it from the tables")
            return _LANES.empty_table()
        table = read_table(path, _LANES)
        seeds = self.config["seeds"]
        wanted = self.meta["lanes"] if self.is_sweep else seeds if isinstance(seeds, int) else len(seeds)
        if done and len(table) < wanted:
            raise Damaged(path, f"has {len(table):,} rows, of {wanted:,} lanes", f"{again} to make it from the tables")
        return table

    def files(self, table: str) -> list[Path]:
        """Returns the parts of `metrics` or `layers`, in order, each seen to be there and what was written.

        Of a run that is written, what is not yet in the list of parts is left out. Runs of format 1 have no list.
        """
        schema = {"metrics": metrics_schema, "layers": layers_schema}[table](self._precision)
        meta, parts = self.meta, manifest.read(self.path)
        files = table_files(self.path / table)
        if parts is None:
            if "format" in meta:
                raise Damaged(self.path / manifest.FILE, "is missing")
            check_schema(files, schema)
            return files
        mine = [part for part in parts.values() if part.file.startswith(f"{table}/")]
        # A kill leaves at most one part that is whole and not yet listed; more are a list that lost its end.
        unlisted = [path for path in files if f"{table}/{path.name}" not in parts]
        if len(unlisted) > (0 if meta["status"] == "done" else 1):
            raise Damaged(self.path / manifest.FILE, f"does not list {table}/{unlisted[0].name}")
        for part in mine:
            path = self.path / part.file
            if part not in self._checked or self._checked[part] != _stamp(path):
                manifest.check(self.path, part)
                self._checked[part] = _stamp(path)
        return [self.path / part.file for part in mine]

    def check(self) -> None:
        """Raises Damaged when a part of a table is missing, or not what was written."""
        for table in ("metrics", "layers"):
            self.files(table)

    @property
    def _precision(self) -> str:
        return self._file("config.yaml", read_yaml, RunConfig)["train"]["precision"]

    def _file(self, name: str, reader: Callable[[Path, Any], Any], kind: Any) -> Any:
        """A small file, read again when it has changed."""
        stamp = _stamp(self.path / name)
        if name not in self._read or self._read[name][0] != stamp:
            self._read[name] = stamp, reader(self.path / name, kind)
        return self._read[name][1]

    def _table(
        self, table: str, schema: pa.Schema, columns: Sequence[str] | None, where: pc.Expression | None
    ) -> pa.Table:
        return _rows(self.files(table), schema, columns, where)


def _rows(
    files: Sequence[Path], schema: pa.Schema, columns: Sequence[str] | None, where: pc.Expression | None
) -> pa.Table:
    if not files:
        return schema.empty_table().select(columns or schema.names)
    try:
        return pyarrow.dataset.dataset(files, schema=schema).to_table(columns=columns and list(columns), filter=where)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(files[0].parent, f"cannot be read ({' '.join(str(error).split())[:120]})") from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells that a file was written anew; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def is_run(path: Path) -> bool:
    """Returns whether a folder is a run of vgx, or what is left of one.

    Raises OSError where it cannot be looked into.
    """
    names = set(os.listdir(path)) if path.is_dir() else set()
    return "meta.json" in names or ("config.yaml" in names and bool(names & {"metrics", "layers", "rounds"}))


def find_runs(root: str | Path) -> list[Run]:
    """Returns the runs right below `root`, the newest first, the damaged ones among them.

    What killed processes left there is finished or undone first. Raises RunError when the folder is there and cannot
    be read.
    """
    found = []
    directories.recover(Path(root))
    try:
        for path in Path(root).iterdir() if Path(root).exists() else ():
            with contextlib.suppress(RunError):
                if not path.name.startswith(".") and path.is_dir():
                    found.append((path.stat().st_mtime_ns, Run(path)))
    except OSError as error:
        raise RunError(f"{root}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    return [run for _, run in sorted(found, key=lambda pair: pair[0], reverse=True)]


def runs_called(name: str | Path, root: str | Path = "runs") -> list[Run]:
    """Returns the runs that `name` stands for, the newest first.

    It is a path; or else, below `root`, the name of a directory; or else that of a config, which may have several runs;
    or else the beginning of some names.
    """
    with contextlib.suppress(OSError, ValueError):
        if is_run(Path(name)):
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
    if not found and len(str(name)) < 256 and not Path(name).exists():
        known = [word for run in find_runs(root) for word in (config_of(run.path.name), run.path.name)]
        if near := did_you_mean(Path(name).name, known):
            raise RunError(f"{name}: does not exist{near}")
    return found[0] if found else Run(name)


class RunWriter:
    """A run directory, to write; one writer at a time holds its lock."""

    def __init__(self, path: Path, lock: int | None = None):
        """Opens a directory that is there; `lock` is its lock when it is taken already."""
        self.path = path
        self._lock = directories.lock(path) if lock is None else lock
        self._reach: dict[str, _Reach] = {}
        try:
            self._parts = self._listed()
        except BaseException:
            self.close()
            raise

    def _listed(self) -> dict[str, Part]:
        """The parts of the run; one of format 1 gets a list of those that are there."""
        parts = manifest.read(self.path)
        files = [path for table in ("metrics", "layers") for path in table_files(self.path / table)]
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

    def append(self, metrics: pa.Table, layers: pa.Table) -> None:
        """Writes the next part of both tables, which count from when both are there."""
        number = max((int(Path(file).stem) for file in self._parts), default=-1) + 1
        written = []
        for name, table in (("layers", layers), ("metrics", metrics)):
            file = f"{name}/{number:06d}.parquet"
            with self._in_place(file) as draft:
                parquet.write_table(table, draft, compression="zstd", compression_level=1)
            written.append(manifest.part_of(file, self.path / file, table.num_rows))
            self._reach[file] = _reach(table)
        with explained(self.path / manifest.FILE, run=True):
            manifest.append(self.path, written)
        self._parts |= {part.file: part for part in written}

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
            for table in ("metrics", "layers"):
                for draft in (self.path / table).glob(".[0-9]*.parquet.tmp"):
                    draft.unlink()
                for path in table_files(self.path / table):
                    if f"{table}/{path.name}" not in self._parts:
                        path.unlink()

    def _reach_of(self, part: Part) -> _Reach:
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


class _Reach(NamedTuple):
    """The steps and lanes of a part."""

    first: int
    last: int
    """0 of a part without rows."""
    lanes: frozenset[int]


def _reach(table: pa.Table) -> _Reach:
    steps = table["step"].to_numpy()
    lanes = frozenset(table["lane"].unique().to_pylist())
    return _Reach(int(steps.min()), int(steps.max()), lanes) if len(steps) else _Reach(0, 0, lanes)


def lane_rows(results: Sequence[LaneResult]) -> pa.Table:
    """Returns the rows of `lanes.parquet` for lanes that have ended."""
    return pa.Table.from_pylist([result._asdict() for result in results], schema=_LANES)


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
    keys = {"lane": np.tile(lanes, len(steps)), "step": np.repeat(steps, len(lanes))}
    return _table(schema, keys, columns, keep.reshape(-1))


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
