"""The nets of vgx in PyTorch: what the torch loops train."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

EXAMPLES = 5000
SATURATED = 0.05


class Settings(NamedTuple):
    """One training: `depth` hidden layers and a readout, plain SGD on the batch-mean cross entropy."""

    depth: int = 20
    width: int = 128
    batch: int = 128
    features: int = 784
    classes: int = 10
    activation: str = "relu"
    initializer: str = "he_normal"
    steps: int = 300
    learning_rate: float = 0.01
    seed: int = 0


class Data(NamedTuple):
    """Random images [n, D] uint8 and labels [n] int64."""

    images: Tensor
    labels: Tensor


class Activation(NamedTuple):
    """An elementwise function, and what its slope says, in closed form."""

    apply: Callable[[Tensor], Tensor]
    overwrite: Callable[[Tensor], Tensor]
    """The same in place."""
    slopes: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Takes h and x [L, B, N], and may overwrite h; returns dead units and unsaturated entries, [L] counts each."""


def _rectified(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return (h.amax(1) <= 0).sum(1), h.gt_(0).sum((1, 2))


def _leaky(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros(len(h)), h.gt_(0).sum((1, 2))


def _exponential(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return (h.amax(1).exp_() <= 0).sum(1), h.ge_(math.log(SATURATED)).sum((1, 2))


def _logistic(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    slope = torch.addcmul(x, x, x, value=-1)
    return (slope.amax(1) <= 0).sum(1), slope.ge_(SATURATED / 4).sum((1, 2))


def _tanh(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    square = x * x
    return (square.amin(1) >= 1).sum(1), square.le_(1 - SATURATED).sum((1, 2))


ACTIVATIONS = {
    "logistic": Activation(torch.sigmoid, torch.sigmoid_, _logistic),
    "tanh": Activation(torch.tanh, torch.tanh_, _tanh),
    "relu": Activation(torch.relu, torch.relu_, _rectified),
    "leaky_relu": Activation(functional.leaky_relu, lambda h: functional.leaky_relu(h, inplace=True), _leaky),
    "elu": Activation(functional.elu, lambda h: functional.elu(h, inplace=True), _exponential),
}
INITIALIZERS = tuple(f"{rule}_{law}" for rule in ("lecun", "glorot", "he") for law in ("normal", "uniform"))


def make_data(features: int = 784, classes: int = 10) -> Data:
    """Returns 5000 random examples."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (EXAMPLES, features), np.uint8)
    return Data(torch.from_numpy(images), torch.from_numpy(random.integers(0, classes, EXAMPLES)))


def draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Returns weights [..., N_in, N] by an initializer's name; the normal laws are cut off at two deviations."""
    rule, law = name.split("_")
    n_in, n_out = shape[-2:]
    std = math.sqrt({"lecun": 1 / n_in, "glorot": 2 / (n_in + n_out), "he": 2 / n_in}[rule])
    weights = torch.empty(shape, device="cpu")
    if law == "uniform":
        return weights.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std, generator=generator)
    std /= 0.87962566103423978
    return torch.nn.init.trunc_normal_(weights, std=std, a=-2 * std, b=2 * std, generator=generator)


class Net(NamedTuple):
    """Parameters, each a leaf that looks into a stack where there is one, so that one operation reaches a stack."""

    first: Tensor
    """[D, N]"""
    hidden: Tensor
    """[L - 1, N, N]"""
    readout: Tensor
    """[N, C]"""
    biases: Tensor
    """[L, N]"""
    readout_bias: Tensor
    """[C]"""
    kernels_of: list[Tensor]
    """L + 1 leaves."""
    biases_of: list[Tensor]
    """L + 1 leaves."""


def make_net(settings: Settings) -> Net:
    """Returns the net before the first step; biases are zeros."""
    s, generator = settings, torch.Generator().manual_seed(settings.seed)
    shapes = (s.features, s.width), (s.depth - 1, s.width, s.width), (s.width, s.classes)
    first, hidden, readout = (draw(s.initializer, shape, generator) for shape in shapes)
    biases, readout_bias = torch.zeros(s.depth, s.width), torch.zeros(s.classes)
    kernels_of = [w.detach().requires_grad_() for w in (first, *hidden, readout)]
    biases_of = [b.detach().requires_grad_() for b in (*biases, readout_bias)]
    return Net(first, hidden, readout, biases, readout_bias, kernels_of, biases_of)
