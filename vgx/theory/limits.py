"""Where ever more layers of one shape lead: fixed points, phases and depth scales."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from vgx.parts.normalizations import BatchNorm
from vgx.theory.layer_response import LayerResponse, Net, Signal, in_range, mean_of, response_of, same_signal
from vgx.theory.moments import gaussian, gaussian_pair

CRITICAL = 1e-4
"""|ln factor| below which layers are called critical: it takes 10,000 of them to change a gradient e-fold."""


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
        return response_of(net, signal, width, width)

    for _ in range(100):
        after = in_range(step(signal).signal)
        if same_signal(signal, after):
            break
        signal = after
    if isinstance(net.normalization, BatchNorm):
        response = step(signal)
        factor = width * response.weight * response.gain
        return Limit(FixedPoint(response.q, response.c, factor), _phase(factor), _depth_scale(factor), math.nan)

    square = _fixed_square(lambda square: step(Signal(square, 0.0, signal.mean)).signal.square, signal.square)
    at = min(max(square, 1 / FAR), FAR)
    response = step(Signal(at, at, signal.mean))
    factor = width * response.weight * response.gain
    cosines = _CosineMap(net, at, signal.mean, factor, response.signal.square / at)
    cosine = cosines.fixed_point()
    invariant = net.normalization.name == "none" and _is_scale_invariant(net)
    q = response.q if 0 < square < math.inf else square or step(Signal(0.0, 0.0, 0.0)).q  # biases alone are left
    c = math.nan if math.isnan(cosine) else cosines.response(cosine).c
    slope = math.nan if math.isnan(cosine) else cosines.derivative(cosine)
    return Limit(
        FixedPoint(q, c, factor),
        "scale-invariant" if invariant else _phase(factor),
        _depth_scale(factor),
        _depth_scale(slope) if slope < 1 else slope * math.inf,
    )


class _CosineMap(NamedTuple):
    """What a layer makes of the cosine of two inputs that have reached the fixed length."""

    net: Net
    square: float
    """Their second moment."""
    mean: float
    factor: float
    """Of the gradient, there."""
    growth: float
    """The second moment behind the layer, relative to the one before."""

    def response(self, cosine: float, *, exact: bool = False) -> LayerResponse:
        """Returns the layer's response to two inputs of this cosine."""
        width = self.net.sizes[-2]
        signal = Signal(self.square, self.square * cosine, self.mean)
        return response_of(self.net, signal, width, width, exact=exact)

    def after(self, cosine: float, *, exact: bool = False) -> float:
        """Returns the cosine behind the layer."""
        signal = self.response(cosine, exact=exact).signal
        return signal.cross / signal.square

    def derivative(self, cosine: float) -> float:
        """Returns the derivative of `after`: the factor with E[f'_a f'_b] for E[f'^2], without dropout's share."""
        activation, (mean, std, c) = self.net.activation, self.response(cosine).preact
        ratio = gaussian_pair(activation, mean, std, c).slope_product / gaussian(activation, mean, std).slope_square
        # Of cosines from 0 on it is a power series without negative terms: below 0 is what quadrature errs by, as where
        # a wide normal sees a sine turn many times.
        return max(float(self.factor * (1 - self.net.dropout) * ratio / self.growth), 0.0)

    def fixed_point(self) -> float:
        """Returns the cosine that more layers lead to; NaN where none is defined, or each stays as it is."""
        if not (self.factor and self.growth):
            return math.nan
        cosine = _fixed_cosine(self.after, self.derivative)
        if 0 < cosine < 1:
            # One Newton step makes exact what was found by interpolation.
            cosine += (self.after(cosine, exact=True) - cosine) / (1 - self.derivative(cosine))
        return cosine


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
    if net.initializer.fits_to_data or mean_of(net.bias) or net.bias.variance(1, 1):
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
