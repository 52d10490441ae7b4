"""A cure put to the proof: the net trained as it is, and cured."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from vgx.config.schema import Config
from vgx.results.curves import rows_by_lane
from vgx.results.lane_results import gradients_of
from vgx.results.store import Run
from vgx.results.verdict import slope_of
from vgx.results.words import plain
from vgx.runner.loop import TrainingProgress
from vgx.runner.train import train
from vgx.theory.cure import Cure, Diagnosis, slower

NEAR = 0.02
"""Decades per layer within which a first step's slope is as predicted."""


class Proof(NamedTuple):
    """A net that was trained, before or after the cure."""

    what: str
    predicted: float
    """Slopes, in decades per layer."""
    measured: float
    verdict: str
    accuracy: float
    """On the test set, the mean over lanes."""
    path: str

    @property
    def lost(self) -> bool:
        """Whether the gradient was as level as predicted at the first step, and did not stay so."""
        return abs(self.measured) < abs(self.predicted) + NEAR and self.verdict != "healthy"

    def to_json(self) -> dict[str, Any]:
        """Returns the proof as `vgx cure --prove --json` prints it."""
        return {name: plain(value) for name, value in self._asdict().items()}

    @classmethod
    def of(cls, what: str, predicted: float, run: Run) -> Proof:
        """Returns how a run went; what was measured is the slope at its first step, the mean over lanes."""
        lanes = run.lanes().to_pylist()
        layers = run.layers(where=pc.field("step") == 1)
        first = [gradients_of(layers.take(rows)) for rows in rows_by_lane(layers).values()]
        words = sorted({lane["verdict"] or lane["status"] for lane in lanes})
        accuracies = [lane["test_accuracy"] for lane in lanes if lane["test_accuracy"] is not None]
        return cls(
            what,
            predicted,
            float(np.mean([slope_of(gradient[0, :-1]) for gradient in first])),
            ", ".join(words),
            float(np.mean(accuracies)) if accuracies else math.nan,
            str(run.path),
        )


def prove(
    config: Config, diagnosis: Diagnosis, best: Cure, runs: Path, watch: Callable[[str, Config, TrainingProgress], None]
) -> list[Proof]:
    """Returns what became of a net as it is, and cured; where it is lost in training, with smaller steps, too.

    Args:
        config: the net as it is.
        diagnosis: what is wrong with it.
        best: the cure.
        runs: the folder for the runs; one that is there goes on.
        watch: called with what is trained, and how far it is. Raises as `train`.
    """

    def proof(what: str, slope: float, one: Config) -> Proof:
        run = train(one, runs=runs, resume=True, watch=lambda progress: watch(what, one, progress))
        return Proof.of(what, slope, run)

    proofs = [proof("before", diagnosis.effect.verdict.slope, config)]
    for what, one in slower(best.config):
        proofs.append(proof(what, best.effect.verdict.slope, one))
        if not proofs[-1].lost:
            break
    return proofs
