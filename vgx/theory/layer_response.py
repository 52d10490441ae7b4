"""What one layer does to the signal and to the gradient at infinite width, with its normalization."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vgx.errors import ConfigError, TheoryError
from vgx.parts.activations import Activation
from vgx.parts.initializers import Constant, Initializer
from vgx.parts.losses import Loss
from vgx.parts.normalizations import BatchNorm, LayerNorm, Normalization, RMSNorm
from vgx.parts.residuals import NoResidual, Residual
from vgx.theory.batch_law import FEWEST, batch_law
from vgx.theory.moments import moments_of, on_line, safe_divide, sphere, table
from vgx.theory.quadrature import line, panels

EXACT = 64
"""Examples up to which batch norm after the activation is followed by quadrature over the batch."""
TINY, HUGE = 1e-90, 1e90
"""Second moments past what float32 holds the root of: reported as 0 and infinity; ratios go on."""


class Net(NamedTuple):
    """What theory knows of a net."""

    sizes: tuple[int, ...]
    """Features, the widths of the hidden layers, classes: [L + 2]."""
    activation: Activation
    initializer: Initializer
    bias: Initializer
    normalization: Normalization
    dropout: float
    batch: int
    """Examples that batch norm sees at a time."""
    examined: int | None = None
    """Examples for all of which a unit must be off to be dead; a batch by default."""
    loss: Loss = "cross_entropy"
    """What the gradient at the logits is of."""
    residual: Residual = NoResidual()
    branches: tuple[bool, ...] = ()
    """Which hidden layers add to a stream, [L]; of a net with a `residual` alone."""


class Signal(NamedTuple):
    """What a layer receives: moments over its entries, means over examples."""

    square: float
    """E[x^2]"""
    cross: float
    """E[x_a x_b], of two different examples."""
    mean: float
    """E[x]"""
    log_mean: float = 0.0
    """Mean over examples of the logarithm of an input's own mean square / `square`; of a net's inputs alone."""
    log_variance: float = 0.0
    """The variance of that."""
    alike: float = 0.0
    """tr(C^2) / tr(C)^2, C the covariance of the inputs' features: one over the directions in which they differ."""


class LayerResponse(NamedTuple):
    """What one layer does to the signal, and to the gradient on its way back."""

    signal: Signal
    """What it passes on."""
    weight: float
    """The variance of its weights."""
    gain: float
    """|dloss/dh|^2 over |dloss/dx|^2, x being what it passes on."""
    top_gain: float
    """The same where the gradients of different examples have nothing to do with each other, as above the readout."""
    q: float
    """E[h^2]"""
    c: float
    """E[h_a h_b] / E[h^2]"""
    preact: tuple[float, float, float]
    """Mean, deviation and correlation of what the activation receives."""
    slope_square: float
    """E[f'^2]"""


class Affinity(NamedTuple):
    """What a layer's linear map leaves: moments of h over units."""

    weight: float
    """The variance of its weights."""
    mean: float
    variance: float
    covariance: float
    """Of the h of two different examples."""


def response_of(net: Net, signal: Signal, n_in: int, n_out: int, *, exact: bool = False) -> LayerResponse:
    """Returns what a hidden layer of n_in inputs and n_out units does; `exact` correlations are not interpolated."""
    return respond(net, affinity_of(net, signal, n_in, n_out), exact=exact)


def affinity_of(net: Net, signal: Signal, n_in: int, n_out: int) -> Affinity:
    """Returns the moments of h = W x + b of a layer of n_in inputs and n_out units."""
    bias_mean, bias_variance = mean_of(net.bias), net.bias.variance(1, n_out)
    weight = net.initializer.variance(n_in, n_out)
    if net.initializer.fits_to_data:
        # The kernel alone is rescaled, until kernel and bias together have variance 1.
        weight = safe_divide(max(1 - bias_variance, 0.0), n_in * signal.square)
    mean = n_in * mean_of(net.initializer) * signal.mean + bias_mean
    variance = n_in * weight * signal.square + bias_variance
    return Affinity(weight, mean, variance, min(n_in * weight * signal.cross + bias_variance, variance))


def respond(net: Net, h: Affinity, *, exact: bool = False) -> LayerResponse:
    """Returns what normalization, activation and dropout make of a layer's h, or of a stream of such."""
    weight, mean, variance, covariance = h
    norm, keep = net.normalization, 1 - net.dropout
    if isinstance(norm, BatchNorm):
        unit = (_batch_before if norm.before else _batch_after)(net, norm, mean, variance, covariance)
    else:
        unit = _by_example(net, norm, mean, variance, covariance, exact)
    q = variance + mean**2
    return LayerResponse(
        unit.signal._replace(square=unit.signal.square / keep),
        weight,
        unit.gain / keep,
        unit.top_gain / keep,
        q,
        (covariance + mean**2) / q if q else 1.0,
        unit.preact,
        unit.slope_square,
    )


def mean_of(initializer: Initializer) -> float:
    return initializer.value if isinstance(initializer, Constant) else 0.0


class UnitResponse(NamedTuple):
    """What activation and normalization make of a layer's h; as in LayerResponse, before dropout."""

    signal: Signal
    gain: float
    top_gain: float
    preact: tuple[float, float, float]
    slope_square: float


def _by_example(
    net: Net, norm: Normalization, mean: float, variance: float, covariance: float, exact: bool
) -> UnitResponse:
    """Through the activation, and layer norm, RMS norm or none."""
    c = max(safe_divide(covariance, variance), -1.0) if variance else 1.0
    before = 1.0
    if norm.before:
        centred, epsilon = _example_norm(norm)
        mean = 0.0 if centred else mean
        before = safe_divide(1.0, variance + mean**2 + epsilon)
        mean, variance = mean * math.sqrt(before), variance * before
    std = math.sqrt(variance)
    averages = table(net.activation, mean)
    f = averages.moments(std)
    shared = float(f.variance) * averages.correlation(std, c, exact)
    out = Signal(float(f.square), float(f.mean) ** 2 + shared, float(f.mean))
    after = 1.0
    if norm.after:
        centred, epsilon = _example_norm(norm)
        if centred:
            out = Signal(float(f.variance), shared, 0.0)
        after = safe_divide(1.0, out.square + epsilon)
        out = Signal(out.square * after, out.cross * after, out.mean * math.sqrt(after))
    steep = float(f.slope_square)
    gain = before * steep * after
    return UnitResponse(out, gain, gain, (mean, std, c), steep)


def _example_norm(norm: Normalization) -> tuple[bool, float]:
    """Whether a normalization of single examples takes out their mean, and its epsilon."""
    if isinstance(norm, LayerNorm | RMSNorm):
        return isinstance(norm, LayerNorm), norm.epsilon
    raise ConfigError(f"model.normalization: there is no theory for '{norm.name}'")


def _batch_before(net: Net, norm: BatchNorm, mean: float, variance: float, covariance: float) -> UnitResponse:
    """Through batch norm, then the activation.

    What a batch has in common is taken out; of the rest the batch's own variance S is (variance - covariance) / B times
    a chi-squared with B - 1 degrees of freedom, so E[1 / S] = B / ((B - 3) (variance - covariance)).
    """
    batch = net.batch
    spread = variance - covariance
    typical = spread * (batch - 1) / batch
    shrink = safe_divide(typical, typical + norm.epsilon)
    f = sphere(net.activation, math.sqrt(shrink), batch)
    if batch > 3:
        inverse = safe_divide(1.0, spread * (batch - 3) / batch + norm.epsilon)
    elif batch == 3:
        # S is exponential; only epsilon, or the smallest of many, keeps E[1 / S] finite.
        t, weight = panels(np.linspace(-60, 6, 67))
        inverse = float(np.sum(weight * np.exp(t - np.exp(t)) / (2 / 3 * max(spread, TINY) * np.exp(t) + norm.epsilon)))
    else:
        inverse = 0.0  # a batch of two is -1 and 1 whatever h is
    # Gradients that come from another batch norm add up to 0 over the batch; the readout's are of random sign.
    gain, top_gain = (inverse * g / batch for g in (f.own + f.others, f.own))
    out = Signal(f.square, f.product, f.mean)
    preact = 0.0, math.sqrt(shrink), -1 / (batch - 1)
    return UnitResponse(out, gain, top_gain, preact, f.slope_square)


def _batch_after(net: Net, norm: BatchNorm, mean: float, variance: float, covariance: float) -> UnitResponse:
    """Through the activation, then batch norm.

    A unit's h on a batch is a part that all examples share, u, and one of each. Given u, let r = f - E[f], v = E[r^2]
    and S the batch's own variance; y = r / sqrt(S) is passed on, and of a gradient g at y there comes back

        f' / sqrt(S) (g - mean(g) - y mean(g y)).

    In batches of up to EXACT the expectations are those of `batch_law`. In larger ones the mean square of what comes
    back, for g of random sign, is E[f'^2] / v times 1 + lost, to first order in 1 / B:

    - 1 / S = (1 - (S - v) / v + ((S - v) / v)^2 - ...) / v, where E[(S - v) / v] = -1 / B gives `bias`, and
      E[((S - v) / v)^2] = (E[r^4] / v^2 - 1) / B gives `spread`;
    - an example's own r^2 is part of S: Cov(f'^2, S) / (E[f'^2] v) = (E[f'^2 r^2] / (E[f'^2] v) - 1) / B is `shared`;
    - mean(g) and y mean(g y) take 1 / B and E[f'^2 y^2] / (E[f'^2] B) of the square: `projected`.

    kappa / B, the correlation of h between examples that a normalization below leaves, adds its share to each.
    """
    batch = net.batch
    preact = mean, math.sqrt(variance), safe_divide(covariance, variance) if variance else 1.0
    if batch < FEWEST:
        raise TheoryError(f"theory of {norm.title} holds from a batch of {FEWEST} on, and this one is of {batch}")
    if batch <= EXACT:
        law = batch_law(net.activation, mean, variance, covariance, batch, norm)
        out = Signal(law.square, -law.square / (batch - 1), 0.0)
        return UnitResponse(out, law.own + law.others, law.own, preact, law.slope_square)
    common = min(max(covariance, 0.0), variance)
    kappa = batch * min(safe_divide(covariance, variance), 0.0)
    u, u_weight = line(np.empty(0)) if common else (np.zeros(1), np.ones(1))
    z, weight, f, slope = on_line(net.activation, mean + math.sqrt(common) * u, math.sqrt(variance - common))
    m = moments_of(weight, f, slope)

    def expect(g: np.ndarray) -> np.ndarray:
        return np.sum(weight * (g.mean(0) if g.ndim > z.ndim else g), -1)

    v, steep = np.maximum(m.variance, TINY), np.maximum(m.slope_square, TINY)
    rest = f - m.mean[:, None]
    power, mean_slope = rest**2, slope.mean(0)
    spread = (expect(power**2) + kappa * expect(z * power) ** 2) / v**2 - 1
    shared = (expect(slope**2 * power) + kappa * expect(z * slope**2) * expect(z * power)) / (steep * v) - 1
    bias = 1 + kappa * expect(z * rest) ** 2 / v
    projected = 1 + expect(slope**2 * power) / (steep * v)
    lost = spread - shared + bias - projected
    others = (expect(mean_slope) ** 2 + expect(mean_slope * rest.mean(0)) ** 2 / v) / steep
    lost, others = (np.clip(x / batch, -0.5, 0.5) for x in (lost, others * expect(mean_slope) ** 2 / steep))
    direct = np.where(m.variance > TINY, m.slope_square / (v + norm.epsilon), 0.0)
    gain, top_gain = (float(np.sum(u_weight * direct * (1 + x))) for x in (lost + others, lost))
    square = float(np.sum(u_weight * m.variance / (v + norm.epsilon)))
    out = Signal(square, -square / (batch - 1), 0.0)
    return UnitResponse(out, gain, top_gain, preact, float(np.sum(u_weight * m.slope_square)))


def in_range(signal: Signal) -> Signal:
    """The signal, or one with the same ratios whose square is a float that can be squared."""
    if TINY <= signal.square <= HUGE or signal.square == 0:
        return signal
    scale = (TINY if signal.square < TINY else HUGE) / signal.square
    return Signal(signal.square * scale, signal.cross * scale, signal.mean * math.sqrt(scale))


def same_signal(one: Signal, other: Signal) -> bool:
    return all(abs(a - b) <= 1e-15 * abs(a) for a, b in zip(one, other, strict=True))
