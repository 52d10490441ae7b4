"""Moments of one unit for one example and for two: what the spread of a finite layer's gradient is made of.

A layer's n units are independent given what it receives, so that a mean over them strays from its expectation by
Var / n. Of a unit, x = f(h) and x' = f'(h) count, squared and relative to their means: A = x^2 / E[x^2] and
M = x'^2 / E[x'^2].
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from vgx.parts.activations import Activation
from vgx.registry import remembered
from vgx.theory.moments import gaussian_expectations, on_line, pair_expectations, safe_divide

Centre = Literal["nothing", "its mean", "the batch's mean"]
"""What x is taken less of, before it is squared: nothing; its own mean, which moves with the size of h, as layer norm
after the activation does; or a mean over a batch, to which an example's own h matter little."""
STEP = 0.04
"""Of ln E[h^2], to take derivatives by."""
NARROW, WIDE = -30.0, 10.0
"""log2 of the deviations beyond which f is straight, or a step."""
FINE = 64
"""Steps to an octave of deviation, to a unit of mean over deviation and of correlation, within which units are one."""


class UnitMoments(NamedTuple):
    """Of h ~ N(mean, std^2); two examples' have the correlation c. z = (h - mean) / std."""

    a_a: float
    """Var A"""
    m_m: float
    """E[M^2]"""
    a_m: float
    """E[A M]"""
    pair_a_a: float
    """Cov(A_a, A_b)"""
    pair_m_m: float
    """E[M_a M_b]"""
    pair_a_m: float
    """E[A_a M_b]"""
    slope_cosine: float
    """E[x'_a x'_b] / E[x'^2]"""
    a_first: float
    """E[A z]"""
    m_first: float
    """E[M z]"""
    a_echo: float
    """d ln E[x^2] / d ln E[h^2]"""
    m_echo: float
    """d ln E[x'^2] / d ln E[h^2]"""
    a_fourth: float
    """E[A He4(z)], He4 = z^4 - 6 z^2 + 3"""
    m_fourth: float
    """E[M He4(z)]"""
    along: float
    """E[h x x']^2 / (E[x^2] E[h^2] E[x'^2]): what of <h, dloss/dh> came from <x, dloss/dx>."""
    flat: float
    """E[x x']^2 / (E[x^2] E[x'^2])"""
    cosine_slope: float
    """d cos(x_a, x_b) / d c"""
    product: float
    """E[h x]^2 / (E[h^2] E[x^2])"""


def unit_moments(activation: Activation, preact: tuple[float, float, float], centre: Centre) -> UnitMoments:
    """Returns the moments of a unit; pre-activations that differ by a few thousandths are one.

    Args:
        activation: f
        preact: mean, deviation and correlation of h.
        centre: what x is taken less of.
    """
    mean, std, c = preact
    std = max(std, 1e-150)
    octaves = near_octaves(std, FINE)
    ratio = round(FINE * min(max(mean / std, -1e4), 1e4)) / FINE
    return _unit_moments(activation, ratio * 2**octaves, 2**octaves, round(FINE * c) / FINE, centre)


def near_octaves(std: float, steps: int) -> float:
    """Returns log2 of a deviation, to so many steps an octave, and no farther out than NARROW and WIDE."""
    return round(steps * min(max(math.log2(std), NARROW), WIDE)) / steps


@remembered
def _unit_moments(*asked: Any) -> UnitMoments:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        # What leaves the range of floats is taken not to vary.
        return UnitMoments(*(float(x) if math.isfinite(x) else 0.0 for x in _moments(*asked)))


def _moments(activation: Activation, mean: float, std: float, c: float, centre: Centre) -> UnitMoments:
    sizes = std * np.exp(np.array([-STEP, STEP]) / 2)
    logs = log_squares(activation, mean, sizes, centre, std)[:2].T
    echo = (logs[1] - logs[0]) / (2 * STEP)
    z, h, f, slope, expect = gaussian_expectations(activation, mean, std)
    middle = expect(f) if centre != "nothing" else 0.0
    x = f - middle
    square, steep = expect(x**2), expect(slope**2)
    a, m = safe_divide(1.0, square) * x**2, safe_divide(1.0, steep) * slope**2
    he4 = z**4 - 6 * z**2 + 3
    power = std**2 + mean**2
    (f_a, f_b), (slope_a, slope_b), pair = pair_expectations(activation, mean, std, min(max(c, -1.0), 1 - 1e-9))
    pair_a = [safe_divide(1.0, square) * (part - middle) ** 2 for part in (f_a, f_b)]
    pair_m = [safe_divide(1.0, steep) * part**2 for part in (slope_a, slope_b)]
    cosine = safe_divide(pair(slope_a.mean(0) * slope_b.mean(0)), steep)
    pair_a, pair_m = ([part.mean(0) for part in parts] for parts in (pair_a, pair_m))
    return UnitMoments(
        a_a=expect(a**2) - expect(a) ** 2,
        m_m=expect(m**2),
        a_m=expect(a * m),
        pair_a_a=pair(pair_a[0] * pair_a[1]) - expect(a) ** 2,
        pair_m_m=pair(pair_m[0] * pair_m[1]),
        pair_a_m=pair(pair_a[0] * pair_m[1] + pair_a[1] * pair_m[0]) / 2,
        slope_cosine=cosine,
        a_first=expect(a * z),
        m_first=expect(m * z),
        a_echo=float(echo[0]),
        m_echo=float(echo[1]),
        a_fourth=expect(a * he4),
        m_fourth=expect(m * he4),
        along=safe_divide(expect(h * x * slope) ** 2, square * power * steep),
        flat=safe_divide(expect(x * slope) ** 2, square * steep),
        cosine_slope=safe_divide(cosine * steep * std**2, square),
        product=safe_divide(expect(h * x) ** 2, square * power),
    )


def log_squares(activation: Activation, mean: float, std: np.ndarray, centre: Centre, middle_std: float) -> np.ndarray:
    """Returns ln E[x^2], ln E[x'^2] (0 where they are 0) and Var A of h ~ N(mean, std^2): [3, P].

    The mean over a batch is that of h ~ N(mean, middle_std^2).
    """
    _, weight, f, slope = on_line(activation, mean, np.append(std, middle_std))

    def expect(g: np.ndarray) -> np.ndarray:
        return np.sum(weight * g.mean(0), -1)

    means = expect(f)
    middle = {"nothing": 0 * means, "its mean": means, "the batch's mean": 0 * means + means[-1]}[centre]
    x = f - middle[:, None]
    square, steep = expect(x**2), expect(slope**2)
    logs = [np.log(np.where(y > 0, y, 1.0)) for y in (square, steep)]
    with np.errstate(invalid="ignore", over="ignore"):
        noise = np.nan_to_num(expect(x**4) / np.where(square > 0, square, np.inf) ** 2 - 1, posinf=0.0)
    return np.array([*logs, noise])[:, :-1]
