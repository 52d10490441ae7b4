"""Data files, opened with suspicion: only regular ones, and never more of them than was agreed to."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from rich import filesize

from vgx.errors import DataError

MAX_BYTES = 2 * 10**9
"""What a data set may take in memory unless `data.max_bytes` says otherwise."""
CHUNK = 2**20

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def irregular(path: Path) -> str | None:
    """Returns what `path`, or what it links to, is, if not a regular file. Raises OSError for none."""
    mode = path.stat().st_mode
    return None if stat.S_ISREG(mode) else next((word for test, word in _KINDS if test(mode)), "no file")


def open_regular(path: Path) -> BinaryIO:
    """Returns a regular file, open to read. Raises DataError for another kind of file, which could go on for ever."""
    if kind := irregular(path):
        raise DataError(f"{path}: this is {kind}, and data are read from regular files alone; name one")
    return path.open("rb")


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_at_most(stream: _Stream, size: int) -> bytearray:
    """Returns what a stream holds, up to one byte more than `size`; memory grows only with the bytes that arrive."""
    content = bytearray()
    while chunk := stream.read(min(CHUNK, size + 1 - len(content))):
        content += chunk
    return content


def require_room(what: str, size: int, most: int) -> None:
    """Raises DataError when `what` (a file, or several) would take more than `most` bytes in memory."""
    if size > max(most, 10**15):
        raise DataError(f"{what}: would take a petabyte of memory or more, and no machine has as much")
    if size > most:
        raise DataError(
            f"{what}: would take {filesize.decimal(size)}, more than the {filesize.decimal(most)} of data.max_bytes;"
            f" --set data.max_bytes={-(-size // 10**9)}GB allows it, where the file is to be trusted"
        )
