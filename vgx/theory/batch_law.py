"""What batch norm does to one unit's batch, by quadrature over the batch.

A unit's h on a batch are B normals of one variance and covariance: a part that all share, and a point of the B - 1
dimensions where coordinates add up to 0, uniform in direction, its length that of B - 1 standard normals. Directions
and the shared part are those of a quasi-random sequence, lengths the nodes of a Gauss-Legendre rule. Of r = f(h) less
its mean over the batch, and S = mean(r^2), batch norm passes on y = r / sqrt(S + epsilon); of a gradient g at y there
comes back

    f' / sqrt(S + epsilon) (g - mean(g) - y mean(g y)).

Gradients of another batch norm add up to 0 over the batch and are otherwise alike in all directions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, ndtri

from vgx.parts.activations import Activation
from vgx.parts.normalizations import BatchNorm
from vgx.registry import remembered
from vgx.theory.moments import LEAST, values_and_slopes
from vgx.theory.quadrature import ORDER, panels

FEWEST = 4
"""Examples from which on 1 / S has a mean."""
POINTS = 2**20
"""Pre-activations in all."""
REACH = 6.0
"""Deviations of a length that are kept."""
ORDERS = np.array([0.25, 0.5])
"""Of the moments that mean and variance of a logarithm are taken from."""


class BatchLaw(NamedTuple):
    """Of one unit."""

    square: float
    """E[y^2], y what batch norm makes."""
    own: float
    """|dloss/dh|^2 over |dloss/dy|^2, of gradients of random sign."""
    others: float
    """What is added to that for gradients that add up to 0 over the batch."""
    slope_square: float
    """E[f'^2]"""
    weights: np.ndarray
    """Of the batches that were looked at: [P]."""
    gains: np.ndarray
    """What `own` and `others` are means of: [P]."""


def batch_law(
    activation: Activation,
    mean: float,
    variance: float,
    covariance: float,
    batch: int,
    norm: BatchNorm,
) -> BatchLaw:
    """Returns what batch norm, before or after the activation, does to a unit.

    Args:
        activation: f
        mean: of h.
        variance: of h, of one example.
        covariance: of the h of two examples.
        batch: B, at least FEWEST.
        norm: where it stands, and what is added to S.
    """
    own = max(variance - covariance, 0.0)
    shared = max(variance + (batch - 1) * covariance, 0.0) / batch
    # A share that rounding leaves is none.
    shared = shared if shared > 1e-12 * variance else 0.0
    return _batch_law(activation, mean, math.sqrt(own), math.sqrt(shared), batch, norm)


@remembered
def _batch_law(
    activation: Activation, mean: float, own_std: float, shared_std: float, batch: int, norm: BatchNorm
) -> BatchLaw:
    directions, shared = _directions(batch, max(POINTS // (2 * ORDER * batch), 64))
    lengths, length_weights = _lengths(batch - 1)
    h = mean + shared_std * shared[:, None] + own_std * lengths[:, None, None] * directions
    if norm.before:
        y, divisor = _normalized(h[None], norm.epsilon)
        slope = values_and_slopes(activation, y[0])[1]
    else:
        f, slope = values_and_slopes(activation, h)  # [K, R, P, B]
        y, divisor = _normalized(f, norm.epsilon)
    steep, along = slope**2, slope * y
    own = (steep * (1 - (1 + y**2) / batch)).mean(-1) / divisor
    pairs = slope.sum(-1) ** 2 - steep.sum(-1) + along.sum(-1) ** 2 - (along**2).sum(-1)
    others = pairs / (batch * batch * (batch - 1)) / divisor
    weights = np.broadcast_to(length_weights[:, None] / len(shared), own.shape[1:])  # [R, P]

    def expect(g: np.ndarray) -> float:
        return float(np.sum(weights * g.mean(0)))

    return BatchLaw(
        square=expect((y**2).mean(-1)),
        own=expect(own),
        others=expect(others),
        slope_square=expect(steep.mean(-1)),
        weights=weights.ravel(),
        gains=(own + others).mean(0).ravel(),
    )


def _normalized(x: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """x less its mean over the last axis, over the root of its mean square and epsilon; and those."""
    rest = x - x.mean(-1, keepdims=True)
    divisor = (rest**2).mean(-1) + epsilon
    divisor = np.where(divisor > 0, divisor, np.inf)
    return rest / np.sqrt(divisor)[..., None], divisor


def log_mean(law: BatchLaw, units: int, degrees: int) -> tuple[float, float]:
    """Returns mean and variance of ln(G / E[G]), G the mean of what `units` units let pass.

    In small batches 1 / S has a long tail, and a mean over units is most often below its expectation. With phi(t) the
    Laplace transform of what one unit lets pass, E[G^-s] = 1 / Gamma(s) times the integral of t^(s-1) phi(t / n)^n.

    Args:
        law: of one unit.
        units: n.
        degrees: independent directions that its gradients have over the batch: B - 1 at the most.
    """
    gains = law.gains / np.sum(law.weights * law.gains)
    logs = np.log(np.maximum(gains, LEAST))
    edges = np.linspace(logs.min(), logs.max(), 257)
    weights, gains = (np.histogram(logs, edges, weights=law.weights * x)[0] for x in (1, gains))
    gains = gains / np.maximum(weights, LEAST)
    x = np.linspace(-16.0, 6.0, 1000)
    t = np.exp(x)
    one = np.sum(weights * (1 + 2 / units / degrees * t[:, None] * gains) ** (-degrees / 2), 1)
    transform = np.exp(units * np.log(one / np.sum(weights)))
    # Below the first t the transform is 1.
    cumulants = [np.log(np.trapezoid(t**s * transform, x) + t[0] ** s / s) - gammaln(s) for s in ORDERS]
    # ln E[G^-s] = -s mean + s^2 variance / 2, to the second order.
    (a, b), (s, r) = cumulants, ORDERS
    variance = 2 * (b / r - a / s) / (r - s)
    return float(-a / s + s * variance / 2), float(max(variance, 0.0))


def _directions(batch: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions [2 P, B] whose coordinates add up to 0, and standard normals [2 P], each with its opposite."""
    primes = _primes(batch + 1)
    normals = ndtri((0.5 + np.arange(1, points + 1)[:, None] * np.sqrt(primes)) % 1.0)
    centred = normals[:, :batch] - normals[:, :batch].mean(1, keepdims=True)
    directions = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return np.concatenate([directions, -directions]), np.concatenate([normals[:, -1], -normals[:, -1]])


def _lengths(degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the length of so many standard normals."""
    middle = math.sqrt(degrees)
    nodes, weights = panels(np.array([max(middle - REACH, 0.0), middle + REACH]))
    density = (degrees - 1) * np.log(nodes) - nodes**2 / 2
    weights = weights * np.exp(density - density.max())
    return nodes, weights / weights.sum()


def _primes(count: int) -> np.ndarray:
    """The first `count` prime numbers."""
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found if prime * prime <= number):
            found.append(number)
        number += 1
    return np.array(found, float)
