"""Holds theory against measurement for every activation, and writes THEORY.md: `python -m benchmarks.theory`."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import jax

from vgx.parts import INITIALIZERS
from vgx.theory.predict import GRID_INITIALIZERS, default_activations, placed_normalizations
from vgx.theory.validate import Ensemble, Validation, verify

LIMITS = """
## Where it is off

GELU with He and SiLU with LSUV are off because they are not wide enough: their E[f^2] grows faster than q, so what a
finite width adds to or takes from the size of a signal, some 1 / sqrt(n) per layer, is amplified from layer to layer
(LSUV holds the mean over examples, but not each example). Mean-field theory has no such noise. As n grows, the distance
goes: the same cells at other widths, 20 layers (4 nets; 2 at n = 2048):

| n | gelu, he_normal | silu, lsuv | softplus, he_normal |
|---|---|---|---|
| 512 | +11.2 % | +6.6 % | +4.2 % |
| 1024 | +3.6 % | +5.7 % | +0.4 % |
| 2048 | +0.2 % | +2.7 % | -0.0 % |
"""

RESULTS = Path(__file__).with_name("THEORY.md")


def table(checks: list[Validation]) -> str:
    """Markdown: a table for each normalization, a row per activation, predicted factor and what was measured."""
    lines: list[str] = []
    for title in dict.fromkeys(check.normalization.title for check in checks):
        rows = [check for check in checks if check.normalization.title == title]
        names = list(dict.fromkeys(str(check.initializer) for check in rows))
        lines += [f"\n## {title}\n", f"| activation | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for activation, cells in groupby(rows, key=lambda check: str(check.activation)):
            figures = [
                f"{check.predicted:.4g} {100 * check.off:+.1f} %{'' if check.holds else ' **off**'}" for check in cells
            ]
            lines.append(f"| {activation} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main() -> None:
    bench, began, checks = Ensemble(), time.monotonic(), []
    initializers = [INITIALIZERS.parse(name) for name in GRID_INITIALIZERS]
    for check in verify(default_activations(), initializers, placed_normalizations(), bench):
        checks.append(check)
        print(
            f"{len(checks):4} {check.activation}, {check.initializer}, {check.normalization.title}: "
            f"{check.predicted:.4f} {check.off:+.2%}{'' if check.holds else ' OFF'}",
            flush=True,
        )
    held, worst = sum(check.holds for check in checks), max(checks, key=lambda check: abs(check.off))
    mean = sum(abs(check.off) for check in checks) / len(checks)
    where = f"{worst.activation}, {worst.initializer}, {worst.normalization.title}"
    machine = f"jax {jax.__version__}, {platform.system()} {platform.machine()}, {time.monotonic() - began:.0f} s"
    RESULTS.write_text(f"""# Theory against measurement

`python -m benchmarks.theory` (`vgx verify` prints the same), {datetime.now(UTC):%Y-%m-%d}, {machine}.

Growth of the squared gradient per layer at initialization: as predicted, and how far off it was measured, in per cent.
Nets of {bench.depth} layers of {bench.width}, batches of {bench.batch} normal inputs; the geometric mean over
{bench.interior} interior layers and {bench.nets} nets.

Within the tolerance of 3 sqrt(5 / (n L K)) + 1 % = {bench.tolerance:.1%}: **{held} of {len(checks)}**.
On average {mean:.2%} off, at the most {worst.off:+.2%} ({where}).
{LIMITS}{table(checks)}
""")


if __name__ == "__main__":
    main()
