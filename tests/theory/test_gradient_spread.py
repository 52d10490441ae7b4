"""The gradient's mean and deviation over draws at finite width, against nets that numpy draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vgx.parts import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS
from vgx.parts.initializers import Zeros
from vgx.theory import mean_field
from vgx.theory.gradient_spread import log_of_mean
from vgx.theory.layer_response import Net, Signal
from vgx.theory.readout import readout_of
from vgx.theory.unit_moments import unit_moments
from vgx.theory.validate import normal_inputs

CLASSES = 10


def residuals(logits: np.ndarray, labels: np.ndarray, loss: str) -> np.ndarray:
    """The gradient of the loss of each example: [..., B, C]."""
    if loss == "mse":
        return logits - np.eye(CLASSES)[labels]
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) - np.eye(CLASSES)[labels]


FUNCTIONS = {
    "relu": (lambda h: np.maximum(h, 0), lambda h: (h > 0) * 1.0),
    "tanh": (np.tanh, lambda h: 1 - np.tanh(h) ** 2),
    "identity": (lambda h: h, np.ones_like),
}


def weights(kind: str, random: np.random.Generator, nets: int, n_in: int, n_out: int) -> np.ndarray:
    """Kernels [nets, n_in, n_out]: of He's variance, or rotations."""
    drawn = random.standard_normal((nets, n_in, n_out))
    if kind == "he":
        return drawn * math.sqrt(2 / n_in)
    q, r = np.linalg.qr(drawn)
    return q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]


def drawn_curves(
    name: str, kind: str, norm: str, width: int, depth: int, batch: int, loss: str, nets: int
) -> np.ndarray:
    """ln of the mean over the batch of |dloss/dh|^2, relative to the readout's: [nets, depth], in float64."""
    f, slope = FUNCTIONS[name]
    random = np.random.default_rng(0)
    x = random.standard_normal((nets, batch, width))
    kernels, received, inner = [], [], []
    for _ in range(depth):
        kernel = weights(kind, random, nets, width, width)
        h = x @ kernel
        if norm == "layer":
            centred = h - h.mean(-1, keepdims=True)
            std = np.sqrt((centred**2).mean(-1, keepdims=True))
            z = centred / std
        elif norm == "batch":
            centred = h - h.mean(1, keepdims=True)
            std = np.sqrt((centred**2).mean(1, keepdims=True))
            z = centred / std
        else:
            z, std = h, np.ones(1)
        kernels.append(kernel), received.append(z), inner.append(std)
        x = f(z)
    readout = weights(kind, random, nets, width, CLASSES)
    delta = residuals(x @ readout, random.integers(0, CLASSES, (nets, batch)), loss)
    top, above, found = (delta**2).sum(-1).mean(-1), readout, []
    for kernel, z, std in zip(reversed(kernels), reversed(received), reversed(inner), strict=True):
        g = slope(z) * (delta @ above.transpose(0, 2, 1))
        if norm != "none":
            axis = -1 if norm == "layer" else 1
            g = (g - g.mean(axis, keepdims=True) - z * (g * z).mean(axis, keepdims=True)) / std
        delta, above = g, kernel
        found.append(np.log((delta**2).sum(-1).mean(-1) / top))
    return np.stack(found[::-1], -1)


@pytest.mark.parametrize(
    ("name", "kind", "norm", "width", "depth", "batch", "loss", "tolerance"),
    [
        ("relu", "he", "none", 24, 12, 8, "cross_entropy", 0.2),
        ("relu", "orthogonal", "none", 32, 8, 16, "cross_entropy", 0.15),
        ("tanh", "he", "none", 48, 8, 16, "cross_entropy", 0.15),
        ("tanh", "orthogonal", "layer", 48, 8, 16, "cross_entropy", 0.15),
        ("relu", "he", "layer", 48, 8, 16, "cross_entropy", 0.15),
        ("relu", "he", "batch", 64, 8, 32, "cross_entropy", 0.15),
        ("tanh", "he", "batch", 64, 8, 32, "cross_entropy", 0.2),
        ("tanh", "he", "none", 48, 8, 16, "mse", 0.2),
        pytest.param("tanh", "he", "batch", 200, 3, 32, "mse", 0.25, marks=pytest.mark.slow),
    ],
)
def test_mean_and_deviation_over_draws_are_those_of_drawn_nets(name, kind, norm, width, depth, batch, loss, tolerance):
    measured = drawn_curves(name, kind, norm, width, depth, batch, loss, nets=300)
    normalization = "none" if norm == "none" else {"name": norm, "placement": "before", "epsilon": 0.0}
    initializer = {"name": "variance_scaling", "scale": 2.0} if kind == "he" else "orthogonal"
    net = Net(
        (width,) * (depth + 1) + (CLASSES,),
        ACTIVATIONS.parse(name),
        INITIALIZERS.parse(initializer),
        Zeros(),
        NORMALIZATIONS.parse(normalization),
        0.0,
        batch,
        loss=loss,
    )
    curves = mean_field.propagate(net, normal_inputs(width))
    band = curves.band[:-1] / mean_field.NORM_LOG10
    # 300 nets tell a deviation to 4 %, and a mean to a seventeenth of one.
    assert band == pytest.approx(measured.std(0), rel=tolerance)
    off = measured.mean(0) - curves.delta_log10[:-1] / mean_field.NORM_LOG10
    assert np.abs(off / band).max() < 0.4


@pytest.mark.parametrize("n", [25, 100, 400])
def test_one_example_of_relu_has_the_deviation_of_science(n):
    # Of one example 3 E[f'^4] / E[f'^2]^2 - 1 = 5, and the mean of the logarithm falls by half of the variance; <h,
    # dloss/dh> is the same in all layers, and becomes 1 - e^(-2 L / n) of the gradient.
    depth = 10
    relu, he = ACTIVATIONS.parse("relu"), INITIALIZERS.parse({"name": "variance_scaling", "scale": 2.0})
    net = Net((n,) * (depth + 1) + (CLASSES,), relu, he, Zeros(), NORMALIZATIONS.parse("none"), 0.0, 1)
    curves = mean_field.propagate(net, Signal(1.0, 1.0, 0.0))
    draws = readout_of(math.sqrt(2), 1.0, CLASSES, False).along[:, 0]
    logs = np.log(1 + (draws - 1) * -math.expm1(-2 * depth / n))
    assert (curves.band[0] / mean_field.NORM_LOG10) ** 2 == pytest.approx(5 * depth / n + logs.var(), rel=0.02)
    mean = logs.mean() - 5 * depth / n / 2
    assert curves.delta_log10[0] / mean_field.NORM_LOG10 == pytest.approx(mean, abs=0.01)


def test_rotations_of_a_linear_net_leave_nothing_to_chance():
    net = Net(
        (64,) * 9 + (CLASSES,),
        ACTIVATIONS.parse("identity"),
        INITIALIZERS.parse("orthogonal"),
        Zeros(),
        NORMALIZATIONS.parse("none"),
        0.0,
        32,
    )
    curves = mean_field.propagate(net, normal_inputs(64))
    assert curves.band == pytest.approx(np.zeros(9), abs=1e-6)
    assert curves.delta_log10 == pytest.approx(np.zeros(9), abs=1e-6)


def test_uniform_weights_of_the_readout_spread_less_than_normal_ones():
    def top(initializer: object) -> float:
        net = Net(
            (64,) * 3 + (CLASSES,),
            ACTIVATIONS.parse("identity"),
            INITIALIZERS.parse(initializer),
            Zeros(),
            NORMALIZATIONS.parse("none"),
            0.0,
            64,
        )
        return float(mean_field.propagate(net, normal_inputs(64)).band[-2])

    normal = {"name": "variance_scaling", "scale": 1.0, "mode": "fan_in", "distribution": "normal"}
    assert top("lecun_uniform") < top("lecun_normal") < top(normal)


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("c", [0.0, 0.5, 0.90625])
def test_moments_of_a_unit_are_those_of_normals_that_are_drawn(name, c):
    f, slope = FUNCTIONS[name]
    random = np.random.default_rng(1)
    a, own = random.standard_normal((2, 2_000_000))
    b = c * a + math.sqrt(1 - c * c) * own
    m = unit_moments(ACTIVATIONS.parse(name), (0.0, 1.0, c), "nothing")
    square, steep = (np.mean(x**2) for x in (f(a), slope(a)))
    pairs = [(f(x) ** 2 / square, slope(x) ** 2 / steep) for x in (a, b)]
    (a_a, m_a), (a_b, m_b) = pairs
    assert m.pair_a_a == pytest.approx(np.mean(a_a * a_b) - 1, rel=0.03, abs=0.02)
    assert m.pair_m_m == pytest.approx(np.mean(m_a * m_b), abs=0.01)
    assert m.pair_a_m == pytest.approx(np.mean(a_a * m_b), abs=0.01)
    assert m.slope_cosine == pytest.approx(np.mean(slope(a) * slope(b)) / steep, abs=0.01)
    assert (m.a_a, m.m_m, m.a_m) == pytest.approx((np.mean(a_a**2) - 1, np.mean(m_a**2), np.mean(a_a * m_a)), rel=0.02)


def test_the_logarithm_of_a_mean_of_log_normals_is_that_of_one_or_of_many():
    variance = np.array([0.0, 0.3, 2.0])
    mean, spread = log_of_mean(variance, 1)
    assert mean == pytest.approx(np.zeros(3), abs=1e-9)
    assert spread == pytest.approx(variance, rel=0.02)
    mean, spread = log_of_mean(np.array([0.0, 0.3]), 100_000)
    assert mean == pytest.approx(np.array([0.0, 0.15]), abs=1e-3)
    assert spread == pytest.approx(np.array([0.0, math.expm1(0.3) / 100_000]), rel=0.1, abs=1e-12)


def test_residuals_of_even_labels_have_their_closed_form():
    flat = readout_of(0.0, 0.0, CLASSES, False)
    assert flat.cosine_square == pytest.approx(1 / (CLASSES - 1), rel=0.02)
    assert flat.weight_square == pytest.approx(1, abs=1e-9)
    assert np.all(flat.along == 1)
    assert flat.concentration == pytest.approx(1 / CLASSES, rel=0.01)


@pytest.mark.parametrize("std", [0.0, 0.5, 2.0])
def test_residuals_of_the_mean_squared_error_have_their_closed_form(std):
    # e = f - y of independent f ~ N(0, s^2): E|e|^2 = C s^2 + 1, E[<e_a, e_b>^2] = C s^4 + 2 s^2 + 1 / C, and
    # Var |e|^2 = 2 C s^4 + 4 s^2; the labels alone make the classes' shares uneven, by nothing in the mean.
    found, square = readout_of(std, 0.0, CLASSES, False, "mse"), CLASSES * std**2 + 1
    assert found.cosine_square == pytest.approx((CLASSES * std**4 + 2 * std**2 + 1 / CLASSES) / square**2, rel=0.03)
    assert found.weight_square == pytest.approx(1 + (2 * CLASSES * std**4 + 4 * std**2) / square**2, rel=0.02)
    assert found.concentration == pytest.approx(1 / CLASSES, rel=0.01)
