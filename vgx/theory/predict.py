"""The bridge from a config and its data to theory: what the gradient will be at every layer, before training."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vgx.config.schema import Config
from vgx.config.sweep import Sweep
from vgx.data import Dataset, Source
from vgx.errors import TheoryError
from vgx.parts import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS, Activation, Initializer, Normalization
from vgx.parts.normalizations import BatchNorm, LayerNorm, NoNormalization, Placed, RMSNorm
from vgx.results.attribution import attribute
from vgx.results.columns import SMALL_BATCH
from vgx.results.verdict import NUMBERED, SPAN, LayerCurves, Verdict, judge, slope_of
from vgx.theory import mean_field, streams
from vgx.theory.ends import End, ends_of
from vgx.theory.jacobians import SpectrumPrediction, coherence, predicted_spectra
from vgx.theory.layer_response import Net, Signal
from vgx.theory.limits import Limit, limit
from vgx.training.batches import batch_size_of
from vgx.training.inputs import encode, to_device
from vgx.training.step import EXAMINED

TRAINABLE = 6.0
"""Correlation depth scales that a net may be deep: Schoenholz et al. 2017, arXiv:1611.01232, figure 5."""
BLOCK = 2**24
"""Values of the inputs that are worked on at a time, in float64."""
SHOWN = ("delta_log10", "act_rms", "preact_std", "cosine", "factor")
FAULTS = (ArithmeticError, ValueError, TheoryError)
"""What theory raises where a number leaves its domain: an overflow, a division by 0, the root of a negative number,
linear algebra that does not converge (NumPy's LinAlgError is a ValueError); and where it has no answer. A training can
do without a prediction. A wrong name or type, or an index out of range, is a bug like any other, and stops it with a
traceback."""


def fault_in_words(error: BaseException) -> str:
    """Returns the last line of an error's traceback, and where in the code that is, for one of FAULTS."""
    if isinstance(error, TheoryError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return f"theory failed: {line} ({Path(last.filename).name}:{last.lineno}, in {last.name})"


class InputStatistics(NamedTuple):
    """What theory needs to know of a data set."""

    features: int
    classes: int
    signal: Signal
    """The moments of its encoded inputs."""
    examples: int = EXAMINED
    """That there are to train on."""


class Prediction(NamedTuple):
    """What mean-field theory expects of a config's net at initialization."""

    curves: mean_field.Propagation
    """Each layer's statistics, from the first to the readout: [L + 1] each."""
    limit: Limit
    """Where more such layers would lead."""
    verdict: Verdict
    """On the predicted gradient."""
    ends: tuple[End, ...] = ()
    """Where theory is near to what it knows nothing of."""
    asked: tuple[Net, Signal] | None = None
    """What was propagated."""

    @property
    def spectra(self) -> dict[str, SpectrumPrediction]:
        """What the singular values of the Jacobians come to, by the names of `results.spectrum.MAPS`."""
        return predicted_spectra(*self.asked) if self.asked else {}

    @property
    def coherence(self) -> np.ndarray:
        """[L + 1], as `jacobians.coherence`."""
        return coherence(*self.asked) if self.asked else np.full(len(self.curves.factor), np.nan)

    @property
    def slope(self) -> float:
        """Decades of gradient norm per hidden layer from the top down; NaN for fewer than two layers."""
        return self.verdict.slope

    @property
    def reasons(self) -> dict[str, str]:
        """Why a figure of the hidden layers is not defined, by its name; empty where all are."""
        return reasons_of(self.curves)

    @property
    def slope_tolerance(self) -> float:
        """How far a net's measured slope may be off: three deviations over draws of the weights, and 0.005.

        The line that fits a curve of independent steps has the slope of its ends, with 6 / 5 of the variance.
        """
        layers = len(self.curves.band) - 1
        return 3 * math.sqrt(1.2) * float(self.curves.band[0]) / max(layers - 1, 1) + 0.005

    @property
    def trainable_depth(self) -> float:
        """Hidden layers up to which such nets are expected to train.

        That is until inputs have become alike, or the gradient is off by `verdict.SPAN` decades; infinite if never.
        """
        per_layer = abs(math.log10(factor)) / 2 if (factor := self.limit.fixed_point.factor) > 0 else math.inf
        by_gradient = 1 + SPAN / per_layer if math.isfinite(self.limit.depth_scale) else math.inf
        return min(by_gradient, TRAINABLE * self.limit.correlation_depth_scale)  # a NaN never is the less

    def to_json(self, measured: np.ndarray | None = None) -> dict[str, Any]:
        """Returns what `vgx predict --json` prints: null where a number is infinite or there is none, and `reasons`.

        `measured` is each layer's gradient at the first step [L + 1], in log10, the stream's where there is one; it
        adds itself to the layers, relative to the readout's, and the causes of its slope.
        """
        shown = [*SHOWN, *(["stream_grad_log10"] if self.curves.has_stream else [])]
        columns = [*[getattr(self.curves, name).tolist() for name in shown], self.coherence.tolist()]
        layers = [
            {"layer": layer} | {name: _finite(value) for name, value in zip([*shown, "coherence"], row, strict=True)}
            for layer, row in enumerate(zip(*columns, strict=True), start=1)
        ]
        found = {} if measured is None else {"measured": self._against(layers, measured)}
        return (
            {
                "layers": layers,
                "slope": _finite(self.slope),
                "decibels_per_layer": _finite(20 * self.slope),
                "verdict": self.verdict.word,
                "phase": self.limit.phase,
                "depth_scale": _finite(self.limit.depth_scale),
                "correlation_depth_scale": _finite(self.limit.correlation_depth_scale),
                "fixed_point": {name: _finite(value) for name, value in self.limit.fixed_point._asdict().items()},
                "band": _finite(float(self.curves.band[0])),
                "spectrum": {
                    name: {figure: _finite(value) for figure, value in figures._asdict().items()}
                    for name, figures in self.spectra.items()
                },
                "ends": [end.to_json() for end in self.ends],
            }
            | ({"reasons": self.reasons} if self.reasons else {})
            | found
        )

    def _against(self, layers: list[dict[str, Any]], measured: np.ndarray) -> dict[str, Any]:
        relative = (measured - measured[-1]).tolist()
        for layer, delta, band in zip(layers, relative, self.curves.band.tolist(), strict=True):
            name = "stream_grad_log10" if self.curves.has_stream else "delta_log10"
            layer |= {f"measured_{name}": _finite(delta), "band": _finite(band)}
        causes = attribute(self.curves, measured)
        by_cause = {name: _finite(value) for name, value in causes._asdict().items()}
        return {"slope": _finite(slope_of(measured[:-1])), "causes": by_cause, "sentence": causes.sentence}


def reasons_of(curves: mean_field.Propagation) -> dict[str, str]:
    """Returns why a figure of the hidden layers is not defined, by its name; empty where all are."""
    found = {}
    delta, cosine = curves.stream_grad_log10[:-1], curves.cosine[:-1]
    if not math.isfinite(slope_of(delta)):
        found["slope"] = f"it takes two hidden layers{' with a gradient' if len(delta) > 1 else ''}"
    if (none := np.isneginf(delta)).any():
        found["delta_log10"] = f"no gradient reaches {NUMBERED.some(none)}: {_barrier(curves)}"
    if (mute := np.isnan(cosine)).any():
        found["cosine"] = f"{NUMBERED.some(mute)}: 0 is passed on, which has no direction"
    return found


def _barrier(curves: mean_field.Propagation) -> str:
    """What keeps a gradient from passing."""
    off, unconnected = curves.slope_square[:-1] == 0, curves.weight_gain[:-1] == 0
    if off.any():
        return f"every unit of {NUMBERED.some(off)} is off"
    if unconnected.any():
        return f"the weights above {NUMBERED.some(unconnected)} are 0"
    return f"the normalization of {NUMBERED.some(curves.factor[:-1] == 0)} lets none pass"


def _finite(value: float) -> float | None:
    return value + 0.0 if math.isfinite(value) else None  # no -0.0


def as_json_of(prediction: Prediction | str, measured: np.ndarray | None = None) -> dict[str, Any]:
    """Returns what `vgx predict --json` prints of a cell: its prediction, or why there is none."""
    if isinstance(prediction, Prediction):
        return prediction.to_json(measured)
    return {"layers": [], "slope": None, "verdict": None, "reasons": {"prediction": prediction}}


class CellPrediction(NamedTuple):
    """One net of a grid, and what its gradient is expected to do."""

    activation: Activation
    initializer: Initializer
    normalization: Normalization
    verdict: Verdict | None
    """None where theory fails."""
    reason: str
    """Why there is no slope, where there is none."""

    @property
    def title(self) -> str:
        """The normalization in words."""
        return self.normalization.title

    @property
    def slope(self) -> float:
        return self.verdict.slope if self.verdict else math.nan

    def to_json(self) -> dict[str, Any]:
        """Returns the cell as `vgx predict --grid --json` prints it."""
        parts = {name: getattr(self, name).model_dump() for name in ("activation", "initializer", "normalization")}
        found = {"slope": _finite(self.slope), "verdict": self.verdict.word if self.verdict else None}
        return parts | found | ({"reason": self.reason} if self.reason else {})


GRID_INITIALIZERS = ("lecun_normal", "glorot_normal", "he_normal", "orthogonal", "lsuv")


def default_activations() -> list[Activation]:
    """Returns every registered activation with its default options; none that has to be given some."""
    return [part() for part in ACTIVATIONS if not any(field.is_required() for field in part.model_fields.values())]


def placed_normalizations() -> list[Normalization]:
    """Returns every normalization that theory knows, before and after the activation where there is a choice."""
    return [
        part.model_validate(placement)
        for part in NORMALIZATIONS
        if issubclass(part, NoNormalization | BatchNorm | LayerNorm | RMSNorm)
        for placement in ([{"placement": "before"}, {"placement": "after"}] if issubclass(part, Placed) else [{}])
    ]


def predict_grid(config: Config, source: InputStatistics | None = None) -> Iterator[CellPrediction]:
    """Yields what the config's gradient would do with every activation, normalization and usual initializer."""
    source = source or source_of(config.data.load(), config.data.input)
    for activation in default_activations():
        for normalization in placed_normalizations():
            for initializer in map(INITIALIZERS.parse, GRID_INITIALIZERS):
                parts = {"activation": activation, "initializer": initializer, "normalization": normalization}
                net = net_of(config.model_copy(update={"model": config.model.model_copy(update=parts)}), source)
                try:
                    curves = mean_field.propagate(net, source.signal)
                except FAULTS as error:
                    yield CellPrediction(activation, initializer, normalization, None, fault_in_words(error))
                    continue
                reasons = reasons_of(curves)
                reason = reasons.get("delta_log10", reasons["slope"]) if "slope" in reasons else ""
                yield CellPrediction(
                    activation, initializer, normalization, judge(LayerCurves(curves.stream_grad_log10[:-1])), reason
                )


def predict_cells(sweep: Sweep) -> Iterator[Prediction | str]:
    """Yields a prediction for each cell of a sweep, or why theory failed; cells that differ in the training alone share
    one.

    Raises as `predict` does, but for FAULTS.
    """
    sources: dict[Source, InputStatistics] = {}
    known: dict[Any, Prediction | str] = {}
    for config in (cell.config for cell in sweep.cells):
        data = config.data
        net = data, config.train.batch_size, config.train.loss, config.model
        if net not in known:
            sources[data] = sources.get(data) or source_of(config.data.load(), config.data.input)
            try:
                known[net] = predict(config, sources[data])
            except FAULTS as error:
                known[net] = fault_in_words(error)
        yield known[net]


def predict(config: Config, source: InputStatistics | None = None) -> Prediction:
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
    curves = mean_field.propagate(net, source.signal)
    expected = LayerCurves(curves.stream_grad_log10[:-1], dead=curves.dead[:-1], saturated=curves.saturated[:-1])
    leads = streams.limit(net, source.signal) if net.residual.skips else limit(net, source.signal)
    return Prediction(curves, leads, judge(expected), ends_of(net, curves), (net, source.signal))


def net_of(config: Config, source: InputStatistics) -> Net:
    """Returns what theory knows of a config's net."""
    model, batch = config.model, batch_size_of(config, source.examples)
    return Net(
        (source.features, *model.widths, source.classes),
        model.activation,
        model.initializer,
        model.bias,
        model.normalization,
        model.dropout,
        batch,
        None if batch >= SMALL_BATCH else min(EXAMINED, source.examples),
        config.train.loss,
        model.residual,
        model.branches,
    )


def source_of(dataset: Dataset, kind: str) -> InputStatistics:
    """Returns the moments of a training set, encoded as `data.input` says."""
    images = to_device(dataset.train, dataset)
    n, features = images.images.shape
    encoded = jax.jit(encode, static_argnums=(2, 3))
    total, lengths, alike = np.zeros(features), [], 0.0
    rows = min(4096, max(1, BLOCK // features))
    for start in range(0, n, rows):
        index = jnp.arange(start, min(start + rows, n))
        x = np.asarray(encoded(images, index, kind, jnp.dtype("float32")), np.float64)
        total, lengths = total + x.sum(0), [*lengths, np.sum(x * x, 1)]
        alike = _alike(x) if start == 0 else alike
    squares = np.concatenate(lengths)
    alone = float(squares.mean())
    cross = float(total @ total - squares.sum()) / (n * (n - 1)) if n > 1 else alone
    # An example of zeros has no size.
    logs = np.log(squares[squares > 0] / alone)
    log_mean, log_variance = (float(logs.mean()), float(logs.var())) if len(logs) else (0.0, 0.0)
    mean = float(total.sum()) / n / features
    moments = Signal(alone / features, cross / features, mean, log_mean, log_variance, alike)
    return InputStatistics(features, dataset.classes, moments, n)


def _alike(x: np.ndarray) -> float:
    """tr(C^2) / tr(C)^2 of the covariance C of examples [N, F]; 0 where they do not differ."""
    rest = x - x.mean(0)
    products = rest @ rest.T if len(rest) < rest.shape[1] else rest.T @ rest
    trace = float(np.trace(products))
    return float(np.sum(products**2)) / trace**2 if trace > 0 else 0.0
