"""Integrals against a normal density, on a line and in a plane: Gauss-Legendre panels, split where the integrand kinks.

Not Gauss-Hermite, which is poor at kinks. In the plane the coordinates are polar, since every kink of f(u_a) f(u_b) is
a straight line, and so a ray crosses each of them once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

REACH = 10.0
"""Deviations after which the normal density is left out: 1e-22 of its mass."""
ORDER = 16
"""Nodes per panel."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(ORDER)
_GRADED = REACH * 2.0 ** -np.arange(16)
_TOWARD = np.sort(np.concatenate([_GRADED, [0], -_GRADED]))


class Line(NamedTuple):
    """Points z, and weights that add up to 1: [..., n] each."""

    z: np.ndarray
    weight: np.ndarray


class Plane(NamedTuple):
    """Pairs of points and their weights, [n] each. Each pair stands for its mirror image (b, a) too."""

    a: np.ndarray
    b: np.ndarray
    weight: np.ndarray


def panels(breaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns Gauss-Legendre nodes and weights on the intervals between sorted `breaks` [..., K + 1]."""
    half = np.diff(breaks)[..., None] / 2
    nodes = breaks[..., :-1, None] + half * (1 + _NODES)
    return nodes.reshape(*breaks.shape[:-1], -1), (half * _WEIGHTS).reshape(*breaks.shape[:-1], -1)


def line(kinks: np.ndarray, bend: np.ndarray | float = 0.0, cuts: int = 1) -> Line:
    """Returns the rule for E[g(z)], z ~ N(0, 1), where g kinks at `kinks` [..., K].

    Args:
        kinks: where g, or a derivative of it, jumps.
        bend: where g bends most, [...]; panels are graded toward it, since a wide normal sees an activation's bend, a
            pre-activation of about 1, as a narrow one.
        cuts: panels to a deviation, for a g that turns often within one.
    """
    units = np.linspace(-REACH, REACH, int(2 * REACH * cuts) + 1)
    toward = np.clip(np.asarray(bend, float)[..., None] + _TOWARD, -REACH, REACH)
    shape = np.broadcast_shapes(kinks.shape[:-1], toward.shape[:-1])
    parts = [units, toward, np.clip(kinks, -REACH, REACH)]
    breaks = np.concatenate([np.broadcast_to(part, (*shape, part.shape[-1])) for part in parts], -1)
    z, weight = panels(np.unique(breaks) if breaks.ndim == 1 else np.sort(breaks, -1))
    return Line(z, weight * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))


@lru_cache(maxsize=64)
def plane(theta: float, kinks: tuple[float, ...] = (), levels: int = 1, batch: int | None = None) -> Plane:
    """Returns the rule for E[g(z_a, z_b)], two standard normals with correlation cos(theta), and g symmetric.

    Args:
        theta: in radians, 0 to pi.
        kinks: where g kinks in z_a and in z_b.
        levels: halvings of the panels toward the kinks and the origin.
        batch: instead of normals, two of the coordinates of a point uniform on the sphere of radius sqrt(batch) in the
            batch - 1 dimensions where the coordinates add up to 0: what batch norm makes of a batch.
    """
    if batch == 2:
        return Plane(np.ones(1), -np.ones(1), np.ones(1))
    psi, psi_weight = panels(_graded(_arcs(theta, kinks), levels))
    along = np.cos(psi[:, None] + np.array([0.5, -0.5]) * theta)  # z_a and z_b per unit of radius
    rays = np.broadcast_to(_reach(batch) * 2.0 ** -np.arange(levels + 1), (len(psi), levels + 1))
    with np.errstate(divide="ignore"):
        crossed = [np.clip(kink / along, 0, rays[0, 0]) for kink in kinks if kink]
    breaks = np.sort(np.concatenate([np.zeros((len(psi), 1)), rays, *crossed], 1), 1)
    if batch == 3:
        r, weight = np.sqrt([[2.0]]), np.ones((1, 1))  # a circle
    elif batch is None:
        r, weight = panels(breaks)
        weight = weight * r * np.exp(-0.5 * r * r)
    else:
        # With r = radius sin(t) the density (1 - (r / radius)^2)^((batch - 5) / 2) has no singular end.
        radius = np.sqrt(batch - 1)
        t, weight = panels(np.arcsin(breaks / radius))
        r, weight = radius * np.sin(t), weight * (batch - 3) * np.sin(t) * np.cos(t) ** (batch - 4)
    weight = psi_weight[:, None] / np.pi * weight
    return Plane((along[:, :1] * r).ravel(), (along[:, 1:] * r).ravel(), weight.ravel())


def _reach(batch: int | None) -> float:
    return REACH if batch is None else min(REACH, np.sqrt(batch - 1))


def _arcs(theta: float, kinks: tuple[float, ...]) -> np.ndarray:
    """Angles between which a ray meets the kinks in one order: where it is along one, or passes where two cross."""
    half = theta / 2
    crossings = [
        np.arctan2((high - low) * np.cos(half), (high + low) * np.sin(half))
        for low in kinks
        for high in kinks
        if low < high
    ]
    return np.sort([0, np.pi / 2 - half, np.pi / 2 + half, np.pi, *crossings])


def _graded(breaks: np.ndarray, levels: int) -> np.ndarray:
    """Each interval cut again and again toward both of its ends."""
    toward = 2.0 ** -np.arange(1, levels + 1)
    inner = np.unique(np.concatenate([[0], toward, 1 - toward]))
    return np.append((breaks[:-1, None] + np.diff(breaks)[:, None] * inner).ravel(), breaks[-1])
