"""Nets, lanes and comparisons in words, as terminal and page say them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np

from vgx.results.comparison import Divergence, Figure, GroupOutcome, RunComparison
from vgx.results.layer_names import short_names
from vgx.results.safe_text import one_line
from vgx.results.values import label
from vgx.results.verdict import Places
from vgx.results.words import mean_and_spread


def describe_config(config: dict[str, Any], swept: Sequence[str] = ()) -> str:
    """Returns a config in a line: `20 x 128 relu, he_normal, no norm, sgd 0.1, mnist`; of a sweep, what is not swept.

    `swept` are the paths that cells differ in: there the base config's own values are nobody's.
    """

    if "watched" in config:
        words = [
            f"{key} {value if isinstance(value, str) else label(value)}" for key, value in config["watched"].items()
        ]
        return shorten(one_line(", ".join(words)) or "no config was handed over", 120, placeholder=" ...")

    def shared(path: str) -> bool:
        return not any(path == other or path.startswith(f"{other}.") for other in swept)

    model, optimizer = config["model"], config["train"]["optimizer"]
    width, depth, norm = model["width"], model.get("depth"), model["normalization"]
    shape = "-".join(map(str, width)) if isinstance(width, list) else f"{depth} x {width}"
    if not shared("model.width"):
        shape = f"{depth} layers" if depth and shared("model.depth") else ""
    elif not shared("model.depth"):
        shape = f"width {width}"
    placed = f" {norm['placement']}" if norm["name"] != "none" and shared("model.normalization.placement") else ""
    words = [
        f"{shape} {model['activation']['name'] if shared('model.activation.name') else ''}".strip(),
        model["initializer"]["name"] if shared("model.initializer.name") else "",
        f"{norm['name'].replace('none', 'no')} norm{placed}" if shared("model.normalization.name") else "",
        _residual(model) if shared("model.residual.name") else "",
        optimizer["name"] if shared("train.optimizer.name") else "",
        config["data"]["name"] if shared("data.name") else "",
    ]
    if words[4] and shared("train.optimizer.learning_rate"):
        words[4] += f" {optimizer['learning_rate']:g}"
    if (loss := config["train"].get("loss", "cross_entropy")) != "cross_entropy" and shared("train.loss"):
        words.insert(5, loss)
    if config["train"]["batch_size"] == "full" and shared("train.batch_size"):
        words.insert(5, "full batch")
    return ", ".join(filter(None, words))


def _residual(model: Mapping[str, Any]) -> str:
    """A net's skip connections in words; nothing where it has none, as in an older vgx."""
    residual = model.get("residual", {"name": "none"})
    if residual["name"] == "none":
        return ""
    scale = residual["scale"]
    scale = f"{{learned: {scale['learned']:g}}}" if isinstance(scale, dict) else scale
    return residual["name"] if scale == 1 else f"{residual['name']} scale {scale}"


FLAT = {"relu": 0.5, "leaky_relu": 0.5, "hard_tanh": 0.32, "gelu": 0.09, "silu": 0.09, "mish": 0.08, "erf": 0.08}
"""The share of standard normal numbers at which these are flat, as `saturated` counts it; of others about none."""


def flat_share(activation: Mapping[str, Any]) -> float:
    """Returns which share of a layer's entries is normally where an activation (of a config) is flat."""
    flat_below = abs(activation.get("negative_slope", 0.0)) < 0.05
    return FLAT.get(activation["name"], 0.0) if flat_below else 0.0


def flat_note(activation: Mapping[str, Any]) -> str:
    """Returns what the share of flat entries normally is for an activation; nothing where it is next to none."""
    share, name = flat_share(activation), activation["name"]
    usual = "about half" if share == 0.5 else f"about {share:.0%}"
    return f"flat: next to no slope; {usual} of the entries is normal for {name}" if share else ""


LETTERS = "ABCDEFGH"


def outcome_rows(compared: RunComparison) -> dict[str, list[str]]:
    """Returns how each group did and what it cost, in words, by what is told; the verdicts left out."""
    outcomes = compared.outcomes
    rows = {
        name: [
            mean_and_spread(figure.mean, figure.spread, form) if figure.seeds else "-" for figure in map(pick, outcomes)
        ]
        for name, pick, form in _FIGURES
    }
    rows["steps"] = [f"{outcome.steps:,}" for outcome in outcomes]
    if math.isfinite(compared.accuracy):
        reached = ["never" if one.reached is None else f"{one.reached:,}" for one in outcomes]
        rows[f"steps to {compared.accuracy:.4f}"] = reached
    rows["training seconds"] = [f"{outcome.seconds:.1f}" for outcome in outcomes]
    return rows


_FIGURES: tuple[tuple[str, Callable[[GroupOutcome], Figure], str], ...] = (
    ("slope", lambda outcome: outcome.slope, "{:+.3f}"),
    ("test accuracy", lambda outcome: outcome.test_accuracy, "{:.4f}"),
    ("training loss", lambda outcome: outcome.train_loss, "{:.4g}"),
)


def divergence_in_words(compared: RunComparison, i: int) -> str:
    """Returns where and when group `i`, counted from 0, diverges from the first, and its training loss."""
    curves = _sentence(compared, compared.divergences[i - 1]) if compared.divergences else "no layer is recorded"
    loss = compared.loss_divergences[i - 1].since
    since = int(loss[0]) if len(loss) else 0
    return f"{curves}; the training losses {f'diverge at step {since:,}' if since else 'do not diverge'}"


def _sentence(compared: RunComparison, divergence: Divergence) -> str:
    """`diverge in layers 1-27 of 30, from step 1; most in layer 1 (-4.2)`."""
    if not len(divergence.steps):
        return "no step is recorded by both"
    where = np.flatnonzero(divergence.since)
    beyond = {"seeds": "beyond the seeds' spread", "theory": "beyond the spread that theory predicts"}.get(
        divergence.by, f"by {divergence.by} (one seed each: no spread to hold it against)"
    )
    if not len(where):
        return f"no {'lasting' if divergence.beyond.any() else 'significant'} difference {beyond}"
    first, all_of = int(divergence.since[where].min()), int(divergence.since[where].max())
    when = f"from step {first:,}" if first == all_of else f"from step {first:,}, everywhere there by step {all_of:,}"
    last = divergence.difference[-1]
    size = np.where(np.isfinite(last), np.abs(last), np.inf)
    most = where[int(np.argmax(size[where]))]
    figure = f"{last[most]:+.3g}" if math.isfinite(last[most]) else "one is 0 or NaN"
    return f"diverge {beyond} in {_places(compared, where)}, {when}; most in {_places(compared, most[None])} ({figure})"


def _places(compared: RunComparison, which: np.ndarray) -> str:
    """`layers 1-27 of 30`, or relative depths where the depths differ."""
    count = len(compared.positions)
    if compared.paths:
        names = short_names(compared.paths)
        return Places(tuple(names)).some(np.isin(np.arange(count), which)) if len(which) < count else "all layers"
    if has_layers(compared):
        names, noun, whole = [str(i + 1) for i in which], "layer", f" of {count}"
    else:
        names, noun, whole = [f"{compared.positions[i]:.0%}" for i in which], "depth", ""
    if len(which) == 1:
        return f"{noun} {names[0]}"
    if len(which) == count:
        return f"all {noun}s"
    ranged = f"{names[0]}-{names[-1]}" if noun == "layer" else f"{names[0]} to {names[-1]}"
    gaps = "" if which[-1] - which[0] + 1 == len(which) else f"{len(which)} of "
    return f"{gaps}{noun}s {ranged}{whole if not gaps else ''}"


def alone_in_words(compared: RunComparison) -> list[str]:
    """Returns what is not compared of watched runs, since not all have layers of these paths, a sentence each."""
    if not any(compared.alone):
        return []
    if not compared.paths:
        return ["no layer has the same path in all: aligned by relative depth"]
    names = [one.name for one in compared.groups]
    form = "only {} has {}" if len(names) == 2 else "not all have what {} has: {}"
    return [form.format(name, _few(paths)) for name, paths in zip(names, compared.alone, strict=True) if paths]


def _few(paths: Sequence[str], most: int = 4) -> str:
    """The first of some paths, and how many more."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return f"{', '.join(paths[:most])}{more}"


def has_layers(compared: RunComparison) -> bool:
    """Returns whether all are of one depth and each position is a layer of theirs, or of the same path in each."""
    return bool(compared.paths) or {one.layers for one in compared.groups} == {len(compared.positions)}
