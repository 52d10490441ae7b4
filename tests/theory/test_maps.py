"""`vgx.theory` as functions: closed forms, published values, simulated layers, and what it refuses."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

import vgx.theory as theory
from vgx.errors import TheoryError
from vgx.parts import ACTIVATIONS, NORMALIZATIONS
from vgx.parts.initializers import Normal, VarianceScaling
from vgx.theory.layer_response import Net, Signal
from vgx.theory.mean_field import propagate

LENGTHS = np.array([[0.01, 0.25, 1.0], [4.0, 25.0, 100.0]])
CORRELATIONS = np.array([-1.0, -0.3, 0.0, 0.5, 0.99, 1.0])
SQUARES = {
    "relu": lambda q: q / 2,
    "erf": lambda q: 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)),
    "sin": lambda q: (1 - np.exp(-2 * q)) / 2,
}
FACTORS = {
    "relu": lambda q: np.full_like(q, 0.5),
    "erf": lambda q: 4 / np.pi / np.sqrt(1 + 4 * q),
    "sin": lambda q: (1 + np.exp(-2 * q)) / 2,
    "gelu": lambda q: (
        1 / 4
        + np.arctan(q / np.sqrt(1 + 2 * q)) / (2 * np.pi)
        + q / (2 * np.pi * np.sqrt(1 + 2 * q)) * (1 / (1 + 2 * q) + (1 - q) / (1 + q) + 1)
    ),
}
PRODUCTS = {
    "relu": lambda q, c: q * (c / 2 + (np.sqrt(1 - c * c) - c * np.arccos(c)) / (2 * np.pi)),
    "erf": lambda q, c: 2 / np.pi * np.arcsin(2 * q * c / (1 + 2 * q)),
    "sin": lambda q, c: np.exp(-q) * np.sinh(q * c),
}
SLOPE_PRODUCTS = {
    "relu": lambda q, c: 1 / 2 - np.arccos(c) / (2 * np.pi) + 0 * q,
    "erf": lambda q, c: 4 / np.pi / np.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2),
    "sin": lambda q, c: np.exp(-q) * np.cosh(q * c),
}
PAIRS = {
    "tanh": (np.tanh, lambda h: 1 - np.tanh(h) ** 2),
    "sin": (np.sin, np.cos),
    "relu": theory.numpy_activation(lambda h: np.maximum(h, 0), lambda h: (h > 0).astype(float), [0.0]),
    "hard_tanh": theory.numpy_activation(lambda h: np.clip(h, -1, 1), lambda h: 1.0 * (abs(h) < 1), [1.0, -1.0]),
    "elu": theory.numpy_activation(
        lambda h: np.where(h > 0, h, np.expm1(np.minimum(h, 0))), lambda h: np.exp(np.minimum(h, 0)), [0.0]
    ),
}


@pytest.mark.parametrize("name", SQUARES)
def test_the_length_map_is_the_closed_form_in_the_shape_of_q(name):
    found = theory.length_map(name, LENGTHS, 1.5, 0.1)
    np.testing.assert_allclose(found, 1.5 * SQUARES[name](LENGTHS) + 0.1, rtol=1e-11)


@pytest.mark.parametrize("name", FACTORS)
def test_the_factor_is_the_closed_form_in_the_shape_of_q(name):
    np.testing.assert_allclose(theory.gradient_factor(name, LENGTHS, 1.5), 1.5 * FACTORS[name](LENGTHS), rtol=1e-11)


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_correlation_map_is_the_closed_form_for_every_pair_of_q_and_c(name):
    q, c = np.array([[0.05], [1.0], [3.0]]), CORRELATIONS
    expected = (1.5 * PRODUCTS[name](q, c) + 0.1) / (1.5 * SQUARES[name](q) + 0.1)
    found = theory.correlation_map(name, c, q, 1.5, 0.1)
    assert found.shape == (3, 6)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("name", SLOPE_PRODUCTS)
def test_the_factor_of_two_inputs_is_the_closed_form(name):
    q, c = np.array([[0.05], [1.0], [3.0]]), CORRELATIONS
    expected = 1.5 * SLOPE_PRODUCTS[name](q, c)
    np.testing.assert_allclose(theory.gradient_factor(name, q, 1.5, c), expected, atol=1e-9)


UNEQUAL = {
    "relu": (
        lambda q, r, c: np.sqrt(q * r) * (c / 2 + (np.sqrt(1 - c * c) - c * np.arccos(c)) / (2 * np.pi)),
        lambda q, r, c: 1 / 2 - np.arccos(c) / (2 * np.pi),
    ),
    "erf": (
        lambda q, r, c: 2 / np.pi * np.arcsin(2 * c * np.sqrt(q * r) / np.sqrt((1 + 2 * q) * (1 + 2 * r))),
        lambda q, r, c: 4 / np.pi / np.sqrt((1 + 2 * q) * (1 + 2 * r) - 4 * c * c * q * r),
    ),
    "sin": (
        lambda q, r, c: np.exp(-(q + r) / 2) * np.sinh(c * np.sqrt(q * r)),
        lambda q, r, c: np.exp(-(q + r) / 2) * np.cosh(c * np.sqrt(q * r)),
    ),
}


@pytest.mark.parametrize("name", UNEQUAL)
@pytest.mark.parametrize("lengths", [(0.3, 2.0), (3.0, 0.05), (1.0, 1.0), (0.0, 1.0)], ids=str)
def test_inputs_of_two_lengths_follow_the_closed_forms(name, lengths):
    product, slopes = UNEQUAL[name]
    after = [1.5 * SQUARES[name](x) + 0.1 for x in lengths]
    expected = (1.5 * product(*lengths, CORRELATIONS) + 0.1) / math.sqrt(after[0] * after[1])
    q, q_b = lengths
    np.testing.assert_allclose(theory.correlation_map(name, CORRELATIONS, q, 1.5, 0.1, q_b=q_b), expected, atol=1e-9)
    if q:
        found = theory.gradient_factor(name, q, 1.5, CORRELATIONS, q_b=q_b)
        np.testing.assert_allclose(found, 1.5 * slopes(*lengths, CORRELATIONS), atol=1e-9)


def test_hard_tanh_at_two_lengths_is_the_mean_over_draws():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 4_000_000))
    a, b = 0.8 * z[0], 2.0 * (0.6 * z[0] + 0.8 * z[1])
    cosine = theory.correlation_map("hard_tanh", 0.6, 0.64, 1.0, q_b=4.0)
    lengths = [theory.length_map("hard_tanh", q, 1.0) for q in (0.64, 4.0)]
    drawn = np.mean(np.clip(a, -1, 1) * np.clip(b, -1, 1))
    assert cosine * math.sqrt(lengths[0] * lengths[1]) == pytest.approx(drawn, abs=5 / math.sqrt(z.shape[1]))
    drawn = np.mean((abs(a) < 1) & (abs(b) < 1))
    factor = theory.gradient_factor("hard_tanh", 0.64, 1.0, 0.6, q_b=4.0)
    assert factor == pytest.approx(drawn, abs=2.5 / math.sqrt(z.shape[1]))


@pytest.mark.parametrize("name", ["tanh", "gelu", "elu", "softsign"])
def test_slopes_are_the_derivatives_of_their_maps(name):
    step = 1e-5
    up, down = (theory.length_map(name, LENGTHS * (1 + x), 1.5) for x in (step, -step))
    np.testing.assert_allclose(theory.length_slope(name, LENGTHS, 1.5), (up - down) / (2 * step * LENGTHS), rtol=1e-6)
    c, q = np.array([0.1, 0.5, 0.9]), 1.3
    up, down = (theory.correlation_map(name, c + x, q, 1.5) for x in (step, -step))
    slope = theory.gradient_factor(name, q, 1.5, c) * q / theory.length_map(name, q, 1.5)
    np.testing.assert_allclose((up - down) / (2 * step), slope, rtol=1e-6)


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "selu"])
def test_two_inputs_of_correlation_one_are_one(name):
    np.testing.assert_allclose(theory.correlation_map(name, 1.0, LENGTHS, 1.5, 0.1), 1.0, rtol=1e-10)
    one = theory.gradient_factor(name, 1.3, 1.5)
    assert theory.gradient_factor(name, 1.3, 1.5, 1.0) == pytest.approx(one, rel=1e-9)


@pytest.mark.parametrize("name", [part.name for part in ACTIVATIONS])
def test_maps_of_every_activation_rise(name):
    c = np.linspace(0, 1, 9)
    after = theory.correlation_map(name, c, 1.0, 1.5, 0.05)
    assert np.all(np.diff(after) > 0)
    lengths = np.array([0.1, 0.5, 1.0, 2.0])
    assert np.all(np.diff(theory.length_map(name, lengths, 1.5)) > 0)


@pytest.mark.parametrize("name", PAIRS)
def test_numpy_functions_say_what_the_registered_activation_says(name):
    given = PAIRS[name]
    for moment, other in zip(
        theory.gaussian_moments(name, LENGTHS, 0.3), theory.gaussian_moments(given, LENGTHS, 0.3), strict=True
    ):
        np.testing.assert_allclose(other, moment, rtol=1e-12)
    arguments = dict(weight_variance=1.7, bias_variance=0.05, normalization="layer", q=LENGTHS, c=0.4)
    for ours, theirs in zip(theory.layers(name, 5, **arguments), theory.layers(given, 5, **arguments), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-12)
    assert theory.fixed_point(given, 1.7, 0.05) == pytest.approx(theory.fixed_point(name, 1.7, 0.05), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "bias_variance", "weight_variance", "q"),
    [("tanh", 0.05, 1.76095, 0.57005), ("gelu", 0.17292239, 1.98305826, 3.5616)],
)
def test_critical_points_are_the_published_ones(name, bias_variance, weight_variance, q):
    found = theory.critical(name, bias_variance)
    assert found.weight_variance == pytest.approx(weight_variance, rel=3e-6)
    assert found.q == pytest.approx(q, rel=1e-4)


@pytest.mark.parametrize("bias_variance", [1e-9, 0.01, 0.3, 5.0])
@pytest.mark.parametrize("name", ["tanh", "logistic", "erf", "elu", "gelu", "silu", "selu", "sin"])
def test_at_a_critical_point_gradients_and_lengths_stay(name, bias_variance):
    weight_variance, q = theory.critical(name, bias_variance)
    assert theory.gradient_factor(name, q, weight_variance) == pytest.approx(1.0, rel=1e-12)
    assert theory.length_map(name, q, weight_variance, bias_variance) == pytest.approx(q, rel=1e-10)


def test_critical_points_of_erf_solve_their_closed_form():
    # pi / 4 sqrt(1 + 4 q) 2 / pi asin(2 q / (1 + 2 q)) + bias variance = q
    weight_variance, q = theory.critical("erf", 0.2)
    assert weight_variance == pytest.approx(math.pi / 4 * math.sqrt(1 + 4 * q), rel=1e-12)
    assert weight_variance * 2 / math.pi * math.asin(2 * q / (1 + 2 * q)) + 0.2 == pytest.approx(q, rel=1e-12)


def test_the_critical_line_of_tanh_rises_with_the_biases_from_one():
    variances = [theory.critical("tanh", bias_variance).weight_variance for bias_variance in (0, 0.01, 0.05, 0.3, 2)]
    assert variances[0] == pytest.approx(1.0, rel=1e-12)
    assert np.all(np.diff(variances) > 0)


def test_without_biases_activations_through_the_origin_are_critical_at_length_zero_and_relu_at_any():
    assert theory.critical("tanh") == pytest.approx((1.0, 0.0))
    assert theory.critical("gelu") == pytest.approx((4.0, 0.0))
    assert theory.critical("selu").q == 0
    slope = 0.2
    found = theory.critical({"name": "leaky_relu", "negative_slope": slope})
    assert found.weight_variance == pytest.approx(2 / (1 + slope**2), rel=1e-12)
    assert math.isnan(found.q)


def test_the_length_at_the_critical_point_of_gelu_is_half_stable():
    weight_variance, q = theory.critical("gelu", 0.17292239)
    assert theory.length_slope("gelu", q, weight_variance) == pytest.approx(1.0, abs=1e-7)
    assert theory.fixed_point("gelu", weight_variance, 0.17292239).q < q - 0.5  # from below it is not reached


def test_fixed_point_and_depth_scales_of_tanh_are_the_published_ones():
    q, c, factor = theory.fixed_point("tanh", 2.25, 0.05)
    assert (q, c, factor) == pytest.approx((0.889425, 0.56722, 1.092338), rel=1e-5)
    scales = theory.depth_scales("tanh", 2.25, 0.05)
    assert scales.correlation == pytest.approx(15.117, rel=1e-4)
    assert scales.gradient == pytest.approx(1 / math.log(factor), rel=1e-9)
    lengths = theory.layers("tanh", 12, 2.25, 0.05, q=q * 1.001).q - q
    assert lengths[10] / lengths[9] == pytest.approx(math.exp(-1 / scales.length), rel=1e-3)


def test_depth_scales_of_relu_are_infinite_where_nothing_changes():
    assert theory.depth_scales("relu", 2.0) == (math.inf, math.inf, math.inf)
    assert theory.depth_scales("relu", 1.0).gradient == pytest.approx(1 / math.log(2))
    assert theory.depth_scales("relu", 1.0).length == pytest.approx(1 / math.log(2))
    assert theory.fixed_point("relu", 2.0, 0.05).q == math.inf
    assert theory.depth_scales("tanh", 2.0, normalization="layer").length == 0


@pytest.mark.parametrize("normalization", ["none", "layer", "rms", "batch"])
@pytest.mark.parametrize("placement", ["before", "after"])
def test_layers_are_those_of_a_prediction(normalization, placement):
    norm = {"name": normalization} | ({"placement": placement} if normalization != "none" else {})
    part = NORMALIZATIONS.parse(norm)

    net = Net(
        (64, *[128] * 8, 10), ACTIVATIONS.parse("elu"), VarianceScaling(scale=1.4), Normal(std=0.3), part, 0.0, 64
    )
    curves = propagate(net, Signal(0.3, 0.2, 0.0))
    q = 1.4 * 0.3 + 0.09
    found = theory.layers("elu", 8, 1.4, 0.09, normalization=norm, q=q, c=(1.4 * 0.2 + 0.09) / q, batch=64)
    # The gradient of the readout is of random sign: batch norm's topmost factor is another.
    np.testing.assert_allclose(found.factor[:7], curves.factor[:7], rtol=1e-7)
    assert np.isnan(found.pair_factor).all() == (normalization == "batch")


def test_layers_are_the_maps_in_turn():
    q, c = np.array([[0.5], [2.0]]), np.array([-0.5, 0.1, 0.9])
    found = theory.layers("silu", 6, 1.8, 0.1, q=q, c=c)
    assert found.factor.shape == (2, 3, 6)
    for layer in range(6):
        lengths, correlations = np.broadcast_arrays(q, c)
        np.testing.assert_allclose(found.q[..., layer], lengths, rtol=1e-12)
        np.testing.assert_allclose(found.c[..., layer], correlations, atol=1e-10)
        np.testing.assert_allclose(found.factor[..., layer], theory.gradient_factor("silu", q, 1.8) + 0 * c, rtol=1e-12)
        pair = theory.gradient_factor("silu", q, 1.8, c)
        np.testing.assert_allclose(found.pair_factor[..., layer], pair, rtol=1e-9)
        q, c = theory.length_map("silu", lengths, 1.8, 0.1), theory.correlation_map("silu", c, q, 1.8, 0.1)


def test_lengths_far_out_are_zero_and_infinity_and_factors_go_on():
    up, down = theory.layers("relu", 300, 6.0), theory.layers("relu", 300, 2 / 3)
    assert up.q[-1] == math.inf
    assert down.q[-1] == 0
    np.testing.assert_allclose(up.factor, 3, rtol=1e-12)
    np.testing.assert_allclose(down.factor, 1 / 3, rtol=1e-12)


REFUSED = {
    "did you mean 'tanh'": lambda: theory.critical("tahn"),
    "negative_slope: Input should be less": lambda: theory.length_map(
        {"name": "leaky_relu", "negative_slope": 3}, 1, 1
    ),
    "needs its derivative": lambda: theory.critical(np.tanh),
    "two numpy functions": lambda: theory.critical((np.tanh, 1.0)),
    "is not that of f": lambda: theory.critical((np.tanh, np.cos)),
    "for each element": lambda: theory.numpy_activation(np.sum, np.cos),
    "no activation is called": lambda: theory.fixed_point("mystery", 1.0),
    "did you mean 'layer'": lambda: theory.layers("relu", 2, 1.0, normalization="layr"),
    "weight_variance: expected a positive": lambda: theory.layers("relu", 2, 0.0),
    "bias_variance: expected 0 or more": lambda: theory.critical("tanh", -0.1),
    "q: a length": lambda: theory.length_map("relu", [1.0, -1.0], 1.0),
    "c: a correlation": lambda: theory.correlation_map("relu", 1.1, 1.0, 1.0),
    "depth: a net": lambda: theory.layers("relu", 0, 1.0),
    "batch: batch norm": lambda: theory.layers("relu", 2, 1.0, normalization="batch", batch=1),
    "square: expected": lambda: theory.fixed_point("relu", 2.0, square=0.0),
    "relu: no weight variance is critical at a bias variance of 0.05": lambda: theory.critical("relu", 0.05),
    "softplus: no weight variance is critical": lambda: theory.critical("softplus"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_has_no_answer_is_refused_in_one_line(words):
    with pytest.raises(TheoryError) as refusal:
        REFUSED[words]()
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_importing_the_package_loads_no_jax():
    code = "import sys, vgx.theory; assert 'jax' not in sys.modules; vgx.theory.critical; assert 'jax' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
