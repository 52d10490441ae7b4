"""Cures in the terminal: what `vgx cure` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from vgx.report.palette import VERDICT_INKS
from vgx.report.terminal.tables import plain_table, right
from vgx.report.words import describe_config
from vgx.results.store import Run
from vgx.results.verdict import slope_of
from vgx.results.words import counted, figure, plain, signed

if TYPE_CHECKING:
    from vgx.theory.cure import Diagnosis

SHOWN = 10
NEAR = 0.02
"""Decades per layer within which a first step's slope is as predicted."""
LOST = "level at the first step, and lost in training even so: deep nets bear little; try another optimizer"


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
        curves = run.curves("delta_log10", steps=[1])
        words = sorted({lane["verdict"] or lane["status"] for lane in lanes})
        accuracies = [lane["test_accuracy"] for lane in lanes if lane["test_accuracy"] is not None]
        return cls(
            what,
            predicted,
            float(np.mean([slope_of(own.hidden[0]) for own in curves.values()])),
            ", ".join(words),
            float(np.mean(accuracies)) if accuracies else math.nan,
            str(run.path),
        )


def diagnosis_text(diagnosis: Diagnosis, config: dict[str, Any]) -> RenderableType:
    """Returns what is wrong with a net and what helps, the smallest change first; or why nothing does."""
    verdict = diagnosis.effect.verdict
    header = Text.assemble((config["name"], "bold"), f"  {describe_config(config)}\n")
    header.append(verdict.word, f"bold {VERDICT_INKS[verdict.word]}").append(f" (predicted): {verdict.evidence}")
    if diagnosis.healthy:
        return Group(header, Text(), Text("nothing to cure"))
    if diagnosis.effect.fault != verdict.evidence:
        header.append(f"\n{diagnosis.effect.fault}")
    parts: list[RenderableType] = [header, Text()]
    if diagnosis.cures:
        table = plain_table("what helps", "predicted slope")
        for cure in diagnosis.cures[:SHOWN]:
            table.add_row(cure.in_words, Text(signed(cure.effect.verdict.slope, 4), "green"))
        parts.append(table)
        if len(diagnosis.cures) > SHOWN:
            parts.append(Text(f"... and {counted(len(diagnosis.cures) - SHOWN, 'larger change')}", "dim"))
    else:
        parts.append(Text("nothing helps that may be touched: activation, shape and data are yours", "red"))
    if diagnosis.rejected:
        table = plain_table("what does not (nearest of each kind)", "why")
        for cure in diagnosis.rejected:
            table.add_row(cure.in_words, cure.fault)
        parts += [Text(), table]
    return Group(*parts)


def proof_table(proofs: Sequence[Proof]) -> RenderableType:
    """Returns what became of the nets that were trained."""
    numbers = [right(name, no_wrap=False) for name in ("predicted", "measured")]
    table = plain_table("trained", *numbers, "verdict", right("test", no_wrap=False))
    for proof in proofs:
        verdict = Text(proof.verdict, VERDICT_INKS.get(proof.verdict, ""))
        accuracy = None if math.isnan(proof.accuracy) else proof.accuracy
        table.add_row(proof.what, signed(proof.predicted, 4), signed(proof.measured, 4), verdict, figure(accuracy))
    lines = [Text(f"{proof.what}: {proof.path}", "dim") for proof in proofs]
    if proofs[-1].lost:
        lines.append(Text(LOST, "yellow"))
    return Group(table, *lines)
