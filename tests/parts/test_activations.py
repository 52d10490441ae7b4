"""Activations against torch, and what each says of itself: its kinks, its steepest slope, its randomness."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from vgx.parts import ACTIVATIONS, Activation

torch.set_num_threads(1)  # the tests share a small machine

# f by name in torch; keyword arguments are the part's own options. Beyond `threshold` torch's softplus is the identity:
# at 40 that leaves out exp(-40), less than float64 can tell.
REFERENCES: dict[str, Callable[..., torch.Tensor]] = {
    "identity": lambda h: 1 * h,
    "logistic": torch.sigmoid,
    "tanh": torch.tanh,
    "lecun_tanh": lambda h: 1.7159 * torch.tanh(2 / 3 * h),
    "relu": F.relu,
    "leaky_relu": lambda h, negative_slope=0.01: F.leaky_relu(h, negative_slope),
    "rrelu": lambda h, lower=1 / 8, upper=1 / 3: F.rrelu(h, lower, upper, training=False),
    "prelu": lambda h, initial=0.25, per_channel=False: F.prelu(
        h, torch.full((h.shape[1] if per_channel else 1,), initial, dtype=h.dtype)
    ),
    "elu": lambda h, alpha=1.0: F.elu(h, alpha),
    "selu": F.selu,
    "celu": lambda h, alpha=1.0: F.celu(h, alpha),
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": lambda h: h * torch.tanh(F.softplus(h, threshold=40)),
    "softplus": lambda h: F.softplus(h, threshold=40),
    "softsign": F.softsign,
    "hard_tanh": F.hardtanh,
    "erf": torch.erf,
    "sin": torch.sin,
}
OPTIONS = [
    {"name": "leaky_relu", "negative_slope": 0.2},
    {"name": "leaky_relu", "negative_slope": -1.0},
    {"name": "rrelu", "lower": 0.1, "upper": 0.9},
    {"name": "prelu", "initial": 0.1},
    {"name": "prelu", "per_channel": True},
    {"name": "elu", "alpha": 0.5},
    {"name": "celu", "alpha": 2.0},
    {"name": "celu", "alpha": 0.5},
]
CASES = [{"name": part.name} for part in ACTIVATIONS] + OPTIONS
IDS = [str(ACTIVATIONS.parse(case)) for case in CASES]
every_activation = pytest.mark.parametrize("activation", [ACTIVATIONS.parse(case) for case in CASES], ids=IDS)


# Every 1/2048 from -20 to 20, off by an irrational so that no kink is on it; both sides of where kinks are; the tails.
EDGES = np.linspace(-20, 20, 40 * 2048 + 1) + 1 / math.pi / 2048
CORNERS = np.array([-1, 0, 1])
POINTS = np.concatenate([EDGES, CORNERS - 1e-9, CORNERS, CORNERS + 1e-9, [-1e4, -300, -30, 30, 300, 1e4]])


class Curves(NamedTuple):
    """f and its first and second derivative in evaluation, at POINTS."""

    value: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray


def evaluate(activation: Activation, h: jax.Array) -> jax.Array:
    return activation.evaluate(h, activation.parameters(h.shape[1]))


def differentiate(f: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """f' of an elementwise f."""
    return lambda h: jax.jvp(f, (h,), (jnp.ones_like(h),))[1]


@cache
def curves(activation: Activation) -> Curves:
    """In float64; [B, 2] inside, so that a slope per channel has channels."""
    value = partial(evaluate, activation)
    slope = differentiate(value)
    compute = jax.jit(lambda h: Curves(value(h), slope(h), differentiate(slope)(h)))
    return Curves(*(np.asarray(curve).ravel() for curve in compute(POINTS.reshape(-1, 2))))


def test_every_activation_has_a_reference():
    assert {part.name for part in ACTIVATIONS} == set(REFERENCES)


@every_activation
def test_value_and_slope_are_those_of_torch(activation, float64):
    h = torch.tensor(POINTS.reshape(-1, 2), requires_grad=True)
    value = REFERENCES[activation.name](h, **dict(activation))
    (slope,) = torch.autograd.grad(value.sum(), h)
    # Both are a few operations in float64, each within 1e-16 of the largest number in it; only tails may cancel.
    np.testing.assert_allclose(curves(activation).value, value.detach().numpy().ravel(), 1e-13, 1e-14)
    np.testing.assert_allclose(curves(activation).slope, slope.numpy().ravel(), 1e-13, 1e-14)


@every_activation
def test_float32_keeps_value_and_slope_finite_in_the_tails(activation):
    h = jnp.array([[-1e4, 1e4], [-1e30, 1e30], [-30, 30], [-90, 90]], jnp.float32)  # exp(90) is infinite
    # On the way back, as in training: there a branch that is not taken still turns 0 times infinity into NaN.
    value, slope = jax.jit(lambda h: (evaluate(activation, h), jax.grad(lambda h: evaluate(activation, h).sum())(h)))(h)
    assert np.isfinite(value).all()
    assert (np.abs(slope) <= activation.steepest * (1 + 1e-6)).all()  # so neither infinite nor NaN; float32 rounds


@every_activation
def test_nan_stays_nan_and_the_precision_what_it_was(activation):
    h, key = jnp.full((2, 3), jnp.nan, jnp.bfloat16), jax.random.key(0)
    for f in (activation.evaluate(h, activation.parameters(3)), activation.train(h, activation.parameters(3), key)):
        assert np.isnan(f).all()
        assert f.dtype == jnp.bfloat16


@every_activation
def test_steepest_is_the_largest_slope(activation, float64):
    # A spacing of 1/2048 misses a maximum of f' by at most 2^-25 f''' < 1e-7; at 20 softplus is 2e-9 short of slope 1.
    assert np.abs(curves(activation).slope).max() == pytest.approx(activation.steepest, abs=1e-7)


@every_activation
def test_function_slope_or_curvature_jumps_at_the_kinks_and_nowhere_else(activation, float64):
    kinks = np.searchsorted(EDGES, activation.kinks) - 1
    steps = np.abs([np.diff(curve[: len(EDGES)]) for curve in curves(activation)])  # [3, cells]
    assert (steps[:, kinks].max(0, initial=0) > 0.25).all()
    # No f, f', f'' here changes faster than softsign's f'', by 6 per unit at 0: what moves by more than 10 jumped.
    assert np.delete(steps, kinks, 1).max() < 10 / 2048


@every_activation
def test_only_what_says_so_is_random(activation, float64):
    h = jnp.asarray(np.random.default_rng(0).normal(size=(8, 16)))
    first, second = (activation.train(h, activation.parameters(16), jax.random.key(seed)) for seed in (1, 2))
    assert bool((first != second).any()) == activation.random
    assert bool((first != evaluate(activation, h)).any()) == activation.random


RRELUS = [ACTIVATIONS.parse("rrelu"), ACTIVATIONS.parse({"name": "rrelu", "lower": 0.0, "upper": 1.0})]


@pytest.mark.parametrize("rrelu", RRELUS, ids=str)
def test_rrelu_draws_a_slope_for_each_element_of_each_example(rrelu, float64):
    h = -jnp.ones((400, 500))
    slopes = -np.asarray(rrelu.train(h, None, jax.random.key(0)))
    width, n = rrelu.upper - rrelu.lower, slopes.size
    assert len(np.unique(slopes)) == n  # of 2^52 possible ones, so a pair among 200,000 has odds of 1 in 200,000
    assert slopes.min() >= rrelu.lower
    assert slopes.max() <= rrelu.upper
    # Five standard errors: a uniform has variance width^2 / 12 and fourth moment width^4 / 80.
    assert slopes.mean() == pytest.approx((rrelu.lower + rrelu.upper) / 2, abs=5 * width / math.sqrt(12 * n))
    assert slopes.var() == pytest.approx(width**2 / 12, abs=5 * width**2 * math.sqrt((1 / 80 - 1 / 144) / n))


def test_rrelu_draws_the_same_slopes_from_the_same_key_and_passes_what_is_positive(float64):
    rrelu = ACTIVATIONS.parse("rrelu")
    h = np.random.default_rng(0).normal(size=(32, 16))

    @jax.jit
    def train(seed: int) -> tuple[jax.Array, jax.Array]:
        value = partial(rrelu.train, parameters=None, key=jax.random.key(seed))
        return value(jnp.asarray(h)), differentiate(value)(jnp.asarray(h))

    (first, slope), (again, _), (other, _) = train(1), train(1), train(2)
    np.testing.assert_array_equal(first, again)
    assert (first != other)[h < 0].all()
    np.testing.assert_array_equal(first[h > 0], h[h > 0])
    np.testing.assert_allclose(slope * h, first, rtol=1e-15)  # one draw serves the way up and the way down


@pytest.mark.parametrize("per_channel", [False, True])
def test_gradient_of_prelu_slopes_is_that_of_torch(per_channel, float64):
    prelu = ACTIVATIONS.parse({"name": "prelu", "initial": 0.3, "per_channel": per_channel})
    initial = prelu.parameters(6)
    assert initial is not None
    assert initial.shape == ((6,) if per_channel else (1,))
    rng = np.random.default_rng(0)
    h, weight = rng.normal(size=(32, 6)), rng.normal(size=(32, 6))
    learned = rng.uniform(0.1, 0.5, initial.shape)  # no longer the initial value, as after a step

    module = torch.nn.PReLU(len(learned), dtype=torch.float64)
    module.weight.data = torch.tensor(learned)
    (module(torch.tensor(h)) * torch.tensor(weight)).sum().backward()
    assert module.weight.grad is not None

    gradient = jax.grad(lambda a: (prelu.train(jnp.asarray(h), a, None) * weight).sum())(jnp.asarray(learned))
    np.testing.assert_allclose(gradient, module.weight.grad.numpy(), rtol=1e-12)  # a sum of 192 terms of order 1


def test_prelu_in_evaluation_applies_what_was_learned():
    prelu = ACTIVATIONS.parse("prelu")
    np.testing.assert_array_equal(prelu.evaluate(jnp.array([[-2.0, 2.0]]), jnp.array([0.5])), [[-1.0, 2.0]])


@pytest.mark.parametrize(
    "case",
    [
        {"name": "rrelu", "lower": 0.3, "upper": 0.2},
        {"name": "rrelu", "lower": -0.1},
        {"name": "rrelu", "upper": 1.1},
        {"name": "leaky_relu", "negative_slope": 1.5},
        {"name": "elu", "alpha": 1.5},
        {"name": "celu", "alpha": 0.0},
    ],
    ids=str,
)
def test_options_beyond_what_the_part_says_of_itself_are_refused(case):
    with pytest.raises(ValidationError):
        ACTIVATIONS.parse(case)
