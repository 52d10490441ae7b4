"""Measures what probes, depth and start-up cost, and writes RESULTS.md: `make bench`."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import jax

from benchmarks.programs import build

REPEATS = 30
RESULTS = Path(__file__).with_name("RESULTS.md")


def alternated(runs: Mapping[str, Callable[[], float]], repeats: int = REPEATS) -> dict[str, list[float]]:
    """Returns `repeats` times of each run, taken in turn, so that a drift of the machine falls on all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(run())
    return times


def probes() -> str:
    """The cost of the probes: 20 x 128, batch 128, against the same program without them."""
    variants = {"none": ("none", 1), "lite": ("lite", 1), "standard": ("standard", 1), "full": ("full", 1)}
    variants |= {"lite, every 10": ("lite", 10), "standard, every 10": ("standard", 10)}
    runs = {name: build(statistics=tier, every=every).seconds_per_step for name, (tier, every) in variants.items()}
    runs["none, again"] = build().seconds_per_step
    times = alternated(runs)
    rows = ["| statistics | ms per step | against none |", "|---|---|---|"]
    for name, mine in times.items():
        ratio = median(a / b for a, b in zip(mine, times["none"], strict=True))
        rows.append(f"| {name} | {1e3 * median(mine):.3f} | {ratio:.3f} |")
    return "## Probes (20 x 128, batch 128)\n\n" + "\n".join(rows)


def depth() -> str:
    """Compile time, and step time per layer, from depth 10 to 10,000: all layers alike, inputs as wide as the net."""
    rows = ["| depth | compile, s | ms per step | us per layer and step |", "|---|---|---|---|"]
    for layers in (10, 100, 1000, 10_000):
        timed = build(depth=layers, width=64, features=64, statistics="standard", steps=max(1, 2000 // layers))
        step = median(timed.seconds_per_step() for _ in range(7 if layers < 10_000 else 3))
        rows.append(f"| {layers:,} | {timed.compile_seconds:.2f} | {1e3 * step:.2f} | {1e6 * step / layers:.1f} |")
    return "## Depth (width and inputs 64, batch 128, standard statistics)\n\n" + "\n".join(rows)


def start() -> str:
    """Whole commands: `vgx --help`, and `vgx train` for one step with an empty and a filled program cache."""
    vgx = Path(sys.executable).with_name("vgx")

    def timed(command: list[str], cache: str) -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache})
        return time.perf_counter() - began

    rows = ["| command | s |", "|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        train = [
            str(vgx),
            "train",
            "configs/quickstart.yaml",
            "--set",
            "train.steps=1",
            "--runs",
            f"{folder}/runs",
            "--overwrite",
        ]
        help_time = median(timed([str(vgx), "--help"], folder) for _ in range(7))
        cold = median(timed(train, f"{folder}/cache{i}") for i in range(3))
        warm = median(timed(train, f"{folder}/cache0") for _ in range(5))
    rows += [f"| `vgx --help` | {help_time:.2f} |", f"| one step of quickstart.yaml, empty cache | {cold:.2f} |"]
    rows.append(f"| the same, second time | {warm:.2f} ({cold / warm:.1f} x sooner) |")
    return "## Start (whole commands)\n\n" + "\n".join(rows)


def main() -> None:
    """Prints each table as it is measured, and writes them all."""
    device = jax.devices()[0]
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {device.platform}: {device.device_kind}"
    )
    when = f"`make bench`, {datetime.now(UTC):%Y-%m-%d}, jax {jax.__version__}"
    heading = f"# Results\n\n{when}, {machine}. Medians of alternated repeats.\n"
    print(heading)
    tables = []
    for measure in (probes, depth, start):
        tables.append(measure())
        print(tables[-1], "\n", flush=True)
    RESULTS.write_text(heading + "\n" + "\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
