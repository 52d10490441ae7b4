"""The Jacobian's spectrum: in how many directions a gradient gets through, and how strongly in each.

The singular values of a product of many layers span more decades than a float has. So the product is kept as

    J_1^T J_2^T ... J_l^T = basis diag(2^exponent) mixing,

with an orthonormal basis and a well-conditioned mixing, and is made orthogonal anew at each layer, the largest column
first. In the end one-sided Jacobi rotations, which never form a square, leave each singular value as accurate, relative
to itself, as the arithmetic is.

Pennington, Schoenholz and Ganguli 2017, arXiv:1711.04735; Demmel and Veselic 1992, doi:10.1137/0613074.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vgx.config.schema import Config
from vgx.parts.normalizations import Moments
from vgx.training.batches import batch_size_of
from vgx.training.inputs import Images, encode, master_dtype, shared
from vgx.training.model import MLP, Carried, Layer
from vgx.training.probes import LOG10_2, exponent_of, power_of_two, scale_by_power
from vgx.training.program import Program
from vgx.training.sharpness import noiseless
from vgx.training.step import State

NONE = -(2**28)
"""The exponent of a direction in which nothing gets through."""
SWEEPS = 30
"""Of Jacobi rotations over all pairs, at the most; 4 to 8 are usual."""


class Spectra(NamedTuple):
    """log10 of singular values, the largest first, a row for each example; -inf where nothing gets through."""

    logits: Array
    """[E, min(D, C)], of the logits with respect to the input."""
    hidden: Array
    """[E, min(N_1, N_L)], of what the last hidden layer passes on with respect to what the first does: of the stream,
    where there is one. [E, 0] of a single hidden layer."""


class Product(NamedTuple):
    """A product of matrices, [n, m], as basis diag(2^exponent) mixing."""

    basis: Array
    """[n, k], orthonormal columns."""
    exponent: Array
    """[k], integers; NONE of a direction that was lost."""
    mixing: Array
    """[k, m], rows of size about 1."""


def seen_examples(config: Config, total: int) -> np.ndarray:
    """Returns the training examples whose Jacobians are measured, evenly spread: [E] of indices."""
    assert config.log.spectrum is not None
    return np.linspace(0, total, min(config.log.spectrum.examples, total), endpoint=False, dtype=np.int32)


def spectra(program: Program, state: State, data: Images) -> Spectra:
    """Returns the singular values of the Jacobians of one lane's net, at single training examples.

    Nothing is dropped and random slopes are at their mean. A batch norm has the moments, as evaluation would have them,
    of a batch of evenly spread training examples: they do not move with the example.
    """
    config, total = program.config, len(data.labels)
    wide = master_dtype(config)
    mlp: MLP = noiseless(program, state.model)

    def encoded(index: np.ndarray) -> Array:
        return encode(data, shared(jnp.asarray(index)), config.data.input, wide)

    batch = min(batch_size_of(config), total)
    x = encoded(np.linspace(0, total, batch, endpoint=False, dtype=np.int32))
    moments = mlp(x, jnp.zeros((), wide), None, None, "none")[1]
    return jax.lax.map(lambda x: spectra_at(mlp, moments, x), encoded(seen_examples(config, total)))


def spectrum_bytes(config: Config, features: int, classes: int) -> int:
    """Returns about how much memory that takes; 0 where it is not asked for."""
    if config.log.spectrum is None:
        return 0
    widest = max(*config.model.widths, classes)
    across = 2 if config.model.residual.streams_preactivations else 1
    kept = sum(config.model.widths) * across + features
    return master_dtype(config).itemsize * (12 * across * widest**2 + 2 * widest * features + 2 * kept)


def spectra_at(mlp: MLP, moments: tuple[Moments | None, ...], x: Array) -> Spectra:
    """Returns the spectra at one example, x [D], of a net whose stacks have the running `moments`."""
    layers = _received(mlp, moments, x)
    of_logits = identity(mlp.stacks[-1].kernel.shape[-1], x.dtype)
    for of_stack in reversed(layers):
        of_logits = _down(of_logits, *of_stack)
    first, *hidden = _without_first(layers[:-1])
    if not hidden:
        return Spectra(log10_singular_values(of_logits), jnp.zeros(0, x.dtype))
    last: Layer = hidden[-1][0]
    of_hidden = identity(last.kernel.shape[-1], x.dtype)
    if last.streams_h:  # of the stream alone: what is passed on follows from it
        of_hidden = of_hidden._replace(basis=jnp.pad(of_hidden.basis, ((len(of_hidden.basis), 0), (0, 0))))
    for of_stack in reversed(hidden):
        of_hidden = _down(of_hidden, *of_stack)
    if last.streams_h:
        layer, running, received = jax.tree.map(lambda leaf: leaf[0], first)
        of_hidden = multiply(of_hidden, partial(_to_preactivations, layer, running, received))
    return Spectra(log10_singular_values(of_logits), log10_singular_values(of_hidden))


Layers = tuple[Layer, Moments | None, Any]
"""A stack, its running moments, and what each of its layers receives."""


def _received(mlp: MLP, moments: tuple[Moments | None, ...], x: Array) -> list[Layers]:
    """The layers at one example, x [D], stack by stack."""
    found: list[Layers] = []
    parts: Any = (x[None], None)
    for stack, running in zip(mlp.stacks, moments, strict=True):

        def apply(parts: Any, one: Any) -> tuple[Any, Any]:
            layer, its = one
            return _evaluate(layer, its, parts), parts

        if stack.kernel.shape[0] > 1:
            parts, received = jax.lax.scan(apply, parts, (stack, running))
        else:
            received = jax.tree.map(lambda leaf: leaf[None], parts)
            parts, _ = apply(parts, jax.tree.map(lambda leaf: leaf[0], (stack, running)))
        found.append((stack, running, received))
    return found


def _without_first(layers: list[Layers]) -> list[Layers]:
    """The first layer by itself, and then the others."""
    lowest, *above = layers
    if lowest[0].kernel.shape[0] == 1:
        return layers
    first, rest = (jax.tree.map(lambda leaf, part=part: leaf[part], lowest) for part in (slice(1), slice(1, None)))
    return [first, rest, *above]


def _evaluate(layer: Layer, running: Moments | None, parts: tuple[Array, Array | None]) -> tuple[Array, Array | None]:
    """What a layer hands on in evaluation: x, and the stream where that is of pre-activations."""
    x, stream = parts
    out = layer.evaluate(Carried(x, stream, jnp.zeros((), x.dtype)), running)
    return out.x, out.stream


def _down(product: Product, stack: Layer, moments: Any, inputs: Any) -> Product:
    """The product with the Jacobians of a stack of layers, the uppermost first."""

    def layer(product: Product, one: Any) -> tuple[Product, None]:
        return multiply(product, partial(_pull, *one)), None

    of_layers = stack, moments, inputs
    if stack.kernel.shape[0] > 1:
        return jax.lax.scan(layer, product, of_layers, reverse=True)[0]
    return layer(product, jax.tree.map(lambda leaf: leaf[0], of_layers))[0]


def _pull(layer: Layer, moments: Moments | None, parts: Any, gradients: Array) -> Array:
    """Gradients with respect to what a layer hands on, [k, n], to those with respect to what it receives."""
    out, back = jax.vjp(partial(_evaluate, layer, moments), parts)
    return _rows(jax.vmap(back)(_parts(gradients, out))[0])


def _to_preactivations(layer: Layer, moments: Moments | None, parts: Any, gradients: Array) -> Array:
    """Gradients with respect to what the first layer hands on, x and the stream, to those with respect to h."""

    out, back = jax.vjp(lambda layer: _evaluate(layer, moments, parts), layer)
    return jax.vmap(lambda gradient: back(gradient)[0].bias[...])(_parts(gradients, out))


def _parts(rows: Array, like: tuple[Array, Array | None]) -> tuple[Array, Array | None]:
    """Rows of x, or of x and the stream side by side, [k, n or 2 n], as what a layer hands on, [k, 1, n] each."""
    x, stream = like
    if stream is None:
        return rows[:, None], None
    return rows[:, None, : x.shape[1]], rows[:, None, x.shape[1] :]


def _rows(parts: tuple[Array, Array | None]) -> Array:
    return jnp.concatenate([part[:, 0] for part in parts if part is not None], 1)


def identity(n: int, dtype: Any) -> Product:
    """Returns the product of no matrices."""
    return Product(jnp.eye(n, dtype=dtype), jnp.zeros(n, jnp.int32), jnp.eye(n, dtype=dtype))


def multiply(product: Product, pull: Any) -> Product:
    """Returns A P of a product P, [n, m], where `pull` takes rows [k, n] to rows times A^T.

    Columns are ordered by their size, and so are rows: a factorization keeps what is small beside what is large then.
    """
    basis, exponent, mixing = product
    moved = pull(basis.T).T
    size = exponent_of(moved)
    moved = moved * power_of_two(-size, moved.dtype)
    exponent = jnp.where(exponent > NONE, exponent + size, NONE)
    order = jnp.argsort(-(exponent + _log2_norms(moved.T)))
    moved, exponent, mixing = moved[:, order], exponent[order], mixing[order]
    rows = jnp.argsort(-_log2_norms(moved))
    basis, triangle = jnp.linalg.qr(moved[rows])
    basis = jnp.zeros_like(basis).at[rows].set(basis)
    k = triangle.shape[0]
    return Product(basis, *_leveled(exponent[:k], _graded(triangle, exponent) @ mixing))


def _graded(triangle: Array, exponent: Array) -> Array:
    """diag(2^-exponent) R diag(2^exponent) of an upper triangle R, [k, n]."""
    k, n = triangle.shape
    above = np.arange(k)[:, None] <= np.arange(n)
    return scale_by_power(triangle, jnp.where(above, exponent[None] - exponent[:k, None], 0))


def _leveled(exponent: Array, rows: Array) -> tuple[Array, Array]:
    """The same rows, each times 2^exponent, with sizes of about 1."""
    size = jax.vmap(exponent_of)(rows)
    there = (exponent > NONE) & jnp.any(rows != 0, 1)
    rows = jnp.where(there[:, None], rows * power_of_two(-size, rows.dtype)[:, None], 0)
    return jnp.where(there, exponent + size, NONE), rows


def _log2_norms(rows: Array) -> Array:
    """log2 of the norm of each row; -inf of zeros."""
    size = jax.vmap(exponent_of)(rows)
    scaled = rows * power_of_two(-size, rows.dtype)[:, None]
    return size + 0.5 * jnp.log2(jnp.sum(jnp.square(scaled), 1))


def log10_singular_values(product: Product) -> Array:
    """Returns log10 of a product's singular values, [min(n, m)], the largest first; -inf of those that are 0.

    diag(2^exponent) mixing = (R diag(2^exponent))^T Q^T, with mixing^T = Q R: the rows of R diag(2^exponent) are nearly
    orthogonal already, the more so the more they differ in size.
    """
    order = jnp.argsort(-(product.exponent + _log2_norms(product.mixing)))
    exponent, mixing = product.exponent[order], product.mixing[order]
    triangle = jnp.linalg.qr(mixing.T, mode="r")
    exponent, rows = _orthogonal(*_leveled(exponent, _graded(triangle, exponent)))
    norms = jnp.where(exponent > NONE, exponent + _log2_norms(rows), -jnp.inf)
    n, m = product.basis.shape[0], product.mixing.shape[1]
    found = LOG10_2 * -jnp.sort(-norms)[: len(triangle)]
    return jnp.pad(found, (0, min(n, m) - len(found)), constant_values=-jnp.inf)


def _orthogonal(exponent: Array, rows: Array) -> tuple[Array, Array]:
    """Rows [k, k], each times 2^exponent, rotated pair by pair until all are orthogonal.

    In a round each row has a partner; all but the first then move on by one place, so that after k - 1 rounds every
    pair has met.
    """
    k = rows.shape[0]
    if k == 1:
        return exponent, rows
    if k % 2:
        exponent, rows = jnp.append(exponent, NONE), jnp.pad(rows, ((0, 1), (0, 0)))
    half = len(rows) // 2
    close = math.sqrt(float(jnp.finfo(rows.dtype).eps))
    upper, lower = np.arange(half), np.arange(half, 2 * half)[::-1]
    places = np.array([0, 2 * half - 1, *range(1, 2 * half - 1)])

    def round_of(_: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        exponent, rows, worst = now
        one, other = (exponent[upper], rows[upper]), (exponent[lower], rows[lower])
        (e, u), (f, v), cosine = _rotate(*one, *other)
        exponent = jnp.zeros_like(exponent).at[upper].set(e).at[lower].set(f)
        rows = jnp.zeros_like(rows).at[upper].set(u).at[lower].set(v)
        return exponent[places], rows[places], jnp.maximum(worst, jnp.max(cosine))

    def sweep(now: tuple[Array, tuple[Array, Array, Array]]) -> tuple[Array, tuple[Array, Array, Array]]:
        count, (exponent, rows, _) = now
        fresh = exponent, rows, jnp.zeros((), rows.dtype)
        return count + 1, jax.lax.fori_loop(0, len(rows) - 1, round_of, fresh)

    def go_on(now: tuple[Array, tuple[Array, Array, Array]]) -> Array:
        return (now[0] < SWEEPS) & (now[1][2] > close)

    start = jnp.zeros((), jnp.int32), (exponent, rows, jnp.full((), jnp.inf, rows.dtype))
    exponent, rows, _ = jax.lax.while_loop(go_on, sweep, start)[1]
    return exponent, rows


def _rotate(e: Array, u: Array, f: Array, v: Array) -> tuple[tuple[Array, Array], tuple[Array, Array], Array]:
    """Pairs of rows u 2^e and v 2^f, rotated until they are orthogonal, and the cosines that they had.

    With r <= 1 the ratio of the lesser norm to the larger and c the cosine, the tangent of the angle is t = r y with
    y = -2 c / (1 - r^2 + sqrt((1 - r^2)^2 + 4 r^2 c^2)); what the lesser row takes of the larger is y of its own size,
    however small r is.
    """
    length, other = (jnp.linalg.norm(x, axis=1) for x in (u, v))
    swap = (f + jnp.log2(other) > e + jnp.log2(length)) & (other > 0)
    (e, f), (u, v), (length, other) = (_swapped(swap, *pair) for pair in ((e, f), (u, v), (length, other)))
    there = (other > 0) & (length > 0)
    u_unit, v_unit = (x / jnp.where(there, size, 1)[:, None] for x, size in ((u, length), (v, other)))
    cosine = jnp.where(there, jnp.sum(u_unit * v_unit, 1), 0)
    ratio = jnp.where(there, scale_by_power(other / jnp.where(there, length, 1), f - e), 0)
    apart = 1 - jnp.square(ratio)
    below = apart + jnp.sqrt(jnp.square(apart) + 4 * jnp.square(ratio * cosine))
    y = jnp.where(below > 0, -2 * cosine / jnp.where(below > 0, below, 1), 0)
    cos = 1 / jnp.sqrt(1 + jnp.square(ratio * y))
    larger = (cos[:, None] * (u_unit - (jnp.square(ratio) * y)[:, None] * v_unit)) * length[:, None]
    lesser = (cos[:, None] * (y[:, None] * u_unit + v_unit)) * other[:, None]
    u, v = jnp.where(there[:, None], larger, u), jnp.where(there[:, None], lesser, v)
    (e, f), (u, v) = _swapped(swap, e, f), _swapped(swap, u, v)  # back: who has met whom goes by the place
    return _leveled(e, u), _leveled(f, v), jnp.abs(cosine)


def _swapped(which: Array, one: Array, other: Array) -> tuple[Array, Array]:
    which = which.reshape(-1, *[1] * (one.ndim - 1))
    return jnp.where(which, other, one), jnp.where(which, one, other)
