"""Curves of two nets over steps and depth, and where and when they diverge beyond the seeds' spread. Plain numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vgx.results.intervals import half_width_of_difference, normal_quantile

FACTOR = 2.0
"""By what factor single seeds must differ, where not even theory knows their spread."""
MIN_DIVERGED_SHARE = 0.9
"""The share of steps at which two must differ to have diverged: a batch may bring them together for a moment."""


class Trajectory(NamedTuple):
    """A statistic of a group of runs over the steps and the depth: T steps, P positions."""

    steps: np.ndarray
    """[T], the recorded ones."""
    mean: np.ndarray
    """[T, P] over seeds; -inf or NaN where most seeds have no finite value."""
    spread: np.ndarray
    """[T, P], the standard deviation over seeds; NaN where fewer than two are finite."""
    seeds: np.ndarray
    """[T, P], how many are finite."""


class Divergence(NamedTuple):
    """Where and when a group differs from the first."""

    steps: np.ndarray
    """[T], those that both recorded."""
    difference: np.ndarray
    """[T, P], this one - the first; infinite or NaN where one of them is."""
    limit: np.ndarray
    """[T, P], the largest difference that may be an accident of the seeds; NaN where one of them is not finite."""
    beyond: np.ndarray
    """[T, P], whether it is beyond that, or one of them is 0 or NaN and the other is not."""
    since: np.ndarray
    """[P], the step from which they differ, at MIN_DIVERGED_SHARE of the steps and to the end; 0 for none."""
    by: str
    """What the limit rests on: `seeds`, `theory` (the spread that it predicts of one draw) or `a factor of 2`."""


def aligned(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Returns values of layers [..., L] at relative depths [P].

    Between two layers in proportion, or the nearer one's where one of them is not finite.
    """
    at = positions * (values.shape[-1] - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, values.shape[-1] - 1)
    share = at - low
    below, above = values[..., low], values[..., high]
    with np.errstate(invalid="ignore"):
        between = below + share * (above - below)
    nearest = np.where(share < 0.5, below, above)
    return np.where(np.isfinite(below) & np.isfinite(above), between, nearest)


def trajectory_of(steps: np.ndarray, values: np.ndarray) -> Trajectory:
    """Returns the mean and the spread over seeds of [S, T, P]."""
    finite = np.isfinite(values)
    count = finite.sum(0)
    kept = np.where(finite, values, 0.0)
    mean = kept.sum(0) / np.maximum(count, 1)
    square = np.where(finite, (kept - mean) ** 2, 0.0).sum(0)
    spread = np.where(count > 1, np.sqrt(square / np.maximum(count - 1, 1)), np.nan)
    nothing = np.where(np.isneginf(values).sum(0) > np.isnan(values).sum(0), -np.inf, np.nan)
    return Trajectory(steps, np.where(2 * count > len(values), mean, nothing), spread, count)


def divergence_of(
    statistic: str,
    first: Trajectory,
    other: Trajectory,
    first_band: np.ndarray | None = None,
    band: np.ndarray | None = None,
) -> Divergence:
    """Returns where and when `other` differs from `first`, by Student's test of two means, see `intervals`.

    Args:
        statistic: what they are curves of, which says whether FACTOR is a ratio or a difference of logarithms.
        first: a trajectory at some positions.
        other: another at the same positions, of which the steps that both recorded count.
        first_band: [P], the standard deviation that theory predicts of one seed; taken where neither has two seeds.
        band: likewise of `other`.
    """
    steps = np.intersect1d(first.steps, other.steps)
    a, b = (Trajectory(steps, *(x[np.searchsorted(one.steps, steps)] for x in one[1:])) for one in (first, other))
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = b.mean - a.mean
        if np.any(a.seeds > 1) or np.any(b.seeds > 1):
            by, limit = "seeds", half_width_of_difference((a.spread, b.spread), (a.seeds, b.seeds))
        elif first_band is not None and band is not None:
            by, limit = "theory", normal_quantile() * np.hypot(first_band, band)
        else:
            by, limit = f"a factor of {FACTOR:g}", _factor(statistic, a.mean, b.mean)
    limit = np.broadcast_to(limit, difference.shape).copy()
    both = np.isfinite(a.mean) & np.isfinite(b.mean)
    limit[~both] = np.nan
    same = (np.isneginf(a.mean) & np.isneginf(b.mean)) | (np.isnan(a.mean) & np.isnan(b.mean))
    beyond = np.where(both, np.abs(difference) > np.nan_to_num(limit, nan=np.inf), ~same)
    return Divergence(steps, difference, limit, beyond, _since(steps, beyond), by)


def _since(steps: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """Returns the step [P] from which `beyond` [T, P] holds at MIN_DIVERGED_SHARE of the steps.

    It holds at most steps of the last tenth, too; 0 for none.
    """
    if not len(steps):
        return np.zeros(beyond.shape[1], int)
    left = np.arange(len(steps), 0, -1)[:, None]
    kept = beyond & (np.flip(np.cumsum(np.flip(beyond, 0), 0), 0) >= MIN_DIVERGED_SHARE * left)
    at_the_end = 2 * beyond[-math.ceil(len(steps) / 10) :].sum(0) > math.ceil(len(steps) / 10)
    first = np.maximum(steps[np.argmax(kept, 0)], 1)  # a watched run may count its steps from 0, which is none
    return np.where(at_the_end & kept.any(0), first, 0)


def _factor(statistic: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The difference of two numbers, or of their logarithms, of which one is FACTOR times the other."""
    if statistic.endswith("_log10"):
        return np.full(a.shape, math.log10(FACTOR))
    return (1 - 1 / FACTOR) * np.maximum(np.abs(a), np.abs(b))
