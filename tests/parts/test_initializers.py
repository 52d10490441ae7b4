"""Initializers: what each draws against its own formula, jax's initializer of the same name, and torch."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from vgx.config.schema import Model
from vgx.data import DATASETS
from vgx.parts import ACTIVATIONS, BIASES, INITIALIZERS, Initializer
from vgx.parts.initializers import LSUV
from vgx.training.model import MLP, fit_to_data

torch.set_num_threads(1)  # the tests share a small machine

JAX: dict[str, Callable[..., jax.nn.initializers.Initializer]] = {
    "lecun_normal": jax.nn.initializers.lecun_normal,
    "lecun_uniform": jax.nn.initializers.lecun_uniform,
    "glorot_normal": jax.nn.initializers.glorot_normal,
    "glorot_uniform": jax.nn.initializers.glorot_uniform,
    "xavier_normal": jax.nn.initializers.xavier_normal,
    "xavier_uniform": jax.nn.initializers.xavier_uniform,
    "he_normal": jax.nn.initializers.he_normal,
    "he_uniform": jax.nn.initializers.he_uniform,
    "kaiming_normal": jax.nn.initializers.kaiming_normal,
    "kaiming_uniform": jax.nn.initializers.kaiming_uniform,
    "variance_scaling": jax.nn.initializers.variance_scaling,
    "orthogonal": jax.nn.initializers.orthogonal,
    "normal": jax.nn.initializers.normal,
    "truncated_normal": jax.nn.initializers.truncated_normal,
    "constant": jax.nn.initializers.constant,
    "zeros": lambda: jax.nn.initializers.zeros,
}
OWN = {"uniform", "torch_default", "lsuv"}
"""Names that jax has not, or, for `uniform`, that mean something else there, as its docstring says."""

OPTIONS = [
    {"name": "he_normal", "gain": 0.5},
    {"name": "torch_default", "gain": 2.0},
    {"name": "orthogonal", "gain": 1.5},
    {"name": "normal", "std": 0.3},
    {"name": "truncated_normal", "std": 0.3},
    {"name": "uniform", "bound": 0.3},
    *(
        {"name": "variance_scaling", "scale": 1.5, "mode": mode, "distribution": distribution}
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("normal", "truncated_normal", "uniform")
    ),
]


def plainest(part: type[Initializer]) -> Initializer:
    return INITIALIZERS.parse({"name": part.name} | ({"value": 0.3} if part.name == "constant" else {}))


EVERY = [plainest(part) for part in INITIALIZERS]
every_initializer = pytest.mark.parametrize("initializer", EVERY + [INITIALIZERS.parse(o) for o in OPTIONS], ids=str)
SHAPE = (200, 150)  # 30,000 weights, and fans that cannot be confused


def draw(initializer: Initializer, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.asarray(initializer(jax.random.key(seed), shape), np.float64)


@every_initializer
def test_weights_have_the_variance_that_is_stated_and_mean_0(initializer):
    weights, n = draw(initializer), math.prod(SHAPE)
    variance = initializer.variance(*SHAPE)
    # Five standard errors of independent normals, sqrt(2 / n) of a variance; the other distributions here have less.
    assert weights.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / n), abs=1e-12)
    mean = getattr(initializer, "value", 0.0)
    assert weights.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / n) + 1e-7)  # float32 rounds the constant


@pytest.mark.parametrize(
    ("name", "n_in", "n_out", "variance"),
    [
        ("lecun_normal", 400, 300, 1 / 400),
        ("lecun_uniform", 400, 300, 1 / 400),
        ("glorot_normal", 400, 300, 2 / 700),
        ("glorot_uniform", 400, 300, 2 / 700),
        ("he_normal", 400, 300, 2 / 400),
        ("he_uniform", 400, 300, 2 / 400),
        ("torch_default", 400, 300, 1 / 1200),
        ("orthogonal", 400, 300, 1 / 400),
        ("orthogonal", 300, 400, 1 / 400),
        ("lsuv", 300, 400, 1 / 400),
        ("normal", 400, 300, 1e-4),
        ("truncated_normal", 400, 300, 0.7737413e-4),  # 1 - 4 phi(2) / (2 Phi(2) - 1)
        ("uniform", 400, 300, 1e-4 / 3),
        ("zeros", 400, 300, 0),
    ],
)
def test_variance_is_that_of_the_literature(name, n_in, n_out, variance):
    assert INITIALIZERS.parse(name).variance(n_in, n_out) == pytest.approx(variance, rel=1e-6)  # the digits given above


def test_every_initializer_is_compared_with_jax_or_is_our_own():
    words = {word for part in INITIALIZERS for word in (part.name, *part.aliases)}
    assert words == set(JAX) | OWN
    assert not set(JAX) & OWN


@pytest.mark.parametrize("name", sorted(set(JAX) - {"orthogonal"}))
def test_a_name_that_jax_also_has_draws_the_same_bits(name):
    options = {
        "variance_scaling": {"scale": 1.5, "mode": "fan_avg", "distribution": "normal"},
        "normal": {"std": 0.05},
        "truncated_normal": {"std": 0.05},
        "constant": {"value": 0.3},
    }.get(name, {})
    theirs = JAX[name](*options.values())(jax.random.key(7), (30, 20))
    np.testing.assert_array_equal(INITIALIZERS.parse({"name": name, **options})(jax.random.key(7), (30, 20)), theirs)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (128, 128), (784, 100), (100, 1), (61, 61)])
def test_orthogonal_draws_the_matrix_that_jax_draws(shape, float64):
    # Another factorization, so only to rounding; a random square matrix of 128 has a condition of some hundreds.
    ours, theirs = (draw(jax.random.key(7), shape) for draw in (INITIALIZERS.parse("orthogonal"), JAX["orthogonal"]()))
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


LANES = """
import jax, numpy as np
from vgx.training.weights import draw_weights, stacks_of
from vgx.parts.initializers import Orthogonal, Zeros
draw = lambda key: draw_weights(Orthogonal(), Zeros(), stacks_of((128,) * 20, 784, 10), key)
keys = jax.vmap(jax.random.key)(np.arange(6, dtype=np.uint32))
jax.block_until_ready(jax.jit(jax.vmap(draw))(keys))
"""


def test_orthogonal_weights_of_many_lanes_are_drawn_to_the_end():
    # jax's own, through LAPACK, never ends here; ours takes a second and its compilation a few.
    subprocess.run([sys.executable, "-c", LANES], check=True, timeout=180)


@every_initializer
def test_weights_follow_the_key_and_the_precision(initializer, float64):
    assert initializer(jax.random.key(0), (8, 8)).dtype == jnp.float64
    first, again, other = (draw(initializer, (8, 8), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() == (initializer.variance(8, 8) > 0)


WITH_GAIN = [part for part in INITIALIZERS if "gain" in part.model_fields]


@pytest.mark.parametrize("part", WITH_GAIN, ids=lambda part: part.name)
@pytest.mark.parametrize("gain", [0.5, 2.0, -1.0])
def test_gain_multiplies_the_weights(part, gain):
    plain, gained = part(), part(gain=gain)
    np.testing.assert_array_equal(draw(gained, (30, 20)), gain * draw(plain, (30, 20)))  # powers of two are exact
    assert gained.variance(30, 20) == pytest.approx(gain**2 * plain.variance(30, 20), rel=1e-15)


@pytest.mark.parametrize("shape", [(64, 64), (96, 64), (64, 96)], ids=["square", "tall", "wide"])
@pytest.mark.parametrize("case", ["orthogonal", {"name": "orthogonal", "gain": 1.5}, "lsuv"], ids=str)
def test_orthogonal_weights_only_rotate_and_scale(case, shape, float64):
    initializer = INITIALIZERS.parse(case)
    weights = draw(initializer, shape)
    gram = weights.T @ weights if shape[0] >= shape[1] else weights @ weights.T
    np.testing.assert_allclose(gram, getattr(initializer, "gain", 1.0) ** 2 * np.eye(64), atol=1e-13)  # 64 roundings


@pytest.mark.parametrize("name", ["lecun_uniform", "glorot_uniform", "he_uniform", "torch_default", "uniform"])
def test_uniform_weights_fill_plus_and_minus_sqrt_of_three_variances(name):
    initializer = INITIALIZERS.parse(name)
    weights, bound = draw(initializer), math.sqrt(3 * initializer.variance(*SHAPE))
    # The chance that none of 30,000 draws comes within 1/2000 of the range's width of one end is exp(-15).
    assert bound * 0.999 < weights.max() <= bound * (1 + 1e-7)
    assert bound * 0.999 < -weights.min() <= bound * (1 + 1e-7)


@pytest.mark.parametrize("name", ["lecun_normal", "glorot_normal", "he_normal", "truncated_normal"])
def test_truncated_normal_weights_end_at_two_deviations_of_the_normal_they_are_cut_from(name):
    initializer = INITIALIZERS.parse(name)
    end = 2 * math.sqrt(initializer.variance(*SHAPE) / 0.7737413035)
    # The density there is 0.054 / 0.954 per deviation: 30,000 draws leave the last 1 % empty with chance exp(-68).
    assert end * 0.99 < np.abs(draw(initializer)).max() <= end * (1 + 1e-6)


def test_torch_default_draws_what_torch_draws():
    torch.manual_seed(0)
    theirs = torch.nn.Linear(*SHAPE).weight.detach().double().numpy()
    ours = draw(INITIALIZERS.parse("torch_default"))
    # Two samples: sqrt(2) standard errors of a uniform's variance, whose fourth moment is 9/5 of the variance squared.
    assert ours.var() == pytest.approx(theirs.var(), rel=5 * math.sqrt(2 * (9 / 5 - 1) / ours.size))
    # Kolmogorov and Smirnov: three in a million pairs of equal distributions are further apart than 2.6 sqrt(2 / n).
    both = np.sort(np.concatenate([ours.ravel(), theirs.ravel()]))
    gap = np.searchsorted(np.sort(ours.ravel()), both) - np.searchsorted(np.sort(theirs.ravel()), both)
    assert np.abs(gap).max() / ours.size < 2.6 * math.sqrt(2 / ours.size)


@pytest.mark.parametrize("part", list(BIASES), ids=lambda part: part.name)
def test_a_bias_is_one_number_per_unit_of_the_variance_stated(part):
    bias = BIASES.parse({"name": part.name} | ({"value": -0.5} if part.name == "constant" else {}))
    drawn, n = draw(bias, (100_000,)), 100_000
    assert drawn.shape == (n,)
    assert drawn.var() == pytest.approx(bias.variance(n, n), rel=5 * math.sqrt(2 / n))  # as for the weights
    assert drawn.mean() == pytest.approx(getattr(bias, "value", 0), abs=5 * math.sqrt(bias.variance(n, n) / n))


def test_biases_are_zero_constant_or_normal():
    assert [part.name for part in BIASES] == ["normal", "constant", "zeros"]


@pytest.mark.parametrize(
    "case",
    [
        {"name": "normal", "std": -0.1},
        {"name": "uniform", "bound": -1.0},
        {"name": "variance_scaling", "scale": 0.0},
        {"name": "variance_scaling", "mode": "fan"},
        {"name": "constant"},
        {"name": "lsuv", "rounds": 0},
        {"name": "lsuv", "tolerance": 0.0},
    ],
    ids=str,
)
def test_options_without_a_meaning_are_refused(case):
    with pytest.raises(ValidationError):
        INITIALIZERS.parse(case)


# LSUV: the part draws, vgx.training.model.fit_to_data rescales.


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Handwriting: the first 1,000 training images of the digits set, [1000, 64], from 0 to 1."""
    train = DATASETS.parse("digits").load().train
    images = np.asarray(train.images[:1000], np.float32).reshape(1000, -1)
    return images / images.max()


@cache
def net(activation: str, std: float) -> MLP:
    """Ten layers of 48 units, orthogonal, with normal biases, before LSUV looks at any input."""
    bias = {"name": "normal", "std": std}
    model = {"depth": 10, "width": 48, "activation": activation, "initializer": "lsuv", "bias": bias}
    return MLP.draw(Model.model_validate(model), 64, 10, jax.random.key(0))


def fitted(mlp: MLP, x: np.ndarray, **options: object) -> MLP:
    return jax.jit(fit_to_data, static_argnums=3)(mlp, x, None, LSUV.model_validate(options))


def layers_of(mlp: MLP) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of each layer, from the input up, the readout last; float64."""
    layers = [layer for stack in mlp.stacks for layer in zip(stack.kernel[...], stack.bias[...], strict=True)]
    return [(np.asarray(kernel, np.float64), np.asarray(bias, np.float64)) for kernel, bias in layers]


def preactivation_variances(mlp: MLP, x: np.ndarray, activation: str) -> list[float]:
    """Of each layer from the input up, by a plain loop over layers."""
    f, variances = ACTIVATIONS.parse(activation), []
    for kernel, bias in layers_of(mlp):
        h = x @ kernel + bias
        variances.append(float(h.var()))
        x = np.asarray(f(jnp.asarray(h, jnp.float32)), np.float64)
    return variances


@pytest.mark.parametrize(
    ("activation", "std"), [("relu", 0.0), ("logistic", 0.5), ("relu", 0.5), ("tanh", 0.5), ("elu", 0.5)]
)
def test_lsuv_leaves_every_layer_with_unit_variance_on_handwriting(activation, std, digits):
    mlp = net(activation, std)
    before = preactivation_variances(mlp, digits, activation)
    assert np.abs(np.array(before) - 1).min() > 0.05  # so there was something to do in each layer
    after = preactivation_variances(fitted(mlp, digits), digits, activation)
    assert len(after) == 11
    # The tolerance that is the default, and float32's rounding of a mean over 48,000 numbers.
    np.testing.assert_allclose(after, 1, atol=0.02 + 1e-5)


def test_lsuv_comes_as_near_as_it_is_asked_to(digits):
    mlp = fitted(net("tanh", 0.5), digits, tolerance=1e-4)
    np.testing.assert_allclose(preactivation_variances(mlp, digits, "tanh"), 1, atol=1e-4 + 1e-5)  # as above


@pytest.mark.parametrize("rounds", [1, 3])
def test_lsuv_gives_up_after_its_rounds(rounds, digits):
    mlp = net("tanh", 0.5)
    kernel, bias = layers_of(mlp)[0]
    for _ in range(rounds):
        kernel = kernel / np.sqrt((digits @ kernel + bias).var())
    assert abs((digits @ kernel + bias).var() - 1) > 1e-3  # the bias is not rescaled, so another round would change it
    stopped = fitted(mlp, digits, rounds=rounds, tolerance=1e-9)
    np.testing.assert_allclose(layers_of(stopped)[0][0], kernel, rtol=1e-5)  # float32, a few roundings per round


def test_lsuv_leaves_layers_alone_that_nothing_reaches():
    mlp = net("relu", 0.0)
    for before, after in zip(layers_of(mlp), layers_of(fitted(mlp, np.zeros((10, 64), np.float32))), strict=True):
        np.testing.assert_array_equal(before[0], after[0])
