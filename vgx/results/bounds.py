"""What a number is expected to be, as a config says it: `>= 0.95`, `0 +- 0.01`, `predicted`."""

from __future__ import annotations

import math
import operator
import re
from typing import NamedTuple

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
PATTERN = rf"^\s*(?:(>=|<=|>|<|==)\s*{_NUMBER}|(?:{_NUMBER}|(predicted))(?:\s*\+-\s*{_NUMBER})?)\s*$"
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}


class Bound(NamedTuple):
    """A comparison with a number, or nearness to one."""

    compare: str
    """>=, <=, >, <, ==, or +- for nearness."""
    number: float
    """NaN where it is the predicted one."""
    tolerance: float | None
    """How near; None where nothing is said."""

    @property
    def predicted(self) -> bool:
        return math.isnan(self.number)

    def holds(self, value: float | None) -> bool:
        """Whether a value is as expected; one that was not measured, or is NaN, never is."""
        if value is None or math.isnan(value):
            return False
        if self.compare != "+-":
            return bool(_COMPARE[self.compare](value, self.number))
        return abs(value - self.number) <= (self.tolerance or 0.0)


def parse(text: str) -> Bound:
    """Returns what a text says. Raises ValueError when it says nothing."""
    match = re.match(PATTERN, text)
    if match is None:
        raise ValueError(f"expected a bound such as '>= 0.95' or '0 +- 0.01', found '{text[:60]}'")
    compare, limit, number, predicted, tolerance = match.groups()
    near = None if tolerance is None else float(tolerance)
    if compare:
        return Bound(compare, float(limit), None)
    return Bound("+-", math.nan if predicted else float(number), near)
