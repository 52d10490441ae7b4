"""What the top of a net does to the gradient's spread: the residuals of a batch, drawn.

They are the gradient at the logits: softmax(logits) - label of cross entropy, logits - label of the mean squared error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vgx.parts.losses import Loss
from vgx.registry import remembered

NETS, EXAMPLES = 512, 16
"""Drawn, to know moments to a few percent."""
WIDEST = 30.0
"""A deviation of logits past which a softmax has one winner, and a label next to no part in logits - label."""


class Readout(NamedTuple):
    """Moments of the residual e over examples and draws."""

    cosine_square: float
    """E[<e_a, e_b>^2] / E[|e|^2]^2 of two examples."""
    weight_square: float
    """E[|e|^4] / E[|e|^2]^2"""
    along: np.ndarray
    """<logits, e>^2 / (E[|e|^2] E[logit^2]) of drawn nets and examples, [nets, EXAMPLES]: of mean 1 where logits and
    residuals have nothing to do with each other."""
    concentration: float
    """Sum over classes of E[e_k^2]^2 / E[|e|^2]^2: one over the classes that count."""


def readout_of(std: float, cosine: float, classes: int, fitted: bool, loss: Loss = "cross_entropy") -> Readout:
    """Returns the moments for logits of this deviation and correlation between examples, and labels drawn evenly.

    `fitted` logits are rescaled to their deviation in each net, as LSUV does.
    """
    return _readout(
        min(round(16 * std) / 16 or min(std, 1 / 32), WIDEST), round(32 * max(cosine, 0.0)) / 32, classes, fitted, loss
    )


@remembered
def _readout(std: float, cosine: float, classes: int, fitted: bool, loss: Loss) -> Readout:
    rng = np.random.default_rng(0)
    nets = max(min(NETS, 2**22 // (EXAMPLES * classes)), 16)
    shared, own = rng.standard_normal((nets, 1, classes)), rng.standard_normal((nets, EXAMPLES, classes))
    logits = math.sqrt(cosine) * shared + math.sqrt(max(1 - cosine, 0.0)) * own
    if fitted:
        logits = (logits - logits.mean((1, 2), keepdims=True)) / logits.std((1, 2), keepdims=True)
    logits *= std
    labels = rng.integers(0, classes, (nets, EXAMPLES, 1))
    residual = logits.copy() if loss == "mse" else _softmax(logits)
    np.put_along_axis(residual, labels, np.take_along_axis(residual, labels, -1) - 1, -1)
    length = (residual**2).sum(-1)
    mean = length.mean()
    products = residual @ residual.transpose(0, 2, 1)
    others = ~np.eye(EXAMPLES, dtype=bool)
    along = ((logits * residual).sum(-1)) ** 2 / (mean * (logits**2).mean()) if std else np.ones(length.shape)
    return Readout(
        cosine_square=float((products[:, others] ** 2).mean() / mean**2),
        weight_square=float((length**2).mean() / mean**2),
        along=along,
        concentration=float((((residual**2).mean((0, 1))) ** 2).sum() / mean**2),
    )


def alike(std: float, cosine: float, classes: int) -> float:
    """Returns E[<e_a, e_b>] / E[|e|^2] of two examples' residuals e = logits - label, labels drawn evenly.

    Of the mean squared error alone: softmax(logits) - label has next to nothing that all examples share.
    """
    return (classes * std**2 * cosine + 1 / classes) / (classes * std**2 + 1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
