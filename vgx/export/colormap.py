"""The colours of numbers, for maps on any surface."""

from __future__ import annotations

import numpy as np

_VIRIDIS = np.array(
    [
        (68, 1, 84),
        (72, 40, 120),
        (62, 74, 137),
        (49, 104, 142),
        (38, 130, 142),
        (31, 158, 137),
        (53, 183, 121),
        (110, 206, 88),
        (181, 222, 43),
        (253, 231, 37),
    ]
)
NONFINITE = {"0": (120, 0, 0), "∞": (255, 60, 60), "?": (200, 0, 200)}
"""What has no place on a scale, by its mark."""


def marks_of(values: np.ndarray) -> np.ndarray:
    """Returns the mark of each value that has no place on a scale, `0` for -inf, `∞` and `?` for NaN; else nothing."""
    return np.select([np.isneginf(values), np.isposinf(values), np.isnan(values)], ["0", "∞", "?"], "")


def viridis(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns red, green and blue of each value, [..., 3] of uint8, from dark at `low` to bright at `high`.

    The map is even in lightness, so it survives grey and colour blindness (van der Walt and Smith 2015).
    """
    finite = np.isfinite(values)
    at = np.where(finite, (np.where(finite, values, low) - low) / (high - low or 1.0) * (len(_VIRIDIS) - 1), 0.0)
    colours = np.stack([np.interp(at, np.arange(len(_VIRIDIS)), channel) for channel in _VIRIDIS.T], -1)
    colours = np.round(colours).astype(np.uint8)
    marks = marks_of(values)
    for mark, colour in NONFINITE.items():
        colours[marks == mark] = colour
    return colours
