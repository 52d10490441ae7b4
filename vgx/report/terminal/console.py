"""The console of every command: rich's, with what it is given to print made safe."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from vgx.results.safe_text import visible


class SafeConsole(Console):
    """A console on which text cannot steer the terminal; only its own styles, bars and live pictures do."""

    def __init__(self, *, stderr: bool = False, **options: Any):
        stream = options.pop("file", sys.stderr if stderr else sys.stdout)
        while hasattr(stream, "rich_proxied_file"):  # a stream on which no style would pass
            stream = stream.rich_proxied_file
        super().__init__(file=stream, highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)  # what a table makes room for

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
