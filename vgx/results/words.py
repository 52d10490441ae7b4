"""Numbers in words, as every table, line and page says them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any


def counted(count: float, noun: str) -> str:
    """Returns a count and its noun: `1 program`, `3,000 lanes`, `12.3 layers`; in three digits of a float."""
    return f"{count:{',.3g' if isinstance(count, float) else ','}} {noun}{'' if count == 1 else 's'}"


def figure(value: float | None, form: str = "{:.4f}") -> str:
    """Returns a number in a form such as `{:.4f}`; `-` for None, what was not measured; `NaN`, `∞` and `-∞`."""
    if value is None:
        return "-"
    return form.format(value) if math.isfinite(value) else {math.inf: "∞", -math.inf: "-∞"}.get(value, "NaN")


def compact(value: float) -> str:
    """Returns a number in three digits, as `figure` does; a large one as a whole number."""
    return figure(value, "{:.3g}" if abs(value) < 1000 else "{:,.0f}")


def rounded(value: float, uncertainty: float) -> str:
    """Returns a number with two digits of its uncertainty; four where that is unknown or of no use; `-` for NaN."""
    if not math.isfinite(value):
        return "-"
    largest = max(abs(value), uncertainty)
    if not uncertainty > 0 or not 1e-4 <= largest < 1e6:
        return f"{value:.4g}"
    return f"{value:.{min(max(1 - math.floor(math.log10(uncertainty)), 0), 7)}f}"


def mean_and_spread(mean: float, spread: float, form: str) -> str:
    """Returns `0.9712 ±0.0012`; the mean alone where the spread is NaN; `not finite`."""
    if not math.isfinite(mean):
        return "not finite"
    spread_form = re.sub(r"\.\d+g", ".2g", form.replace("+", ""))
    return form.format(mean) + ("" if math.isnan(spread) else f" ±{spread_form.format(spread)}")


def speed_of(meta: Mapping[str, Any], unit: str = "steps") -> str:
    """Returns `, 431 steps/s once compiled` from a run's meta.json, to go on with; nothing where none was measured."""
    speed = meta.get("steps_per_second")
    if not speed:
        return ""
    if meta.get("watched"):  # its loop may take more than a second for a step, and need not be compiled
        return f", {speed:{',.0f' if speed >= 10 else '.2g'}} {unit}/s"
    return f", {speed:,.0f} {unit}/s once compiled"


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
    """Returns the number 10**exponent in two significant figures, however small: `0.24`, `3200`, `6e-5`, `5.6e-629`."""
    if -3 <= exponent < 5:
        return f"{float(f'{10**exponent:.2g}'):g}"
    whole = math.floor(exponent)
    mantissa = float(f"{10 ** (exponent - whole):.1f}")
    return f"{mantissa:g}e{whole}" if mantissa < 10 else f"1e{whole + 1}"


def signed(value: float, digits: int = 3) -> str:
    """Returns a number with its sign, and no -0; `-` for NaN and infinities."""
    return f"{round(value, digits) + 0.0:+.{digits}f}" if math.isfinite(value) else "-"
