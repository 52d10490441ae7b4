"""Which parts a run's tables consist of: `parts.jsonl`, a line per part with its rows, size and checksum.

A line is appended when the part is whole and in its place, so what the list names was written to the end; a part that
it does not name was cut off by a kill, and is no part of the run. Reading, resuming and the end of a run check it:
rows that are lost, or altered, are never silently left out.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vgx.errors import Damaged, EnvironmentFault, RunError, VgxError
from vgx.results.files import MENDS

FILE = "parts.jsonl"


class Part(NamedTuple):
    """One Parquet file of a table."""

    file: str
    """In the run directory: `layers/000012.parquet`."""
    rows: int
    bytes: int
    crc32: str
    """Of the file's contents, eight hexadecimal digits."""


def part_of(file: str, path: Path, rows: int) -> Part:
    """Returns the entry of a part whose contents are at `path`."""
    return Part(file, rows, path.stat().st_size, checksum(path))


def open_regular(path: Path) -> BinaryIO:
    """Opens a file to read. Raises OSError where it cannot be, or is a pipe or a device, which may never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return path.open("rb")


def unreadable(path: Path, error: Exception) -> VgxError:
    """Returns what a file that cannot be read is: a damaged one; or sound, and the machine refuses it."""
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.EMFILE, errno.ENFILE):
        return EnvironmentFault(f"{path}: cannot read: {os.strerror(code)}; {MENDS[code]}")
    reason = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[:120]
    if code in (errno.EACCES, errno.EPERM):
        return RunError(f"{path}: cannot be read: {reason}; {MENDS[code]}")
    return Damaged(path, f"cannot be read ({reason})")


def checksum(path: Path) -> str:
    """Returns the CRC-32 of a file."""
    crc = 0
    with open_regular(path) as file:
        while block := file.read(2**20):
            crc = zlib.crc32(block, crc)
    return f"{crc:08x}"


def to_lines(parts: Iterable[Part]) -> str:
    """Returns the list as text."""
    return "".join(json.dumps(part._asdict()) + "\n" for part in parts)


def append(folder: Path, parts: Iterable[Part]) -> None:
    """Adds parts to the list of a run directory, on the disk when this returns."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(to_lines(parts))
        file.flush()
        os.fsync(file.fileno())


def text_of(path: Path) -> str | None:
    """Returns what a file of text holds; None where there is none. Raises Damaged when it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise Damaged(path, "is no text") from None
    except OSError as error:
        raise unreadable(path, error) from None


def read(folder: Path) -> dict[str, Part] | None:
    """Returns the parts of a run by their file, in order; None where there is no list (vgx before format 2).

    A last line without its end was cut off by a kill, and does not count. Raises Damaged when a line is none of vgx's.
    """
    path = folder / FILE
    text = text_of(path)
    if text is None:
        return None
    parts: dict[str, Part] = {}
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        try:
            part = Part(**json.loads(line))
        except (ValueError, TypeError, RecursionError):
            raise Damaged(path, f"line {number} is no part of a run") from None
        if [type(value) for value in part] != [str, int, int, str]:
            raise Damaged(path, f"line {number} is no part of a run")
        parts[part.file] = part
    return parts


def check(folder: Path, part: Part) -> None:
    """Raises Damaged when a part is not there, or not what was written."""
    path = folder / part.file
    try:
        size = path.stat().st_size
        if size != part.bytes:
            raise Damaged(path, f"has {size:,} bytes of the {part.bytes:,} that were written")
        if checksum(path) != part.crc32:
            raise Damaged(path, "is not what was written: its checksum differs")
    except FileNotFoundError:
        raise Damaged(path, f"is missing, with {part.rows:,} rows") from None
    except OSError as error:
        raise unreadable(path, error) from None
