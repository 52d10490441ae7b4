"""Measures vgx on a GPU and writes a table under the card's name: `make bench-gpu`."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.programs import CLASSES, build
from benchmarks.sweeps import GRID, VGX, finished, sets
from vgx.config.sweep import load_sweep
from vgx.devices import numerics

FEATURES = 784


TIERS = ("none", "lite", "standard")


class Size(NamedTuple):
    """A net and its batch."""

    depth: int
    width: int
    batch: int

    def __str__(self) -> str:
        return f"{self.depth} x {self.width}, batch {self.batch}"

    @property
    def flops(self) -> int:
        """Of one step's matrix products: forward, for the weights, and for the inputs of all but the first layer."""
        sizes = [FEATURES, *[self.width] * self.depth, CLASSES]
        each = [2 * self.batch * n_in * n_out for n_in, n_out in pairwise(sizes)]
        return 3 * sum(each) - each[0]


class Scale(NamedTuple):
    """How much is measured."""

    sizes: Sequence[Size]
    lanes: Sequence[int]
    steps: int
    square: int
    """The side of the matrices whose product tells the peak."""
    sweep_steps: int


WHOLE = Scale((Size(20, 128, 128), Size(10, 64, 64)), (10, 100, 1000, 5000), 40, 8192, 1000)
QUICK = Scale((Size(3, 16, 16),), (2, 4), 4, 256, 4)
"""So that the script can be tried where there is no GPU."""


def seconds_of(size: Size, *, statistics: str, steps: int, lanes: int = 1, precision: str = "float32") -> float:
    """Returns what a step of all lanes takes: the median of 5 turns."""
    timed = build(**size._asdict(), statistics=statistics, steps=steps, lanes=lanes, precision=precision)
    return median(timed.seconds_per_step() for _ in range(5))


def peak(square: int) -> float:
    """Returns the operations per second of a large matrix product in full float32."""
    x = jnp.ones((square, square))
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        product(x).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * square**3 / min(times)


def one_run(scale: Scale) -> str:
    """A single lane: each tier, and bfloat16."""
    rows = ["| net | statistics | ms per step | against none |", "|---|---|---|---|"]
    for size in scale.sizes:
        plain = 0.0
        for tier in ("none", "lite", "standard", "full"):
            seconds = seconds_of(size, statistics=tier, steps=scale.steps)
            plain = plain or seconds
            rows.append(f"| {size} | {tier} | {1e3 * seconds:.3f} | {seconds / plain:.2f} |")
        with jax.default_matmul_precision("default"):
            narrow = seconds_of(size, statistics="standard", steps=scale.steps, precision="bfloat16")
        rows.append(f"| {size} | standard, bfloat16 | {1e3 * narrow:.3f} | {narrow / plain:.2f} |")
    return "## One run\n\n" + "\n".join(rows)


def lanes(scale: Scale) -> str:
    """Throughput by lanes, and what share of a large product's speed their products reach."""
    most = peak(scale.square)
    rows = ["| net | lanes | none | lite | standard, run-steps/s | of the peak (none) |", "|---|---|---|---|---|---|"]
    for size in scale.sizes:
        for count in scale.lanes:
            steps = max(2, scale.steps * 10 // count)
            rates = [count / seconds_of(size, statistics=t, steps=steps, lanes=count) for t in TIERS]
            none, lite, standard = (f"{rate:,.0f}" for rate in rates)
            share = size.flops * rates[0] / most
            rows.append(f"| {size} | {count:,} | {none} | {lite} | {standard} | {share:.0%} |")
    return f"## Lanes (a product of {scale.square} squared: {most / 1e12:.1f} TFLOP/s)\n\n" + "\n".join(rows)


def commands(scale: Scale) -> str:
    """A sweep of 30 cells x 3 seeds, and a process for each cell, one after the other."""
    rows = [
        "| net | 90 lanes by `vgx sweep`, s | `vgx train` of a cell, s | times 30 | ratio |",
        "|---|---|---|---|---|",
    ]
    for size in scale.sizes:
        values = {"model.depth": size.depth, "model.width": size.width, "train.batch_size": size.batch, "seeds": 3}
        values |= {"train.steps": scale.sweep_steps, "train.evaluate_every": scale.sweep_steps}
        values |= {"data": "{name: synthetic, features: 784, examples: 60000}"}
        with tempfile.TemporaryDirectory() as folder:
            to = ["--runs", folder, "--quiet"]
            whole = finished([VGX, "sweep", GRID, *sets(values), *to]).seconds
            cell = load_sweep(GRID, sets(values)[1::2]).cells[0].config
            Path(folder, "cell.yaml").write_text(cell.to_yaml())
            one = finished([VGX, "train", f"{folder}/cell.yaml", *to]).seconds
        rows.append(f"| {size} | {whole:.0f} | {one:.1f} | {30 * one:.0f} | {30 * one / whole:.1f} |")
    return "## Whole commands\n\n" + "\n".join(rows)


TORCH = """
import sys
from benchmarks import torch_gpu
from benchmarks.torch_nets import Settings
what, device, depth, width, batch, count = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
settings = Settings(depth=depth, width=width, batch=batch)
if what == "lanes":
    print(torch_gpu.lanes(settings, count, device))
else:
    print(1 / torch_gpu.one_run(settings, device, what == "compiled"))
"""


def pytorch(scale: Scale, device: str) -> str:
    """PyTorch on the same card, each row in its own process: eager and compiled with hooks, and lanes by vmap."""
    rows = ["| net | | run-steps/s |", "|---|---|---|"]
    for size in scale.sizes:
        of = [device, *map(str, size)]
        jobs = {"hooks on modules, eager": ["eager", *of, "1"], "hooks on modules, compiled": ["compiled", *of, "1"]}
        jobs |= {f"torch.func.vmap, {n:,} lanes, norms": ["lanes", *of, str(n)] for n in scale.lanes}
        for name, words in jobs.items():
            done = subprocess.run([sys.executable, "-c", TORCH, *words], capture_output=True, text=True, check=False)
            rate = f"{float(done.stdout):,.0f}" if done.returncode == 0 else _reason(done.stderr)
            rows.append(f"| {size} | {name} | {rate} |")
    return "## PyTorch\n\n" + "\n".join(rows)


def _reason(error: str) -> str:
    """The last line of a traceback."""
    return error.strip().splitlines()[-1][:120].replace("|", "/") if error.strip() else "failed"


def main() -> None:
    """Prints each table as it is measured, and writes them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few steps of small nets on any device, nothing written")
    quick = parser.parse_args().quick
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device, scale = jax.devices()[0], QUICK if quick else WHOLE
    if device.platform == "cpu" and not quick:
        sys.exit("make bench-gpu: jax sees no GPU; `python -m benchmarks.gpu --quick` tries the script on any device")
    heading = f"# {device.device_kind}\n\n`make bench-gpu`, {datetime.now(UTC):%Y-%m-%d}, jax {jax.__version__}.\n"
    print(heading)
    # other processes first: what jax takes of a card it keeps
    torch_device = "cpu" if device.platform == "cpu" else "cuda"
    tables = []
    with numerics("float32", device):
        for measure in (commands, partial(pytorch, device=torch_device), one_run, lanes):
            tables.append(measure(scale))
            print(tables[-1], "\n", flush=True)
    if not quick:
        name = re.sub(r"[^A-Za-z0-9]+", "-", device.device_kind).strip("-")
        Path(__file__).with_name(f"RESULTS-{name}.md").write_text(heading + "\n" + "\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
