"""What the command line writes to a terminal cannot steer it, whatever a name or a file holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from typer.core import TyperGroup

from vgx.results.safe_text import visible


class SafeStream:
    """A text stream on which control characters are written out; rich's consoles write past it, to style their text."""

    def __init__(self, stream: TextIO):
        self.rich_proxied_file = stream  # the name by which a console finds the stream itself

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(visible(text))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Makes standard output and standard error safe for the length of a command."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (SafeStream(stream) for stream in before)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class Commands(TyperGroup):
    """The commands, their help and what is wrong with their arguments, on safe streams."""

    def main(self, *args: Any, **options: Any) -> Any:
        with safe_streams():
            return super().main(*args, **options)
