"""Normalizations against torch over many steps, and what each says of where it stands."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from vgx.parts import NORMALIZATIONS
from vgx.parts.normalizations import Affine, BatchNorm, Normalization

torch.set_num_threads(1)  # the tests share a small machine

STEPS, BATCH, WIDTH = 20, 16, 12
TORCH = {
    "batch": lambda: torch.nn.BatchNorm1d(WIDTH, eps=1e-5, momentum=0.1, dtype=torch.float64),
    "layer": lambda: torch.nn.LayerNorm(WIDTH, eps=1e-5, dtype=torch.float64),
    "rms": lambda: torch.nn.RMSNorm(WIDTH, eps=1e-5, dtype=torch.float64),
    "none": torch.nn.Identity,
}
every_normalization = pytest.mark.parametrize("norm", [part() for part in NORMALIZATIONS], ids=str)
PLACED = [part for part in NORMALIZATIONS if part.name != "none"]


def test_every_normalization_has_a_reference():
    assert {part.name for part in NORMALIZATIONS} == set(TORCH)


def random_affine(norm: Normalization, rng: np.random.Generator) -> Affine | None:
    """Scale and offset as training may leave them."""
    affine = norm.parameters(WIDTH)
    return None if affine is None else jax.tree.map(lambda x: jnp.asarray(x + rng.normal(size=x.shape)), affine)


@every_normalization
def test_training_and_evaluation_are_those_of_torch(norm, float64):
    rng = np.random.default_rng(0)
    module = TORCH[norm.name]()
    running = norm.initial(WIDTH) if isinstance(norm, BatchNorm) else None

    @jax.jit
    @partial(jax.grad, argnums=(0, 1), has_aux=True)
    def train(x, affine, weight):
        y, moments = norm.train(x, affine)
        return jnp.sum(y * weight), (y, moments)

    for _ in range(STEPS):
        # Columns and rows of different means and spreads, as nothing promises inputs that are near to normal already.
        x = rng.normal(size=(BATCH, WIDTH)) * rng.uniform(0.1, 10, WIDTH) + rng.normal(size=(BATCH, 1)) * 5
        weight = rng.normal(size=(BATCH, WIDTH))
        affine = random_affine(norm, rng)
        learned = [] if affine is None else [p for p in affine if p is not None]
        for parameter, value in zip(module.parameters(), learned, strict=True):
            parameter.data = torch.tensor(np.asarray(value))
        tensor = torch.tensor(x, requires_grad=True)
        module.train()
        expected = module(tensor)
        expected_gradient = torch.autograd.grad((expected * torch.tensor(weight)).sum(), [tensor, *module.parameters()])

        gradient, (y, moments) = train(x, affine, weight)
        # float64, and sums of 16 terms of order 100: 1e-10 leaves three digits to spare.
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-10)
        for ours, theirs in zip(jax.tree.leaves(gradient), expected_gradient, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-10, atol=1e-10)

        if isinstance(norm, BatchNorm):
            running = norm.fold(running, moments)
            np.testing.assert_allclose(running.mean, module.running_mean.numpy(), rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(running.variance, module.running_var.numpy(), rtol=1e-10)
        else:
            assert moments is None
        evaluated = module.eval()(tensor).detach().numpy()
        np.testing.assert_allclose(norm.evaluate(jnp.asarray(x), affine, running), evaluated, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("part", PLACED, ids=lambda part: part.name)
def test_placement_says_where_it_acts(part):
    assert [(norm.before, norm.after) for norm in (part(), part(placement="before"), part(placement="after"))] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    with pytest.raises(ValidationError):
        part(placement="around")


def test_no_normalization_stands_nowhere_and_learns_nothing():
    none = NORMALIZATIONS.parse("none")
    assert (none.before, none.after, none.parameters(WIDTH)) == (False, False, None)


def test_only_batch_norm_lets_examples_see_each_other():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(BATCH, WIDTH)), jnp.float32)
    other = x.at[1:].add(1.0 + x[1:] ** 2)
    for part in NORMALIZATIONS:
        first, moved = (part().train(h, part().parameters(WIDTH))[0][0] for h in (x, other))
        assert bool((first != moved).any()) == part.over_batch == (part is BatchNorm)


@every_normalization
def test_untrained_it_neither_scales_nor_shifts(norm):
    affine = norm.parameters(WIDTH)
    if affine is not None:
        np.testing.assert_array_equal(affine.scale, np.ones(WIDTH))
        assert affine.offset is None or not np.any(affine.offset)
        assert (affine.offset is None) == (norm.name == "rms")


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
def test_running_averages_keep_momentum_of_themselves(momentum, float64):
    norm = NORMALIZATIONS.parse({"name": "batch", "momentum": momentum})
    assert isinstance(norm, BatchNorm)
    mean, n = 3.0, 8
    x = mean + jnp.tile(jnp.array([[-1.0], [1.0]]), (n // 2, WIDTH))  # variance 1, or n / (n - 1) unbiased
    running = norm.initial(WIDTH)
    for _ in range(5):
        moments = norm.train(x, norm.parameters(WIDTH))[1]
        assert moments is not None
        running = norm.fold(running, moments)
    kept = momentum**5
    np.testing.assert_allclose(running.mean, mean * (1 - kept), rtol=1e-14)
    np.testing.assert_allclose(running.variance, kept + (1 - kept) * n / (n - 1), rtol=1e-14)


@pytest.mark.parametrize("part", PLACED, ids=lambda part: part.name)
def test_epsilon_is_added_to_the_variance(part, float64):
    # Two opposite numbers in each row and column: mean 0, variance and mean square 4.
    x = 2.0 * jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    norm = part(epsilon=5.0)
    np.testing.assert_allclose(norm.train(x, norm.parameters(2))[0], x / 3, rtol=1e-15)  # sqrt(4 + 5) = 3


@pytest.mark.parametrize("part", PLACED, ids=lambda part: part.name)
def test_bfloat16_inputs_are_averaged_in_float32(part):
    # At 64 and beyond bfloat16 counts in halves: averaged there, these would lose their mean, their variance, or both.
    rng = np.random.default_rng(0)
    x = jnp.asarray(64 + 4 * rng.normal(size=(512, WIDTH)), jnp.bfloat16)
    norm = part()
    affine = norm.parameters(WIDTH)
    y, moments = norm.train(x, affine)
    exact = norm.train(x.astype(jnp.float32), affine)[0]
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))  # only the result is rounded
    if moments is not None:
        wide = np.asarray(x, np.float64)
        assert moments.mean.dtype == moments.variance.dtype == jnp.float32
        np.testing.assert_allclose(moments.mean, wide.mean(0), rtol=1e-6)  # float32 sums of 512
        np.testing.assert_allclose(moments.variance, wide.var(0, ddof=1), rtol=1e-5)
        running = norm.initial(WIDTH)
        assert norm.evaluate(x, affine, running).dtype == jnp.bfloat16
        assert norm.fold(running, moments).variance.dtype == jnp.float32


@pytest.mark.parametrize("name", ["batch", "layer"])
def test_a_large_mean_costs_no_digits_of_the_variance(name):
    # E[x^2] - E[x]^2 would leave nothing of a variance of 1 beside a mean of 10,000 in float32.
    norm = NORMALIZATIONS.parse(name)
    rng = np.random.default_rng(0)
    x = np.asarray(1e4 + rng.normal(size=(64, WIDTH)), np.float32)
    ours = norm.train(jnp.asarray(x), norm.parameters(WIDTH))[0]
    with jax.enable_x64(True):
        exact = norm.train(jnp.asarray(x, jnp.float64), norm.parameters(WIDTH))[0]
    np.testing.assert_allclose(ours, exact, atol=1e-2)  # x itself is rounded to 1e-3, as is the mean


@pytest.mark.parametrize("case", [{"name": "batch", "momentum": 1.0}, {"name": "layer", "epsilon": -1.0}], ids=str)
def test_options_without_a_meaning_are_refused(case):
    with pytest.raises(ValidationError):
        NORMALIZATIONS.parse(case)
