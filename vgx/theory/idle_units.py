"""Which units have no slope, and which entries hardly any.

None of it need be exact, and deep nets ask for much of it: pre-activations that differ by a hundredth are one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vgx.parts.activations import Activation
from vgx.theory.moments import deadness, saturation

FINE = 64
"""Steps to an octave of deviation, to a unit of mean over deviation, and to a unit of correlation."""


def saturated_share(activation: Activation, preact: np.ndarray) -> np.ndarray:
    """Returns the share of entries that are saturated, where mean and deviation of h are the first columns [L, ...]."""
    return _of_distinct(lambda distinct: saturation(activation, *distinct.T)[:, None], preact[:, :2])[:, 0]


def dead_share(activation: Activation, preact: np.ndarray, batch: int) -> np.ndarray:
    """Returns the share of units that are dead for a batch; mean, deviation and correlation of h are [L, 3]."""

    def of_rows(rows: np.ndarray) -> np.ndarray:
        return np.array([[deadness(activation, mean, std, c, batch)] for mean, std, c in rows.tolist()])

    return _of_distinct(of_rows, preact)[:, 0]


def _of_distinct(function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
    """`function` of rows [L, K], worked out once for those that are all but equal."""
    mean, std = rows[:, 0], np.maximum(rows[:, 1], np.finfo(float).tiny)
    with np.errstate(over="ignore"):
        keys = np.stack([mean / std, np.log2(std), *rows[:, 2:].T], -1)
    _, first, inverse = np.unique(
        np.round(FINE * np.clip(keys, -1e6, 1e6)), axis=0, return_index=True, return_inverse=True
    )
    return function(rows[first])[inverse.reshape(-1)]
