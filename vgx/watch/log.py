"""A run directory for a loop that is not vgx's: what `vgx show`, `report`, `compare` and `export` read; no jax."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow.compute as pc
import yaml

from vgx.errors import RunError
from vgx.results import directories
from vgx.results.columns import LAYERS, METRICS, OF_STREAMS, SHARPNESS
from vgx.results.lane_results import judge_lanes
from vgx.results.layer_names import NamedLayer
from vgx.results.nonfinite import NotFinite
from vgx.results.reading import FORMAT
from vgx.results.store import Run
from vgx.results.writer import RunWriter, lane_rows, layer_rows, metrics_rows
from vgx.watch import given

SECONDS = 5.0
"""From one part of the tables to the next."""
PRECISION = "float32"
"""Of the tables."""


class _Step(NamedTuple):
    """What was handed over of one step."""

    step: int
    scalars: dict[str, Any]
    record: given.Record | None
    """Read when the next step comes, so that the device is not waited for."""
    rows: dict[str, dict[str, float]] | None


class Log:
    """A run directory that a loop writes, step by step.

        with watch.Log("runs/my-net", config={"layers": 12}) as log:
            for step, batch in enumerate(batches):
                ...
                log.write(step, record, loss=loss, learning_rate=rate)

    What is written is on the disk about five seconds later, all but the last step, and all of it at the end of `with`,
    or after `close()`. A kill leaves a run that can be read.
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        resume: bool = False,
    ):
        """Makes the directory of a run, or opens one to go on with it.

        Args:
            path: of the directory, such as `runs/my-net`; its last part is the run's name.
            config: whatever tells this run from others, as a mapping; an integer `seed` in it is the run's.
            overwrite: whether a run that is there is replaced.
            resume: whether one that is there is gone on with. The first step written may be one that is there already,
                as after a checkpoint: it and what comes after it is then written anew.

        Raises RunError where another run, or something else, is there, and for a config that is no mapping or, to
        resume, another one; EnvironmentFault when the disk refuses.
        """
        self.path = Path(path)
        if config is not None and not isinstance(config, Mapping):
            raise RunError(
                f"{self.path}: config: expected a mapping, found {type(config).__name__}; vars(it) may be one"
            )
        if overwrite and resume:
            raise RunError(f"{self.path}: overwrite=True, resume=True: choose one")
        self._layers: list[NamedLayer] = []
        self._waiting: list[_Step] = []
        self._pending: _Step | None = None
        self._last: int | None = None
        self._not_finite: NotFinite | None = None
        self._resumed: int | None = None
        self._seconds = 0.0
        self._closed = False
        wanted = given.plain(config or {})
        directories.ready(self.path, overwrite)
        if resume and directories.occupied(self.path):
            self._open(wanted if config is not None else None)
        else:
            self._create(wanted, overwrite)
        self._began = self._flushed = time.perf_counter()
        self._since: tuple[int, float] | None = None

    def _create(self, config: dict[str, Any], overwrite: bool) -> None:
        if directories.occupied(self.path) and not overwrite:
            raise RunError(f"{self.path}: is there already; overwrite=True replaces it, resume=True goes on with it")
        seed = config.get("seed")
        self._seed = seed if type(seed) is int and 0 <= seed < 2**31 else 0
        name = self.path.resolve().name
        text = yaml.safe_dump(
            {"name": name, "seeds": [self._seed], "watched": config}, sort_keys=False, allow_unicode=True
        )
        self._meta: dict[str, Any] = {
            "format": FORMAT,
            "watched": True,
            "status": "running",
            "step": 0,
            "started": _now(),
            "versions": {"python": platform.python_version(), "vgx": version("vgx")},
            "host": {"name": platform.node(), "system": platform.system(), "machine": platform.machine()},
            "seconds": 0.0,
            "compile_seconds": 0.0,
            "steps_per_second": None,
        }
        self._writer = RunWriter.create(self.path, text, self._meta, overwrite)

    def _open(self, config: dict[str, Any] | None) -> None:
        run = Run(self.path)
        if not run.is_watched:
            raise RunError(f"{self.path}: is a run of `vgx train` or `vgx sweep`, which alone go on with it")
        self._writer = RunWriter(self.path)
        try:
            kept = run.config
            kept_config = kept["watched"]
            wanted = kept_config if config is None else config
            # As text: a NaN is like another.
            if other := [key for key in wanted | kept_config if repr(wanted.get(key)) != repr(kept_config.get(key))]:
                raise RunError(
                    f"{self.path}: config: {', '.join(other)}: not what the run has that is to go on; "
                    "give that config or none, or another path"
                )
            self._seed, self._layers = kept["seeds"][0], run.named_layers
            steps = run.metrics(["step"])["step"].to_numpy()
            self._resumed = int(steps.max()) if len(steps) else None
            if self._resumed != 0:  # 0 would be all; what a kill left unlisted goes
                self._writer.drop_after(self._resumed or 0)
            self._meta = {name: value for name, value in run.meta.items() if name not in ("error", "ended")}
            self._meta["status"] = "running"
            self._seconds = self._meta["seconds"]
            noted = self._meta.get("first_not_finite")
            self._not_finite = noted and NotFinite(**{name: noted[name] for name in NotFinite._fields})
            self._writer.drop_lanes()
            self._writer.write_json("meta.json", self._meta)
        except BaseException:
            self._writer.close()
            raise

    def write(
        self,
        step: int,
        record: Any = None,
        *,
        loss: Any = None,
        learning_rate: Any = None,
        updates: Any = None,
        **metrics: Any,
    ) -> None:
        """Writes what was measured at a step; a step may be written in several calls, each with something new.

        Args:
            step: a whole number, 0 or more, not below the last one.
            record: of `watch.value_and_grad`; or a mapping of each layer's path, in order of the forward pass, to its
                columns of the layer table, such as {"encoder.0": {"delta_log10": -3.1}}, and `forward_finite` and
                `gradient_finite` where known. The first one names all layers; later ones may leave some out.
            loss: of the step's batch: the column `train_loss`.
            learning_rate: of the step.
            updates: what the optimizer adds to the parameters, for the column `update_ratio`; needs a record.
            metrics: further columns of the metrics table, such as `train_accuracy` or `test_loss`.

        Raises RunError for a step, path, column or number that is none, and for a layer that is new.
        """
        where = f"{self.path}: log.write"
        if self._closed:
            raise RunError(f"{where}: this log is closed; resume=True opens it again")
        number = given.known_step(step, self._last, where)
        where = f"{where}: step {number:,}"
        if loss is not None and "train_loss" in metrics:
            raise RunError(f"{where}: loss, train_loss: the same twice; choose one")
        scalars = given.known_scalars({"train_loss": loss, "learning_rate": learning_rate} | metrics, where)
        if not given.is_record(record):
            scalars = {name: given.number(value, f"{where}: {name}") for name, value in scalars.items()}
        new = self._taken(number, scalars, record, updates, where)
        if self._resumed is not None:
            self._go_back(number)
        if self._pending is not None and self._pending.step == number:
            self._pending = _merged(self._pending, new, where)
            return
        self._settle()
        if time.perf_counter() - self._flushed >= SECONDS:
            self._flush()
        self._pending, self._last = new, number

    def _taken(self, step: int, scalars: dict[str, Any], record: Any, updates: Any, where: str) -> _Step:
        """What is handed over, looked at; layers are named by the first record."""
        if record is None:
            if updates is not None:
                raise RunError(f"{where}: updates: there is no record to measure them by")
            return _Step(step, scalars, None, None)
        if given.is_record(record):
            rows: dict[str, dict[str, float]] = {layer.path: {} for layer in given.layers_of(record)}
            if updates is not None:
                for path, ratio in record.update_ratio(updates).items():
                    rows[path]["update_ratio"] = ratio
        elif isinstance(record, Mapping):
            if updates is not None:
                raise RunError(f"{where}: updates: a plain mapping cannot measure them; give the column update_ratio")
            rows, record = given.checked(record, where), None
        else:
            raise RunError(
                f"{where}: expected a record of watch.value_and_grad, or a mapping of path to columns; "
                f"found {type(record).__name__}"
            )
        if self._layers:
            given.same_layers(rows, self._layers, where)
        elif rows:
            self._layers = given.layers_of(record if record is not None else rows)
            self._writer.write_layer_names(self._layers)
        return _Step(step, scalars, record, rows)

    def _settle(self) -> None:
        """Reads the numbers of the step before, and notes where they are first not finite."""
        if self._pending is None:
            return
        step, scalars, record, rows = self._pending
        where = f"{self.path}: log.write: step {step:,}"
        self._pending = None
        scalars = {name: given.number(value, f"{where}: {name}") for name, value in scalars.items()}
        if record is not None and rows is not None:
            measured = given.checked(given.rows_of(record), where)
            rows = {path: measured.get(path, {}) | columns for path, columns in rows.items()}
        self._waiting.append(_Step(step, scalars, None, rows))
        self._look(step, scalars.get("train_loss"), rows)
        now = time.perf_counter()
        self._since = self._since or (step, now)
        if step > self._since[0]:
            self._meta["steps_per_second"] = (step - self._since[0]) / max(now - self._since[1], 1e-9)

    def _look(self, step: int, loss: float | None, rows: dict[str, dict[str, float]] | None) -> None:
        """Notes the first step, layer and direction that are not finite, and whether a later step is finite again."""
        place = given.place_in(rows, self._layers) if rows else None
        bad_loss = loss is not None and not np.isfinite(loss)
        noted = self._not_finite
        if place and (noted is None or noted.direction == "loss"):
            earlier = noted.step if noted and noted.step < step else None
            self._not_finite = NotFinite(step, *place, loss_step=earlier)
        elif bad_loss and noted is None:
            self._not_finite = NotFinite(step, "loss", None)
        elif noted is not None and (rows or bad_loss or (noted.direction == "loss" and loss is not None)):
            self._not_finite = noted._replace(recovered=not place and not bad_loss)
        if self._not_finite is not None:
            self._meta["first_not_finite"] = self._not_finite._asdict()
        if self._not_finite is not None and noted is None:
            self._flush()  # the loop may not live long

    def _go_back(self, step: int) -> None:
        """Drops what a resumed run has from a step on."""
        last, self._resumed = self._resumed, None
        if last is None or last < step:
            return
        run = Run(self.path)
        whole = max((part for part in self._writer.ends() if part < step), default=-1)
        whole = whole if whole > 0 else -1  # 0 stands for all
        again = (pc.field("step") > whole) & (pc.field("step") < step)
        metrics, layers = run.metrics(where=again), run.layers(where=again)
        self._writer.drop_after(whole)
        if len(metrics):
            self._writer.append(metrics, layers)
        if self._not_finite is not None and self._not_finite.step >= step:
            self._not_finite = None
            self._meta.pop("first_not_finite", None)

    def _flush(self, status: str = "running") -> None:
        """Writes the next part of the tables, and how far the run is."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            steps = np.array([one.step for one in waiting])
            metrics = {name: column for name in METRICS if (column := _column(waiting, name)) is not None}
            recorded = [one for one in waiting if one.rows is not None and self._layers]
            lanes, measured = np.zeros(1, int), self._columns(recorded)
            self._writer.append(
                metrics_rows(PRECISION, lanes, steps, _with_pairs(metrics), np.ones((len(steps), 1), bool)),
                layer_rows(
                    PRECISION,
                    lanes,
                    max(len(self._layers), 1),
                    np.array([one.step for one in recorded], int),
                    measured,
                    np.ones((len(recorded), 1), bool),
                ),
            )
            self._meta["step"] = waiting[-1].step
        self._flushed = time.perf_counter()
        self._meta |= {"status": status, "seconds": self._seconds + self._flushed - self._began}
        self._writer.write_json("meta.json", self._meta)

    def _columns(self, recorded: list[_Step]) -> dict[str, np.ndarray]:
        """The columns of the layer table, [T, 1, layers], masked where nothing was measured."""
        names = {name for one in recorded for row in (one.rows or {}).values() for name in row if name in LAYERS}
        names |= {"stream_grad_log10"} if names & set(OF_STREAMS) else set()
        columns: dict[str, np.ndarray] = {}
        for name in names:
            values = [[(one.rows or {}).get(layer.path, {}).get(name) for layer in self._layers] for one in recorded]
            columns[name] = _masked(values)[:, None, :]
        return columns

    def close(self, status: str = "done", error: str = "") -> None:
        """Writes all that is left and how the run ended: `done`, `interrupted` or `failed`, with the error's text."""
        if self._closed:
            return
        self._closed = True
        try:
            self._settle()
            self._flush()
            self._meta |= {"ended": _now()} | ({"error": error} if error else {})
            judged = judge_lanes(Run(self.path), [0], [self._seed], max(len(self._layers) - 1, 0))
            self._writer.write_lanes(lane_rows([one.result for one in judged]))
            self._flush(status)
        finally:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, Exception):
            self.close("failed", " ".join(f"{kind.__name__}: {error}".split())[:300])
        else:
            self.close("interrupted")


def _merged(first: _Step, more: _Step, where: str) -> _Step:
    """Two writes of one step as one."""
    if twice := sorted(set(first.scalars) & set(more.scalars)):
        raise RunError(f"{where}: {', '.join(twice)}: written already; write a step's numbers once")
    if first.rows is not None and more.rows is not None:
        raise RunError(f"{where}: its layers are written already; write a step's record once")
    rows = more.rows if first.rows is None else first.rows
    return _Step(first.step, first.scalars | more.scalars, first.record or more.record, rows)


def _column(waiting: list[_Step], name: str) -> np.ndarray | None:
    """A column of the metrics table, [T, 1]; None where no step has it."""
    values = [one.scalars.get(name) for one in waiting]
    return None if all(value is None for value in values) else _masked(values)[:, None]


def _with_pairs(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics with both columns of the sharpness, or neither: tables have them together."""
    if not set(SHARPNESS) & set(metrics):
        return metrics
    rows = len(next(iter(metrics.values())))
    return {name: np.ma.masked_all((rows, 1)) for name in SHARPNESS} | metrics


def _masked(values: list[Any]) -> np.ndarray:
    """Numbers as an array, masked where one is None."""
    found = np.array(values, object)
    missing = np.array([value is None for value in found.ravel()], bool).reshape(found.shape)
    return np.ma.array(np.where(missing, np.nan, found).astype(float), mask=missing)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
