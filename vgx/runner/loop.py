"""The host's side of training: feed the devices, keep what they report, evaluate and save at the right moments."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import pyarrow as pa
from jax.sharding import Mesh

from vgx.export.tensorboard import LiveEvents
from vgx.results.store import Run
from vgx.runner import checkpoint, processes
from vgx.runner.evaluations import evaluated, has_spectrum, is_evaluated, next_pause, spectra_of
from vgx.runner.preparation import NEVER, LaneGroup, Prepared, ProgramCache, prepare, steps_of
from vgx.runner.stopping import Interrupted, stop_signals
from vgx.runner.tables import Rows, SpectraRows, rows_of, spectrum_table, tables
from vgx.training.batches import ChunkPlan, next_chunk
from vgx.training.lanes import LANES
from vgx.training.step import State

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


class TrainingResult(NamedTuple):
    """How far lanes have come, all of it on disk."""

    status: str
    """running or interrupted."""
    step: int
    seconds: float
    """Since this process began with them."""
    compile_seconds: float
    steps_per_second: float | None
    """The median over chunks; None before the first."""
    progress: TrainingProgress

    def added_to(self, before: dict[str, Any]) -> dict[str, Any]:
        """Returns the values for the run's or the round's file, added to those that it had `before`."""
        speed = self.steps_per_second
        return {
            "status": self.status,
            "step": self.step,
            "seconds": before["seconds"] + self.seconds,
            "compile_seconds": before["compile_seconds"] + self.compile_seconds,
            "steps_per_second": before["steps_per_second"] if speed is None else speed,
        }


Watch = Callable[[TrainingProgress], None]
Report = Callable[[TrainingResult], None]
"""Writes down how far lanes have come, whenever a part of their tables is on disk."""


class TableWriter(Protocol):
    """What keeps the tables of lanes while they train: a `RunWriter`, or what sends them to one."""

    path: Path
    """The directory that their checkpoint lies in."""

    def append(self, metrics: pa.Table, layers: pa.Table, spectrum: pa.Table | None = None) -> None:
        """Keeps the next part of the tables."""


class _Disk:
    """A thread that writes, a part at a time, while the devices work on."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "write")
        self._part: Future[TrainingResult] | None = None

    @property
    def busy(self) -> bool:
        return self._part is not None and not self._part.done()

    @property
    def failed(self) -> bool:
        return self._part is not None and self._part.done() and self._part.exception() is not None

    def begin(self, write: Callable[[], TrainingResult]) -> Future[TrainingResult]:
        self._part = self._thread.submit(write)
        return self._part

    def wait(self) -> None:
        """Waits until the last part is on disk. Raises what went wrong with it."""
        if self._part is not None:
            self._part.result()

    def close(self) -> None:
        self._thread.shutdown()


@dataclass
class _Loop:
    """What changes while lanes train."""

    ready: Prepared
    writer: TableWriter | None
    """None in a process that trains beside the one that writes."""
    checkpoint: Path | None
    report: Report
    watch: Watch
    events: LiveEvents | None
    disk: _Disk
    meanwhile: Callable[[], object]
    progress: TrainingProgress
    state: State
    began: float
    """When training began; the other times are those of the last flush, checkpoint and report."""
    flushed: float
    saved: float
    started: float
    """When preparation began."""
    kept: float = 0.0
    checkpoint_seconds: float = 0.0
    rows: list[Rows] = field(default_factory=list)
    """Not on their way to disk yet."""
    spectra: list[SpectraRows] = field(default_factory=list)
    """Not on their way to disk yet, either."""
    bytes_in_rows: int = 0
    unsaved: bool = False
    """Whether there were steps since the last checkpoint."""
    speeds: deque[float] = field(default_factory=lambda: deque(maxlen=SPEEDS))


def train_lanes(
    group: LaneGroup,
    mesh: Mesh,
    writer: TableWriter | None,
    report: Report,
    watch: Watch,
    meanwhile: Callable[[], object],
    cache: ProgramCache,
    memory: int | None = None,
    stop: Event | None = None,
) -> TrainingResult:
    """Trains lanes to the last step, or to where every one has diverged, and returns how far; all is written by then.

    Several processes may train them together, of which one has a writer. `meanwhile` is called when the devices have
    begun: what it begins in a thread does not keep them waiting. `stop` is set by who asks to stop, where that is not
    a signal to this process.

    Raises Interrupted when asked to stop, even at the last step, and MemoryError when more lanes than are worked on at
    once take more than `memory` bytes.
    """
    started, lanes = time.monotonic(), len(group.lane_specs)
    steps = steps_of(group.lane_specs[0].config, group.dataset)
    progress = TrainingProgress("compiling", group.step, steps, 0.0, lanes, math.nan, math.nan, math.nan, 0, None)
    watch(progress)
    path = writer.path if writer else None
    ready = prepare(group, mesh, path, cache)
    if memory is not None and ready.bytes > memory and lanes > mesh.shape[LANES]:
        raise MemoryError(f"out of memory: {ready.bytes:,} bytes are more than {memory:,}")
    pairs = [(spec.lane, spec.seed) for spec in group.lane_specs]
    events = LiveEvents(Run(path), pairs, group.step) if path and ready.config.log.tensorboard else None
    now, folder = time.monotonic(), path and path / group.checkpoint
    disk = _Disk()
    about = ready, writer, folder, report, watch, events, disk, meanwhile, progress, ready.state
    loop = _Loop(*about, began=now, flushed=now, saved=now, started=started)
    with closing(disk), stop_signals(stop) as stop:
        step, stopped = _train(loop, group.step, stop.is_set)
        result = None
        if not stopped:
            _begin_meanwhile(loop)  # where no step was left
            result = _flush(loop, step, "running", save=True).result()
            if events:
                events.finish()
        if processes.agreed(stop.is_set(), any) or result is None:  # before it was all written, or meanwhile
            _flush(loop, step, "interrupted", save=True).result()
            where = path or f"process {jax.process_index()}"
            raise Interrupted(f"{where}: stopped at step {step} of {steps}, and saved")
    return result


class _Decision(NamedTuple):
    """What depends on a clock or on a signal, and what all processes must do alike."""

    stop: bool
    flush: bool
    save: bool
    periods: int
    """Of the next chunk."""


def _decide(loop: _Loop, stop: bool, periods: int, pending: Any) -> _Decision:
    """The first process decides, and each may stop all."""
    if processes.several():
        jax.block_until_ready(pending)
    save = time.monotonic() - loop.saved > loop.checkpoint_seconds / CHECKPOINT_SHARE
    mine = _Decision(stop, _flush_is_due(loop), save, periods)
    return processes.agreed(mine, lambda each: each[0]._replace(stop=any(one.stop for one in each)))


def _train(loop: _Loop, step: int, stopped: Callable[[], bool]) -> tuple[int, bool]:
    """Dispatches a chunk, keeps what the one before reported, and so on; returns the last step, and whether it was
    asked to stop there."""
    ready, budget = loop.ready, 1
    steps = ready.steps
    pending: tuple[ChunkPlan, int, float, Any] | None = None
    if step == 0:
        _look(loop, step)
    while True:
        decided = _decide(loop, stopped(), budget, pending)
        more = step < steps and not decided.stop and not _all_ended(ready)
        dispatched = None
        if more:
            stop = next_pause(ready.config, step, steps)
            plan = next_chunk(step, stop, ready.every, ready.shape.capacity, decided.periods)
            dispatched = plan, step, time.monotonic(), _dispatch(loop, plan, step)
            step += plan.steps
        if pending is not None:
            budget = _keep(loop, *pending, decided.periods)
        pending = dispatched
        pause = is_evaluated(ready.config, step, steps) or has_spectrum(ready.config, step, steps)
        if pending is not None and (pause or decided.flush):
            budget = _keep(loop, *pending, budget)
            pending = None
        if not more and pending is None:
            break
        if pending is None and pause:
            _look(loop, step)
        if pending is None and decided.flush:
            _flush(loop, step, "running", save=decided.save)
    return int(_last_steps(ready).max()) if _all_ended(ready) else step, decided.stop


def _dispatch(loop: _Loop, plan: ChunkPlan, done: int) -> Any:
    """Has the devices do a chunk after step `done`; returns what it will report."""
    ready = loop.ready
    if plan.recorded:
        loop.state, log = ready.compiled.chunk(*ready.arguments(loop.state, plan, done))
    else:
        loop.state, log = ready.compiled.plain(*ready.plain_arguments(loop.state, plan, done))
    _begin_meanwhile(loop)
    return log


def _begin_meanwhile(loop: _Loop) -> None:
    loop.meanwhile()
    loop.meanwhile = lambda: None


def _keep(loop: _Loop, plan: ChunkPlan, done: int, dispatched: float, log: Any, budget: int) -> int:
    """Waits for the report of a chunk that was `dispatched` after step `done`, keeps its rows, and returns how many
    periods the next chunk should have."""
    log = processes.on_host(jax.block_until_ready(log))
    now, ready = time.monotonic(), loop.ready
    seconds = now - max(dispatched, loop.kept)
    loop.kept, loop.unsaved = now, True
    rows = rows_of(plan, done, log)
    loop.rows.append(rows)
    loop.bytes_in_rows += rows.bytes
    lanes = len(ready.lane_specs)
    for lane, step in rows.first_bad().items():
        if lane < lanes:
            ready.bad_since[lane] = min(ready.bad_since[lane], step)
    speed = plan.steps / max(seconds, 1e-9)
    loop.speeds.append(speed)
    deltas = rows.layers.get("stream_grad_log10", rows.layers.get("delta_log10"))
    loop.progress = loop.progress._replace(
        phase="training",
        step=done + plan.steps,
        steps_per_second=speed,
        train_loss=float(rows.scalars["train_loss"][-1, :lanes].mean()),
        train_accuracy=float(rows.scalars["train_accuracy"][-1, :lanes].mean()),
        delta_log10=loop.progress.delta_log10 if deltas is None or not len(deltas) else deltas[-1, 0, :-1],
    )
    loop.watch(loop.progress)
    wanted = speed * CHUNK_SECONDS / ready.every
    return int(min(max(1, wanted), 2 * budget, ready.shape.capacity[0]))


def _last_steps(ready: Prepared) -> np.ndarray:
    """The last step of each lane that is wanted, [R]: where the last lane of its cell diverged, if all of them did."""
    if not ready.config.train.stop_when_diverged:
        return np.full(len(ready.lane_specs), NEVER)
    cells = np.unique([spec.cell for spec in ready.lane_specs], return_inverse=True)[1]
    last = np.zeros(cells.max() + 1, np.int64)
    np.maximum.at(last, cells, ready.bad_since)
    return last[cells]


def _all_ended(ready: Prepared) -> bool:
    return bool((_last_steps(ready) < NEVER).all())


def _look(loop: _Loop, step: int) -> None:
    """Measures what is due after a step, and writes the figures to that step's row."""
    ready, steps = loop.ready, loop.ready.steps
    if step and (not loop.rows or loop.rows[-1].steps[-1] != step):
        return
    figures: dict[str, np.ndarray] = {}
    if is_evaluated(ready.config, step, steps):
        figures = evaluated(ready, loop.state, loop.rows[-1].scalars["learning_rate"][-1])
        accuracy = float(figures["test_accuracy"][: len(ready.lane_specs)].mean())
        loop.progress = loop.progress._replace(test_accuracy=accuracy, evaluated=step)
    if has_spectrum(ready.config, step, steps):
        singular_values, means = spectra_of(ready, loop.state)
        loop.spectra.append(SpectraRows(step, singular_values))
        figures |= means
    if step:
        loop.rows[-1] = loop.rows[-1]._replace(evaluated=figures)
        loop.kept = time.monotonic()
        loop.watch(loop.progress)


def _flush_is_due(loop: _Loop) -> bool:
    now = time.monotonic()
    seconds = min(max(FLUSH_SECONDS, (now - loop.began) / 100), MAX_FLUSH_SECONDS)
    late = now - loop.flushed > seconds and not loop.disk.busy
    return late or loop.bytes_in_rows > FLUSH_BYTES or loop.disk.failed


def _flush(loop: _Loop, step: int, status: str, *, save: bool) -> Future[TrainingResult]:
    """Has the rows so far written, and, if wanted, a checkpoint, from which a killed run resumes.

    Returns what is reported once they are on disk. Raises what went wrong with the rows before.
    """
    loop.disk.wait()
    saves = loop.unsaved and save
    state = processes.on_host(loop.state) if saves else None
    speeds = list(loop.speeds)[1:] or loop.speeds
    speed = median(speeds) if speeds else None
    result = TrainingResult(status, step, 0.0, loop.ready.seconds, speed, loop.progress)
    part = loop.disk.begin(partial(_write, loop, loop.rows, loop.spectra, _last_steps(loop.ready), state, result))
    loop.spectra = []
    loop.rows, loop.bytes_in_rows, loop.flushed = [], 0, time.monotonic()
    loop.unsaved = loop.unsaved and not saves
    return part


def _write(
    loop: _Loop, rows: list[Rows], spectra: list[SpectraRows], last: np.ndarray, state: Any, result: TrainingResult
) -> TrainingResult:
    """Writes a part of the tables, a checkpoint of the `state` at its end unless that is None, and the report."""
    ready = loop.ready
    if loop.writer is None or loop.checkpoint is None:
        return result
    if rows:
        lanes, branches = np.array([spec.lane for spec in ready.lane_specs]), ready.config.model.branches
        precision = ready.config.train.precision
        about = precision, lanes, last, branches, ready.steps_per_epoch
        written = tables(rows, *about, asked=ready.measures)
        of_spectra = spectrum_table(spectra, precision, lanes, last, ready.config, len(ready.data.labels))
        loop.writer.append(*written, of_spectra)
        if loop.events:
            loop.events.append(*written)
    if state is not None:
        began = time.monotonic()
        checkpoint.save(loop.checkpoint, result.step, state)
        loop.saved = time.monotonic()
        loop.checkpoint_seconds = loop.saved - began
    result = result._replace(seconds=time.monotonic() - loop.started)
    loop.report(result)
    return result
