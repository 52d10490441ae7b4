"""The one word for a lane, from what was measured alone. Every threshold stands here, and none depends on a scale."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np

Word = Literal["healthy", "vanishing", "exploding", "saturated", "dead", "diverged"]
WORDS: tuple[Word, ...] = get_args(Word)
"""In the order in which they are listed."""

SPAN = 2.0
"""Decades of gradient norm between the top and the bottom hidden layer from which a net vanishes or explodes."""
DEAD = 0.5
"""Mean share of dead units in the hidden layers from which a net is dead; a layer that is dead throughout is enough."""
SATURATED = 0.8
"""Share of saturated entries in the median hidden layer. ReLU's flat half makes one half of every healthy net's."""


class LayerCurves(NamedTuple):
    """Per-layer statistics of one lane over its hidden layers, from the first up: [L] each; None where not measured."""

    delta_log10: np.ndarray
    weight_grad_zero: np.ndarray | None = None
    dead: np.ndarray | None = None
    saturated: np.ndarray | None = None


class Verdict(NamedTuple):
    """What is said of a lane, and on which figures."""

    word: str
    """One of WORDS."""
    slope: float
    """Decades of gradient norm per layer from the top down: vanishing is negative; NaN for fewer than two layers."""
    span: float
    """Decades from the top hidden layer to the bottom one, as `span_of` takes them."""
    evidence: str
    """The reason, in a sentence."""


def slope_of(delta_log10: np.ndarray) -> float:
    """Returns the least-squares slope of `delta_log10` [L] over the layers in decades per layer, from the top down.

    Layers without a finite value are left out; NaN when fewer than two are left.
    """
    return float(slopes_of(delta_log10))


def slopes_of(delta_log10: np.ndarray, layers: np.ndarray | None = None) -> np.ndarray:
    """Returns such a slope for each row of [..., L]; `layers` [L] are where the values stand, 0, 1, ... by default."""
    finite = np.isfinite(delta_log10)
    layers = np.arange(delta_log10.shape[-1]) if layers is None else layers
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (finite * layers).sum(-1, keepdims=True) / finite.sum(-1, keepdims=True)
        centred = np.where(finite, layers - middle, 0.0)
        slopes = -(centred * np.where(finite, delta_log10, 0.0)).sum(-1) / (centred**2).sum(-1)
    return np.where(finite.sum(-1) > 1, slopes, np.nan)


def span_of(delta_log10: np.ndarray) -> float:
    """Returns by how many decades the gradient in the bottom hidden layer is larger than in the top one, as it stands.

    Minus infinity where there is none in the bottom one. A NaN or infinity there, or at the top, is passed over for the
    nearest layer with a finite value; NaN when no layer has one.
    """
    if delta_log10[0] == -math.inf:
        return -math.inf
    ends = _ends(delta_log10)
    return float(delta_log10[ends[0]] - delta_log10[ends[1]]) if ends else math.nan


def _ends(delta_log10: np.ndarray) -> tuple[int, int] | None:
    """The lowest and the highest layer, from 0, with a finite value."""
    layers = np.flatnonzero(np.isfinite(delta_log10))
    return (int(layers[0]), int(layers[-1])) if len(layers) else None


def judge(curves: LayerCurves, diverged: tuple[int, int | None] | None = None) -> Verdict:
    """Returns the verdict on one lane; `diverged` is the step, and the layer if known, of the first NaN or infinity."""
    slope, span = slope_of(curves.delta_log10), span_of(curves.delta_log10)
    word, reason = _judge(curves, span, diverged)
    return Verdict(word, slope, span, f"{reason}; {_travel(curves.delta_log10)}" if math.isfinite(slope) else reason)


def _judge(curves: LayerCurves, span: float, diverged: tuple[int, int | None] | None) -> tuple[Word, str]:
    if diverged is not None:
        step, layer = diverged
        return "diverged", f"NaN or infinity at step {step}" + (f", first in layer {layer}" if layer else "")
    if curves.dead is not None:
        if np.any(curves.dead == 1):
            return "dead", f"every unit of {named_layers(curves.dead == 1)} is dead"
        if np.mean(curves.dead) >= DEAD:
            return "dead", f"{np.mean(curves.dead):.0%} of the hidden units are dead"
    if curves.saturated is not None and np.median(curves.saturated) >= SATURATED:
        return "saturated", f"{np.median(curves.saturated):.0%} of the median layer's entries are saturated"
    if curves.weight_grad_zero is not None and np.any(curves.weight_grad_zero == 1):
        return "vanishing", f"the optimizer sees only zeros in {named_layers(curves.weight_grad_zero == 1)}"
    if span == -math.inf:
        blocked = np.isneginf(curves.delta_log10)
        return "vanishing", f"no gradient reaches {'the hidden layers' if blocked.all() else named_layers(blocked)}"
    if span <= -SPAN:
        return "vanishing", "the gradient shrinks on its way down"
    if span >= SPAN:
        return "exploding", "the gradient grows on its way down"
    return "healthy", "the gradient keeps its size"


def _travel(delta_log10: np.ndarray) -> str:
    """The slope that fits the gradient best, and by how much it changes from where to where, in words."""
    slope, ends = slope_of(delta_log10), _ends(delta_log10)
    assert ends is not None
    low, high = ends
    whole = (low, high) == (0, len(delta_log10) - 1)
    where = "from top to bottom" if whole else f"from layer {high + 1} to layer {low + 1}"
    fit, decibels, change = (
        f"{round(float(x), digits) + 0.0:+.{digits}f}"  # no -0.0
        for x, digits in ((slope, 3), (20 * slope, 1), (delta_log10[low] - delta_log10[high], 1))
    )
    return f"{fit} decades per layer ({decibels} dB, fitted), {change} {where}"


def thresholds() -> str:
    """Returns from where on a net is called what, in a line."""
    return f"vanishing/exploding from {SPAN:g} decades, dead from {DEAD:.0%} of units, saturated from {SATURATED:.0%}"


def named_layers(which: np.ndarray) -> str:
    """Returns `layer 3`, `layers 1-12` or `12 layers from 1 to 40`: the layers that a mask [L] picks."""
    numbers = np.flatnonzero(which) + 1
    first, last = numbers[0], numbers[-1]
    if len(numbers) == 1:
        return f"layer {first}"
    return (
        f"layers {first}-{last}"
        if last - first + 1 == len(numbers)
        else f"{len(numbers)} layers from {first} to {last}"
    )
