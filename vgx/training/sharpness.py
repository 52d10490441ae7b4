"""The sharpness of the training loss: the largest eigenvalue of its Hessian with respect to all parameters.

Gradient descent on a quadratic of that curvature is unstable where it is above 2 / learning rate: Cohen, Kaur, Li,
Kolter and Talwalkar 2021, arXiv:2103.00065.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from vgx.config.schema import Config
from vgx.parts.activations import Activation
from vgx.parts.initializers import Zeros
from vgx.parts.losses import LOSSES
from vgx.training.inputs import Images, encode, master_dtype, shared
from vgx.training.model import MLP
from vgx.training.program import Program
from vgx.training.step import State
from vgx.training.weights import draw_weights, stacks_of

MOST = 64
"""Products with the Hessian, at the most; 10 to 30 are usual."""
CLOSE = 0.01
"""How near the eigenvalue is, relative to itself, when no further product is asked for."""


@dataclass(frozen=True)
class _Noiseless:
    """An activation of random slopes, which has their mean in training, too."""

    inner: Activation

    @property
    def steepest(self) -> float:
        return self.inner.steepest

    def parameters(self, width: int) -> Array | None:
        return self.inner.parameters(width)

    def train(self, z: Array, slope: Array | None, _: Array | None) -> Array:
        return self.inner.evaluate(z, slope)


def sharpness(program: Program, state: State, data: Images) -> Array:
    """Returns the largest eigenvalue of the Hessian of one lane's training loss, within about CLOSE of itself: [].

    The loss is the mean over `log.sharpness.examples` of the training examples, evenly spread, or all. The net sees
    them as a training step sees its batch, a batch norm with their own moments, but nothing is dropped, random slopes
    are at their mean, and with bfloat16 all is done in float32. Weight decay is no part of the loss.
    """
    config, (total, _) = program.config, data.images.shape
    assert config.log.sharpness is not None
    count = min(config.log.sharpness.examples, total)
    index = shared(jnp.asarray(np.linspace(0, total, count, endpoint=False, dtype=np.int32)))
    wide = master_dtype(config)
    x, labels = encode(data, index, config.data.input, wide), data.labels[index]
    parameters, unravel = ravel_pytree(noiseless(program, state.model))

    def loss(parameters: Array) -> Array:
        logits = unravel(parameters)(x, jnp.zeros((), wide), None, None, "none")[0]
        return LOSSES[config.train.loss](logits, labels).mean()

    def product(v: Array) -> Array:
        return jax.jvp(jax.grad(loss), (parameters,), (v,))[1]

    return largest_eigenvalue(product, jax.random.normal(jax.random.key(0), parameters.shape, wide))


def sharpness_bytes(config: Config, parameters: int) -> int:
    """Returns about how much memory that takes, of a net whose state takes `parameters` bytes; 0 where it is not asked
    for."""
    if config.log.sharpness is None:
        return 0
    activations = master_dtype(config).itemsize * config.log.sharpness.examples * sum(config.model.widths)
    return (MOST + 8) * parameters + 16 * activations


def noiseless(program: Program, mlp: MLP) -> Any:
    """Returns the net with the same parameters, nothing dropped, and random slopes at their mean."""
    model = program.config.model
    if not (model.dropout or model.activation.random):
        return mlp
    quiet = _Noiseless(model.activation) if model.activation.random else model.activation
    model = model.model_copy(update={"dropout": 0.0, "activation": quiet})
    stacks = stacks_of(model.widths, program.features, program.classes, first_alone=model.residual.skips)
    weights = partial(draw_weights, Zeros(), Zeros(), stacks)
    like = jax.eval_shape(lambda: MLP(model, weights(jax.random.key(0))))
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(mlp))


class _Lanczos(NamedTuple):
    """How far the iteration is, after `done` products."""

    done: Array
    basis: Array
    """[MOST + 1, P], orthonormal rows up to `done`, zeros above."""
    diagonal: Array
    """[MOST], as the next: of the Hessian in that basis, which is tridiagonal."""
    beside: Array
    largest: Array
    """The largest eigenvalue of that."""
    residual: Array
    """|H u - largest u| of its eigenvector u: so near is an eigenvalue of the Hessian."""


def largest_eigenvalue(product: Callable[[Array], Array], start: Array) -> Array:
    """Returns the largest eigenvalue of a symmetric matrix, []: not that of the largest size, which may be negative.

    Lanczos's iteration, every vector made orthogonal to all before, twice: until the residual is CLOSE of the
    eigenvalue, or MOST products. NaN where a product is.

    Args:
        product: of the matrix with a vector, [P] to [P].
        start: a vector [P] that has something of every eigenvector.
    """
    most = min(MOST, start.shape[0])
    nothing = jnp.zeros(most, start.dtype)
    basis = jnp.zeros((most + 1, start.shape[0]), start.dtype).at[0].set(start / jnp.linalg.norm(start))
    unknown = jnp.full((), jnp.inf, start.dtype)
    first = _Lanczos(jnp.zeros((), jnp.int32), basis, nothing, nothing, jnp.zeros_like(unknown), unknown)

    def go_on(now: _Lanczos) -> Array:
        return (now.done < most) & (now.residual > CLOSE * jnp.abs(now.largest))

    def step(now: _Lanczos) -> _Lanczos:
        last = now.basis[now.done]
        new = product(last)
        diagonal = now.diagonal.at[now.done].set(last @ new)
        for _ in range(2):
            new = new - (now.basis @ new) @ now.basis
        length = jnp.linalg.norm(new)
        basis = now.basis.at[now.done + 1].set(new / jnp.where(length > 0, length, 1))
        largest, share = _top_of_tridiagonal(diagonal, now.beside, now.done)
        beside = now.beside.at[now.done].set(length)
        return _Lanczos(now.done + 1, basis, diagonal, beside, largest, length * jnp.abs(share))

    return jax.lax.while_loop(go_on, step, first).largest


def _top_of_tridiagonal(diagonal: Array, beside: Array, last: Array) -> tuple[Array, Array]:
    """The largest eigenvalue of the first `last` + 1 rows and columns, and the last entry of its eigenvector."""
    known = jnp.arange(len(diagonal)) <= last
    lowest = -2 * (jnp.max(jnp.abs(diagonal)) + jnp.max(beside))  # below every eigenvalue: rows to come do not count
    coupled = jnp.where(known[1:], beside[:-1], 0)
    matrix = jnp.diag(jnp.where(known, diagonal, lowest)) + jnp.diag(coupled, 1) + jnp.diag(coupled, -1)
    values, vectors = jnp.linalg.eigh(matrix)
    return values[-1], vectors[last, -1]
