"""The rounds of a sweep on a cluster: handed to workers as they are free, taken in by the driver as they are told."""

# Ray is an extra: it may not be here.
# pyright: reportMissingImports=false

from __future__ import annotations

import io
import sys
import time
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vgx.config.schema import Config
from vgx.devices import PerRun, Platform
from vgx.errors import EnvironmentFault, RunError
from vgx.export.tensorboard import LiveEvents
from vgx.results.store import Run
from vgx.runner import checkpoint
from vgx.runner.cluster.connection import connected
from vgx.runner.cluster.messages import Batch, Checkpoint, Ended, Message, Order, Part, RemoteDevice, Report, Setup
from vgx.runner.cluster.pool import Hand, Lost, Pool
from vgx.runner.plan import PlannedRound, plan_rounds
from vgx.runner.rounds import PENDING
from vgx.runner.stopping import Interrupted, stop_signals
from vgx.runner.sweeping import DataSets, Sweeping

WAIT_SECONDS = 0.5
LOSSES = 8
"""How often in a row a round may lose its worker without a checkpoint between, before it is given up."""


LOW_MEMORY = "running low on memory"
"""What Ray says where it ended a worker itself for want of memory. That the system may have, it says of any kill."""


class Cluster:
    """A Ray cluster, as the place where rounds run. A context: within it the cluster is joined."""

    def __init__(self, on: str, device: Platform | None, per_run: PerRun, memory: int | None, modules: Sequence[str]):
        self.on, self.asked_memory, self.modules = on, memory, tuple(modules)
        self.per_run: PerRun = per_run
        self.device: Platform | None = device
        self.devices: list[RemoteDevice] = []
        self.memory = 0
        self.losses: dict[int, tuple[int, int]] = {}
        """Of rounds: the step at which they lost a worker last, and how often in a row at that."""
        self.sets: dict[str, Any] = {}
        """The data sets that workers can fetch, by their digest."""
        self.account = {"table_bytes": 0, "checkpoint_bytes": 0, "checkpoints": 0, "driver_seconds": 0.0}
        """What the driver has taken in, and how long that took it."""
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            stack.enter_context(connected(self.on))
            sources = sources_of(self.modules)

            def setup(kind: Platform, cores: int) -> Setup:
                return Setup(kind, cores, self.asked_memory, self.modules, sources)

            self.pool = Pool(self.on, self.device, setup)
            stack.callback(self.pool.close)
            first = self.pool.wait_for_first()
            self.devices, self.memory = first.devices, first.memory
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def planned(self, lanes: Sequence[tuple[int, Config]], data: DataSets) -> list[PlannedRound]:
        return plan_rounds(lanes, data, self.devices, self.memory, self.per_run, self.pool.expected())

    def run_rounds(self, sweeping: Sweeping) -> None:
        with stop_signals() as stop:
            while True:
                left = [number for number, state in sweeping.state.rounds.items() if state["status"] in PENDING]
                busy = [hand for hand in self.pool.hands if hand.round is not None]
                if not left or (stop.is_set() and not busy):
                    break
                self.pool.look()
                if stop.is_set():
                    self._stop_idlers()
                else:
                    self._hand_out(sweeping, left)
                for hand, answer in self.pool.answers(WAIT_SECONDS):
                    self._take(sweeping, hand, answer, stop.is_set())
                self._tell(sweeping)
            if left:
                raise Interrupted(f"{sweeping.writer.path}: stopped with {len(left)} rounds left, and saved")

    def _tell(self, sweeping: Sweeping, note: str = "") -> None:
        """Tells the watcher how far all is, and each note once."""
        notes, self.pool.notes = [note, *self.pool.notes], []
        known = [hand for hand in self.pool.hands if hand.devices]
        about = len({hand.node for hand in known}), sum(len(hand.devices) for hand in known)
        running = [(hand.order.lane_specs, hand.progress) for hand in known if hand.order and hand.progress]
        for one in [one for one in notes if one] or [""]:
            sweeping.progress.tell(running, one, *about)
        sweeping.meta["cluster"] = dict(zip(("nodes", "devices"), about, strict=True)) | self.account

    def _stop_idlers(self) -> None:
        """Ends workers whose round has made no step since its checkpoint: there is nothing to be saved."""
        for hand in self.pool.hands:
            if hand.order and (hand.progress is None or hand.progress.step <= hand.order.step):
                self.pool.drop(hand, again=False)

    def _hand_out(self, sweeping: Sweeping, left: Sequence[int]) -> None:
        """Gives each idle worker a round: of the program that it has compiled, or the next that nobody has."""
        state = sweeping.state
        running = {hand.round for hand in self.pool.hands}
        waiting = [number for number in left if number not in running]
        for hand in [hand for hand in self.pool.hands if hand.stage == "idle"]:
            if not waiting:
                break
            taken = {one.program for one in self.pool.hands if one.round is not None}
            program = {number: state.rounds[number]["program"] for number in waiting}
            number = min(waiting, key=lambda n: (program[n] != hand.program, program[n] in taken, n))
            waiting.remove(number)
            self._begin(sweeping, hand, number)

    def _begin(self, sweeping: Sweeping, hand: Hand, number: int) -> None:
        import ray

        names = [f"{device.platform}: {device.device_kind}" for device in hand.devices]
        group = sweeping.begin_round(number, hand.host, names)
        folder, config = sweeping.writer.path / group.checkpoint, group.lane_specs[0].config
        pairs = [(spec.lane, spec.seed) for spec in group.lane_specs]
        hand.round, hand.before = number, sweeping.state.rounds[number]
        hand.program = hand.before["program"]
        hand.events = LiveEvents(Run(sweeping.writer.path), pairs, group.step) if config.log.tensorboard else None
        if group.dataset.digest not in self.sets:
            self.sets[group.dataset.digest] = ray.put(group.dataset)
        specs = [spec._replace(config=_without_events(spec.config)) for spec in group.lane_specs]
        order = Order(specs, group.capacity, self.per_run, group.step, dict(group.bad_since))
        files = checkpoint.packed(folder, group.step) if group.step else None
        self.pool.begin(hand, order, self.sets[group.dataset.digest], files)

    def _take(self, sweeping: Sweeping, hand: Hand, answer: Batch | Lost, stop: bool) -> None:
        """Takes in what a worker tells; a round whose worker is lost waits for another."""
        if isinstance(answer, Lost):
            self._lose(sweeping, hand, answer.why)
            return
        began = time.monotonic()
        hand.progress = answer.progress
        for message in answer.messages:
            self._keep(sweeping, hand, message)
        self.account["driver_seconds"] += time.monotonic() - began
        if hand.round is not None:
            self.pool.ask(hand, stop)

    def _keep(self, sweeping: Sweeping, hand: Hand, message: Message) -> None:
        assert hand.round is not None
        number = hand.round
        match message:
            case Part(metrics, layers, spectrum):
                sweeping.writer.append_encoded(metrics, layers, spectrum)
                self.account["table_bytes"] += message.bytes
                if hand.events:
                    hand.events.append(metrics.table(), layers.table())
            case Checkpoint(step, files):
                checkpoint.unpack(sweeping.writer.path / sweeping.state.checkpoint(number), step, files)
                self.account["checkpoint_bytes"] += message.bytes
                self.account["checkpoints"] += 1
            case Report(result):
                sweeping.state.update(number, result.added_to(hand.before))
            case Ended():
                self._end(sweeping, hand, number, message)

    def _end(self, sweeping: Sweeping, hand: Hand, number: int, ended: Ended) -> None:
        """Takes in how a round ended, and lets its worker go."""
        devices, events = len(hand.devices), hand.events
        self.pool.free(hand)
        if ended.status == "done":
            if events:
                events.finish()
            sweeping.predictions.learn(ended.known or {})
            sweeping.end_round(number, ended.step)
        elif ended.status == "failed":
            sweeping.give_up_round(number, ended.text, ended.details, ended.memory, devices)
        elif ended.status == "refused":
            raise RunError(ended.text)
        elif ended.status == "fault":
            self.pool.drop(hand, again=False)
            self.pool.notes.append(f"{hand.host}: not used any more: {ended.text}")
            if not self.pool.expected():
                raise EnvironmentFault(f"{hand.host}: {ended.text}")

    def _lose(self, sweeping: Sweeping, hand: Hand, why: str) -> None:
        """Puts back the round of a worker that is lost; one that loses every worker is given up."""
        assert hand.round is not None
        assert hand.order is not None
        number, devices = hand.round, len(hand.devices)
        self.pool.drop(hand, again=True)
        step = checkpoint.newest(sweeping.writer.path / sweeping.state.checkpoint(number)) or 0
        at, times = self.losses.get(number, (-1, 0))
        self.losses[number] = step, times + 1 if at == step else 1
        memory = LOW_MEMORY in why
        if memory or self.losses[number][1] >= LOSSES:
            text = f"its worker was lost {self.losses[number][1]} times at step {step}: {why[:200]}"
            sweeping.give_up_round(number, text, why, memory, devices)
        else:
            self.pool.notes.append(f"round {number}: its worker on {hand.host} was lost; it goes on from step {step}")


def _without_events(config: Config) -> Config:
    """The config without TensorBoard's events, which the driver writes: a worker has no run directory."""
    if not config.log.tensorboard:
        return config
    return config.model_copy(update={"log": config.log.model_copy(update={"tensorboard": False})})


def sources_of(modules: Sequence[str]) -> bytes:
    """Returns a zip archive of those modules that are files of the user's, whole packages each; empty when none is.

    What is installed must be installed on the nodes, too, and so what these modules import.
    """
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for top in dict.fromkeys(name.partition(".")[0] for name in modules):
            file = Path(getattr(sys.modules.get(top), "__file__", None) or "")
            if file.suffix != ".py" or {"site-packages", "dist-packages"} & set(file.resolve().parts):
                continue
            package = file.parent if file.name == "__init__.py" else None
            for path in sorted(package.rglob("*.py")) if package else [file]:
                archive.write(path, path.relative_to(package.parent if package else file.parent))
        empty = not archive.namelist()
    return b"" if empty else sink.getvalue()
