"""Watched copies of models: what is watched, what stays as it was, and what cannot be watched."""

from __future__ import annotations

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from tests.watch.conftest import jitted
from vgx import watch
from vgx.errors import WatchError

X = jax.random.normal(jax.random.key(0), (6, 4))


class Branch(nnx.Module):
    """A module of the caller's own: neither of Flax's layers nor with a kernel that is called so."""

    def __init__(self, rngs):
        self.mix = nnx.Param(jax.random.normal(rngs.params(), (4, 4)))

    def __call__(self, x):
        return x @ self.mix[...]


class Net(nnx.Module):
    """Layers whose names sort otherwise than they are called, with statistics, noise and a layer that is not called."""

    def __init__(self, rngs):
        self.z_first = nnx.Linear(4, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.noise = nnx.Dropout(0.5, rngs=rngs)
        self.middle = nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), nnx.relu, nnx.LinearGeneral(4, (2, 2), rngs=rngs))
        self.branch = Branch(rngs)
        self.einsum = nnx.Einsum("bij,ijk->bk", (2, 2, 4), (4,), rngs=rngs)
        self.a_last = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])
        self.unused = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        x = self.noise(self.norm(self.z_first(x)))
        x = self.branch(self.einsum(self.middle(x)))
        return self.a_last[1](self.a_last[0](x))


class Typed(nnx.Module):
    """A stack whose scan names its axes by the types of variables."""

    def __init__(self, axes):
        self.stack = nnx.split_rngs(splits=3)(nnx.vmap(lambda rngs: nnx.Linear(4, 4, rngs=rngs)))(nnx.Rngs(0))
        self.axes = axes

    def __call__(self, x):
        axes = nnx.StateAxes({self.axes: 0, ...: None})
        return nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, axes), out_axes=nnx.Carry)(x, self.stack)


class Noisy(nnx.Module):
    """Two layers, statistics and noise."""

    def __init__(self, rngs):
        self.first = nnx.Linear(4, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.noise = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.noise(self.norm(self.first(x)))


def loss_fn(model, x):
    return jnp.mean(jnp.sum(model(x) ** 2, -1))


def measured(model, *args, loss=loss_fn, **options):
    """Value, gradient and record, compiled."""
    return jitted(watch.value_and_grad(loss, **options), model)(model, *args)


def paths(model, loss=loss_fn):
    """The layers of a record, computed of shapes alone."""
    shapes = nnx.eval_shape if isinstance(model, nnx.Module) else eqx.filter_eval_shape
    return [layer.path for layer in shapes(lambda *given: watch.value_and_grad(loss)(*given)[2], model, X).layers]


CALLED = ["z_first", "middle.layers.0", "middle.layers.2", "einsum", "a_last.0", "a_last.1"]


def test_layers_come_in_the_order_in_which_they_are_called_and_an_uncalled_one_not_at_all():
    assert paths(watch.instrument(Net(nnx.Rngs(0)))) == CALLED


def test_only_what_a_filter_accepts_is_watched():
    seen = {}

    def only(path, layer):
        seen[path] = type(layer)
        return "middle" in path

    assert paths(watch.instrument(Net(nnx.Rngs(0)), only=only)) == ["middle.layers.0", "middle.layers.2"]
    assert seen["middle.layers.2"] is nnx.LinearGeneral


def test_modules_of_the_callers_own_are_watched_where_they_are_named():
    model = watch.instrument(nnx.Sequential(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), Branch(nnx.Rngs(0))), also={Branch: 2})
    _, gradient, record = measured(model, X)
    (branch,) = (layer for layer in record.layers if layer.path == "layers.1")
    assert branch == watch.Watched("layers.1", "Branch", (4, 4))
    norm = np.linalg.norm(gradient["layers"][1]["mix"][...])
    assert 10 ** record.rows()["layers.1"]["weight_grad_log10"] == pytest.approx(norm, rel=1e-5)


def test_a_model_stays_as_it_is_and_its_copy_computes_the_same_numbers():
    model = Noisy(nnx.Rngs(0))
    watched = watch.instrument(model)
    before = jax.tree.map(jnp.array, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    assert type(model.first) is nnx.Linear
    assert isinstance(watched.first, nnx.Linear)
    optimizer = nnx.Optimizer(watched, optax.sgd(0.1), wrt=nnx.Param)
    _, gradient, _ = measured(watched, X)
    optimizer.update(watched, gradient)
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(model, nnx.Param)), before)
    alone = nnx.jit(nnx.value_and_grad(loss_fn))(model, X)[1]
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(gradient), nnx.to_pure_dict(alone))


def test_statistics_and_random_streams_move_on_as_without():
    model = Noisy(nnx.Rngs(0))
    watched = watch.instrument(model)
    for _ in range(2):
        nnx.jit(nnx.value_and_grad(loss_fn))(model, X)
        measured(watched, X)
    assert watched.noise.rngs.count[...] == model.noise.rngs.count[...] == 2
    np.testing.assert_array_equal(watched.norm.mean[...], model.norm.mean[...])
    assert np.any(model.norm.mean[...])


def test_random_streams_among_the_arguments_move_on_too():
    def noisy(model, x, rngs):
        return loss_fn(model, x + rngs.noise.normal(x.shape))

    model, watched = Noisy(nnx.Rngs(0)), watch.instrument(Noisy(nnx.Rngs(0)))
    ours, theirs = nnx.Rngs(noise=1), nnx.Rngs(noise=1)
    for _ in range(2):
        value = measured(watched, X, ours, loss=noisy)[0]
        assert value == nnx.jit(nnx.value_and_grad(noisy))(model, X, theirs)[0]
    assert ours.noise.count[...] == theirs.noise.count[...] == 2


def test_stripping_gives_the_original_types_and_tree_back_with_the_weights_of_now():
    model = Net(nnx.Rngs(0))
    watched = watch.instrument(model, also={Branch: 2})
    watched.branch.mix[...] = jnp.ones((4, 4))
    stripped = watch.strip(watched)
    assert nnx.graphdef(stripped) == nnx.graphdef(model)
    assert jax.tree.structure(nnx.state(stripped)) == jax.tree.structure(nnx.state(model))
    assert np.all(stripped.branch.mix[...] == 1)
    assert type(stripped.branch) is Branch


def test_a_watched_model_takes_its_originals_parameters_and_gives_them_back(tmp_path):
    model, watched = Net(nnx.Rngs(0)), watch.instrument(Net(nnx.Rngs(1)))
    parameters = nnx.state(model, nnx.Param)
    with ocp.StandardCheckpointer() as checkpoints:
        checkpoints.save(tmp_path / "original", parameters)
        checkpoints.wait_until_finished()
        nnx.update(watched, checkpoints.restore(tmp_path / "original", nnx.state(watched, nnx.Param)))
    jax.tree.map(
        np.testing.assert_array_equal,
        nnx.to_pure_dict(nnx.state(watched, nnx.Param)),
        nnx.to_pure_dict(parameters),
    )


def test_watching_twice_watches_once():
    once = watch.instrument(Net(nnx.Rngs(0)))
    assert nnx.graphdef(watch.instrument(once)) == nnx.graphdef(once)


def test_a_layer_that_is_called_twice_reports_the_sum_over_its_calls():
    class Twice(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, x, first=0.0, second=0.0):
            return self.layer(jnp.tanh(self.layer(x) + first)) + second

    model = Twice(nnx.Rngs(0))
    _, _, record = watch.value_and_grad(loss_fn)(watch.instrument(model), X)
    zeros = jnp.zeros((6, 4))
    gradients = jax.grad(lambda eps: jnp.mean(jnp.sum(model(X, *eps) ** 2, -1)))((zeros, zeros))
    both = np.sqrt(6 * sum(float(jnp.sum(g**2)) for g in gradients))
    assert 10 ** record.rows()["layer"]["delta_log10"] == pytest.approx(both, rel=1e-5)


def test_stacks_within_stacks_are_numbered_by_both():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def blocks(rngs):
        return nnx.Linear(4, 4, rngs=rngs)

    class Member(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(4, 4, rngs=rngs)
            self.blocks = blocks(rngs)

        def __call__(self, x):
            return nnx.scan(lambda x, b: b(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(self.first(x), self.blocks)

    members = nnx.split_rngs(splits=2)(nnx.vmap(Member))(nnx.Rngs(0))
    watched = watch.instrument(members)

    def loss(members, x):
        return jnp.mean(nnx.vmap(lambda member, x: member(x), in_axes=(0, None))(members, x) ** 2)

    assert paths(watched, loss) == [
        f"{m}.{name}" for m in "01" for name in ("first", "blocks.0", "blocks.1", "blocks.2")
    ]


def test_a_scan_that_names_axes_by_type_takes_probes_as_parameters_or_is_refused():
    assert paths(watch.instrument(Typed((nnx.Param, watch.LayerProbe)))) == ["stack.0", "stack.1", "stack.2"]
    with pytest.raises(
        WatchError, match=r"this probe is of a stack of 3 layers; .*\(nnx\.Param, watch\.LayerProbe\): 0"
    ):
        paths(watch.instrument(Typed(nnx.Param)))


def test_a_value_may_have_more_with_it_and_a_step_may_go_unmeasured():
    aux = lambda model, x: (loss_fn(model, x), {"x": x})  # noqa: E731
    model = watch.instrument(Noisy(nnx.Rngs(0)))
    (value, more), gradient, record = measured(model, X, loss=aux, has_aux=True)
    assert value.shape == ()
    assert more["x"].shape == X.shape
    fresh = watch.instrument(Noisy(nnx.Rngs(0)))
    (same, _), unmeasured, none = measured(fresh, X, loss=aux, has_aux=True, measure=False)
    assert none is None
    assert record is not None
    assert same == value
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(unmeasured), nnx.to_pure_dict(gradient))


@pytest.mark.parametrize("examples", [None, 2])
def test_delta_is_of_one_example(examples):
    model = watch.instrument(nnx.Sequential(nnx.Linear(4, 1, rngs=nnx.Rngs(0))))
    mean = lambda model, x: jnp.mean(model(x))  # noqa: E731
    _, _, record = measured(model, X, loss=mean, examples=examples)
    assert record.rows()["layers.0"]["delta_log10"] == pytest.approx(0.5 * np.log10((examples or 6) / 6), abs=1e-6)


def test_a_net_in_bfloat16_is_measured_in_float32():
    model = watch.instrument(nnx.Linear(4, 4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    loss = lambda model, x: jnp.mean(jnp.sum(model(x).astype(jnp.float32), -1))  # noqa: E731
    _, _, record = measured(model, X, loss=loss)
    (row,) = record.rows().values()
    # Each of 6 x 4 entries has the gradient 1/6, which bfloat16 rounds to 8 bits.
    assert 10 ** row["delta_log10"] == pytest.approx(np.sqrt(6 * 24) * float(jnp.bfloat16(1 / 6)), rel=1e-6)


def test_steps_that_were_scanned_are_read_one_by_one():
    model = {"layer": {"w": jnp.eye(4), "b": jnp.zeros(4), "probe": watch.probe()}}

    def loss(params, x):
        layer = params["layer"]
        return jnp.mean(watch.tap(x @ layer["w"] + layer["b"], layer["probe"]))

    def step(params, x):
        _, gradient, record = watch.value_and_grad(loss)(params, x)
        return jax.tree.map(lambda p, g: p - g, params, gradient), record

    first = jax.tree.map(lambda p, g: p - g, model, watch.value_and_grad(loss)(model, X)[1])["layer"]
    w, b = first["w"], first["b"]
    _, records = jax.lax.scan(step, model, jnp.stack([X, 2 * X]))
    with pytest.raises(WatchError, match=r"record: of \(2,\) steps or lanes at once; take one, as jax\.tree\.map"):
        records.rows()
    second = jax.tree.map(lambda figures: figures[1], records)
    assert second.rows()["layer"]["preact_std"] == pytest.approx(float(jnp.std(2 * X @ w + b)), rel=1e-5)


def test_nothing_of_a_call_is_kept():
    model = watch.instrument(Noisy(nnx.Rngs(0)))
    with jax.checking_leaks():
        measured(model, X)


def test_a_log_is_imported_without_what_measures():
    script = "import sys; from vgx import watch; watch.Log; print(sorted({'jax', 'flax', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_forward_mode_is_refused_by_jax_and_a_stripped_model_has_it():
    model = watch.instrument(nnx.Sequential(nnx.Linear(4, 4, rngs=nnx.Rngs(0))))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(model, (X,), (X,))
    assert jax.jvp(watch.strip(model), (X,), (X,))[1].shape == X.shape


# Equinox.


class Stack(eqx.Module):
    """A layer, three in a stack, and two in a list of which one is shared."""

    first: eqx.nn.Linear
    blocks: eqx.nn.Linear
    last: list

    def __init__(self, key):
        keys = jax.random.split(key, 5)
        self.first = eqx.nn.Linear(4, 4, key=keys[0])
        self.blocks = eqx.filter_vmap(lambda key: eqx.nn.Linear(4, 4, key=key))(keys[1:4])
        self.last = [eqx.nn.Linear(4, 4, use_bias=False, key=keys[4]), jax.nn.relu]

    def __call__(self, x):
        arrays, rest = eqx.partition(self.blocks, eqx.is_array)
        x, _ = jax.lax.scan(lambda x, block: (eqx.combine(block, rest)(x), None), self.first(x), arrays)
        return self.last[1](self.last[0](x))


def test_equinox_models_are_watched_alike():
    model = Stack(jax.random.key(0))
    watched = watch.instrument(model)
    loss = lambda model, x: jnp.mean(jax.vmap(model)(x) ** 2)  # noqa: E731
    _, gradient, record = eqx.filter_jit(watch.value_and_grad(loss))(watched, X)
    assert [of.path for of in record.layers] == ["first", "blocks.0", "blocks.1", "blocks.2", "last.0"]
    assert record.layers[1] == watch.Watched("blocks.0", "Linear", (4, 4))
    assert "bias_grad_log10" not in record.rows()["last.0"]
    assert eqx.tree_equal(watch.strip(watched), model)
    assert type(watch.strip(watched).first) is eqx.nn.Linear
    alone = eqx.filter_jit(eqx.filter_value_and_grad(loss))(model, X)[1]
    assert eqx.tree_equal(watch.strip(gradient), alone)
    assert paths(watch.instrument(model, only=lambda path, layer: path == "first"), loss) == ["first"]


def test_equinox_checkpoints_of_the_original_load(tmp_path):
    model = Stack(jax.random.key(0))
    eqx.tree_serialise_leaves(tmp_path / "original.eqx", model)
    watched = watch.instrument(Stack(jax.random.key(1)))
    loaded = watch.instrument(eqx.tree_deserialise_leaves(tmp_path / "original.eqx", watch.strip(watched)))
    assert eqx.tree_equal(watch.strip(loaded), model)


# Plain functions.


def test_parameters_in_plain_containers_get_probes_beside_their_weights_and_lose_them_again():
    params = {"stack": {"w": jnp.ones((3, 4, 4)), "b": jnp.zeros((3, 4))}, "rest": [{"scale": jnp.ones(4)}, {"w": X}]}
    watched = watch.instrument(params)
    assert watched["stack"]["probe"].sums.shape[:-1] == (3,)
    assert watched["rest"][1]["probe"].sums.ndim == 1
    assert "probe" not in watched["rest"][0]
    assert jax.tree.structure(watch.strip(watched)) == jax.tree.structure(params)


def test_a_probe_may_have_any_name_and_place():
    params = {"w": jnp.eye(4), "probes": {"inner": watch.probe(), "outer": watch.probe()}}

    def loss(params, x):
        h = watch.tap(x @ params["w"], params["probes"]["outer"])
        return jnp.mean(watch.tap(jnp.tanh(h) @ params["w"], params["probes"]["inner"]))

    record = watch.value_and_grad(loss)(params, X)[2]
    assert record.layers == (
        watch.Watched("probes.outer", "tap", (6, 4)),
        watch.Watched("probes.inner", "tap", (6, 4)),
    )
    assert "weight_norm" not in record.rows()["probes.inner"]


# What cannot be watched.


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: watch.instrument(nnx.BatchNorm(4, rngs=nnx.Rngs(0))), "BatchNorm has no layer to watch; name types"),
        (
            lambda: watch.instrument(Net(nnx.Rngs(0)), only=lambda path, layer: False),
            "Net has no layer to watch that `only` accepts",
        ),
        (lambda: watch.instrument({"scale": jnp.ones(3)}), "dict has no layer to watch"),
        (
            lambda: watch.instrument({"deep": {"w": jnp.ones((3, 4, 4))}}),
            r"deep: w\[3, 4, 4\] without a bias may be a layer or a stack; give it \"probe\": watch\.probe\(\) or",
        ),
        (
            lambda: watch.instrument({"w": X}, also={dict: 2}),
            "also: names types of modules, and there are none in a dict",
        ),
        (lambda: paths(Net(nnx.Rngs(0))), r"no layer of this Net is watched; see watch\.instrument"),
        (
            lambda: watch.value_and_grad(lambda model: loss_fn(model, X))(watch.instrument(Net(nnx.Rngs(0)))),
            "no array among the arguments has a batch to count; give examples=N",
        ),
        (lambda: watch.tap(X, watch.probe(3)), "this probe is of a stack of 3 layers; scan or vmap over it"),
        (lambda: watch.tap(jnp.arange(3), watch.probe()), r"must be numbers with a gradient, not int32\[3\]"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_one_line(ask, says):
    with pytest.raises(WatchError, match=says) as refused:
        ask()
    assert "\n" not in str(refused.value)
