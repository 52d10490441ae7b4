"""Tables too long to draw: neighbours share a bin, of which the mean, the lowest and the highest are kept."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NULL = np.frombuffer(np.uint32(0x7FC0DEAD).tobytes(), np.float32)[0]
"""What was not measured, among float32 numbers: a NaN that no computation yields, so that a measured NaN stays one."""


class Bins(NamedTuple):
    """Neighbours that are drawn as one."""

    starts: np.ndarray
    """[K], where each bin begins."""
    total: int
    """How many things there are in all."""

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(np.append(self.starts, self.total))

    @property
    def thin(self) -> bool:
        """Whether any bin has more than one thing in it."""
        return len(self.starts) < self.total


def bins(count: int, limit: int, last: int = 1) -> Bins:
    """Returns at most `limit` bins of about equal size; the first thing and the `last` ones are alone in theirs.

    Args:
        count: of the things, in order.
        limit: of the bins, at least 2 + `last`.
        last: how many at the end are not to be merged.
    """
    if count <= limit:
        return Bins(np.arange(count), count)
    inner = np.linspace(1, count - last, limit - last).round().astype(int)[:-1]
    return Bins(np.unique(np.concatenate([[0], inner, np.arange(count - last, count)])), count)


class Thinned(NamedTuple):
    """The figures of each bin, float32, `NULL` where nothing was measured; [..., steps, layers] each."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def thin(values: np.ndarray, known: np.ndarray, steps: Bins, layers: Bins) -> Thinned:
    """Returns the mean, the lowest and the highest of each bin of `values` [T, L].

    The mean is plain arithmetic over what was measured, so that one NaN or infinity shows; the lowest and the highest
    leave NaN out where there is anything else.

    Args:
        values: [T, L].
        known: [T, L], whether it was measured.
        steps: bins of the first axis.
        layers: bins of the second.
    """

    def reduced(combine: np.ufunc, x: np.ndarray) -> np.ndarray:
        return combine.reduceat(combine.reduceat(x, steps.starts, 0), layers.starts, 1)

    x = values.astype(np.float64)
    with np.errstate(all="ignore"):
        counts = reduced(np.add, known.astype(np.int64))
        mean = reduced(np.add, np.where(known, x, 0.0)) / counts
        low = reduced(np.fmin, np.where(known, x, np.nan))
        high = reduced(np.fmax, np.where(known, x, np.nan))
        return Thinned(*(_marked(each.astype(np.float32), counts > 0) for each in (mean, low, high)))


def _marked(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    x = np.where(np.isnan(x), np.float32(np.nan), x)  # whatever its bits were
    bits = np.where(known, x.view(np.uint32), NULL.view(np.uint32))
    return bits.view(np.float32)


def is_null(x: np.ndarray) -> np.ndarray:
    """Returns which float32 numbers stand for what was not measured."""
    return x.view(np.uint32) == NULL.view(np.uint32)
