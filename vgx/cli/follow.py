"""`vgx show --follow`: the picture of a run, drawn again while another process writes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from vgx.errors import RunError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from vgx.results.store import Run

SECONDS = 1.0
"""From one look at the run to the next."""


def is_written(run: Run) -> bool:
    """Returns whether another process is writing this run now."""
    from vgx.results.directories import refuse_busy

    try:
        refuse_busy(run.path)
    except RunError:
        return True
    return False


def follow(run: Run, draw: Callable[[], RenderableType], console: Console) -> None:
    """Shows `draw()` again and again in a terminal until nobody writes the run any more, or Ctrl-C; in a pipe, waits.

    The last picture is left to the caller to print.
    """
    from contextlib import nullcontext, suppress

    from rich.live import Live

    live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else nullcontext()
    with suppress(KeyboardInterrupt), live as screen:
        while is_written(run):
            if screen is not None:
                # What is replaced just now is there at the next look; what stays damaged, the last picture says.
                with suppress(RunError):
                    screen.update(draw(), refresh=True)
            time.sleep(SECONDS)
