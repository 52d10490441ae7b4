"""What finite nets do around theory, against nets that numpy draws."""

from __future__ import annotations

import numpy as np
import pytest

from vgx.parts import ACTIVATIONS, INITIALIZERS, NORMALIZATIONS
from vgx.theory import mean_field
from vgx.theory.idle_units import dead_share, saturated_share
from vgx.theory.layer_response import Net, Signal

WIDTH, DEPTH, NETS = 48, 8, 600

FUNCTIONS = {
    "relu": lambda h: np.maximum(h, 0),
    "tanh": np.tanh,
    "logistic": lambda h: 1 / (1 + np.exp(-h)),
}


def drawn(f, scale: float, bias: float, normalize: bool) -> tuple[np.ndarray, np.ndarray]:
    """Root mean squares of h and of x for one input, of many nets: [NETS, DEPTH] each."""
    random = np.random.default_rng(0)
    x = np.broadcast_to(random.normal(size=WIDTH), (NETS, WIDTH))
    x = x / np.sqrt(np.mean(x**2))
    preact, act = [], []
    for _ in range(DEPTH):
        kernel = random.normal(size=(NETS, WIDTH, WIDTH)) * np.sqrt(scale / WIDTH)
        h = np.einsum("ki,kij->kj", x, kernel) + bias * random.normal(size=(NETS, WIDTH))
        h = h / np.sqrt(np.mean(h**2, -1, keepdims=True)) if normalize else h
        x = f(h)
        preact.append(np.sqrt(np.mean(h**2, -1)))
        act.append(np.sqrt(np.mean(x**2, -1)))
    return np.stack(preact, -1), np.stack(act, -1)


@pytest.mark.parametrize(
    ("name", "scale", "bias", "norm"),
    [
        ("relu", 2.0, 0.0, "none"),
        ("tanh", 1.5, 0.3, "none"),
        ("logistic", 1.0, 0.0, "none"),
        ("tanh", 1.0, 0.0, "rms"),
    ],
)
def test_the_band_of_a_signal_is_its_deviation_over_nets(name, scale, bias, norm):
    net = Net(
        (WIDTH,) * (DEPTH + 1) + (10,),
        ACTIVATIONS.parse(name),
        INITIALIZERS.parse({"name": "variance_scaling", "scale": scale}),
        INITIALIZERS.parse({"name": "normal", "std": bias} if bias else "zeros"),
        NORMALIZATIONS.parse("none" if norm == "none" else {"name": norm, "placement": "before", "epsilon": 0.0}),
        0.0,
        32,
    )
    curves = mean_field.propagate(net, Signal(1.0, 1.0, 0.0))
    preact, act = drawn(FUNCTIONS[name], scale, bias, norm == "rms")
    # 600 nets tell a deviation to 3 %; the band is first order in 1 / N, good to a tenth here.
    assert curves.act_band[:-1] == pytest.approx(act.std(0), rel=0.17)
    assert curves.preact_band[:-1] == pytest.approx(preact.std(0), rel=0.17, abs=1e-12)


@pytest.mark.parametrize("name", ["relu", "hard_tanh", "tanh", "leaky_relu"])
@pytest.mark.parametrize(("mean", "std", "c"), [(0.0, 1.0, 0.9), (-1.5, 2.0, 0.5), (0.3, 3.0, 0.99)])
def test_shares_of_units_are_those_of_normals_that_are_drawn(name, mean, std, c):
    random, batch = np.random.default_rng(1), 8
    common = random.normal(size=(200_000, 1))
    h = mean + std * (np.sqrt(c) * common + np.sqrt(1 - c) * random.normal(size=(200_000, batch)))
    slope = {
        "relu": lambda h: np.float64(h > 0),
        "leaky_relu": lambda h: np.where(h > 0, 1.0, 0.01),
        "hard_tanh": lambda h: np.float64(np.abs(h) < 1),
        "tanh": lambda h: 1 - np.tanh(h) ** 2,
    }[name](h)
    activation, rows = ACTIVATIONS.parse(name), np.array([[mean, std, c]])
    # Shares of 200,000 draws, and pre-activations that are told apart to a hundredth.
    assert dead_share(activation, rows, batch)[0] == pytest.approx(np.mean(np.all(slope == 0, 1)), abs=0.006)
    assert saturated_share(activation, rows)[0] == pytest.approx(np.mean(slope < 0.05), abs=0.012)


def test_no_unit_of_a_smooth_activation_is_dead():
    rows = np.array([[0.0, 1e3, 0.999]])
    assert [dead_share(ACTIVATIONS.parse(name), rows, 4)[0] for name in ("logistic", "elu", "gelu")] == [0, 0, 0]
