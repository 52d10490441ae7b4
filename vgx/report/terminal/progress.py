"""What is seen while something runs: a live picture in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from vgx.report.terminal.bars import decades, gradient_picture
from vgx.report.terminal.working import Clock, working
from vgx.report.words import describe_config
from vgx.results.words import counted, figure

if TYPE_CHECKING:
    from vgx.config.schema import Config
    from vgx.runner.loop import TrainingProgress


BEFORE = "reading data and predicting"
"""What is done before there is anything to watch."""


@contextmanager
def watching(console: Console, config: Config, *, silent: bool) -> Iterator[Callable[[TrainingProgress], None] | None]:
    """A context with a watcher for `vgx.train`: live in a terminal, a line per evaluation in a pipe, None if silent."""
    if silent:
        yield None
    elif console.is_terminal:
        with Live(Clock(BEFORE), console=console, refresh_per_second=8, transient=True) as live:
            picture = _Picture(console, config)
            yield lambda progress: live.update(picture(progress))
    else:
        with working(BEFORE) as say:
            yield _lines(console, config, say)


class _Picture:
    """The live view: the bar, the figures, and the gradient over the layers."""

    def __init__(self, console: Console, config: Config):
        self.console = console
        self.title = Text.assemble((config.name, "bold"), f"  {describe_config(config.model_dump(mode='json'))}")
        self.bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self.task = self.bar.add_task("", total=1, speed="")
        self.reach: tuple[float, float] | None = None

    def __call__(self, progress: TrainingProgress) -> RenderableType:
        compiling = progress.phase == "compiling"
        speed = "" if compiling else f"{progress.steps_per_second:,.0f} steps/s"
        self.bar.update(self.task, total=progress.steps, completed=progress.step, speed=speed)
        parts: list[RenderableType] = [self.title, self.bar, Clock("compiling") if compiling else _figures(progress)]
        if progress.delta_log10 is not None:
            self.reach = decades(progress.delta_log10, self.reach)  # the axis grows, and never jumps back
            parts += [Text(), gradient_picture(progress.delta_log10, self.console.width, reach=self.reach)]
        return Group(*parts)


def _figures(progress: TrainingProgress) -> Text:
    text = Text()
    for name in ("train_loss", "train_accuracy", "test_accuracy"):
        value = getattr(progress, name)
        known = progress.evaluated if name == "test_accuracy" else progress.phase != "compiling"
        shown = figure(value if known or not math.isnan(value) else None)
        text.append(f"{name.replace('_', ' ')} ", "dim").append(f"{shown}   ")
    return text.append(f"mean of {counted(progress.lanes, 'seed')}" if progress.lanes > 1 else "", "dim")


def _lines(console: Console, config: Config, say: Clock) -> Callable[[TrainingProgress], None]:
    """Prints a line at the start, and one after each evaluation."""
    evaluated = 0

    def watch(progress: TrainingProgress) -> None:
        nonlocal evaluated
        say("compiling" if progress.phase == "compiling" else "")
        if progress.phase == "compiling":
            text = f"{config.name}  {describe_config(config.model_dump(mode='json'))}: compiling"
        elif progress.evaluated > evaluated:
            evaluated = progress.evaluated
            step = f"step {progress.step:,}/{progress.steps:,}"
            figures = f"loss {figure(progress.train_loss)}  test accuracy {figure(progress.test_accuracy)}"
            text = f"{step}  {figures}  {progress.steps_per_second:,.0f} steps/s"
        else:
            return
        console.print(text, soft_wrap=True)

    return watch


@contextmanager
def downloading(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A context with a watcher for `vgx.data.download.get`: a bar per file."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = {}

        def progress(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file)
            bars.update(tasks[file], completed=done, total=total or None)

        yield progress
