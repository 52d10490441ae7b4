"""Sweeps in the terminal: a grid for a pair of axes, what a sweep would do, and how far it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from rich import filesize
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from vgx.errors import RunError, did_you_mean
from vgx.report.palette import VERDICT_INKS
from vgx.report.terminal.bars import decades, gradient_picture
from vgx.report.terminal.tables import plain_table
from vgx.report.terminal.working import Clock, working
from vgx.report.words import describe_config
from vgx.results.agreement import lanes_that_hold
from vgx.results.schemas import ENDED
from vgx.results.selection import Row, best_lanes, by_setting, by_value
from vgx.results.store import Run
from vgx.results.values import in_words, option_called, swept_options
from vgx.results.verdict import thresholds
from vgx.results.words import counted, duration, figure, mean_and_spread, speed_of

if TYPE_CHECKING:
    from vgx.runner.plan import PlannedPlace
    from vgx.runner.sweep import Plan
    from vgx.runner.sweep_progress import SweepProgress

CELL = 19
"""Columns of a cell of a grid."""


def show_sweep(
    run: Run,
    rows: str | None = None,
    columns: str | None = None,
    value: str | None = None,
    best_over: str | None = None,
    width: int = 80,
) -> RenderableType:
    """Returns a sweep's header and its grids.

    Args:
        run: a sweep.
        rows: the option that the rows stand for; the first axis by default. The end of a path is enough.
        columns: likewise the columns; the second axis by default. Each setting of further axes has its own grid.
        value: a column of `lanes.parquet`; the test accuracy and the verdict by default.
        best_over: an option to choose by the best mean validation accuracy, instead of showing it.
        width: columns of the terminal.

    Raises RunError for an option or a value that is not there.
    """
    swept, lanes = swept_options(run), run.lanes().to_pylist()
    options, tried = swept, 0
    chosen = _named(run, best_over, options)
    if chosen:
        tried = len({in_words(lane[chosen]) for lane in lanes})
        lanes = best_lanes(run, lanes, options, chosen)
        options = [option for option in options if option != chosen]
    row, column = _named(run, rows, options), _named(run, columns, options)
    if row and row == column:
        raise RunError(f"{run.path}: rows and columns are both {row}; name two options")
    free = [option for option in options if option not in (row, column)]
    row = row or (free.pop(0) if free else None)
    column = column or (free.pop(0) if free else None)
    known = [name for name in run.lanes().column_names if name not in ("lane", "cell", "evidence", "error", *options)]
    if value is not None and value not in known:
        raise RunError(f"{run.path}: lanes have no '{value}'{did_you_mean(value, known) or ': ' + ', '.join(known)}")
    grids = [Text(_legend(lanes, value, chosen, tried), "dim"), Text()]
    for title, members in by_setting(lanes, free).items():
        if title:
            grids.append(Text(title, "bold"))
        grids += [_grid(members, row, column, value, chosen, width), Text()]
    matched, known = lanes_that_hold(run)
    if known:
        off = (
            "" if matched == known else f"; off in {known - matched}, by the z_score that `vgx export --to csv` writes"
        )
        grids.append(Text(f"theory matched at the first step of {matched:,} of {counted(known, 'lane')}{off}", "dim"))
    if value in (None, "verdict"):
        grids.append(Text(thresholds(), "dim"))
    return Group(header(run, swept), *grids, last_line(run))


def _legend(lanes: Sequence[Row], value: str | None, chosen: str | None, tried: int) -> str:
    """What a cell shows, and over how many seeds."""
    cells: dict[str, int] = {}
    for lane in lanes:
        cells[lane["cell"]] = cells.get(lane["cell"], 0) + (lane["status"] in ENDED)
    counts = [count for count in cells.values() if count] or [0]
    seeds = counted(max(counts), "seed")
    over = seeds if min(counts) == max(counts) else f"{min(counts)} to {seeds}"
    name = (value or "test_accuracy").replace("_", " ")
    if any(isinstance(lane[value or "test_accuracy"], str) for lane in lanes):
        text = f"{name} of {over}"
    else:
        text = f"{name}, mean ± standard deviation over {over}" if max(counts) > 1 else f"{name} of one seed"
    if value is None:
        text += "\nbelow it the verdict, and the slope in decades per layer"
    if chosen:
        text += f"\neach at the best of {counted(tried, 'value')} of {_tail(chosen)}, by validation accuracy"
    return text


def _named(run: Run, word: str | None, options: Sequence[str]) -> str | None:
    """The option that `word` is the path of, or the end of its path."""
    if word is None:
        return None
    try:
        return option_called(word, options, "swept option")
    except ValueError as error:
        raise RunError(f"{run.path}: {error}") from None


def header(run: Run, swept: Sequence[str]) -> Text:
    """Returns what a sweep is, which options its cells differ in, and how far it is."""
    config, meta = run.config, run.meta
    text = Text.assemble((config["name"], "bold"), f"  {describe_config(config, swept)}\n")
    text.append(f"cells differ in {', '.join(map(_tail, swept)) or 'nothing'}\n", "dim")
    lanes = f"{meta['lanes_done']:,} of {counted(meta['lanes'], 'lane')}"
    programs = counted(meta["programs"], "program")
    return text.append(
        f"{meta['status']}: {lanes}, {programs}, {meta['seconds']:.0f} s{speed_of(meta, 'run-steps')}", "dim"
    )


def _grid(
    lanes: Sequence[Row], row: str | None, column: str | None, value: str | None, chosen: str | None, width: int
) -> RenderableType:
    """One table, or several below each other where the columns do not fit."""
    labels = list(by_value(lanes, row))
    heads = list(by_value(lanes, column))
    room = min(max([len(_tail(row)), *map(len, labels)]) + 1, width // 3)
    each = max(1, (width - room) // (CELL + 1))
    cells = {
        (a, b): same for a, members in by_value(lanes, row).items() for b, same in by_value(members, column).items()
    }
    tables = []
    for start in range(0, len(heads), each):
        table = plain_table(Column(_tail(row), width=room, overflow="fold"), padding=(0, 1, 0, 0))
        for head in heads[start : start + each]:
            table.add_column(Text(head or (value or "test accuracy"), overflow="fold"), width=CELL)
        for label in labels:
            same = [cells.get((label, head), []) for head in heads[start : start + each]]
            table.add_row(Text(label, "bold"), *(_cell(members, value, chosen) for members in same))
        tables.append(table)
    below = Text.assemble(("columns: ", "dim"), column or "") if column else Text()
    return Group(*([below] if column else []), *tables)


def _tail(path: str | None) -> str:
    return path.rpartition(".")[2] if path else ""


def _cell(lanes: Sequence[Row], value: str | None, chosen: str | None) -> Text:
    ended = [lane for lane in lanes if lane["status"] in ENDED]
    if not ended:
        word = lanes[0]["status"] if lanes else "-"
        return Text(word, "red" if word == "failed" else "dim")
    lines = []
    if value != "verdict":
        lines.append(Text(_spread([lane[value or "test_accuracy"] for lane in ended])))
    if value in (None, "verdict"):
        lines.append(_verdict(ended, with_slope=value is None))
    if chosen:
        lines.append(Text(f"{_tail(chosen)} {in_words(ended[0][chosen])}", "dim"))
    return Text("\n").join(lines)


def _spread(values: Sequence[Any]) -> str:
    """`.9712 ±.0012`: mean and standard deviation; texts are counted."""
    if any(isinstance(value, str) for value in values):
        return ", ".join(sorted(set(map(str, values))))
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if not all(map(math.isfinite, known)):
        return "not finite"
    form = "{:.4f}" if max(map(abs, known)) < 100 else "{:.4g}"
    return mean_and_spread(fmean(known), stdev(known) if len(known) > 1 else math.nan, form).replace("±0.", "±.")


def _verdict(lanes: Sequence[Row], with_slope: bool) -> Text:
    words = [lane["verdict"] or lane["status"] for lane in lanes]
    most = max(set(words), key=words.count)
    same = words.count(most)
    text = f"{most}" if same == len(words) else f"{same}/{len(words)} {most}"
    slopes = [lane["slope"] for lane in lanes if lane["slope"] is not None]
    slope = f" {figure(fmean(slopes), '{:+.3f}')}" if with_slope and slopes else ""
    return Text(text + slope, VERDICT_INKS.get(most, ""))


def last_line(run: Run) -> Text:
    """Returns how many lanes ended how, and where the sweep is."""
    words = [lane["verdict"] or lane["status"] for lane in run.lanes().to_pylist()]
    counts = sorted({word: words.count(word) for word in words}.items(), key=lambda item: -item[1])
    text = Text(", ").join([Text(f"{count} {word}", f"bold {VERDICT_INKS.get(word, '')}") for word, count in counts])
    return Text.assemble(text, f"  {run.path}")


def show_plan(plan: Plan) -> Text:
    """Returns what a sweep would do, a line for each figure."""
    done = f" ({plan.done:,} more are done)" if plan.done else ""
    lines = {
        "sweep": str(plan.path),
        "cells": f"{plan.cells:,}, {counted(plan.seeds, 'seed')} each",
        "lanes": f"{plan.lanes:,} to run{done}",
        "programs": f"{plan.programs:,} to compile",
        "rounds": f"{plan.rounds:,}, of up to {counted(plan.capacity, 'lane')}",
        "devices": f"{len(plan.devices)} ({', '.join(sorted(set(plan.devices)))})",
        "memory": f"up to about {filesize.decimal(plan.bytes)} in a round",
        "work": f"{plan.run_steps:,.0f} run-steps",
        "time": f"about {duration(plan.seconds)}",
    }
    text = Text()
    for name, line in lines.items():
        text.append(f"{name:<10}", "dim").append(f"{line}\n")
    for i, place in enumerate(plan.places or ()):
        text.append(f"{'where' if not i else '':<10}", "dim").append(f"{_place(place)}\n")
    text.rstrip()
    return text


def _place(place: PlannedPlace) -> str:
    """What one worker of a cluster would do, in a line."""
    devices = f"{len(place.devices)} x {place.devices[0]}"
    if not place.rounds:
        return f"{place.host} ({devices}): nothing"
    numbers = ", ".join(map(str, place.rounds[:6])) + (", ..." if len(place.rounds) > 6 else "")
    word = "round" if len(place.rounds) == 1 else "rounds"
    return (
        f"{place.host} ({devices}): {word} {numbers}: {counted(place.lanes, 'lane')}, about {duration(place.seconds)}"
    )


@contextmanager
def watching_sweep(console: Console, *, silent: bool) -> Iterator[Callable[[SweepProgress], None] | None]:
    """A context with a watcher for `vgx.sweep`: live in a terminal, a line per round in a pipe, None if silent."""
    if silent:
        yield None
    elif console.is_terminal:
        picture = _Picture(console)
        with Live(Clock("planning"), console=console, refresh_per_second=8, transient=True) as live:
            yield lambda progress: live.update(picture(progress))
    else:
        with working("planning") as say:
            yield _lines(console, say)


class _Picture:
    """The live view: the bar, what runs now, and the gradient of its first lane."""

    def __init__(self, console: Console):
        self.console = console
        self.bar = Progress(BarColumn(bar_width=None), TextColumn("{task.fields[text]}"), console=console, expand=True)
        self.task = self.bar.add_task("", total=1, text="")
        self.round, self.reach = -1, None

    def __call__(self, progress: SweepProgress) -> RenderableType:
        if progress.note:
            self.console.print(Text(progress.note, "yellow"), soft_wrap=True)
        text = f"{progress.lanes_done:,}/{counted(progress.lanes, 'lane')}, {duration(progress.seconds_left)} left"
        self.bar.update(self.task, total=progress.run_steps, completed=progress.run_steps_done, text=text)
        parts: list[RenderableType] = [self.bar]
        if progress.current and progress.config:
            parts += [_now(progress), Text()]
            if progress.current.phase == "compiling":
                parts.append(Clock("compiling"))
            if progress.current.delta_log10 is not None:
                delta, before = progress.current.delta_log10, self.reach if progress.rounds_done == self.round else None
                self.round, self.reach = progress.rounds_done, decades(delta, before)
                parts.append(gradient_picture(delta, self.console.width, height=5, reach=self.reach))
        return Group(*parts)


def _now(progress: SweepProgress) -> Text:
    """The round that runs, in a line."""
    current, config = progress.current, progress.config
    assert current
    assert config
    fast = current.lanes * current.steps_per_second
    speed = "" if current.phase == "compiling" else f", {fast:,.0f} run-steps/s"
    if progress.nodes:
        return Text(f"{_where(progress)}\nfirst of them: step {current.step:,}/{current.steps:,}{speed}")
    where = f"round {progress.rounds_done + 1}/{progress.rounds} ({counted(progress.programs, 'program')})"
    lanes = counted(current.lanes, "lane")
    net = describe_config(config.model_dump(mode="json"))
    return Text(f"{where}: {lanes}, step {current.step:,}/{current.steps:,}{speed}\nfirst lane: {net}")


def _where(progress: SweepProgress) -> str:
    """The cluster at work, in a line."""
    running = f"{progress.rounds_done}/{progress.rounds} rounds done, {progress.rounds_running} running"
    return f"{counted(progress.nodes, 'node')}, {counted(progress.devices, 'device')}: {running}"


def _lines(console: Console, say: Clock) -> Callable[[SweepProgress], None]:
    """Prints a line for each round that ends."""
    done = -1

    def watch(progress: SweepProgress) -> None:
        nonlocal done
        say("compiling" if progress.current and progress.current.phase == "compiling" else "")
        if progress.note:
            console.print(progress.note, soft_wrap=True)
        if progress.rounds_done > done:
            if done >= 0:
                left = duration(progress.seconds_left)
                lanes = f"{progress.lanes_done:,}/{counted(progress.lanes, 'lane')}"
                if progress.nodes:
                    lanes += f", {counted(progress.nodes, 'node')}, {counted(progress.devices, 'device')}"
                console.print(f"round {progress.rounds_done}/{progress.rounds}: {lanes}, {left} left", soft_wrap=True)
            done = progress.rounds_done

    return watch
