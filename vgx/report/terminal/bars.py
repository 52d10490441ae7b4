"""Numbers as Unicode bars: a value per layer, on a log scale, at any width."""

from __future__ import annotations

import math

import numpy as np
from rich.text import Text

from vgx.results.words import power_of_ten

_EIGHTHS = " ▁▂▃▄▅▆▇█"
LEAST_RANGE = 2.0
"""Decades that a picture spans at the least, so that noise does not look like a cliff: of those a net vanishes by."""
EACH = 6
"""Columns that a bar takes at the most."""
AXIS = 11
"""Columns that the axis takes."""
MARK = "●"


def gradient_picture(
    delta_log10: np.ndarray,
    width: int = 80,
    height: int = 7,
    label: str = "|dloss/dh|",
    marks: np.ndarray | None = None,
    reach: tuple[float, float] | None = None,
) -> Text:
    """Returns bars of log10 gradient over the layers, as `picture` draws them."""
    return picture(delta_log10, width, height, f"{label} by layer, log scale", marks, reach=reach)


def picture(
    values: np.ndarray,
    width: int = 80,
    height: int = 7,
    title: str = "",
    marks: np.ndarray | None = None,
    log: bool = True,
    ends: tuple[str, str] | None = None,
    reach: tuple[float, float] | None = None,
    form: str = "{:.3g}",
) -> Text:
    """Returns bars over the layers, input at the left; the range stands at the axis.

    The axis of logarithms goes from one whole decade to another and says the numbers themselves: 0.01, 1e-13. A bar is
    green within a decade of the largest, yellow within two and red beyond; a gradient that is 0, NaN or infinite is
    marked where its bar would stand. More layers than columns share columns, each showing the
    lowest of its layers, or the mean of what is no logarithm.

    Args:
        values: [L].
        width: columns, the axis included.
        height: rows of the bars.
        title: what is drawn.
        marks: [L], drawn as points over the bars.
        log: whether the values are logarithms; else the bars stand on 0, or on the lowest where that is negative.
        ends: what stands below the first and the last bar, instead of the layers.
        reach: what the axis holds at the least, as logarithms, so that one that is drawn again and again stays.
        form: of what the axis says of values that are no logarithms.
    """
    layers = len(values)
    room = max(width - AXIS, 10)
    group = math.ceil(layers / room)
    starts = np.arange(0, layers, group)
    pick = lowest if log else np.mean
    bars = np.array([pick(values[start : start + group]) for start in starts])
    each = max(1, min(EACH, room // len(bars)))
    points = None if marks is None else np.array([pick(marks[start : start + group]) for start in starts])
    drawn = bars if points is None else np.append(bars, points)
    bottom, top = decades(drawn, reach) if log else _range(drawn[np.isfinite(drawn)])
    largest = float(bars[np.isfinite(bars)].max(initial=bottom)) if log else None
    # The lowest bar keeps an eighth of a row: a bar of height 0 would look like a gradient of 0.
    heights = 1 + (bars - bottom) / (top - bottom) * (8 * height - 1)
    rows_of_points = None if points is None else (1 + (points - bottom) / (top - bottom) * (8 * height - 1)) / 8

    shared = f", {group} to a column, the {'lowest' if log else 'mean'} drawn" if group > 1 else ""
    text = Text(f"{title}{shared}\n", style="bold")
    labels = [power_of_ten(end) if log else form.format(end) for end in (bottom, top)]
    for row in range(height - 1, -1, -1):
        text.append(tick(row, height, *labels), style="dim")
        for column, (bar, full) in enumerate(zip(bars, heights, strict=True)):
            if rows_of_points is not None and math.ceil(np.nan_to_num(rows_of_points[column])) == row + 1:
                text.append(MARK.ljust(each), "bold cyan")
            else:
                text.append(*_cell(bar, full, row, each, largest))
        text.append("\n")
    first, last = ends or ("1 (input)", f"{layers} (top)")
    return text.append_text(foot(len(bars) * each, first, last if layers > 1 else ""))


def decades(log10: np.ndarray, reach: tuple[float, float] | None = None) -> tuple[float, float]:
    """Returns the ends of an axis of whole decades, LEAST_RANGE or more, that holds these logarithms and `reach`."""
    finite = np.append(log10[np.isfinite(log10)], reach or ())
    top = math.ceil(finite.max() - 1e-6) if len(finite) else 0
    return min(math.floor(finite.min(initial=top) + 1e-6), top - LEAST_RANGE), float(top)


def _range(finite: np.ndarray) -> tuple[float, float]:
    """From where to where bars of values that are no logarithms reach: from 0, or from the lowest."""
    top, bottom = (float(finite.max()), min(float(finite.min()), 0.0)) if len(finite) else (0.0, 0.0)
    return bottom, top if top > bottom else bottom + 1.0


def tick(row: int, height: int, low: str, high: str) -> str:
    """Returns the axis beside a row of a picture, with what stands at its ends."""
    label = {height - 1: high, 0: low}.get(row, "")
    return f"{label:>9} {'┤' if label else '│'}"


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


def sparkline(values: np.ndarray, width: int = 40, log: bool = False) -> str:
    """Returns a line of bars for values over time, the mean of each column's share; gaps where nothing is finite.

    It spans LEAST_RANGE decades of logarithms at the least, else a quarter of the largest value: level is drawn level.
    """
    shares = np.array_split(np.asarray(values, float), min(width, len(values)))
    means = np.array([share[np.isfinite(share)].mean() if np.isfinite(share).any() else np.nan for share in shares])
    finite = means[np.isfinite(means)]
    if not len(finite):
        return ""
    spread = max(np.ptp(finite), LEAST_RANGE if log else np.abs(finite).max() / 4) or 1.0
    middle = (finite.min() + finite.max()) / 2
    if not log and finite.min() >= 0:
        middle = max(middle, spread / 2)
    return "".join(
        " " if not math.isfinite(m) else _EIGHTHS[min(max(math.floor(4.5 + (m - middle) / spread * 7 + 1e-9), 1), 8)]
        for m in means
    )
