"""Nets with skip connections: what is computed, and what the taps read of it, against plain float64 autodiff."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.test_probes import BATCH, CLASSES, FEATURES, config_of, examples, mean_loss, measured, net, shaken
from vgx.config.schema import Config
from vgx.errors import ConfigError
from vgx.training.model import MLP


def by_hand(config: Config, mlp: MLP, x: jax.Array, at_h: list, at_stream: list) -> tuple[jax.Array, list, list]:
    """Logits, what is added over what it is added to, and r, layer by layer from the formulas of science alone.

    Offsets on each h and on each stream make their gradients visible.
    """
    kind, ratios, streams = config.model.residual.name, [], []
    layers = [
        jax.tree.map(lambda leaf, i=i: leaf[i], s)
        for s, c in zip(mlp.stacks, mlp.counts, strict=True)
        for i in range(c)
    ]
    stream = None
    for i, layer in enumerate(layers):
        adds = i < len(layers) - 1 and config.model.branches[i]
        scale = layer.scale[...] if layer.scale is not None else config.model.residual.scale
        scale = 1 / math.sqrt(len(layers) - 1) if scale == "depth" else scale
        h = x @ layer.kernel[...] + layer.bias[...] + at_h[i]
        if kind == "pre_activation" and i < len(layers) - 1:
            ratios.append(jnp.linalg.norm(scale * h) / jnp.linalg.norm(stream) if adds else None)
            stream = h = (stream + scale * h if adds else h) + at_stream[i]
        streams.append(h)
        norm, affine = layer.normalization, layer._affine
        y = norm.train(h, affine)[0] if norm.before else h
        y = layer.activation.train(y, layer._slope, None)
        y = norm.train(y, affine)[0] if norm.after else y
        if kind == "post_activation" and i < len(layers) - 1:
            ratios.append(jnp.linalg.norm(scale * y) / jnp.linalg.norm(x) if adds else None)
            y = (x + scale * y if adds else y) + at_stream[i]
        x = y
    return x, ratios, streams


NETS = [
    {"width": [7, 9, 9, 9, 6, 6], "activation": "prelu", "normalization": {"name": "batch", "logits": True}},
    {"width": 8, "depth": 4, "activation": "tanh", "normalization": {"name": "layer", "placement": "after"}},
    {"width": [6, 6, 11], "activation": "elu", "normalization": "rms"},
    {"width": FEATURES, "depth": 4, "activation": "relu"},
]
KINDS = ["pre_activation", "post_activation"]
SCALES = [{"learned": 0.7}, "depth", 0.3, 1.0]
NAMES = ["batch norm", "layer norm after", "rms norm", "as wide as its input"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("model", "scale"), list(zip(NETS, SCALES, strict=True)), ids=NAMES)
def test_every_statistic_is_that_of_plain_float64_autodiff(model, kind, scale, float64):
    model = model | {"residual": {"name": kind, "scale": scale}}
    config = config_of(model=model, train={"batch_size": BATCH, "precision": "float64"})
    mlp, (x, labels) = shaken(net(config)), examples()
    zeros = [jnp.zeros((BATCH, width)) for width in [*config.model.widths, CLASSES]]

    def loss(mlp, at_h, at_stream):
        logits, *seen = by_hand(config, mlp, x, at_h, at_stream)
        return mean_loss(logits, labels), seen

    (plain, deltas, streams), (ratios, rs) = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(mlp, zeros, zeros)
    record, whole, seen = measured(config, mlp, x, labels)
    for leaf, reference in zip(jax.tree.leaves(seen), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(leaf, reference, rtol=1e-9, atol=1e-13)
    size = [math.log10(math.sqrt(BATCH) * np.linalg.norm(delta)) for delta in deltas]
    np.testing.assert_allclose(record.delta_log10, size, atol=1e-9)
    own = [s if adds else d for adds, s, d in zip(config.model.branches, streams, deltas, strict=False)]
    np.testing.assert_allclose(
        record.stream_grad_log10[:-1], [math.log10(math.sqrt(BATCH) * np.linalg.norm(g)) for g in own], atol=1e-9
    )
    wanted = [np.nan if ratio is None else float(ratio) for ratio in [*ratios, None]]
    np.testing.assert_allclose(record.branch_ratio, wanted, rtol=1e-12)
    if kind == "pre_activation":
        np.testing.assert_allclose(record.preact_std[:-1], [np.std(r) for r in rs[:-1]], rtol=1e-12)
    everything = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(plain)])
    assert abs(whole - np.log10(np.linalg.norm(everything))) < 1e-9


@pytest.mark.parametrize("kind", [KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.slow)])
def test_the_gradient_of_a_thousand_layers_keeps_every_digit(kind, float64):
    """Branches that pass next to nothing on: log10 of what they receive is the stream's and their own small factor."""
    model = {"depth": 1000, "width": 6, "activation": "logistic", "residual": {"name": kind, "scale": 1e-3}}
    config = config_of(model=model, train={"batch_size": 4})
    mlp, (x, labels) = net(config), examples(batch=4)
    wide = config_of(model=model, train={"batch_size": 4, "precision": "float64"})
    reference, *_ = measured(wide, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), mlp), x, labels)
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), mlp)
    record, *_ = measured(config, low, x.astype(jnp.float32), labels.astype(jnp.int32))
    for name in ("stream_grad_log10", "delta_log10", "weight_grad_log10", "bias_grad_log10"):
        np.testing.assert_allclose(getattr(record, name), getattr(reference, name), atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_branch_of_scale_0_makes_the_identity_whose_gradient_is_level(kind, float64):
    residual = {"name": kind, "scale": {"learned": 0.0}}
    config = config_of(model={"depth": 30, "width": 9, "residual": residual}, train={"batch_size": BATCH})
    mlp, (x, labels) = net(config), examples()
    record, _, gradient = measured(config, mlp, x, labels)
    stream = record.stream_grad_log10[1:-1]
    np.testing.assert_allclose(stream, stream[-1], atol=1e-12)
    assert np.all(np.isneginf(record.delta_log10[1:-1]))
    assert np.all(np.asarray(gradient.stacks[1].kernel[...]) == 0)
    assert np.all(np.asarray(gradient.stacks[1].scale[...]) != 0)


@pytest.mark.parametrize(
    "tier", [*(pytest.param(tier, marks=pytest.mark.slow) for tier in ("lite", "standard")), "full"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_taps_leave_every_logit_and_every_gradient_bit_identical(kind, tier):
    residual = {"name": kind, "scale": {"learned": 0.5}}
    model = {"width": [7, 9, 9, 9, 6], "activation": "prelu", "normalization": "layer", "residual": residual}
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

    plain, tapped = jax.tree.leaves(run(mlp, None, "none")), jax.tree.leaves(run(mlp, mlp.empty_probes(tier), tier))
    assert all(np.array_equal(a, b) for a, b in zip(plain, tapped, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_training_where_the_two_agree(kind, float64):
    residual = {"name": kind, "scale": {"learned": 0.5}}
    config = config_of(
        model={"depth": 5, "width": 9, "activation": "elu", "normalization": "layer", "residual": residual}
    )
    mlp, (x, _) = shaken(net(config)), examples()
    logits = mlp(x, jnp.zeros(()), None, None, "none")[0]
    np.testing.assert_allclose(mlp.evaluate(x, mlp.initial_moments()), logits, rtol=1e-12)


@pytest.mark.parametrize("model", [{"depth": 1}, {"width": [8, 9, 10]}])
def test_a_net_with_nowhere_to_skip_is_refused(model):
    with pytest.raises(ConfigError, match="a skip connection needs two neighbouring hidden layers of equal width"):
        config_of(model=model | {"residual": "pre_activation"})


@pytest.mark.parametrize("scale", [0, -1.0, "deep", {"learnt": 1}, {"learned": "a"}, True, None, [1.0]])
def test_a_wrong_scale_is_refused(scale):
    with pytest.raises(ConfigError, match=r"scale: expected a number above 0, depth or \{learned: 0.0\}, found "):
        config_of(model={"residual": {"name": "pre_activation", "scale": scale}})
