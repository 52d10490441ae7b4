"""Theory as a test: the factor that each combination of parts shows at initialization, against the predicted one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import ValidationError

from vgx.config import yaml_tree
from vgx.config.load import refused
from vgx.config.schema import Model
from vgx.devices import find_devices, keep_compiled_programs, numerics
from vgx.errors import ConfigError
from vgx.parts import INITIALIZERS, Activation, Initializer, Normalization, Residual
from vgx.parts.initializers import LSUV, Zeros
from vgx.parts.residuals import NoResidual
from vgx.results.values import option_called
from vgx.results.words import plain
from vgx.theory import mean_field
from vgx.theory.layer_response import Net, Signal
from vgx.theory.predict import GRID_INITIALIZERS, default_activations, placed_normalizations
from vgx.training.model import MLP, fit_to_data
from vgx.training.probes import LOG10_2
from vgx.training.weights import InitialWeights

CLASSES = 10
PLAIN = NoResidual()


class Ensemble(NamedTuple):
    """The nets that are measured: K of them for each combination of parts, on K batches of normal inputs."""

    width: int = 512
    depth: int = 20
    nets: int = 4
    batch: int = 64

    @property
    def interior(self) -> int:
        """Layers that count: the first one's inputs are no f(h), and no layer is above the top one."""
        return self.depth - 2


ENSEMBLE = Ensemble()
BATCHES = (8, 64)
"""Sizes at which theory is checked unless one is given."""
DEVIATIONS, SLACK = 3.0, 0.01
"""How far a measured factor may be off, in parts of it: so many deviations of a mean over nets, as theory has them, and
1 % for what is of a higher order than 1 / n."""
STREAM_SLACK = 0.03
"""The same of nets with skip connections. Where activations have a mean, the stream grows one, branches lie along it,
and the part of a gradient that does grows faster: by 1 / n at the top, and e-fold more every few layers."""


class Validation(NamedTuple):
    """One combination of parts: growth of |delta|^2 per layer, the geometric mean over interior layers."""

    activation: Activation
    initializer: Initializer
    normalization: Normalization
    residual: Residual
    batch: int
    predicted: float
    """At this width."""
    measured: float
    """The geometric mean over nets, too."""
    tolerance: float

    @property
    def title(self) -> str:
        """The normalization and the residual, in words."""
        return self.normalization.title + (f", {self.residual}" if self.residual.skips else "")

    @property
    def off(self) -> float:
        """The measured factor / the predicted one - 1."""
        return self.measured / self.predicted - 1 if self.predicted else math.nan

    @property
    def holds(self) -> bool:
        if self.predicted == 0 or math.isnan(self.predicted):
            return self.measured == 0
        return abs(self.off) <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """Returns the check as `vgx verify --json` prints it."""
        parts = {name: getattr(self, name).model_dump() for name in AXES if name != "residual" or self.residual.skips}
        figures = {name: getattr(self, name) for name in ("batch", "predicted", "measured", "tolerance", "holds")}
        return parts | {name: plain(value) for name, value in figures.items()}


def verify(
    activations: Sequence[Activation],
    initializers: Sequence[Initializer],
    normalizations: Sequence[Normalization],
    residuals: Sequence[Residual] = (PLAIN,),
    *,
    ensemble: Ensemble = ENSEMBLE,
) -> Iterator[Validation]:
    """Yields every combination's check. One program is compiled per activation, normalization and residual; weights are
    data.

    Raises ConfigError when the nets are too shallow to have an interior layer.
    """
    if ensemble.depth < 3:
        raise ConfigError(f"depth {ensemble.depth}: the shallowest net with an interior layer has 3")
    keep_compiled_programs()
    with numerics("float32", find_devices()[0]):
        weights = {str(initializer): list(_draw(initializer, ensemble)) for initializer in initializers}
        for activation, normalization, residual in product(activations, normalizations, residuals):
            measure = _program(activation, normalization, ensemble, residual)
            for initializer in initializers:
                rule = initializer if isinstance(initializer, LSUV) else None
                deltas = [measure(kernels, key, rule) for kernels, key in weights[str(initializer)]]
                measured = np.mean([_growth(np.asarray(delta)) for delta in deltas])
                parts = activation, initializer, normalization, residual
                predicted, tolerance = _predict(*parts, ensemble)
                yield Validation(*parts, ensemble.batch, predicted, 10 ** float(measured), tolerance)


def _predict(
    activation: Activation,
    initializer: Initializer,
    normalization: Normalization,
    residual: Residual,
    ensemble: Ensemble,
) -> tuple[float, float]:
    """The factor of these nets, and how far a measured one may be off."""
    curves = expected_curves(activation, initializer, normalization, ensemble, residual)
    # What the top layer adds to the spread of both ends is the same.
    variance = max(curves.band[1] ** 2 - curves.band[-2] ** 2, 0.0)
    deviation = math.sqrt(variance / ensemble.nets) / ensemble.interior / mean_field.NORM_LOG10
    slack = STREAM_SLACK if residual.skips else SLACK
    return 10 ** _growth(curves.stream_grad_log10), DEVIATIONS * deviation + slack


def expected_curves(
    activation: Activation,
    initializer: Initializer,
    normalization: Normalization,
    ensemble: Ensemble,
    residual: Residual = PLAIN,
) -> mean_field.Propagation:
    """Returns what theory says of an ensemble's nets."""
    sizes = (*(ensemble.width,) * (ensemble.depth + 1), CLASSES)
    net = Net(sizes, activation, initializer, Zeros(), normalization, 0.0, ensemble.batch)
    if residual.skips:
        net = net._replace(residual=residual, branches=(False, *[True] * (ensemble.depth - 1)))
    return mean_field.propagate(net, normal_inputs(ensemble.width))


def normal_inputs(features: int) -> Signal:
    """Returns the moments of standard normal inputs; ln |x|^2 of n has the mean -1 / n and the variance 2 / n."""
    return Signal(1.0, 0.0, 0.0, -1 / features, 2 / features, 1 / features)


def _growth(delta_log10: np.ndarray) -> float:
    """log10 of the factor, the mean over interior layers of a curve [L + 1]."""
    return 2 * float(delta_log10[1] - delta_log10[-2]) / (len(delta_log10) - 3)


Kernels = tuple[jax.Array, jax.Array]
"""Of the hidden layers [L, N, N], and of the readout [1, N, C]."""


def drawn_curves(
    activations: Sequence[Activation],
    initializers: Sequence[Initializer],
    normalizations: Sequence[Normalization],
    ensemble: Ensemble,
) -> Iterator[tuple[Initializer, dict[tuple[Activation, Normalization], np.ndarray]]]:
    """Yields log10 |dloss/dh| [K, L + 1] of an ensemble's nets, for each initializer; nets share draws of weights."""
    keep_compiled_programs()
    with numerics("float32", find_devices()[0]):
        programs = {(a, n): _program(a, n, ensemble) for a in activations for n in normalizations}
        for initializer in initializers:
            rule = initializer if isinstance(initializer, LSUV) else None
            found: dict[tuple[Activation, Normalization], list[np.ndarray]] = {parts: [] for parts in programs}
            for kernels, key in _draw(initializer, ensemble):
                for parts, measure in programs.items():
                    found[parts].append(np.asarray(measure(kernels, key, rule)))
            yield initializer, {parts: np.array(curves) for parts, curves in found.items()}


def _draw(initializer: Initializer, ensemble: Ensemble) -> Iterator[tuple[Kernels, jax.Array]]:
    """Yields each net's weights, and its key for all else."""

    @jax.jit
    def draw(key: jax.Array) -> Kernels:
        hidden, readout = jax.random.split(key)
        # Layer by layer: the factorization of an orthogonal one gains nothing from a batch.
        keys, shape = jax.random.split(hidden, ensemble.depth), (ensemble.width, ensemble.width)
        layers = jax.lax.map(lambda key: initializer(key, shape), keys)
        return layers, initializer(readout, (ensemble.width, CLASSES))[None]

    keys = jax.random.split(jax.random.key(0), 2 * ensemble.nets)
    for one, other in zip(keys[::2], keys[1::2], strict=True):
        yield draw(one), other


def _program(
    activation: Activation, normalization: Normalization, ensemble: Ensemble, residual: Residual = PLAIN
) -> Callable[[Kernels, jax.Array, LSUV | None], jax.Array]:
    """The jitted first backward pass: weights, a key and LSUV's rule, if any, to log10 of the gradient [L + 1].

    The stream's, where there is one; else |delta|.
    """
    model = Model(
        depth=ensemble.depth,
        width=ensemble.width,
        activation=activation,
        initializer=Zeros(),
        normalization=normalization,
        residual=residual,
    )

    @partial(jax.jit, static_argnums=2)
    def measure(kernels: Kernels, key: jax.Array, rule: LSUV | None) -> jax.Array:
        data, classes, noise = jax.random.split(key, 3)
        x = jax.random.normal(data, (ensemble.batch, ensemble.width))
        labels = jax.random.randint(classes, (ensemble.batch,), 0, CLASSES)
        hidden, readout = kernels
        stacks = [hidden[:1], hidden[1:]] if residual.skips else [hidden]
        mlp = MLP(model, tuple(InitialWeights(kernel, jnp.zeros(kernel.shape[::2])) for kernel in (*stacks, readout)))
        if rule is not None:
            mlp = fit_to_data(mlp, x, noise, rule)

        def loss(probes: Any) -> jax.Array:
            # A zero that the compiler does not know, for the taps to carry exponents by.
            logits = mlp(x, 0 * x[0, 0], probes, noise, "lite")[0]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        probes = jax.grad(loss)(mlp.empty_probes())
        deltas = [probe.delta_log2 for probe in probes]
        if residual.skips:
            deltas[1] = probes[1].stream_log2
        return LOG10_2 * jnp.concatenate(deltas)

    return measure


class Axes(NamedTuple):
    """What is combined."""

    activation: list[Activation]
    initializer: list[Initializer]
    normalization: list[Normalization]
    residual: list[Residual]


AXES = Axes._fields


def axes_of(texts: Sequence[str]) -> Axes:
    """Returns what to combine, from texts such as `activation=relu,{name: elu, alpha: 0.5}`.

    An axis that is not given has every activation that needs no option, the usual initializers, every normalization on
    either side of the activation, and no residual. Raises ConfigError when there is no such axis or part.
    """
    axes: dict[str, list[Any]] = {
        "activation": list(default_activations()),
        "initializer": [INITIALIZERS.parse(name) for name in GRID_INITIALIZERS],
        "normalization": placed_normalizations(),
        "residual": [PLAIN],
    }
    for text in texts:
        path, equals, values = text.partition("=")
        if not equals:
            raise ConfigError(f"--axis {text}: give it as {' or '.join(axes)}=NAME,NAME")
        try:
            name = option_called(path.strip(), [f"model.{axis}" for axis in axes], "axis").removeprefix("model.")
        except ValueError as error:
            raise ConfigError(f"--axis {text}: {error}") from None
        read = yaml_tree.read(f"[{values}]", f"--axis {text}")
        if read.faults:
            raise refused(read.faults)
        axes[name] = [_part(name, value, text) for value in read.value]
    return Axes(**axes)


def _part(axis: str, value: Any, text: str) -> Any:
    try:
        return getattr(Model.model_validate({axis: value}), axis)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        reason = details.get("ctx", {}).get("reason", details["msg"])
        raise ConfigError(f"--axis {text}: {reason}") from None
