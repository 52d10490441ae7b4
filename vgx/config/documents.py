"""Where the text of a config comes from: a file, standard input, a pipe; bounded, and never waited for without end."""

from __future__ import annotations

import stat
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from vgx.errors import ConfigError

MAX_BYTES = 2**20


class Document(NamedTuple):
    """A text that was read, once: a pipe has it only once."""

    text: str
    source: str
    """What messages call the place it came from."""
    is_file: bool
    """Whether it came from a file, which has a name of its own; not from a pipe."""


def document(source: str | Path) -> Document:
    """Returns the text in a file, in standard input when `source` is `-`, or in a pipe such as /dev/fd/63.

    A shell's `<(command)` is such a pipe, and has someone who writes it. A named pipe may have nobody, and is refused
    like a device. Raises ConfigError when the source cannot be read as text, or is longer than MAX_BYTES.
    """
    shown = "<stdin>" if str(source) == "-" else str(source)
    is_file = False
    try:
        if str(source) == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            is_file = stat.S_ISREG(_readable(Path(source)))
            with Path(source).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{source}: there is no such file{_near_file(Path(source))}") from None
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except ValueError:  # a NUL in the path
        raise ConfigError(f"{str(source)!r}: this cannot be the name of a file") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{shown}: longer than {MAX_BYTES:,} bytes, so hardly a config")
    try:
        return Document(content.decode("utf-8-sig"), shown, is_file)
    except UnicodeDecodeError as error:
        # error.object lacks the byte order mark that `content` may begin with
        line, column = position(error.object[: error.start].decode(), error.start)
        reason = f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError(f"{shown}:{line}:{column}: {reason}") from None


def position(text: str, index: int) -> tuple[int, int]:
    """Returns the line and the column, from 1, of a character of a text."""
    before = text[:index]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _readable(path: Path) -> int:
    """The mode of a file or a pipe that may be read. Raises ConfigError for what could keep us waiting for ever."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ConfigError(f"{path}: this is a directory; name a file in it")
    if stat.S_ISFIFO(mode) and not str(path).startswith(("/dev/fd/", "/dev/stdin", "/proc/self/fd/")):
        raise ConfigError(f"{path}: this is a named pipe, which may never end; give - in its place, and < {path}")
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise ConfigError(f"{path}: this is no file; name a YAML file, or give - to read standard input")
    return mode


def _near_file(path: Path) -> str:
    try:
        near = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    except OSError:
        return ""
    return f"; did you mean '{path.parent / near[0]}'?" if near else ""
