"""What a record says, against gradients at perturbations written out by hand, and against PyTorch and NumPy."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.watch.conftest import EXAMPLES, QUICK, batch_of, in_float64, jitted, make
from vgx import watch
from vgx.watch.sites import leaves_by_path


def flax_cnn(module, model, batch, add):
    pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
    x = pool(nnx.relu(add("conv1", model.conv1(batch["image"]))))
    x = pool(nnx.relu(add("conv2", model.conv2(x))))
    x = nnx.relu(add("linear1", model.linear1(x.reshape(x.shape[0], -1))))
    log_p = jax.nn.log_softmax(add("linear2", model.linear2(x)))
    return -jnp.mean(jnp.take_along_axis(log_p, batch["label"][:, None], axis=1))


def flax_transformer(module, model, tokens, add):
    graph, state = nnx.split(model.blocks)
    inputs = tokens[:, :-1]
    x = add("token", model.token(inputs)) + add("position", model.position(jnp.arange(inputs.shape[1])))
    for layer in range(module.LAYERS):
        block = nnx.merge(graph, jax.tree.map(lambda leaf, layer=layer: leaf[layer], state))
        at, normed = f"blocks.{layer}", block.norm1(x)
        q, k, v = (
            add(f"{at}.attention.{name}", getattr(block.attention, name)(normed)) for name in ("query", "key", "value")
        )
        mixed = nnx.dot_product_attention(q, k, v, mask=nnx.make_causal_mask(x[..., 0]))
        x = x + add(f"{at}.attention.out", block.attention.out(mixed))
        x = x + add(f"{at}.down", block.down(nnx.gelu(add(f"{at}.up", block.up(block.norm2(x))))))
    log_p = jax.nn.log_softmax(add("readout", model.readout(model.norm(x))))
    return -jnp.mean(jnp.take_along_axis(log_p, tokens[:, 1:, None], axis=2))


def equinox_cnn(module, model, x, y, add):
    for number, layer in enumerate(model.layers):
        x = jax.vmap(layer)(x)
        x = add(f"layers.{number}", x) if hasattr(layer, "weight") else x
    return -jnp.mean(jnp.take_along_axis(x, y[:, None], axis=1))


def plain_mlp(module, params, x, y, add):
    x = jax.nn.relu(add("first", x @ params["first"]["w"] + params["first"]["b"]))
    for layer in range(module.DEPTH):
        w, b = params["hidden"]["w"][layer], params["hidden"]["b"][layer]
        x = jax.nn.relu(add(f"hidden.{layer}", x @ w + b))
    log_p = jax.nn.log_softmax(add("last", x @ params["last"]["w"] + params["last"]["b"]))
    return -jnp.mean(jnp.take_along_axis(log_p, y[:, None], axis=1))


BY_HAND = {forward.__name__: forward for forward in (flax_cnn, flax_transformer, equinox_cnn, plain_mlp)}


def perturbed(name, module, model, batch):
    """By path, what each layer leaves and the loss's gradient with respect to what is added to it."""
    left = {}

    def note(path, h):
        left[path] = h
        return h

    @partial(jitted, model=model)
    def gradient_of(model):
        BY_HAND[name](module, model, *batch, add=note)
        zeros = {path: jnp.zeros(h.shape, h.dtype) for path, h in left.items()}
        loss = lambda eps: BY_HAND[name](module, model, *batch, add=lambda path, h: h + eps[path])  # noqa: E731
        return dict(left), jax.grad(loss)(zeros)

    left, gradient = gradient_of(model)
    return {path: np.asarray(h) for path, h in left.items()}, {path: np.asarray(g) for path, g in gradient.items()}


MARKED = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in EXAMPLES]


@pytest.mark.parametrize("name", MARKED)
@pytest.mark.usefixtures("float64")
def test_delta_is_the_gradient_at_a_perturbation(name, example):
    module, batch = example(f"{name}_watched", 2), batch_of(name)
    model = in_float64(make(module))
    left, gradient = perturbed(name, module, model, batch)
    measured = watch.value_and_grad(module.loss_fn, has_aux=name == "flax_cnn")
    _, _, record = jitted(measured, model)(watch.instrument(model), *batch)
    rows = record.rows()
    assert set(rows) == set(left)  # jit sorts the latter
    for path, row in rows.items():
        delta = math.sqrt(5) * np.linalg.norm(gradient[path])
        assert 10 ** row["delta_log10"] == pytest.approx(delta, rel=1e-10)
        if path in ("token", "position"):
            assert row["act_rms"] == pytest.approx(np.sqrt(np.mean(left[path] ** 2)), rel=1e-10)
        else:
            assert row["preact_mean"] == pytest.approx(left[path].mean(), rel=1e-8, abs=1e-12)
            assert row["preact_std"] == pytest.approx(left[path].std(), rel=1e-10)


@pytest.mark.parametrize("name", MARKED)
def test_weights_and_their_gradients_are_measured_as_numpy_does(name, example):
    module = example(f"{name}_watched", 2)
    model = watch.instrument(make(module))
    measured = watch.value_and_grad(module.loss_fn, has_aux=name == "flax_cnn")
    _, gradients, record = jitted(measured, model)(model, *batch_of(name))
    updates = jax.tree.map(lambda leaf: -0.1 * leaf, gradients)
    ratio = record.update_ratio(updates)
    weights = leaves_by_path(nnx.state(model, nnx.Param) if isinstance(model, nnx.Module) else model)
    by_path = leaves_by_path(gradients)
    for layer, row in record.rows().items():
        at, index = placed(layer, by_path)
        kernel = next((*at, name) for name in ("kernel", "embedding", "weight", "w") if (*at, name) in by_path)
        gradient, weight = (np.asarray(of[kernel], np.float64)[index] for of in (by_path, weights))
        assert 10 ** row["weight_grad_log10"] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
        assert row["weight_norm"] == pytest.approx(np.linalg.norm(weight), rel=1e-5)
        assert row["weight_grad_zero"] == pytest.approx(np.mean(gradient == 0), abs=1e-6)
        assert ratio[layer] == pytest.approx(0.1 * np.linalg.norm(gradient) / np.linalg.norm(weight), rel=1e-5)
        biases = [np.asarray(by_path[(*at, name)])[index] for name in ("bias", "b") if (*at, name) in by_path]
        assert ("bias_grad_log10" in row) == bool(biases)
        for bias in biases:
            assert 10 ** row["bias_grad_log10"] == pytest.approx(np.linalg.norm(bias), rel=1e-5)


def placed(layer, by_path):
    """Where a layer's parameters stand, and which of a stack's they are."""
    words = layer.split(".")
    for at in range(len(words)):
        if words[at].isdigit() and (without := (*words[:at], *words[at + 1 :])) in {path[:-1] for path in by_path}:
            return without, int(words[at])
    return tuple(words), ...


def test_the_convolutional_net_is_measured_as_pytorch_does(example):
    torch = pytest.importorskip("torch", reason="a numerical reference of the dev extra")
    module = example("flax_cnn_watched")
    model = watch.instrument(make(module))
    (batch,) = batch_of("flax_cnn")
    (loss, _), _, record = jitted(watch.value_and_grad(module.loss_fn, has_aux=True), model)(model, batch)

    conv1, conv2 = (torch.nn.Conv2d(*sizes, 3, padding="same") for sizes in ((1, 32), (32, 64)))
    linear1, linear2 = torch.nn.Linear(256, 256), torch.nn.Linear(256, 10)
    layers = {"conv1": conv1, "conv2": conv2, "linear1": linear1, "linear2": linear2}
    left = {}
    with torch.no_grad():
        for name, layer in layers.items():
            kernel = np.asarray(getattr(model, name).kernel[...])
            layer.weight.copy_(torch.tensor(kernel.transpose((3, 2, 0, 1) if kernel.ndim == 4 else (1, 0))))
            layer.bias.copy_(torch.tensor(np.asarray(getattr(model, name).bias[...])))

    def tapped(name, x):
        left[name] = layers[name](x)
        left[name].retain_grad()
        return left[name]

    x = torch.tensor(np.asarray(batch["image"])).permute(0, 3, 1, 2)
    x = torch.nn.functional.avg_pool2d(tapped("conv1", x).relu(), 2)
    x = torch.nn.functional.avg_pool2d(tapped("conv2", x).relu(), 2)
    x = tapped("linear1", x.permute(0, 2, 3, 1).flatten(1)).relu()
    theirs = torch.nn.functional.cross_entropy(tapped("linear2", x), torch.tensor(np.asarray(batch["label"])).long())
    theirs.backward()
    assert float(loss) == pytest.approx(theirs.item(), rel=1e-5)
    for name, row in record.rows().items():
        h, layer = left[name], layers[name]
        assert 10 ** row["delta_log10"] == pytest.approx(math.sqrt(5) * h.grad.norm().item(), rel=1e-5)
        assert 10 ** row["weight_grad_log10"] == pytest.approx(layer.weight.grad.norm().item(), rel=1e-5)
        assert 10 ** row["bias_grad_log10"] == pytest.approx(layer.bias.grad.norm().item(), rel=1e-5)
        assert row["weight_norm"] == pytest.approx(layer.weight.norm().item(), rel=1e-5)
        assert row["preact_std"] == pytest.approx(h.std(correction=0).item(), rel=1e-5)
