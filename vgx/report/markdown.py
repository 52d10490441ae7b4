"""`docs/CLAIMS.md`: every claim with what was published, what vgx measured, and the verdict."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vgx.errors import RunError
from vgx.report.claim_words import in_words, interval, more_seeds, ours, seeds_in_words, verdict_words
from vgx.results.files import drafted, explained

if TYPE_CHECKING:
    from vgx.reproduce.evaluate import CheckResult, Result
    from vgx.reproduce.findings import Finding

HEAD = """\
# The article's claims, tested

Written by `vgx reproduce --all --scale {scale} --write` from the runs themselves; nothing here is typed by hand. `vgx
reproduce NAME` makes any line again, and with `--write` its section here, which says what it was made on; each
experiment is a YAML file in [configs/reproduce](../configs/reproduce).

A published *number* is reproduced when the mean over seeds is within the tolerance and its 95 % interval is no wider
than that; not reproduced when the whole interval is outside. A *claim* is supported or contradicted when the whole
interval is on one side; two arms are *the same* when the whole interval of their difference lies within a margin that
the experiment names; all else is undecided. Intervals are Student's below ten seeds and bootstrapped from ten on; those
of shares stay between 0 and 1 (Wilson's, with the spread of the seeds). Where several pairs are compared at once, each
is tested, and its interval is shown, at its level in Holm's procedure. Arms are paired by seed; learning rates are
chosen for each arm on validation data; nothing is decided by fewer than three seeds. A figure with > or < before it is
a bound: some runs ended too soon to show it.
"""


WRITTEN = "Written by `vgx reproduce"
"""In every such page."""


def refuse_others(target: Path, of_scale: str | None = None) -> None:
    """Raises RunError when a page of claims would replace something else than one, or one of another scale."""
    with explained(target, "read"):
        if not os.path.lexists(target):
            return
        start = target.read_text(encoding="utf-8", errors="replace")[:2000] if target.is_file() else ""
    if WRITTEN not in start:
        raise RunError(f"{target}: exists, and vgx did not write it; move it away, or work in another folder")
    if of_scale and f"--scale {of_scale} --write`" not in start:
        raise RunError(f"{target}: is of another scale than {of_scale}; --all --write makes the page anew")


def write_page(results: Sequence[Result], target: Path) -> None:
    """Writes the page, in the place of an older one. Raises as `refuse_others`; EnvironmentFault when it cannot be."""
    refuse_others(target)
    text = page(results)
    with explained(target), drafted(target) as draft:
        draft.write_text(text, encoding="utf-8")


def renew_section(result: Result, target: Path) -> None:
    """Writes one claim's line and section of the page, in the place of older ones or at the end; others stay.

    Raises as `refuse_others` for a page of the result's scale.
    """
    refuse_others(target, result.scale)
    with explained(target, "read"):
        text = target.read_text(encoding="utf-8") if target.exists() else ""
    head, *parts = re.split(r"(?m)^(?=## )", text)
    sections = {part.split("\n", 1)[0][3:]: part.rstrip("\n") for part in parts}
    rows = dict(re.findall(r"(?m)^(?=\| \[.*\]\(#([^)]+)\) \|)(.*)$", head))
    sections[result.name], rows[result.name] = "\n".join(_section(result)), _line(result)
    text = "\n".join([*_head(result.scale), *rows.values(), "", "\n\n".join(sections.values())]) + "\n"
    with explained(target), drafted(target) as draft:
        draft.write_text(text, encoding="utf-8")


def page(results: Sequence[Result]) -> str:
    """Returns the page, in Markdown; the same runs give the same text."""
    lines = [*_head(results[0].scale), *map(_line, results)]
    for result in results:
        lines += ["", *_section(result)]
    return "\n".join(lines) + "\n"


def _head(scale: str) -> list[str]:
    return [HEAD.format(scale=scale), "| claim | verdict | command |", "|---|---|---|"]


def _line(result: Result) -> str:
    claim = f"[{_cell(result.claim.says)}](#{result.name})"
    return f"| {claim} | {verdict_words(result)} | `vgx reproduce {result.name}` |"


def _machine(result: Result) -> str:
    meta = result.run.meta
    known = meta.get("versions", {})
    versions = ", ".join(f"{name} {known[name]}" for name in ("vgx", "jax", "flax", "python") if name in known)
    return f"{len(meta['devices'])} x {meta['devices'][0]}, {meta.get('host', {}).get('system', '?')}; {versions}"


def _section(result: Result) -> Iterator[str]:
    claim = result.claim
    yield f"## {result.name}"
    yield ""
    yield f"{claim.says}. Source: {claim.source}."
    here = "; ".join(filter(None, (claim.differs, seeds_in_words(result.seeds), *result.notes)))
    yield f"Here: {here}." if claim.differs else f"{here[0].upper()}{here[1:]}."
    yield f"Machine: {_machine(result)}."
    yield ""
    yield "| what | claimed | ours | 95 % interval | verdict |"
    yield "|---|---|---|---|---|"
    for outcome in result.outcomes:
        yield f"| **{_cell(in_words(outcome))}**{_aside(outcome)} | | | | **{outcome.verdict}** |"
        for finding in outcome.findings:
            yield _row(finding, several=len(outcome.findings) > 1)


def _aside(outcome: CheckResult) -> str:
    published = f"published: {outcome.published}" if outcome.published else ""
    return "".join(f"; {_cell(text)}" for text in (published, outcome.note) if text)


def _row(finding: Finding, several: bool) -> str:
    what = _cell(finding.what or "all") + (f" ({_cell(finding.note)})" if finding.note else "")
    verdict = ", ".join(filter(None, (finding.verdict if several else "", more_seeds(finding))))
    return f"| {what} | {_cell(finding.claimed)} | {ours(finding)} | {interval(finding)} | {verdict} |"


def _cell(text: str) -> str:
    """What a table's cell takes as it is."""
    return text.replace("|", "/").replace("<", "&lt;").replace(">", "&gt;")
