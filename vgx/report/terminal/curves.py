"""Several curves over the depth in one picture of letters, and a map of where two of them diverge."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.text import Text

from vgx.report.terminal.bars import AXIS, decades, foot, tick
from vgx.report.words import LETTERS
from vgx.results.words import power_of_ten

INKS = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_cyan", "bright_magenta")


def curve_picture(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    width: int = 80,
    height: int = 11,
    log: bool = False,
    ends: tuple[str, str] = ("input", "top"),
) -> Text:
    """Returns curves as letters, A for the first, over dots where their seeds scatter.

    Where curves meet, the letter of the first stands. A value that is not finite has its letter at the foot: in the
    line of `0` where it is -inf, of `?` where it is NaN or infinite.

    Args:
        curves: of each the mean and the standard deviation over seeds, [P] each; NaN where it has none.
        width: columns, the axis included.
        height: rows.
        log: whether they are logarithms: the axis then goes from one whole decade to another, LEAST_RANGE or more.
        ends: what stands below the first and the last position.
    """
    room = max(width - AXIS, 10)
    count = len(curves[0][0])
    columns = np.arange(min(room, 64)) if count > 1 else np.arange(1)
    at = np.round(columns * (count - 1) / max(len(columns) - 1, 1)).astype(int)
    means = np.array([mean[at] for mean, _ in curves])
    spreads = np.nan_to_num(np.array([spread[at] for _, spread in curves]))
    finite = np.isfinite(means)
    drawn = np.concatenate([(means - spreads)[finite], (means + spreads)[finite]])
    low, high = decades(drawn) if log else _range(drawn)

    def row_of(values: np.ndarray) -> np.ndarray:
        return np.clip(
            np.round((np.where(np.isfinite(values), values, low) - low) / (high - low) * (height - 1)), 0, height - 1
        ).astype(int)

    cells = [[(" ", "")] * len(columns) for _ in range(height)]
    feet: dict[str, list[tuple[str, str]]] = {}
    for letter, ink, mean, spread, known in reversed(list(zip(LETTERS, INKS, means, spreads, finite, strict=False))):
        lowest, middle, highest = row_of(mean - spread), row_of(mean), row_of(mean + spread)
        for x in range(len(columns)):
            if not known[x]:
                name = "0" if mean[x] == -math.inf else "?"
                feet.setdefault(name, [(" ", "")] * len(columns))[x] = letter, f"bold {ink}"
                continue
            for y in range(lowest[x], highest[x] + 1):
                if not cells[y][x][0].isalpha():
                    cells[y][x] = "·", ink
            cells[middle[x]][x] = letter, f"bold {ink}"
    text = Text()
    digits = 1 if high - low >= 1 and max(abs(low), abs(high)) >= 1 else 3
    labels = [power_of_ten(end) if log else f"{end:.{digits}f}" for end in (low, high)]
    for y in range(height - 1, -1, -1):
        _line(text, tick(y, height, *labels), cells[y])
    for name in sorted(feet):
        _line(text, f"{name:>9} ┤", feet[name])
    return text.append_text(foot(len(columns), *ends))


def _range(drawn: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest of these values, made to differ."""
    low, high = (drawn.min(), drawn.max()) if len(drawn) else (0.0, 0.0)
    return low, high if high > low else low + (abs(low) or 1.0)


def _line(text: Text, axis: str, cells: Sequence[tuple[str, str]]) -> None:
    text.append(axis, "dim")
    for cell in cells:
        text.append(*cell)
    text.append("\n")


def divergence_map(difference: np.ndarray, beyond: np.ndarray, first: str, last: str, width: int = 80) -> Text:
    """Returns where and when one curve is above (`+`) or below (`-`) another, the top layer in the first line.

    A mark stands for a share of the steps and of the positions, in most of which the two differ.

    Args:
        difference: [T, P].
        beyond: [T, P] of booleans.
        first: what stands below the first step.
        last: below the last one.
        width: columns, the axis included.
    """
    rows = np.array_split(np.arange(beyond.shape[1])[::-1], min(8, beyond.shape[1]))
    columns = np.array_split(np.arange(len(beyond)), min(max(width - AXIS, 10), 64, len(beyond)))
    text = Text()
    for i, row in enumerate(rows):
        label = {0: "top", len(rows) - 1: "input"}.get(i, "")
        cells = []
        for column in columns:
            block = np.ix_(column, row)
            above = np.sum(beyond[block] & ~(difference[block] < 0))
            below = np.sum(beyond[block] & (difference[block] < 0))
            is_apart = 2 * (above + below) > len(row) * len(column)
            cells.append((("+", "red") if above >= below else ("-", "blue")) if is_apart else ("·", "dim"))
        _line(text, f"{label:>9} {'┤' if label else '│'}", cells)
    return text.append_text(foot(len(columns), first, last))
