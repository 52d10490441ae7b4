"""Claims and what became of them: what `vgx reproduce` prints, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from vgx.report.claim_words import COLOURS, in_words, interval, more_seeds, ours, seeds_in_words, verdict_words
from vgx.report.terminal.tables import plain_table, right
from vgx.results.words import counted, duration, plain

if TYPE_CHECKING:
    from vgx.reproduce.evaluate import CheckResult, LaneCount, Result
    from vgx.reproduce.experiment import Experiment


def experiments_table(
    experiments: Sequence[Experiment], counts: Sequence[LaneCount], results: Sequence[Result | None]
) -> RenderableType:
    """Returns the experiments as a table: name, claim, verdicts so far, runs, time."""
    table = plain_table(Column("name", no_wrap=True), "claim", right("runs"), right("takes"))
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


def expectation(seconds: Sequence[float]) -> str:
    """Returns how long experiments are to take, given the seconds of each; nothing where all is done."""
    left = [time for time in seconds if time]
    if not left:
        return ""
    what = f"{len(left)} of {counted(len(seconds), 'experiment')} to run: " if len(seconds) > 1 else ""
    return f"{what}about {duration(sum(left))} on this machine; Ctrl-C stops, and the same command goes on"


def _coloured(verdict: str) -> Text:
    text = Text()
    for i, part in enumerate(verdict.split(", ")):
        word = part.lstrip("0123456789 ")
        text.append(", " if i else "").append(part, COLOURS.get(word, ""))
    return text


def show_result(result: Result) -> RenderableType:
    """Returns an experiment's claim, every check with its figures and verdict, and where the run is."""
    claim = result.claim
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_row(Text("source", "dim"), claim.source)
    if claim.differs:
        facts.add_row(Text("here", "dim"), claim.differs)
    facts.add_row(Text("scale", "dim"), "; ".join((f"{result.scale}, {seeds_in_words(result.seeds)}", *result.notes)))
    parts: list[RenderableType] = [Text.assemble((result.name, "bold"), f"  {claim.says}"), facts]
    for outcome in result.outcomes:
        parts += [Text(), *_outcome(outcome)]
    return Group(*parts, Text(), last_line(result))


def _outcome(outcome: CheckResult) -> list[RenderableType]:
    title = Table.grid(padding=(0, 2, 0, 0))
    title.add_column(no_wrap=True)
    title.add_column()
    words = Text(in_words(outcome))
    for line in (outcome.note, f"published: {outcome.published}" if outcome.published else ""):
        words.append(f"\n{line}" if line else "", "dim")
    title.add_row(Text(outcome.verdict, f"bold {COLOURS[outcome.verdict]}"), words)
    several = len(outcome.findings) > 1
    numbers = map(right, ("claimed", "ours", "95 % interval"))
    table = plain_table("", *numbers, "verdict" if several else "", padding=(0, 2, 0, 0))
    for finding in outcome.findings:
        what = Text(finding.what or "all")
        if finding.note:
            what.append(f"\n{finding.note}", "dim")
        verdict = Text(finding.verdict if several else "", COLOURS.get(finding.verdict, ""))
        verdict.append(more_seeds(finding, ", " if verdict else ""), "dim")
        table.add_row(what, finding.claimed, ours(finding), interval(finding), verdict)
    return [title, table] if outcome.findings else [title]


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
        "notes": list(result.notes),
        "run": str(result.run.path),
        "verdicts": result.verdicts,
        "checks": [_check_json(outcome) for outcome in result.outcomes],
    }


def _check_json(outcome: CheckResult) -> dict[str, Any]:
    findings = [{name: plain(value) for name, value in finding._asdict().items()} for finding in outcome.findings]
    return outcome._asdict() | {"findings": findings}
