"""Measures what more devices bring, and what they cost the driver: `make bench-scale` writes benchmarks/SCALE.md.

A sweep of 24 lanes on two Ray nodes of one core each, against one machine with both cores; what the driver takes in
for each lane and step, logged at every step and at every tenth; what Ray costs a round. From these, how many GPUs would
keep the driver busy. Needs an idle machine of two cores or more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import data_parallel
from benchmarks.sweeps import GRID, sets
from vgx.devices import cores

OUTPUT = Path(__file__).with_name("SCALE.md")
GPU_STEPS = (2_000, 20_000, 200_000)
"""Lane-steps a second of one GPU to reckon with: `make bench-gpu` measures a card's."""
NETWORK = 1.25e9
"""Bytes a second that ten gigabits are."""


class Size(NamedTuple):
    """How much is measured."""

    steps: int
    depth: int
    width: int
    seeds: int
    """Two activations and two initializers of so many make the lanes."""


FULL, SMALL = Size(2000, 20, 128, 6), Size(40, 4, 16, 6)


class Measured(NamedTuple):
    """A sweep that was run."""

    wall: float
    """Seconds of the whole command."""
    rounds: list[dict[str, Any]]
    meta: dict[str, Any]

    @property
    def lane_steps(self) -> int:
        return sum(one["step"] * len(one["lanes"]) for one in self.rounds)

    @property
    def busiest(self) -> float:
        """Seconds of the rounds of the worker that had the most to do, of two that share them evenly."""
        halves = sorted((one["seconds"] for one in self.rounds), reverse=True)
        return max(sum(halves[::2]), sum(halves[1::2]))


def sweep(size: Size, every: int, *options: str, **env: str) -> Measured:
    """Runs a sweep of four cells as a command, and returns what it says of itself."""
    values = {
        "data": "digits",
        "model.depth": size.depth,
        "model.width": size.width,
        "train.steps": size.steps,
        "train.evaluate_every": size.steps,
        "log.every": every,
        "seeds": size.seeds,
    }
    axes = ["--axis", "model.activation=relu,tanh", "--axis", "model.initializer=he_normal,orthogonal"]
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "vgx", "sweep", GRID, *sets(values), *axes, "--runs", folder, "--json", *options]
        began = time.perf_counter()
        done = subprocess.run(argv, env=os.environ | env, capture_output=True, text=True, check=True)
        wall = time.perf_counter() - began
        run = Path(json.loads(done.stdout)["run"])
        rounds = [json.loads(path.read_text()) for path in sorted(run.glob("rounds/*.json"))]
        return Measured(wall, rounds, json.loads((run / "meta.json").read_text()))


def measured(size: Size) -> dict[str, Measured]:
    """Runs the sweeps: here with two devices, on two nodes of one, logged at every step and at every tenth."""
    from ray.cluster_utils import Cluster

    found = {"here": sweep(size, 1, JAX_NUM_CPU_DEVICES="2")}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    try:
        where = {"RAY_ADDRESS": cluster.address}
        found["nodes"] = sweep(size, 1, "--on", "auto", **where)
        found["nodes, every 10"] = sweep(size, 10, "--on", "auto", **where)
    finally:
        cluster.shutdown()
    return found


def page(found: Mapping[str, Measured], size: Size) -> str:
    """Returns the part of SCALE.md on sweeps."""
    here, nodes = found["here"], found["nodes"]
    one_by_one = sum(one["seconds"] for one in here.rounds)
    speeds = here.lane_steps / one_by_one, nodes.lane_steps / nodes.busiest
    over = (nodes.wall - nodes.busiest) / max(1, len(nodes.rounds) / 2)
    ratio = f"{speeds[1]:,.0f} ({speeds[1] / speeds[0]:.2f} x)"
    lanes = sum(len(one["lanes"]) for one in nodes.rounds)
    longest = max(one["seconds"] for one in nodes.rounds)
    lines = [
        "## Sweeps",
        "",
        f"{lanes} lanes of {size.depth} x {size.width}, {size.steps:,} steps, batch 128, in {len(nodes.rounds)} rounds"
        f" (the longest took {longest:.0f} s); {datetime.now(UTC):%Y-%m-%d}, {cores()} cores.",
        "",
        "| | one machine, two devices | two Ray nodes of one core |",
        "|---|---|---|",
        f"| lane-steps a second, while rounds run | {speeds[0]:,.0f} | {ratio} |",
        f"| the whole command | {here.wall:.1f} s | {nodes.wall:.1f} s |",
        "",
        f"What is not a round's own time (start, planning, Ray, judging) comes to {over:.1f} s for each round of a"
        " node.",
        "",
        "## What the driver takes in",
        "",
        "| | logged at every step | at every tenth |",
        "|---|---|---|",
    ]
    every, tenth = (_intake(found[name]) for name in ("nodes", "nodes, every 10"))
    lines += [
        f"| bytes of tables for a lane and step | {every.bytes:,.0f} | {tenth.bytes:,.0f} |",
        f"| seconds of the driver | {every.seconds:.2e} | {tenth.seconds:.2e} |",
        f"| bytes of a checkpoint for a lane | {every.checkpoint:,.0f} | {tenth.checkpoint:,.0f} |",
        "",
        "## How many GPUs keep the driver busy",
        "",
        "A driver of one core that takes in a lane's step in `s` seconds is busy when",
        "`GPUs x lane-steps a second x s = 1`, a network of ten gigabits when",
        "`GPUs x lane-steps a second x bytes = 1.25e9`. For grids of activations and initializers at the depth and",
        "width above, the smaller of the two, by what one GPU does (`make bench-gpu`):",
        "",
        "| lane-steps a second of a GPU | GPUs, `log.every: 1` | GPUs, `log.every: 10` |",
        "|---|---|---|",
    ]
    lines += [f"| {speed:,} | {_gpus(every, speed)} | {_gpus(tenth, speed)} |" for speed in GPU_STEPS]
    if not longest >= 30:
        lines += ["", f"The longest round took {longest:.0f} s: too short for these figures to mean anything."]
    return "\n".join(lines)


class Intake(NamedTuple):
    """What the driver takes in for one lane and step."""

    bytes: float
    seconds: float
    checkpoint: float
    """Bytes for a lane, each time."""


def _intake(one: Measured) -> Intake:
    told, lanes = one.meta["cluster"], len(one.rounds[0]["lanes"])
    each = told["checkpoint_bytes"] / max(1, told["checkpoints"]) / lanes
    return Intake(told["table_bytes"] / one.lane_steps, told["driver_seconds"] / one.lane_steps, each)


def _gpus(intake: Intake, speed: float) -> str:
    driver, network = 1 / (intake.seconds * speed), NETWORK / (intake.bytes * speed)
    most = min(driver, network)
    shown = f"{most:,.0f}" if most >= 10 else f"{most:.1f}"
    return f"{shown} ({'driver' if driver <= network else 'network'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="seconds: to see that it works; prints, writes nothing")
    parser.add_argument("--steps", type=int, help="of each lane, for rounds of 30 s or more")
    parser.add_argument("--one-net", action="store_true", help="the half on one net alone, in minutes, without Ray")
    asked = parser.parse_args()
    size = SMALL if asked.small else FULL
    size = size._replace(steps=asked.steps) if asked.steps else size
    parts = [] if asked.one_net else [page(measured(size), size)]
    if asked.small:
        print(*parts)
        return
    parts.append(data_parallel.page())
    command = "python -m benchmarks.scale" + " --one-net" * asked.one_net
    text = "\n\n".join(["# What more devices bring", f"Written by `{command}`.", *parts])
    OUTPUT.write_text(f"{text}\n")
    print(f"written: {OUTPUT}")


if __name__ == "__main__":
    main()
