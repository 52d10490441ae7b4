"""Draws hundreds of nets per setting, to see how many lie in theory's bands, and how wrong a theory is found out.

`python -m benchmarks.calibration` writes benchmarks/CALIBRATION.md; `--curves FOLDER` keeps what was measured there,
and takes what is there already.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from vgx.parts import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS
from vgx.results.agreement import agreement
from vgx.theory.mean_field import Propagation
from vgx.theory.validate import Ensemble, drawn_curves, expected_curves

RESULTS = Path(__file__).with_name("CALIBRATION.md")
ACTIVATION_NAMES = ("logistic", "tanh", "relu", "leaky_relu", "elu", "selu")
INITIALIZER_NAMES = ("he_normal", "he_uniform", "orthogonal", "lsuv")
NORMALIZATION_NAMES = ("none", "batch", "layer")
SHAPES = (Ensemble(64, 10, 400, 64), Ensemble(256, 50, 400, 64))
POWER = Ensemble(512, 50, 40, 64)
POWER_ACTIVATIONS = ("tanh", "relu")
WRONG = (0.0, 0.01, 0.02, 0.03, 0.05)
"""By what part the squared factor of each layer is made wrong."""
NORMAL = 1.96


class Setting(NamedTuple):
    """Nets of one kind: what was measured of them, [K, L + 1], and what theory says."""

    initializer: str
    activation: str
    normalization: str
    measured: np.ndarray
    expected: Propagation

    @property
    def coverage(self) -> np.ndarray:
        """The share of nets within 1.96 bands at each hidden layer: [L]."""
        off = self.measured - self.measured[:, -1:] - self.expected.delta_log10
        return np.mean(np.abs(off) <= NORMAL * self.expected.band, 0)[:-1]

    def rejected(self, wrong: float) -> float:
        """The share of nets in which a theory is found out whose squared factor is this much too large."""
        layers = np.arange(self.measured.shape[1] - 1, -1, -1)
        predicted = self.expected.delta_log10 + layers * math.log10(1 + wrong) / 2
        steps = np.arange(1, len(self.measured) + 1)
        found = agreement(predicted, self.expected.band, self.measured, steps)
        return float(np.mean(~np.all(np.abs(found.off) <= found.allowed, 1)))


def measured(
    ensemble: Ensemble, activations: Sequence[str], normalizations: Sequence[str], folder: Path | None
) -> Iterator[Setting]:
    """Yields every setting of an ensemble; what a folder holds is not drawn again."""
    acts = [ACTIVATIONS.parse(name) for name in activations]
    norms = [NORMALIZATIONS.parse(name) for name in normalizations]
    for name in INITIALIZER_NAMES:
        kept = folder / f"{name}-{ensemble.width}-{ensemble.depth}-{ensemble.nets}.npz" if folder else None
        initializer = INITIALIZERS.parse(name)
        if kept and kept.exists():
            curves = dict(np.load(kept))
        else:
            _, found = next(drawn_curves(acts, [initializer], norms, ensemble))
            curves = {f"{act.name} {norm.name}": values for (act, norm), values in found.items()}
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                np.savez(kept, allow_pickle=False, **curves)
        print(f"{ensemble.width} x {ensemble.depth}, {name}", flush=True)
        for act in acts:
            for norm in norms:
                expected = expected_curves(act, initializer, norm, ensemble)
                yield Setting(name, act.name, norm.name, curves[f"{act.name} {norm.name}"], expected)


def coverage_table(ensemble: Ensemble, settings: Sequence[Setting]) -> str:
    """Markdown: in per cent the coverage at the bottom layer, at the middle one, at the top one, and over all."""
    middle = ensemble.depth // 2
    lines = [
        f"\n### {ensemble.depth} layers of {ensemble.width}\n",
        f"| initializer | normalization | {' | '.join(ACTIVATION_NAMES)} |",
        "|---" * (2 + len(ACTIVATION_NAMES)) + "|",
    ]
    for initializer in INITIALIZER_NAMES:
        for norm in NORMALIZATION_NAMES:
            cells = []
            for name in ACTIVATION_NAMES:
                wanted = initializer, name, norm
                [one] = [x for x in settings if (x.initializer, x.activation, x.normalization) == wanted]
                shares = one.coverage
                cells.append(" ".join(f"{100 * x:.0f}" for x in (shares[0], shares[middle], shares[-1], shares.mean())))
            lines.append(f"| {initializer} | {norm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def power_table(settings: Sequence[Setting]) -> str:
    """Markdown: in per cent how often a wrong theory is found out."""
    lines = [f"| initializer | activation | {' | '.join(f'{x:.0%}' for x in WRONG)} |", "|---" * (2 + len(WRONG)) + "|"]
    for one in settings:
        cells = [f"{100 * one.rejected(wrong):.0f}" for wrong in WRONG]
        lines.append(f"| {one.initializer} | {one.activation} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=Path, help="a folder for what is measured")
    parser.add_argument("--nets", type=int, help="nets per setting, in place of 400")
    options = parser.parse_args()
    began, tables, everything = time.monotonic(), [], []
    for shape in SHAPES:
        ensemble = shape._replace(nets=options.nets or shape.nets)
        settings = list(measured(ensemble, ACTIVATION_NAMES, NORMALIZATION_NAMES, options.curves))
        tables.append(coverage_table(ensemble, settings))
        everything += settings
    power = list(measured(POWER, POWER_ACTIVATIONS, ("none",), options.curves))
    bottom = np.array([one.coverage[0] for one in everything])
    newline, held = "\n", np.sum((bottom >= 0.9) & (bottom <= 0.98))
    machine = f"jax {jax.__version__}, {platform.system()} {platform.machine()}, {time.monotonic() - began:.0f} s"
    machine += ", with curves that had been drawn before" if options.curves else ""
    RESULTS.write_text(f"""# Theory's bands, calibrated

`python -m benchmarks.calibration`, {datetime.now(UTC):%Y-%m-%d}, {machine}.

## How many nets lie in the band

In per cent, of {len(everything[0].measured)} drawn nets: those within 1.96 bands of the predicted gradient, at the
bottom layer, the middle one, the top one, and on average over all layers; 95 would be right. Batches of 64 normal
inputs, 10 classes. At the bottom layer {held} of {len(bottom)} settings are between 90 and 98.
{newline.join(tables)}

## How wrong a theory is found out

In per cent, of {POWER.nets} nets of {POWER.depth} layers of {POWER.width} without normalization: those in which theory
is said to deviate when the squared factor of each layer is made wrong by so much. At 0 % these are false alarms.

{power_table(power)}
""")


if __name__ == "__main__":
    main()
