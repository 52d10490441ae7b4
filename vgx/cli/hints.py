"""What a command says beside its result, in dim lines on standard error: scripts read standard output."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

RUNS = Path("runs")
"""Where runs are by default."""


def say_aside(line: str) -> None:
    """Prints a dim line on standard error."""
    from vgx.report.terminal.console import SafeConsole

    SafeConsole(stderr=True, soft_wrap=True).print(line, style="dim")


def say_next(*words: str | Path, runs: Path = RUNS) -> None:
    """Says which command comes next; `runs` is the folder of the runs that it names."""
    elsewhere = [] if runs == RUNS else ["--runs", str(runs)]
    say_aside(f"next: {shlex.join([*program(), *map(str, words), *elsewhere])}")


def short_name(run: Path) -> str:
    """Returns the name by which other commands find a run: its config's where no other run has that, or the whole."""
    from vgx.results.store import config_of, runs_called

    name = config_of(run.name)
    return name if len(runs_called(name, run.parent)) == 1 else run.name


def program() -> list[str]:
    """Returns the words that this program is called by: `vgx` where a shell finds it, else as it was called."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return [sys.orig_argv[0], "-m", "vgx"]
    return [called.name if shutil.which(called.name) else sys.argv[0]]


def same_command(add: Sequence[str] = (), config: Path | None = None) -> str:
    """Returns this very command, as a shell takes it, to go on with: without --overwrite, and with some words more.

    `config`, if it is there, takes the place of one that was read from standard input, which is gone.
    """
    words = [word for word in sys.argv[1:] if word != "--overwrite"]
    if config is not None and config.exists():
        words = [str(config) if word == "-" else word for word in words]
    more = [word for word in add if word not in words]
    return shlex.join([*program(), *words, *more])


@contextmanager
def going_on(*add: str, config: Path | None = None, silent: bool = False) -> Iterator[None]:
    """A context in which an interruption leaves a note of the command that goes on."""
    from vgx.errors import VgxError

    try:
        yield
    except VgxError as stopped:
        if stopped.exit_code == 130 and not silent:
            stopped.add_note(f"next: {same_command(add, config)}")
        raise
