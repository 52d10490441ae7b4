"""The cells of a trainability map in the plane of its two options: where each lies, and where more are needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

DIFFER = 0.2
"""A difference in accuracy from which neighbours differ, though both have trained, or neither."""
TOUCH = 1e-9
"""The relative gap at which two cells still touch: their ends were worked out apart."""


class MapAxis(NamedTuple):
    """An option along one side of a map."""

    path: str
    values: tuple[float, ...]
    """Of the first grid, in order."""
    log: bool
    """Whether they are spaced, and drawn, by their ratios."""
    whole: bool
    """Whether the option takes whole numbers alone."""

    @property
    def name(self) -> str:
        """The end of its path."""
        return self.path.rpartition(".")[2]

    def at(self, value: float) -> float:
        """Returns where along the side a value lies: itself, or its logarithm."""
        return math.log(value) if self.log else value

    def value(self, place: float) -> float:
        """Returns the value that lies at a place."""
        return math.exp(place) if self.log else place

    def middle(self, a: float, b: float) -> float:
        """Returns the value midway between two: a whole number, or six digits."""
        return nice(self.value((self.at(a) + self.at(b)) / 2), self.whole)

    def ends(self) -> list[tuple[float, float]]:
        """Returns between which values each cell of the first grid reaches: half the way to its neighbours."""
        places = [self.at(value) for value in self.values]
        inner = [(a + b) / 2 for a, b in pairwise(places)]
        inner = [2 * places[0] - inner[0], *inner, 2 * places[-1] - inner[-1]]
        return [(self.value(low), self.value(high)) for low, high in pairwise(inner)]


class MapCell(NamedTuple):
    """One net of a map, and the part of the plane that is drawn in its colour."""

    x: float
    y: float
    left: float
    right: float
    bottom: float
    top: float
    round: int
    """0 for the first grid, and else the round of refinement that added it, whose cells are drawn over those before."""


Accuracies = Mapping[tuple[float, float], float | None]
"""By a cell's x and y; None of a net that failed or has not ended."""


def nice(value: float, whole: bool) -> float:
    """Returns a value as configs are to have it: whole, or with six digits."""
    return round(value) if whole else float(f"{value:.6g}")


def first_cells(x: MapAxis, y: MapAxis) -> list[MapCell]:
    """Returns the cells of the first grid, in the order of a sweep over x and y."""
    return [
        MapCell(at, up, left, right, bottom, top, 0)
        for at, (left, right) in zip(x.values, x.ends(), strict=True)
        for up, (bottom, top) in zip(y.values, y.ends(), strict=True)
    ]


def differ(a: float | None, b: float | None, threshold: float) -> bool:
    """Returns whether one of two accuracies is at the threshold and the other below, or they are DIFFER apart."""
    if a is None or b is None:
        return False
    return (a >= threshold) != (b >= threshold) or abs(a - b) > DIFFER


def refined(
    cells: Sequence[MapCell],
    accuracies: Accuracies,
    threshold: float,
    x: MapAxis,
    y: MapAxis,
    along: tuple[bool, bool],
) -> list[MapCell]:
    """Returns the cells to add: midway between neighbours that differ, along x, along y, or both.

    A whole number has no middle between it and the next. The order is by y and x for those along x, then by x and y.

    Args:
        cells: all so far.
        accuracies: of these.
        threshold: the accuracy from which a net has trained.
        x: across.
        y: up.
        along: whether to look along x, and along y.
    """
    number = 1 + max(cell.round for cell in cells)
    found = {(cell.x, cell.y) for cell in cells}
    added = []
    for a, b in neighbours(cells, across=True) if along[0] else ():
        at = x.middle(a.x, b.x)
        if differ(accuracies.get(a[:2]), accuracies.get(b[:2]), threshold) and (at, a.y) not in found:
            ends = x.value((x.at(a.x) + x.at(at)) / 2), x.value((x.at(at) + x.at(b.x)) / 2)
            added.append(MapCell(at, a.y, *ends, max(a.bottom, b.bottom), min(a.top, b.top), number))
            found.add((at, a.y))
    for a, b in neighbours(cells, across=False) if along[1] else ():
        up = y.middle(a.y, b.y)
        if differ(accuracies.get(a[:2]), accuracies.get(b[:2]), threshold) and (a.x, up) not in found:
            ends = y.value((y.at(a.y) + y.at(up)) / 2), y.value((y.at(up) + y.at(b.y)) / 2)
            added.append(MapCell(a.x, up, max(a.left, b.left), min(a.right, b.right), *ends, number))
            found.add((a.x, up))
    return added


def neighbours(cells: Sequence[MapCell], across: bool) -> Iterator[tuple[MapCell, MapCell]]:
    """Yields the pairs of cells next to each other in one row (`across`) or one column, whose parts touch."""
    for line in lines(cells, across):
        for a, b in pairwise(line):
            low, high = (b.left, a.right) if across else (b.bottom, a.top)
            if low <= high + TOUCH * max(abs(low), abs(high)):
                yield a, b


def lines(cells: Sequence[MapCell], across: bool) -> list[list[MapCell]]:
    """Returns the rows of a map (`across`), each from left to right, or its columns, each from below."""
    found: dict[float, list[MapCell]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.y, cell.x) if across else (cell.x, cell.y)):
        found.setdefault(cell.y if across else cell.x, []).append(cell)
    return list(found.values())
