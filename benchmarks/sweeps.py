"""A grid of 5 activations x 6 initializers x 3 seeds, whole commands: `vgx sweep`, PyTorch, and the products alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import torch_loops, torch_nets, torch_sweep
from vgx.devices import cores

STEPS, SEEDS = 1000, 3
SIZES = ({"depth": 20, "width": 128, "batch": 128}, {"depth": 10, "width": 64, "batch": 64})
SHARE = 10
"""PyTorch trains one in so many of the lanes; the time for all is worked out from that."""
GRID = "configs/sweeps/activation-initializer.yaml"
VGX = str(Path(sys.executable).with_name("vgx"))


class Finished(NamedTuple):
    """A command that has come to its end."""

    seconds: float
    megabytes: int | None
    """The most memory that it took; None where nobody looked."""


def finished(command: Sequence[str], **variables: str) -> Finished:
    """Runs a command with more variables in its environment."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=os.environ | variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return Finished(time.perf_counter() - began, usage.ru_maxrss // 1024)


def sweep(size: Mapping[str, int], tier: str, cache: str, steps: int = STEPS) -> Finished:
    """Runs `vgx sweep`, with compiled programs in the folder `cache`; it evaluates at the end."""
    data = "mnist" if torch_sweep.mnist_folder() else "{name: synthetic, features: 784, examples: 60000}"
    values = {
        "model.depth": size["depth"],
        "model.width": size["width"],
        "train.batch_size": size["batch"],
        "train.steps": steps,
        "train.evaluate_every": steps,
        "log.statistics": tier,
        "data": data,
        "seeds": SEEDS,
    }
    with tempfile.TemporaryDirectory() as folder:
        return finished([VGX, "sweep", GRID, *sets(values), "--runs", folder, "--quiet"], XDG_CACHE_HOME=cache)


def sets(values: Mapping[str, Any]) -> list[str]:
    """Returns the words of a command line that set these options."""
    return [word for path, value in values.items() for word in ("--set", f"{path}={value}")]


def torch_seconds(size: Mapping[str, int], measure: torch_loops.Measure, steps: int = STEPS) -> Finished:
    """Returns how long PyTorch would take for all lanes: for a share of them, and how long that takes to start."""
    cells = [
        torch_nets.Settings(**size, activation=activation, initializer=initializer, steps=steps, seed=seed)
        for activation, initializer, seed in product(torch_loops.MODULES, torch_nets.INITIALIZERS, range(SEEDS))
    ]
    some = cells[::SHARE]
    start = torch_sweep.seconds_for([cell._replace(steps=2) for cell in some[: cores()]], cores(), measure)
    seconds = start + (torch_sweep.seconds_for(some, cores(), measure) - start) * len(cells) / len(some)
    return Finished(seconds, None)


PRODUCTS = """
import os, sys
number, depth, width, batch = map(int, sys.argv[1:])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[number]])
from statistics import median
from benchmarks.programs import bare_products
seconds = bare_products(depth, width, batch)
print(1 / median(seconds() for _ in range(max(15, int(4 / seconds() / 40)))))
"""


def products_rate(size: Mapping[str, int]) -> float:
    """Returns how many steps' matrix products all cores do in a second, a process on each."""
    numbers = [str(size[name]) for name in ("depth", "width", "batch")]
    command = [sys.executable, "-c", PRODUCTS]
    processes = [
        subprocess.Popen([*command, str(core), *numbers], stdout=subprocess.PIPE, text=True) for core in range(cores())
    ]
    return sum(float(process.communicate()[0]) for process in processes)


RUNS = {
    "`vgx sweep`, standard, empty cache": "standard",
    "`vgx sweep`, standard": "standard",
    "`vgx sweep`, lite": "lite",
}
"""Tiers, in order: each finds in its cache what those before have compiled."""


def start_to_finish() -> str:
    """Whole commands, on an empty and a filled cache of programs, against PyTorch and the products alone."""
    rows = ["| net | | s | run-steps/s | of the products alone | MB | load |", "|---|---|---|---|---|---|---|"]
    lanes = len(torch_loops.MODULES) * len(torch_nets.INITIALIZERS) * SEEDS
    for size in SIZES:
        net = f"{size['depth']} x {size['width']}, batch {size['batch']}"
        products, measured = [products_rate(size)], []
        for name, finish in _commands(size):
            measured.append((name, finish(), os.getloadavg()[0]))
            products.append(products_rate(size))
        bare = median(products)
        for name, (seconds, megabytes), load in measured:
            rate = lanes * STEPS / seconds
            rows.append(
                f"| {net} | {name} | {seconds:.0f} | {rate:.0f} | {rate / bare:.0%} | {megabytes or ''} | {load:.1f} |"
            )
        rows.append(
            f"| {net} | products alone, a process a core | {lanes * STEPS / bare:.0f} | {bare:.0f} | 100% | | |"
        )
    return (
        f"## A grid of 30 cells x {SEEDS} seeds, {STEPS:,} steps, from start to finish\n\n"
        "Whole commands, each once: their start, the reading of the data, their tables and an evaluation at the end "
        "included; all figures of every layer at every step. PyTorch: a single-threaded process a core, on every "
        f"{SHARE}th of the lanes, scaled up. Products alone: the median of measurements before and after each row. MB: "
        "the most memory. Load: of the machine, in the minute before the row's end.\n\n" + "\n".join(rows)
    )


def _commands(size: Mapping[str, int]) -> Iterator[tuple[str, Callable[[], Finished]]]:
    """Names, and what is timed; programs that a command is to find in its cache are there by then."""
    with tempfile.TemporaryDirectory() as cache:
        for name, tier in RUNS.items():
            if tier == "lite":
                sweep(size, tier, cache, steps=2)
            yield name, partial(sweep, size, tier, cache)
    for measure in ("modules", "hooks", "norms"):
        yield f"PyTorch, {torch_loops.WORDS[measure]}", partial(torch_seconds, size, measure)
