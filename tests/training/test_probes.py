"""The tap reads any gradient, and every statistic is what its name says."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from vgx import load_config
from vgx.config.schema import Config
from vgx.training.model import MLP
from vgx.training.probes import (
    Delta,
    LayerRecord,
    exponent_of,
    log2_norm,
    log2_norms,
    noise_scale,
    power_of_two,
    scale_by_power,
    square_sum,
    tap,
)
from vgx.training.step import make_record

DTYPES = ["float32", "float64", "bfloat16"]
FEATURES, CLASSES, BATCH = 12, 5, 8


# The arithmetic of exponents.


@pytest.fixture(params=DTYPES)
def dtype(request, float64) -> jnp.dtype:
    return jnp.dtype(request.param)


def powers(dtype: jnp.dtype) -> np.ndarray:
    info = jnp.finfo(dtype)
    return np.arange(info.minexp, info.maxexp)


def two_to(k: np.ndarray, dtype: jnp.dtype) -> jax.Array:
    """2^k for normal powers, made by numpy."""
    return jnp.asarray(np.ldexp(1.0, k).astype(np.float64), dtype)


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, NaN and the sign of zero included."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_a_power_of_two_is_exact_over_the_whole_range(dtype):
    k = powers(dtype)
    assert same(power_of_two(jnp.asarray(k), dtype), two_to(k, dtype))


def test_a_power_of_two_beyond_the_range_is_zero_or_infinity(dtype):
    info = jnp.finfo(dtype)
    k = jnp.asarray([info.minexp - 1, -100_000, info.maxexp, 100_000])
    assert same(power_of_two(k, dtype), jnp.asarray([0, 0, np.inf, np.inf], dtype))


def test_the_exponent_of_a_number_is_its_own_kept_off_the_ends_of_the_range(dtype):
    info, k = jnp.finfo(dtype), powers(dtype)
    wanted = np.clip(k, info.minexp, -info.minexp)
    numbers = two_to(k, dtype)
    of_each = jax.vmap(exponent_of)
    assert np.array_equal(of_each(numbers[:, None]), wanted)
    assert np.array_equal(of_each(-numbers[:, None]), wanted)
    just_below = jnp.asarray(numbers * (2 - float(info.eps)), dtype)
    assert np.array_equal(of_each(just_below[:, None]), wanted)


def test_zeros_and_nan_have_the_exponent_0(dtype):
    x = jnp.asarray([[0.0, -0.0], [np.nan, 1.0]], dtype)
    assert np.array_equal(jax.vmap(exponent_of)(x), [0, 0])


@pytest.mark.parametrize(
    "x",
    [
        [0, 1e-30, -1e-30],
        [1e-30, 0.3, -0.3],  # what softmax leaves of a sure example and an unsure one
        [1e-30, 0.3, -0.1, -0.2],
        [0, 1e30, 0, -1e30],
    ],
    ids=str,
)
def test_a_norm_is_right_where_the_entries_cancel(x):
    assert float(log2_norm(jnp.asarray(x, jnp.float32))) == pytest.approx(np.log2(np.linalg.norm(x)), abs=1e-5)


def test_the_gradient_of_the_loss_is_read_when_all_examples_but_one_are_surely_right():
    """Each row of softmax minus one-hot adds up to 0, and its first entry may be anything down to 1e-38."""

    @jax.jit
    @jax.vmap
    def read(logits, labels):
        def loss(h, probe):
            return mean_loss(tap(h, jnp.zeros(()), probe, None)[0], labels)

        probe = jax.grad(loss, 1)(logits, Delta(jnp.zeros(()), jnp.zeros(())))
        plain = jax.grad(lambda h: mean_loss(h, labels))(logits)
        return probe.delta_log2, plain

    random = np.random.default_rng(0)
    labels = random.integers(0, 10, (300, 32))
    logits = 2 * random.normal(size=(300, 32, 10)).astype(np.float32)
    logits += 60 * (np.arange(10) == labels[..., None]) * (np.arange(32) < 31)[:, None]
    read_log2, plain = read(jnp.asarray(logits), jnp.asarray(labels))
    reference = np.log2(np.linalg.norm(np.asarray(plain, np.float64).reshape(300, -1), axis=1))
    np.testing.assert_allclose(read_log2, reference, atol=1e-4)


def test_scaling_by_a_power_is_exact_wherever_the_result_is_in_range(dtype):
    info = jnp.finfo(dtype)
    numbers = jnp.asarray([1.0, -1.5, 2 - float(info.eps)], dtype)
    for start in (info.minexp, -1, 0, 30):  # what taps have rescaled is near 1
        reach = 2 * info.maxexp + 10
        x = jnp.asarray(np.asarray(numbers, np.float64) * np.ldexp(1.0, start), dtype)
        k = np.arange(-reach, reach + 1)
        scaled = np.asarray(jax.jit(jax.vmap(scale_by_power, (None, 0)))(x, jnp.asarray(k)), np.float64)
        end = start + k
        inside = (end >= info.minexp) & (end < info.maxexp)
        exact = np.asarray(numbers, np.float64) * np.ldexp(1.0, end[inside])[:, None]
        assert np.array_equal(scaled[inside], exact)
        above = scaled[end >= info.maxexp]
        assert np.all(np.isinf(above) & (np.sign(above) == np.sign(np.asarray(numbers, np.float64))))
        assert not scaled[end < info.minexp - info.nmant - 2].any()


def test_scaling_by_a_power_keeps_zeros_infinities_and_nan(dtype):
    x = jnp.asarray([0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
    for k in (-40, -1, 0, 1, 40):
        scaled = np.asarray(scale_by_power(x, jnp.float32(k)), np.float64)
        assert np.array_equal(scaled, np.asarray(x, np.float64), equal_nan=True)
        assert np.array_equal(np.signbit(scaled[:2]), [False, True])


@pytest.mark.parametrize("size", [1e-37, 1e-19, 1.0, 1e19, 1e25, 1e37])
def test_a_norm_in_float32_is_right_where_squares_or_sums_leave_the_range(size):
    x = (size * np.random.default_rng(0).uniform(0.5, 1.0, 4096)).astype(np.float32)
    reference = np.linalg.norm(x.astype(np.float64))
    # A relative 1e-5 of the norm is 1.4e-5 of log2; float32 resolves a log2 of 128 to 8e-6.
    assert abs(float(log2_norm(jnp.asarray(x))) - np.log2(reference)) < 2e-5
    if size in (1e-37, 1e-19, 1e25, 1e37):
        assert float(jnp.linalg.norm(jnp.asarray(x))) in (0.0, np.inf)  # why it is not taken plainly


def test_the_norm_of_zeros_is_minus_infinity_and_of_nan_is_nan():
    assert float(log2_norm(jnp.zeros(7))) == -np.inf
    assert np.isnan(float(log2_norm(jnp.asarray([1.0, np.nan]))))
    assert float(log2_norm(jnp.asarray([1.0, np.inf]))) == np.inf


# The chain of taps against plain autodiff.


def config_of(**sections: Any) -> Config:
    return load_config({"data": {"name": "synthetic", "features": FEATURES, "classes": CLASSES}, **sections})


def net(config: Config, key: int = 0, features: int = FEATURES) -> MLP:
    return jax.jit(partial(MLP.draw, config.model, features, CLASSES))(jax.random.key(key))


def unrolled(mlp: MLP, x: jax.Array, offsets: list[jax.Array]) -> jax.Array:
    """The net layer by layer, without scan, custom rules or taps; an offset on each h makes its gradient visible."""
    at = 0
    for stack, count in zip(mlp.stacks, mlp.counts, strict=True):
        for i in range(count):
            layer = jax.tree.map(lambda leaf, i=i: leaf[i], stack)
            affine = layer._affine
            h = x @ layer.kernel[...] + layer.bias[...] + offsets[at]
            if layer.normalization.before:
                h = layer.normalization.train(h, affine)[0]
            x = layer.activation.train(h, layer._slope, None)
            if layer.normalization.after:
                x = layer.normalization.train(x, affine)[0]
            at += 1
    return x


def mean_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels])


def measured(config: Config, mlp: MLP, x: jax.Array, labels: jax.Array) -> tuple[LayerRecord, float, Any]:
    """One step's record, the norm of the whole gradient, and the gradient as the optimizer sees it."""
    tier = config.log.statistics

    @jax.jit
    def take(mlp, x, labels):
        def loss(mlp, probes):
            logits, _, forward = mlp(x, jnp.zeros(()), probes, None, tier)
            return mean_loss(logits.astype(jnp.promote_types(x.dtype, jnp.float32)), labels), forward

        (gradient, probes), forward = jax.grad(loss, (0, 1), has_aux=True)(mlp, mlp.empty_probes(tier))
        return make_record(probes, forward, gradient, config), gradient

    record, gradient = take(mlp, x, labels)
    return jax.tree.map(np.asarray, record.layers), float(record.gradient_log10), gradient


def examples(seed: int = 0, batch: int = BATCH, features: int = FEATURES) -> tuple[jax.Array, jax.Array]:
    random = np.random.default_rng(seed)
    return jnp.asarray(random.normal(size=(batch, features))), jnp.asarray(random.integers(0, CLASSES, batch))


def shaken(mlp: MLP, seed: int = 3) -> MLP:
    """The net with every parameter moved off its start, so that no gradient vanishes by symmetry."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(0.1 * random.normal(size=leaf.shape), leaf.dtype), mlp)


MIXED = [
    {"width": [7, 9, 9, 9, 6], "activation": "prelu", "normalization": {"name": "batch", "logits": True}},
    {"width": 8, "depth": 4, "activation": "tanh", "normalization": {"name": "layer", "placement": "after"}},
    {"width": [6, 6, 11], "activation": {"name": "prelu", "per_channel": True}, "normalization": "rms"},
    {"width": [5, 5], "activation": "elu"},
]


@pytest.mark.parametrize("model", MIXED, ids=["batch norm", "layer norm after", "rms norm", "none"])
def test_every_norm_is_that_of_plain_float64_autodiff(model, float64):
    config = config_of(model=model, train={"batch_size": BATCH, "precision": "float64"})
    mlp = shaken(net(config))
    x, labels = examples()
    widths = [*config.model.widths, CLASSES]
    offsets = [jnp.zeros((BATCH, width)) for width in widths]

    def loss(mlp, offsets):
        return mean_loss(unrolled(mlp, x, offsets), labels)

    plain, deltas = jax.jit(jax.grad(loss, (0, 1)))(mlp, offsets)

    record, whole, seen = measured(config, mlp, x, labels)
    # float64 through a handful of layers: 1e-9 leaves room for the order of the sums and for nothing else.
    for leaf, reference in zip(jax.tree.leaves(seen), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(leaf, reference, rtol=1e-9, atol=1e-13)
    by_layer = np.log10([math.sqrt(BATCH) * np.linalg.norm(delta) for delta in deltas])
    np.testing.assert_allclose(record.delta_log10, by_layer, atol=1e-9)
    kernels = [np.asarray(kernel) for stack in plain.stacks for kernel in stack.kernel[...]]
    np.testing.assert_allclose(record.weight_grad_log10, np.log10([np.linalg.norm(k) for k in kernels]), atol=1e-9)
    everything = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(plain)])
    assert abs(whole - np.log10(np.linalg.norm(everything))) < 1e-9
    # A bias in front of batch norm has the gradient 0, and what arithmetic leaves of it is noise.
    biases = [np.asarray(bias) for stack in plain.stacks for bias in stack.bias[...]]
    norms = np.array([np.linalg.norm(bias) for bias in biases])
    real = norms > 1e-12
    np.testing.assert_allclose(record.bias_grad_log10[real], np.log10(norms[real]), atol=1e-9)
    assert np.all(record.bias_grad_log10[~real] < -12)
    assert real.all() or "batch" in str(model)


@pytest.mark.parametrize("tier", ["lite", "standard", "full"])
def test_the_taps_leave_every_logit_and_every_gradient_bit_identical(tier):
    model = {"width": [7, 9, 9, 9, 6], "activation": "prelu", "normalization": {"name": "layer", "placement": "after"}}
    config = config_of(model=model, train={"batch_size": BATCH}, log={"statistics": tier})
    mlp = net(config)
    x, labels = (jnp.asarray(a, t) for a, t in zip(examples(), (jnp.float32, jnp.int32), strict=True))

    @partial(jax.jit, static_argnums=2)
    def run(mlp, probes, tier):
        def loss(mlp, probes):
            logits = mlp(x, jnp.zeros(()), probes, None, tier)[0]
            return mean_loss(logits, labels), logits

        gradient, logits = jax.grad(loss, has_aux=True)(mlp, probes)
        return logits, gradient

    plain, tapped = run(mlp, None, "none"), run(mlp, mlp.empty_probes(tier), tier)
    assert all(same(a, b) for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(tapped), strict=True))


def test_a_gradient_of_1e_minus_600_is_read_as_the_sum_of_its_layers_ratios(float64):
    depth, width = 1000, 16
    model = {"depth": depth, "width": width, "activation": "logistic", "initializer": "lecun_normal"}
    config = config_of(model=model, train={"batch_size": 4, "precision": "float64"})
    mlp = net(config)
    x, labels = examples(batch=4)
    record, whole, _ = measured(config, mlp, x, labels)

    # Backward by hand in numpy, started afresh at 1 in every layer, so that nothing is ever small.
    kernels = [np.asarray(kernel) for stack in mlp.stacks for kernel in stack.kernel[...]]
    passed = [np.asarray(x)]
    for kernel in kernels[:-1]:
        passed.append(scipy.special.expit(passed[-1] @ kernel))
    logits = passed[-1] @ kernels[-1]
    delta = (scipy.special.softmax(logits, 1) - np.eye(CLASSES)[np.asarray(labels)]) / len(labels)
    logarithm, deltas, weights = math.log10(len(labels)) / 2, [], []
    for below, kernel in zip(passed[::-1], kernels[::-1], strict=True):
        norm = np.linalg.norm(delta)
        logarithm, delta = logarithm + np.log10(norm), delta / norm
        deltas.append(logarithm)
        weights.append(logarithm - math.log10(len(labels)) / 2 + np.log10(np.linalg.norm(below.T @ delta)))
        delta = delta @ kernel.T * below * (1 - below)
    # A thousand layers of rounding at 1e-16, a little amplified.
    np.testing.assert_allclose(record.delta_log10, deltas[::-1], atol=1e-9)
    np.testing.assert_allclose(record.weight_grad_log10, weights[::-1], atol=1e-9)
    assert record.delta_log10[0] < -500
    assert np.isfinite(whole)
    assert all(np.isfinite(column).all() for column in (record.delta_log10, record.weight_grad_log10))
    assert np.isfinite(record.bias_grad_log10).all()


@pytest.mark.parametrize("activation", ["logistic", "relu"])
def test_the_share_of_zeros_is_that_of_the_gradient_of_plain_float32_autodiff(activation):
    model = {"depth": 120, "width": 16, "activation": activation, "initializer": "lecun_normal"}
    config = config_of(model=model, train={"batch_size": BATCH}, log={"statistics": "lite"})
    mlp = net(config)
    x, labels = (jnp.asarray(a, t) for a, t in zip(examples(), (jnp.float32, jnp.int32), strict=True))
    plain = jax.jit(jax.grad(lambda mlp: mean_loss(mlp(x, jnp.zeros(()), None, None, "none")[0], labels)))(mlp)
    record, _, seen = measured(config, mlp, x, labels)

    def zeros(gradient: Any) -> np.ndarray:
        return np.array([np.mean(np.asarray(kernel) == 0) for stack in gradient.stacks for kernel in stack.kernel[...]])

    np.testing.assert_array_equal(record.weight_grad_zero, zeros(seen).astype(np.float32))
    # In the few layers where float32 ends, plain arithmetic has lost digits on the way that the taps have kept.
    range_ends = (record.weight_grad_log10 < -35) & (record.weight_grad_log10 > -45)
    np.testing.assert_array_equal(zeros(seen)[~range_ends], zeros(plain)[~range_ends])
    if activation == "logistic":
        assert record.weight_grad_zero[0] == 1
        assert record.weight_grad_zero[-1] == 0
        assert record.delta_log10[0] < -60
    else:
        assert 0 < record.weight_grad_zero[1] < 1  # dead units' columns


def test_batch_size_does_not_move_the_curve_of_one_example(float64):
    config = config_of(model={"depth": 5, "width": 9, "activation": "tanh"}, train={"precision": "float64"})
    mlp = net(config)
    x, labels = examples(batch=1)
    curves = []
    for batch in (1, 16):
        sized = config.model_copy(update={"train": config.train.model_copy(update={"batch_size": batch})})
        record = measured(sized, mlp, jnp.tile(x, (batch, 1)), jnp.tile(labels, batch))[0]
        curves.append(record.delta_log10)
    np.testing.assert_allclose(curves[1], curves[0], atol=1e-12)


# The statistics against numpy, by hand.

CURVES = {
    "identity": (lambda z: z, np.ones_like, 1.0),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, 1.0),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01), 1.0),
    "logistic": (scipy.special.expit, lambda z: scipy.special.expit(z) * scipy.special.expit(-z), 0.25),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2, 1.0),
    "hard_tanh": (lambda z: np.clip(z, -1, 1), lambda z: (np.abs(z) < 1) * 1.0, 1.0),
    "softsign": (lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2, 1.0),
    "sin": (np.sin, np.cos, 1.0),
}


@pytest.mark.parametrize("activation", CURVES)
def test_the_forward_statistics_are_those_of_numpy(activation, float64):
    model = {"depth": 3, "width": 10, "activation": activation, "initializer": {"name": "he_normal", "gain": 2.0}}
    config = config_of(
        model=model, train={"batch_size": BATCH, "precision": "float64"}, log={"statistics": "full", "every": 1}
    )
    mlp = net(config, 1)
    x, _ = examples()
    forward = jax.jit(lambda mlp: mlp(x, jnp.zeros(()), None, None, "full")[2])(mlp)

    curve, slope_of, steepest = CURVES[activation]
    y = np.asarray(x)
    for i, kernel in enumerate(kernel for stack in mlp.stacks for kernel in np.asarray(stack.kernel[...])):
        readout = i == 3
        z = y @ kernel
        y, slope = (z, np.ones_like(z)) if readout else (curve(z), np.abs(slope_of(z)))
        covariance = np.cov(y.T, bias=True)
        directions = y[np.any(y != 0, 1)]
        directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        cosines = (directions @ directions.T)[~np.eye(len(directions), dtype=bool)]
        by_hand = {
            "weight_norm": np.linalg.norm(kernel),
            "preact_mean": z.mean(),
            "preact_std": z.std(),
            "act_mean": y.mean(),
            "act_rms": np.sqrt(np.mean(y**2)),
            "dead": np.mean(~np.any(slope > 0, 0)),
            "saturated": np.mean(slope < 0.05 * (1.0 if readout else steepest)),
            "cosine": cosines.mean(),
            "participation": np.trace(covariance) ** 2 / np.trace(covariance @ covariance),
        }
        for name, value in by_hand.items():
            # atol: the mean of many numbers of size 1 may cancel to anything.
            np.testing.assert_allclose(getattr(forward, name)[i], value, rtol=1e-10, atol=1e-12, err_msg=f"{i} {name}")


def test_a_unit_that_is_off_for_every_example_is_dead_and_examples_without_a_direction_are_left_out():
    config = config_of(model={"depth": 1, "width": 4}, log={"statistics": "full"}, train={"batch_size": 3})
    mlp = net(config)
    kernel = jnp.zeros((FEATURES, 4)).at[0, 0].set(1.0).at[1, 1].set(1.0)
    mlp.stacks[0].kernel[...] = kernel[None]
    x = jnp.zeros((3, FEATURES)).at[0, 0].set(2.0).at[1, :2].set(jnp.asarray([3.0, 4.0]))  # the third is nothing
    forward = mlp(x, jnp.zeros(()), None, None, "full")[2]
    assert float(forward.dead[0]) == 0.5  # units 3 and 4
    assert float(forward.saturated[0]) == 0.75  # 3 of 12 entries are positive
    assert float(forward.cosine[0]) == pytest.approx(0.6)  # the only pair there is: (1, 0) and (3, 4) / 5


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_forward_statistics_have_no_scale(size):
    """What float32 cannot square it can still describe."""
    model = {"depth": 2, "width": 10, "activation": "identity"}
    config = config_of(model=model, log={"statistics": "full"}, train={"batch_size": BATCH})
    mlp = net(config, 1)
    x = jnp.asarray(examples()[0], jnp.float32)
    one, scaled = (
        jax.jit(lambda mlp, x: mlp(x, jnp.zeros(()), None, None, "full")[2])(mlp, x * s) for s in (1.0, size)
    )
    for name in ("preact_std", "act_rms"):
        np.testing.assert_allclose(getattr(scaled, name) / np.float32(size), getattr(one, name), rtol=1e-5)
    for name in ("cosine", "participation", "saturated", "weight_norm"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(one, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_the_noise_scale_is_that_of_the_examples_own_gradients(size, float64):
    model = {"width": [7, 9, 9], "activation": "tanh"}
    config = config_of(
        model=model, train={"batch_size": BATCH, "precision": "float64"}, log={"statistics": "full", "every": 1}
    )
    mlp = net(config)
    # Examples that agree: with random labels the signal would drown in the noise in most layers.
    random = np.random.default_rng(5)
    x = jnp.asarray(size * (random.normal(size=FEATURES) + 0.5 * random.normal(size=(BATCH, FEATURES))))
    labels = jnp.full(BATCH, 2)
    record = measured(config, mlp, x, labels)[0]

    def loss(mlp, x, label):
        return mean_loss(unrolled(mlp, x[None], [jnp.zeros(())] * 4), label[None])

    each = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))(mlp, x, labels)
    kernels = [np.asarray(stack.kernel[...])[:, i] for stack in each.stacks for i in range(stack.kernel.shape[1])]
    for i, kernel in enumerate(kernels):  # [B, N_in, N]
        mean_square = np.mean(np.sum(kernel**2, (1, 2)))
        square_of_mean = np.sum(kernel.mean(0) ** 2)
        # Unbiased (McCandlish et al. 2018, appendix A.1), with batches of 1 and of B.
        signal = (BATCH * square_of_mean - mean_square) / (BATCH - 1)
        noise = (mean_square - square_of_mean) / (1 - 1 / BATCH)
        assert signal > 0
        np.testing.assert_allclose(record.noise_scale[i], noise / signal, rtol=1e-9)


@pytest.mark.parametrize("residual", ["none", "pre_activation", "post_activation"])
def test_the_coherence_is_the_mean_cosine_of_the_examples_own_gradients(residual, float64):
    """Some of which are so much smaller that their squares are lost beside the others'."""
    model = {"width": [7, 9, 9], "activation": "tanh", "residual": residual}
    config = config_of(
        model=model, train={"batch_size": BATCH, "precision": "float64"}, log={"statistics": "full", "every": 1}
    )
    mlp, (x, _) = net(config), examples()
    mlp.stacks[-1].kernel[...] = 60 * mlp.stacks[-1].kernel[...]  # sure of itself: gradients of 1e-20 and of 1
    labels = jnp.argmax(mlp(x, jnp.zeros(()), None, None, "none")[0], -1)
    labels = labels.at[:3].set((labels[:3] + 1) % CLASSES)
    record = measured(config, mlp, x, labels)[0]

    def loss(x, label, offsets):
        h, stream = x, None
        layers = [layer_of(s, i) for s, c in zip(mlp.stacks, mlp.counts, strict=True) for i in range(c)]
        for i, layer in enumerate(layers):
            adds = i < 3 and config.model.branches[i]
            h = x @ layer.kernel[...] + layer.bias[...] + offsets[i]
            stream = stream + h if adds else h
            y = jnp.tanh(stream if residual == "pre_activation" else h)
            x = x + y if adds and residual == "post_activation" else y
        return -jax.nn.log_softmax(h)[label]

    zeros = [jnp.zeros(n) for n in (*config.model.widths, CLASSES)]
    deltas = jax.jit(jax.vmap(jax.grad(loss, 2), (0, 0, None)))(x, labels, zeros)
    for delta, coherence in zip(deltas, record.coherence, strict=True):
        size = np.linalg.norm(delta, axis=1, keepdims=True)
        cosines = (delta / size) @ (delta / size).T
        np.testing.assert_allclose(coherence, cosines[~np.eye(BATCH, dtype=bool)].mean(), atol=1e-9)


def layer_of(stack: Any, i: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[i], stack)


def test_the_noise_scale_is_infinite_where_the_signal_drowns_and_nan_where_nothing_is_known():
    ratio = jnp.log2(jnp.asarray([1.0, 4.0, 8.0, 20.0, np.nan]))
    np.testing.assert_allclose(noise_scale(ratio, 8), [0, 6, np.inf, np.inf, np.nan], atol=1e-5)


# Closed forms.


def falls(activation: str, initializer: Any, depth: int, width: int, *, key: int = 0) -> float:
    """Decades of the gradient's norm per layer, from the top hidden layer to the bottom one, on normal inputs."""
    model = {"depth": depth, "width": width, "activation": activation, "initializer": initializer}
    config = config_of(model=model, train={"batch_size": 32}, log={"statistics": "lite"})
    mlp = net(config, key, width)
    x, labels = examples(batch=32, features=width)
    delta = measured(config, mlp, x.astype(jnp.float32), labels)[0].delta_log10
    return float(delta[0] - delta[depth - 1]) / (depth - 1)


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_an_orthogonal_linear_network_scales_gradients_by_exactly_gain_per_layer(gain):
    slope = falls("identity", {"name": "orthogonal", "gain": gain}, 40, 24)
    # float32: 40 layers that each keep a norm to about 1e-7.
    assert slope == pytest.approx(math.log10(gain), abs=1e-6)


@pytest.mark.parametrize(
    ("activation", "initializer", "decades"),
    [
        ("relu", "he_normal", 0.0),  # sigma_w^2 / 2 = 1
        ("relu", "glorot_normal", -math.log10(2) / 2),  # a half of the square per layer
        ("logistic", "lecun_normal", math.log10(0.055721) / 2),  # chi at q* = .26469
    ],
)
def test_a_random_net_loses_per_layer_what_mean_field_theory_says(activation, initializer, decades):
    depth, width = 100, 128
    slope = falls(activation, initializer, depth, width)
    # log |delta|^2 wanders by sqrt(5 / n) per layer, so its mean slope by sqrt(5 / (n L)); three deviations of that.
    band = 3 * math.sqrt(5 / (width * depth)) / (2 * math.log(10))
    assert abs(slope - decades) < band


@pytest.mark.parametrize("size", [1e-30, 1e-16, 1.0, 1e16, 1e30])
def test_a_sum_of_squares_is_right_at_any_size_and_plain_where_it_may_be(size):
    x = np.random.default_rng(0).normal(size=(40, 30)) * size
    square, k = square_sum(jnp.asarray(x, jnp.float32))
    assert float(square) * 4.0 ** float(k) == pytest.approx(np.sum(x.astype(np.float32).astype(float) ** 2), rel=1e-6)
    assert (int(k) == 0) == (2.0**-63 < np.sum(x**2) < 2.0**120)


def test_the_norms_of_a_stack_are_those_of_its_members():
    stack = np.random.default_rng(0).normal(size=(4, 5, 6)) * np.array([1e-30, 1.0, 0.0, 1e30])[:, None, None]
    with np.errstate(divide="ignore"):
        norms = np.log2(np.linalg.norm(stack.reshape(4, -1), axis=1))
    assert np.asarray(log2_norms(jnp.asarray(stack, jnp.float32))) == pytest.approx(norms, rel=1e-6)
