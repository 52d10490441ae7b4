"""What infinite width leaves out: how far finite nets stray from theory, and which of their units have no slope.

None of it need be exact, and deep nets ask for much of it: pre-activations that differ by a hundredth are one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vgx.parts.activations import Activation
from vgx.theory.moments import deadness, gaussian, saturation

FINE = 64
"""Steps to an octave of deviation, to a unit of mean over deviation, and to a unit of correlation."""
NUDGE = 0.01
"""Of the deviation, to take a derivative by."""
LOST = 1e6
"""A relative variance past which nothing is known any more."""


class Spread(NamedTuple):
    """Standard deviations over draws of Gaussian weights, in parts of the root mean square itself: [L + 1] each."""

    preact: np.ndarray
    act: np.ndarray


def forward_spread(
    activation: Activation,
    preact: np.ndarray,
    widths: np.ndarray,
    from_inputs: np.ndarray,
    fixed_before: bool,
    fixed_after: bool,
) -> Spread:
    """Returns how far one example's root mean squares over the units of a layer stray from those of an infinite width.

    Given what a layer receives, its n units' h are independent normals: their mean square has the relative variance
    2 / n, and E[f^2] follows it as its derivative says.

    Args:
        activation: f; the readout's is the identity.
        preact: [L + 1, 2], mean and deviation of what the activation receives.
        widths: [L + 1], n.
        from_inputs: [L + 1], the share of the deviation's square that comes from below, and not from biases.
        fixed_before: whether a normalization, or LSUV, sets the deviation whatever comes.
        fixed_after: whether a normalization sets what the layer passes on.
    """

    def answer(distinct: np.ndarray) -> np.ndarray:
        mean, std = distinct[:, 0], distinct[:, 1]
        f = gaussian(activation, mean, std)
        below, above = (gaussian(activation, mean, std * (1 + nudge)).square for nudge in (-NUDGE, NUDGE))
        with np.errstate(divide="ignore", invalid="ignore"):
            noise = np.maximum(f.fourth / f.square**2 - 1, 0)
            echo = np.log(above / below) / (2 * np.log((1 + NUDGE) / (1 - NUDGE)))
        # Where the mean of h^2 is fixed, what f^2 owes to it does not vary.
        noise = np.maximum(noise - 2 * echo**2, 0) if fixed_before else noise
        return np.nan_to_num(np.stack([noise, echo], -1), posinf=0.0, neginf=0.0)

    noise, echo = _of_distinct(answer, preact).T
    noise[-1], echo[-1] = 2.0, 1.0
    variances, below = [], 0.0
    frees = [*[not fixed_before] * (len(widths) - 1), True]
    for n, one, by, share, free in zip(
        widths, noise, echo, np.clip(np.nan_to_num(from_inputs), 0, 1), frees, strict=True
    ):
        arriving = free * share**2 * below
        below = 0.0 if fixed_after else min(one / n + by**2 * arriving, LOST)
        variances.append((free * 2 / n + arriving, below))
    preact_variance, act_variance = np.array(variances).T
    return Spread(np.sqrt(preact_variance) / 2, np.sqrt(act_variance) / 2)


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
