"""How a run is stopped: Ctrl-C and SIGTERM while it trains, and what is noted of one that does not come to its end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vgx.errors import EnvironmentFault, VgxError


class Interrupted(VgxError):
    """Ctrl-C: the run is saved, and the message says how to go on."""

    exit_code = 130


@contextmanager
def ending_noted(path: Path, goes_on: str, note: Callable[[str, str | None], None]) -> Iterator[None]:
    """Notes how a run or a sweep ended that did not come to its end, and makes Ctrl-C say how to go on.

    Args:
        path: of its directory.
        goes_on: what resumes it.
        note: is called with the status and what went wrong, if anything did: `interrupted` when it was stopped or the
            machine stood in the way, and `failed` otherwise.

    Raises Interrupted for a KeyboardInterrupt, and when what is printed has no reader any more.
    """
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        status = "interrupted" if stopped or isinstance(error, EnvironmentFault) else "failed"
        with contextlib.suppress(VgxError):
            note(status, None if stopped else f"{type(error).__name__}: {error}")
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"{path}: stopped; {goes_on}") from None
        if isinstance(error, Interrupted):
            raise Interrupted(f"{error}; {goes_on}") from None
        if isinstance(error.__cause__, BrokenPipeError):
            raise Interrupted(f"{path}: stopped, since nobody reads what it prints any more; {goes_on}") from None
        raise


@contextmanager
def stop_signals(stop: threading.Event | None = None) -> Iterator[threading.Event]:
    """An event, `stop` or a new one, that the first Ctrl-C (or SIGTERM) sets; a second one interrupts at once.

    Raises KeyboardInterrupt for one that came before, and that a library lost: jax does, where its C++ calls Python.
    """
    stop = stop or threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if any(getattr(handler, "heard", False) for handler in before.values()):
            raise KeyboardInterrupt
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
