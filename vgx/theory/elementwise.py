"""An activation that is no part: two numpy functions, f and its derivative."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from vgx.errors import TheoryError
from vgx.parts.activations import ACTIVATIONS, Activation

Elementwise = Callable[[np.ndarray], np.ndarray]
ActivationLike = str | Mapping[str, Any] | Activation | tuple[Elementwise, Elementwise]
"""A registered name, a mapping of `name` and options, an activation, or f and f' as numpy functions."""


class NumpyActivation(Activation):
    """An activation of numpy functions, for theory alone: it cannot be trained."""

    function: Elementwise
    """f, elementwise on float64 arrays of any shape."""
    derivative: Elementwise
    """f', the same."""
    jumps: tuple[float, ...] = ()
    """Where f, f' or f'' jumps."""

    name = "numpy"

    @property
    def kinks(self) -> tuple[float, ...]:  # type: ignore[override]
        return self.jumps

    def values(self, h: np.ndarray) -> np.ndarray:
        """Returns f(h), of the shape of `h`."""
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(self.function(h), float)

    def slopes(self, h: np.ndarray) -> np.ndarray:
        """Returns f'(h), of the shape of `h`."""
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(self.derivative(h), float)


def numpy_activation(f: Elementwise, derivative: Elementwise, kinks: Sequence[float] = ()) -> NumpyActivation:
    """Returns the activation made of two numpy functions, for every function of `vgx.theory`.

    Args:
        f: the activation, elementwise on float64 arrays of any shape.
        derivative: its derivative, the same.
        kinks: where f, f' or f'' jumps. Integrals are split there; one that is left out costs digits.

    Raises TheoryError where either returns another shape, or the derivative is not that of f (at 60 points, -3 to 3).
    """
    made = NumpyActivation(function=f, derivative=derivative, jumps=tuple(sorted(map(float, kinks))))
    step = 1e-4
    h = np.linspace(-3.0, 3.0, 60) + 1 / math.pi / 100
    h = h[np.all([abs(h - kink) > 2 * step for kink in made.jumps], 0)] if made.jumps else h
    for what, values in (("f", made.values(h)), ("the derivative", made.slopes(h))):
        if values.shape != h.shape or not np.isfinite(values).all():
            raise TheoryError(f"activation: {what} must return a finite number for each element of an array")
    rise = (made.values(h + step) - made.values(h - step)) / (2 * step)
    off = abs(rise - made.slopes(h)) - 1e-5 * (1 + abs(rise) + abs(made.values(h)))
    if off.max() > 0:
        at = int(np.argmax(off))
        raise TheoryError(
            f"activation: the derivative is not that of f: at {h[at]:.3g} it is {made.slopes(h)[at]:.6g}, "
            f"and f rises by {rise[at]:.6g} per unit"
        )
    return made


def activation_of(value: ActivationLike) -> Activation:
    """Returns the activation that `value` names or gives. Raises TheoryError where there is none."""
    if isinstance(value, Activation):
        return value
    if isinstance(value, tuple):
        if len(value) != 2 or not all(map(callable, value)):
            raise TheoryError("activation: expected two numpy functions, (f, derivative); numpy_activation takes kinks")
        return numpy_activation(*value)
    if callable(value):
        raise TheoryError("activation: a function needs its derivative beside it: (f, derivative)")
    return part_of(ACTIVATIONS, dict(value) if isinstance(value, Mapping) else value)


def part_of(registry: Any, value: Any) -> Any:
    """Returns the part of a registry that `value` names. Raises TheoryError, in one line, where there is none."""
    try:
        return registry.parse(value)
    except ValidationError as error:
        faults = [": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in error.errors()]
        raise TheoryError(f"{registry.kind}: {'; '.join(faults)}") from None
    except ValueError as error:
        raise TheoryError(f"{registry.kind}: {error}") from None
