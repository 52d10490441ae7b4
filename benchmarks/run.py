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
from functools import partial
from pathlib import Path
from statistics import median

import jax

from benchmarks import torch_loops, torch_nets
from benchmarks.programs import bare_products, build
from vgx.config.sweep import load_sweep
from vgx.devices import cores
from vgx.results.store import Run

REPEATS = 30
EVERY = 6
"""Every which cell of the grid is run on its own, too."""
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


TORCH: Mapping[torch_loops.Measure, str] = {
    "none": "nothing measured",
    "norms": "weight gradients' norms by _foreach_norm",
    "hooks": "hooks, layers stacked and tuned",
    "modules": "hooks on modules",
}


def one_run() -> str:
    """One training: vgx against PyTorch, both with the same figures of each layer at each step."""
    rows = ["| net | | ms per step | vgx's standard tier is faster by |", "|---|---|---|---|"]
    for depth, width, batch in ((20, 128, 128), (10, 64, 64)):
        size = {"depth": depth, "width": width, "batch": batch}
        ours = {
            f"vgx, {tier}": build(statistics=tier, **size).seconds_per_step for tier in ("none", "lite", "standard")
        }
        settings = torch_nets.Settings(**size, steps=100)
        theirs = {
            f"PyTorch, {words}": partial(torch_loops.train, settings, measure=measure, threads=cores())
            for measure, words in TORCH.items()
        }
        times = alternated(ours | theirs, 7)
        for name, mine in times.items():
            ratio = median(a / b for a, b in zip(mine, times["vgx, standard"], strict=True))
            rows.append(f"| {depth} x {width}, batch {batch} | {name} | {1e3 * median(mine):.3f} | {ratio:.2f} |")
    return f"## One run ({cores()} cores for each)\n\n" + "\n".join(rows)


def grid() -> str:
    """A grid of 5 activations x 6 initializers x 2 seeds: run-steps per second while training, and start to finish."""
    rows = ["| net | | run-steps/s | vgx is faster by |", "|---|---|---|---|"]
    activations = [*torch_loops.MODULES]
    for depth, width, batch, steps in ((20, 128, 128, 200), (10, 64, 64, 600)):
        size = {"depth": depth, "width": width, "batch": batch}
        cells = [
            torch_nets.Settings(**size, activation=activation, initializer=initializer, steps=steps // 4)
            for activation in activations
            for initializer in (
                "lecun_normal",
                "glorot_normal",
                "glorot_uniform",
                "he_normal",
                "he_uniform",
                "lecun_uniform",
            )
        ]
        runs = {
            "vgx sweep": partial(_sweep_speed, size, steps),
            "vgx sweep, one device": partial(_sweep_speed, size, steps, devices=1),
            "PyTorch, hooks tuned, a process per core": partial(torch_loops.grid, cells, cores(), "hooks"),
            "PyTorch, hooks on modules, a process per core": partial(torch_loops.grid, cells, cores(), "modules"),
        }
        times = alternated(runs, 3)
        for name, mine in times.items():
            ratio = median(a / b for a, b in zip(times["vgx sweep"], mine, strict=True))
            rows.append(f"| {depth} x {width}, batch {batch} | {name} | {median(mine):.0f} | {ratio:.2f} |")
    return "## A grid of 30 cells x 2 seeds, while it trains (standard statistics at every step)\n\n" + "\n".join(rows)


def _sweep_speed(size: Mapping[str, int], steps: int, devices: int | None = None) -> float:
    """Run-steps per second of a sweep while it trains: compilation left out, writing its tables not."""
    script = (
        "import sys, jax, vgx\n"
        f"jax.config.update('jax_num_cpu_devices', {devices or cores()})\n"
        "vgx.sweep(vgx.load_sweep(sys.argv[2], sys.argv[3:]), runs=sys.argv[1])\n"
    )
    model = {f"model.{name}": size[name] for name in ("depth", "width")}
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"{path}={value}" for path, value in {**model, "train.batch_size": size["batch"]}.items()]
        overrides += [f"train.steps={steps}", "data={name: synthetic, features: 784, examples: 5000}", "seeds=2"]
        command = [sys.executable, "-c", script, folder, "configs/sweeps/activation-initializer.yaml", *overrides]
        subprocess.run(command, check=True, capture_output=True)
        return Run(next(Path(folder).glob("*/meta.json")).parent).meta["steps_per_second"]


def start_to_finish() -> str:
    """Whole commands: a sweep of 30 cells x 2 seeds, and `vgx train` once per cell."""
    vgx = str(Path(sys.executable).with_name("vgx"))
    data = ["--set", "data={name: synthetic, features: 784, examples: 5000}"]
    file = "configs/sweeps/activation-initializer.yaml"
    sweep = load_sweep(file, [data[1], "seeds=2"])

    def timed(command: list[str]) -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder:
        whole = timed([vgx, "sweep", file, *data, "--seeds", "2", "--runs", folder])
        singles = []
        for i, cell in enumerate(sweep.cells[::EVERY]):
            path = Path(folder) / f"{i}.yaml"
            path.write_text(cell.config.to_yaml())
            singles.append(timed([vgx, "train", str(path), "--quiet", "--runs", f"{folder}/{i}"]))
    rows = ["| | s |", "|---|---|", f"| `vgx sweep`, 60 lanes, 200 steps | {whole:.0f} |"]
    all_singles = sum(singles) * len(sweep.cells) / len(singles)
    rows.append(
        f"| `vgx train` once per cell, 2 seeds side by side (from {len(singles)} of the 30) | {all_singles:.0f} |"
    )
    rows.append(f"| ratio | {all_singles / whole:.2f} |")
    return "## A grid from start to finish (20 x 128, batch 128)\n\n" + "\n".join(rows)


def lanes() -> str:
    """Throughput by lanes, on one device and on all."""
    rows = ["| lanes | run-steps/s, one device | all devices | ratio |", "|---|---|---|---|"]
    for count in (1, 2, 4, 8, 16, 32, 64):
        runs = {
            n: build(statistics="standard", steps=max(4, 40 // count), lanes=count, devices=n) for n in (1, cores())
        }
        times = alternated({str(n): timed.seconds_per_step for n, timed in runs.items()}, 7)
        one, all_ = (count / median(times[str(n)]) for n in (1, cores()))
        rows.append(f"| {count} | {one:.0f} | {all_:.0f} | {all_ / one:.2f} |")
    return f"## Lanes (20 x 128, batch 128, standard statistics; {cores()} devices)\n\n" + "\n".join(rows)


def products() -> str:
    """What share of a step is matrix products: the same products alone, in the same shapes and number."""
    rows = ["| net | step, ms | products alone, ms | share |", "|---|---|---|---|"]
    for depth, width, batch in ((20, 128, 128), (10, 64, 64), (10, 512, 128)):
        step = build(depth=depth, width=width, batch=batch, statistics="standard").seconds_per_step
        times = alternated({"step": step, "products": bare_products(depth, width, batch)}, 15)
        share = median(a / b for a, b in zip(times["products"], times["step"], strict=True))
        ours, bare = (1e3 * median(times[name]) for name in ("step", "products"))
        rows.append(f"| {depth} x {width}, batch {batch} | {ours:.3f} | {bare:.3f} | {share:.0%} |")
    return "## Matrix products (standard statistics, one lane, one device)\n\n" + "\n".join(rows)


def main() -> None:
    """Prints each table as it is measured, and writes them all."""
    if platform.system() == "Linux" and jax.config.values["jax_num_cpu_devices"] == -1:
        jax.config.update("jax_num_cpu_devices", cores())
    device = jax.devices()[0]
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {device.platform}: {device.device_kind}"
    )
    when = f"`make bench`, {datetime.now(UTC):%Y-%m-%d}, jax {jax.__version__}"
    heading = f"# Results\n\n{when}, {machine}. Medians of alternated repeats.\n"
    print(heading)
    tables = []
    for measure in (one_run, grid, start_to_finish, probes, depth, lanes, products, start):
        tables.append(measure())
        print(tables[-1], "\n", flush=True)
    RESULTS.write_text(heading + "\n" + "\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
