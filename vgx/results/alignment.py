"""Layers side by side: of watched runs those of the same path, of others those at the same relative depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vgx.results.curves import evenly
from vgx.results.divergence import aligned

MAX_POSITIONS = 100
"""At which nets are compared."""


class Alignment(NamedTuple):
    """Which layers of some nets stand side by side."""

    positions: np.ndarray
    """[P], from 0 at the first to 1 at the top."""
    paths: tuple[str, ...] = ()
    """[P], of watched runs that have layers of the same path; else they are aligned by relative depth."""
    rows: tuple[np.ndarray, ...] = ()
    """For each net the layers of these paths, [P], counted from 0."""
    alone: tuple[tuple[str, ...], ...] = ()
    """For each net the paths that not all have."""

    def at(self, net: int, values: np.ndarray) -> np.ndarray:
        """Returns values of all layers of a net, [..., L], at the positions [..., P]."""
        return values[..., self.rows[net]] if self.paths else aligned(values, self.positions)


def align(paths: Sequence[Sequence[str]], layers: Sequence[int], measured: Sequence[np.ndarray]) -> Alignment:
    """Returns how nets are aligned.

    Args:
        paths: of the layers of each, as far as it is a watched run.
        layers: how many each has: L.
        measured: for each, [L], which of its layers have the statistic that is compared.
    """
    shared = [path for path in paths[0] if all(path in other for other in paths[1:])]
    if not shared:
        count = min(max(layers), MAX_POSITIONS)
        alone = tuple(map(tuple, paths)) if all(paths) else ()
        return Alignment(_depths(count), alone=alone)
    places = [{path: i for i, path in enumerate(own)} for own in paths]
    known = [path for path in shared if all(has[of[path]] for has, of in zip(measured, places, strict=True))]
    kept = [(known or shared)[i] for i in evenly(np.arange(len(known or shared)), MAX_POSITIONS)]
    return Alignment(
        _depths(len(kept)),
        tuple(kept),
        tuple(np.array([of[path] for path in kept]) for of in places),
        tuple(tuple(path for path in own if path not in set(shared)) for own in paths),
    )


def _depths(count: int) -> np.ndarray:
    return np.linspace(0, 1, count) if count > 1 else np.ones(1)
