"""Nets side by side in the terminal: what `vgx compare` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vgx.errors import RunError
from vgx.report.palette import VERDICT_INKS
from vgx.report.terminal.curves import INKS, curve_picture, divergence_map
from vgx.report.words import LETTERS, alone_in_words, describe_config, divergence_in_words, outcome_rows
from vgx.results.alignment import MAX_POSITIONS
from vgx.results.columns import LAYERS
from vgx.results.comparison import MAX_STEPS, Divergence, Figure, RunComparison
from vgx.results.layer_names import short_names
from vgx.results.words import counted, plain


def comparison(compared: RunComparison, step: int | None = None, width: int = 80) -> RenderableType:
    """Returns groups of runs side by side: config, outcome, curves over the depth, and where and when they diverge.

    Args:
        compared: what to show.
        step: at which the curves are drawn; the last one by default, of a group that had ended by then its last.
        width: columns.

    Raises RunError for a step that was not recorded.
    """
    parts: list[RenderableType] = [_names(compared), Text(), *_tables(compared, width)]
    if compared.trajectories:
        parts += [Text(), _curves(compared, step, width)]
    divergences = compared.divergences or (None,) * (len(compared.groups) - 1)
    for i, divergence in enumerate(divergences, start=1):
        parts += [Text(), *_apart(compared, i, divergence, width)]
    for sentence in (*alone_in_words(compared), *filter(None, [thinning(compared)])):
        parts += [Text(), Text(sentence, "dim")]
    return Group(*parts)


def thinning(compared: RunComparison) -> str:
    """Returns what is left out of long and deep runs when they are compared; nothing when all of it is compared."""
    deepest = max(one.layers for one in compared.groups)
    parts = []
    if any(len(trajectory.steps) == MAX_STEPS for trajectory in compared.trajectories):
        parts.append(f"{MAX_STEPS} recorded steps")
    if deepest > MAX_POSITIONS and not compared.paths:
        parts.append(f"{MAX_POSITIONS} depths of {deepest:,} layers")
    return f"compared at {' and '.join(parts)}, evenly spread" if parts else ""


def _names(compared: RunComparison) -> Table:
    table = Table.grid(padding=(0, 1))
    for i, one in enumerate(compared.groups):
        what = f"{describe_config(one.config)}; {counted(len(one.lanes), 'seed')}"
        table.add_row(Text(LETTERS[i], f"bold {INKS[i]}"), Text(one.name, "bold"), what)
    return table


def _tables(compared: RunComparison, width: int) -> list[RenderableType]:
    """The differences of the configs and the outcomes; several tables where the columns do not fit."""
    outcomes = compared.outcomes
    rows: dict[str, list[Text]] = {
        path: [Text(value) for value in values] for path, values in compared.differences.items()
    }
    rows["verdict"] = [_words(outcome.words) for outcome in outcomes]
    rows |= {name: [Text(value) for value in values] for name, values in outcome_rows(compared).items()}
    room = max(map(len, rows)) + 2
    each = max(1, min(len(outcomes), (width - room) // 16))
    column = (width - room) // each - 1
    tables: list[RenderableType] = []
    for start in range(0, len(outcomes), each):
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(width=room, style="dim")
        for i in range(start, min(start + each, len(outcomes))):
            table.add_column(Text(LETTERS[i], f"bold {INKS[i]}"), max_width=column, overflow="fold")
        for name, cells in rows.items():
            table.add_row(name, *cells[start : start + each])
        tables += [table, Text()]
    return tables[:-1]


def _words(words: Sequence[str]) -> Text:
    counts = {word: words.count(word) for word in words}
    return Text(", ").join(
        [
            Text(word if len(counts) == 1 else f"{count} {word}", VERDICT_INKS.get(word, ""))
            for word, count in counts.items()
        ]
    )


def _curves(compared: RunComparison, step: int | None, width: int) -> Text:
    last = max(int(trajectory.steps[-1]) for trajectory in compared.trajectories)
    wanted = last if step is None else step
    known = np.unique(np.concatenate([trajectory.steps for trajectory in compared.trajectories]))
    if wanted not in known:
        near = known[np.argmin(np.abs(known - wanted))]
        raise RunError(f"step {wanted} is none that is compared; the nearest is {near}")
    curves, late = [], []
    for letter, trajectory in zip(LETTERS, compared.trajectories, strict=False):
        at = max(int(np.sum(trajectory.steps <= wanted)) - 1, 0)
        curves.append((trajectory.mean[at], trajectory.spread[at]))
        if trajectory.steps[at] != wanted:
            late.append(f"{letter} at its step {trajectory.steps[at]:,}")
    depths = {one.layers for one in compared.groups}
    ends = ("1 (input)", f"{max(depths)} (top)") if len(depths) == 1 else ("input", "top")
    by = "layer" if len(depths) == 1 or compared.paths else "relative depth"
    if compared.paths:
        names = short_names(compared.paths)
        ends = names[0], names[-1] if len(names) > 1 else ""
    column = LAYERS[compared.statistic]
    name = column.title if column.scale == "log10" else column.label  # of the column as it stands
    note = f" ({', '.join(late)})" if late else ""
    text = Text(f"{name} by {by}, step {wanted:,}{note}; dots: the spread of seeds\n", "bold")
    return text.append_text(curve_picture(curves, width, log=column.scale == "log10", ends=ends))


def _apart(compared: RunComparison, i: int, divergence: Divergence | None, width: int) -> list[RenderableType]:
    """What is to be said of a group against the first: where and when, and the map."""
    text = Text.assemble((LETTERS[i], f"bold {INKS[i]}"), " against ", (LETTERS[0], f"bold {INKS[0]}"), ": ")
    text.append(divergence_in_words(compared, i))
    if divergence is None or not len(divergence.steps):
        return [text]
    steps = divergence.steps
    by = {"seeds": "seeds differ", "theory": "theory lets one draw differ"}.get(divergence.by, f"by {divergence.by}")
    title = Text(f"where and when: + above, - below {LETTERS[0]}, by more than {by.removeprefix('by ')}", "dim")
    ends = f"step {steps[0]:,}", f"step {steps[-1]:,}"
    drawn = divergence_map(divergence.difference, divergence.beyond, *ends, width)
    return [text, title, drawn] if set("+-") & set(drawn.plain) else [text]


def to_json(compared: RunComparison) -> dict[str, Any]:
    """Returns what `vgx compare --json` prints."""
    groups = []
    for i, (one, outcome) in enumerate(zip(compared.groups, compared.outcomes, strict=True)):
        figures = {
            name: {"mean": plain(figure.mean), "spread": plain(figure.spread)}
            for name, figure in outcome._asdict().items()
            if isinstance(figure, Figure)
        }
        rest = {name: value for name, value in outcome._asdict().items() if name not in figures}
        values = {path: words[i] for path, words in compared.differences.items()}
        divergence = compared.divergences[i - 1] if i and compared.divergences else None
        apart = {"since": divergence.since.tolist(), "by": divergence.by} if divergence else None
        loss = int(compared.loss_divergences[i - 1].since[0]) if i else None
        groups.append(
            {"name": one.name, "run": str(one.run.path), "lanes": list(one.lanes), "config": values}
            | rest
            | figures
            | {"apart": apart, "loss_apart_since": loss}
            | ({"alone": list(compared.alone[i])} if compared.alone else {})
        )
    return {
        "statistic": compared.statistic,
        "positions": compared.positions.tolist(),
        "paths": list(compared.paths),
        "accuracy": plain(compared.accuracy),
        "contenders": groups,
    }
