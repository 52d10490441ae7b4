"""Gradients of any size, under whatever transforms: norms that never square what may be tiny, and sums that add up."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vgx import watch
from vgx.errors import WatchError

DEPTH, WIDTH, EXAMPLES = 3, 4, 6


def parameters(dtype=jnp.float32):
    w = jax.random.normal(jax.random.key(0), (DEPTH, WIDTH, WIDTH), dtype)
    b = jax.random.normal(jax.random.key(1), (DEPTH, WIDTH), dtype)
    return {"layers": {"w": w, "b": b, "probe": watch.probe(DEPTH)}}


def inputs(dtype=jnp.float32):
    return jax.random.normal(jax.random.key(2), (EXAMPLES, WIDTH), dtype)


def layer(x, of):
    return jnp.tanh(watch.tap(x @ of["w"] + of["b"], of["probe"])), None


def scanned(params, x, size=1.0):
    x, _ = jax.lax.scan(layer, x, params["layers"])
    return jnp.mean(jnp.sum(x, -1)) * size


def rematerialized(params, x, size=1.0):
    x, _ = jax.lax.scan(jax.checkpoint(layer), x, params["layers"])
    return jnp.mean(jnp.sum(x, -1)) * size


def unrolled(params, x, size=1.0):
    for at in range(DEPTH):
        x, _ = layer(x, jax.tree.map(lambda leaf, at=at: leaf[at], params["layers"]))
    return jnp.mean(jnp.sum(x, -1)) * size


def per_example(params, x, size=1.0):
    return jnp.mean(jax.vmap(lambda one: scanned(params, one[None], size))(x))


def sharded(params, x, size=1.0):
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    split, whole = PartitionSpec("data"), PartitionSpec()

    def shard(params, x):
        return jax.lax.pmean(scanned(params, x, size), "data")

    return jax.shard_map(shard, mesh=mesh, in_specs=(whole, split), out_specs=whole)(params, x)


def branching(params, x, size=1.0):
    return jax.lax.cond(x[0, 0] < 100, scanned, unrolled, params, x, size)


def called(params, x, size=1.0):
    return jax.jit(scanned)(params, x, size)


LOSSES = [scanned, rematerialized, unrolled, per_example, sharded, branching, called]


def deltas(size):
    """By hand, in float64: sqrt(B) |dloss/dh| of each layer."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), parameters())
        x = inputs().astype(jnp.float64)
        add = jnp.zeros((DEPTH, EXAMPLES, WIDTH))

        def loss(add):
            y = x
            for at in range(DEPTH):
                y = jnp.tanh(y @ params["layers"]["w"][at] + params["layers"]["b"][at] + add[at])
            return jnp.mean(jnp.sum(y, -1)) * size

        gradient = np.asarray(jax.grad(loss)(add)) if size > 1e-300 else None
        return math.sqrt(EXAMPLES) * np.sqrt(np.sum(gradient**2, (1, 2)))


@pytest.mark.parametrize("size", [1.0, 1e-33, 1e30])
@pytest.mark.parametrize("loss", LOSSES)
def test_delta_is_right_under_every_transform_and_at_every_size(loss, size):
    _, _, record = jax.jit(watch.value_and_grad(loss))(parameters(), inputs(), size)
    assert [of.path for of in record.layers] == ["layers.0", "layers.1", "layers.2"]
    measured = [row["delta_log10"] for row in record.rows().values()]
    np.testing.assert_allclose(measured, np.log10(deltas(size)), atol=2e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_forward_statistics_are_right_under_every_transform(loss):
    _, _, record = watch.value_and_grad(loss)(parameters(), inputs())
    y = np.asarray(inputs(), np.float64)
    for row, w, b in zip(
        record.rows().values(), *map(np.asarray, (parameters()["layers"][name] for name in "wb")), strict=True
    ):
        h = y @ w + b
        assert row["preact_mean"] == pytest.approx(h.mean(), rel=1e-5, abs=1e-6)
        assert row["preact_std"] == pytest.approx(h.std(), rel=1e-5)
        assert row["forward_finite"] is True
        y = np.tanh(h)


@pytest.mark.parametrize("entry", [1e-37, 1e-30, 1e-19, 1.0, 1e19, 3e38])
def test_a_single_entry_of_any_size_is_read(entry):
    params = {"net": {"w": jnp.ones((1, 1)), "b": jnp.zeros(1), "probe": watch.probe()}}

    def loss(params, x):
        h = watch.tap(x @ params["net"]["w"] + params["net"]["b"], params["net"]["probe"])
        return jnp.sum(h * jnp.float32(entry))

    _, _, record = watch.value_and_grad(loss)(params, jnp.ones((1, 1)))
    assert record.rows()["net"]["delta_log10"] == pytest.approx(math.log10(entry), abs=1e-6)
    assert record.rows()["net"]["gradient_finite"] is True


@pytest.mark.parametrize("size", [1e-37, 1e-20, 1.0, 1e20])
def test_pre_activations_of_any_size_are_read(size):
    params = {"net": {"w": jnp.eye(2), "b": jnp.zeros(2), "probe": watch.probe()}}
    x = jnp.array([[1.0, 3.0], [5.0, 7.0]]) * jnp.float32(size)
    _, _, record = watch.value_and_grad(lambda params, x: jnp.mean(layer(x, params["net"])[0]))(params, x)
    assert record.rows()["net"]["preact_std"] == pytest.approx(math.sqrt(5) * size, rel=1e-5)


def test_a_loss_scale_reaches_what_float32_does_not():
    def loss(params, x):
        return scanned(params, x, 1e-30) * 1e-12

    plain = watch.value_and_grad(loss)(parameters(), inputs())[2].rows()
    _, gradient, record = watch.value_and_grad(loss, loss_scale=2.0**100)(parameters(), inputs())
    rows = record.rows()
    assert plain["layers.0"]["delta_log10"] == -math.inf
    np.testing.assert_allclose([row["delta_log10"] for row in rows.values()], np.log10(deltas(1e-42)), atol=2e-6)
    # What the optimizer sees stands beside it.
    assert rows["layers.0"]["weight_grad_log10"] > -50
    assert rows["layers.0"]["weight_grad_zero"] == 1
    assert not np.any(gradient["layers"]["w"])


def test_a_loss_scale_changes_no_bit_in_range():
    expected, alone, _ = watch.value_and_grad(scanned)(parameters(), inputs())
    loss, scaled, _ = watch.value_and_grad(scanned, loss_scale=2.0**20)(parameters(), inputs())
    assert loss == expected
    jax.tree.map(np.testing.assert_array_equal, scaled, alone)


def test_a_loss_scale_is_a_power_of_two():
    with pytest.raises(WatchError, match=r"must be a power of two, e\.g\. 2\.0\*\*64, not 1000"):
        watch.value_and_grad(scanned, loss_scale=1000.0)


def test_two_devices_that_share_a_batch_measure_what_one_does():
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    x = jax.device_put(inputs(), NamedSharding(mesh, PartitionSpec("data")))
    params = jax.device_put(parameters(), NamedSharding(mesh, PartitionSpec()))
    for size in (1.0, 1e-30):
        one = watch.value_and_grad(scanned)(parameters(), inputs(), size)[2].rows()
        two = jax.jit(watch.value_and_grad(scanned))(params, x, size)[2].rows()
        for path, row in one.items():
            assert two[path] == pytest.approx(row, rel=1e-5, abs=1e-5)
