"""Cures in the terminal: what `vgx cure` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from vgx.report.palette import VERDICT_INKS
from vgx.report.terminal.tables import plain_table, right
from vgx.report.words import describe_config
from vgx.results.words import counted, figure, signed

if TYPE_CHECKING:
    from vgx.runner.proof import Proof
    from vgx.theory.cure import Diagnosis

SHOWN = 10
LOST = "level at the first step, and lost in training even so: deep nets bear little; try another optimizer"


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
