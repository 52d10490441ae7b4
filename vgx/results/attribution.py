"""Why a gradient travels as it does: its slope over the layers, split into causes that add up to it."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np

from vgx.results.verdict import slope_of

NAMES = {
    "weights": "the weights' gain",
    "derivative": "the activation's derivative",
    "normalization": "the normalization",
    "dropout": "dropout",
    "skip": "the skip connection",
    "rest": "what theory leaves out (finite width, correlations)",
}
SLIGHT = 0.001
"""Decades per layer below which a cause is not worth naming: a factor of 10 in a thousand layers."""
BALANCED = 0.2
"""A slope below this share of its largest cause is what is left when causes cancel."""


class Factors(Protocol):
    """What a prediction says of each layer's factor, `theory.Propagation`: [L + 1] each, the readout's not used."""

    @property
    def factor(self) -> np.ndarray: ...
    @property
    def weight_gain(self) -> np.ndarray: ...
    @property
    def slope_square(self) -> np.ndarray: ...
    @property
    def normalization(self) -> np.ndarray: ...
    @property
    def skip(self) -> np.ndarray: ...


class Causes(NamedTuple):
    """Decades of gradient norm per layer from the top down, by cause; they add up to the slope that was measured."""

    weights: float
    """n_l Var(W_{l+1}), of the measured weights where they are known."""
    derivative: float
    """E[f'^2]"""
    normalization: float
    dropout: float
    skip: float
    """What comes past the layers, over what comes through them."""
    rest: float
    """The slope without all that."""

    @property
    def slope(self) -> float:
        return sum(self)

    @property
    def sentence(self) -> str:
        """The cause that weighs most, in words."""
        if not math.isfinite(self.slope):
            return "no gradient travels through these layers, so nothing can be said of its causes"
        (name, value), (other, less), *_ = sorted(self._asdict().items(), key=lambda item: -abs(item[1]))
        if abs(value) < SLIGHT:
            return "nothing moves the gradient: every cause is below a thousandth of a decade per layer"
        if abs(self.slope) < BALANCED * abs(value):
            balance = f"{NAMES[name]} ({value:+.3f}) and {NAMES[other]} ({less:+.3f}) all but cancel"
            return f"{balance}: {self.slope:+.3f} decades per layer are left"
        along, against = ({n: v for n, v in self._asdict().items() if v * self.slope * s > 0} for s in (1, -1))
        name, value = max(along.items(), key=lambda item: abs(item[1]))
        verb = "shrinks" if value < 0 else "grows"
        text = f"the gradient {verb} most of all by {NAMES[name]}: {value:+.3f} decades per layer of {self.slope:+.3f}"
        other, less = max(against.items(), key=lambda item: abs(item[1]), default=(name, 0.0))
        return text + (f", against {NAMES[other]}: {less:+.3f}" if abs(less) > BALANCED * abs(value) else "")


def attribute(predicted: Factors, delta_log10: np.ndarray, weight_gain: np.ndarray | None = None) -> Causes:
    """Returns the causes of a slope over the hidden layers, as `verdict.slope_of` takes it.

    Args:
        predicted: the factors of each layer.
        delta_log10: [L + 1], measured; NaN causes where it is not finite throughout.
        weight_gain: [L + 1], n_l Var(W_{l+1}) as measured, in place of the prediction's.
    """
    weights = predicted.weight_gain if weight_gain is None else weight_gain
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [weights, predicted.slope_square, predicted.normalization, predicted.skip]
        through = predicted.weight_gain * predicted.slope_square * predicted.normalization * predicted.skip
        gain, derivative, normalization, skip, dropped = (
            _slope(np.log10(part)) for part in (*parts, predicted.factor / through)
        )
    whole = slope_of(delta_log10[:-1]) if np.isfinite(delta_log10[:-1]).all() else math.nan
    known = gain, derivative, normalization, dropped, skip
    return Causes(*known, whole - sum(known))


def _slope(factor_log10: np.ndarray) -> float:
    """What factors [L + 1] alone make of the slope: the curve that they add up to from the top hidden layer down."""
    steps = factor_log10[:-2] / 2
    return slope_of(np.append(np.cumsum(steps[::-1])[::-1], 0.0)) if np.isfinite(steps).all() else math.nan
