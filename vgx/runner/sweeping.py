"""The rounds of a sweep, from what is left to do to the account of what was done; here they run one after the other."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import jax

from vgx.config.schema import Config
from vgx.config.sweep import Cell, Sweep, value_at
from vgx.data import Dataset, Source
from vgx.devices import (
    Device,
    PerRun,
    Platform,
    find_devices,
    keep_compiled_programs,
    memory_for_lanes,
    names_of,
    numerics,
)
from vgx.errors import Damaged, VgxError
from vgx.results.files import host
from vgx.results.lane_results import judge_lanes
from vgx.results.reading import FORMAT
from vgx.results.schemas import LaneResult
from vgx.results.store import Run
from vgx.results.writer import RunWriter
from vgx.runner import checkpoint
from vgx.runner.loop import TrainingProgress, TrainingResult, train_lanes
from vgx.runner.opening import load_data, now
from vgx.runner.plan import PlannedRound, plan_rounds
from vgx.runner.predictions import Predictions
from vgx.runner.preparation import LaneGroup, LaneSpec, ProgramCache, bad_steps, begin_compiling, mesh_for, steps_of
from vgx.runner.rounds import SweepState
from vgx.runner.stopping import Interrupted, ending_noted
from vgx.runner.sweep_progress import ProgressTeller, Watch
from vgx.training.lanes import LANES


class DataSets:
    """The data sets of a sweep, each read once; every cell's batch fits."""

    def __init__(self, sweep: Sweep):
        self.sets: dict[Source, Dataset] = {}
        for config in {(cell.config.data, cell.config.train.batch_size): cell.config for cell in sweep.cells}.values():
            self.sets[config.data] = load_data(config)

    def __call__(self, config: Config) -> Dataset:
        if config.data not in self.sets:
            self.sets[config.data] = load_data(config)
        return self.sets[config.data]


class Place(Protocol):
    """Where rounds run: the devices of this machine, or a cluster."""

    devices: list[Device]
    """What a round has to itself, at the most."""
    memory: int
    """Bytes that a round may take on them together."""

    def planned(self, lanes: Sequence[tuple[int, Config]], data: DataSets) -> list[PlannedRound]:
        """Returns the rounds in which to run these lanes."""
        ...

    def run_rounds(self, sweeping: Sweeping) -> None:
        """Runs what is left of a sweep, every round to its end. Raises Interrupted when asked to stop."""


class Sweeping:
    """The rounds of a sweep and the account of them, wherever they run."""

    def __init__(self, sweep: Sweep, data: DataSets, place: Place, writer: RunWriter, watch: Watch | None):
        self.sweep, self.data, self.place, self.writer = sweep, data, place, writer
        self.cells: dict[str, Cell] = {cell.key: cell for cell in sweep.cells}
        self.state = SweepState(writer)
        self.predictions = Predictions(data)
        known = {name: value for name, value in Run(writer.path).meta.items() if name != "error"}
        self.meta = known | {"format": FORMAT}
        self.progress = ProgressTeller(self.state, self._steps, watch or (lambda progress: None))

    def run(self, retry_failed: bool) -> None:
        """Runs what is left."""
        self._plan(retry_failed)
        self._write_meta("running")
        with ending_noted(self.writer.path, "the same command goes on", self._note):
            try:
                self.place.run_rounds(self)
            finally:
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
        for planned in self.place.planned(lanes, self.data):
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

    def end_round(self, number: int, step: int) -> None:
        """Judges the lanes of a round whose tables are whole, and notes how they ended."""
        self.state.finish(number, self._results(self.state.rounds[number]["lanes"]), step)
        self._write_meta("running")

    def give_up_round(self, number: int, text: str, details: str, memory: bool, devices: int) -> None:
        """Notes why a round cannot be run; where `memory` did not suffice on so many devices, it is halved instead."""
        lanes = len(self.state.rounds[number]["lanes"])
        if memory and self.state.halve(number, devices):
            note = f"round {number}: out of memory with {lanes} lanes; trying half as many"
        else:
            self.state.fail(number, text, details)
            note = f"round {number}: failed: {text}"
        self.progress.tell(note=note)

    def group(self, number: int) -> LaneGroup:
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
        return LaneGroup(specs, state["room"], self.data(specs[0].config), folder, step)

    def begin_round(self, number: int, where: str, devices: Sequence[str]) -> LaneGroup:
        """Returns a round's lanes, ready to train from where they stand.

        What was written since their checkpoint is forgotten, and on which host and devices they go on is noted.
        """
        group, lanes = self.group(number), self.state.rounds[number]["lanes"]
        self.writer.drop_after(group.step, lanes)
        ran_on = [one for one in self.state.rounds[number].get("ran_on", []) if one["from_step"] < group.step]
        place = {"host": where, "devices": list(devices)}
        if not ran_on or ran_on[-1] != {**ran_on[-1], **place}:
            ran_on.append(place | {"from_step": group.step})
        self.state.update(number, {"ran_on": ran_on})
        return group._replace(bad_since=bad_steps(Run(self.writer.path), lanes)) if group.step else group

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


class Here:
    """The devices of this machine, all of them for one round after the other."""

    def __init__(self, device: Platform | None, per_run: PerRun, memory: int | None):
        keep_compiled_programs()
        self.devices = find_devices(device, 2)
        self.per_run: PerRun = per_run
        self.memory, self.cache = memory or memory_for_lanes(self.devices), ProgramCache()

    def planned(self, lanes: Sequence[tuple[int, Config]], data: DataSets) -> list[PlannedRound]:
        return plan_rounds(lanes, data, self.devices, self.memory, self.per_run)

    def run_rounds(self, sweeping: Sweeping) -> None:
        try:
            for number in sweeping.state.to_do():
                self._round(sweeping, number)
        finally:
            self.cache.close()

    def _round(self, sweeping: Sweeping, number: int) -> None:
        """Runs a round to its end, or notes why it cannot be."""
        try:
            result = self._train(sweeping, number)
            sweeping.end_round(number, result.step)
        except (Interrupted, VgxError):
            raise
        except Exception as error:
            # A part may be the user's, and memory may end: whatever stops one round must not stop the others.
            at_once = mesh_for(sweeping.group(number), self.devices, self.per_run).shape[LANES]
            sweeping.give_up_round(number, *in_short(error), at_once)

    def _train(self, sweeping: Sweeping, number: int) -> TrainingResult:
        """Trains a round's lanes; meanwhile the next round's program is compiled and theory asked about these."""
        group = sweeping.begin_round(number, host(), names_of(self.devices))
        configs, state = [spec.config for spec in group.lane_specs], sweeping.state.rounds[number]

        def report(result: TrainingResult) -> None:
            sweeping.state.update(number, result.added_to(state))

        def watch(current: TrainingProgress) -> None:
            sweeping.progress.tell([(group.lane_specs, current)])

        def meanwhile() -> None:
            with suppress(Exception):  # whatever is wrong with the next round, it will tell itself
                if (upcoming := sweeping.state.next_round(but=number)) is not None:
                    group = sweeping.group(upcoming)
                    begin_compiling(group, mesh_for(group, self.devices, self.per_run), self.cache)
            self.cache.thread.submit(sweeping.predictions.prepare, configs)

        with numerics(configs[0].train.precision, self.devices[0]):
            mesh = mesh_for(group, self.devices, self.per_run)
            about = group, mesh, sweeping.writer, report, watch, meanwhile
            return train_lanes(*about, self.cache, self.memory)


def in_short(error: Exception) -> tuple[str, str, bool]:
    """Returns why a round cannot be run, in a line and with the traceback, and whether it is for want of memory."""
    text = f"{type(error).__name__}: {error}".splitlines()[0][:500]
    memory = isinstance(error, MemoryError | jax.errors.JaxRuntimeError) and _is_memory(str(error))
    return text, traceback.format_exc(), memory


def _is_memory(message: str) -> bool:
    return "RESOURCE_EXHAUSTED" in message or "out of memory" in message.lower()
