"""Mean-field theory: what signals and gradients do in a deep MLP at initialization, layer by layer, at infinite width.

Over the units of a layer, h = W x + b is Gaussian, with mean m and deviation s, and x = f(h). So

    s^2 = n_in Var(W) E[x^2] + Var(b)                       forward; of two inputs, E[x_a x_b] in place of E[x^2]
    |delta_l|^2 = n_l Var(W_{l+1}) E[f'(h)^2] |delta_{l+1}|^2                         backward, of one example

"Factor" is the growth of |delta|^2 from a layer to the one below. All of it in float64; logarithms of what may be tiny.

Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232; Yang et al. 2019, arXiv:1902.08129.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vgx.errors import ConfigError
from vgx.parts.activations import Activation, Identity
from vgx.parts.initializers import Constant, Initializer
from vgx.parts.normalizations import BatchNorm, LayerNorm, NoNormalization, Normalization, RMSNorm
from vgx.theory.finite_width import dead_share, forward_spread, saturated_share
from vgx.theory.moments import gaussian, gaussian_pair, moments_of, on_line, safe_divide, sphere, table
from vgx.theory.quadrature import line, panels

CRITICAL = 1e-4
"""|ln factor| below which layers are called critical: it takes 10,000 of them to change a gradient e-fold."""
TINY, HUGE = 1e-90, 1e90
"""Second moments past what float32 holds the root of: reported as 0 and infinity; ratios go on."""


# Layers.


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
    """Examples for all of which a unit must be off to be dead; a batch unless told."""


class Signal(NamedTuple):
    """What a layer receives: moments over its entries, means over examples."""

    square: float
    """E[x^2]"""
    cross: float
    """E[x_a x_b], of two different examples."""
    mean: float
    """E[x]"""


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
    kurtosis: float
    """E[f'^4] / E[f'^2]^2"""


def _pass(net: Net, signal: Signal, n_in: int, n_out: int, *, exact: bool = False) -> LayerResponse:
    """Returns what a hidden layer of n_in inputs and n_out units does; `exact` correlations are not interpolated."""
    bias_mean, bias_variance = _mean_of(net.bias), net.bias.variance(1, n_out)
    weight = net.initializer.variance(n_in, n_out)
    if net.initializer.fits_to_data:
        # The kernel alone is rescaled, until kernel and bias together have variance 1.
        weight = safe_divide(max(1 - bias_variance, 0.0), n_in * signal.square)
    mean = n_in * _mean_of(net.initializer) * signal.mean + bias_mean
    variance = n_in * weight * signal.square + bias_variance
    covariance = min(n_in * weight * signal.cross + bias_variance, variance)

    norm, keep = net.normalization, 1 - net.dropout
    if isinstance(norm, BatchNorm):
        through = (_batch_before if norm.before else _batch_after)(net, norm, mean, variance, covariance)
    else:
        through = _by_example(net, norm, mean, variance, covariance, exact)
    out, gain, top_gain, preact, slope_square, kurtosis = through
    q = variance + mean**2
    return LayerResponse(
        Signal(out.square / keep, out.cross, out.mean),
        weight,
        gain / keep,
        top_gain / keep,
        q,
        (covariance + mean**2) / q if q else 1.0,
        preact,
        slope_square,
        kurtosis / keep,
    )


def _mean_of(initializer: Initializer) -> float:
    return initializer.value if isinstance(initializer, Constant) else 0.0


Through = tuple[Signal, float, float, tuple[float, float, float], float, float]
"""Signal, gain, top gain, moments of what the activation receives, E[f'^2], kurtosis."""


def _by_example(net: Net, norm: Normalization, mean: float, variance: float, covariance: float, exact: bool) -> Through:
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
    return out, gain, gain, (mean, std, c), steep, safe_divide(float(f.slope_fourth), steep**2)


def _example_norm(norm: Normalization) -> tuple[bool, float]:
    """Whether a normalization of single examples takes out their mean, and its epsilon."""
    if isinstance(norm, LayerNorm | RMSNorm):
        return isinstance(norm, LayerNorm), norm.epsilon
    raise ConfigError(f"model.normalization: there is no theory for '{norm.name}'")


def _batch_before(net: Net, norm: BatchNorm, mean: float, variance: float, covariance: float) -> Through:
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
    return out, gain, top_gain, (0.0, math.sqrt(shrink), -1 / (batch - 1)), f.slope_square, f.kurtosis


def _batch_after(net: Net, norm: BatchNorm, mean: float, variance: float, covariance: float) -> Through:
    """Through the activation, then batch norm.

    A unit's h on a batch is a part that all examples share, u, and one of each; batch norm divides by the variance of
    f given u. To first order in 1 / B the batch's own variance S differs from that, is correlated with f'^2, and the
    gradient loses its mean and its part along x; kappa / B is the correlation that normalization below leaves.
    """
    batch = net.batch
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
    std = math.sqrt(variance)
    mixed = [float(np.sum(u_weight * x)) for x in (m.slope_fourth, m.slope_square)]
    c = safe_divide(covariance, variance) if variance else 1.0
    out = Signal(square, -square / (batch - 1), 0.0)
    return out, gain, top_gain, (mean, std, c), mixed[1], safe_divide(mixed[0], mixed[1] ** 2)


# Nets.


class Propagation(NamedTuple):
    """The prediction for each layer, from the first to the readout: [L + 1] each."""

    delta_log10: np.ndarray
    """log10 of the norm of dloss/dh over the readout's."""
    factor: np.ndarray
    """Growth of its square from the layer above; NaN for the readout."""
    weight_gain: np.ndarray
    """What the weights above contribute to the factor, n_l Var(W_{l+1}); NaN for the readout, as in the next two."""
    slope_square: np.ndarray
    """What the activation contributes: E[f'^2]."""
    normalization: np.ndarray
    """What the normalization contributes. The three, and 1 / (1 - dropout), multiply to the factor."""
    act_rms: np.ndarray
    preact_std: np.ndarray
    cosine: np.ndarray
    """Of what two inputs become; NaN where that is 0, which has no direction."""
    dead: np.ndarray
    """Share of units whose slope is 0 for every example of a batch, or of those examined."""
    saturated: np.ndarray
    """Share of entries whose slope is below 5 % of the activation's steepest."""
    band: np.ndarray
    """A standard deviation of `delta_log10` over draws of Gaussian weights of this width, in decades."""
    act_band: np.ndarray
    """The same of `act_rms`, for one example; a mean over a batch is steadier."""
    preact_band: np.ndarray
    """The same of `preact_std`."""


def propagate(net: Net, signal: Signal) -> Propagation:
    """Returns what becomes of an input with these moments, and of the gradient on its way back to it."""
    passages = hidden_passages(net, signal)
    norm = net.normalization
    logits = norm.model_copy(update={"placement": "before"}) if _normalizes_logits(norm) else NoNormalization()
    top = net._replace(activation=Identity(), normalization=logits, dropout=0.0)
    passages.append(_pass(top, passages[-1].signal if passages else signal, *net.sizes[-2:]))

    widths = np.array(net.sizes[1:-1], float)
    weight = np.array([passage.weight for passage in passages])
    gain = np.array([passage.gain for passage in passages[:-1]])
    if not _normalizes_logits(norm):
        gain[-1] = passages[-2].top_gain
    kurtosis = np.array([passage.kurtosis for passage in passages[:-1]])
    weight_gain = widths * weight[1:]
    factor = weight_gain * gain
    slope_square = np.array([passage.slope_square for passage in passages[:-1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        normalization = gain * (1 - net.dropout) / slope_square
    with np.errstate(divide="ignore"):
        delta = 0.5 * np.log10(factor)
    # Each unit's share f'^2 (W delta)^2 has the second moment 3 kurtosis; ReLU's kurtosis is 2, hence 5 L / n.
    band = np.log10(np.e) / 2 * np.sqrt(_from_above(np.maximum(3 * kurtosis - 1, 0) / widths))
    act_rms = np.array([_reported(passage.signal.square) for passage in passages])
    preact_std = np.array([_reported(passage.preact[1] ** 2) for passage in passages])
    received = np.array([signal.square, *(passage.signal.square for passage in passages[:-1])])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Of a layer's second moment, the share that its inputs have; the rest is the biases'.
        from_inputs = np.array(net.sizes[:-1]) * weight * received / np.array([passage.q for passage in passages])
    forward = forward_spread(
        net.activation,
        np.array([passage.preact[:2] for passage in passages]),
        np.array(net.sizes[1:]),
        from_inputs,
        norm.before or net.initializer.fits_to_data,
        norm.after,
    )
    preact = np.array([passage.preact for passage in passages[:-1]])
    return Propagation(
        delta_log10=np.append(_from_above(delta), 0.0),
        factor=np.append(factor, np.nan),
        weight_gain=np.append(weight_gain, np.nan),
        slope_square=np.append(slope_square, np.nan),
        normalization=np.append(normalization, np.nan),
        act_rms=act_rms,
        preact_std=preact_std,
        cosine=np.array([_cosine(passage.signal) for passage in passages]),
        dead=np.append(dead_share(net.activation, preact, net.examined or net.batch), 0.0),
        saturated=np.append(saturated_share(net.activation, preact), 0.0),
        band=np.append(band, 0.0),
        act_band=act_rms * forward.act,
        preact_band=preact_std * forward.preact,
    )


def _normalizes_logits(norm: Normalization) -> bool:
    return isinstance(norm, BatchNorm) and norm.logits


def _from_above(x: np.ndarray) -> np.ndarray:
    return np.cumsum(x[::-1])[::-1]


def _cosine(signal: Signal) -> float:
    return signal.cross / signal.square if signal.square else math.nan


def _reported(square: float) -> float:
    """A root mean square; beyond the range that is followed, 0 or infinity."""
    return 0.0 if square <= TINY else math.inf if square >= HUGE else math.sqrt(square)


def hidden_passages(net: Net, signal: Signal) -> list[LayerResponse]:
    """Returns what each hidden layer does: [L]."""
    passages: list[LayerResponse] = []
    settled = None
    for shape in pairwise(net.sizes[:-1]):
        if shape != settled:
            passages.append(_pass(net, signal, *shape))
            after = _in_range(passages[-1].signal)
            settled = shape if shape[0] == shape[1] and _same(signal, after) else None
            signal = after
        else:
            passages.append(passages[-1])
    return passages


def _in_range(signal: Signal) -> Signal:
    """The signal, or one with the same ratios whose square is a float that can be squared."""
    if TINY <= signal.square <= HUGE or signal.square == 0:
        return signal
    scale = (TINY if signal.square < TINY else HUGE) / signal.square
    return Signal(signal.square * scale, signal.cross * scale, signal.mean * math.sqrt(scale))


def _same(one: Signal, other: Signal) -> bool:
    return all(abs(a - b) <= 1e-15 * abs(a) for a, b in zip(one, other, strict=True))


# Limits.


class FixedPoint(NamedTuple):
    """Where layers of one shape lead."""

    q: float
    """Second moment of h: 0 or infinity where it falls or grows for ever."""
    c: float
    """Correlation of the h of two examples; NaN where every one stays as it is."""
    factor: float
    """There."""


class Limit(NamedTuple):
    """What becomes of signals and gradients in ever more layers like the last hidden one."""

    fixed_point: FixedPoint
    phase: str
    """ordered (the factor is below 1), chaotic (above), critical, or scale-invariant: whatever the size of the signal,
    the net does the same to it."""
    depth_scale: float
    """Layers in which |delta|^2 changes e-fold; infinite where it does not."""
    correlation_depth_scale: float
    """Layers in which two inputs come e-fold nearer to c; infinite where slower than that, NaN where unknown."""


FAR = 1e30
"""A second moment, or one over it, that has left every bend of an activation behind."""


def limit(net: Net, signal: Signal) -> Limit:
    """Returns where more layers, as wide as the last hidden one, lead from a signal."""
    width = net.sizes[-2]

    def step(signal: Signal) -> LayerResponse:
        return _pass(net, signal, width, width)

    for _ in range(100):
        after = _in_range(step(signal).signal)
        if _same(signal, after):
            break
        signal = after
    if isinstance(net.normalization, BatchNorm):
        passage = step(signal)
        factor = width * passage.weight * passage.gain
        return Limit(FixedPoint(passage.q, passage.c, factor), _phase(factor), _depth_scale(factor), math.nan)

    square = _fixed_square(lambda square: step(Signal(square, 0.0, signal.mean)).signal.square, signal.square)
    at = min(max(square, 1 / FAR), FAR)
    passage = step(Signal(at, at, signal.mean))
    factor = width * passage.weight * passage.gain
    growth = passage.signal.square / at

    def next_cosine(cosine: float, exact: bool = False) -> float:
        after = _pass(net, Signal(at, at * cosine, signal.mean), width, width, exact=exact).signal
        return after.cross / after.square

    def slope_at(cosine: float) -> float:
        """The derivative of `next_cosine`: the factor with E[f'_a f'_b] in place of E[f'^2], less dropout's share."""
        mean, std, c = step(Signal(at, at * cosine, signal.mean)).preact
        ratio = (
            gaussian_pair(net.activation, mean, std, c).slope_product / gaussian(net.activation, mean, std).slope_square
        )
        # Of cosines from 0 on it is a power series without negative terms: below 0 is what quadrature errs by, as where
        # a wide normal sees a sine turn many times.
        return max(float(factor * (1 - net.dropout) * ratio / growth), 0.0)

    cosine = _fixed_cosine(next_cosine, slope_at) if factor and growth else math.nan
    if 0 < cosine < 1:
        # A step of Newton's: what was found by interpolation becomes exact.
        cosine += (next_cosine(cosine, exact=True) - cosine) / (1 - slope_at(cosine))
    invariant = net.normalization.name == "none" and _is_scale_invariant(net)
    q = passage.q if 0 < square < math.inf else square or step(Signal(0.0, 0.0, 0.0)).q  # biases alone are left
    c = math.nan if math.isnan(cosine) else step(Signal(at, at * cosine, signal.mean)).c
    slope = math.nan if math.isnan(cosine) else slope_at(cosine)
    return Limit(
        FixedPoint(q, c, factor),
        "scale-invariant" if invariant else _phase(factor),
        _depth_scale(factor),
        _depth_scale(slope) if slope < 1 else slope * math.inf,
    )


def _phase(factor: float) -> str:
    if factor > 0 and abs(math.log(factor)) < CRITICAL:
        return "critical"
    return "ordered" if factor < 1 else "chaotic"


def _depth_scale(factor: float) -> float:
    if factor == 0 or factor == math.inf:
        return 0.0
    # Quadrature and interpolation leave errors of 1e-12; a factor that near to 1 is 1.
    return 1 / abs(math.log(factor)) if abs(factor - 1) > 1e-10 else math.inf


def _is_scale_invariant(net: Net) -> bool:
    """Whether f(a h) = a f(h), and no bias or rescaling of weights says otherwise."""
    if net.initializer.fits_to_data or _mean_of(net.bias) or net.bias.variance(1, 1):
        return False
    small, large = (gaussian(net.activation, 0.0, std) for std in (0.25, 4.0))
    return bool(
        math.isclose(small.slope_square, large.slope_square, rel_tol=1e-10)
        and math.isclose(16**2 * small.square, large.square, rel_tol=1e-10)
    )


def _fixed_square(step: Callable[[float], float], start: float) -> float:
    """Returns the second moment to which `step` leads from `start`: the first fixed point on its way, 0 or infinity."""
    if start == 0:
        return 0.0
    drift = step(start) / start - 1
    if abs(drift) < 1e-11:
        return start
    up = drift > 0
    near, far = start, start * (4 if up else 0.25)
    while (step(far) > far) == up:
        near, far = far, far * (4 if up else 0.25)
        if not 1e-12 < far < 1e14:  # farther out, a step that adds a constant is lost in the rounding
            return math.inf if up else 0.0
    while abs(near / far - 1) > 1e-15:
        middle = math.sqrt(near * far)
        if middle in (near, far):
            break
        near, far = (middle, far) if (step(middle) > middle) == up else (near, middle)
    return math.sqrt(near * far)


def _fixed_cosine(step: Callable[[float], float], slope: Callable[[float], float]) -> float:
    """Returns the cosine in [0, 1] to which `step`, a power series without negative terms, leads; NaN if it is x."""
    if abs(step(0.5) - 0.5) < 1e-9:
        return math.nan
    high = 1.0
    if step(1.0) > 1 - 1e-10:
        # 1 is fixed, and attracts unless steps from it go away.
        if slope(1.0) <= 1 + 1e-9:
            return 1.0
        gap = 0.1
        while step(1 - gap) >= 1 - gap:
            gap /= 2
            if gap < 1e-10:
                return 1.0
        high = 1 - gap
    low = 0.0
    if step(low) <= 1e-12:
        return 0.0
    while high - low > 1e-15 and low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if step(middle) > middle else (low, middle)
    return (low + high) / 2
