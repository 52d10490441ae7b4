"""Losses: how far the logits of an example are from its label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

Loss = Literal["cross_entropy", "mse"]


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Returns -ln softmax(f)_y of each example, from logits f [B, C] and labels y [B]: [B].

    Its gradient with respect to f is softmax(f) - e_y.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def mse(logits: Array, labels: Array) -> Array:
    """Returns 1/2 |f - e_y|^2 of each example, from logits f [B, C] and labels y [B], e_y being 1 at y and 0 else: [B].

    A sum over classes, not their mean, and halved, so that its gradient with respect to f is f - e_y: the square loss
    of Cohen et al. 2021, arXiv:2103.00065. There is no softmax.
    """
    return 0.5 * jnp.sum(jnp.square(logits - jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)), -1)


LOSSES: dict[Loss, Callable[[Array, Array], Array]] = {"cross_entropy": cross_entropy, "mse": mse}
"""By the word that a config has for it; the loss of a batch, or of a split, is the mean over its examples."""
