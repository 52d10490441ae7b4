"""What a sweep would do on a cluster: which rounds each of its workers would run, and for how long."""

# Ray is an extra: it may not be here.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence

from vgx.config.schema import Config
from vgx.devices import PerRun, Platform, names_of
from vgx.runner.cluster.place import Cluster
from vgx.runner.plan import COMPILE_SECONDS, SHARE, PlannedPlace, PlannedRound
from vgx.runner.sweeping import DataSets


def plan_on(
    on: str,
    device: Platform | None,
    per_run: PerRun,
    lanes: Sequence[tuple[int, Config]],
    data: DataSets,
    memory: int | None,
    modules: Sequence[str] = (),
) -> tuple[list[PlannedRound], list[PlannedPlace]]:
    """Returns the rounds in which a cluster would run these lanes, and what each of its workers would do of them.

    Each round is given to the worker that would be free first; times are for a worker as fast as the first one.
    """
    import ray

    with Cluster(on, device, per_run, memory, modules) as cluster:
        cluster.pool.settle()
        rounds = cluster.planned(lanes, data)
        hands = cluster.pool.opened
        speed = float(ray.get(hands[0].actor.speed.remote())) if rounds else 1.0
        places = [PlannedPlace(hand.host, names_of(hand.devices), [], 0, 0.0) for hand in hands]
        compiled: list[set[str]] = [set() for _ in hands]
        for number, planned in enumerate(rounds):
            at = min(range(len(places)), key=lambda i: places[i].seconds)
            seconds = planned.products / (SHARE * speed) + COMPILE_SECONDS * (planned.program not in compiled[at])
            compiled[at].add(planned.program)
            one = places[at]
            places[at] = one._replace(
                rounds=[*one.rounds, number], lanes=one.lanes + len(planned.lanes), seconds=one.seconds + seconds
            )
        return rounds, places
