"""The process of a command: its signals, its standard streams, and what the machine refuses it."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from vgx.errors import EnvironmentFault, VgxError
from vgx.results.files import ASKED, MENDS, named_in, short
from vgx.results.safe_text import visible


def begin() -> None:
    """Makes standard output say in one line what it cannot take, and a signal heard where Python would lose it."""
    sys.unraisablehook = _unraisable
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        _keep_open(number)
        if getattr(sys, name) is None and name != "stdin":
            setattr(sys, name, io.StringIO() if name == "stderr" else _Closed())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _Output(sys.stdout)
    notes = logging.StreamHandler(sys.stderr)
    notes.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("vgx").addHandler(notes)
    logging.getLogger("vgx").propagate = False


def _keep_open(number: int) -> None:
    """A standard stream that is closed would give its number to the next file, and what is printed would go there."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)


def _unraisable(what: Any) -> None:
    """Where Python cannot raise, Ctrl-C would be lost: end there, as a kill would."""
    if isinstance(what.exc_value, KeyboardInterrupt):
        if sys.stdout.isatty():
            os.write(1, b"\x1b[?25h")  # a live view has hidden the cursor
        os.write(2, b"interrupted\n")
        os._exit(130)
    sys.__unraisablehook__(what)


class _Output(io.TextIOWrapper):
    """Standard output: what it cannot encode becomes `?`, what it cannot write one line.

    Raises EnvironmentFault where the file system refuses; its cause is a BrokenPipeError when the reader has left.
    """

    def __init__(self, stream: io.TextIOWrapper):
        encoding, buffered_by_line = stream.encoding, stream.line_buffering
        super().__init__(stream.detach(), encoding, "replace", line_buffering=buffered_by_line)

    def write(self, text: str, /) -> int:
        with _refusals():
            return super().write(text)

    def flush(self) -> None:
        with _refusals():
            super().flush()


class _Closed(io.StringIO):
    """Standard output that was closed before we began."""

    encoding = "utf-8"

    def write(self, text: str, /) -> int:
        raise _no_output(OSError(errno.EBADF, "it is closed"))


def keep_output_apart() -> None:
    """Sends what libraries print by themselves to standard error, so that standard output has what vgx prints alone."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = _Output(os.fdopen(own, "w", encoding=sys.stdout.encoding))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _no_output(error) from error


def _no_output(error: OSError) -> EnvironmentFault:
    return EnvironmentFault(f"standard output: cannot write: {error.strerror}; > /dev/null throws it away")


def refusal(error: BaseException) -> VgxError | None:
    """Returns what the machine refused as a fault to print in one line; None for a bug, which is to show itself."""
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return VgxError(f"{error.object!a}: this is not UTF-8, or the locale is not; LC_ALL=C.UTF-8 is one that is")
    found = named_in(error) if isinstance(error, OSError | ImportError) else None
    if found is None or found.errno not in MENDS:
        return None
    code = found.errno or 0
    name = getattr(error, "filename", None)
    where = short(os.fsdecode(name)) if isinstance(name, str | bytes) else "vgx"
    kind = VgxError if code in ASKED else EnvironmentFault
    return kind(f"{where}: {os.strerror(code).lower()}; {MENDS[code]}")


def end(code: int, message: str = "", hints: Sequence[str] = ()) -> NoReturn:
    """Ends the process with a message, if any, and hints on what to do next; no signal changes that any more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        sys.stdout.flush()
    except (VgxError, ValueError, RuntimeError):
        # Python would try again as it exits.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if message:
        _say(message, hints)
    if code not in (0, 3) and _has_company():
        # The others may be gone, or wait for what will not come: do not wait for them in turn.
        sys.stderr.flush()
        os._exit(code)
    if code == 130:
        # Python would kill itself by SIGINT where Ctrl-C met code that was given to `exec`.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _has_company() -> bool:
    """Whether other processes train the same run."""
    processes = sys.modules.get("vgx.runner.processes")
    return processes is not None and processes.several()


def _say(message: str, hints: Sequence[str]) -> None:
    try:
        from vgx.cli.options import fail

        fail(message, 0, *hints)
    except SystemExit:
        return
    except (OSError, ImportError):  # no more files can be opened
        print(visible(message), file=sys.stderr)
