"""Measures whole sweeps, steps, probes, depth and start-up, and writes RESULTS.md: `make bench`."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import jax
import torch

from benchmarks import torch_loops, torch_nets
from benchmarks.programs import at_evaluations, bare_products, build
from benchmarks.sweeps import finished, start_to_finish
from vgx.devices import cores

REPEATS = 9
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
    step = median(times["standard"])
    rows += ["", "| at an evaluation | ms | standard steps |", "|---|---|---|"]
    for name, mine in alternated(at_evaluations()).items():
        rows.append(f"| {name} | {1e3 * median(mine):.1f} | {median(mine) / step:.0f} |")
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
    """Whole commands: `vgx --help`, and `vgx train` with an empty and a filled program cache."""
    vgx, config = str(Path(sys.executable).with_name("vgx")), "configs/quickstart.yaml"
    with tempfile.TemporaryDirectory() as folder:

        def timed(*command: str, cache: str = "cache", repeats: int = 5) -> float:
            return median(finished(command, XDG_CACHE_HOME=f"{folder}/{cache}").seconds for _ in range(repeats))

        train = [vgx, "train", config, "--runs", f"{folder}/runs", "--overwrite"]
        one = [*train, "--set", "train.steps=1"]
        help_time = timed(vgx, "--help")
        cold = median(timed(*one, cache=f"cold{i}", repeats=1) for i in range(3))
        timed(*train, repeats=1)
        warm, whole = timed(*one), timed(*train)
    rows = ["| command | s |", "|---|---|"]
    rows += [f"| `vgx --help` | {help_time:.2f} |", f"| one step of quickstart.yaml, empty cache | {cold:.2f} |"]
    rows.append(f"| the same, second time | {warm:.2f} ({cold / warm:.1f} x sooner) |")
    rows.append(f"| all of quickstart.yaml, second time | {whole:.2f} |")
    return "## Start (whole commands)\n\n" + "\n".join(rows)


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
            for measure, words in torch_loops.WORDS.items()
        }
        times = alternated(ours | theirs, 7)
        for name, mine in times.items():
            ratio = median(a / b for a, b in zip(mine, times["vgx, standard"], strict=True))
            rows.append(f"| {depth} x {width}, batch {batch} | {name} | {1e3 * median(mine):.3f} | {ratio:.2f} |")
    return f"## One run ({cores()} cores for each)\n\n" + "\n".join(rows)


def lanes() -> str:
    """Throughput by lanes, on one device and on all."""
    rows = ["| lanes | run-steps/s, one device | all devices | ratio |", "|---|---|---|---|"]
    for count in (1, 2, 18):
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
    for depth, width, batch in ((20, 128, 128), (10, 64, 64), (10, 512, 128), (4, 2048, 128)):
        step = build(depth=depth, width=width, batch=batch, statistics="standard").seconds_per_step
        times = alternated({"step": step, "products": bare_products(depth, width, batch)}, 15)
        share = median(a / b for a, b in zip(times["products"], times["step"], strict=True))
        ours, bare = (1e3 * median(times[name]) for name in ("step", "products"))
        rows.append(f"| {depth} x {width}, batch {batch} | {ours:.3f} | {bare:.3f} | {share:.0%} |")
    return "## Matrix products (standard statistics, one lane, one device)\n\n" + "\n".join(rows)


def precision() -> str:
    """A step in bfloat16 against float32."""
    rows = ["| net | float32, ms | bfloat16, ms | faster by |", "|---|---|---|---|"]
    for depth, width in ((20, 128), (10, 512), (4, 2048)):
        runs = {
            name: build(depth=depth, width=width, statistics="standard", steps=20, precision=name).seconds_per_step
            for name in ("float32", "bfloat16")
        }
        times = alternated(runs, 7)
        ratio = median(a / b for a, b in zip(*times.values(), strict=True))
        wide, narrow = (1e3 * median(mine) for mine in times.values())
        rows.append(f"| {depth} x {width}, batch 128 | {wide:.2f} | {narrow:.2f} | {ratio:.2f} |")
    return "## bfloat16 (standard statistics, one lane)\n\n" + "\n".join(rows)


MEASURES = (start_to_finish, one_run, probes, depth, lanes, products, precision, start)


def main() -> None:
    """Prints each table as it is measured, and writes them all; with names of some as arguments, prints those alone."""
    asked = sys.argv[1:]
    if platform.system() == "Linux" and jax.config.values["jax_num_cpu_devices"] == -1:
        jax.config.update("jax_num_cpu_devices", cores())
    device = jax.devices()[0]
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {device.platform}: {device.device_kind}"
    )
    when = f"`make bench`, {datetime.now(UTC):%Y-%m-%d}, jax {jax.__version__}, torch {torch.__version__}"
    heading = f"# Results\n\n{when}, {machine}. Medians of alternated repeats.\n"
    print(heading)
    tables = []
    for measure in MEASURES:
        if not asked or measure.__name__ in asked:
            tables.append(measure())
            print(tables[-1], "\n", flush=True)
    if asked:
        return
    RESULTS.write_text(heading + "\n" + "\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
