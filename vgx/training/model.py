"""The net: Layer, and an MLP as a tuple of stacks of layers of equal shape, each applied by one scan.

Flax NNX modules, used as plain pytrees: nothing in a forward pass mutates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from vgx.config.schema import Model
from vgx.parts.activations import Activation, Identity
from vgx.parts.initializers import LSUV, Initializer
from vgx.parts.normalizations import Affine, BatchNorm, Moments, NoNormalization, Normalization
from vgx.training.probes import (
    Delta,
    Forward,
    Probe,
    Tier,
    Weights,
    empty_probe,
    input_square,
    measure_forward,
    restore,
    tap,
    tap_rest,
    tap_weights,
)


class Design(NamedTuple):
    """What all layers of a stack have in common."""

    activation: Activation
    normalization: Normalization
    dropout: float


class InitialWeights(NamedTuple):
    """One stack's initial weights: [L_s, N_in, N] and [L_s, N]."""

    kernel: Array
    bias: Array


def stacks_of(widths: tuple[int, ...], features: int, classes: int) -> list[tuple[tuple[int, int], int]]:
    """Returns each stack's kernel shape and how many layers it has, from the input up; the last is the readout."""
    shapes = list(pairwise([features, *widths, classes]))
    return [(shape, len(list(group))) for shape, group in groupby(shapes[:-1])] + [(shapes[-1], 1)]


def draw_weights(
    initializer: Initializer, bias: Initializer, stacks: list[tuple[tuple[int, int], int]], key: Array
) -> tuple[InitialWeights, ...]:
    """Returns the initial weights of a net whose stacks are `stacks_of(...)`: what no activation has a say in."""

    def draw(shape: tuple[int, int], key: Array) -> InitialWeights:
        of_kernel, of_bias = jax.random.split(key)
        return InitialWeights(initializer(of_kernel, shape), bias(of_bias, shape[1:]))

    keys = jax.random.split(key, sum(count for _, count in stacks))
    drawn, start = [], 0
    for shape, count in stacks:
        drawn.append(jax.vmap(partial(draw, shape))(keys[start : start + count]))
        start += count
    return tuple(drawn)


@jax.custom_vjp
def linear(x: Array, kernel: Array, bias: Array) -> Array:
    """Returns x W + b in the precision of `x`; backward, lays the kernel's gradient out as the kernel is."""
    return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


def _linear_forward(x: Array, kernel: Array, bias: Array):
    # not `linear` itself: forward mode goes through this, for products with a Hessian
    return x @ kernel.astype(x.dtype) + bias.astype(x.dtype), (x, kernel)


def _linear_backward(residual: tuple[Array, Array], g: Array):
    x, kernel = residual
    of_kernel = jax.lax.dot_general(x, g, (((0,), (0,)), ((), ())))
    return g @ kernel.T.astype(g.dtype), of_kernel.astype(kernel.dtype), jnp.sum(g, 0).astype(kernel.dtype)


linear.defvjp(_linear_forward, _linear_backward)


class Layer(nnx.Module):
    """One layer: x -> dropout(f(norm(W x + b))), or norm after f; [B, N_in] to [B, N]."""

    def __init__(self, design: Design, kernel: Array, bias: Array):
        n = kernel.shape[-1]
        affine = design.normalization.parameters(n)
        slope = design.activation.parameters(n)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)
        self.affine = nnx.data(None if affine is None else jax.tree.map(nnx.Param, affine))
        self.slope = nnx.data(None if slope is None else nnx.Param(slope))
        self.activation = design.activation
        self.normalization = design.normalization
        self.dropout = design.dropout

    def __call__(
        self, x: Array, exponent: Array, probe: Probe | None, key: Array | None, tier: Tier
    ) -> tuple[Array, Array, Moments | None, Forward]:
        """Returns what the layer passes on in training, the exponent, the batch's moments, and the forward statistics.

        `exponent` is what the taps carry theirs by; `probe` None leaves the taps out; `key` is this layer's at this
        step.
        """
        noise, drop = (None, None) if key is None else jax.random.split(key)
        kernel, bias, rest = self.kernel[...], self.bias[...], (self._affine, self._slope)
        if probe is None:
            kernel, bias, rest = restore((kernel, bias, rest), exponent)
            h = linear(x, kernel, bias)
        else:
            square = jax.lax.stop_gradient(input_square(x)) if tier == "full" else None
            kernel, bias, exponent = tap_weights(kernel, bias, exponent, Weights(*probe[2:5]))
            h, exponent = tap(linear(x, kernel, bias), exponent, Delta(*probe[:2]), square)
            rest, exponent = tap_rest(rest, exponent, probe.rest_log2)
        affine, learned = rest
        z, before = self.normalization.train(h, affine) if self.normalization.before else (h, None)

        def activate(z: Array) -> Array:
            return self.activation.train(z, learned, noise)

        if tier in ("standard", "full"):
            y, slope = jax.jvp(activate, (z,), (jnp.ones_like(z),))
        else:
            y = slope = activate(z)
        y, after = self.normalization.train(y, affine) if self.normalization.after else (y, None)
        if self.dropout:
            assert drop is not None
            keep = jax.random.bernoulli(drop, 1 - self.dropout, y.shape)
            y = jnp.where(keep, y / (1 - self.dropout), 0)
        seen = jax.lax.stop_gradient((self.kernel[...], x, z, slope, y))
        return y, exponent, before or after, measure_forward(tier, self.activation.steepest, *seen)

    def evaluate(self, x: Array, running: Moments | None) -> Array:
        """Returns what the layer passes on in evaluation: no dropout, mean slopes, running moments."""
        h = linear(x, self.kernel[...], self.bias[...])
        z = self.normalization.evaluate(h, self._affine, running) if self.normalization.before else h
        y = self.activation.evaluate(z, self._slope)
        return self.normalization.evaluate(y, self._affine, running) if self.normalization.after else y

    @property
    def learns_after_tap(self) -> bool:
        """Whether there is a normalization's scale or an activation's slope to learn."""
        return self.affine is not None or self.slope is not None

    @property
    def _affine(self) -> Affine | None:
        if self.affine is None:
            return None
        scale, offset = self.affine
        return Affine(scale[...], None if offset is None else offset[...])

    @property
    def _slope(self) -> Array | None:
        return None if self.slope is None else self.slope[...]


class MLP(nnx.Module):
    """Stacks of layers from the input up; the last is the readout, linear and alone. Leaves have a layer axis first."""

    def __init__(self, model: Model, weights: tuple[InitialWeights, ...]):
        hidden = Design(model.activation, model.normalization, model.dropout)
        normalizes_logits = isinstance(model.normalization, BatchNorm) and model.normalization.logits
        logits = (
            model.normalization.model_copy(update={"placement": "before"}) if normalizes_logits else NoNormalization()
        )
        readout = Design(Identity(), logits, 0.0)
        designs = [hidden] * (len(weights) - 1) + [readout]
        self.stacks = nnx.data(
            tuple(jax.vmap(partial(Layer, design))(*drawn) for design, drawn in zip(designs, weights, strict=True))
        )

    @classmethod
    def draw(cls, model: Model, features: int, classes: int, key: Array) -> MLP:
        """Returns the net with its initial weights, before LSUV has seen any data."""
        stacks = stacks_of(model.widths, features, classes)
        return cls(model, draw_weights(model.initializer, model.bias, stacks, key))

    @property
    def counts(self) -> tuple[int, ...]:
        """How many layers each stack has; they add up to L + 1."""
        return tuple(stack.kernel.shape[0] for stack in self.stacks)

    def __call__(
        self, x: Array, zero: Array, probes: tuple[Probe, ...] | None, key: Array | None, tier: Tier
    ) -> tuple[Array, tuple[Moments | None, ...], Forward]:
        """Returns the logits [B, C], each stack's batch moments [L_s, N], and the forward statistics [L + 1].

        `zero` is the exponent that the taps start from: a 0 that the compiler must not know.
        """
        exponent = zero
        moments, forwards, start = [], [], 0
        for i, (stack, count) in enumerate(zip(self.stacks, self.counts, strict=True)):
            keys = (
                None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(start, start + count))
            )

            def apply(carry, layer_probe_key):
                layer, probe, key = layer_probe_key
                x, exponent, moments, forward = layer(*carry, probe, key, tier)
                return (x, exponent), (moments, forward)

            of_stack = stack, None if probes is None else probes[i], keys
            (x, exponent), (stack_moments, forward) = _through(apply, (x, exponent), of_stack, count)
            moments.append(stack_moments)
            forwards.append(forward)
            start += count
        return x, tuple(moments), jax.tree.map(lambda *parts: jnp.concatenate(parts), *forwards)

    def evaluate(self, x: Array, running: tuple[Moments | None, ...]) -> Array:
        """Returns the logits [B, C] in evaluation, with each stack's running moments."""
        for stack, moments, count in zip(self.stacks, running, self.counts, strict=True):
            x, _ = _through(lambda x, layer: (layer[0].evaluate(x, layer[1]), None), x, (stack, moments), count)
        return x

    def empty_probes(self) -> tuple[Probe, ...]:
        """Returns the probes of a measured forward pass: one stack of zeros per stack of layers."""
        return tuple(empty_probe((count,)) for count in self.counts)

    def initial_moments(self) -> tuple[Moments | None, ...]:
        """Returns the running moments before the first step: mean 0, variance 1, [L_s, N]; None where none are kept."""

        def initial(stack: Layer) -> Moments | None:
            if not isinstance(stack.normalization, BatchNorm):
                return None
            count, _, width = stack.kernel.shape
            return jax.tree.map(lambda x: jnp.tile(x, (count, 1)), stack.normalization.initial(width))

        return tuple(initial(stack) for stack in self.stacks)

    def fold_moments(
        self, running: tuple[Moments | None, ...], batch: tuple[Moments | None, ...]
    ) -> tuple[Moments | None, ...]:
        """Returns the running moments after a step whose batch had the moments `batch`."""
        folded = []
        for stack, old, new in zip(self.stacks, running, batch, strict=True):
            norm = stack.normalization
            folded.append(
                norm.fold(old, new) if isinstance(norm, BatchNorm) and old is not None and new is not None else None
            )
        return tuple(folded)


def _through(layer: Callable[[Any, Any], tuple[Any, Any]], x: Any, stack: Any, count: int) -> tuple[Any, Any]:
    """A scan over `count` layers; over one, which may change the shape of x and so cannot be scanned, a plain call."""
    if count > 1:
        return jax.lax.scan(layer, x, stack)
    x, out = layer(x, jax.tree.map(lambda leaf: leaf[0], stack))
    return x, jax.tree.map(lambda leaf: leaf[None], out)


def fit_to_data(mlp: MLP, x: Array, key: Array | None, rule: LSUV) -> MLP:
    """Returns the net with each layer's weights rescaled, from the first up, until the variance of h on `x` [B, D] is
    1.

    Mishkin and Matas 2016, arXiv:1511.06422, algorithm 1.
    """
    stacks = []
    for stack, count in zip(mlp.stacks, mlp.counts, strict=True):
        keys = None if key is None else jax.random.split(key, count)

        def fit(x, layer_key):
            layer, key = layer_key
            kernel = _unit_variance(x, layer.kernel[...], layer.bias[...], rule)
            layer = _with_kernel(layer, kernel)
            return layer(x, jnp.zeros(()), None, key, "none")[0], kernel

        x, kernels = _through(fit, x, (stack, keys), count)
        stacks.append(_with_kernel(stack, kernels))
    return _with_stacks(mlp, tuple(stacks))


def _unit_variance(x: Array, kernel: Array, bias: Array, rule: LSUV) -> Array:
    def variance(kernel: Array) -> Array:
        return jnp.var(x @ kernel + bias)

    def off(carry) -> Array:
        round_, _, variance = carry
        return (round_ < rule.rounds) & (jnp.abs(variance - 1) > rule.tolerance) & (variance > 0)

    def rescale(carry):
        round_, kernel, var = carry
        kernel = kernel / jnp.sqrt(var)
        return round_ + 1, kernel, variance(kernel)

    return jax.lax.while_loop(off, rescale, (0, kernel, variance(kernel)))[1]


def _with_kernel(layer: Layer, kernel: Array) -> Layer:
    leaves, structure = jax.tree_util.tree_flatten_with_path(layer)
    return jax.tree.unflatten(structure, [kernel if path[0].name == "kernel" else leaf for path, leaf in leaves])


def _with_stacks(mlp: MLP, stacks: tuple[Layer, ...]) -> MLP:
    return jax.tree.unflatten(jax.tree.structure(mlp), jax.tree.leaves(stacks))
