"""The workers of a cluster: on which nodes they are, what of them they have, how they begin and how they are lost."""

# Ray is an extra: it may not be here.
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vgx.devices import Platform
from vgx.errors import EnvironmentFault
from vgx.export.tensorboard import LiveEvents
from vgx.runner.cluster import versions
from vgx.runner.cluster.messages import Batch, Order, RemoteDevice, Setup
from vgx.runner.cluster.worker import Worker
from vgx.runner.loop import TrainingProgress

LOG = logging.getLogger("vgx")
LOOK_SECONDS = 2.0
"""How often the driver looks for nodes that have joined."""
PATIENCE_SECONDS = 30.0
"""After how long without any worker the user is told what is waited for."""
BEGINNINGS = 3
"""How often in a row a worker may be lost before it is open, until its node is left alone."""


class Share(NamedTuple):
    """What a worker has of its node, as Ray is asked for it.

    Both numbers are always stated: Ray takes `num_gpus` left out for none, and hides all GPUs from such a worker.
    """

    num_cpus: int
    num_gpus: int
    resources: Mapping[str, float]
    cores: int = 0
    """The devices that a CPU is to be."""

    def options(self, node: str) -> dict[str, Any]:
        """Returns the options of an actor with this share of a node, which is not begun again by Ray if it is lost."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "resources": dict(self.resources),
            "max_restarts": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }


def kind_in(nodes: Sequence[Mapping[str, Any]]) -> Platform:
    """Returns the kind of device that a sweep uses on these nodes: one for all, so that lanes compare."""
    held = {name for node in nodes for name, count in node["Resources"].items() if count >= 1}
    return "gpu" if "GPU" in held else "tpu" if "TPU" in held else "cpu"


def shares_of(resources: Mapping[str, float], kind: Platform) -> list[Share]:
    """Returns the workers' shares of a node: on a CPU all of it for one worker, else a worker for each accelerator."""
    cores = int(resources.get("CPU", 0))
    if kind == "cpu":
        return [Share(cores, 0, {}, cores)] if cores else []
    count = int(resources.get(kind.upper(), 0))
    each = 1 if cores >= count else 0
    return [Share(each, 1, {}) if kind == "gpu" else Share(each, 0, {"TPU": 1}) for _ in range(count)]


@dataclass
class Hand:
    """A worker, from the driver's side."""

    node: str
    host: str
    share: Share
    actor: Any = None
    stage: str = "new"
    """new, opening, idle, begun, busy, or gone."""
    call: Any = None
    """The answer that is waited for."""
    devices: list[RemoteDevice] = field(default_factory=list)
    memory: int = 0
    losses: int = 0
    """In a row, before it was open."""
    round: int | None = None
    order: Order | None = None
    before: dict[str, Any] = field(default_factory=dict)
    """What the round's file said when it began here."""
    progress: TrainingProgress | None = None
    program: str = ""
    """Of its last round: another one of that needs no compiling."""
    events: LiveEvents | None = None


class Lost(NamedTuple):
    """What comes instead of an answer when a worker or its node is gone."""

    why: str


class Pool:
    """The workers on all nodes of the cluster that this process is connected to."""

    def __init__(self, on: str, kind: Platform | None, setup: Callable[[Platform, int], Setup]):
        """`setup` says what a worker on so many cores is to be."""
        self.on, self.setup, self.hands = on, setup, list[Hand]()
        self.kind: Platform = kind or kind_in(self._nodes())
        self.notes: list[str] = []
        """Of nodes that cannot be used, to be told."""
        self._checks: dict[Any, str] = {}
        """The node whose versions an answer will tell."""
        self._known: set[str] = set()
        self._looked = -LOOK_SECONDS
        self._began = time.monotonic()

    @staticmethod
    def _nodes() -> list[dict[str, Any]]:
        import ray

        return [node for node in ray.nodes() if node["Alive"]]

    def look(self) -> None:
        """Has nodes that have joined asked for their versions, every now and then."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        nodes = self._nodes()
        self._looked = time.monotonic()
        alive = {node["NodeID"] for node in nodes}
        for node in nodes:
            if node["NodeID"] not in self._known and shares_of(node["Resources"], self.kind):
                self._known.add(node["NodeID"])
                self._checks[_versions_of(node["NodeID"])] = node["NodeID"]
        for hand in self.hands:
            if hand.stage == "new" and hand.node in alive:
                self._open(hand)
            elif hand.stage == "new":
                hand.stage = "gone"
        self._say_what_is_waited_for()

    def _say_what_is_waited_for(self) -> None:
        if not self.opened and time.monotonic() - self._began > PATIENCE_SECONDS:
            LOG.warning("%s: waiting for a node with a %s that nobody else uses", self.on, self.kind)
            self._began = float("inf")

    def _open(self, hand: Hand) -> None:
        import ray

        hand.actor = ray.remote(Worker).options(**hand.share.options(hand.node)).remote()
        hand.stage, hand.call = "opening", hand.actor.open.remote(self.setup(self.kind, hand.share.cores))

    @property
    def opened(self) -> list[Hand]:
        return [hand for hand in self.hands if hand.devices and hand.stage != "gone"]

    def expected(self) -> int:
        """Returns how many workers there are, or will be when all nodes have answered."""
        waiting = set(self._checks.values())
        coming = [node for node in self._nodes() if node["NodeID"] in waiting]
        live = [hand for hand in self.hands if hand.stage != "gone"]
        return len(live) + sum(len(shares_of(node["Resources"], self.kind)) for node in coming)

    def wait_for_first(self) -> Hand:
        """Returns a worker that is open. Raises EnvironmentFault when no node can have one."""
        while not self.opened:
            self.look()
            if not self.expected():
                raise EnvironmentFault(
                    "\n".join(self.notes) or f"--on {self.on}: the cluster has no node with a {self.kind} (ray status)"
                )
            for _ in self.answers(0.5):
                pass
        return self.opened[0]

    def settle(self) -> None:
        """Waits until every node that is there has answered, and its workers are open."""
        while self._checks or any(hand.stage in ("new", "opening") for hand in self.hands):
            self.look()
            for _ in self.answers(0.5):
                pass

    def answers(self, seconds: float) -> Iterator[tuple[Hand, Batch | Lost]]:
        """Yields what busy workers have to tell, and those that were lost, waiting so long for the first."""
        import ray

        calls = {hand.call: hand for hand in self.hands if hand.call is not None}
        waited = [*calls, *self._checks]
        if not waited:
            time.sleep(min(seconds, 0.2))
            return
        ready, _ = ray.wait(waited, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(waited, num_returns=len(waited), timeout=0)
        for call in ready:
            if call in self._checks:
                self._checked(self._checks.pop(call), call)
                continue
            hand = calls[call]
            if hand.call != call:  # given up meanwhile; not `is`: Ray Client answers with objects of its own
                continue
            answer = _answer(call)
            if isinstance(answer, Batch | Lost) and hand.stage in ("begun", "busy"):
                yield hand, answer
            elif isinstance(answer, Lost):
                hand.losses += 1
                self.drop(hand, again=hand.losses < BEGINNINGS)
                if hand.stage == "gone":
                    self.notes.append(f"{hand.host}: no worker begins there: {answer.why[:200]}")
            elif hand.stage == "begun":
                hand.stage = "busy"
                self.ask(hand)
            else:
                self._opened(hand, answer)

    def _checked(self, node: str, call: Any) -> None:
        """Takes a node on whose versions are ours, and notes why one is refused."""
        answer = _answer(call)
        if isinstance(answer, Lost):
            self._known.discard(node)
            return
        host, theirs = answer
        ours = versions.installed()[1]
        if theirs != ours:
            has, here = (" and ".join(f"{name} {found[name]}" for name in ours) for found in (theirs, ours))
            self.notes.append(f"{host}: has {has}, and this is {here}: not used; install the same")
            return
        resources = next((one["Resources"] for one in self._nodes() if one["NodeID"] == node), {})
        hands = [Hand(node, host, share) for share in shares_of(resources, self.kind)]
        self.hands += hands
        for hand in hands:
            self._open(hand)

    def _opened(self, hand: Hand, answer: Any) -> None:
        """Takes what a worker says that it is, or in a line why it can be nothing."""
        if isinstance(answer, str):
            self.notes.append(f"{hand.host}: not used: {answer}")
            self.drop(hand, again=False)
            return
        hand.stage, hand.call, hand.losses = "idle", None, 0
        hand.devices, hand.memory = answer

    def begin(self, hand: Hand, order: Order, dataset: Any, files: bytes | None) -> None:
        """Has an idle worker begin a round."""
        hand.stage, hand.order, hand.progress = "begun", order, None
        hand.call = hand.actor.begin.remote(order, dataset, files)

    def ask(self, hand: Hand, stop: bool = False) -> None:
        """Asks a busy worker what there is to tell."""
        hand.call = hand.actor.take.remote(stop)

    def free(self, hand: Hand) -> None:
        """Notes that a worker's round has ended."""
        hand.stage, hand.call, hand.round, hand.order, hand.events = "idle", None, None, None, None

    def drop(self, hand: Hand, again: bool) -> None:
        """Ends a worker; `again` begins another one in its place, if its node is still there."""
        import ray

        if hand.actor is not None:
            ray.kill(hand.actor)
        hand.actor = hand.call = hand.round = hand.order = hand.events = None
        hand.devices, hand.program = [], ""
        hand.stage = "new" if again and hand.node in {node["NodeID"] for node in self._nodes()} else "gone"

    def close(self) -> None:
        """Ends all workers."""
        for hand in self.hands:
            if hand.stage != "gone":
                self.drop(hand, again=False)


def _versions_of(node: str) -> Any:
    """Asks a node what is installed there."""
    import ray
    from ray import cloudpickle

    # By value: a node that has another vgx, or none, has no such module.
    cloudpickle.register_pickle_by_value(versions)
    try:
        share = Share(0, 0, {}).options(node)
        share.pop("max_restarts")
        return ray.remote(versions.installed).options(**share, max_retries=0).remote()
    finally:
        cloudpickle.unregister_pickle_by_value(versions)


def _answer(call: Any) -> Any:
    """The answer that has come; Lost when it never will."""
    import ray
    from ray.exceptions import (
        ActorDiedError,
        ActorUnavailableError,
        ActorUnschedulableError,
        NodeDiedError,
        ObjectLostError,
        OutOfMemoryError,
        TaskUnschedulableError,
        WorkerCrashedError,
    )

    gone = ActorDiedError, ActorUnavailableError, NodeDiedError, OutOfMemoryError, WorkerCrashedError
    try:
        return ray.get(call)
    except (*gone, ActorUnschedulableError, ObjectLostError, TaskUnschedulableError) as error:
        return Lost(re.sub(r"class_name: .* namespace: \S+ ", "", " ".join(str(error).split()))[:600])
