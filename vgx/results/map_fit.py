"""Where on a map nets stop training, in multiples of a depth that theory gives, with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vgx.results.intervals import interval_of
from vgx.results.map_cells import Accuracies, MapCell, lines, neighbours

LEAST_RISE = 0.05
"""How far above chance an accuracy is, at the least, of a net that has trained."""
Ratios = Mapping[tuple[float, float], float | None]
"""Of a cell's net, its depth over a depth of theory's, by the cell's x and y: 0 where that is infinite, None where
unknown."""
Segment = tuple[float, float, float, float]
"""A piece of a contour, from (x, y) to (x, y)."""


class Multiple(NamedTuple):
    """The multiple of a depth up to which nets train: a geometric mean over the lines of a map that cross."""

    value: float
    low: float
    high: float
    """The 95 % interval, over those lines; 0 and infinity of a single one."""
    lines: int


def threshold_of(known: Iterable[float], chance: float) -> float:
    """Returns the accuracy from which a net has trained: midway between chance and the best of the map."""
    return max((chance + max(known, default=chance)) / 2, chance + LEAST_RISE)


def fitted_multiple(
    cells: Sequence[MapCell], accuracies: Accuracies, ratios: Ratios, threshold: float, across: bool
) -> Multiple | None:
    """Returns the multiple of a depth of theory's up to which nets train; None where no line crosses from one to other.

    On each line of cells, a row (`across`) or a column, it crosses between neighbours of which the one with the lower
    ratio has trained and the other has not. There the logarithm of the ratio is interpolated to where the accuracy is
    `threshold`; crossings of one line are averaged.
    """
    found = [
        found for line in lines(cells, across) if (found := _crossings(line, accuracies, ratios, threshold, across))
    ]
    if not found:
        return None
    mean, low, high = interval_of([float(np.mean(each)) for each in found])
    return Multiple(math.exp(mean), math.exp(low), math.exp(high) if high < 700 else math.inf, len(found))


def _crossings(
    line: Sequence[MapCell], accuracies: Accuracies, ratios: Ratios, threshold: float, across: bool
) -> list[float]:
    found = []
    for pair in neighbours(line, across):
        known = [(ratios.get(cell[:2]), accuracies.get(cell[:2])) for cell in pair]
        points = sorted((ratio, accuracy) for ratio, accuracy in known if ratio and accuracy is not None)
        if len(points) < 2 or points[0][0] == points[1][0]:
            continue
        (near, above), (far, below) = points
        if above >= threshold > below:
            share = (above - threshold) / (above - below)
            found.append(math.log(near) + share * (math.log(far) - math.log(near)))
    return found


def contour(
    xs: Sequence[float], ys: Sequence[float], ratios: Sequence[Sequence[float | None]], level: float
) -> list[Segment]:
    """Returns where ratios over a grid are `level`, as pieces of straight lines: by marching squares.

    Along an edge of a square the ratio is taken as linear, which over depth it is.

    Args:
        xs: in order, [n].
        ys: in order, [m].
        ratios: [n, m]; no piece is in a square with an unknown one.
        level: of the contour.
    """
    values = np.array([[math.nan if ratio is None else ratio for ratio in column] for column in ratios], np.float64)
    pieces: list[Segment] = []
    for i in range(len(xs) - 1):
        for j in range(len(ys) - 1):
            corners = [(xs[i], ys[j]), (xs[i + 1], ys[j]), (xs[i + 1], ys[j + 1]), (xs[i], ys[j + 1])]
            heights = [values[i, j], values[i + 1, j], values[i + 1, j + 1], values[i, j + 1]]
            if not np.isfinite(heights).all():
                continue
            crossed = [
                _between(corners[k], corners[(k + 1) % 4], heights[k], heights[(k + 1) % 4], level)
                for k in range(4)
                if (heights[k] > level) != (heights[(k + 1) % 4] > level)
            ]
            pieces += [(*a, *b) for a, b in zip(crossed[::2], crossed[1::2], strict=True)]
    return pieces


def joined(pieces: Sequence[Segment]) -> list[list[tuple[float, float]]]:
    """Returns the pieces of a contour as lines from point to point, each as long as can be."""
    at: dict[tuple[float, float], list[int]] = {}
    for number, piece in enumerate(pieces):
        for end in (piece[:2], piece[2:]):
            at.setdefault(end, []).append(number)
    left, found = set(range(len(pieces))), []
    # lines with two ends begin at one of them, and only then those that go around
    starts = [end for end, numbers in at.items() if len(numbers) == 1] + [piece[:2] for piece in pieces]
    for start in starts:
        line = [start]
        while number := next((number + 1 for number in at[line[-1]] if number in left), 0):
            left.remove(number - 1)
            piece = pieces[number - 1]
            line.append(piece[2:] if piece[:2] == line[-1] else piece[:2])
        if len(line) > 1:
            found.append(line)
    return found


def _between(
    a: tuple[float, float], b: tuple[float, float], low: float, high: float, level: float
) -> tuple[float, float]:
    share = float((level - low) / (high - low))
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
