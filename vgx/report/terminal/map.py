"""A trainability map in the terminal: accuracy over two options in colours, or in shades, under theory's contours."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.style import Style
from rich.text import Text

from vgx.export.colormap import viridis
from vgx.report.map_words import boundary_in_words, contours_of, map_state
from vgx.report.terminal.sweep import header, last_line
from vgx.results.map_cells import MapAxis
from vgx.results.map_file import TrainabilityMap
from vgx.results.store import Run
from vgx.results.values import swept_options
from vgx.results.words import compact

SHADES = "·░▒▓█"
LINES, WIDEST = 16, 96
"""Of the plane, at the most."""
MARKS = {"correlation": "●", "gradient": "+"}
"""Of contours, by their depth."""
UNKNOWN = "#7f7f7f"
"""Of a cell that has not ended."""


def show_map(run: Run, found: TrainabilityMap, width: int = 80) -> RenderableType:
    """Returns a map's header, the map, what its marks mean, and where the boundary lies, `width` columns wide."""
    words = [Text(line) for line in boundary_in_words(found)]
    state = Text(map_state(found), "dim")
    return Group(header(run, swept_options(run)), state, Text(), Plane(found, width), Text(), *words, last_line(run))


class Plane(NamedTuple):
    """The plane of a map, to print; two rows of points share a line of the terminal where it has colours."""

    found: TrainabilityMap
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        coloured = console.color_system is not None and not console.no_color
        halves = 2 if coloured else 1
        label = min(max(len(compact(value)) for value in self.found.y.values), 12)
        columns = max(min(self.width, options.max_width, WIDEST) - label - 3, 10)
        points = painted(self.found, columns, LINES * halves)
        marks = marked(self.found, columns, LINES)
        names = {self._line(value): compact(value) for value in reversed(self.found.y.values)}
        known = [accuracy for accuracy in self.found.accuracies.values() if accuracy is not None]
        low, high = min(known, default=0.0), max(known, default=1.0)
        text = Text(f"{self.found.y.name}\n", "dim")
        for line in range(LINES):
            name = names.get(line, "")
            text.append(f"{name:>{label}} {'┤' if name else '│'}", "dim")
            for column in range(columns):
                pair = points[line * halves : (line + 1) * halves, column]
                text.append(*_point(pair, marks[line, column], low, high, coloured))
            text.append("\n")
        text.append(self._foot(columns, label), "dim")
        yield text.append_text(self._key(label, low, high, coloured))

    def _line(self, value: float) -> int:
        low, high = span(self.found.y)
        return min(int((high - self.found.y.at(value)) / (high - low) * LINES), LINES - 1)

    def _foot(self, columns: int, label: int) -> str:
        """The axis across: the values of the first grid, as many as there is room for, and its name."""
        low, high = span(self.found.x)
        ticks, words = ["─"] * columns, [" "] * (columns + 12)
        free = 0
        for value in self.found.x.values:
            at = min(int((self.found.x.at(value) - low) / (high - low) * columns), columns - 1)
            word = compact(value)
            start = max(at - len(word) // 2, 0)
            if start >= free and start + len(word) <= columns:
                words[start : start + len(word)] = word
                ticks[at], free = "┬", start + len(word) + 2
        room = " " * (label + 2)
        shown = "".join(words).rstrip()
        name = f"  {self.found.x.name}" if len(shown) + len(self.found.x.name) + 2 <= columns + 1 else ""
        own = "" if name else f"\n{room}{self.found.x.name:^{columns}}".rstrip()
        return f"{room[:-1]}└{''.join(ticks)}\n{room}{shown}{name}{own}\n"

    def _key(self, label: int, low: float, high: float, coloured: bool) -> Text:
        text = Text(" " * (label + 2) + f"{self.found.value.replace('_', ' ')} {low:.2f} ", "dim")
        if coloured:
            for value in np.linspace(low, high, 12):
                text.append(" ", Style(bgcolor=_ink(value, low, high)))
        else:
            text.append(SHADES)
        text.append(f" {high:.2f}", "dim")
        if len(self.found.accuracies) < len(self.found.cells) or None in self.found.accuracies.values():
            text.append("   ? not ended", "dim")
        for one in contours_of(self.found):
            text.append(f"\n{' ' * (label + 2)}{MARKS[one.depth]} {one.words}", "dim")
        return text


def span(axis: MapAxis) -> tuple[float, float]:
    """Returns from which place to which a side of the map reaches."""
    ends = axis.ends()
    return axis.at(ends[0][0]), axis.at(ends[-1][1])


def painted(found: TrainabilityMap, columns: int, rows: int) -> np.ndarray:
    """Returns the accuracy at each point of the plane, [rows, columns] from the top left; NaN where unknown."""
    (left, right), (bottom, top) = span(found.x), span(found.y)
    across = left + (np.arange(columns) + 0.5) / columns * (right - left)
    upward = top - (np.arange(rows) + 0.5) / rows * (top - bottom)
    raster = np.full((rows, columns), math.nan)
    for cell in sorted(found.cells, key=lambda cell: cell.round):
        accuracy = found.accuracies.get(cell[:2])
        inside = (across >= found.x.at(cell.left)) & (across <= found.x.at(cell.right))
        within = (upward >= found.y.at(cell.bottom)) & (upward <= found.y.at(cell.top))
        raster[np.ix_(within, inside)] = math.nan if accuracy is None else accuracy
    return raster


def marked(found: TrainabilityMap, columns: int, rows: int) -> np.ndarray:
    """Returns which contour's mark stands in each cell of a grid of characters, [rows, columns]; '' for none."""
    marks = np.full((rows, columns), "", object)
    (left, right), (bottom, top) = span(found.x), span(found.y)
    for one in reversed(contours_of(found)):
        for x0, y0, x1, y1 in found.contour(one.depth, one.multiple):
            for share in np.linspace(0, 1, 2 * columns // max(len(found.x.values), 1) + 4):
                at, up = found.x.at(x0 + share * (x1 - x0)), found.y.at(y0 + share * (y1 - y0))
                column, row = (at - left) / (right - left) * columns, (top - up) / (top - bottom) * rows
                if 0 <= column < columns and 0 <= row < rows:
                    marks[int(row), int(column)] = MARKS[one.depth]
    return marks


def _ink(value: float, low: float, high: float) -> str:
    return "#{:02x}{:02x}{:02x}".format(*viridis(np.array(value), low, high)) if math.isfinite(value) else UNKNOWN


def _point(pair: np.ndarray, mark: str, low: float, high: float, coloured: bool) -> tuple[str, Style | str]:
    """One character: a mark on its ground, or two points one above the other, or a shade."""
    if not coloured:
        value = float(pair[0])
        shade = int((value - low) / (high - low or 1.0) * len(SHADES)) if math.isfinite(value) else None
        return mark or ("?" if shade is None else SHADES[min(shade, len(SHADES) - 1)]), ""
    above, below = (_ink(float(value), low, high) for value in pair)
    if mark:
        mean = float(np.mean(pair))
        ink = "black" if math.isfinite(mean) and mean > (low + high) / 2 else "white"
        return mark, Style(color=ink, bgcolor=_ink(mean, low, high), bold=True)
    return "▀", Style(color=above, bgcolor=below)
