"""Whether theory holds in a run: what was predicted of its layers beside what each step shows."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from vgx.results.store import Run
from vgx.results.words import counted

FALSE_ALARM = 0.01
"""How often a theory that is right is said to deviate at the first step."""
PER_LAYER = math.log10(1.001) / 2
"""Decades of the gradient's norm that each layer may add, for rounding and what falls faster than 1 / n: 0.1 % of its
factor."""


class Agreement(NamedTuple):
    """How the gradient of one lane's hidden layers compares with its prediction."""

    off: np.ndarray
    """[T, L], decades by which |dloss/dh|, relative to the output layer, is larger than predicted."""
    allowed: np.ndarray
    """[L], decades, as `allowed_off` has it."""
    band: np.ndarray
    """[L], one deviation over draws of the weights, in decades."""
    steps: np.ndarray
    """[T]"""

    @property
    def departed(self) -> int | None:
        """The first recorded step at which theory does not hold in some layer, or None."""
        within = np.all(np.abs(self.off) <= self.allowed, 1)
        return None if within.all() else int(self.steps[np.argmin(within)])

    @property
    def holds(self) -> bool:
        """Whether theory holds at the first recorded step."""
        return self.departed != self.steps[0]

    @property
    def sentence(self) -> str:
        """Whether theory matched at the first step, and up to where in training."""
        first, layers = self.off[0], self.off.shape[1]
        if not np.isfinite(first).all():
            return "theory and measurement cannot be compared: no finite gradient in some layer"
        far = int(np.sum(np.abs(first) > self.allowed))
        if far:
            count = f"{far} of {counted(layers, 'layer')}"
            return f"theory deviates in {count} at step {self.steps[0]:,} (most in {self._worst(0)})"
        text = f"theory matched at step {self.steps[0]:,} (largest deviation in {self._worst(0)})"
        if len(self.steps) == 1:
            return text
        if self.departed is None:
            return f"{text} and up to step {self.steps[-1]:,}"
        return (
            f"{text}; first deviates at step {self.departed:,} ({self._worst(list(self.steps).index(self.departed))})"
        )

    def _worst(self, row: int) -> str:
        """The layer that is farthest off, in parts of what is allowed."""
        off = self.off[row]
        layer = int(np.argmax(np.nan_to_num(np.abs(off), nan=np.inf) / self.allowed))
        if not math.isfinite(off[layer]):
            return f"layer {layer + 1}: no finite gradient"
        sigmas = f", {abs(off[layer]) / self.band[layer]:.1f} sigma" if self.band[layer] else ""
        return f"layer {layer + 1}: {off[layer]:+.2f} decades{sigmas}"


def agreement(predicted: np.ndarray, band: np.ndarray, delta_log10: np.ndarray, steps: np.ndarray) -> Agreement:
    """Returns how measured gradients compare with predicted ones.

    Args:
        predicted: [L + 1], log10 of the gradient relative to the output layer's.
        band: [L + 1], a deviation of that over draws of the weights.
        delta_log10: [T, L + 1], measured.
        steps: [T], where.
    """
    with np.errstate(invalid="ignore"):
        off = (delta_log10 - delta_log10[:, -1:] - predicted)[:, :-1]
    return Agreement(off, allowed_off(band), band[:-1], steps)


def allowed_off(band: np.ndarray) -> np.ndarray:
    """Returns by how many decades each hidden layer [L] may be off for the curve as a whole to be as predicted.

    From layer to layer a curve gathers independent deviations, so that over its band it is W_t / sqrt(t) of a Brownian
    motion between t = band[L]^2 and band[1]^2, which passes k somewhere with probability
    phi(k) ((k - 1 / k) ln(t_1 / t_L) + 4 / k): k is where that is FALSE_ALARM.

    Miller and Siegmund 1982, Biometrics 38.

    Args:
        band: [L + 1], a deviation over draws of the weights, 0 at the readout.
    """
    above = np.arange(len(band) - 1, 0, -1)
    inner = band[:-1][np.isfinite(band[:-1]) & (band[:-1] > 0)]
    octaves = 2 * math.log(max(inner.max() / inner.min(), 1.0)) if len(inner) else 0.0
    return _far(round(8 * octaves) / 8) * band[:-1] + PER_LAYER * above


@cache
def _far(length: float) -> float:
    """Deviations that a curve passes with probability FALSE_ALARM, where ln(t_1 / t_L) is `length`."""

    def passes(k: float) -> float:
        density = math.exp(-k * k / 2) / math.sqrt(2 * math.pi)
        return max(density * ((k - 1 / k) * length + 4 / k), math.erfc(k / math.sqrt(2)))

    low, high = 2.0, 10.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) > FALSE_ALARM else (low, middle)
    return high


def lanes_that_hold(run: Run) -> tuple[int, int]:
    """Returns in how many lanes theory holds at the first step in every layer, and of how many that is known."""
    rows = run.prediction(where=pc.field("statistic") == "delta_log10")
    if not len(rows):
        return 0, 0
    lane, predicted, band, measured = (rows[name].to_numpy() for name in ("lane", "predicted", "band", "measured"))
    lanes, first = np.unique(lane, return_index=True)
    off = np.zeros(len(lane), bool)
    # Rows come lane by lane and layer by layer, the readout's last.
    for start, end in pairwise([*first.tolist(), len(lane)]):
        hidden = slice(start, end - 1)
        off[hidden] = ~(np.abs(measured - predicted)[hidden] <= allowed_off(band[start:end]))
    known = np.isin(lanes, lane[~np.isnan(measured)])
    return int(np.sum(known & ~np.isin(lanes, lane[off]))), int(np.sum(known))


def agreement_of(run: Run, lane: int) -> Agreement | None:
    """Returns how theory fared in a lane of a run; None where nothing was predicted, or no layer recorded."""
    mine = (pc.field("lane") == lane) & (pc.field("statistic") == "delta_log10")
    foretold = run.prediction(["predicted", "band"], where=mine)
    measured = run.curves("delta_log10", [lane]).get(lane)
    if not len(foretold) or measured is None:
        return None
    predicted, band = (foretold[name].to_numpy() for name in ("predicted", "band"))
    return agreement(predicted, band, measured.values, measured.steps)
