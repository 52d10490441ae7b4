"""Numbers as a map: layers upward, steps to the right, in colours where there are any, else in shades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from vgx.export.colormap import NONFINITE, marks_of, viridis
from vgx.report.terminal.bars import AXIS, LEAST_RANGE, foot, lowest
from vgx.results.words import power_of_ten

_SHADES = "·░▒▓█"
WIDEST = 128
"""Columns of numbers."""


class HeatMap(NamedTuple):
    """A map of numbers to print: two lines of cells share a line of the terminal where it has colours."""

    values: np.ndarray
    """[T, L]; NaN where nothing was measured is NaN where NaN was."""
    rows: Sequence[str]
    """What stands beside each layer, [L]; where layers share a line, the first and the last."""
    ends: tuple[str, str]
    """What stands below the first and the last step."""
    log: bool
    """Whether they are logarithms: a cell then shows the lowest number of its share, else the mean."""
    height: int = 8
    """Lines at the most."""
    separate: bool = False
    """Whether each of [L] has a line of its own, whatever the height."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        coloured = console.color_system is not None and not console.no_color
        halves = 2 if coloured and not self.separate else 1
        most = self.values.shape[1] if self.separate else halves * self.height
        told = self.rows if self.separate else (self.rows[0], self.rows[-1])
        label = max(AXIS - 2, *map(len, told))
        label = min(label, options.max_width // 2)
        cells, shares = self._cells(max(options.max_width - label - 2, 10), most)
        finite = cells[np.isfinite(cells)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        low = min(low, high - LEAST_RANGE) if self.log else low
        lines = [cells[i : i + halves] for i in range(0, len(cells), halves)]
        text = Text()
        for i, line in enumerate(lines):
            share = shares[i * halves : (i + 1) * halves]
            name = self._name(i, len(lines), [layer for part in share for layer in part])
            text.append(f"{name[:label]:>{label}} {'┤' if name else '│'}", "dim")
            for column in line.T:
                text.append(*(_half(column, low, high) if coloured else _shade(column[0], low, high)))
            text.append("\n")
        yield text.append_text(self._foot(cells, label, low, high, coloured))

    def _cells(self, room: int, most: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """The cells, the top layer first, [lines, columns], and the layers of each line."""
        steps, layers = self.values.shape
        columns = np.array_split(np.arange(steps), min(steps, room, WIDEST))
        each = max(1, min(4, min(room, 64) // len(columns)))
        order = np.arange(layers) if self.separate else np.arange(layers)[::-1]
        shares = np.array_split(order, min(layers, most))
        pick = lowest if self.log else _mean
        cells = np.array([[pick(self.values[np.ix_(column, share)].ravel()) for column in columns] for share in shares])
        return np.repeat(cells, each, 1), shares

    def _name(self, line: int, lines: int, layers: list[int]) -> str:
        if self.separate:
            return self.rows[layers[0]]
        if line == 0:
            return self.rows[-1]
        return self.rows[0] if line == lines - 1 else ""

    def _foot(self, cells: np.ndarray, label: int, low: float, high: float, coloured: bool) -> Text:
        """The axis, and the key: what the colours mean, and the marks that occur."""
        text = Text("\n").join(
            Text(" " * (label + 2 - AXIS)) + line for line in foot(cells.shape[1], *self.ends).split("\n")
        )
        key = Text("\n" + " " * (label + 2))
        lowest, highest = (power_of_ten(end) if self.log else f"{end:.3g}" for end in (low, high))
        key.append(f"{lowest} ", "dim")
        if coloured:
            for value in np.linspace(low, high, 24):
                key.append(" ", Style(bgcolor=_ink(value, low, high)))
        else:
            key.append(_SHADES)
        key.append(f" {highest}", "dim")
        said = {"0": "is 0", "∞": "is infinite", "?": "is NaN, or not measured"}
        for mark in sorted(set(marks_of(cells).ravel()) - {""}):
            sample = (" ", Style(bgcolor="#{:02x}{:02x}{:02x}".format(*NONFINITE[mark]))) if coloured else (mark, "")
            key.append("   ").append(*sample).append(f" {said[mark]}", "dim")
        return text + key


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _ink(value: float, low: float, high: float) -> str:
    return "#{:02x}{:02x}{:02x}".format(*viridis(np.array(value), low, high))


def _half(pair: np.ndarray, low: float, high: float) -> tuple[str, Style]:
    """A column of a line: its upper cell in ink on its lower one."""
    above = _ink(pair[0], low, high)
    if len(pair) == 1:
        return "█", Style(color=above)
    return "▀", Style(color=above, bgcolor=_ink(pair[1], low, high))


def _shade(value: float, low: float, high: float) -> tuple[str, str]:
    if not math.isfinite(value):
        return str(marks_of(np.array(value))), ""
    return _SHADES[min(int((value - low) / (high - low or 1.0) * len(_SHADES)), len(_SHADES) - 1)], ""
