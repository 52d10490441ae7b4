"""A sweep from its grid to its tables: plan the rounds, run them one after the other, keep the account."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vgx.config.schema import Config
from vgx.config.sweep import Cell, Sweep, differences, load_sweep, value_at
from vgx.data import Dataset
from vgx.devices import (
    Device,
    Platform,
    describe,
    find_devices,
    keep_compiled_programs,
    matmul_precision,
    memory_for_lanes,
    numerics,
)
from vgx.errors import Damaged, RunError, VgxError
from vgx.export import tensorboard
from vgx.results import directories
from vgx.results.cell_configs import write_cell_configs
from vgx.results.lane_results import judge_lanes
from vgx.results.reading import FORMAT
from vgx.results.store import LaneResult, Run
from vgx.results.writer import RunWriter
from vgx.runner import checkpoint
from vgx.runner.loop import LaneSpec, Loop, ProgramCache, ProgressPaths, TrainingProgress, steps_of
from vgx.runner.plan import plan_rounds, seconds_for
from vgx.runner.predictions import PredictionWriter
from vgx.runner.rounds import PENDING, SweepState
from vgx.runner.stopping import Interrupted, ending_noted
from vgx.runner.train import load_data, now


class SweepProgress(NamedTuple):
    """What a watcher is told whenever something happened."""

    rounds: int
    rounds_done: int
    programs: int
    lanes: int
    lanes_done: int
    run_steps: float
    """Steps times lanes, of the whole sweep."""
    run_steps_done: float
    seconds_left: float
    """About; NaN before anything is known."""
    config: Config | None
    """Of the first lane of the round that runs."""
    current: TrainingProgress | None
    """Of that round."""
    note: str
    """What went wrong just now, if anything."""


Watch = Callable[[SweepProgress], None]


class Plan(NamedTuple):
    """What a sweep would do."""

    path: Path
    cells: int
    seeds: int
    lanes: int
    done: int
    """Lanes that are done already."""
    programs: int
    rounds: int
    room: int
    """Lanes of the largest round."""
    run_steps: float
    devices: list[str]
    bytes: int
    """About what the largest round takes, at the most."""
    seconds: float
    """About how long it takes."""


def sweep_path(sweep: Sweep, runs: str | Path = "runs") -> Path:
    """Returns the directory of a sweep: one of the same name and axes has the same, whatever their values."""
    return Path(runs) / sweep.folder


def plan(sweep: Sweep, *, runs: str | Path = "runs", device: Platform | None = None, memory: int | None = None) -> Plan:
    """Returns what `sweep` would do, without doing it. Raises as `sweep` does."""
    path = sweep_path(sweep, runs)
    done: set[tuple[str, int]] = set()
    directories.recover(path.parent, path.name)
    if path.exists():
        sweep = _grown(path, sweep)
        done = {(row["cell"], row["seed"]) for row in Run(path).lanes().to_pylist() if row["status"] not in PENDING}
    devices = find_devices(device, 2)
    data = _Data(sweep)
    seeds = sweep.base.seed_list
    left = [cell.config for cell in sweep.cells for seed in seeds if (cell.key, seed) not in done]
    rounds = plan_rounds(list(enumerate(left)), data, len(devices), memory or memory_for_lanes(devices))
    return Plan(
        path=path,
        cells=len(sweep.cells),
        seeds=len(seeds),
        lanes=len(left),
        done=len(sweep.cells) * len(seeds) - len(left),
        programs=len({planned.program for planned in rounds}),
        rounds=len(rounds),
        room=max((planned.room for planned in rounds), default=0),
        run_steps=float(sum(len(planned.lanes) * planned.steps for planned in rounds)),
        devices=[f"{device.platform}: {device.device_kind}" for device in devices],
        bytes=max((planned.bytes for planned in rounds), default=0),
        seconds=seconds_for(rounds, len(devices)) if rounds else 0.0,
    )


def sweep(
    sweep: Sweep,
    *,
    runs: str | Path = "runs",
    overwrite: bool = False,
    retry_failed: bool = False,
    device: Platform | None = None,
    memory: int | None = None,
    watch: Watch | None = None,
) -> Run:
    """Runs every cell of a sweep once per seed, cells that share a program side by side, and returns the run.

    A sweep whose directory exists goes on: what is done is kept, what was cut off resumes to the same bits, cells and
    seeds that are new are added.

    Args:
        sweep: what `load_sweep` returns.
        runs: the folder that the run directory is made in.
        overwrite: starts again from nothing.
        retry_failed: tries the lanes again that failed.
        device: cpu, gpu or tpu; jax's own choice when None. Lanes are spread over all devices of the kind.
        memory: bytes that the lanes of a round may take, on all devices together; half of what is free when None.
        watch: called with a `SweepProgress` whenever something happened.

    Raises:
        DataError: a data set is missing or broken, or smaller than a batch.
        RunError: the directory's base config is another, or another process writes it.
        EnvironmentFault: no such device, the disk refuses, or a library is missing that a config asks for.
        Interrupted: Ctrl-C or SIGTERM came; everything is saved.
    """
    path = sweep_path(sweep, runs)
    directories.ready(path, overwrite)
    if any(cell.config.log.tensorboard for cell in sweep.cells):
        tensorboard.check()
    keep_compiled_programs()
    devices = find_devices(device, 2)
    data = _Data(sweep)
    writer = _opened(path, sweep, devices, overwrite)
    with closing(writer):
        sweep = _grown(path, sweep)
        writer.write_text("config.yaml", sweep.to_yaml())
        write_cell_configs(writer, {cell.key: cell.config for cell in sweep.cells})
        _Sweeping(sweep, data, devices, memory, writer, watch or (lambda progress: None)).run(retry_failed)
    return Run(path)


class _Data:
    """The data sets of a sweep, each read once; every cell's batch fits."""

    def __init__(self, sweep: Sweep):
        self.sets: dict[str, Dataset] = {}
        for config in {(cell.config.data, cell.config.train.batch_size): cell.config for cell in sweep.cells}.values():
            self.sets[repr(config.data)] = load_data(config)

    def __call__(self, config: Config) -> Dataset:
        if repr(config.data) not in self.sets:
            self.sets[repr(config.data)] = load_data(config)
        return self.sets[repr(config.data)]


def _opened(path: Path, sweep: Sweep, devices: list[Device], overwrite: bool) -> RunWriter:
    """Makes the directory, or opens the one that is there."""
    if directories.occupied(path) and not overwrite:
        Run(path)
        return RunWriter(path)
    meta = {
        "status": "running",
        "step": 0,
        "started": now(),
        **describe(devices),
        "precision": sweep.base.train.precision,
        "matmul_precision": matmul_precision(sweep.base.train.precision),
        "seconds": 0.0,
        "compile_seconds": 0.0,
        "steps_per_second": None,
        **dict.fromkeys(("lanes", "lanes_done", "programs", "rounds", "rounds_done"), 0),
    }
    return RunWriter.create(path, sweep.to_yaml(), meta, overwrite)


def _grown(path: Path, sweep: Sweep) -> Sweep:
    """Returns the sweep with the cells and seeds that its directory has besides. Raises RunError for another base."""
    old = load_sweep(path / "config.yaml")
    if lines := differences(old.base, sweep.base):
        raise RunError(
            f"{path}: this sweep began with another base config:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\n--overwrite starts again; --set name=NEW keeps both"
        )
    here = {cell.key for cell in sweep.cells}
    others = tuple(cell for cell in old.cells if cell.key not in here)
    seeds = list(dict.fromkeys((*old.base.seed_list, *sweep.base.seed_list)))
    count = seeds == list(range(len(seeds)))
    modules = tuple(dict.fromkeys((*old.base.modules, *sweep.base.modules)))
    base = sweep.base.model_copy(update={"seeds": len(seeds) if count else seeds, "modules": modules})
    explicit = [*sweep.explicit, *(cell.overlay for cell in others)]
    return Sweep(base, sweep.axes, explicit, (*sweep.cells, *others))


class _Sweeping:
    """The rounds of a sweep, one after the other."""

    def __init__(
        self,
        sweep: Sweep,
        data: _Data,
        devices: list[Device],
        memory: int | None,
        writer: RunWriter,
        watch: Watch,
    ):
        self.sweep, self.data, self.devices, self.writer, self.watch = sweep, data, devices, writer, watch
        self.memory = memory or memory_for_lanes(devices)
        self.cells: dict[str, Cell] = {cell.key: cell for cell in sweep.cells}
        self.ledger = SweepState(writer)
        self.shelf = ProgramCache()
        known = {name: value for name, value in Run(writer.path).meta.items() if name != "error"}
        self.meta = known | {"format": FORMAT}
        self.began = time.monotonic()
        self.before: float | None = None
        self.note = ""

    def run(self, retry_failed: bool) -> None:
        paths = self.sweep.paths
        options = {cell.key: {path: value_at(cell.config, path) for path in paths} for cell in self.sweep.cells}
        wanted = [(cell.key, seed) for cell in self.sweep.cells for seed in self.sweep.base.seed_list]
        if strangers := {lane["cell"] for lane in self.ledger.lanes} - set(self.cells):
            raise Damaged(
                self.writer.path / "lanes.parquet", f"has a cell {min(strangers)} that is none of the sweep's"
            )
        self.ledger.add_lanes(wanted, options)
        Run(self.writer.path).check()
        for number in self.ledger.lost_results():
            self._judge_again(number)
        if retry_failed:
            self.ledger.retry_failed()
        lanes = [(lane, self._config(lane)) for lane in self.ledger.unplanned()]
        for planned in plan_rounds(lanes, self.data, len(self.devices), self.memory):
            self.ledger.add_round(planned.program, planned.lanes, planned.room)
        self._write_meta("running")
        with ending_noted(self.writer.path, "the same command goes on", self._note):
            try:
                for number in self.ledger.to_do():
                    self._round(number)
            finally:
                ended = [lane for lane in self.ledger.lanes if lane["status"] in ("done", "diverged")]
                oracle = PredictionWriter(self.data)
                oracle.write(self.writer, {lane["lane"]: self.cells[lane["cell"]].config for lane in ended})
                self.meta["prediction_fault"] = oracle.fault or None
        Run(self.writer.path).check()
        self.meta["ended"] = now()
        self._write_meta("done")
        self._tell(None, None)

    def _config(self, lane: int) -> Config:
        return self.cells[self.ledger.lanes[lane]["cell"]].config

    def _judge_again(self, number: int) -> None:
        """Makes the rows of the lane table again that a round had written, from its tables."""
        state = self.ledger.rounds[number]
        if state["status"] == "failed":
            self.ledger.fail(number, state.get("error", ""), state.get("details", ""))
        else:
            self.ledger.finish(number, self._results(state["lanes"]), state["step"])

    def _results(self, lanes: Sequence[int]) -> list[LaneResult]:
        """How lanes of one program ended."""
        seeds = [self.ledger.lanes[lane]["seed"] for lane in lanes]
        return judge_lanes(Run(self.writer.path), lanes, seeds, len(self._config(lanes[0]).model.widths))

    def _round(self, number: int) -> None:
        """Runs a round to its end, or notes why it cannot be."""
        state = self.ledger.rounds[number]
        try:
            results, step = self._trained(number, state)
        except (Interrupted, VgxError):
            raise
        except Exception as error:
            # A part may be the user's, and memory may end: whatever stops one round must not stop the others.
            text = f"{type(error).__name__}: {error}".splitlines()[0][:500]
            memory = isinstance(error, MemoryError | jax.errors.JaxRuntimeError) and _is_memory(str(error))
            if memory and self.ledger.halve(number, len(self.devices)):
                self.note = f"round {number}: out of memory with {len(state['lanes'])} lanes; trying half as many"
            else:
                self.ledger.fail(number, text, traceback.format_exc())
                self.note = f"round {number}: failed: {text}"
            self._tell(None, None)
            return
        self.ledger.finish(number, results, step)
        self._write_meta("running")

    def _trained(self, number: int, state: dict[str, Any]) -> tuple[list[Any], int]:
        cells = [self.ledger.lanes[lane]["cell"] for lane in state["lanes"]]
        order = list(dict.fromkeys(cells))
        seats = [
            LaneSpec(lane, order.index(cell), self.cells[cell].config, self.ledger.lanes[lane]["seed"])
            for lane, cell in zip(state["lanes"], cells, strict=True)
        ]
        config = seats[0].config
        dataset = self.data(config)
        account = ProgressPaths(self.ledger.file(number), self.ledger.checkpoint(number))
        step = checkpoint.newest(self.writer.path / account.checkpoint) or 0
        self.writer.drop_after(step, state["lanes"])
        state |= {"step": step}

        def watch(progress: TrainingProgress) -> None:
            self._tell(seats, progress)

        with numerics(config.train.precision, self.devices[0]):
            loop = Loop(seats, state["room"], dataset, self.devices, self.writer, account, state, watch, self.shelf)
            if loop.bytes > self.memory and len(seats) > len(self.devices):
                raise MemoryError(f"out of memory: {loop.bytes:,} bytes are more than {self.memory:,}")
            try:
                step = loop.run()
            except Interrupted as interrupted:
                raise Interrupted(f"{interrupted}; the same command goes on") from None
            results = self._results(state["lanes"])
            loop.note(step, "running")
        return results, step

    def _tell(self, seats: list[LaneSpec] | None, current: TrainingProgress | None) -> None:
        rounds = self.ledger.rounds.values()
        done = [state for state in rounds if state["status"] not in PENDING]
        total = done_steps = now_steps = 0.0
        for state in rounds:
            config = self._config(state["lanes"][0])
            steps = len(state["lanes"]) * steps_of(config, self.data(config))
            total += steps
            done_steps += steps if state["status"] not in PENDING else 0.0
        if seats and current:
            now_steps = len(seats) * float(current.step)
        if self.before is None:
            self.before = done_steps + now_steps
        seconds = time.monotonic() - self.began
        gained = done_steps + now_steps - self.before
        left = seconds / gained * (total - done_steps - now_steps) if gained > 0 else float("nan")
        self.watch(
            SweepProgress(
                rounds=len(self.ledger.rounds),
                rounds_done=len(done),
                programs=len({state["program"] for state in rounds}),
                lanes=len(self.ledger.lanes),
                lanes_done=sum(len(state["lanes"]) for state in done),
                run_steps=total,
                run_steps_done=done_steps + now_steps,
                seconds_left=left,
                config=seats[0].config if seats else None,
                current=current,
                note=self.note,
            )
        )
        self.note = ""

    def _write_meta(self, status: str) -> None:
        rounds = self.ledger.rounds.values()
        done = [state for state in rounds if state["status"] == "done"]
        run_steps = sum(state["step"] * len(state["lanes"]) for state in done)
        training = sum(state["seconds"] - state["compile_seconds"] for state in done)
        self.meta |= {
            "status": status,
            "step": run_steps,
            "lanes": len(self.ledger.lanes),
            "lanes_done": sum(len(state["lanes"]) for state in done),
            "programs": len({state["program"] for state in rounds}),
            "rounds": len(self.ledger.rounds),
            "rounds_done": len(done),
            "seconds": sum(state["seconds"] for state in rounds),
            "compile_seconds": sum(state["compile_seconds"] for state in rounds),
            "steps_per_second": run_steps / training if training > 0 else None,
        }
        self.writer.write_json("meta.json", self.meta)

    def _note(self, status: str, error: str | None) -> None:
        """Leaves in meta.json how a sweep ended that did not come to its end."""
        self.meta |= {"error": error} if error else {}
        self._write_meta(status)


def _is_memory(message: str) -> bool:
    return "RESOURCE_EXHAUSTED" in message or "out of memory" in message.lower()
