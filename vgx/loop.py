"""The host's side of a run: feed the device, keep what it reports, look up at the right moments."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vgx import checkpoint
from vgx.batches import Batches, Piece, next_piece
from vgx.config import Config
from vgx.data import Dataset
from vgx.errors import VgxError
from vgx.outcome import first_bad_steps, judge_run
from vgx.rows import Rows, rows_of, tables
from vgx.run_directory import LAYERS, Run, RunWriter
from vgx.training import (
    Images,
    Lane,
    Program,
    State,
    make_chunk,
    make_evaluate,
    make_initial_states,
    make_plain_steps,
    master_dtype,
    numbers_of,
    to_device,
)

FLUSH_SECONDS = 5.0
"""How often what was measured goes to disk, with a checkpoint."""
CHUNK_SECONDS = 0.25
"""How long the device works before the host looks: how often a live view moves, how soon Ctrl-C is obeyed."""
CHUNK_BYTES = 2**24
"""What the records of one chunk may take on the device."""
LSUV_EXAMPLES = 1024
"""How many training examples LSUV looks at."""
NEVER = np.iinfo(np.int64).max


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
    evaluated: int
    """The step of the last evaluation; 0 before the first."""
    delta_log10: np.ndarray | None
    """[L], of the first lane's hidden layers at the last recorded step."""


Watch = Callable[[Progress], None]


class Interrupted(VgxError):
    """Ctrl-C: the run is saved, and the message says how to go on."""

    exit_code = 130


class Loop:
    """The host's side of a run: dispatch a piece, keep what the one before reported, look up at the right moments."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        steps_per_epoch: int,
        writer: RunWriter,
        meta: dict[str, Any],
        watch: Watch,
    ):
        self.config, self.writer, self.meta, self.watch = config, writer, meta, watch
        self.steps_per_epoch = steps_per_epoch
        self.steps = config.train.steps or (config.train.epochs or 0) * steps_per_epoch
        self.lanes = len(config.seed_list)
        self.layers = len(config.model.widths) + 1
        self.measures = config.log.statistics != "none"
        self.every = config.log.every if self.measures else 1
        self.batches = Batches(config.seed_list, len(dataset.train.labels), config.train.batch_size)
        self.rows: list[Rows] = []
        self.bad_since = np.full(self.lanes, NEVER)
        self.speeds: list[float] = []
        self.progress = Progress(
            "compiling", meta["step"], self.steps, 0.0, self.lanes, math.nan, math.nan, math.nan, 0, None
        )
        self.started = self.flushed = self.dispatched = self.kept = time.monotonic()
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
        begin = make_initial_states(self.program)
        if self.meta["step"]:
            shapes = jax.eval_shape(begin, self.lane, self.data, first)
            self.state = checkpoint.load(self.writer.path / "checkpoint", self.meta["step"], shapes)
            for lane, step in first_bad_steps(Run(self.writer.path).metrics()).items():
                self.bad_since[lane] = step
        else:
            self.state = begin(self.lane, self.data, first)

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
                raise Interrupted(
                    f"{self.writer.path}: stopped at step {step} of {self.steps}, and saved; --resume goes on"
                )
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
        seconds = now - max(self.dispatched, self.kept)
        self.kept = now
        rows = rows_of(piece, done, log)
        self.rows.append(rows)
        for lane, step in rows.first_bad().items():
            self.bad_since[lane] = min(self.bad_since[lane], step)
        speed = piece.steps / max(seconds, 1e-9)
        self.speeds.append(speed)
        last = (
            rows.layers["delta_log10"][-1, 0, :-1]
            if len(rows.layers.get("delta_log10", ()))
            else self.progress.delta_log10
        )
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

    def _all_diverged(self) -> bool:
        return self.config.train.stop_when_diverged and bool((self.bad_since < NEVER).all())

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
        self.progress = self.progress._replace(test_accuracy=float(figures["test_accuracy"].mean()), evaluated=step)
        self.kept = time.monotonic()
        self.watch(self.progress)

    def _flush(self, step: int, status: str) -> None:
        """Writes the rows so far and a checkpoint: from here a killed run goes on."""
        began = time.monotonic()
        if self.rows:
            self.writer.append(*tables(self.rows, self.config.train.precision, self.layers, self.steps_per_epoch))
            self.rows = []
            checkpoint.save(self.writer.path / "checkpoint", step, self.state)
        self._write_meta(step, status)
        self.flushed = time.monotonic()
        self.flush_seconds = max(FLUSH_SECONDS, 20 * (self.flushed - began))

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
            with contextlib.suppress(VgxError):
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
