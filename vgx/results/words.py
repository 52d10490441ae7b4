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
