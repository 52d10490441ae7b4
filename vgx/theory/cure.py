"""Cures: the smallest change that makes a net's gradient level, solved from theory before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from vgx.config import yaml_tree
from vgx.config.load import load_config
from vgx.config.schema import Config, Model
from vgx.config.yaml_edit import amend
from vgx.errors import ConfigError
from vgx.parts import Normalization, Residual
from vgx.parts.activations import LeakyReLU, PReLU
from vgx.parts.initializers import Orthogonal, VarianceScaled
from vgx.parts.normalizations import Placed
from vgx.parts.residuals import PostActivation, PreActivation
from vgx.registry import Part
from vgx.results.verdict import SATURATED, SPAN, LayerCurves, Verdict, judge
from vgx.results.words import plain
from vgx.theory import mean_field
from vgx.theory.predict import (
    FAULTS,
    GRID_INITIALIZERS,
    InputStatistics,
    fault_in_words,
    net_of,
    placed_normalizations,
    source_of,
)

MAX_REMAINING_SLOPE = 0.1
"""A cure leaves at most this share of the slope."""
MIN_COSINE_DISTANCE = 1e-4
"""Less than this between the cosine of two inputs at the top and 1, and the net cannot tell its inputs apart."""
MAX_ADDED_SATURATION = 0.25
"""A cure that saturates this much more of the entries is none: logistic of gain 10 is level, and hardly learns."""
DEEP_RATIO = 0.25
"""Layers per unit of width from which rotations are looked at first: level on average, Gaussian weights stretch some
directions and lose others, more so with every layer (Saxe et al. 2014, arXiv:1312.6120). At 100 x 128, SELU trained to
.86 of the digits with rotations, and not at all without."""
BIAS = 0.2
"""Deviation of the biases that go with solved weights."""
GAINS = (1 / 16, 16.0)
"""Gains to look among."""


class Effect(NamedTuple):
    """What theory expects of a net."""

    verdict: Verdict
    cosine: float
    """Of two inputs, as the top hidden layer shows them; 1 when it cannot tell them apart, NaN when it shows 0."""
    saturated: float
    """Share of the top hidden layer's entries with a slope below 5 % of the steepest."""

    def to_json(self) -> dict[str, Any]:
        """Returns the effect as `vgx cure --json` prints it; null where there is no slope."""
        figures = {"slope": self.verdict.slope, "cosine": self.cosine, "saturated": self.saturated}
        return {"verdict": self.verdict.word or None} | {name: plain(value) for name, value in figures.items()}

    @property
    def fault(self) -> str | None:
        """Why such a net will not train, or None."""
        if not abs(self.verdict.span) < SPAN:  # NaN is a fault too
            return self.verdict.evidence
        if self.saturated >= SATURATED:
            return f"{self.saturated:.0%} of the top layer's entries are saturated"
        if 1 - self.cosine < MIN_COSINE_DISTANCE:
            return "the layers map all inputs to one"
        return None


class Cure(NamedTuple):
    """A change, and its effect."""

    kind: str
    """gain, leak, initializer, normalization, residual, weights and biases, or normalization and gain."""
    changes: dict[str, Any]
    """A value for each path of the config."""
    config: Config
    effect: Effect
    fault: str | None
    """Why it does not help, or None if it does."""

    @property
    def in_words(self) -> str:
        """The changes as the YAML they are, in a line: `initializer.gain: 1.4142, normalization: layer`."""
        lines = (
            f"{path.removeprefix('model.')}: {yaml_tree.write_inline(value)}" for path, value in self.changes.items()
        )
        return ", ".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Returns the cure as `vgx cure --json` prints it."""
        return {"kind": self.kind, "changes": self.changes} | self.effect.to_json() | {"fault": self.fault}


class Diagnosis(NamedTuple):
    """What is wrong with a net, and what there is against it."""

    effect: Effect
    cures: list[Cure]
    """What helps, the smallest change first."""
    rejected: list[Cure]
    """What does not, and nearest comes to it: one of each kind."""

    @property
    def healthy(self) -> bool:
        return self.effect.fault is None

    def to_json(self) -> dict[str, Any]:
        """Returns the diagnosis as `vgx cure --json` prints it."""
        found = {"healthy": self.healthy} | self.effect.to_json() | {"fault": self.effect.fault}
        lists = {"cures": self.cures, "vain": self.rejected}
        return found | {name: [cure.to_json() for cure in cures] for name, cures in lists.items()}


def diagnose(config: Config, source: InputStatistics | None = None) -> Diagnosis:
    """Returns what theory expects of a config, and the changes that would make its gradient level.

    Looked at, from the smallest change to the largest: a number (the initializer's gain, the leak), the initializer, a
    normalization and its place, a skip connection or its scale; if none of them helps, deviations of weights and
    biases, a normalization with a gain.

    Raises DataError when the data set is missing or broken.
    """
    source = source or source_of(config.data.load(), config.data.input)
    before = effect_of(config, source)
    if before.fault is None:
        return Diagnosis(before, [], [])
    tried: list[Cure] = []
    for changes_of in (_changes, _larger_changes):
        tried += [_judged(kind, changes, config, source, before) for kind, changes in changes_of(config, source)]
        if any(cure.fault is None for cure in tried):
            break
    cures = [cure for cure in tried if cure.fault is None]
    rejected: dict[str, Cure] = {}
    for cure in sorted(tried, key=lambda cure: np.nan_to_num(abs(cure.effect.verdict.slope), nan=np.inf)):
        if cure.fault is not None and cure.kind not in {other.kind for other in cures}:
            rejected.setdefault(cure.kind, cure)
    return Diagnosis(before, cures, list(rejected.values()))


def effect_of(config: Config, source: InputStatistics) -> Effect:
    """Returns what theory expects of a config's net."""
    curves = mean_field.propagate(net_of(config, source), source.signal, wide=True)
    return Effect(
        judge(LayerCurves(curves.stream_grad_log10[:-1])), float(curves.cosine[-2]), float(curves.saturated[-2])
    )


def _judged(kind: str, changes: dict[str, Any], config: Config, source: InputStatistics, before: Effect) -> Cure:
    after = _changed(config, changes)
    try:
        effect = effect_of(after, source)
    except FAULTS as error:
        unknown = Verdict("", math.nan, math.nan, fault_in_words(error))
        return Cure(kind, changes, after, Effect(unknown, math.nan, math.nan), unknown.evidence)
    fault = effect.fault
    if fault is None and before.fault is not None and abs(before.verdict.span) >= SPAN:
        left = abs(effect.verdict.slope / before.verdict.slope)
        if left > MAX_REMAINING_SLOPE:
            fault = f"{left:.0%} of the slope is left"
    if fault is None and effect.saturated > before.saturated + MAX_ADDED_SATURATION:
        fault = f"level, but {effect.saturated:.0%} of the entries are saturated, which learn little"
    return Cure(kind, changes, after, effect, fault)


def _changed(config: Config, changes: dict[str, Any]) -> Config:
    """The config with other values for keys of `model`, parts or options of parts."""
    model: dict[str, Any] = dict(config.model)
    for path, value in changes.items():
        key, *option = path.split(".")[1:]
        if option:
            part = model[key]
            model[key] = type(part).model_validate(dict(part) | {option[0]: value})
        else:
            model[key] = getattr(Model.model_validate({key: value}), key)
    return config.model_copy(update={"model": config.model.model_copy(update=model)})


def _changes(config: Config, source: InputStatistics) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields kinds of change and the changes, the smallest first."""
    model = config.model
    deep = len(model.widths) > DEEP_RATIO * min(model.widths)
    if deep:
        yield from _rotations(config, source)
    yield from (("gain", changes) for changes in _gains(config, source))
    if isinstance(model.activation, LeakyReLU | PReLU):
        option = "negative_slope" if isinstance(model.activation, LeakyReLU) else "initial"
        path = f"model.activation.{option}"
        yield from (("leak", {path: leak}) for leak in _roots(config, source, path, np.linspace(0.0, 1.0, 11)))
    for name in GRID_INITIALIZERS:
        if name != model.initializer.name and not (name == "orthogonal" and deep):
            yield "initializer", {"model.initializer": name}
    for normalization in _normalizations(config):
        yield "normalization", {"model.normalization": asked(normalization)}
    for residual in _residuals(config):
        yield "residual", {"model.residual": asked(residual)}


def _residuals(config: Config) -> Iterator[Residual]:
    """Yields skip connections that a net has not: as they are, and with branches scaled by its depth."""
    model = config.model
    if any(above == below for below, above in pairwise(model.widths)):
        kinds = [type(model.residual)] if model.residual.skips else [PreActivation, PostActivation]
        offers = [kind.model_validate({"scale": scale}) for kind in kinds for scale in (1.0, "depth")]
        yield from (residual for residual in offers if residual != model.residual)


def _rotations(config: Config, source: InputStatistics) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields orthogonal weights, as they are and with a gain that levels the gradient."""
    if config.model.initializer.name != "orthogonal":
        change = {"model.initializer": "orthogonal"}
        yield "initializer", change
        for gains in _gains(_changed(config, change), source):
            yield "initializer", {"model.initializer": {"name": "orthogonal", "gain": gains["model.initializer.gain"]}}


def _larger_changes(config: Config, source: InputStatistics) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields changes of two things at once."""
    deviations = {"name": "variance_scaling", "scale": 1.0, "distribution": "normal"}
    biased = {"model.initializer": deviations, "model.bias": {"name": "normal", "std": BIAS}}
    for gains in _gains(_changed(config, biased), source):
        scale = _rounded(gains["model.initializer.gain"] ** 2)
        yield "weights and biases", biased | {"model.initializer": deviations | {"scale": scale}}
    for normalization in _normalizations(config):
        change = {"model.normalization": asked(normalization)}
        for gains in _gains(_changed(config, change), source):
            yield "normalization and gain", change | gains


def _normalizations(config: Config) -> list[Normalization]:
    return [norm for norm in placed_normalizations() if norm != config.model.normalization and norm.name != "none"]


def asked(part: Part) -> Any:
    """Returns a part as a config would name it: its name alone, or with what differs from the defaults."""
    options = {name: value for name, value in part if value != type(part).model_fields[name].default}
    if isinstance(part, Placed):
        options = {"placement": part.model_dump()["placement"]} | options
    return {"name": part.name} | options if options else part.name


def _gains(config: Config, source: InputStatistics) -> Iterator[dict[str, Any]]:
    """Yields changes of the initializer's gain that level the gradient, the smallest first."""
    if isinstance(config.model.initializer, VarianceScaled | Orthogonal):
        path = "model.initializer.gain"
        points = np.geomspace(*GAINS, 17) * config.model.initializer.gain
        yield from ({path: gain} for gain in _roots(config, source, path, points))


def _roots(config: Config, source: InputStatistics, path: str, points: np.ndarray) -> list[float]:
    """Values at which the slope is 0, between points where its sign changes; the nearest to the present value first."""
    one = source._replace(signal=source.signal._replace(cross=source.signal.square))
    source = source if config.model.normalization.over_batch else one

    def slope(value: float) -> float:
        try:
            net = net_of(_changed(config, {path: float(value)}), source)
            curves = mean_field.propagate(net, source.signal, wide=True)
        except FAULTS:
            return math.nan  # no root is looked for next to it
        return judge(LayerCurves(curves.stream_grad_log10[:-1])).slope

    slopes = [slope(point) for point in points]
    found = []
    for low, high, below, above in zip(points, points[1:], slopes, slopes[1:], strict=False):
        if below * above < 0:
            found.append(_rounded(_bisect(slope, low, high, below < 0)))
        elif above == 0:
            found.append(_rounded(high))
    key, option = path.split(".")[1:]
    present = dict(getattr(config.model, key))[option]
    return sorted(found, key=lambda value: abs(value - present))


def _bisect(function: Callable[[float], float], low: float, high: float, rising: bool) -> float:
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if (function(middle) < 0) == rising else (low, middle)
    below, above = function(low), function(high)
    return low - below * (high - low) / (above - below)


def _rounded(value: float) -> float:
    """Five digits are enough to be read, and to hold over hundreds of layers."""
    return float(f"{value:.5g}")


def slower(config: Config) -> Iterator[tuple[str, Config]]:
    """Yields what to train to see a cure: the config, then with a tenth and a hundredth of its learning rate.

    A level gradient does not make a large step harmless: a net of a hundred layers bears less of it than one of ten.
    Each has a name of its own, so that the old net's runs are not taken for the cured one's, nor the other way round.
    """
    name = f"{config.name[:80]}-cured"  # a name has 100 characters at most
    yield "after", config.model_copy(update={"name": name})
    for part in (0.1, 0.01):
        rate = _rounded(part * config.train.optimizer.learning_rate)
        optimizer = config.train.optimizer.model_copy(update={"learning_rate": rate})
        train = config.train.model_copy(update={"optimizer": optimizer})
        slow = {"name": f"{name}-rate-{rate:g}", "train": train}
        yield f"after, learning rate {rate:g}", config.model_copy(update=slow)


def written(text: str, cure: Cure, overrides: Sequence[str] = ()) -> str:
    """Returns the YAML `text` of a config with the cure (and overrides) in it, and all else as it stands.

    Raises ConfigError when the text is written in a way that such a change would break.
    """
    wanted: dict[str, Any] = {}
    values = yaml_tree.read(text, "").value or {}
    if list(cure.config.modules) != values.get("import", []):
        wanted["import"] = list(cure.config.modules)
    for override in overrides:
        path, _, value = override.partition("=")
        wanted[path.strip()] = yaml_tree.read(value, "").value
    for path, value in cure.changes.items():
        section, key, *option = path.split(".")
        stands = values.get(section)
        named = isinstance(stands, dict) and isinstance(stands.get(key), dict) and f"{section}.{key}" not in wanted
        if option and not named:  # a bare name becomes a mapping
            wanted[f"{section}.{key}"] = asked(getattr(cure.config.model, key))
        else:
            wanted[path] = value
    amended = amend(text, wanted)
    read = yaml_tree.read(amended, "")
    if not read.faults:
        config = load_config(read.value | {"name": cure.config.name})
        if config == cure.config:
            return amended
    raise ConfigError("this file cannot be changed in place; put in by hand: " + cure.in_words)
