"""A run on disk: written in whole parts that are renamed into place, read back as Arrow tables.

A kill at any moment leaves a directory that pandas, polars, DuckDB and pyarrow read, and that `--resume` goes on from.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
from pyarrow import parquet

from vgx.errors import Damaged, RunError, did_you_mean
from vgx.results import directories, layer_names, manifest
from vgx.results.columns import DEAD_UNITS
from vgx.results.curves import Curves, curves_of, rows_by_lane
from vgx.results.manifest import Part
from vgx.results.prediction import JOINED, STATISTICS, prediction_schema, with_measured
from vgx.results.reading import (
    Meta,
    Round,
    RunConfig,
    check_schema,
    read_json,
    read_table,
    read_yaml,
    table_files,
)
from vgx.results.schemas import LANE_SCHEMA, TABLES, examined_schema, layers_schema, metrics_schema, spectrum_schema

if TYPE_CHECKING:
    from vgx.results.expectations import ExpectationResult


class Run:
    """A run directory, to read. Every call looks at the disk, so a run may be watched while it is written.

    Raises RunError when `path` is no run, and `Damaged` when a file of it is missing or not what vgx wrote.
    """

    def __init__(self, path: str | Path, expectations: Iterable[ExpectationResult] = ()):
        self.path = Path(path)
        self.expectations = tuple(expectations)
        """What its config expects of each lane, and whether it holds: of a run that training has just returned."""
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
    def is_watched(self) -> bool:
        """Whether `vgx.watch.Log` wrote this: a net that vgx did not build, whose layers have paths."""
        return "watched" in self._file("config.yaml", read_yaml, RunConfig)

    @property
    def named_layers(self) -> list[layer_names.NamedLayer]:
        """Of a watched run, path, type and shape of each layer, number 1 first; none of others."""
        return list(self._file(layer_names.FILE, layer_names.read, None)) if self.is_watched else []

    @property
    def paths(self) -> list[str]:
        """The paths of `named_layers`."""
        return [layer.path for layer in self.named_layers]

    @property
    def precision(self) -> str:
        """That of its tables."""
        config = self._file("config.yaml", read_yaml, RunConfig)
        return "float32" if "watched" in config else config["train"]["precision"]

    @property
    def rounds(self) -> dict[int, dict[str, Any]]:
        """Of a sweep, how far each round of lanes is, by its number: the contents of `rounds/0000.json`, ..."""
        folder = self.path / "rounds"
        known = {int(path.stem) for path in folder.glob("[0-9]*.json") if path.stem.isdigit()}
        known |= set(range(self.meta["rounds"] if self.is_sweep else 0))
        return {number: dict(read_json(folder / f"{number:04d}.json", Round)) for number in sorted(known)}

    def metrics(self, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None) -> pa.Table:
        """Returns a row per lane and step, in order of step (a sweep's round by round); null where not measured."""
        return self._table("metrics", metrics_schema(self.precision), columns, where)

    def layers(self, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None) -> pa.Table:
        """Returns a row per recorded step, lane and layer in that order, a sweep's round by round; `where` filters."""
        return self._table("layers", layers_schema(self.precision), columns, where)

    def spectrum(self, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None) -> pa.Table:
        """Returns log10 of Jacobians' singular values, a row each; none of a run without `log.spectrum`."""
        return self._table("spectrum", spectrum_schema(self.precision), columns, where)

    def curves(
        self, column: str, lanes: Iterable[int] | None = None, *, steps: Iterable[int] | None = None
    ) -> dict[int, Curves]:
        """Returns a column of the layer table over steps and layers, for each lane that measured it.

        Args:
            column: its name.
            lanes: which; all by default.
            steps: at which of the recorded steps; all by default.
        """
        where = pc.field("layer") > 0
        for key, numbers in (("lane", lanes), ("step", steps)):
            where = where if numbers is None else where & pc.field(key).isin([int(number) for number in numbers])
        table = self.layers(["lane", "step", "layer", column], where=where)
        if table[column].null_count == len(table):
            return {}
        return {lane: curves_of(table.take(rows), column) for lane, rows in rows_by_lane(table).items()}

    def recorded_steps(self, lanes: Iterable[int] | None = None) -> np.ndarray:
        """Returns the steps at which layers of any of these lanes, by default of all, are recorded, in order."""
        where = pc.field("layer") == 1
        where = where if lanes is None else where & pc.field("lane").isin(list(lanes))
        return np.unique(self.layers(["step"], where=where)["step"].to_numpy())

    def dead_units(self, *, where: pc.Expression) -> pa.Table:
        """Returns what evaluations saw of dead units: `lane`, `step`, and `dead_units`, a share for each hidden layer.

        Of runs in batches under 32 alone, which are too small to tell; of others, and older ones, there are no rows.
        """
        schema = examined_schema(self.precision)
        files = [path for path in self.files("metrics") if DEAD_UNITS in parquet.read_schema(path).names]
        return _rows(files, schema, ["lane", "step", DEAD_UNITS], where & pc.field(DEAD_UNITS).is_valid())

    def batches(
        self, table: str, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None
    ) -> Iterator[pa.Table]:
        """Yields one of TABLES part by part: a long run's table need not be in memory at once."""
        schema = TABLES[table](self.precision)
        for path in self.files(table):
            yield _rows([path], schema, columns, where)

    def prediction(self, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None) -> pa.Table:
        """Returns what theory said of each lane's layers, beside what its first step showed; none where it is silent.

        What was measured is looked up in the layer table, unless `columns` do without. A sweep's prediction is written
        when the sweep ends.
        """
        path, schema = self.path / "prediction.parquet", prediction_schema()
        alone = columns is not None and not set(columns) & set(JOINED)
        if "format" not in self.meta and not path.exists():
            table = schema.empty_table()
        else:
            table = read_table(path, schema, where if alone else None).select(schema.names)
        if not alone:
            first = self.layers(["lane", "layer", *STATISTICS, "stream_grad_log10"], where=pc.field("step") == 1)
            table = with_measured(table, first)
            table = table if where is None else table.filter(where)
        return table if columns is None else table.select(columns)

    def lanes(self) -> pa.Table:
        """Returns a row per lane with its seed, status, verdict and final metrics; none while the run is going on.

        A sweep's table is there from the start, and has a column for each swept option besides.
        """
        path, done = self.path / "lanes.parquet", self.meta["status"] == "done"
        again = "run the same command again" if self.is_sweep else "run the same command with --resume"
        again = "open its log with resume=True and close it" if self.is_watched else again
        if not path.exists():
            if done:
                raise Damaged(path, "is missing", f"{again} to make it from the tables")
            return LANE_SCHEMA.empty_table()
        table = read_table(path, LANE_SCHEMA)
        seeds = self.config["seeds"]
        wanted = self.meta["lanes"] if self.is_sweep else seeds if isinstance(seeds, int) else len(seeds)
        if done and len(table) < wanted:
            raise Damaged(path, f"has {len(table):,} rows, of {wanted:,} lanes", f"{again} to make it from the tables")
        return table

    def files(self, table: str) -> list[Path]:
        """Returns the parts of one of TABLES, in order, each seen to be there and what was written.

        Of a run that is written, what is not yet in the list of parts is left out. Runs of format 1 have no list.
        """
        schema = TABLES[table](self.precision)
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
        for table in TABLES:
            self.files(table)

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
        raise manifest.unreadable(files[0].parent, error) from None


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
