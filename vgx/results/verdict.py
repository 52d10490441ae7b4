"""The one word for a lane, from what was measured alone. Every threshold stands here, and but for UNDERFLOW, which is
where float32 ends, none depends on a scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from vgx.results.layer_names import chains_of, member_names
from vgx.results.words import signed

Word = Literal["healthy", "vanishing", "exploding", "saturated", "dead", "diverged"]
WORDS: tuple[Word, ...] = get_args(Word)
"""In the order in which they are listed."""

SPAN = 2.0
"""Decades that the gradient's norm falls, or grows, between two hidden layers from which a net vanishes or explodes."""
DEAD = 0.5
"""Mean share of dead units in the hidden layers from which a net is dead."""
DEAD_LAYER = 0.95
"""Share of dead units in a single hidden layer from which a net is dead."""
SATURATED = 0.8
"""Share of saturated entries in the median hidden layer from which a net is saturated."""
SATURATED_LAYER = 0.95
"""Share of saturated entries from which a layer is saturated; half of the hidden layers are enough."""
ZEROS = 0.99
"""Share of zeros in a layer's weight gradient, as the optimizer sees it, from which it has underflowed."""
UNDERFLOW = -30.0
"""log10 of a gradient's norm below which float32 may have lost some of it; zeros above come of inputs and of units."""
NOTABLE = 0.5
"""Decades by which a change inside a net differs from that between its ends to be told in its place."""


class Rule(NamedTuple):
    """When a lane gets a word, and why from there."""

    word: Word
    condition: str
    reason: str


RULES = (
    Rule(
        "diverged",
        "the loss or the gradient is NaN or infinite at some step",
        "nothing after it is a measurement. But where the gradient grows by so much that it explodes (below), at the "
        "first recorded step and at the last one before the NaN or infinity, that is the cause, and the word is "
        "`exploding`; the lane's status stays `diverged`",
    ),
    Rule(
        "healthy",
        f"the last training accuracy is 1, and the gradient that enters at the readout is 0 or below 1e{UNDERFLOW:g}",
        "it has fitted: where nothing is left to learn, no gradient is to be expected in any layer",
    ),
    Rule(
        "dead",
        f"{DEAD_LAYER:.0%} of the units of one hidden layer are dead, or {DEAD:.0%} of all hidden units",
        "a layer with one live unit in twenty is a bottleneck for whatever lies above and below; a net of which half "
        "is gone is not the one that was asked for. ReLU nets that learn well have layers of up to 70% dead units",
    ),
    Rule(
        "saturated",
        f"{SATURATED:.0%} of the median hidden layer's entries are saturated, or {SATURATED_LAYER:.0%} in each of half "
        "of the hidden layers",
        "ReLU's flat half makes one half of the entries of a healthy net, and two thirds of the median layer's in one "
        "that is trained. One saturated layer alone is no fault: a trained tanh net may well have its last layer so",
    ),
    Rule(
        "vanishing",
        f"{ZEROS:.0%} of the weight gradient of one hidden layer is 0 for the optimizer, and its true norm is below "
        f"1e{UNDERFLOW:g}; or all of it is 0",
        "dead units, black pixels and small batches make zeros too, up to 90% in ReLU nets that learn well, but among "
        "entries of ordinary size. Float32 ends at 1e-38, some decades below the largest entries of such a layer",
    ),
    Rule("vanishing", "no gradient at all reaches a hidden layer", "it cannot learn"),
    Rule(
        "vanishing",
        f"the gradient falls by {SPAN:g} decades on its way down from one hidden layer to another",
        "at one learning rate the weaker layer gets a hundredth of the gradient. A healthy net's draws stay below: "
        "in 30 He ReLU layers of 128 units the bottom layer's gradient deviates by a quarter of a decade",
    ),
    Rule(
        "exploding",
        f"the gradient grows by {SPAN:g} decades on its way down from one hidden layer to another",
        "likewise. Of a net whose gradient does both, the larger departure from the top hidden layer, from where the "
        "gradient comes, decides: one that dips and recovers vanishes, one that swells and recovers explodes",
    ),
    Rule("healthy", "none of these", "the gradient keeps its size, and units and weights receive it"),
)
"""The first that holds gives the word."""


def rules_table() -> str:
    """Returns RULES as the table in docs/verdicts.md."""
    rows = [f"| `{word}` | {condition} | {reason} |" for word, condition, reason in RULES]
    return "\n".join(["| word | when | why from there |", "|---|---|---|", *rows])


class LayerCurves(NamedTuple):
    """Per-layer statistics of one lane over its hidden layers, from the first up: [L] each; None where not measured."""

    delta_log10: np.ndarray
    weight_grad_zero: np.ndarray | None = None
    dead: np.ndarray | None = None
    saturated: np.ndarray | None = None
    weight_grad_log10: np.ndarray | None = None


class Fit(NamedTuple):
    """How far a lane has fitted what it is trained on."""

    train_accuracy: float
    """Of the last batch."""
    readout_log10: float
    """log10 of the gradient where it enters, at the readout."""

    @property
    def perfect(self) -> bool:
        """Whether nothing is left to learn."""
        return self.train_accuracy == 1 and self.readout_log10 < UNDERFLOW


class Places(NamedTuple):
    """What layers are called in a verdict."""

    names: tuple[str, ...] = ()
    """[L], their paths in a watched run; empty where they are numbers."""
    noun: str = "layer"
    """What a slope counts."""

    def one(self, layer: int) -> str:
        """`layer 3`, of a layer counted from 1; or its name."""
        return self.names[layer - 1] if self.names else f"layer {layer}"

    def some(self, which: np.ndarray) -> str:
        """`layer 3`, `layers 1-12` or `12 layers from 1 to 40`: the layers that a mask [L] picks; or their names."""
        numbers = np.flatnonzero(which) + 1
        first, last = (self.names[i - 1] if self.names else str(i) for i in (numbers[0], numbers[-1]))
        if len(numbers) == 1:
            return self.one(numbers[0])
        if len(numbers) == 2 and self.names:
            return f"{first} and {last}"
        if not self.names and numbers[-1] - numbers[0] + 1 == len(numbers):
            return f"layers {first}-{last}"
        return f"{len(numbers)} layers from {first} to {last}"


NUMBERED = Places()


class Change(NamedTuple):
    """By how much the gradient changes on its way down from one layer to another."""

    start: int
    """The upper layer, counted from 1 at the bottom."""
    end: int
    decades: float


class Verdict(NamedTuple):
    """What is said of a lane, and on which figures."""

    word: str
    """One of WORDS."""
    slope: float
    """Decades of gradient norm per layer from the top down: vanishing is negative; NaN for fewer than two layers."""
    span: float
    """Decades of the change that decides, as `span_of` takes them."""
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
    """Returns the decades of the gradient's `largest_change` over the layers [L]: negative for a fall.

    Minus infinity where none reaches a layer; NaN when no layer has a finite value.
    """
    if np.isneginf(delta_log10).any():
        return -math.inf
    change = largest_change(delta_log10)
    return change.decades if change else math.nan


def largest_change(delta_log10: np.ndarray) -> Change | None:
    """Returns the largest fall or rise of the gradient [L] from any hidden layer down to any other.

    Where both reach SPAN, that of the larger departure from the top hidden layer: a dip that recovers is a fall. Layers
    without a finite value are left out; None when there is no other.
    """
    layers = np.flatnonzero(np.isfinite(delta_log10))[::-1]
    if not len(layers):
        return None
    down = delta_log10[layers] - delta_log10[layers[0]]
    (fall, fallen), (rise, risen) = _largest_rise(-down), _largest_rise(down)
    falls = -down.min() >= down.max() if min(fallen, risen) >= SPAN else fallen >= risen
    start, end = layers[list(fall if falls else rise)] + 1
    return Change(int(start), int(end), -fallen if falls else risen)


def _largest_rise(values: np.ndarray) -> tuple[tuple[int, int], float]:
    """The largest of values[j] - values[i] with i <= j: (i, j) and how large it is."""
    rises = values - np.minimum.accumulate(values)
    end = int(np.argmax(rises))
    return (int(np.argmin(values[: end + 1])), end), float(rises[end])


def judge(
    curves: LayerCurves,
    diverged: tuple[int, int | None] | None = None,
    fit: Fit | None = None,
    paths: Sequence[str] = (),
) -> Verdict:
    """Returns the verdict on one lane by RULES, but for a divergence that follows from an explosion.

    A net of named layers is no chain. Where they stand in numbered blocks, each path over the blocks is one, such as
    `blocks.*.mlp.up`, and the slope, per block, is of the one whose gradient changes most from the output to the input;
    else the order of the forward pass is taken for the chain.

    Args:
        curves: of its hidden layers, or of all that have names.
        diverged: the step, and the layer if known, of the first NaN or infinity.
        fit: how far it has fitted, where that is known.
        paths: [L], the layers' names where they have some.
    """
    delta, places, along = curves.delta_log10, Places(tuple(paths)), ""
    fault = _fault(curves, diverged, fit, places)
    if chains := chains_of(paths):
        pattern, members = max(chains.items(), key=lambda chain: _departure(delta[chain[1]]))
        along = f"{_shared_by(chains, delta, members)}along {pattern}: "
        delta = delta[members]
        names = member_names(paths)
        places = Places(tuple(names[i] for i in members), "block")
    elif paths:
        along = "in the order of the forward pass: "
    slope, span = slope_of(delta), span_of(delta)
    word, reason = fault or _by_span(span)
    return Verdict(word, slope, span, f"{reason}; {along}{_travel(delta, places)}" if math.isfinite(slope) else reason)


def _shared_by(chains: Mapping[str, list[int]], delta_log10: np.ndarray, most: list[int]) -> str:
    """In how many of several chains the gradient does what it does in the one where it changes most."""
    words = [_by_span(span_of(delta_log10[members]))[0] for members in chains.values()]
    alike = words.count(_by_span(span_of(delta_log10[most]))[0])
    count = f"all {len(words)}" if alike == len(words) else f"{alike} of {len(words)}"
    return f"in {count} block paths, most " if len(words) > 1 else ""


def _departure(delta_log10: np.ndarray) -> float:
    """How many decades a gradient changes over layers, to find the largest; those where none is known come last."""
    change = abs(span_of(delta_log10))
    return -1.0 if math.isnan(change) else change


def _fault(
    curves: LayerCurves, diverged: tuple[int, int | None] | None, fit: Fit | None, places: Places
) -> tuple[Word, str] | None:
    """The word, and why, of a lane about which the change of its gradient over the layers has nothing to say."""
    if diverged is not None:
        return "diverged", divergence_in_words(*diverged, places)
    if fit is not None and fit.perfect:
        return "healthy", "has fitted: training accuracy 1, and no gradient is left"
    fault = _units_fault(curves, places) or _underflow(curves, places)
    blocked = np.isneginf(curves.delta_log10)
    if fault is not None or not blocked.any():
        return fault
    everywhere = "any layer" if places.names else "the hidden layers"
    return "vanishing", f"no gradient reaches {everywhere if blocked.all() else places.some(blocked)}"


def _by_span(span: float) -> tuple[Word, str]:
    if span <= -SPAN:
        return "vanishing", "the gradient shrinks on its way down"
    if span >= SPAN:
        return "exploding", "the gradient grows on its way down"
    return "healthy", "the gradient keeps its size"


def _units_fault(curves: LayerCurves, places: Places) -> tuple[Word, str] | None:
    """Whether too many units are dead or saturated."""
    (dead, of_dead), (saturated, of_saturated) = (_known(x, places) for x in (curves.dead, curves.saturated))
    if dead is not None:
        if np.any(dead == 1):
            return "dead", f"every unit of {of_dead.some(dead == 1)} is dead"
        if np.any(dead >= DEAD_LAYER):
            return "dead", f"{_share(np.max(dead))} of the units of {of_dead.one(int(np.argmax(dead)) + 1)} are dead"
        if np.mean(dead) >= DEAD:
            return "dead", f"{_share(np.mean(dead))} of the hidden units are dead"
    if saturated is not None:
        if np.median(saturated) >= SATURATED:
            return "saturated", f"{_share(np.median(saturated))} of the median layer's entries are saturated"
        full = saturated >= SATURATED_LAYER
        if np.mean(full) >= 0.5:
            least = _share(np.min(saturated[full]))
            return "saturated", f"{least} or more of the entries of {of_saturated.some(full)} are saturated"
    return None


def _known(values: np.ndarray | None, places: Places) -> tuple[np.ndarray | None, Places]:
    """What was measured of named layers, of which not all need have it, and those layers."""
    if values is None or not places.names:
        return values, places
    known = np.flatnonzero(~np.isnan(values))
    return (values[known], Places(tuple(places.names[i] for i in known))) if len(known) else (None, places)


def _underflow(curves: LayerCurves, places: Places) -> tuple[Word, str] | None:
    """Whether a layer's weight gradient is lost to the optimizer."""
    zeros, norm = curves.weight_grad_zero, curves.weight_grad_log10
    if zeros is None:
        return None
    if np.any(zeros == 1):
        return "vanishing", f"the optimizer sees only zeros in {places.some(zeros == 1)}"
    lost = (zeros >= ZEROS) if norm is None else (zeros >= ZEROS) & (norm < UNDERFLOW)
    if not np.any(lost):
        return None
    return "vanishing", f"{_share(np.max(zeros[lost]))} of the weights' gradient underflows in {places.some(lost)}"


def divergence_in_words(step: int, layer: int | None, places: Places = NUMBERED) -> str:
    """Returns where NaN or infinity began."""
    return f"NaN or infinity at step {step}" + (f", first in {places.one(layer)}" if layer else "")


def _share(value: Any) -> str:
    """`98%` or `99.9%`: rounded down, so that what is not all is not called all."""
    return f"{math.floor(round(float(value) * 1000, 3)) / 10:g}%"


def _travel(delta_log10: np.ndarray, places: Places) -> str:
    """The slope that fits the gradient best, and by how much it changes from where to where, in words."""
    slope, change = slope_of(delta_log10), largest_change(delta_log10)
    assert change is not None
    fit = f"{signed(slope)} decades per {places.noun} ({signed(20 * slope, 1)} dB, fitted)"
    layers = np.flatnonzero(np.isfinite(delta_log10))
    low, high = int(layers[0]), int(layers[-1])
    ends = float(delta_log10[low] - delta_log10[high])
    if abs(change.decades - ends) < NOTABLE:
        whole = (low, high) == (0, len(delta_log10) - 1) and not places.names
        where = "from top to bottom" if whole else f"from {places.one(high + 1)} to {places.one(low + 1)}"
        return f"{fit}, {signed(ends, 1)} {where}"
    after = float(delta_log10[low] - delta_log10[change.end - 1])
    rest = f", recovers by {signed(after, 1)}" if abs(after) >= NOTABLE else ""
    return f"{fit}, {signed(change.decades, 1)} from {places.one(change.start)} to {places.one(change.end)}{rest}"


def thresholds() -> str:
    """Returns from where on a net is called what, in a line."""
    return (
        f"vanishing/exploding from {SPAN:g} decades, dead from {DEAD:.0%} of units ({DEAD_LAYER:.0%} of a layer's), "
        f"saturated from {SATURATED:.0%}"
    )
