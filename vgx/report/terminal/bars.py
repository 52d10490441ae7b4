"""Numbers as Unicode bars: a value per layer, on a log scale, at any width."""

from __future__ import annotations

import math

import numpy as np
from rich.text import Text

_EIGHTHS = " ▁▂▃▄▅▆▇█"
LEAST_RANGE = 1.0
"""Decades that a picture spans at the least, so that noise does not look like a cliff."""
AXIS = 11
"""Columns that the axis takes."""
MARK = "●"


def gradient_picture(
    delta_log10: np.ndarray,
    width: int = 80,
    height: int = 7,
    label: str = "|dloss/dh|",
    marks: np.ndarray | None = None,
) -> Text:
    """Returns bars of log10 gradient over the layers, as `picture` draws them."""
    return picture(delta_log10, width, height, f"log10 {label} by layer", marks)


def picture(
    values: np.ndarray,
    width: int = 80,
    height: int = 7,
    title: str = "",
    marks: np.ndarray | None = None,
    log: bool = True,
    ends: tuple[str, str] | None = None,
    plural: str = "layers",
) -> Text:
    """Returns bars over the layers, input at the left; the range stands at the axis.

    A bar of a logarithm is green within a decade of the largest, yellow within two and red beyond; a gradient that is
    0, NaN or infinite is marked where its bar would stand. More layers than columns share columns, each showing the
    lowest of its layers, or the mean of what is no logarithm.

    Args:
        values: [L].
        width: columns, the axis included.
        height: rows of the bars.
        title: what is drawn.
        marks: [L], drawn as points over the bars.
        log: whether the values are logarithms; else the bars stand on 0, or on the lowest where that is negative.
        ends: what stands below the first and the last bar, instead of the layers.
        plural: what shares a column.
    """
    layers = len(values)
    room = max(width - AXIS, 10)
    group = math.ceil(layers / room)
    starts = np.arange(0, layers, group)
    pick = lowest if log else np.mean
    bars = np.array([pick(values[start : start + group]) for start in starts])
    each = max(1, min(4, room // len(bars)))
    points = None if marks is None else np.array([pick(marks[start : start + group]) for start in starts])
    drawn = bars if points is None else np.append(bars, points)
    bottom, top = _range(drawn[np.isfinite(drawn)], log)
    # The lowest bar keeps an eighth of a row: a bar of height 0 would look like a gradient of 0.
    heights = 1 + (bars - bottom) / (top - bottom) * (8 * height - 1)
    rows_of_points = None if points is None else (1 + (points - bottom) / (top - bottom) * (8 * height - 1)) / 8

    shared = f", {group} {plural} to a column, the {'lowest' if log else 'mean'} drawn" if group > 1 else ""
    text = Text(f"{title}{shared}\n", style="bold")
    form = "9.1f" if log else "9.3g"
    for row in range(height - 1, -1, -1):
        text.append(tick(row, height, bottom, top, form), style="dim")
        for column, (bar, full) in enumerate(zip(bars, heights, strict=True)):
            if rows_of_points is not None and math.ceil(np.nan_to_num(rows_of_points[column])) == row + 1:
                text.append(MARK.ljust(each), "bold cyan")
            else:
                text.append(*_cell(bar, full, row, each, top if log else None))
        text.append("\n")
    first, last = ends or ("1 (input)", f"{layers} (top)")
    return text.append_text(foot(len(bars) * each, first, last if layers > 1 else ""))


def _range(finite: np.ndarray, log: bool) -> tuple[float, float]:
    """From where to where bars of these values reach."""
    top, bottom = (float(finite.max()), float(finite.min())) if len(finite) else (0.0, 0.0)
    bottom = min(bottom, top - LEAST_RANGE if log else 0.0)
    return bottom, top if top > bottom else bottom + 1.0


def tick(row: int, height: int, low: float, high: float, form: str) -> str:
    """Returns the axis beside a row of a picture, with the range at its ends."""
    label = {height - 1: f"{high:{form}}", 0: f"{low:{form}}"}.get(row, " " * 9)
    return f"{label} {'┤' if label.strip() else '│'}"


def foot(columns: int, first: str, last: str) -> Text:
    """Returns an axis below a picture of so many columns, and what stands at its ends."""
    text = Text(" " * (AXIS - 1) + "└" + "─" * columns + "\n", "dim")
    between = last and last.rjust(max(columns - len(first), len(last) + 1))
    return text.append(" " * AXIS + first + between, "dim")


def lowest(values: np.ndarray) -> float:
    """Returns the value to draw for layers that share a column: trouble first, then the smallest."""
    if np.isnan(values).any():
        return math.nan
    return math.inf if np.isposinf(values).any() else float(values.min())


def _cell(bar: float, full: float, row: int, each: int, top: float | None) -> tuple[str, str]:
    """One bar's part in one row, and its colour, by how far it is from the top if that is given."""
    if not math.isfinite(bar):
        mark = "0" if bar == -math.inf else "?" if math.isnan(bar) else "∞"
        return (mark if row == 0 else " ").ljust(each), "bold red"
    eighths = int(min(max(round(full - 8 * row), 0), 8))
    colour = "cyan" if top is None else "green" if top - bar <= 1 else "yellow" if top - bar <= 2 else "red"
    body = _EIGHTHS[eighths] * max(1, each - 1)
    return body.ljust(each), colour


def sparkline(values: np.ndarray, width: int = 40) -> str:
    """Returns a line of bars for values over time, the mean of each column's share; gaps where nothing is finite."""
    shares = np.array_split(np.asarray(values, float), min(width, len(values)))
    means = np.array([share[np.isfinite(share)].mean() if np.isfinite(share).any() else np.nan for share in shares])
    finite = means[np.isfinite(means)]
    if not len(finite):
        return ""
    low, spread = finite.min(), np.ptp(finite) or 1.0
    return "".join(" " if not math.isfinite(m) else _EIGHTHS[1 + round((m - low) / spread * 7)] for m in means)
