"""A prediction in the terminal: what `vgx predict` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from vgx.report.bars import gradient_picture
from vgx.report.terminal import COLOURS, describe_config

if TYPE_CHECKING:
    from vgx.prediction import Prediction

PHASES = {
    "ordered": "the gradient falls, inputs become alike",
    "chaotic": "the gradient grows, inputs drift apart",
    "critical": "the gradient neither falls nor grows exponentially",
    "scale-invariant": "the size of a signal changes nothing",
}


def forecast(prediction: Prediction, config: dict[str, Any], width: int = 80) -> RenderableType:
    """Returns the predicted gradient over the layers, its slope, where deeper layers lead, and the verdict."""
    header = Text.assemble((config["name"], "bold"), f"  {describe_config(config)}\n")
    header.append("predicted by mean-field theory, before any training\n", "dim")
    delta = prediction.curves.delta_log10[:-1]
    picture = gradient_picture(delta, width, label="predicted |dloss/dh| over the readout's")
    return Group(header, picture, Text(), _figures(prediction), Text(), _verdict(prediction))


def _figures(prediction: Prediction) -> Text:
    limit, slope = prediction.limit, prediction.slope
    q, c, factor = (_number(value) for value in limit.fixed_point)
    lines = {
        "slope": f"{_signed(slope, 4)} decades per layer ({_signed(20 * slope, 2)} dB), from the top down",
        "spread": f"± {prediction.curves.band[0]:.2g} decades at layer 1, over draws of the weights",
        "phase": f"{limit.phase}: {PHASES[limit.phase]}",
        "far up": f"factor {factor}, E[h^2] {q}, correlation of two inputs {c}",
        "e-fold in": f"{_layers(limit.depth_scale)} (gradient), {_layers(limit.correlation_depth_scale)} (correlation)",
        "trains to": _layers(prediction.trainable_depth, about="about ", never="any depth, as far as theory knows"),
    }
    text = Text()
    for name, line in lines.items():
        text.append(f"{name:<12}", "dim").append(f"{line}\n")
    text.rstrip()
    return text


def _signed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}" if math.isfinite(value) else "-"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}" if math.isfinite(value) else "∞"


def _layers(count: float, about: str = "", never: str = "never") -> str:
    if math.isnan(count):
        return "-"
    return f"{about}{count:,.3g} layers" if count < 1e6 else never


def _verdict(prediction: Prediction) -> Text:
    word, evidence = prediction.verdict.word, prediction.verdict.evidence
    return Text.assemble((word, f"bold {COLOURS[word]}"), f" (predicted): {evidence}")
