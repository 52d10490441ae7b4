"""What goes wrong on the user's side. Everything else is a bug and shows its traceback."""

from __future__ import annotations

import re
import shlex
import sys
from difflib import get_close_matches
from pathlib import Path

ARGUMENTS = {
    "--axis": "axes",
    "--device": "device",
    "--devices-per-run": "devices_per_run",
    "--layers": "layers",
    "--on": "on",
    "--output": "output",
    "--overwrite": "overwrite=True",
    "--resume": "resume=True",
    "--retry failed": "retry_failed=True",
    "--runs": "runs",
    "--seeds": "seeds",
    "--set": "overrides",
    "--to": "to",
}
"""What the options that messages name are called in Python."""
_OPTION = re.compile(rf"(?<![\w-])({'|'.join(ARGUMENTS)})(?![\w-])")


class VgxError(Exception):
    """A fault the user can mend: printed as its message alone, and the command exits with `exit_code`.

    A message is written with the options of the command line; in Python its text names the arguments instead.
    """

    exit_code = 2

    @property
    def on_command_line(self) -> str:
        """The message with the options of the command line."""
        return super().__str__()

    def __str__(self) -> str:
        return _OPTION.sub(lambda option: ARGUMENTS[option[0]], self.on_command_line)


class ConfigError(VgxError):
    """A config that cannot be run; the message has a line `place: path: what is wrong` for each fault."""


class TheoryError(VgxError):
    """A question that mean-field theory has no answer to; the message says why."""


class DataError(VgxError):
    """A data file or data set that cannot be used; the message names the file and the reason."""


class RunError(VgxError):
    """A run directory that is missing, busy, in the way or not what it should be."""


class Damaged(RunError):
    """A file of a run that is missing, unreadable or not what vgx wrote; `path` is the file."""

    def __init__(self, path: Path, what: str, mend: str = "restore it, or start again with --overwrite"):
        super().__init__(f"{path}: {what}; the run is damaged: {mend}")
        self.path, self.what = path, what


class WatchError(VgxError):
    """A model that cannot be watched as asked; the message names the layer and says what would do."""


class EnvironmentFault(VgxError):
    """The machine stands in the way: no such device, no space, no permission."""

    exit_code = 4


def did_you_mean(word: str, known: list[str]) -> str:
    """Returns `; did you mean 'x'?` for the known word nearest to `word`, or nothing when none is near."""
    near = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def install(extra: str) -> str:
    """Returns the command that installs what an extra of vgx needs into the Python that runs.

    It names the libraries, not vgx, which may be on no index and in no clone.
    """
    from importlib.metadata import requires

    wanted = [one for one in requires("vgx") or [] if re.search(rf"extra == ['\"]{extra}['\"]", one)]
    libraries = [one.partition(";")[0].strip() for one in wanted]
    return shlex.join([sys.executable, "-m", "pip", "install", *libraries])
