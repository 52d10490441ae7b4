"""Files: what the file system refuses in one line, and drafts that are renamed into place.

What is on its way in or out lies beside its place under a hidden name, `.NAME.HOST.PROCESS.KIND`: so the next start on
that host knows whose it was, and whether that process is gone.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vgx.errors import EnvironmentFault, RunError, VgxError

MENDS = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n 1024)",
    errno.ENFILE: "raise the machine's limit of open files",
    errno.EACCES: "mend its permissions, or choose another place",
    errno.EPERM: "mend its permissions, or choose another place",
    errno.EROFS: "choose another place",
    errno.EIO: "the disk or the network behind it is at fault",
    errno.ESTALE: "the disk or the network behind it is at fault",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "choose another place",
    errno.ELOOP: "choose another place",
    errno.ENODEV: "choose another place",
}
"""The way out of what is no bug of vgx, whatever it was doing."""
ASKED = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP)
"""Of these, what the request has wrong and not the machine."""
FULL = (errno.ENOSPC, errno.EDQUOT)
SHUT = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def explained(path: Path, doing: str = "write", *, run: bool = False) -> Iterator[None]:
    """Turns what the file system refuses into one line: no space, no permission, no such folder.

    Args:
        path: what the line names.
        doing: write, read or delete.
        run: whether this is part of training a run, which can be gone on with.
    """
    try:
        yield
    except OSError as error:
        raise fault(error, path, doing, run=run) from error


def fault(error: OSError, path: Path, doing: str, *, run: bool = False) -> VgxError:
    """Returns what the file system refused as a fault that says so in one line, with the way out."""
    code = error.errno or 0
    mend = MENDS.get(code, "what was written before is whole" if run else "")
    if run and code in FULL:
        mend = "make room, then go on with --resume (a sweep: with the same command)"
    elif run and code in SHUT:
        mend = "choose another folder with --runs, or mend its permissions"
    kind = RunError if code in ASKED else EnvironmentFault
    return kind(f"{short(path)}: cannot {doing}: {error.strerror or error}" + (f"; {mend}" if mend else ""))


def short(path: str | Path) -> str:
    """Returns a path as a line can show it."""
    text = str(path) if str(path).isprintable() else ascii(str(path))
    return text if len(text) <= 300 else f"{text[:60]}...{text[-20:]} ({len(text):,} characters)"


def named_in(error: BaseException) -> OSError | None:
    """Returns the refusal of the file system that an error of another library tells of in its text, if it does."""
    if isinstance(error, OSError):
        return error
    text = str(error)
    return next((OSError(code, os.strerror(code)) for code in MENDS if os.strerror(code) in text), None)


def try_to_open(count: int) -> None:
    """Raises OSError when so many files cannot be open at once: libraries hang then, or end in a heap of errors."""
    opened: list[int] = []
    try:
        opened += (os.open(os.devnull, os.O_RDONLY) for _ in range(count))
    finally:
        for file in opened:
            os.close(file)


def host() -> str:
    """Returns this machine's name as it stands in hidden names: letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", platform.node()) or "-"


def hidden(target: Path, kind: str) -> Path:
    """Returns the hidden name beside `target` of what this process has on its way in (new) or out (old, gone)."""
    return target.with_name(f".{target.name}.{host()}.{os.getpid()}.{kind}")


class Leftover(NamedTuple):
    """Something under a hidden name of this host."""

    path: Path
    target: Path
    process: int
    kind: str


_HIDDEN = re.compile(r"\.(?P<name>.+)\.(?P<host>[A-Za-z0-9-]+)\.(?P<process>[0-9]{1,9})\.(?P<kind>new|old|gone)")


def leftovers(folder: Path, name: str | None = None) -> list[Leftover]:
    """Returns what processes of this host, gone or not, have under hidden names in a folder, or for one name there."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # none, or none that we may see
        return []
    found = [match for each in names if (match := _HIDDEN.fullmatch(each)) and match["host"] == host()]
    return [
        Leftover(folder / match[0], folder / match["name"], int(match["process"]), match["kind"])
        for match in found
        if name in (None, match["name"])
    ]


def is_alive(process: int) -> bool:
    """Whether another process of this number is there; on Windows, where asking would end it, always."""
    if process == os.getpid():
        return False
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


@contextmanager
def drafted(target: Path) -> Iterator[Path]:
    """A draft of a file beside `target`, renamed over it when it is whole; drafts of processes that are gone go."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in leftovers(target.parent, target.name):
        if left.kind == "new" and left.path.is_file() and not is_alive(left.process):
            left.path.unlink(missing_ok=True)
    draft = hidden(target, "new")
    try:
        yield draft
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)


def write_new(target: Path, text: str) -> None:
    """Writes a file of text that is not there yet; raises RunError when something else is."""
    with explained(target, "read"):
        if os.path.lexists(target) and not (target.is_file() and target.read_bytes() == text.encode()):
            raise RunError(f"{target}: exists already; choose another name")
        if not target.parent.is_dir():
            raise RunError(f"{target}: there is no folder {short(target.parent)}; make it, or choose another place")
    with explained(target), drafted(target) as draft:
        draft.write_text(text, encoding="utf-8")
