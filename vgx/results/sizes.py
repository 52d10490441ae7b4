"""Sizes in bytes, as people write them."""

from __future__ import annotations

UNITS = {"": 1, "b": 1}
UNITS |= {f"{letter}{tail}": 1000**power for power, letter in enumerate("kmgt", 1) for tail in ("", "b")}
UNITS |= {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)}


def parse_size(text: str) -> int:
    """Returns the bytes in a text such as 4GB, 512 MiB or 2e9. Raises ValueError for another text, or less than 1."""
    number = text.strip().lower().rstrip("bikmgt ")
    unit = text.strip().lower()[len(number) :].strip()
    try:
        size = int(float(number) * UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size < 1:
        raise ValueError("expected a size such as 4GB or 512MB")
    return size
