"""Columns of the activation behind a watched layer, against NumPy: what it passes on, who is dead, where it is flat."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

import vgx
from tests.watch.conftest import QUICK, arrays, batch_of, in_float64, jitted, make
from vgx import watch
from vgx.errors import WatchError
from vgx.parts.activations import ACTIVATIONS, LeakyReLU
from vgx.results.columns import LAYERS

DEPTH, WIDTH, EXAMPLES = 3, 5, 6
COLUMNS = ("act_mean", "act_rms", "dead", "saturated")


def parameters():
    """Of three layers, in each of which one unit is off for every example, and one is on for a single one."""
    layers = {"w": jax.random.normal(jax.random.key(0), (DEPTH, WIDTH, WIDTH)), "b": jnp.zeros((DEPTH, WIDTH))}
    layers["b"] = layers["b"].at[:, 0].set(-1000.0)
    layers["w"] = layers["w"].at[:, :, 1].set(0.0).at[:, 2, 1].set(1.0)
    layers["b"] = layers["b"].at[0, 1].set(-jnp.sort(inputs()[:, 2])[-2:].mean())
    return watch.instrument({"layers": layers})


def inputs():
    return jax.random.normal(jax.random.key(2), (EXAMPLES, WIDTH))


def by_hand(h, f, axis=-1):
    """The columns, of an example along the first axis and units along another."""
    entries = np.moveaxis(np.asarray(h), axis, -1)
    y = np.asarray(f(jnp.asarray(entries)))
    slope = np.abs(np.asarray(jax.vmap(jax.grad(lambda h: f(h)))(jnp.asarray(entries.ravel())))).reshape(entries.shape)
    still = (slope == 0).reshape(-1, entries.shape[-1]).all(0)
    every = np.abs(np.asarray(jax.vmap(jax.grad(lambda h: f(h)))(jnp.linspace(-9, 9, 100_001))))
    shares = {"dead": still.mean(), "saturated": np.mean(slope < 0.05 * every.max())}
    return {"act_mean": y.mean(), "act_rms": np.sqrt(np.mean(y**2))} | shares


def chain(f, activation, wrap=lambda layer: layer):
    @wrap
    def layer(x, of):
        return f(watch.tap(x @ of["w"] + of["b"], of["probe"], activation=activation)), None

    return lambda params, x: jnp.mean(jnp.sum(jax.lax.scan(layer, x, params["layers"])[0] ** 2, -1))


def per_example(loss):
    return lambda params, x: jnp.mean(jax.vmap(lambda one: loss(params, one[None]))(x))


def sharded(loss):
    split, whole = PartitionSpec("data"), PartitionSpec()
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))

    def shard(params, x):
        return jax.lax.pmean(loss(params, x), "data")

    return jax.shard_map(shard, mesh=mesh, in_specs=(whole, split), out_specs=whole)


TRANSFORMS = {
    "scan": chain,
    "remat": lambda f, activation: chain(f, activation, jax.checkpoint),
    "vmap": lambda *given: per_example(chain(*given)),
    "shard_map": lambda *given: sharded(chain(*given)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", ["relu", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tanh", "gelu"))])
@pytest.mark.usefixtures("float64")
def test_columns_of_the_activation_are_right_under_every_transform(transform, name):
    f = ACTIVATIONS[name]()
    loss, params = TRANSFORMS[transform](f, name), parameters()
    rows = jax.jit(watch.value_and_grad(loss))(params, inputs())[2].rows()
    y, found = inputs(), []
    for layer in range(DEPTH):
        h = y @ params["layers"]["w"][layer] + params["layers"]["b"][layer]
        expected = by_hand(h, f)
        assert {name: rows[f"layers.{layer}"][name] for name in COLUMNS} == pytest.approx(expected, rel=1e-10)
        found.append(expected["dead"])
        y = f(h)
    # One unit of five is off, of a ReLU exactly; that which one example moves is not.
    assert found[0] == 0.2


@pytest.mark.usefixtures("float64")
def test_a_unit_of_a_convolution_is_a_channel_in_flax(example):
    module, (batch,) = example("flax_cnn_watched"), batch_of("flax_cnn")
    model = in_float64(make(module))
    model.conv1.bias[...] = model.conv1.bias[...].at[:7].set(-100.0)
    watched = watch.instrument(model, activation={"linear2": None, "*": "relu"})
    rows = jitted(watch.value_and_grad(module.loss_fn, has_aux=True), watched)(watched, batch)[2].rows()
    x, pool = batch["image"], model.avg_pool
    for name in ("conv1", "conv2", "linear1"):
        h = getattr(model, name)(x)
        assert {of: rows[name][of] for of in COLUMNS} == pytest.approx(by_hand(h, nnx.relu), rel=1e-10)
        x = pool(nnx.relu(h)) if h.ndim == 4 else nnx.relu(h)
        x = x if name == "conv1" else x.reshape(len(x), -1)
    assert rows["conv1"]["dead"] == 7 / 32
    assert not set(COLUMNS) & set(rows["linear2"])


@pytest.mark.usefixtures("float64")
def test_a_unit_of_a_convolution_is_a_channel_in_equinox_too():
    one, two, three = jax.random.split(jax.random.key(0), 3)
    first = eqx.nn.Conv2d(1, 6, 3, key=one)
    first = eqx.tree_at(lambda layer: layer.bias, first, first.bias.at[:2].set(-100.0))
    linear, last = eqx.nn.Linear(24, 5, use_bias=False, key=two), eqx.nn.Linear(5, "scalar", key=three)
    relu, ravel, tanh = (eqx.nn.Lambda(of) for of in (jax.nn.relu, jnp.ravel, jnp.tanh))
    model = eqx.nn.Sequential([first, relu, ravel, linear, tanh, last])
    x = jax.random.normal(jax.random.key(1), (EXAMPLES, 1, 4, 4))
    watched = watch.instrument(model, activation={"layers.3": "tanh", "layers.*": "relu"})

    def loss(model, x):
        return jnp.mean(jax.vmap(model)(x) ** 2)

    rows = eqx.filter_jit(watch.value_and_grad(loss))(watched, x)[2].rows()
    left = {0: jax.vmap(first)(x)}
    left[3] = jax.vmap(linear)(jax.nn.relu(left[0]).reshape(EXAMPLES, -1))
    left[5] = jax.vmap(model)(x)[:, None]
    for at, f in ((0, jax.nn.relu), (3, jnp.tanh), (5, jax.nn.relu)):
        expected = by_hand(left[at], f, axis=1)
        assert {of: rows[f"layers.{at}"][of] for of in COLUMNS} == pytest.approx(expected, rel=1e-10)
    assert rows["layers.0"]["dead"] == 2 / 6


def test_units_may_have_several_axes_as_heads_do():
    layer = nnx.LinearGeneral(4, (2, 3), use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = layer.kernel[...].at[:, 1, :2].set(0.0)

    def loss(model, x):
        return jnp.mean(model(x) ** 2)

    record = watch.value_and_grad(loss)(watch.instrument(layer, activation="relu"), inputs()[:, :4])[2]
    assert record.rows()["model"]["dead"] == pytest.approx(2 / 6)


def rows_of(activation, h, units=0, axis=-1):
    """What an explicit tap says of numbers."""
    params = {"probe": watch.probe(units=units)}

    def loss(params, h):
        return jnp.mean(watch.tap(h, params["probe"], activation=activation, axis=axis))

    (row,) = watch.value_and_grad(loss)(params, h)[2].rows().values()
    return row


def test_a_function_has_its_steepest_slope_found_where_it_has_one():
    h = jnp.linspace(-3, 3, 60).reshape(12, 5)
    assert rows_of(jax.nn.gelu, h)["saturated"] == pytest.approx(rows_of("gelu", h)["saturated"], abs=0.02)
    assert rows_of(nnx.relu, h, 5) == rows_of("relu", h, 5)
    assert rows_of(lambda h: 4 * jax.nn.sigmoid(h), h)["saturated"] == rows_of("sigmoid", h)["saturated"]
    square = rows_of(jnp.square, h)
    assert "saturated" not in square
    assert square["act_rms"] == pytest.approx(float(jnp.sqrt(jnp.mean(h**4))), rel=1e-5)


def test_options_of_a_part_count_and_units_lie_where_they_are_said_to():
    h = jnp.array([[1.0, -1.0, -1.0], [1.0, -1.0, 2.0]])
    assert rows_of(LeakyReLU(negative_slope=0.04), h)["saturated"] == 0.5
    assert rows_of(LeakyReLU(negative_slope=0.06), h)["saturated"] == 0
    assert rows_of("relu", h, 3)["dead"] == pytest.approx(1 / 3)
    assert rows_of("relu", h.at[0, 0].set(-1), 2, axis=0)["dead"] == 0.5
    assert "dead" not in rows_of("relu", h)


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_activations_of_any_size_are_read(size):
    assert rows_of("identity", jnp.full((4, 2), size))["act_rms"] == pytest.approx(size, rel=1e-5)


@pytest.mark.parametrize("examples", [31, 32])
def test_small_batches_do_not_tell_who_is_dead(examples, tmp_path):
    params = watch.instrument({"w": jnp.eye(WIDTH), "b": jnp.zeros(WIDTH)})

    def loss(params, x):
        return jnp.mean(watch.tap(x @ params["w"] + params["b"], params["probe"], activation="relu"))

    _, _, record = watch.value_and_grad(loss)(params, jax.random.normal(jax.random.key(0), (examples, WIDTH)))
    with watch.Log(tmp_path / "run") as log:
        log.write(1, record, loss=0.0)
    layers = vgx.open_run(tmp_path / "run").layers()
    assert layers["act_rms"].null_count == 0
    assert layers["dead"].null_count == (len(layers) if examples < 32 else 0)


def test_without_an_activation_its_columns_are_left_out():
    assert not set(COLUMNS) & set(rows_of(None, inputs()))
    assert set(COLUMNS) <= set(LAYERS)


FOLLOW = {
    "flax_cnn": {"linear2": None, "*": "relu"},
    "flax_transformer": {"blocks.up": nnx.gelu},
    "equinox_cnn": {"layers.4": "sigmoid", "layers.6": "relu"},
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FOLLOW]
)
def test_weights_are_the_same_bits_with_and_without_the_activation(name, example):
    plain, watched = example(name, 2), example(f"{name}_watched", 2)
    rows = {}

    def write(step, record, **scalars):
        rows.update(record.rows())

    alone = plain.train(make(plain), lambda step, **scalars: None, 5)
    seen = watched.train(watch.instrument(make(watched), activation=FOLLOW[name]), write, 5)
    for ours, theirs in zip(arrays(watch.strip(seen)), arrays(alone), strict=True):
        assert np.array_equal(ours, theirs)
    assert sum("dead" in row for row in rows.values()) == {"flax_cnn": 3}.get(name, 2)


DENSE = nnx.Linear(4, 4, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: watch.instrument(DENSE, activation="rely"), "no activation is called 'rely'; did you mean 'relu'"),
        (lambda: watch.tap(inputs(), watch.probe(), activation="rely"), "no activation is called 'rely'; did you"),
        (lambda: watch.instrument(DENSE, activation="prelu"), "prelu has slopes that are drawn or learned; give a"),
        (lambda: watch.instrument(DENSE, activation=3), "expected a name of `vgx parts` or a function, not 3"),
        (lambda: watch.instrument(DENSE, activation=nnx.softmax), "softmax mixes the entries of what it receives"),
        (
            lambda: watch.instrument(nnx.Sequential(DENSE), activation={"layers.*": "relu", "layers.0": None}),
            r"'layers\.0': no layer matches it first; there are: layers\.0",
        ),
        (
            lambda: watch.instrument({"w": jnp.ones((4, 4))}, activation="relu"),
            r'in a function say it where it is: watch\.tap\(h, probe, activation="relu"\)',
        ),
        (
            lambda: watch.tap(inputs(), watch.probe(units=3), activation="relu"),
            r"\[6, 5\] has 5 units along axis -1, and the probe is of 3",
        ),
    ],
)
def test_what_is_no_activation_is_refused_in_one_line(ask, says):
    with pytest.raises(WatchError, match=says) as refused:
        ask()
    assert "\n" not in str(refused.value)
