"""A sweep from its grid to its tables: plan the rounds, run them one after the other, keep the account."""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from vgx.config.schema import Config
from vgx.config.sweep import Cell, Sweep, differences, load_sweep, value_at
from vgx.data import Dataset, Source
from vgx.devices import (
    Device,
    PerRun,
    Platform,
    find_devices,
    keep_compiled_programs,
    memory_for_lanes,
    numerics,
    resolve_per_run,
)
from vgx.errors import Damaged, RunError, VgxError
from vgx.results import directories
from vgx.results.cell_configs import write_cell_configs
from vgx.results.lane_results import judge_lanes
from vgx.results.reading import FORMAT
from vgx.results.store import LaneResult, Run
from vgx.results.writer import RunWriter
from vgx.runner import checkpoint
from vgx.runner.expected import with_expectations
from vgx.runner.loop import TrainingResult, train_lanes
from vgx.runner.opening import existing_run, initial_meta, load_data, now, open_writer
from vgx.runner.plan import plan_rounds, seconds_for
from vgx.runner.predictions import Predictions
from vgx.runner.preparation import LaneGroup, LaneSpec, ProgramCache, begin_compiling, steps_of
from vgx.runner.rounds import PENDING, SweepState
from vgx.runner.stopping import Interrupted, ending_noted
from vgx.runner.sweep_progress import ProgressTeller, Watch
from vgx.training.lanes import LANES, spread_over


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
    capacity: int
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


def plan(
    sweep: Sweep,
    *,
    runs: str | Path = "runs",
    device: Platform | None = None,
    devices_per_run: PerRun = 1,
    memory: int | None = None,
) -> Plan:
    """Returns what `sweep` would do, without doing it. Raises as `sweep` does."""
    path = sweep_path(sweep, runs)
    done: set[tuple[str, int]] = set()
    directories.recover(path.parent, path.name)
    if path.exists():
        sweep = _grown(path, sweep)
        done = {(row["cell"], row["seed"]) for row in Run(path).lanes().to_pylist() if row["status"] not in PENDING}
    devices = find_devices(device, 2)
    data = _DataSets(sweep)
    seeds = sweep.base.seed_list
    left = [cell.config for cell in sweep.cells for seed in seeds if (cell.key, seed) not in done]
    rounds = plan_rounds(list(enumerate(left)), data, devices, memory or memory_for_lanes(devices), devices_per_run)
    return Plan(
        path=path,
        cells=len(sweep.cells),
        seeds=len(seeds),
        lanes=len(left),
        done=len(sweep.cells) * len(seeds) - len(left),
        programs=len({planned.program for planned in rounds}),
        rounds=len(rounds),
        capacity=max((planned.capacity for planned in rounds), default=0),
        run_steps=float(sum(len(planned.lanes) * planned.steps for planned in rounds)),
        devices=[f"{device.platform}: {device.device_kind}" for device in devices],
        bytes=max((planned.bytes for planned in rounds), default=0),
        seconds=seconds_for(rounds, devices) if rounds else 0.0,
    )


def sweep(
    sweep: Sweep,
    *,
    runs: str | Path = "runs",
    overwrite: bool = False,
    retry_failed: bool = False,
    device: Platform | None = None,
    devices_per_run: PerRun = 1,
    memory: int | None = None,
    watch: Watch | None = None,
) -> Run:
    """Runs every cell of a sweep once per seed, cells that share a program side by side, and returns the run.

    What the cells expect of their lanes is judged, in the run's `expectations`.

    A sweep whose directory exists goes on: what is done is kept, what was cut off resumes to the same bits, cells and
    seeds that are new are added.

    Args:
        sweep: what `load_sweep` returns.
        runs: the folder that the run directory is made in.
        overwrite: starts again from nothing.
        retry_failed: tries the lanes again that failed.
        device: cpu, gpu or tpu; jax's own choice when None. Lanes are spread over all devices of the kind.
        devices_per_run: how many devices share every batch of a lane, each with a copy of its parameters; `auto`: those
            that the lanes of a program leave free. A sweep that goes on may have others than it began with.
        memory: bytes that the lanes of a round may take, on all devices together; half of what is free when None.
        watch: called with a `SweepProgress` whenever something happened.

    Raises:
        DataError: a data set is missing or broken, or smaller than a batch.
        RunError: the directory's base config is another, another process writes it, or a batch does not divide over
            the devices.
        EnvironmentFault: no such device, too few of them, the disk refuses, or a library is missing that a config
            asks for.
        Interrupted: Ctrl-C or SIGTERM came; everything is saved.
    """
    path, asked = sweep_path(sweep, runs), sweep.cells
    existing_run(path, (cell.config for cell in sweep.cells), overwrite)
    keep_compiled_programs()
    devices = find_devices(device, 2)
    for batch_size in {cell.config.train.batch_size for cell in sweep.cells}:
        resolve_per_run(devices_per_run, len(devices), 1, batch_size)
    data = _DataSets(sweep)
    counts = dict.fromkeys(("lanes", "lanes_done", "programs", "rounds", "rounds_done"), 0)
    writer = open_writer(path, sweep.to_yaml(), initial_meta(sweep.base, devices, devices_per_run) | counts, overwrite)
    with closing(writer):
        sweep = _grown(path, sweep)
        writer.write_text("config.yaml", sweep.to_yaml())
        write_cell_configs(writer, {cell.key: cell.config for cell in sweep.cells})
        _Sweeping(sweep, data, devices, devices_per_run, memory, writer, watch or (lambda progress: None)).run(
            retry_failed
        )
    run, lanes = Run(path), defaultdict(list)
    for row in run.lanes().to_pylist():
        lanes[row["cell"]].append(row["lane"])
    return with_expectations(run, [(cell.config, lanes[cell.key]) for cell in asked], {})


class _DataSets:
    """The data sets of a sweep, each read once; every cell's batch fits."""

    def __init__(self, sweep: Sweep):
        self.sets: dict[Source, Dataset] = {}
        for config in {(cell.config.data, cell.config.train.batch_size): cell.config for cell in sweep.cells}.values():
            self.sets[config.data] = load_data(config)

    def __call__(self, config: Config) -> Dataset:
        if config.data not in self.sets:
            self.sets[config.data] = load_data(config)
        return self.sets[config.data]


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
        data: _DataSets,
        devices: list[Device],
        devices_per_run: PerRun,
        memory: int | None,
        writer: RunWriter,
        watch: Watch,
    ):
        self.sweep, self.data, self.devices, self.writer = sweep, data, devices, writer
        self.devices_per_run: PerRun = devices_per_run
        self.memory = memory or memory_for_lanes(devices)
        self.cells: dict[str, Cell] = {cell.key: cell for cell in sweep.cells}
        self.state = SweepState(writer)
        self.cache, self.predictions = ProgramCache(), Predictions(data)
        known = {name: value for name, value in Run(writer.path).meta.items() if name != "error"}
        self.meta = known | {"format": FORMAT}
        self.progress = ProgressTeller(self.state, self._steps, watch)

    def run(self, retry_failed: bool) -> None:
        """Runs what is left."""
        self._plan(retry_failed)
        self._write_meta("running")
        with ending_noted(self.writer.path, "the same command goes on", self._note):
            try:
                for number in self.state.to_do():
                    self._round(number)
            finally:
                self.cache.close()
                self.state.write_lanes()
                ended = [lane for lane in self.state.lanes if lane["status"] in ("done", "diverged")]
                configs = {lane["lane"]: self._config(lane["lane"]) for lane in ended}
                self.meta["prediction_fault"] = self.predictions.write(self.writer, configs) or None
        Run(self.writer.path).check()
        self.meta["ended"] = now()
        self._write_meta("done")
        self.progress.tell()

    def _plan(self, retry_failed: bool) -> None:
        """Gives every lane a number and every one that is left a round."""
        options = {
            cell.key: {path: value_at(cell.config, path) for path in self.sweep.paths} for cell in self.sweep.cells
        }
        wanted = [(cell.key, seed) for cell in self.sweep.cells for seed in self.sweep.base.seed_list]
        if strangers := {lane["cell"] for lane in self.state.lanes} - set(self.cells):
            raise Damaged(
                self.writer.path / "lanes.parquet", f"has a cell {min(strangers)} that is none of the sweep's"
            )
        self.state.add_lanes(wanted, options)
        Run(self.writer.path).check()
        for number in self.state.lost_results():
            self._judge_again(number)
        if retry_failed:
            self.state.retry_failed()
        lanes = [(lane, self._config(lane)) for lane in self.state.unplanned()]
        for planned in plan_rounds(lanes, self.data, self.devices, self.memory, self.devices_per_run):
            self.state.add_round(planned.program, planned.lanes, planned.capacity)

    def _config(self, lane: int) -> Config:
        return self.cells[self.state.lanes[lane]["cell"]].config

    def _steps(self, lane: int) -> int:
        config = self._config(lane)
        return steps_of(config, self.data(config))

    def _judge_again(self, number: int) -> None:
        """Makes the rows of the lane table again that a round had written, from its tables."""
        state = self.state.rounds[number]
        if state["status"] == "failed":
            self.state.fail(number, state.get("error", ""), state.get("details", ""))
        else:
            self.state.finish(number, self._results(state["lanes"]), state["step"])

    def _results(self, lanes: Sequence[int]) -> list[LaneResult]:
        """How lanes of one program ended."""
        seeds = [self.state.lanes[lane]["seed"] for lane in lanes]
        judged = judge_lanes(Run(self.writer.path), lanes, seeds, len(self._config(lanes[0]).model.widths))
        return [one.result for one in judged]

    def _round(self, number: int) -> None:
        """Runs a round to its end, or notes why it cannot be."""
        lanes = self.state.rounds[number]["lanes"]
        try:
            result = self._train(number)
            results = self._results(lanes)
        except (Interrupted, VgxError):
            raise
        except Exception as error:
            # A part may be the user's, and memory may end: whatever stops one round must not stop the others.
            text = f"{type(error).__name__}: {error}".splitlines()[0][:500]
            memory = isinstance(error, MemoryError | jax.errors.JaxRuntimeError) and _is_memory(str(error))
            if memory and self.state.halve(number, self._mesh(number).shape[LANES]):
                note = f"round {number}: out of memory with {len(lanes)} lanes; trying half as many"
            else:
                self.state.fail(number, text, traceback.format_exc())
                note = f"round {number}: failed: {text}"
            self.progress.tell(note=note)
            return
        self.state.finish(number, results, result.step)
        self._write_meta("running")

    def _group(self, number: int) -> LaneGroup:
        """A round's lanes, from where they stand."""
        state = self.state.rounds[number]
        cells = [self.state.lanes[lane]["cell"] for lane in state["lanes"]]
        order = {cell: i for i, cell in enumerate(dict.fromkeys(cells))}
        specs = [
            LaneSpec(lane, order[cell], self.cells[cell].config, self.state.lanes[lane]["seed"])
            for lane, cell in zip(state["lanes"], cells, strict=True)
        ]
        folder = self.state.checkpoint(number)
        step = checkpoint.newest(self.writer.path / folder) or 0
        return LaneGroup(specs, state["room"], self._mesh(number), self.data(specs[0].config), folder, step)

    def _mesh(self, number: int) -> Mesh:
        """The devices of a round: the same for all rounds of its program."""
        state = self.state.rounds[number]
        batch_size, lanes = self._config(state["lanes"][0]).train.batch_size, max(state["room"], len(state["lanes"]))
        per_run = resolve_per_run(self.devices_per_run, len(self.devices), lanes, batch_size)
        return spread_over(self.devices, len(state["lanes"]), per_run)

    def _train(self, number: int) -> TrainingResult:
        """Trains a round's lanes; meanwhile the next round's program is compiled and theory asked about these."""
        state, group = self.state.rounds[number], self._group(number)
        configs = [spec.config for spec in group.lane_specs]
        self.writer.drop_after(group.step, state["lanes"])

        def report(result: TrainingResult) -> None:
            self.state.update(number, result.added_to(state))

        def meanwhile() -> None:
            with suppress(Exception):  # whatever is wrong with the next round, it will tell itself
                if (upcoming := self.state.next_round(but=number)) is not None:
                    begin_compiling(self._group(upcoming), self.cache)
            self.cache.thread.submit(self.predictions.prepare, configs)

        with numerics(configs[0].train.precision, self.devices[0]):
            watch = partial(self.progress.tell, group.lane_specs)
            about = group, self.writer, report, watch, meanwhile
            return train_lanes(*about, self.cache, self.memory)

    def _write_meta(self, status: str) -> None:
        rounds = self.state.rounds.values()
        done = [state for state in rounds if state["status"] == "done"]
        run_steps = sum(state["step"] * len(state["lanes"]) for state in done)
        training = sum(state["seconds"] - state["compile_seconds"] for state in done)
        self.meta |= {
            "status": status,
            "step": run_steps,
            "lanes": len(self.state.lanes),
            "lanes_done": sum(len(state["lanes"]) for state in done),
            "programs": len({state["program"] for state in rounds}),
            "rounds": len(self.state.rounds),
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
