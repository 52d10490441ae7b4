"""Numbers in words, as every table, line and page says them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def counted(count: int, noun: str) -> str:
    """Returns a count and its noun: `1 program`, `3,000 lanes`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def figure(value: float | None, form: str = "{:.4f}") -> str:
    """Returns a number in a form such as `{:.4f}`; `-` for None, what was not measured; `NaN`, `∞` and `-∞`."""
    if value is None:
        return "-"
    return form.format(value) if math.isfinite(value) else {math.inf: "∞", -math.inf: "-∞"}.get(value, "NaN")


def speed_of(meta: Mapping[str, Any], unit: str = "steps") -> str:
    """Returns `, 431 steps/s once compiled` from a run's meta.json, to go on with; nothing where none was measured."""
    speed = meta.get("steps_per_second")
    return f", {speed:,.0f} {unit}/s once compiled" if speed else ""


def plain(value: Any) -> Any:
    """Returns what JSON can say of a number: JSON has no NaN and no infinity, which become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def duration(seconds: float) -> str:
    """Returns a time in words: `45 s`, `12 min`, `3.5 h`."""
    if math.isnan(seconds):
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def power_of_ten(exponent: float) -> str:
    """Returns the number 10**exponent as it is read best: 0.0123, or 10⁻⁶²⁸·³."""
    if -4 < exponent < 4:
        return f"{float(f'{10**exponent:.3g}'):g}"
    return "10" + f"{exponent:.1f}".translate(str.maketrans("-0123456789.", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹·"))


def signed(value: float, digits: int = 3) -> str:
    """Returns a number with its sign, and no -0; `-` for NaN and infinities."""
    return f"{round(value, digits) + 0.0:+.{digits}f}" if math.isfinite(value) else "-"
