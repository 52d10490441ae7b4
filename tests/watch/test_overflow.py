"""Where numbers stop being finite: the record says it of each layer, of its values and of its gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgx import watch

DEPTH, WIDTH = 12, 8


@jax.custom_vjp
def spoiled(x, gain):
    """Returns `x`, whose gradient is multiplied by `gain`."""
    return x


spoiled.defvjp(lambda x, gain: (x, gain), lambda gain, g: (g * gain, jnp.zeros_like(gain)))


def loss(params, x, forward, backward):
    def layer(x, of):
        of, forward, backward = of
        h = (x @ of["w"] + of["b"]) * forward
        return jnp.tanh(spoiled(watch.tap(h, of["probe"]), backward)), None

    x, _ = jax.lax.scan(layer, x, (params["layers"], forward, backward))
    return jnp.mean(x**2)


def random_case(seed):
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(WIDTH)
    w = jnp.asarray(rng.normal(0, scale, (DEPTH, WIDTH, WIDTH)), jnp.float32)
    params = {"layers": {"w": w, "b": jnp.full((DEPTH, WIDTH), 0.1), "probe": watch.probe(DEPTH)}}
    return params, jnp.asarray(rng.normal(size=(4, WIDTH)), jnp.float32), int(rng.integers(1, DEPTH)), rng


@pytest.fixture(scope="module")
def measure():
    return jax.jit(watch.value_and_grad(loss))


@pytest.mark.parametrize("seed", range(20))
def test_the_layer_whose_values_overflow_is_the_first_that_is_not_finite(seed, measure):
    params, x, at, rng = random_case(seed)
    forward = np.ones(DEPTH, np.float32)
    forward[at] = rng.choice([np.inf, np.nan, 3e38])
    x = x.at[:, :].set(100.0) if forward[at] == np.float32(3e38) else x
    params["layers"]["b"] = params["layers"]["b"].at[at].set(100.0)
    _, _, record = measure(params, x, forward, np.ones(DEPTH, np.float32))
    finite = [row["forward_finite"] for row in record.rows().values()]
    assert finite.index(False) == at
    assert all(finite[:at])


@pytest.mark.parametrize("seed", range(20))
def test_the_layer_whose_gradient_overflows_is_the_last_that_is_not_finite(seed, measure):
    params, x, at, rng = random_case(seed)
    backward = np.ones(DEPTH, np.float32)
    backward[at] = rng.choice([np.inf, np.nan])
    _, _, record = measure(params, x, np.ones(DEPTH, np.float32), backward)
    rows = list(record.rows().values())
    assert all(row["forward_finite"] for row in rows)
    finite = [row["gradient_finite"] for row in rows]
    assert DEPTH - 1 - finite[::-1].index(False) == at
    assert not any(finite[: at + 1])


def test_a_gradient_of_zeros_is_finite(measure):
    params, x, _, _ = random_case(0)
    _, _, record = measure(params, x, np.ones(DEPTH, np.float32), np.zeros(DEPTH, np.float32))
    for row in record.rows().values():
        assert row["delta_log10"] == -np.inf
        assert row["gradient_finite"] is True
