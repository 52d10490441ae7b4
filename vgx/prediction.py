"""The bridge from a config and its data to theory: what the gradient will be at every layer, before training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vgx import theory
from vgx.attribution import attribute
from vgx.cells import Sweep
from vgx.config import Config
from vgx.data import Dataset
from vgx.parts import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS, Activation, Initializer, Normalization
from vgx.parts.normalizations import Placed
from vgx.theory import Limit, Net, Signal
from vgx.training import encode, to_device
from vgx.verdict import SPAN, Curves, Verdict, judge, slope_of

TRAINABLE = 6.0
"""Correlation depth scales that a net may be deep: Schoenholz et al. 2017, arXiv:1611.01232, figure 5."""
BLOCK = 2**24
"""Values of the inputs that are worked on at a time, in float64."""
SHOWN = ("delta_log10", "act_rms", "preact_std", "cosine", "factor")


class Source(NamedTuple):
    """What theory needs to know of a data set."""

    features: int
    classes: int
    signal: Signal
    """The moments of its encoded inputs."""


class Prediction(NamedTuple):
    """What mean-field theory expects of a config's net at initialization."""

    curves: theory.Curves
    """Each layer's statistics, from the first to the readout: [L + 1] each."""
    limit: Limit
    """Where more such layers would lead."""
    verdict: Verdict
    """On the predicted gradient."""

    @property
    def slope(self) -> float:
        """Decades of gradient norm per hidden layer from the top down; NaN for fewer than two layers."""
        return self.verdict.slope

    @property
    def slope_tolerance(self) -> float:
        """How far a net's measured slope may be off: three deviations over draws of the weights, and 0.01."""
        layers = len(self.curves.band) - 1
        return 3 * float(self.curves.band[0]) / max(layers - 1, 1) + 0.01

    @property
    def trainable_depth(self) -> float:
        """Hidden layers up to which such nets are expected to train.

        That is until inputs have become alike, or the gradient is off by `verdict.SPAN` decades; infinite if never.
        """
        per_layer = abs(math.log10(factor)) / 2 if (factor := self.limit.fixed_point.factor) > 0 else math.inf
        by_gradient = 1 + SPAN / per_layer if math.isfinite(self.limit.depth_scale) else math.inf
        return min(by_gradient, TRAINABLE * self.limit.correlation_depth_scale)  # a NaN never is the less

    def to_json(self, measured: np.ndarray | None = None) -> dict[str, Any]:
        """Returns what `vgx predict --json` prints: null where a number is infinite or there is none.

        `measured` is each layer's gradient at the first step [L + 1], in log10; it adds itself to the layers, relative
        to the readout's, and the causes of its slope.
        """
        columns = [getattr(self.curves, name).tolist() for name in SHOWN]
        layers = [
            {"layer": layer} | {name: _finite(value) for name, value in zip(SHOWN, row, strict=True)}
            for layer, row in enumerate(zip(*columns, strict=True), start=1)
        ]
        found = {} if measured is None else {"measured": self._against(layers, measured)}
        return {
            "layers": layers,
            "slope": _finite(self.slope),
            "decibels_per_layer": _finite(20 * self.slope),
            "verdict": self.verdict.word,
            "phase": self.limit.phase,
            "depth_scale": _finite(self.limit.depth_scale),
            "correlation_depth_scale": _finite(self.limit.correlation_depth_scale),
            "fixed_point": {name: _finite(value) for name, value in self.limit.fixed_point._asdict().items()},
        } | found

    def _against(self, layers: list[dict[str, Any]], measured: np.ndarray) -> dict[str, Any]:
        relative = (measured - measured[-1]).tolist()
        for layer, delta, band in zip(layers, relative, self.curves.band.tolist(), strict=True):
            layer |= {"measured_delta_log10": _finite(delta), "band": _finite(band)}
        causes = attribute(self.curves, measured)
        by_cause = {name: _finite(value) for name, value in causes._asdict().items()}
        return {"slope": _finite(slope_of(measured[:-1])), "causes": by_cause, "sentence": causes.sentence}


def _finite(value: float) -> float | None:
    return value + 0.0 if math.isfinite(value) else None  # no -0.0


class Cell(NamedTuple):
    """One net of a grid, and what its gradient is expected to do."""

    activation: Activation
    initializer: Initializer
    normalization: Normalization
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Returns the cell as `vgx predict --grid --json` prints it."""
        parts = {name: getattr(self, name).model_dump() for name in ("activation", "initializer", "normalization")}
        return parts | {"slope": _finite(self.verdict.slope), "verdict": self.verdict.word}


GRID_INITIALIZERS = ("lecun_normal", "glorot_normal", "he_normal", "orthogonal", "lsuv")


def default_activations() -> list[Activation]:
    """Returns every registered activation with its default options; none that has to be given some."""
    return [part() for part in ACTIVATIONS if not any(field.is_required() for field in part.model_fields.values())]


def placed_normalizations() -> list[Normalization]:
    """Returns every registered normalization, before and after the activation where there is a choice."""
    return [
        part.model_validate(placement)
        for part in NORMALIZATIONS
        for placement in ([{"placement": "before"}, {"placement": "after"}] if issubclass(part, Placed) else [{}])
    ]


def predict_grid(config: Config, source: Source | None = None) -> Iterator[Cell]:
    """Yields what the config's gradient would do with every activation, normalization and usual initializer."""
    source = source or source_of(config.data.load(), config.data.input)
    for activation in default_activations():
        for normalization in placed_normalizations():
            for initializer in map(INITIALIZERS.parse, GRID_INITIALIZERS):
                parts = {"activation": activation, "initializer": initializer, "normalization": normalization}
                net = net_of(config.model_copy(update={"model": config.model.model_copy(update=parts)}), source)
                # Only batch norm's gradients know of a second input; equal ones cost nothing.
                signal = (
                    source.signal if normalization.over_batch else source.signal._replace(cross=source.signal.square)
                )
                delta_log10 = theory.propagate(net, signal).delta_log10[:-1]
                yield Cell(activation, initializer, normalization, judge(Curves(delta_log10)))


def predict_cells(sweep: Sweep) -> Iterator[Prediction]:
    """Yields a prediction for each cell of a sweep; cells that differ in the training alone share one.

    Raises as `predict` does.
    """
    sources: dict[str, Source] = {}
    known: dict[str, Prediction] = {}
    for config in (cell.config for cell in sweep.cells):
        data = config.data.model_dump_json()
        net = f"{data} {config.train.batch_size} {config.model.model_dump_json()}"
        if net not in known:
            sources[data] = sources.get(data) or source_of(config.data.load(), config.data.input)
            known[net] = predict(config, sources[data])
        yield known[net]


def predict(config: Config, source: Source | None = None) -> Prediction:
    """Returns what the gradient will be at every layer of a config's net when its training begins.

    Args:
        config: the net, and the data and batch size that it would be trained on.
        source: moments of the inputs, in place of those of the config's training set.

    Raises:
        DataError: the data set is missing or broken.
        ConfigError: there is no theory for a normalization that was registered besides vgx's own.
    """
    source = source or source_of(config.data.load(), config.data.input)
    net = net_of(config, source)
    curves = theory.propagate(net, source.signal)
    expected = Curves(curves.delta_log10[:-1], dead=curves.dead[:-1], saturated=curves.saturated[:-1])
    return Prediction(curves, theory.limit(net, source.signal), judge(expected))


def net_of(config: Config, source: Source) -> Net:
    """Returns what theory knows of a config's net."""
    model = config.model
    return Net(
        (source.features, *model.widths, source.classes),
        model.activation,
        model.initializer,
        model.bias,
        model.normalization,
        model.dropout,
        config.train.batch_size,
    )


def source_of(dataset: Dataset, kind: str) -> Source:
    """Returns the moments of a training set, encoded as `data.input` says."""
    images = to_device(dataset.train, dataset)
    n, features = images.images.shape
    encoded = jax.jit(encode, static_argnums=(2, 3))
    total, square = np.zeros(features), 0.0
    rows = min(4096, max(1, BLOCK // features))
    for start in range(0, n, rows):
        index = jnp.arange(start, min(start + rows, n))
        x = np.asarray(encoded(images, index, kind, jnp.dtype("float32")), np.float64)
        total, square = total + x.sum(0), square + float(np.sum(x * x))
    alone = square / n
    cross = float(total @ total - square) / (n * (n - 1)) if n > 1 else alone
    moments = Signal(alone / features, cross / features, float(total.sum()) / n / features)
    return Source(features, dataset.classes, moments)
