"""`vgx.theory` against neural-tangents, and vgx's parts against what PyTorch computes and draws: `make test-peers`.

neural-tangents lives in .venv-peers, which that command makes: it cannot be imported beside today's jax.
"""

from __future__ import annotations

import doctest
import json
import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn import init

import vgx
from vgx import theory
from vgx.parts import INITIALIZERS

pytestmark = pytest.mark.peers

HERE = Path(__file__).parent
ROOT = Path(vgx.__file__).parent.parent
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
DEPTH = 12
ACTIVATIONS: dict[str, Any] = {
    "relu": "relu",
    "leaky_relu": {"name": "leaky_relu", "negative_slope": 0.2},
    "erf": "erf",
    "gelu": "gelu",
    "sin": "sin",
    "tanh": "tanh",
    "logistic": "logistic",
    "abs": theory.numpy_activation(np.abs, np.sign, kinks=[0.0]),
    "cos": (np.cos, lambda h: -np.sin(h)),
}
"""The peer integrates tanh and logistic, and has closed forms of the others; vgx gets the last two as functions."""
VARIANCES = [(1.0, 0.0), (1.5, 0.05), (2.0, 0.3)]
"""Of weights, times n_in, and of biases."""


class Setting(NamedTuple):
    """A net that both describe."""

    activation: str
    weight_variance: float
    bias_variance: float
    epsilon: float | None
    """Of layer norm before the activation; None without."""
    depth: int = DEPTH
    q: float = 1.0
    c: float = 0.4


SETTINGS = [
    Setting(activation, *variances, epsilon)
    for activation in ACTIVATIONS
    for variances in VARIANCES
    for epsilon in (None, 1e-5)
]


NETS = [(activation, weight, bias) for activation in ACTIVATIONS for weight, bias in VARIANCES]
"""Without layer norm, of which the kernels of all pairs of INPUTS are compared."""
INPUTS = np.random.default_rng(0).normal(size=(4, 6)) * np.array([[0.3], [1.0], [1.0], [2.0]])
KERNEL_DEPTH = 5


@cache
def peers_figures() -> dict[str, list]:
    """What neural-tangents says of every setting and net."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JAX", "XLA"))}
    names = ("activation", "weight_variance", "bias_variance")
    asked = {
        "settings": [setting._asdict() for setting in SETTINGS],
        "nets": [dict(zip(names, net, strict=True), inputs=INPUTS.tolist(), depth=KERNEL_DEPTH) for net in NETS],
    }
    done = subprocess.run(
        [PYTHON, HERE / "neural_tangents_figures.py"],
        input=json.dumps(asked),
        env=environment | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@cache
def figures(setting: Setting) -> dict[str, np.ndarray]:
    """What vgx says of a setting."""
    return theory.layers(
        ACTIVATIONS[setting.activation],
        setting.depth,
        setting.weight_variance,
        setting.bias_variance,
        normalization="none" if setting.epsilon is None else {"name": "layer", "epsilon": setting.epsilon},
        q=setting.q,
        c=setting.c,
    )._asdict()


def deviations(number: int) -> dict[str, float]:
    """How far the two are apart at most, in parts of the peer's figure, by figure."""
    ours, theirs = figures(SETTINGS[number]), peers_figures()["settings"][number]
    return {name: float(np.max(np.abs(ours[name] / np.array(theirs[name]) - 1))) for name in theirs}


@pytest.mark.parametrize("number", range(len(SETTINGS)), ids=[f"{s.activation}-{s[1:4]}" for s in SETTINGS])
def test_theory_is_that_of_neural_tangents(number):
    found = deviations(number)
    assert list(found) == ["q", "c", "factor", "pair_factor"]
    assert max(found.values()) < 1e-4


def test_all_54_settings_are_compared(capsys):
    assert len(SETTINGS) == len(peers_figures()["settings"]) == 54
    worst = [deviations(number) for number in range(54)]
    with capsys.disabled():
        print()
        for name in worst[0]:
            print(f"{name:12} at most {max(one[name] for one in worst):.1e} from neural-tangents, in 54 settings")


@cache
def kernels_of_the_page() -> Callable:
    """The function that docs/theory.md gives to users of neural-tangents, as it stands there."""
    text = (ROOT / "docs" / "theory.md").read_text()
    (source,) = (one.source for one in doctest.DocTestParser().get_examples(text) if "def kernels(" in one.source)
    names: dict[str, Any] = {"np": np, "theory": theory}
    exec(source, names)
    return names["kernels"]


@pytest.mark.parametrize("number", range(len(NETS)), ids=[str(net) for net in NETS])
def test_the_kernels_of_inputs_of_different_lengths_are_those_of_neural_tangents(number):
    activation, *variances = NETS[number]
    found = kernels_of_the_page()(INPUTS, KERNEL_DEPTH, ACTIVATIONS[activation], *variances)
    # Where q is 5 the peer's own rule of 200 nodes is off by 1e-5 for the slope of tanh; all others agree to 1e-8.
    rtol = 1e-5 if activation == "tanh" else 1e-7
    np.testing.assert_allclose(found, peers_figures()["nets"][number], rtol=rtol, atol=1e-9)


class Draw(NamedTuple):
    """An initializer of PyTorch's and what vgx calls it."""

    ours: Any
    theirs: Callable[[torch.Tensor], Any]


DRAWS = [
    Draw("glorot_uniform", init.xavier_uniform_),
    Draw("glorot_normal", init.xavier_normal_),
    Draw({"name": "glorot_normal", "gain": 5 / 3}, lambda w: init.xavier_normal_(w, init.calculate_gain("tanh"))),
    Draw("he_uniform", lambda w: init.kaiming_uniform_(w, nonlinearity="relu")),
    Draw("he_normal", lambda w: init.kaiming_normal_(w, nonlinearity="relu")),
    Draw("lecun_normal", lambda w: init.kaiming_normal_(w, nonlinearity="linear")),
    Draw("torch_default", lambda w: w.copy_(torch.nn.Linear(w.shape[1], w.shape[0]).weight.detach())),
    Draw("orthogonal", init.orthogonal_),
    Draw({"name": "orthogonal", "gain": 2.0}, lambda w: init.orthogonal_(w, 2.0)),
    Draw({"name": "truncated_normal", "std": 0.1}, lambda w: init.trunc_normal_(w, std=0.1, a=-0.2, b=0.2)),
    Draw({"name": "normal", "std": 0.1}, lambda w: init.normal_(w, std=0.1)),
    Draw({"name": "uniform", "bound": 0.1}, lambda w: init.uniform_(w, -0.1, 0.1)),
]


@pytest.mark.parametrize("shape", [(400, 1000), (1000, 400)], ids=["widening", "narrowing"])
@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: str(INITIALIZERS.parse(draw.ours)))
def test_variances_are_those_that_torch_draws(draw, shape):
    torch.manual_seed(0)
    n_in, n_out = shape
    weights = torch.empty(n_out, n_in)
    draw.theirs(weights)
    # 400,000 weights: five standard errors, sqrt(2 / n) at the most.
    assert weights.double().var().item() == pytest.approx(INITIALIZERS.parse(draw.ours).variance(*shape), rel=0.0112)


FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "logistic": torch.sigmoid,
    "tanh": torch.tanh,
    "leaky_relu": F.leaky_relu,
    "prelu": lambda h: F.prelu(h, torch.tensor([0.25], dtype=h.dtype)),
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "hard_tanh": F.hardtanh,
    "erf": torch.erf,
    "sin": torch.sin,
}


@pytest.mark.parametrize("q", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_moments_are_those_of_torchs_values_and_slopes(name, q):
    h = torch.linspace(-12, 12, 2_400_000, dtype=torch.float64).mul_(q**0.5).requires_grad_()
    value = FUNCTIONS[name](h)
    (slope,) = torch.autograd.grad(value.sum(), h)
    value = value.detach()
    density = torch.softmax(-(h.detach() ** 2) / (2 * q), 0)
    means = [float((density * part).sum()) for part in (value, value**2, value**4, slope**2, slope**4)]
    found = theory.gaussian_moments(name, q)
    ours = [found.mean, found.square, found.fourth, found.slope_square, found.slope_fourth]
    # 100,000 points to a deviation, none on 0: next to another jump of f' the sum is off by half of one, 2e-6.
    np.testing.assert_allclose(ours, means, rtol=1e-5, atol=1e-10)
