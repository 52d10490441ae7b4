"""The host's side of a round of lanes: feed the devices, keep what they report, look up at the right moments."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow.compute as pc

from vgx.config.schema import Config
from vgx.data import Dataset
from vgx.devices import Device
from vgx.export.tensorboard import LiveEvents
from vgx.results.columns import DEAD_UNITS, LAYERS
from vgx.results.lane_results import first_bad_steps
from vgx.results.store import Run
from vgx.results.writer import RunWriter
from vgx.runner import checkpoint
from vgx.runner.stopping import Interrupted, stop_signals
from vgx.runner.tables import Rows, rows_of, tables
from vgx.training.batches import Batches, ChunkPlan, next_chunk
from vgx.training.inputs import Images, master_dtype, to_device
from vgx.training.lanes import (
    lane_axes,
    lanes_on,
    make_chunk,
    make_evaluate,
    make_examine,
    make_initial_states,
    make_lanes,
    make_plain_steps,
    put,
    spread_over,
)
from vgx.training.program import Program, shared_config
from vgx.training.step import LSUV_EXAMPLES, Lane, State, is_examined

FLUSH_SECONDS = 5.0
"""How often what was measured goes to disk; in a long run up to MAX_FLUSH_SECONDS, so that its parts do not get too
many."""
MAX_FLUSH_SECONDS = 30.0
FLUSH_BYTES = 2**26
"""Rows of so many bytes go to disk at once, however soon that is."""
CHECKPOINT_SHARE = 0.05
"""The most of the time that checkpoints take: where one is slow, not every flush has one."""
SPEEDS = 4096
"""Chunks, the newest, whose median is a run's speed."""
CHUNK_SECONDS = 0.25
"""How long the device works before the host looks: how often a live view moves, how soon Ctrl-C is obeyed."""
CHUNK_BYTES = 2**24
"""What the batches and the records of one chunk may take on the device."""
NEVER = np.iinfo(np.int64).max


class TrainingProgress(NamedTuple):
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


Watch = Callable[[TrainingProgress], None]


class LaneSpec(NamedTuple):
    """One lane of a round."""

    lane: int
    """Its number in the run's tables."""
    cell: int
    """Lanes of one cell differ in the seed alone, and stop together."""
    config: Config
    seed: int


class ProgressPaths(NamedTuple):
    """Where a round writes how far it is."""

    file: str
    """In the run directory: `meta.json` of a single run, `rounds/0000.json` in a sweep."""
    checkpoint: str
    """The folder of its checkpoint."""


class Compiled(NamedTuple):
    """A program, compiled for R lanes: every round of that many can use it."""

    chunk: Any
    plain: Any
    evaluate: Any
    examine: Any
    """None where batches are large enough."""


class ProgramCache:
    """What the rounds of a sweep have in common: data on the devices, compiled programs."""

    def __init__(self) -> None:
        self.data: dict[str, tuple[Images, dict[str, Images]]] = {}
        self.programs: dict[tuple[str, int], Compiled] = {}


class Loop:
    """The host's side of a round: dispatch a piece, keep what the one before reported, look up at the right moments."""

    def __init__(
        self,
        seats: Sequence[LaneSpec],
        room: int,
        dataset: Dataset,
        devices: Sequence[Device],
        writer: RunWriter,
        account: ProgressPaths,
        meta: dict[str, Any],
        watch: Watch,
        shelf: ProgramCache | None = None,
    ):
        self.seats, self.config = seats, seats[0].config
        self.writer, self.account, self.meta, self.watch = writer, account, meta, watch
        self.shelf = shelf or ProgramCache()
        self.steps_per_epoch = len(dataset.train.labels) // self.config.train.batch_size
        self.steps = steps_of(self.config, dataset)
        self.mesh = spread_over(devices, len(seats))
        self.room_for_lanes = max(room, lanes_on(self.mesh, len(seats)))
        self.lanes = np.array([seat.lane for seat in seats])
        self.cells = np.unique([seat.cell for seat in seats], return_inverse=True)[1]
        self.layers = len(self.config.model.widths) + 1
        self.measures = self.config.log.statistics != "none"
        self.every = self.config.log.every if self.measures else 1
        self.rows: list[Rows] = []
        self.bad_since = np.full(len(seats), NEVER)
        self.bytes_in_rows, self.unsaved = 0, False
        self.speeds: deque[float] = deque(maxlen=SPEEDS)
        self.progress = TrainingProgress(
            "compiling", meta["step"], self.steps, 0.0, len(seats), math.nan, math.nan, math.nan, 0, None
        )
        self.began = self.started = self.flushed = self.saved = self.dispatched = self.kept = time.monotonic()
        self.checkpoint_seconds = 0.0
        self._prepare(dataset)
        pairs = [(seat.lane, seat.seed) for seat in seats]
        live = self.config.log.tensorboard
        self.events = LiveEvents(Run(writer.path), pairs, meta["step"]) if live else None

    def _prepare(self, dataset: Dataset) -> None:
        """Puts data and lanes on the devices, compiles, and makes or restores the state."""
        self.watch(self.progress)
        began = time.monotonic()
        config, padding = self.config, self.room_for_lanes - len(self.seats)
        self.program = Program(shared_config(config), dataset.train.images.shape[1], dataset.classes, self.steps)
        self.data, self.held_out = self._on_devices(dataset)
        seats = [*self.seats, *[self.seats[0]] * padding]
        configs, seeds = [seat.config for seat in seats], [seat.seed for seat in seats]
        self.batches = Batches(tuple(dict.fromkeys(seeds)), len(dataset.train.labels), config.train.batch_size)
        lane = make_lanes(configs, seeds)
        begin = make_initial_states(self.program, configs, self.mesh)
        few = dataset.train._replace(
            images=dataset.train.images[:LSUV_EXAMPLES], labels=dataset.train.labels[:LSUV_EXAMPLES]
        )
        first = np.arange(len(few.labels)), to_device(few, dataset)
        if self.meta["step"]:
            shapes = jax.eval_shape(begin, lane, first[1], first[0])
            self.state = checkpoint.load(self.writer.path / self.account.checkpoint, self.meta["step"], shapes)
            self.state = put(self.state, self.mesh, lane_axes(self.program))
            of_mine = pc.field("lane").isin(self.lanes.tolist())
            places = {int(lane): i for i, lane in enumerate(self.lanes)}
            for number, step in first_bad_steps(Run(self.writer.path).metrics(where=of_mine)).items():
                self.bad_since[places[number]] = step
        else:
            self.state = begin(lane, first[1], first[0])
        self.lane: Lane = put(lane, self.mesh, jax.tree.map(lambda leaf: 0, lane))

        columns = len(LAYERS) if self.measures else 0
        longest = min(self.every, 256)
        bytes_per_period = master_dtype(config).itemsize * self.room_for_lanes * self.layers * columns
        bytes_per_period += 4 * longest * len(self.batches.seeds) * config.train.batch_size
        most = max(1, min(256, CHUNK_BYTES // bytes_per_period, math.ceil(self.steps / self.every)))
        self.room = (most, longest)
        self.compiled = self._compiled()
        jax.block_until_ready(self.state)
        self.meta["compile_seconds"] += time.monotonic() - began

    @property
    def bytes(self) -> int:
        """What the compiled chunk takes on all devices together, in bytes; 0 where jax cannot tell."""
        memory = self.compiled.chunk.memory_analysis()
        if memory is None:
            return 0
        return self.mesh.size * (memory.temp_size_in_bytes + memory.argument_size_in_bytes)

    def _on_devices(self, dataset: Dataset) -> tuple[Images, dict[str, Images]]:
        """The training split and the held-out ones, a copy on each device."""
        key = f"{dataset.digest} {self.mesh.devices.tolist()} {master_dtype(self.config)}"
        if key not in self.shelf.data:
            splits = {"test": dataset.test} | ({"validation": dataset.validation} if dataset.validation else {})
            train = put(to_device(dataset.train, dataset), self.mesh)
            held_out = {name: put(to_device(split, dataset), self.mesh) for name, split in splits.items()}
            self.shelf.data[key] = train, held_out
        return self.shelf.data[key]

    def _compiled(self) -> Compiled:
        key = f"{self.program.config.model_dump_json()} {self.mesh.devices.tolist()}", self.room_for_lanes
        if key not in self.shelf.programs:
            chunk = make_chunk(self.program, self.room[0], self.mesh).lower(*self._arguments(ChunkPlan(True, ()), 0))
            plain = make_plain_steps(self.program, self.room[1], self.mesh)
            examine = make_examine(self.program, self.mesh) if is_examined(self.config) else None
            self.shelf.programs[key] = Compiled(chunk.compile(), plain, make_evaluate(self.program, self.mesh), examine)
        return self.shelf.programs[key]

    def _arguments(self, piece: ChunkPlan, done: int) -> tuple[State, Lane, Images, jax.Array, jax.Array]:
        """What the chunk takes: every step's examples, in places for the most periods and the longest."""
        most, longest = self.room
        batches = np.zeros((most, longest, len(self.batches.seeds), self.config.train.batch_size), np.int32)
        lengths = np.zeros(most, np.int32)
        lengths[: len(piece.lengths)] = piece.lengths
        for i, length in enumerate(piece.lengths):
            for j in range(length):
                batches[i, j] = self.batches.at(done + j)
            done += length
        return self.state, self.lane, self.data, *put((batches, lengths), self.mesh)

    def run(self) -> int:
        """Goes on to the last step, or to where every lane has diverged; returns that step, all written by then.

        Raises Interrupted when asked to stop, even at the last step.
        """
        step, budget = self.meta["step"], 1
        self.began = self.flushed = self.saved = time.monotonic()
        pending: tuple[ChunkPlan, int, Any] | None = None
        with stop_signals() as stop:
            while True:
                more = step < self.steps and not stop.is_set() and not self._all_ended()
                dispatched = None
                if more:
                    piece = next_chunk(step, self._next_stop(step), self.every, self.room, budget)
                    dispatched = piece, step, self._dispatch(piece, step)
                    step += piece.steps
                if pending is not None:
                    budget = self._keep(*pending, budget)
                pending = dispatched
                pause = step % self.config.train.evaluate_every == 0 or step == self.steps
                due = self._flush_is_due()
                if pending is not None and (pause or due or stop.is_set()):
                    budget = self._keep(*pending, budget)
                    pending = None
                if not more and pending is None:
                    break
                if pending is None and pause:
                    self._evaluate(step)
                if pending is None and due:
                    self._flush(step, "running", last=False)
            ended = self._all_ended()
            if ended:
                step = int(self._last().max())
            if not stop.is_set():
                self._flush(step, "running")
                if self.events:
                    self.events.finish()
            if stop.is_set():  # before it was all written, or meanwhile
                self._flush(step, "interrupted")
                raise Interrupted(f"{self.writer.path}: stopped at step {step} of {self.steps}, and saved")
            return step

    def _next_stop(self, step: int) -> int:
        every = self.config.train.evaluate_every
        return min((step // every + 1) * every, self.steps)

    def _dispatch(self, piece: ChunkPlan, done: int) -> Any:
        self.dispatched = time.monotonic()
        if piece.recorded:
            self.state, log = self.compiled.chunk(*self._arguments(piece, done))
            return log
        batches = np.zeros((self.room[1], len(self.batches.seeds), self.config.train.batch_size), np.int32)
        for j in range(piece.steps):
            batches[j] = self.batches.at(done + j)
        placed = put((batches, np.int32(piece.steps)), self.mesh)
        self.state, scalars = self.compiled.plain(self.state, self.lane, self.data, *placed)
        return scalars

    def _keep(self, piece: ChunkPlan, done: int, log: Any, budget: int) -> int:
        """Waits for a piece's report, keeps its rows, and returns how many periods the next piece should have."""
        log = jax.tree.map(np.asarray, jax.block_until_ready(log))
        now = time.monotonic()
        seconds = now - max(self.dispatched, self.kept)
        self.kept = now
        rows = rows_of(piece, done, log)
        self.rows.append(rows)
        self.unsaved = True
        self.bytes_in_rows += rows.bytes
        for lane, step in rows.first_bad().items():
            if lane < len(self.seats):
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
            train_loss=float(rows.scalars["train_loss"][-1, : len(self.seats)].mean()),
            train_accuracy=float(rows.scalars["train_accuracy"][-1, : len(self.seats)].mean()),
            delta_log10=last,
        )
        self.watch(self.progress)
        wanted = speed * CHUNK_SECONDS / self.every
        return int(min(max(1, wanted), 2 * budget, self.room[0]))

    def _last(self) -> np.ndarray:
        """The last step of each lane that is wanted, [R]: where the last lane of its cell diverged, if all of them
        did."""
        if not self.config.train.stop_when_diverged:
            return np.full(len(self.seats), NEVER)
        last = np.zeros(self.cells.max() + 1, np.int64)
        np.maximum.at(last, self.cells, self.bad_since)
        return last[self.cells]

    def _all_ended(self) -> bool:
        return bool((self._last() < NEVER).all())

    def _evaluate(self, step: int) -> None:
        """Evaluates every lane on the held-out splits, and writes the figures to the row of the last step."""
        if not self.rows or self.rows[-1].steps[-1] != step:
            return
        figures: dict[str, np.ndarray] = {}
        for name, images in self.held_out.items():
            loss, accuracy = self.compiled.evaluate(self.state, images)
            figures |= {f"{name}_loss": np.asarray(loss), f"{name}_accuracy": np.asarray(accuracy)}
        if self.compiled.examine:
            figures[DEAD_UNITS] = np.asarray(self.compiled.examine(self.state, self.lane, self.data))
        self.rows[-1] = self.rows[-1]._replace(evaluated=figures)
        self.progress = self.progress._replace(
            test_accuracy=float(figures["test_accuracy"][: len(self.seats)].mean()), evaluated=step
        )
        self.kept = time.monotonic()
        self.watch(self.progress)

    def _flush_is_due(self) -> bool:
        now = time.monotonic()
        seconds = min(max(FLUSH_SECONDS, (now - self.began) / 100), MAX_FLUSH_SECONDS)
        return now - self.flushed > seconds or self.bytes_in_rows > FLUSH_BYTES

    def _flush(self, step: int, status: str, last: bool = True) -> None:
        """Writes the rows so far, and a checkpoint, from which a killed run goes on, if it is time for one."""
        if self.rows:
            about = self.config.train.precision, self.lanes, self._last(), self.layers, self.steps_per_epoch
            written = tables(self.rows, *about, examined=self.compiled.examine is not None)
            self.writer.append(*written)
            if self.events:
                self.events.append(*written)
            self.rows, self.bytes_in_rows = [], 0
        began = time.monotonic()
        if self.unsaved and (last or began - self.saved > self.checkpoint_seconds / CHECKPOINT_SHARE):
            checkpoint.save(self.writer.path / self.account.checkpoint, step, self.state)
            self.unsaved, self.saved = False, time.monotonic()
            self.checkpoint_seconds = self.saved - began
        self.note(step, status)
        self.flushed = time.monotonic()

    def note(self, step: int, status: str) -> None:
        """Writes how far the round is."""
        now = time.monotonic()
        speeds = list(self.speeds)[1:] or self.speeds
        self.meta |= {"status": status, "step": step, "seconds": self.meta["seconds"] + now - self.started}
        self.meta["steps_per_second"] = median(speeds) if speeds else self.meta["steps_per_second"]
        self.started = now
        self.writer.write_json(self.account.file, self.meta)


def steps_of(config: Config, dataset: Dataset) -> int:
    """Returns how many steps a run has."""
    return config.train.steps or (config.train.epochs or 0) * (len(dataset.train.labels) // config.train.batch_size)
