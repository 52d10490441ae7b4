"""Theory of nets with skip connections: closed forms, the recursions of the papers in plain numpy, and drawn nets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from vgx import load_config
from vgx.parts import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS, RESIDUALS
from vgx.parts.initializers import Zeros
from vgx.theory import mean_field, streams
from vgx.theory.layer_response import Net, Signal
from vgx.theory.predict import predict
from vgx.theory.validate import Ensemble, axes_of, verify

INPUTS = Signal(1.0, 0.0, 0.0)


def net(residual: Any, depth: int, activation: str = "relu", initializer: str = "he_normal", norm: Any = "none") -> Net:
    parts = ACTIVATIONS.parse(activation), INITIALIZERS.parse(initializer), Zeros(), NORMALIZATIONS.parse(norm)
    branches = (False, *[True] * (depth - 1))
    net = Net((512, *(512,) * depth, 10), *parts, 0.0, 64)
    return net._replace(residual=RESIDUALS.parse(residual), branches=branches)


def wide(net: Net, signal: Signal = INPUTS) -> mean_field.Propagation:
    return mean_field.propagate(net, signal, wide=True)


@pytest.mark.parametrize("kind", ["pre_activation", "post_activation"])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_relu_stream_grows_by_one_plus_the_scales_square(kind, scale):
    """With He a branch passes all of the square on, so each layer adds scale^2 to what comes past it."""
    curves = wide(net({"name": kind, "scale": scale}, 10))
    np.testing.assert_allclose(curves.factor[1:-2], 1 + scale**2, rtol=1e-12)
    branch = np.log10(scale * (math.sqrt(0.5) if kind == "post_activation" else 1.0))
    np.testing.assert_allclose((curves.delta_log10 - curves.stream_grad_log10)[1:-1], branch, atol=1e-12)
    assert curves.delta_log10[0] == curves.stream_grad_log10[0]


def test_a_scale_by_depth_keeps_the_product_below_e():
    for depth in (10, 100, 1000):
        curves = wide(net({"name": "pre_activation", "scale": "depth"}, depth))
        grown = 2 * (curves.stream_grad_log10[0] - curves.stream_grad_log10[-2])
        np.testing.assert_allclose(grown, (depth - 1) * math.log10(1 + 1 / depth), rtol=1e-10)


def test_with_a_norm_before_the_activation_growth_is_a_power_of_depth():
    """RMS norm divides by the stream's size: q_l = 1 + l, and the factors 1 + 1 / q_l telescope to the depth itself."""
    depth = 400
    rms = {"name": "rms", "epsilon": 0.0}
    curves = wide(net("pre_activation", depth, norm=rms), Signal(0.5, 0.0, 0.0))
    # The first h has E[h^2] = 1, and each branch adds 2 E[relu(z)^2] = 1.
    np.testing.assert_allclose(curves.preact_std**2, [*range(1, depth + 1), 1.0], rtol=1e-9)
    q = np.arange(1, depth)
    np.testing.assert_allclose(curves.factor[: depth - 1], 1 + 1 / q, rtol=1e-9)
    assert abs(2 * (curves.stream_grad_log10[0] - curves.stream_grad_log10[-2]) - math.log10(depth)) < 1e-9


def test_a_mean_makes_the_second_moment_grow_as_depth_squared():
    """science 8: E[x_l^2] = E[x^2] + 2 s E[x] E[f] + s^2 E[f^2], E[x_l] = E[x] + s E[f], of rms-normalized h."""
    depth, mean = 60, 1 / math.sqrt(2 * math.pi)
    curves = wide(net("post_activation", depth, norm={"name": "rms", "epsilon": 0.0}))
    square, total, expected = 0.5, mean, []
    for _ in range(depth):
        expected.append(square)
        square, total = square + 2 * total * mean + 0.5, total + mean
    np.testing.assert_allclose(curves.act_rms[:-1] ** 2, expected, rtol=1e-9)


def test_branches_of_scale_0_leave_the_gradient_level_and_get_none():
    curves = wide(net({"name": "post_activation", "scale": {"learned": 0.0}}, 30, "tanh"))
    np.testing.assert_allclose(curves.stream_grad_log10[1:-1], curves.stream_grad_log10[1], atol=1e-12)
    assert np.all(np.isneginf(curves.delta_log10[1:-1]))


@pytest.mark.parametrize("kind", ["pre_activation", "post_activation"])
def test_two_thousand_layers_leave_no_range(kind):
    curves = wide(net({"name": kind, "scale": 1.0}, 2000))
    slope = (curves.stream_grad_log10[1] - curves.stream_grad_log10[-2]) / 1998
    assert abs(slope - math.log10(2) / 2) < 1e-9


@pytest.mark.parametrize(
    ("residual", "norm", "phase"),
    [
        ("pre_activation", "none", "chaotic"),
        ("pre_activation", "layer", "critical"),
        ({"name": "post_activation", "scale": {"learned": 0.0}}, "none", "critical"),
    ],
)
def test_streams_lead_where_they_lead(residual, norm, phase):
    assert streams.limit(net(residual, 20, norm=norm), INPUTS).phase == phase


def test_a_verdict_is_on_the_stream():
    model = {"depth": 50, "width": 128, "initializer": "glorot_normal"}
    plain = load_config({"model": model})
    skipping = load_config({"model": model | {"residual": {"name": "pre_activation", "scale": "depth"}}})
    assert predict(plain).verdict.word == "vanishing"
    found = predict(skipping)
    assert found.verdict.word == "healthy"
    assert found.to_json()["layers"][0].keys() >= {"delta_log10", "stream_grad_log10"}


AXES = [
    "activation=relu,tanh,gelu",
    "initializer=he_normal,orthogonal",
    "normalization=none,{name: batch},{name: layer}",
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pre_activation", "post_activation", "{name: post_activation, scale: depth}"])
def test_drawn_nets_grow_as_predicted(kind):
    checks = verify(*axes_of([*AXES, f"residual={kind}"]), ensemble=Ensemble(width=512, depth=20, nets=4, batch=32))
    off = [(str(check.activation), check.title, check.off) for check in checks if abs(check.off) > 0.045]
    assert not off


def test_a_drawn_net_of_each_kind_grows_as_predicted():
    axes = axes_of(["activation=tanh", "initializer=he_normal", "normalization=layer", "residual=pre_activation"])
    [check] = verify(*axes, ensemble=Ensemble(width=256, depth=10, nets=4, batch=16))
    assert abs(check.off) < 0.02
    assert check.holds
