"""What a trainability map asks for: two options with their ranges, how many points, and how often to refine it."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from vgx.config import yaml_tree
from vgx.registry import Frozen
from vgx.results.map_cells import MapAxis, nice

MOST_POINTS, MOST_ROUNDS = 200, 6
POINTS, WHOLE_POINTS = 12, 6
"""Values in a range by default: of an option that takes any number, and of one that takes whole numbers, of which each
is, as a rule, a program of its own to compile."""
LARGEST = 1e15
_RANGE = re.compile(r"(?P<low>[^:,]+):(?P<high>[^:,]+)(:(?P<spacing>[^:,]*))?")


def _pair(text: Any, least: int, most: int, example: str) -> Any:
    """A whole number, or two as 12x8, as text. Raises ValueError for another value."""
    found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", str(text))
    if isinstance(text, bool) or not found or not all(least <= int(n) <= most for n in found.groups() if n):
        what = f"a whole number from {least} to {most}, or two for x and y such as {example}"
        raise ValueError(f"expected {what}, found {yaml_tree.shown(text)}")
    return str(text)


def _schema(least: int, most: int) -> WithJsonSchema:
    whole = {"type": "integer", "minimum": least, "maximum": most}
    return WithJsonSchema({"anyOf": [whole, {"type": "string", "pattern": "^[0-9]{1,4}(x[0-9]{1,4})?$"}]})


Points = Annotated[str, BeforeValidator(lambda text: _pair(text, 2, MOST_POINTS, "12x8")), _schema(2, MOST_POINTS)]
Rounds = Annotated[str, BeforeValidator(lambda text: _pair(text, 0, MOST_ROUNDS, "2x1")), _schema(0, MOST_ROUNDS)]


class MapOptions(Frozen):
    """Makes a trainability map of the config: `vgx map` trains nets over two options, more where neighbours differ."""

    x: str
    """What is across, and its range: `initializer.gain=0.5:2.5`, `learning_rate=1e-3:1:log`; or its values, as
    `depth=10,20,40`. A whole number is spaced by ratios unless `:linear` follows, another one evenly unless `:log`
    does."""
    y: str
    """What is upward, likewise: as a rule `depth=10:300`."""
    points: Points | None = None
    """How many values of each range, or of x and of y such as 12x8; 12 by default, and 6 of whole numbers."""
    refine: Rounds = "1x0"
    """Rounds in which cells are added midway between neighbours that differ: along x, or along x and along y such as
    2x1."""
    value: Literal["test_accuracy", "validation_accuracy", "train_accuracy"] | None = None
    """The accuracy that tells whether a net trains; by default the first of these that is measured."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The accuracy from which a net has trained; midway between chance and the best of the map by default."""

    @property
    def rounds(self) -> tuple[int, int]:
        """Rounds of refinement along x and along y."""
        along_x, _, along_y = self.refine.partition("x")
        return int(along_x), int(along_y or 0)

    def count(self, side: int, whole: bool) -> int:
        """Returns how many values a range along x (0) or y (1) has."""
        if self.points is None:
            return WHOLE_POINTS if whole else POINTS
        both = self.points.split("x")
        return int(both[min(side, len(both) - 1)])


def axis_of(path: str, text: str, whole: bool, count: int) -> MapAxis:
    """Returns the values that a range such as 0.5:2.5, 10:300:log or 10,20,40 has, in order, each once.

    Args:
        path: of the option.
        text: the range.
        whole: whether the option takes whole numbers alone; there may be fewer of them than asked for.
        count: values of a range that names its ends alone.

    Raises ValueError, with the reason, for a text that is none.
    """
    if "," in text:
        values = sorted({_number(word, whole) for word in text.split(",")})
        log = values[0] > 0 and values[-1] / values[0] >= 10
    else:
        found = _RANGE.fullmatch(text)
        if not found:
            raise ValueError(
                f"expected a range such as 0.5:2.5 or 1e-3:1:log, or values such as 10,20,40, found {text[:60]!r}"
            )
        spacing = found["spacing"]
        if spacing not in (None, "log", "linear"):
            raise ValueError(f"a range is spaced log or linear, not {spacing[:20]!r}")
        low, high = _number(found["low"], whole), _number(found["high"], whole)
        if low >= high:
            raise ValueError(f"a range goes up, and {low:g} is not less than {high:g}")
        if spacing == "log" and low <= 0:
            raise ValueError(f"a range with :log begins above 0, and {low:g} is not")
        log = spacing == "log" or (spacing is None and whole and low > 0)
        shape = MapAxis(path, (), log, whole)
        ends, steps = (shape.at(low), shape.at(high)), range(count)
        values = [shape.value(ends[0] + i / (count - 1) * (ends[1] - ends[0])) for i in steps]
        values = sorted({low, high, *(nice(value, whole) for value in values[1:-1])})
    if len(values) < 2:
        raise ValueError("a map needs two values or more on each side")
    return MapAxis(path, tuple(values), log, whole)


def _number(word: str, whole: bool) -> float:
    try:
        value = yaml_tree.plain(word.strip())
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{word.strip()[:60]!r} is not a number")
    if abs(value) > LARGEST:
        raise ValueError(f"{word.strip()[:60]} is more than a map can have on a side")
    if whole and value != int(value):
        raise ValueError(f"takes whole numbers, and {word.strip()} is none")
    return int(value) if whole else float(value)
