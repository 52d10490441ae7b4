"""Measures what it costs to deal a net's batches out: steps by width, probes on two devices; a part of SCALE.md.

From the seconds of a step on one device and the bytes that an all-reduce of its gradient moves, what more devices could
bring: on paper, since no machine with several accelerators was there.
"""

from __future__ import annotations

import os
from statistics import median
from typing import NamedTuple

DEPTH, BATCH = 4, 256
WIDTHS = (512, 1024, 2048, 4096, 8192)
DEVICES = (2, 8, 64)
FEATURES, CLASSES = 784, 10
REPEATS = 7


class Link(NamedTuple):
    """What joins devices, and how fast each of them computes, if not as measured."""

    name: str
    bytes_per_second: float
    operations_per_second: float | None
    """Of one device; None: as measured here."""


LINKS = (
    Link("as here, 10 Gb/s network", 1.25e9, None),
    Link("50 TFLOP/s, 50 GB/s between hosts", 5e10, 5e13),
    Link("50 TFLOP/s, 450 GB/s within a host", 4.5e11, 5e13),
)


def parameters(width: int) -> int:
    """Returns how many parameters the net has."""
    return FEATURES * width + (DEPTH - 1) * width**2 + width * CLASSES + DEPTH * width + CLASSES


def operations(width: int) -> float:
    """Returns the floating-point operations of one step's matrix products."""
    return 6.0 * BATCH * parameters(width)


def share_of_ideal(seconds: float, width: int, devices: int, link: Link) -> float:
    """Returns the expected speed on `devices` over `devices` times that of one: a ring's all-reduce, nothing hidden."""
    one = operations(width) / link.operations_per_second if link.operations_per_second else seconds
    moved = 2 * (devices - 1) / devices * 4 * parameters(width)
    return (one / devices) / (one / devices + moved / link.bytes_per_second)


def steps_by_width() -> dict[int, float]:
    """Returns the seconds of a step with standard statistics, on one device, by width."""
    from benchmarks.programs import build

    found = {}
    for width in WIDTHS:
        step = build(statistics="standard", depth=DEPTH, width=width, batch=BATCH, steps=2 if width > 2048 else 10)
        step.seconds_per_step()
        found[width] = median(step.seconds_per_step() for _ in range(3))
    return found


def probes_on_two() -> dict[tuple[str, int], float]:
    """Returns the seconds of a step by statistics and devices, 20 x 128 in batches of 128, in alternated repeats."""
    from benchmarks.programs import build

    wanted = [(statistics, devices) for statistics in ("none", "lite", "standard") for devices in (1, 2)]
    steps = {
        (statistics, devices): build(
            statistics=statistics, depth=20, width=128, batch=128, devices=devices, per_run=devices
        )
        for statistics, devices in wanted
    }
    taken: dict[tuple[str, int], list[float]] = {one: [] for one in wanted}
    for _ in range(REPEATS):
        for one, step in steps.items():
            taken[one].append(step.seconds_per_step())
    return {one: median(seconds) for one, seconds in taken.items()}


def page() -> str:
    """Returns the part of SCALE.md on one net over several devices."""
    import jax

    jax.config.update("jax_num_cpu_devices", min(2, os.cpu_count() or 1))
    by_width, probes = steps_by_width(), probes_on_two()
    heads = [f"{link.name}, {devices}" for link in LINKS for devices in DEVICES]
    lines = [
        "## One net over several devices",
        "",
        f"{DEPTH} layers, batches of {BATCH}, standard statistics at every step: seconds of a step on one device,"
        " measured here, and the bytes of its gradient. Then, on paper, the speed on 2, 8 and 64 devices as a share of"
        " ideal, if a ring sums the gradient and nothing of that is hidden behind the backward pass.",
        "",
        f"| width | parameters | step | gradient | {' | '.join(heads)} |",
        "|" + "---|" * (4 + len(heads)),
    ]
    for width, seconds in by_width.items():
        shares = [f"{share_of_ideal(seconds, width, n, link):.0%}" for link in LINKS for n in DEVICES]
        size = f"{4 * parameters(width) / 1e6:,.0f} MB"
        lines.append(f"| {width} | {parameters(width):,} | {seconds:.3g} s | {size} | {' | '.join(shares)} |")
    lines += [
        "",
        "What the probes cost a step of 20 x 128 in batches of 128, over `statistics: none` on as many devices (two"
        " CPU devices share this machine's cores, so the column on two says what sums over devices add, not what they"
        " bring):",
        "",
        "| statistics | one device | two devices |",
        "|---|---|---|",
    ]
    for statistics in ("none", "lite", "standard"):
        cells = [
            f"{probes[statistics, n] * 1e3:.2f} ms, {probes[statistics, n] / probes['none', n]:.2f} x" for n in (1, 2)
        ]
        lines.append(f"| {statistics} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page())
