"""The console of the commands: rich's, with what it is given to print made safe."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from vgx.cli.screen import SafeStream
from vgx.safe_text import visible


class SafeConsole(Console):
    """A console on which text cannot steer the terminal; only its own styles, bars and live pictures do."""

    def __init__(self, *, stderr: bool = False, file: TextIO | None = None, **options: Any):
        stream = file or (sys.stderr if stderr else sys.stdout)
        if isinstance(stream, SafeStream):  # on which no style would pass
            stream = stream.below
        super().__init__(file=stream, highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)  # what a table makes room for

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
