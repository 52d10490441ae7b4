"""Holds theory against measurement for every activation, and writes THEORY.md: `python -m benchmarks.theory`."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import jax

from vgx.parts import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS, RESIDUALS, Residual
from vgx.theory.predict import GRID_INITIALIZERS, default_activations, placed_normalizations
from vgx.theory.validate import BATCHES, PLAIN, SLACK, STREAM_SLACK, Ensemble, Validation, verify

RESULTS, RESIDUAL = (Path(__file__).with_name(name) for name in ("THEORY.md", "RESIDUAL.md"))
SMALL_NAMES, SMALL_BATCHES, SMALL_NETS = ("relu", "tanh", "logistic", "elu", "gelu"), (4, 8, 16, 32), 16


def table(checks: list[Validation]) -> str:
    """Markdown: a table for each normalization, a row per activation, predicted factor and what was measured."""
    lines: list[str] = []
    for title, batch in dict.fromkeys((check.title, check.batch) for check in checks):
        rows = [check for check in checks if (check.title, check.batch) == (title, batch)]
        names = list(dict.fromkeys(str(check.initializer) for check in rows))
        lines += [
            f"\n## {title}, batches of {batch}\n",
            f"| activation | {' | '.join(names)} |",
            "|---" * (len(names) + 1) + "|",
        ]
        for activation, cells in groupby(rows, key=lambda check: str(check.activation)):
            figures = [
                f"{check.predicted:.4g} {100 * check.off:+.1f} %{'' if check.holds else ' **off**'}" for check in cells
            ]
            lines.append(f"| {activation} | {' | '.join(figures)} |")
    return "\n".join(lines)


def small_batches() -> str:
    """Markdown: batch norm after the activation, measured and predicted factors at small batches."""
    activations = [ACTIVATIONS.parse(name) for name in SMALL_NAMES]
    after = NORMALIZATIONS.parse({"name": "batch", "placement": "after"})
    lecun = INITIALIZERS.parse("lecun_normal")
    found = {
        (str(check.activation), batch): check
        for batch in SMALL_BATCHES
        for check in verify(activations, [lecun], [after], ensemble=Ensemble(batch=batch, nets=SMALL_NETS))
    }
    lines = [f"| activation | {' | '.join(f'B = {batch}' for batch in SMALL_BATCHES)} |"]
    lines.append("|---" * (len(SMALL_BATCHES) + 1) + "|")
    for name in SMALL_NAMES:
        cells = [found[name, batch] for batch in SMALL_BATCHES]
        figures = [f"{check.measured:.3f}, {check.predicted:.3f} ({check.off:+.1%})" for check in cells]
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def measured(names: Sequence[str], residuals: list[Residual], batches: tuple[int, ...]) -> list[Validation]:
    """Every combination of activation, normalization and these initializers, told as it comes."""
    initializers, checks = [INITIALIZERS.parse(name) for name in names], []
    for batch in batches:
        parts = default_activations(), initializers, placed_normalizations(), residuals
        for check in verify(*parts, ensemble=Ensemble(batch=batch)):
            checks.append(check)
            print(
                f"{len(checks):4} B {batch}: {check.activation}, {check.initializer}, {check.title}: "
                f"{check.predicted:.4f} {check.off:+.2%}{'' if check.holds else ' OFF'}",
                flush=True,
            )
    return checks


def summary(checks: list[Validation]) -> str:
    """How many held, and how far off they were."""
    held, worst = sum(check.holds for check in checks), max(checks, key=lambda check: abs(check.off))
    mean = sum(abs(check.off) for check in checks) / len(checks)
    where = f"{worst.activation}, {worst.initializer}, {worst.title}, batches of {worst.batch}"
    return f"""**{held} of {len(checks)}**.
On average {mean:.2%} off, at the most {worst.off:+.2%} ({where})."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--residual", action="store_true", help="of nets with skip connections: writes RESIDUAL.md")
    (write_residual if parser.parse_args().residual else write)()


def heading(title: str, command: str, began: float, batches: tuple[int, ...]) -> str:
    """The top of a page: what was run, when, where, and on what."""
    machine = f"jax {jax.__version__}, {platform.system()} {platform.machine()}, {time.monotonic() - began:.0f} s"
    bench, sizes = Ensemble(), " and ".join(map(str, batches))
    return f"""# {title}

`{command}` (`vgx verify` prints the same), {datetime.now(UTC):%Y-%m-%d}, {machine}.

Growth of the squared gradient per layer at initialization: as predicted for this width, and how far off it was
measured, in per cent. Nets of {bench.depth} layers of {bench.width}, batches of {sizes} normal inputs; the geometric
mean over {bench.interior} interior layers and {bench.nets} nets.
"""


def write() -> None:
    began, checks, small = time.monotonic(), measured(GRID_INITIALIZERS, [PLAIN], BATCHES), small_batches()
    RESULTS.write_text(f"""{heading("Theory against measurement", "python -m benchmarks.theory", began, BATCHES)}
Within three deviations over draws, as theory has them, and {SLACK:.0%}: {summary(checks)}

How many nets lie in theory's bands, and how wrong a theory is found out, is in [CALIBRATION.md](CALIBRATION.md); nets
with skip connections are in [RESIDUAL.md](RESIDUAL.md), Jacobians and coherence in [JACOBIANS.md](JACOBIANS.md).

## Batch norm after the activation, small batches

Measured and predicted, {SMALL_NETS} nets for each.

{small}
{table(checks)}
""")


def write_residual() -> None:
    began, batches = time.monotonic(), BATCHES[-1:]
    kinds = [RESIDUALS.parse(name) for name in ("pre_activation", "post_activation")]
    checks = measured(("he_normal", "orthogonal"), kinds, batches)
    command = "python -m benchmarks.theory --residual"
    RESIDUAL.write_text(f"""{heading("Theory of residual nets against measurement", command, began, batches)}
The growth is the stream's, of branches that are added as they are (scale 1).

Within three deviations over draws, as theory has them, and {STREAM_SLACK:.0%}: {summary(checks)}
{table(checks)}
""")


if __name__ == "__main__":
    main()
