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
    # from 64 inputs to 10 logits: nine layers of independent weights, each with 10 / 64 of its spread
    assert found["logits"] == pytest.approx((0.0, per_layer * (DEPTH + 1) * 10 / WIDTH), abs=1e-12)


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
    "narrower": {"depth": None, "width": [64, 96, 48], "activation": "tanh", "initializer": "orthogonal"},
}


@pytest.mark.slow
@pytest.mark.parametrize("model", NETS.values(), ids=NETS)
def test_drawn_nets_have_the_mean_square_and_the_spread_that_theory_expects(model):
    """To the order of depth over width."""
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
    for name in MAPS:
        figures = figures_of(np.concatenate([np.asarray(getattr(one, name)) for one in found]))
        assert figures.square_log10.mean() == pytest.approx(theory[name].square_log10, abs=0.12), name
        assert figures.spread.mean() == pytest.approx(theory[name].spread, rel=0.25, abs=0.05), name


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
