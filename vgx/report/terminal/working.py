"""What is seen while a command works and has nothing to show yet: what it does, and for how long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vgx.errors import EnvironmentFault
from vgx.report.terminal.console import SafeConsole


def _patience() -> float:
    """Seconds of silence before the first line where no terminal is: VGX_PATIENCE, for whom cron would mail it."""
    told = os.environ.get("VGX_PATIENCE", "2")
    try:
        return float(told)
    except ValueError:
        raise EnvironmentFault(f"VGX_PATIENCE={told}: expected seconds, as 2, or inf for no line at all") from None


LONG = tuple(times * _patience() for times in (1, 5, 15, 30))
"""Seconds after which there is a line where no terminal is; later one each time the last has gone by."""


class Clock:
    """A dim line that counts seconds while it is shown: `compiling 3 s`, `verifying 12 of 665 41 s`."""

    def __init__(self, what: str):
        self.what, self.detail, self.began = what, "", time.monotonic()

    def __call__(self, what: str, detail: str = "") -> None:
        """Shows that this is being done from now on, or nothing for an empty text; a detail alone counts on."""
        if what != self.what:
            self.what, self.began = what, time.monotonic()
        self.detail = detail

    def __str__(self) -> str:
        seconds = f"{time.monotonic() - self.began:.0f} s"
        return " ".join(filter(None, (self.what, self.detail, seconds))) if self.what else ""

    def __rich__(self) -> Text:
        return Text(str(self), "dim", no_wrap=True, overflow="ellipsis")


@contextmanager
def working(what: str, *, silent: bool = False) -> Iterator[Clock]:
    """A context that says on standard error what is being done: live in a terminal, else a line when it takes long.

    Nothing is to be printed inside, for it would fall into the line. Begin it before heavy imports: jax alone takes two
    seconds. Yields the clock, to be called with what is being done from then on.
    """
    clock = Clock(what)
    console = SafeConsole(stderr=True, soft_wrap=True)
    if silent:
        yield clock
    elif console.is_terminal:
        # Standard output stays as it is: it may be a file, and what is printed to it numbers.
        with Live(clock, console=console, transient=True, redirect_stdout=False, redirect_stderr=False):
            yield clock
    else:
        done = threading.Event()
        teller = threading.Thread(target=_tell, args=(clock, console, done), daemon=True)
        teller.start()
        try:
            yield clock
        finally:
            done.set()
            teller.join()


def _tell(clock: Clock, console: Console, done: threading.Event) -> None:
    """Prints a line whenever something has taken long, until all is done."""
    began, waits, wait = clock.began, iter(LONG[1:]), LONG[0]
    while not done.wait(0.1):
        if clock.began != began:
            began, waits, wait = clock.began, iter(LONG[1:]), LONG[0]
        if clock.what and time.monotonic() - began >= wait:
            console.print(str(clock), style="dim")
            wait = next(waits, wait + LONG[-1])
