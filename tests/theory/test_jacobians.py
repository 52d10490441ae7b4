"""Theory of Jacobians: closed forms, and drawn nets."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgx.config.load import load_config
from vgx.results.spectrum import MAPS, figures_of
from vgx.theory.jacobians import coherence, predicted_spectra
from vgx.theory.predict import InputStatistics, net_of, predict
from vgx.theory.stream_jacobians import slope_overlaps
from vgx.theory.streams import stream_responses
from vgx.theory.validate import normal_inputs
from vgx.training.model import MLP
from vgx.training.spectrum import spectra_at

DEPTH, WIDTH = 8, 64
INPUTS = InputStatistics(WIDTH, 10, normal_inputs(WIDTH))


def config_of(**model):
    return load_config({"model": {"depth": DEPTH, "width": WIDTH} | model, "train": {"batch_size": 64}})


def expected(**model):
    return predicted_spectra(net_of(config_of(**model), INPUTS), INPUTS.signal)


@pytest.mark.parametrize(("initializer", "per_layer"), [("lecun_normal", 1.0), ("orthogonal", 0.0)])
def test_linear_layers_add_one_each_to_the_spread_or_nothing(initializer, per_layer):
    found = expected(activation="linear", initializer=initializer)
    assert found["hidden"] == pytest.approx((0.0, (DEPTH - 1) * per_layer), abs=1e-12)
    # From 64 inputs to 10 logits: nine layers of independent weights, each with 1 / 64 of its spread.
    g = per_layer * (DEPTH + 1) / WIDTH
    assert found["logits"] == pytest.approx((0.0, g * (10 + 1 - 2 / 10) / (1 + 2 * g / 10)), abs=1e-12)


def test_half_of_a_relu_is_off_which_is_a_spread_of_one():
    """f'^2 is 0 or 1, so mu_2 / mu_1^2 = 2; with Gaussian weights a layer adds 2."""
    found = expected(activation="relu", initializer="he_normal")
    assert found["hidden"] == pytest.approx((0.0, 2.0 * (DEPTH - 1)), abs=1e-9)


def test_two_free_projections_have_the_spread_of_the_arcsine_law():
    """Rotations to twice as many units and back: s^2 lies in (0, 1), with the mean 1 / 2 and the variance 1 / 8."""
    found = expected(depth=None, width=[64, 128, 64], activation="linear", initializer="orthogonal")
    assert found["hidden"].spread == pytest.approx((1 / 8) / (1 / 2) ** 2, abs=1e-12)


NETS = {
    "tanh, orthogonal": {"activation": "tanh", "initializer": "orthogonal"},
    "elu, gaussian": {"activation": "elu", "initializer": "he_normal"},
    "batch norm": {"activation": "tanh", "normalization": "batch"},
    "pre-activation": {
        "activation": "tanh",
        "initializer": "lecun_normal",
        "residual": {"name": "pre_activation", "scale": "depth"},
    },
    "pre-activation, relu": {"residual": {"name": "pre_activation", "scale": 0.5}},
    "post-activation, relu": {"residual": {"name": "post_activation", "scale": 0.5}},
    "post-activation, gelu, layer norm": {
        "activation": "gelu",
        "normalization": "layer",
        "residual": {"name": "post_activation", "scale": 1.0},
    },
    "post-activation, elu, layer norm after": {
        "activation": "elu",
        "normalization": {"name": "layer", "placement": "after"},
        "residual": {"name": "post_activation", "scale": 0.5},
    },
    "post-activation, elu, uneven": {
        "depth": None,
        "width": [64, 64, 64, 64, 96, 96, 96, 96],
        "activation": "elu",
        "residual": {"name": "post_activation", "scale": 0.5},
    },
    "narrower": {"depth": None, "width": [64, 96, 48], "activation": "tanh", "initializer": "orthogonal"},
}


@pytest.mark.slow
@pytest.mark.parametrize("model", NETS.values(), ids=NETS)
def test_drawn_nets_have_the_mean_square_and_the_spread_that_theory_expects(model):
    """To the order of depth over width; ten logits stray more."""
    config = config_of(**model)

    @jax.jit
    def drawn(key):
        weights, data = jax.random.split(key)
        mlp = MLP.draw(config.model, WIDTH, 10, weights)
        x = jax.random.normal(data, (64, WIDTH))
        moments = mlp(x, jnp.zeros(()), None, None, "none")[1]
        return jax.lax.map(partial(spectra_at, mlp, moments), x[:2])

    found = [drawn(key) for key in jax.random.split(jax.random.key(0), 4)]
    theory = expected(**model)
    for name, strays in zip(MAPS, (0.35, 0.2), strict=True):
        figures = figures_of(np.concatenate([np.asarray(getattr(one, name)) for one in found]))
        assert figures.square_log10.mean() == pytest.approx(theory[name].square_log10, abs=0.12), name
        assert figures.spread.mean() == pytest.approx(theory[name].spread, rel=strays, abs=0.05), name


def test_gradients_of_linear_layers_stay_alike_and_those_of_relu_fall_apart():
    linear = coherence(net_of(config_of(activation="linear", initializer="orthogonal"), INPUTS), INPUTS.signal)
    np.testing.assert_allclose(linear, 1.0, atol=1e-12)
    relu = coherence(net_of(config_of(), INPUTS), INPUTS.signal)
    # Of inputs at a right angle both slopes are 1 in a quarter of all units, one of them in half: a cosine of 1 / 2.
    assert relu[0] / relu[1] == pytest.approx(0.5, abs=1e-6)
    assert relu[-1] == 1.0
    assert np.all(np.diff(relu) > 0)


def test_skip_connections_keep_gradients_alike():
    plain, skips = (
        coherence(net_of(config_of(residual=residual), INPUTS), INPUTS.signal)
        for residual in ("none", {"name": "pre_activation", "scale": 0.1})
    )
    # but for the highest layer, whose gradient has come through slopes alone
    assert skips[0] / skips[-2] > 0.9 > 0.1 > plain[0] / plain[-2]


def test_a_batch_norm_has_no_coherence_and_says_so_in_json():
    config = config_of(normalization="batch")
    layers = predict(config, INPUTS).to_json()["layers"]
    assert [layer["coherence"] for layer in layers] == [None] * (DEPTH + 1)
    found = predict(config_of(), INPUTS).to_json()
    assert found["spectrum"]["hidden"]["spread"] == pytest.approx(2 * (DEPTH - 1), abs=1e-9)


def test_steep_units_of_a_stream_are_those_that_were_steep_below():
    """Of ReLUs at normals of correlation rho both are on in 1 / 4 + asin(rho) / (2 pi)."""
    config = config_of(depth=3, residual={"name": "pre_activation", "scale": 0.7})
    net = net_of(config, INPUTS)
    found = slope_overlaps(net, stream_responses(net, INPUTS.signal), top=False)
    a = 0.7**2  # what a branch adds, under He's initialization; and the stream grows by as much
    both = 1 + 2 / np.pi * np.arcsin(1 / np.sqrt(1 + a))
    assert found == pytest.approx([1.0, (1 + a * both) / (1 + a), 1.0], abs=5e-3)


def stream_of(rng, depth: int, width: int, scale: float) -> np.ndarray:
    """The Jacobian of a stream of ReLU layers, from what the first of them passes on, over a draw of weights."""
    x, jacobian = np.maximum(rng.standard_normal(width) * np.sqrt(2), 0), np.eye(width)
    for _ in range(depth - 1):
        weights = rng.standard_normal((width, width)) * np.sqrt(2 / width)
        h = weights @ x
        jacobian = jacobian + scale * (h > 0)[:, None] * (weights @ jacobian)
        x = x + scale * np.maximum(h, 0)
    return jacobian


@pytest.mark.parametrize(("depth", "scale"), [(12, 0.3), (12, 1.0), (40, 40**-0.5)])
def test_the_direction_of_the_signal_stands_out_of_a_relu_stream(depth, scale):
    rng, squares, spreads = np.random.default_rng(0), [], []
    for _ in range(10):
        gram = stream_of(rng, depth, 128, scale)
        gram = gram.T @ gram
        squares.append(np.trace(gram) / 128)
        spreads.append((gram**2).sum() / 128 / squares[-1] ** 2 - 1)
    source = InputStatistics(128, 10, normal_inputs(128))
    net = net_of(config_of(depth=depth, width=128, residual={"name": "post_activation", "scale": scale}), source)
    found = predicted_spectra(net, source.signal)["hidden"]
    free = (depth - 1) * np.log10(1 + scale**2)
    assert found.spread == pytest.approx(np.mean(spreads), rel=0.12)
    assert found.square_log10 == pytest.approx(np.mean(np.log10(squares)), abs=0.1)
    assert found.square_log10 > free + 0.05
