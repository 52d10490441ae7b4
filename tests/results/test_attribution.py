"""The causes of a slope, against factors that are known one by one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

from vgx.results.attribution import attribute
from vgx.results.verdict import slope_of


class Factors(NamedTuple):
    factor: np.ndarray
    weight_gain: np.ndarray
    slope_square: np.ndarray
    normalization: np.ndarray

    @property
    def skip(self) -> np.ndarray:
        return np.append(np.ones(len(self.factor) - 1), math.nan)


def layers(depth: int, weights: float, derivative: float, normalization: float = 1.0, keep: float = 1.0) -> Factors:
    def everywhere(value: float) -> np.ndarray:
        return np.append(np.full(depth, value), math.nan)

    return Factors(*map(everywhere, (weights * derivative * normalization / keep, weights, derivative, normalization)))


def test_every_cause_is_half_the_log_of_its_factor_and_the_rest_is_the_rest():
    delta = -0.05 * np.arange(12, 0, -1.0)  # shrinks by 0.05 decades per layer on its way down
    causes = attribute(layers(11, weights=2.0, derivative=0.1, normalization=4.0, keep=0.8), delta)
    expected = [math.log10(x) / 2 for x in (2.0, 0.1, 4.0, 1 / 0.8)]
    assert causes[:4] == pytest.approx(expected, abs=1e-12)
    assert causes.slope == pytest.approx(-0.05, abs=1e-12)
    assert causes.rest == pytest.approx(-0.05 - sum(expected), abs=1e-12)


def test_causes_of_an_uneven_curve_add_up_to_its_least_squares_slope():
    random = np.random.default_rng(0)
    delta, gain, steep = random.normal(size=31), random.uniform(0.5, 2, 31), random.uniform(0.1, 1, 31)
    norm = random.uniform(0.5, 2, 31)
    causes = attribute(Factors(gain * steep * norm, gain, steep, norm), delta)
    assert causes.slope == pytest.approx(slope_of(delta[:-1]), abs=1e-12)
    assert causes.dropout == pytest.approx(0, abs=1e-12)


def test_a_measured_gain_takes_the_place_of_the_predicted_one():
    factors, delta = layers(9, weights=1.0, derivative=0.25), np.zeros(10)
    causes = attribute(factors, delta, weight_gain=np.full(10, 4.0))
    assert causes.weights == pytest.approx(math.log10(2))
    assert causes.rest == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("factors", "slope", "words"),
    [
        (layers(9, 1.0, 0.0557), math.log10(0.0557) / 2, "shrinks most of all by the activation's derivative: -0.627"),
        (layers(9, 4.0, 1.0), math.log10(2), "grows most of all by the weights' gain: +0.301"),
        (
            layers(9, 2.0, 0.5),
            0.0,
            "the weights' gain (+0.151) and the activation's derivative (-0.151) all but cancel",
        ),
        (layers(9, 2.0, 0.4), math.log10(2.0 * 0.4) / 2, "by the activation's derivative: -0.199"),
        (layers(9, 2.0, 0.4), math.log10(2.0 * 0.4) / 2, "against the weights' gain: +0.151"),
        (layers(9, 1.0, 1.0), 0.0, "nothing moves the gradient"),
        (layers(9, 1.0, 1.0), -0.1, "shrinks most of all by what theory leaves out"),
        (layers(9, 0.0, 1.0), -0.1, "nothing can be said"),
    ],
)
def test_the_sentence_names_what_weighs_most(factors, slope, words):
    assert words in attribute(factors, slope * np.arange(9, -1, -1.0)).sentence
