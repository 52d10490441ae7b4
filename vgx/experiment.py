"""The bridge: a config becomes a program and its lanes, and a host loop feeds it and keeps what it reports."""

from __future__ import annotations

import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.compute as pc

from vgx import checkpoint
from vgx.config import Config
from vgx.data import Dataset
from vgx.errors import DataError, RunError, VgxError
from vgx.machine import Platform, describe, find_device, keep_compiled_programs, numerics
from vgx.run_directory import FINAL, LAYERS, LaneResult, Run, RunWriter, layer_rows, metrics_rows
from vgx.training import (
    Chunk,
    Images,
    Lane,
    Program,
    Scalars,
    State,
    initial_state,
    make_chunk,
    make_evaluate,
    make_plain_steps,
    master_dtype,
    numbers_of,
    to_device,
)
from vgx.verdict import Curves, Verdict, judge

FLUSH_SECONDS = 5.0
"""How often what was measured goes to disk, with a checkpoint."""
CHUNK_SECONDS = 0.25
"""How long the device works before the host looks: how often a live view moves, how soon Ctrl-C is obeyed."""
CHUNK_BYTES = 2**24
"""What the records of one chunk may take on the device."""
LSUV_EXAMPLES = 1024
"""How many training examples LSUV looks at."""
WINDOW = 0.25
"""The last share of the recorded steps on which a verdict rests."""


class Progress(NamedTuple):
    """What a watcher is told whenever something happened."""

    phase: str
    """compiling, training or done."""
    step: int
    steps: int
    steps_per_second: float
    """Over the last chunk; 0 before the first."""
    lanes: int
    train_loss: float
    """The mean over lanes, at the last step; NaN before the first."""
    train_accuracy: float
    test_accuracy: float
    """At the last evaluation; NaN before the first."""
    delta_log10: np.ndarray | None
    """[L], of the first lane's hidden layers at the last recorded step."""


Watch = Callable[[Progress], None]


class Interrupted(VgxError):
    """Ctrl-C: the run is saved, and the message says how to go on."""

    exit_code = 130


def run_path(config: Config, runs: str | Path = "runs") -> Path:
    """Returns the directory of a config's run: the same config has the same directory."""
    return Path(runs) / f"{config.name}-{config.digest}"


def train(
    config: Config,
    *,
    runs: str | Path = "runs",
    resume: bool = False,
    overwrite: bool = False,
    device: Platform | None = None,
    watch: Watch | None = None,
) -> Run:
    """Trains a config, one lane per seed side by side, and returns its run.

    Args:
        config: what to train.
        runs: the folder that the run directory is made in.
        resume: goes on with a run that was cut off (to the same bits); starts it when there is none, and leaves one that is done.
        overwrite: replaces a run that exists.
        device: cpu, gpu or tpu; jax's own choice when None.
        watch: called with a `Progress` whenever a chunk of steps is done.

    Raises:
        DataError: the data set is missing or broken.
        RunError: the run exists already, or another process writes it.
        EnvironmentFault: no such device, or the disk refuses.
        Interrupted: Ctrl-C or SIGTERM came; the run is saved.
    """
    path = run_path(config, runs)
    if path.exists() and not overwrite:
        existing = Run(path)
        if not resume:
            raise RunError(_in_the_way(existing))
        if existing.status == "done":
            return existing
    keep_compiled_programs()
    chosen = find_device(device)
    dataset = config.data.load()
    steps_per_epoch = _steps_per_epoch(config, dataset)
    with numerics(config.train.precision, chosen):
        writer, meta = _open(path, config, dataset, chosen, overwrite)
        try:
            loop = _Loop(config, dataset, steps_per_epoch, writer, meta, watch or (lambda progress: None))
            loop.run()
        finally:
            writer.close()
    return Run(path)


def _in_the_way(run: Run) -> str:
    if run.status == "done":
        return f"{run.path}: this config has been run; `vgx show {run.path}` shows it, --overwrite runs it again"
    step = run.meta["step"]
    return f"{run.path}: this run was cut off at step {step}; --resume goes on, --overwrite starts again"


def _steps_per_epoch(config: Config, dataset: Dataset) -> int:
    examples, batch = len(dataset.train.labels), config.train.batch_size
    if batch > examples:
        raise DataError(f"train.batch_size: {batch} is more than the {examples} training examples of '{dataset.name}'; lower it")
    return examples // batch


def _open(path: Path, config: Config, dataset: Dataset, device: jax.Device, overwrite: bool) -> tuple[RunWriter, dict[str, Any]]:
    """Makes the run directory, or opens the one that is there, at its last checkpoint."""
    meta: dict[str, Any] = {
        "status": "running",
        "step": 0,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe(device),
        "precision": config.train.precision,
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "data_digest": dataset.digest,
        "seconds": 0.0,
        "compile_seconds": 0.0,
        "steps_per_second": None,
    }
    if path.exists() and overwrite:
        RunWriter(path).close()  # refuses while another process writes it
        shutil.rmtree(path)
    if not path.exists():
        return RunWriter.create(path, config.to_yaml(), meta), meta
    writer = RunWriter(path)
    kept = Run(path).meta
    if kept["data_digest"] != dataset.digest:
        writer.close()
        raise RunError(f"{path}: the data set '{dataset.name}' is no longer what this run began with; --overwrite starts again")
    step = checkpoint.newest(path / "checkpoint") or 0
    writer.drop_after(step)
    return writer, meta | {key: kept[key] for key in ("started", "seconds", "compile_seconds")} | {"step": step}


class Piece(NamedTuple):
    """Some steps to do in one go: periods of a recorded step and plain ones, or plain ones alone."""

    recorded: bool
    lengths: tuple[int, ...]
    """Steps of each period."""

    @property
    def steps(self) -> int:
        return sum(self.lengths)


def next_piece(done: int, stop: int, every: int, room: tuple[int, int], periods: int) -> Piece:
    """Returns what to do after step `done`, not beyond step `stop`.

    Where one piece ends and the next begins never depends on speed within a period, so it cannot change a bit.

    Args:
        done: steps done.
        stop: the step to stop at.
        every: steps from one recorded step to the next.
        room: the most periods in a piece, and the most steps of one period.
        periods: how many periods are wanted.
    """
    most, longest = room
    into = done % every
    if into:
        return Piece(False, (min(every - into, stop - done, longest),))
    lengths: list[int] = []
    while done < stop and len(lengths) < min(periods, most):
        lengths.append(min(every, stop - done, longest))
        done += lengths[-1]
        if lengths[-1] < every:
            break
    return Piece(True, tuple(lengths))


class Batches:
    """The examples of every step: each seed's own shuffle of each epoch, a function of seed and step alone."""

    def __init__(self, seeds: tuple[int, ...], examples: int, batch: int):
        self.seeds, self.examples, self.batch = seeds, examples, batch
        self.per_epoch = examples // batch
        self._shuffles: dict[tuple[int, int], np.ndarray] = {}

    def at(self, step: int) -> np.ndarray:
        """Returns the indices [R, B] of step `step`, counted from 0."""
        epoch, position = divmod(step, self.per_epoch)
        start = position * self.batch
        return np.stack([self._shuffle(seed, epoch)[start : start + self.batch] for seed in self.seeds])

    def _shuffle(self, seed: int, epoch: int) -> np.ndarray:
        if (seed, epoch) not in self._shuffles:
            self._shuffles = {key: order for key, order in self._shuffles.items() if key[1] == epoch}
            random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
            self._shuffles[seed, epoch] = random.permutation(self.examples).astype(np.int32)
        return self._shuffles[seed, epoch]


class _Rows(NamedTuple):
    """What one piece reported, on the host."""

    steps: np.ndarray
    """[T], from 1."""
    scalars: dict[str, np.ndarray]
    """[T, R] each."""
    recorded: np.ndarray
    """[T] of booleans."""
    gradient_log10: np.ndarray | None
    """[T', R] at the recorded steps."""
    layers: dict[str, np.ndarray]
    """[T', R, L + 1] at the recorded steps."""
    evaluated: dict[str, np.ndarray]
    """[R] at the last step, or nothing."""

    def until(self, step: int) -> _Rows:
        """The same without what came after `step`."""
        keep, kept = self.steps <= step, self.steps[self.recorded] <= step
        return self._replace(
            steps=self.steps[keep],
            scalars={name: values[keep] for name, values in self.scalars.items()},
            recorded=self.recorded[keep],
            gradient_log10=None if self.gradient_log10 is None else self.gradient_log10[kept],
            layers={name: values[kept] for name, values in self.layers.items()},
        )


class _Loop:
    """The host's side of a run: dispatch a piece, keep what the one before reported, look up at the right moments."""

    def __init__(
        self, config: Config, dataset: Dataset, steps_per_epoch: int, writer: RunWriter, meta: dict[str, Any], watch: Watch
    ):
        self.config, self.writer, self.meta, self.watch = config, writer, meta, watch
        self.steps_per_epoch = steps_per_epoch
        self.steps = config.train.steps or (config.train.epochs or 0) * steps_per_epoch
        self.lanes = len(config.seed_list)
        self.layers = len(config.model.widths) + 1
        self.measures = config.log.statistics != "none"
        self.every = config.log.every if self.measures else 1
        self.batches = Batches(config.seed_list, len(dataset.train.labels), config.train.batch_size)
        self.rows: list[_Rows] = []
        self.bad_since = np.full(self.lanes, np.iinfo(np.int64).max)
        self.speeds: list[float] = []
        self.progress = Progress("compiling", meta["step"], self.steps, 0.0, self.lanes, math.nan, math.nan, math.nan, None)
        self.started = self.flushed = time.monotonic()
        self.flush_seconds = FLUSH_SECONDS
        self._prepare(dataset)

    def _prepare(self, dataset: Dataset) -> None:
        """Puts data and lanes on the device, compiles, and makes or restores the state."""
        self.watch(self.progress)
        began = time.monotonic()
        config = self.config
        width = dataset.train.images.shape[1]
        self.program = Program(config, width, dataset.classes, self.steps)
        splits = {"test": dataset.test} | ({"validation": dataset.validation} if dataset.validation else {})
        self.data = to_device(dataset.train, dataset)
        self.held_out = {name: to_device(split, dataset) for name, split in splits.items()}

        dtype = master_dtype(config)
        numbers = jax.tree.map(lambda value: jnp.full(self.lanes, value, dtype), numbers_of(config))
        self.lane = Lane(jax.vmap(jax.random.key)(jnp.asarray(config.seed_list, jnp.uint32)), numbers)
        first = jnp.arange(min(LSUV_EXAMPLES, len(dataset.train.labels)))
        begin = jax.vmap(lambda lane, data: initial_state(self.program, lane, data, first), (0, None))
        if self.meta["step"]:
            shapes = jax.eval_shape(begin, self.lane, self.data)
            self.state = checkpoint.load(self.writer.path / "checkpoint", self.meta["step"], shapes)
        else:
            self.state = jax.jit(begin)(self.lane, self.data)

        columns = len(LAYERS) if self.measures else 0
        bytes_per_period = dtype.itemsize * self.lanes * self.layers * columns + 1
        longest = min(self.every, 256)
        most = max(1, min(256, CHUNK_BYTES // bytes_per_period, math.ceil(self.steps / self.every)))
        self.room = (most, longest)
        self.chunk = make_chunk(self.program, most).lower(*self._arguments(Piece(True, ()), 0)).compile()
        self.plain = None
        self.evaluate = make_evaluate(self.program)
        jax.block_until_ready(self.state)
        self.meta["compile_seconds"] += time.monotonic() - began

    def _arguments(self, piece: Piece, done: int) -> tuple[State, Lane, Images, jax.Array, jax.Array]:
        """What the chunk takes: every step's examples, in places for the most periods and the longest."""
        most, longest = self.room
        indices = np.zeros((most, longest, self.lanes, self.config.train.batch_size), np.int32)
        lengths = np.zeros(most, np.int32)
        lengths[: len(piece.lengths)] = piece.lengths
        for i, length in enumerate(piece.lengths):
            for j in range(length):
                indices[i, j] = self.batches.at(done + j)
            done += length
        return self.state, self.lane, self.data, jnp.asarray(indices), jnp.asarray(lengths)

    def run(self) -> None:
        """Goes on to the last step, or to where every lane has diverged."""
        step, budget = self.meta["step"], 1
        pending: tuple[Piece, int, Any] | None = None
        with _stop_signals() as stop, self._failure_noted():
            while True:
                more = step < self.steps and not stop.is_set() and not self._all_diverged()
                dispatched = None
                if more:
                    piece = next_piece(step, self._next_stop(step), self.every, self.room, budget)
                    dispatched = piece, step, self._dispatch(piece, step)
                    step += piece.steps
                if pending is not None:
                    budget = self._keep(*pending, budget)
                pending = dispatched
                pause = step % self.config.train.evaluate_every == 0 or step == self.steps
                due = time.monotonic() - self.flushed > self.flush_seconds
                if pending is not None and (pause or due or stop.is_set()):
                    budget = self._keep(*pending, budget)
                    pending = None
                if not more and pending is None:
                    break
                if pending is None and pause:
                    self._evaluate(step)
                if pending is None and due:
                    self._flush(step, "running")
            if self._all_diverged():
                step = self._drop_past_divergence()
            if stop.is_set() and step < self.steps and not self._all_diverged():
                self._flush(step, "interrupted")
                raise Interrupted(f"{self.writer.path}: stopped at step {step} of {self.steps}, and saved; --resume goes on")
            self._flush(step, "running")
            self._finish(step)

    def _next_stop(self, step: int) -> int:
        every = self.config.train.evaluate_every
        return min((step // every + 1) * every, self.steps)

    def _dispatch(self, piece: Piece, done: int) -> Any:
        self.dispatched = time.monotonic()
        if piece.recorded:
            self.state, log = self.chunk(*self._arguments(piece, done))
            return log
        longest = self.room[1]
        if self.plain is None:
            self.plain = make_plain_steps(self.program, longest)
        indices = np.zeros((longest, self.lanes, self.config.train.batch_size), np.int32)
        for j in range(piece.steps):
            indices[j] = self.batches.at(done + j)
        self.state, scalars = self.plain(self.state, self.lane, self.data, jnp.asarray(indices), jnp.int32(piece.steps))
        return scalars

    def _keep(self, piece: Piece, done: int, log: Any, budget: int) -> int:
        """Waits for a piece's report, keeps its rows, and returns how many periods the next piece should have."""
        log = jax.tree.map(np.asarray, jax.block_until_ready(log))
        now = time.monotonic()
        seconds = now - max(self.dispatched, getattr(self, "kept", 0.0))
        self.kept = now
        rows = self._rows(piece, done, log)
        self.rows.append(rows)
        self._note_divergence(rows)
        speed = piece.steps / max(seconds, 1e-9)
        self.speeds.append(speed)
        last = rows.layers["delta_log10"][-1, 0, :-1] if len(rows.layers.get("delta_log10", ())) else self.progress.delta_log10
        self.progress = self.progress._replace(
            phase="training",
            step=done + piece.steps,
            steps_per_second=speed,
            train_loss=float(rows.scalars["train_loss"][-1].mean()),
            train_accuracy=float(rows.scalars["train_accuracy"][-1].mean()),
            delta_log10=last,
        )
        self.watch(self.progress)
        wanted = speed * CHUNK_SECONDS / self.every
        return int(min(max(1, wanted), 2 * budget, self.room[0]))

    def _rows(self, piece: Piece, done: int, log: Chunk | Scalars) -> _Rows:
        steps = np.arange(done + 1, done + piece.steps + 1)
        recorded = np.zeros(piece.steps, bool)
        if isinstance(log, Scalars):
            return _Rows(steps, {name: x[: piece.steps] for name, x in log._asdict().items()}, recorded, None, {}, {})
        periods = len(piece.lengths)
        ran = np.arange(self.room[1]) < np.asarray(piece.lengths)[:, None]
        scalars = {name: x[:periods][ran] for name, x in log.scalars._asdict().items()}
        if log.records is None:
            return _Rows(steps, scalars, recorded, None, {}, {})
        recorded[np.cumsum((0, *piece.lengths[:-1]))] = True
        layers = {name: x[:periods] for name, x in log.records.layers._asdict().items() if x is not None}
        return _Rows(steps, scalars, recorded, log.records.gradient_log10[:periods], layers, {})

    def _note_divergence(self, rows: _Rows) -> None:
        """Notes the first step at which each lane's loss or gradient was NaN or infinite."""
        bad = ~np.isfinite(rows.scalars["train_loss"])
        if rows.gradient_log10 is not None:
            bad[rows.recorded] |= ~(rows.gradient_log10 < np.inf)
        for lane in np.flatnonzero(bad.any(0)):
            self.bad_since[lane] = min(self.bad_since[lane], rows.steps[bad[:, lane]][0])

    def _all_diverged(self) -> bool:
        return self.config.train.stop_when_diverged and bool((self.bad_since < np.iinfo(np.int64).max).all())

    def _drop_past_divergence(self) -> int:
        """Forgets what the device did after the last lane diverged, and returns that step."""
        step = int(self.bad_since.max())
        self.rows = [kept for rows in self.rows if len((kept := rows.until(step)).steps)]
        return step

    def _evaluate(self, step: int) -> None:
        """Evaluates every lane on the held-out splits, and writes the figures to the row of the last step."""
        if not self.rows or self.rows[-1].steps[-1] != step:
            return
        figures: dict[str, np.ndarray] = {}
        for name, images in self.held_out.items():
            loss, accuracy = self.evaluate(self.state, images)
            figures |= {f"{name}_loss": np.asarray(loss), f"{name}_accuracy": np.asarray(accuracy)}
        self.rows[-1] = self.rows[-1]._replace(evaluated=figures)
        self.progress = self.progress._replace(test_accuracy=float(figures["test_accuracy"].mean()))
        self.kept = time.monotonic()
        self.watch(self.progress)

    def _flush(self, step: int, status: str) -> None:
        """Writes the rows so far and a checkpoint: from here a killed run goes on."""
        began = time.monotonic()
        if self.rows:
            self.writer.append(*self._tables())
            self.rows = []
            checkpoint.save(self.writer.path / "checkpoint", step, self.state)
        self._write_meta(step, status)
        self.flushed = time.monotonic()
        self.flush_seconds = max(FLUSH_SECONDS, 20 * (self.flushed - began))

    def _tables(self) -> tuple[Any, Any]:
        precision, rows = self.config.train.precision, self.rows
        steps = np.concatenate([piece.steps for piece in rows])
        columns = {name: np.concatenate([piece.scalars[name] for piece in rows]) for name in Scalars._fields}
        columns["epoch"] = np.repeat(steps[:, None] / self.steps_per_epoch, self.lanes, 1)
        at_record = np.concatenate([piece.recorded for piece in rows])
        if self.measures:
            measured = np.ma.array(np.zeros((len(steps), self.lanes)), mask=True)
            recorded = [piece.gradient_log10 for piece in rows if piece.gradient_log10 is not None]
            if recorded:
                measured[at_record] = np.concatenate(recorded)
            columns["gradient_log10"] = measured
        for name in {name for piece in rows for name in piece.evaluated}:
            figures = np.ma.array(np.zeros((len(steps), self.lanes)), mask=True)
            for piece in rows:
                if name in piece.evaluated:
                    figures[steps == piece.steps[-1]] = piece.evaluated[name]
            columns[name] = figures
        with_layers = [piece for piece in rows if piece.layers]
        layers = {name: np.concatenate([piece.layers[name] for piece in with_layers]) for name in (with_layers or rows)[0].layers}
        return (
            metrics_rows(precision, self.lanes, steps, columns),
            layer_rows(precision, self.lanes, self.layers, steps[at_record], layers),
        )

    def _write_meta(self, step: int, status: str) -> None:
        now = time.monotonic()
        speeds = self.speeds[1:] or self.speeds
        self.meta |= {"status": status, "step": step, "seconds": self.meta["seconds"] + now - self.started}
        self.meta["steps_per_second"] = median(speeds) if speeds else self.meta["steps_per_second"]
        self.started = now
        self.writer.write_meta(self.meta)

    @contextmanager
    def _failure_noted(self) -> Iterator[None]:
        """Leaves `failed` and the reason in meta.json when anything but an interruption ends the run."""
        try:
            yield
        except Interrupted:
            raise
        except BaseException as error:
            with _suppressed_vgx_errors():
                self.writer.write_meta(self.meta | {"status": "failed", "error": f"{type(error).__name__}: {error}"})
            raise

    def _finish(self, step: int) -> None:
        """Judges every lane, and marks the run as done."""
        run = Run(self.writer.path)
        lanes = judge_run(run, self.config.seed_list, len(self.config.model.widths))
        self.writer.write_lanes(lanes)
        self.meta["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
        self._write_meta(step, "done")
        self.progress = self.progress._replace(phase="done", step=step)
        self.watch(self.progress)


@contextmanager
def _suppressed_vgx_errors() -> Iterator[None]:
    try:
        yield
    except VgxError:
        pass


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def judge_run(run: Run, seeds: tuple[int, ...], hidden: int) -> list[LaneResult]:
    """Returns how each lane of a run ended, from its tables alone."""
    metrics = run.metrics()
    lane, step = metrics["lane"].to_numpy(), metrics["step"].to_numpy()
    results = []
    for number, seed in enumerate(seeds):
        rows = lane == number
        final = {name: _last_value(metrics[name].to_numpy(zero_copy_only=False)[rows], metrics[name].is_valid().to_numpy()[rows]) for name in FINAL}
        diverged = _divergence(run, number, step[rows], metrics.filter(rows))
        verdict = _verdict(run, number, hidden, diverged)
        results.append(
            LaneResult(
                lane=number,
                seed=seed,
                status="diverged" if diverged else "done",
                verdict=verdict and verdict.word,
                slope=verdict.slope if verdict and math.isfinite(verdict.slope) else None,
                evidence=verdict.evidence if verdict else "no layer was recorded (log.statistics: none)",
                diverged_step=diverged and diverged[0],
                diverged_layer=diverged and diverged[1],
                **final,
            )
        )
    return results


def _last_value(values: np.ndarray, valid: np.ndarray) -> float | None:
    return float(values[valid][-1]) if valid.any() else None


def _divergence(run: Run, lane: int, steps: np.ndarray, metrics: Any) -> tuple[int, int | None] | None:
    """The step at which the lane's loss or gradient first was NaN or infinite, and the layer, if it was recorded then."""
    gradient = metrics["gradient_log10"]
    bad = ~np.isfinite(metrics["train_loss"].to_numpy())
    bad |= gradient.is_valid().to_numpy(zero_copy_only=False) & ~(gradient.to_numpy(zero_copy_only=False) < np.inf)
    if not bad.any():
        return None
    step = int(steps[bad][0])
    there = run.layers(where=(pc.field("lane") == lane) & (pc.field("step") == step))
    # What the forward pass meets first is the lowest layer; what the backward pass meets first, the highest.
    for column, pick in (("act_rms", 0), ("delta_log10", -1)):
        values = there[column]
        broken = values.is_valid().to_numpy(zero_copy_only=False) & ~(values.to_numpy(zero_copy_only=False) < np.inf)
        if broken.any():
            return step, int(there["layer"].to_numpy()[broken][pick])
    return step, None


def _verdict(run: Run, lane: int, hidden: int, diverged: tuple[int, int | None] | None) -> Verdict | None:
    """The verdict on a lane, from each layer's median over the last of its recorded steps."""
    of_lane = pc.field("lane") == lane
    steps = np.unique(run.layers(["step"], where=of_lane & (pc.field("layer") == 1))["step"].to_numpy())
    if len(steps) == 0:
        return judge(Curves(np.full(hidden, np.nan)), diverged) if diverged else None
    begin = steps[-math.ceil(WINDOW * len(steps))]
    columns = list(Curves._fields)
    window = run.layers([*columns, "layer"], where=of_lane & (pc.field("step") >= int(begin)) & (pc.field("layer") <= hidden))

    def curve(name: str) -> np.ndarray | None:
        if window[name].null_count == len(window):
            return None
        values = window[name].to_numpy().reshape(-1, hidden)
        return np.sort(values, 0)[len(values) // 2]

    curves = {name: curve(name) for name in columns}
    return judge(Curves(**curves), diverged)  # type: ignore[arg-type]
