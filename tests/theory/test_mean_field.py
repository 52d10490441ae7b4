"""Theory against closed forms, published values and brute force; in float64 throughout."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erfcx, ndtr

from vgx.parts import ACTIVATIONS, BIASES, INITIALIZERS, NORMALIZATIONS
from vgx.parts.activations import Activation
from vgx.theory.layer_response import Net, Signal
from vgx.theory.limits import Limit, limit
from vgx.theory.mean_field import propagate
from vgx.theory.moments import Sampler, Table, gaussian, gaussian_pair, moments_of, sphere
from vgx.theory.quadrature import panels

VARIANCES = [0.01, 0.25, 1.0, 4.0, 100.0]
INPUT = Signal(square=0.3, cross=0.2, mean=0.25)


def net(
    activation: Any = "relu",
    initializer: Any = "lecun_normal",
    bias: Any = "zeros",
    normalization: Any = "none",
    dropout: float = 0.0,
    batch: int = 128,
    widths: tuple[int, ...] = (128,) * 20,
) -> Net:
    return Net(
        (64, *widths, 10),
        ACTIVATIONS.parse(activation),
        INITIALIZERS.parse(initializer),
        BIASES.parse(bias),
        NORMALIZATIONS.parse(normalization),
        dropout,
        batch,
    )


def scaled(variance: float) -> dict[str, Any]:
    """An initializer with n_in Var(W) = `variance`."""
    return {"name": "variance_scaling", "scale": variance}


def normal(variance: float) -> dict[str, Any]:
    """Biases of that variance."""
    return {"name": "normal", "std": math.sqrt(variance)}


def far_up(*args: Any, **kwargs: Any) -> Limit:
    return limit(net(*args, **kwargs), INPUT)


# One input.


def leaky(a: float):
    return lambda q: ((1 - a) * math.sqrt(q / (2 * math.pi)), (1 + a * a) * q / 2, (1 + a * a) / 2)


def rrelu(low: float, high: float):
    mean, square = (low + high) / 2, (low * low + low * high + high * high) / 3
    return lambda q: ((1 - mean) * math.sqrt(q / (2 * math.pi)), (1 + square) * q / 2, (1 + square) / 2)


def elu(alpha: float, scale: float = 1.0):
    def moments(q: float):
        s = math.sqrt(q)
        one, two = erfcx(s / math.sqrt(2)) / 2, erfcx(2 * s / math.sqrt(2)) / 2  # e^{q/2} Phi(-s), e^{2q} Phi(-2s)
        return (
            scale * (math.sqrt(q / (2 * math.pi)) + alpha * (one - 0.5)),
            scale**2 * (q / 2 + alpha**2 * (two - 2 * one + 0.5)),
            scale**2 * (0.5 + alpha**2 * two),
        )

    return moments


def gelu(q: float):
    root = math.sqrt(1 + 2 * q)
    slope = 1 / 4 + math.atan(q / root) / (2 * math.pi)
    slope += q / (2 * math.pi * root) * (1 / (1 + 2 * q) + (1 - q) / (1 + q) + 1)
    return q / math.sqrt(2 * math.pi * (1 + q)), None, slope


def hard_tanh(q: float):
    a = 1 / math.sqrt(q)
    middle, density = 1 - 2 * ndtr(-a), math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    return 0.0, q * (middle - 2 * a * density) + 2 * ndtr(-a), middle


CLOSED = {
    "identity": ("identity", lambda q: (0.0, q, 1.0)),
    "relu": ("relu", leaky(0.0)),
    "leaky": ({"name": "leaky_relu", "negative_slope": 0.2}, leaky(0.2)),
    "prelu": ({"name": "prelu", "initial": 0.25}, leaky(0.25)),
    "rrelu": ("rrelu", rrelu(1 / 8, 1 / 3)),
    "erf": ("erf", lambda q: (0.0, 2 / math.pi * math.asin(2 * q / (1 + 2 * q)), 4 / math.pi / math.sqrt(1 + 4 * q))),
    "sin": ("sin", lambda q: (0.0, (1 - math.exp(-2 * q)) / 2, (1 + math.exp(-2 * q)) / 2)),
    "elu": ("elu", elu(1.0)),
    "elu 0.5": ({"name": "elu", "alpha": 0.5}, elu(0.5)),
    "selu": ("selu", elu(1.6732632423543778, 1.0507009873554805)),
    "gelu": ("gelu", gelu),
    "hard_tanh": ("hard_tanh", hard_tanh),
}


@pytest.mark.parametrize("q", VARIANCES)
@pytest.mark.parametrize("name", CLOSED)
def test_quadrature_gives_every_closed_form(name, q):
    activation, closed = CLOSED[name]
    found = gaussian(ACTIVATIONS.parse(activation), 0.0, math.sqrt(q))
    for value, exact in zip((found.mean, found.square, found.slope_square), closed(q), strict=True):
        if exact is not None:
            assert value == pytest.approx(exact, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("mean", [0.0, -0.7])
@pytest.mark.parametrize("part", list(ACTIVATIONS), ids=lambda part: part.name)
def test_quadrature_gives_what_brute_force_gives_for_every_activation(part, mean, float64):
    if part.random:
        pytest.skip("its closed form is tested above")
    activation = part()
    z = np.linspace(-10, 10, 400_001)
    weight = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    h = jnp.asarray(mean + 1.3 * z)
    f, slope = map(np.asarray, jax.jvp(activation, (h,), (jnp.ones_like(h),)))
    found = gaussian(activation, mean, 1.3)
    # Where a slope jumps, brute force is wrong by half a spacing: 1e-5 of f'^2's jump, and of f'^4's, up to 10.
    assert found.mean == pytest.approx(weight @ f, abs=1e-8)
    assert found.square == pytest.approx(weight @ f**2, rel=1e-8)
    assert found.slope_square == pytest.approx(weight @ slope**2, rel=5e-5)
    assert found.slope_fourth == pytest.approx(weight @ slope**4, rel=2e-4)


# Off the centre: closed forms in the mean m and the deviation s, phi and Phi as erfcx has them, good in the tails.


def density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def relu_at(m: float, s: float):
    r, below = m / s, ndtr(m / s)
    return m * below + s * density(r), s * s * ((1 + r * r) * below + r * density(r)), below


def elu_at(m: float, s: float):
    """E[e^{kh}; h < 0] = e^{-r^2/2} erfcx((r + k s) / sqrt 2) / 2, with r = m / s."""
    r = m / s
    none, one, two = (math.exp(-r * r / 2) * erfcx((r + k * s) / math.sqrt(2)) / 2 for k in (0, 1, 2))
    mean, square, above = relu_at(m, s)
    return mean + one - none, square + two - 2 * one + none, above + two


def erf_at(m: float, s: float):
    slope = 4 / math.pi * math.exp(-2 * m * m / (1 + 4 * s * s)) / math.sqrt(1 + 4 * s * s)
    return math.erf(m / math.sqrt(1 + 2 * s * s)), None, slope


def sin_at(m: float, s: float):
    damped = math.exp(-2 * s * s) * math.cos(2 * m)
    return math.exp(-s * s / 2) * math.sin(m), (1 - damped) / 2, (1 + damped) / 2


def gelu_at(m: float, s: float):
    r = m / math.sqrt(1 + s * s)
    return m * ndtr(r) + s * s / math.sqrt(1 + s * s) * density(r), None, None


@pytest.mark.parametrize(
    ("mean", "variance"), [(-5, 1), (-5, 30), (-30, 10), (-30, 1000), (-1, 0.04), (3, 1), (20, 1000)]
)
@pytest.mark.parametrize(
    ("name", "closed"), [("relu", relu_at), ("elu", elu_at), ("erf", erf_at), ("sin", sin_at), ("gelu", gelu_at)]
)
def test_off_the_centre_too_quadrature_gives_every_closed_form(name, closed, mean, variance):
    found = gaussian(ACTIVATIONS.parse(name), mean, math.sqrt(variance))
    for value, exact in zip(
        (found.mean, found.square, found.slope_square), closed(mean, math.sqrt(variance)), strict=True
    ):
        if exact is not None:
            # Relative, in the tail too: at -5 deviations E[relu^2] is 2e-8. The closed forms cancel there, 1e4-fold;
            # what is beyond ten deviations (1e-23) is left out, and a sine of many turns averages to rounding.
            assert value == pytest.approx(exact, rel=1e-9, abs=1e-15 if name == "sin" else 1e-22)


MEANS, EVERY_VARIANCE = (-30.0, -5.0, -1.0, 5.0, 30.0), (1e-6, 1e-2, 1.0, 30.0, 1e3)


@pytest.mark.parametrize("part", list(ACTIVATIONS), ids=lambda part: part.name)
def test_second_moments_are_right_and_never_negative_whatever_the_mean(part):
    activation = part()
    sampler = Sampler(activation)
    for mean in MEANS:
        table = Table(activation, mean)
        for std in map(math.sqrt, EVERY_VARIANCE):
            # Brute force: 16,000 nodes, cut at the kinks.
            kinks = (np.array(activation.kinks or (0.0,)) - mean) / std
            z, weight = panels(np.unique(np.append(np.linspace(-10, 10, 1001), np.clip(kinks, -10, 10))))
            weight = weight * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
            exact = moments_of(weight, sampler.values(mean + std * z), sampler.slopes(mean + std * z))
            for found in (gaussian(activation, mean, std), table.moments(std)):
                assert found.variance >= 0
                assert found.slope_square >= 0
                assert found.fourth >= 0
                # 1e-20: what lies beyond ten deviations, and what float64 leaves of f - E[f].
                assert found.square == pytest.approx(float(exact.square), rel=1e-8, abs=1e-20)
                assert found.variance == pytest.approx(float(exact.variance), rel=1e-8, abs=1e-20)
                assert found.slope_square == pytest.approx(float(exact.slope_square), rel=1e-8, abs=1e-20)


@pytest.mark.parametrize("part", list(ACTIVATIONS), ids=lambda part: part.name)
def test_a_constant_bias_of_any_size_is_predicted(part):
    for bias in (-30.0, -5.0, 5.0, 30.0):
        curves = propagate(net(part.name, "he_normal", {"name": "constant", "value": bias}, widths=(64,) * 3), INPUT)
        assert not np.isnan(curves.delta_log10).any()
        assert (curves.act_rms >= 0).all()
        assert ((np.abs(curves.cosine) <= 1) | np.isnan(curves.cosine)).all()
    assert far_up(part.name, "he_normal", {"name": "constant", "value": -5.0}).fixed_point.q > 0


def test_a_sine_that_turns_often_forgets_its_inputs_at_once():
    # E[cos cos] is e^{-900}: what is left of it is the error of quadrature, which may be negative.
    found = far_up("sin", {"name": "normal", "std": 1.0}, {"name": "normal", "std": 30.0}, widths=(64,) * 3)
    assert found.correlation_depth_scale == pytest.approx(0, abs=0.2)


def test_a_net_that_is_off_passes_on_its_biases_and_has_no_cosine():
    given = net("relu", "he_normal", {"name": "constant", "value": -5.0}, widths=(64,) * 20)
    curves = propagate(given, INPUT)
    assert (curves.delta_log10[:-1] == -math.inf).all()
    assert np.isnan(curves.cosine[1:-1]).all()
    assert limit(given, INPUT).fixed_point.q == 25.0


def test_a_normal_of_no_width_is_a_point():
    found = gaussian(ACTIVATIONS.parse("tanh"), 0.5, 0.0)
    assert (found.mean, found.variance) == pytest.approx((math.tanh(0.5), 0))
    assert found.slope_square == pytest.approx((1 - math.tanh(0.5) ** 2) ** 2)


# Two inputs.

COSINES = [-0.9, 0.0, 0.3, 0.95, 1 - 1e-9, 1.0]


@pytest.mark.parametrize("c", COSINES)
@pytest.mark.parametrize("q", VARIANCES)
@pytest.mark.parametrize("a", [0.0, 0.2])
def test_two_inputs_of_leaky_relu_have_the_arc_cosine_kernel(a, q, c):
    """Cho and Saul 2009."""
    found = gaussian_pair(ACTIVATIONS.parse({"name": "leaky_relu", "negative_slope": a}), 0.0, math.sqrt(q), c)
    angle = math.acos(c)
    bent = (1 - a) ** 2 / (2 * math.pi)
    exact = q * ((1 + a * a) * c / 2 + bent * (math.sqrt(1 - c * c) - c * angle))
    assert found.product == pytest.approx(exact, rel=1e-8, abs=1e-10 * q)
    assert found.slope_product == pytest.approx((1 + a * a) / 2 - bent * angle, rel=1e-8)


@pytest.mark.parametrize("c", COSINES)
@pytest.mark.parametrize("q", VARIANCES)
def test_two_inputs_of_erf_have_the_arc_sine_kernel(q, c):
    """Williams 1997."""
    found = gaussian_pair(ACTIVATIONS.parse("erf"), 0.0, math.sqrt(q), c)
    root = math.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)
    assert found.product == pytest.approx(2 / math.pi * math.asin(2 * q * c / (1 + 2 * q)), rel=1e-8, abs=1e-11)
    assert found.slope_product == pytest.approx(4 / math.pi / root, rel=1e-7)


@pytest.mark.parametrize("mean", [0.0, 0.3])
@pytest.mark.parametrize("name", ["hard_tanh", "elu", "gelu", "sin"])
def test_two_equal_inputs_are_one(name, mean):
    one, two = gaussian(ACTIVATIONS.parse(name), mean, 0.8), gaussian_pair(ACTIVATIONS.parse(name), mean, 0.8, 1.0)
    assert two.product == pytest.approx(one.square, rel=1e-9)
    assert two.slope_product == pytest.approx(one.slope_square, rel=1e-9)


@pytest.mark.parametrize("mean", [0.0, 0.3])
@pytest.mark.parametrize("name", ["hard_tanh", "elu", "gelu", "sin"])
def test_two_independent_inputs_have_a_product_of_means(name, mean):
    one, two = gaussian(ACTIVATIONS.parse(name), mean, 0.8), gaussian_pair(ACTIVATIONS.parse(name), mean, 0.8, 0.0)
    assert two.product == pytest.approx(one.mean**2, rel=1e-9, abs=1e-12)
    assert two.covariance == pytest.approx(0, abs=1e-12)


def test_random_slopes_are_drawn_for_each_of_two_inputs():
    activation = ACTIVATIONS.parse("rrelu")
    found = gaussian_pair(activation, 0.0, 1.0, 1.0)
    mean_slope = (1 / 8 + 1 / 3) / 2
    assert found.slope_product == pytest.approx((1 + mean_slope**2) / 2, rel=1e-9)
    assert found.slope_product < gaussian(activation, 0.0, 1.0).slope_square


@pytest.mark.parametrize("std", [1e-6, 0.013, 0.7, 1.7])
@pytest.mark.parametrize("name", ["relu", "tanh", "elu", "gelu", "logistic"])
def test_a_table_reads_what_quadrature_gives(name, std, monkeypatch):
    monkeypatch.setattr(Table, "PATIENCE", 0)
    activation = ACTIVATIONS.parse(name)
    table, exact = Table(activation, 0.0), gaussian(activation, 0.0, std)
    found = table.moments(std)
    assert found.square == pytest.approx(float(exact.square), rel=1e-9)
    assert found.slope_square == pytest.approx(float(exact.slope_square), rel=1e-9)
    for c in (-0.4, 0.3, 0.99):
        pair = gaussian_pair(activation, 0.0, std, c)
        assert table.correlation(std, c) == pytest.approx(float(pair.covariance / exact.variance), abs=1e-8)


# The factors of normalized layers.

FACTORS = {  # E f, E f^2, E f'^2, the factor of layer norm, RMS norm and LSUV, the factor of batch norm
    "identity": (0, 1, 1, 1, 1),
    "logistic": (0.5, 0.2934, 0.0448, 0.1528, 1.0336),
    "tanh": (0, 0.3943, 0.4644, 1.1778, 1.1778),
    "relu": (0.3989, 0.5, 0.5, 1, 1.4669),
    "leaky_relu": (0.3192, 0.52, 0.52, 1, 1.2436),
    "elu": (0.1605, 0.6449, 0.6681, 1.0359, 1.0790),
    "selu": (0, 1, 1.0716, 1.0716, 1.0716),
    "gelu": (0.2821, 0.4252, 0.4559, 1.0720, 1.3188),
    "silu": (0.2066, 0.3558, 0.3795, 1.0666, 1.2121),
}
EXACTLY = {"epsilon": 0.0}


def at_one(name: str) -> Any:
    return {"name": name, "negative_slope": 0.2} if name == "leaky_relu" else name


@pytest.mark.parametrize("name", FACTORS)
def test_normalized_layers_have_their_published_factors(name):
    activation = at_one(name)
    found = gaussian(ACTIVATIONS.parse(activation), 0.0, 1.0)
    factors = [
        far_up(activation, "he_normal", normalization={"name": kind} | EXACTLY).fixed_point.factor
        for kind in ("layer", "rms")
    ]
    factors.append(far_up(activation, "lsuv").fixed_point.factor)
    large = far_up(activation, "he_normal", normalization={"name": "batch"} | EXACTLY, batch=10**7).fixed_point.factor
    mean, square, slope, by_example, by_batch = FACTORS[name]
    assert [found.mean, found.square, found.slope_square] == pytest.approx([mean, square, slope], abs=5.1e-5)
    assert factors == pytest.approx([by_example] * 3, abs=5.1e-5)
    assert large == pytest.approx(by_batch, abs=5.1e-5)


@pytest.mark.parametrize("batch", [4, 5, 6, 7, 8, 32, 128, 1000])
def test_batch_norm_of_a_linear_net_has_the_factor_of_its_lost_degrees_of_freedom(batch):
    found = far_up("identity", normalization={"name": "batch"} | EXACTLY, batch=batch).fixed_point
    assert found.factor == pytest.approx((batch - 2) / (batch - 3), rel=1e-10)
    assert found.c == pytest.approx(-1 / (batch - 1), rel=1e-10)


def test_batch_norm_of_relu_has_its_published_factors():
    of = {
        batch: far_up("relu", normalization={"name": "batch"} | EXACTLY, batch=batch).fixed_point.factor
        for batch in (32, 10**8)
    }
    assert of[32] == pytest.approx(1.5220, abs=5.1e-5)
    assert of[10**8] == pytest.approx(math.pi / (math.pi - 1), rel=1e-6)


def test_a_batch_of_two_passes_no_gradient():
    assert far_up("relu", normalization="batch", batch=2).fixed_point.factor == 0


def test_a_normalized_batch_has_mean_0_and_variance_1():
    for batch in (2, 3, 4, 5, 16, 1000):
        found = sphere(ACTIVATIONS.parse("identity"), 1.0, batch)
        assert (found.mean, found.square, found.product) == pytest.approx((0, 1, -1 / (batch - 1)), abs=1e-12)


@pytest.mark.parametrize("name", ["relu", "tanh", "logistic", "gelu"])
def test_normalization_after_the_activation_divides_by_what_it_finds(name):
    of = gaussian(ACTIVATIONS.parse(name), 0.0, math.sqrt(2))

    def factor(kind: str, batch: int = 128) -> float:
        norm = {"name": kind, "placement": "after"} | EXACTLY
        return far_up(name, "he_normal", normalization=norm, batch=batch).fixed_point.factor

    assert factor("layer") == pytest.approx(2 * of.slope_square / of.variance, rel=1e-9)
    assert factor("rms") == pytest.approx(2 * of.slope_square / of.square, rel=1e-9)
    assert factor("batch", 10**9) == pytest.approx(2 * of.slope_square / of.variance, rel=1e-7)


def test_epsilon_takes_its_share_of_the_factor():
    q, epsilon = 2 * 0.5, 0.1
    norm = {"name": "rms", "placement": "after", "epsilon": epsilon}
    # x has mean square r = s / (s + epsilon) where s = E f^2 = sigma_w^2 r / 2, so r = 1 - epsilon with sigma_w^2 = 2.
    found = far_up("relu", "he_normal", normalization=norm).fixed_point
    assert found.q == pytest.approx(2 * (1 - epsilon), rel=1e-9)
    assert found.factor == pytest.approx(q / (1 - epsilon + epsilon), rel=1e-9)


# Plain nets.


@pytest.mark.parametrize(
    ("name", "variance", "q", "factor"),
    [
        ("logistic", 1.0, 0.26469, 0.055721),
        ("logistic", 2.0, 0.55529, 0.10098),
        ("tanh", 1.0, 0.0, 1.0),
        ("tanh", 2.0, 0.61796, 1.10553),
        ("selu", 1.0, 1.0, 1.07157),
        ("elu", 1.0, 0.0, 1.0),
        ("elu", 2.0, math.inf, 1.0),
        ("gelu", 1.0, 0.0, 0.25),
        ("gelu", 2.0, 0.0, 0.5),
        ("silu", 1.0, 0.0, 0.25),
        ("silu", 2.0, 0.0, 0.5),
        ("relu", 1.0, 0.0, 0.5),
    ],
)
def test_plain_nets_lead_where_science_says(name, variance, q, factor):
    found = far_up(name, scaled(variance)).fixed_point
    assert found.q == pytest.approx(q, abs=5.1e-6)
    assert found.factor == pytest.approx(factor, abs=5.1e-6)


def test_tanh_with_biases_has_its_published_fixed_point_and_depth_scale():
    found = far_up("tanh", scaled(1.5**2), normal(0.05))
    assert found.phase == "chaotic"
    assert found.fixed_point.q == pytest.approx(0.889425, abs=5.1e-7)
    assert found.fixed_point.factor == pytest.approx(1.092338, abs=5.1e-7)
    assert found.fixed_point.c == pytest.approx(0.56722, abs=5.1e-6)
    assert found.correlation_depth_scale == pytest.approx(15.117, abs=5.1e-4)
    assert found.depth_scale == pytest.approx(1 / math.log(1.092338), rel=1e-5)


def test_the_critical_pair_of_tanh_is_critical():
    found = far_up("tanh", scaled(1.76095), normal(0.05))
    assert found.phase == "critical"
    assert found.fixed_point.q == pytest.approx(0.57005, abs=5.1e-6)
    assert found.fixed_point.factor == pytest.approx(1, abs=1e-5)


def test_gelu_is_critical_at_its_half_stable_fixed_point():
    """Roberts, Yaida and Hanin 2022, The Principles of Deep Learning Theory, section 5.3.4."""
    weights, biases, q = 1.98305826, 0.17292239, (3 + math.sqrt(17)) / 2
    found = gaussian(ACTIVATIONS.parse("gelu"), 0.0, math.sqrt(q))
    assert weights * found.slope_square == pytest.approx(1, abs=1e-8)
    assert weights * found.square + biases == pytest.approx(q, abs=1e-8)


def test_tanh_at_the_edge_falls_as_a_power_and_not_exponentially():
    curves = propagate(net("tanh", widths=(128,) * 2000), INPUT)
    layer = np.arange(1, 2001)
    late = slice(500, 1999)
    assert (1 - curves.factor[:-1][late]) * layer[late] == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "bias", "phase"),
    [
        (("relu", scaled(2.0)), "zeros", "scale-invariant"),
        (("relu", scaled(1.0)), "zeros", "scale-invariant"),
        (("identity", scaled(1.0)), "zeros", "scale-invariant"),
        (("relu", scaled(1.0)), normal(0.1), "ordered"),
        (("relu", "lsuv"), "zeros", "critical"),
        (("logistic", scaled(1.0)), "zeros", "ordered"),
        (("tanh", scaled(2.0)), "zeros", "chaotic"),
        (("tanh", scaled(1.0)), "zeros", "critical"),
    ],
)
def test_every_phase_has_its_nets(kind, bias, phase):
    assert far_up(*kind, bias).phase == phase


def test_relu_with_biases_settles_where_the_geometric_series_does():
    found = far_up("relu", scaled(1.0), normal(0.1)).fixed_point
    assert found == pytest.approx((0.2, 1.0, 0.5), rel=1e-9)


def test_a_constant_bias_shifts_and_does_not_widen():
    found = far_up("identity", scaled(0.5), {"name": "constant", "value": 0.3}).fixed_point
    # h = 0.3 + a normal of variance v = (v + 0.09) / 2 = 0.09, and every example has the same h.
    assert found == pytest.approx((0.18, 1.0, 0.5), rel=1e-9)


def test_dropout_keeps_equal_inputs_apart():
    found = far_up("identity", "lecun_normal", normalization={"name": "rms"} | EXACTLY, dropout=0.5, bias=normal(1.0))
    assert found.fixed_point.c < 1


# Whole nets.


@pytest.mark.parametrize("depth", [1, 2, 10, 100])
def test_xavier_loses_exactly_a_factor_root_two_per_layer_of_relu_against_he(depth):
    xavier, he = (
        propagate(net("relu", name, widths=(128,) * depth), INPUT, wide=True).delta_log10
        for name in ("glorot_normal", "he_normal")
    )
    inner = slice(0, depth)
    lost = (xavier - xavier[depth - 1] - he + he[depth - 1])[inner]
    assert lost == pytest.approx(-0.5 * math.log10(2) * np.arange(depth - 1, -1, -1), abs=1e-9)


@pytest.mark.parametrize("name", ["lecun_normal", "he_uniform", "glorot_normal", "torch_default", "orthogonal"])
def test_uneven_widths_scale_by_fan_in_forward_and_fan_out_backward(name):
    sizes = (64, 300, 50, 200, 10)
    curves = propagate(net("relu", name, widths=sizes[1:-1]), INPUT)
    variance = [INITIALIZERS.parse(name).variance(*shape) for shape in pairwise(sizes)]
    forward = [n * v for n, v in zip(sizes, variance, strict=False)]
    assert curves.factor[:-1] == pytest.approx(
        [n * v / 2 for n, v in zip(sizes[1:], variance[1:], strict=False)], rel=1e-9
    )
    assert curves.preact_std**2 == pytest.approx(np.cumprod(forward) * 0.3 / 2.0 ** np.arange(4), rel=1e-9)
    assert curves.act_rms[:-1] ** 2 == pytest.approx(curves.preact_std[:-1] ** 2 / 2, rel=1e-9)


@pytest.mark.parametrize("part", list(INITIALIZERS), ids=lambda part: part.name)
def test_every_initializer_is_predicted(part):
    options = {"value": 0.1} if part.name == "constant" else {}
    given = net("tanh", {"name": part.name} | options)
    curves = propagate(given, INPUT)
    assert not np.isnan(curves.delta_log10).any()
    limit(given, INPUT)
    if part.name in ("zeros", "constant"):
        # Constant weights hand each unit the sum of the softmax's deltas, which is 0.
        assert np.all(np.isneginf(curves.delta_log10[:-1]))


def test_lsuv_gives_every_layer_a_variance_of_1():
    curves = propagate(net("gelu", "lsuv", widths=(300, 100, 50)), INPUT)
    assert curves.preact_std == pytest.approx(np.ones(4), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "initializer"), [("relu", "he_normal"), ("relu", "glorot_normal"), ("logistic", "lecun_normal")]
)
def test_a_net_of_10_000_layers_is_predicted(name, initializer):
    curves = propagate(net(name, initializer, widths=(128,) * 10_000), INPUT)
    assert np.isfinite(curves.delta_log10).all()
    assert np.isfinite(curves.cosine).all()
    deep = propagate(net(name, initializer, widths=(128,) * 10_000), INPUT, wide=True).delta_log10
    slope = deep[5000] - deep[4999]
    factor = far_up(name, initializer).fixed_point.factor
    assert slope == pytest.approx(-0.5 * math.log10(factor), abs=1e-9)


def test_what_leaves_the_range_of_floats_is_reported_so():
    assert propagate(net("relu", "glorot_normal", widths=(128,) * 2000), INPUT).act_rms[1999] == 0
    assert propagate(net("relu", scaled(4.0), widths=(128,) * 2000), INPUT).act_rms[1999] == math.inf


class Listed(Activation):
    """An activation as a user may write it: a kink, and an option that is not hashable."""

    slopes: list[float]
    kinks = (0.3,)

    def __call__(self, h):
        return jnp.where(h > 0.3, self.slopes[1] * (h - 0.3), self.slopes[0] * (h - 0.3))


class Noisy(Activation):
    """An activation with random numbers of a user's own."""

    random = True
    kinks = (0.0,)

    def __call__(self, h):
        return h

    def train(self, h, parameters, key):
        return h * jax.random.uniform(key, h.shape, h.dtype, 0.5, 1.5)


def test_an_activation_of_a_users_own_needs_nothing_more():
    found = gaussian(Listed(slopes=[0.5, 2.0]), 0.3, 1.2)
    assert found.slope_square == pytest.approx((0.25 + 4) / 2, rel=1e-9)
    assert found.square == pytest.approx((0.25 + 4) / 2 * 1.44, rel=1e-9)
    assert gaussian(Listed(slopes=[1.0, 2.0]), 0.3, 1.2).slope_square == pytest.approx(2.5, rel=1e-9)
    for normalization in ("none", "batch", "layer", {"name": "batch", "placement": "after"}):
        given = net(normalization=normalization)._replace(activation=Listed(slopes=[0.5, 2.0]))
        assert np.isfinite(propagate(given, INPUT).delta_log10).all()
        assert limit(given, INPUT).phase


def test_a_random_activation_of_a_users_own_is_sampled():
    # 64 draws at each of some 700 nodes, of which 100 carry the weight: the mean of the square is good to 1 %.
    assert gaussian(Noisy(), 0.0, 1.0).slope_square == pytest.approx(13 / 12, rel=0.02)
