"""What the singular values of Jacobians come to: how much gets through on average, and how evenly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAPS = {"logits": "input to logits", "hidden": "first to last hidden layer"}
"""The maps whose Jacobians are taken; the second from what the first hidden layer passes on, or from the stream."""


class SpectrumFigures(NamedTuple):
    """What a set of singular values s comes to; arrays over examples, lanes or steps."""

    square_log10: np.ndarray
    """log10 of the mean of s^2."""
    spread: np.ndarray
    """The variance of s^2 over the square of its mean: 0 where all are equal."""
    isometry_gap: np.ndarray
    """log10 of the arithmetic over the geometric mean of s^2: 0 where all are equal, infinite where one is 0. Joudaki,
    Daneshmand and Bach 2023, arXiv:2305.18399, who take the natural logarithm."""


FIGURES = {figure: tuple(f"{name}_{figure}" for name in MAPS) for figure in SpectrumFigures._fields}
"""Columns of each figure."""
SPECTRUM = tuple(f"{name}_{figure}" for name in MAPS for figure in SpectrumFigures._fields)
"""Columns of the metrics table, of runs with `log.spectrum` alone: means over examples."""


def figures_of(log10: np.ndarray) -> SpectrumFigures:
    """Returns what singular values [..., k] come to, given as log10: [...] each; NaN where there are none."""
    if not log10.shape[-1]:
        return SpectrumFigures(*[np.full(log10.shape[:-1], np.nan)] * 3)
    log10 = np.asarray(log10, np.float64)
    largest = log10.max(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        square = np.where(np.isneginf(largest), np.nan, 10.0 ** (2 * (log10 - largest)))
        mean = square.mean(-1)
        square_log10 = np.where(np.isneginf(largest[..., 0]), -np.inf, 2 * largest[..., 0] + np.log10(mean))
        return SpectrumFigures(square_log10, square.var(-1) / mean**2, square_log10 - 2 * log10.mean(-1))


def means_of(spectra: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the figures of `SPECTRUM` for each lane, [R] each, from the singular values of each of MAPS, log10 of
    them [R, E, k]."""
    found = [part.mean(-1) for log10 in spectra for part in figures_of(log10)]
    return dict(zip(SPECTRUM, found, strict=True))
