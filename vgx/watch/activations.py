"""Which activation follows a watched layer: vgx's by name, or any elementwise function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vgx.errors import WatchError
from vgx.parts.activations import ACTIVATIONS, Activation

Given = str | Activation | Callable[[Array], Array]
"""A name of `vgx parts`, one of its parts, or a function of arrays."""
WITHIN = 10.0
"""The steepest slope of a function that nobody described is looked for between -WITHIN and WITHIN."""


class Following(NamedTuple):
    """The activation that follows a layer."""

    function: Callable[[Array], Array]
    steepest: float | None
    """Its largest |f'|, the yardstick of `saturated`; None where the slope has no bound."""


def following(given: Given) -> Following:
    """Returns what is known of an activation. Raises WatchError for one that is none, or not elementwise."""
    if isinstance(given, str):
        try:
            given = ACTIVATIONS[given]()
        except KeyError as error:
            raise WatchError(f"activation: {error.args[0]}") from None
    if isinstance(given, Activation):
        if given.random or given.parameters(1) is not None:
            raise WatchError(f"activation: {given.name} has slopes that are drawn or learned; give a function of h")
        return Following(given, given.steepest)
    try:
        hash(given)
    except TypeError:
        raise WatchError(f"activation: a {type(given).__name__} has no hash; give a function of h") from None
    if not callable(given):
        raise WatchError(f"activation: expected a name of `vgx parts` or a function, not {given!r:.60}")
    return Following(given, _steepest(given))


@lru_cache
def _steepest(function: Callable[[Array], Array]) -> float | None:
    """The largest |f'| of an elementwise function; None where it grows to the ends of what is looked at."""
    with jax.ensure_compile_time_eval():
        h = jnp.linspace(-WITHIN, WITHIN, 4001)
        few = h[1000:3001:400]
        between = np.array(jax.jacobian(function)(few))
        if between.shape != (len(few), len(few)) or np.any(between[~np.eye(len(few), dtype=bool)]):
            name = getattr(function, "__name__", repr(function))
            raise WatchError(
                f"activation: {name:.60} mixes the entries of what it receives; expected an elementwise one"
            )
        slope = np.abs(np.asarray(jax.jvp(function, (h,), (jnp.ones_like(h),))[1], np.float64))
    most = slope.max()
    return float(most) if slope[np.abs(np.asarray(h)) <= WITHIN / 2].max() > 0.99 * most else None


class Activations:
    """Which activation follows which layer of a model, by path."""

    def __init__(self, given: Given | Mapping[str, Given | None] | None):
        """Takes one for all layers, or one for each pattern of paths, of which the first that matches counts."""
        patterns = given if isinstance(given, Mapping) else {"*": given}
        self._known = {pattern: None if one is None else following(one) for pattern, one in patterns.items()}
        self._without = set(patterns) if isinstance(given, Mapping) else set()
        self._paths: list[str] = []

    def of(self, path: str) -> Following | None:
        """Returns what follows a watched layer, as far as it is known."""
        self._paths.append(path)
        pattern = next((pattern for pattern in self._known if fnmatchcase(path, pattern)), None)
        self._without.discard(pattern or "")
        return self._known[pattern] if pattern is not None else None

    def check(self) -> None:
        """Raises WatchError for a pattern that no watched layer was matched by."""
        for pattern in self._known:
            if pattern in self._without:
                some = ", ".join(self._paths[:5]) + (", ..." if len(self._paths) > 5 else "")
                raise WatchError(f"instrument: activation: {pattern!r}: no layer matches it first; there are: {some}")
