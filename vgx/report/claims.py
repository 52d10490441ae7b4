"""Claims and what became of them: what `vgx reproduce` prints, and `docs/CLAIMS.md`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vgx.report.sweeps import duration
from vgx.report.terminal import plain
from vgx.words import counted

if TYPE_CHECKING:
    from vgx.claims import Experiment
    from vgx.comparisons import Finding
    from vgx.reproduction import Count, Outcome, Result

COLOURS = {
    "reproduced": "green",
    "supported": "green",
    "not reproduced": "red",
    "contradicted": "magenta",
    "undecided": "yellow",
}


def experiments_table(
    experiments: Sequence[Experiment], counts: Sequence[Count], results: Sequence[Result | None]
) -> RenderableType:
    """Returns the experiments as a table: name, claim, verdicts so far, runs, time."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    table.add_column("name", no_wrap=True)
    table.add_column("claim")
    table.add_column("runs", justify="right", no_wrap=True)
    table.add_column("takes", justify="right", no_wrap=True)
    for experiment, count, result in zip(experiments, counts, results, strict=True):
        claim = Text(experiment.claim.says)
        if result:
            claim.append("\n").append_text(_coloured(verdict_words(result)))
        done = f"{count.done:,}/{count.lanes:,}" if 0 < count.done < count.lanes else f"{count.lanes:,}"
        seconds = experiment.size.seconds
        takes = "done" if count.done == count.lanes else duration(seconds) if seconds else "-"
        table.add_row(Text(experiment.name, "bold"), claim, done, takes)
    left = sum(
        experiment.size.seconds or 0.0
        for experiment, count in zip(experiments, counts, strict=True)
        if count.done < count.lanes
    )
    takes = f" (about {duration(left)} on two cores)" if left else ""
    note = f"`vgx reproduce NAME --scale {experiments[0].scale}` runs one, --all every one that is not done{takes}"
    return Group(table, Text(), Text(note, "dim"))


def _coloured(verdict: str) -> Text:
    text = Text()
    for i, part in enumerate(verdict.split(", ")):
        word = part.lstrip("0123456789 ")
        text.append(", " if i else "").append(part, COLOURS.get(word, ""))
    return text


def verdict_words(result: Result) -> str:
    """Returns the verdicts on an experiment's checks: `supported`, or `2 supported, 1 contradicted`."""
    words = [word for word in COLOURS if word in result.verdicts]
    if len(words) == 1 and len(result.verdicts) == 1:
        return words[0]
    return ", ".join(f"{result.verdicts.count(word)} {word}" for word in words)


def show_result(result: Result) -> RenderableType:
    """Returns an experiment's claim, every check with its figures and verdict, and where the run is."""
    claim = result.claim
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_row(Text("source", "dim"), claim.source)
    if claim.differs:
        facts.add_row(Text("here", "dim"), claim.differs)
    facts.add_row(Text("scale", "dim"), f"{result.scale}, {seeds_in_words(result.seeds)}")
    parts: list[RenderableType] = [Text.assemble((result.name, "bold"), f"  {claim.says}"), facts]
    for outcome in result.outcomes:
        parts += [Text(), *_outcome(outcome)]
    return Group(*parts, Text(), last_line(result))


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Returns `seeds 0-4`, or the list of them."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    run = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"seeds {seeds[0]} to {seeds[-1]}" if run else "seeds " + ", ".join(map(str, seeds))


def _outcome(outcome: Outcome) -> list[RenderableType]:
    title = Table.grid(padding=(0, 2, 0, 0))
    title.add_column(no_wrap=True)
    title.add_column()
    words = Text(in_words(outcome))
    for line in (outcome.note, f"published: {outcome.published}" if outcome.published else ""):
        words.append(f"\n{line}" if line else "", "dim")
    title.add_row(Text(outcome.verdict, f"bold {COLOURS[outcome.verdict]}"), words)
    several = len(outcome.findings) > 1
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("")
    for name in ("claimed", "ours", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict" if several else "")
    for finding in outcome.findings:
        what = Text(finding.what or "all")
        if finding.note:
            what.append(f"\n{finding.note}", "dim")
        verdict = Text(finding.verdict if several else "", COLOURS.get(finding.verdict, ""))
        verdict.append(more_seeds(finding, ", " if verdict else ""), "dim")
        table.add_row(what, finding.claimed, ours(finding), interval(finding), verdict)
    return [title, table] if outcome.findings else [title]


def in_words(outcome: Outcome) -> str:
    """Returns what a check says, and the setting it is made in."""
    return f"{outcome.says} ({outcome.setting})" if outcome.setting else outcome.says


def more_seeds(finding: Finding, before: str = "") -> str:
    """Returns how many more seeds would decide a finding, if that is known."""
    return f"{before}{counted(finding.more, 'more seed')}" if finding.more else ""


def ours(finding: Finding) -> str:
    """Returns a finding's figure, with two digits of its uncertainty."""
    return _number(finding.ours, finding)


def interval(finding: Finding) -> str:
    """Returns a finding's interval as `[0.971, 0.974]`; nothing where there is none."""
    if not math.isfinite(finding.low + finding.high):
        return "-"
    return f"[{_number(finding.low, finding)}, {_number(finding.high, finding)}]"


def _number(value: float, finding: Finding) -> str:
    if not math.isfinite(value):
        return "-"
    spread = (finding.high - finding.low) / 2
    largest = max(abs(value), spread)
    if not spread > 0 or not 1e-4 <= largest < 1e6:
        return f"{value:.4g}"
    return f"{value:.{min(max(1 - math.floor(math.log10(spread)), 0), 7)}f}"


def last_line(result: Result) -> Text:
    """Returns an experiment's name, its verdicts, and where the run is."""
    return Text.assemble((result.name, "bold"), ": ", _coloured(verdict_words(result)), f"  {result.run.path}")


def listed_json(experiment: Experiment, result: Result | None) -> dict[str, Any]:
    """Returns what `vgx reproduce --json` lists of an experiment."""
    cells, seeds = len(experiment.sweep.cells), len(experiment.sweep.base.seed_list)
    return {
        "name": experiment.name,
        "claim": experiment.claim.says,
        "source": experiment.claim.source,
        "scale": experiment.scale,
        "lanes": cells * seeds,
        "seconds": experiment.size.seconds,
        "verdicts": result.verdicts if result else None,
    }


def to_json(result: Result) -> dict[str, Any]:
    """Returns a result as `vgx reproduce --json` prints it: null where a number is none."""
    return {
        "name": result.name,
        "claim": result.claim.says,
        "source": result.claim.source,
        "scale": result.scale,
        "seeds": list(result.seeds),
        "run": str(result.run.path),
        "verdicts": result.verdicts,
        "checks": [_check_json(outcome) for outcome in result.outcomes],
    }


def _check_json(outcome: Outcome) -> dict[str, Any]:
    findings = [{name: plain(value) for name, value in finding._asdict().items()} for finding in outcome.findings]
    return outcome._asdict() | {"findings": findings}
