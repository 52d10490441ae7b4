"""The net: Layer, and an MLP as a tuple of stacks of layers of equal shape, each applied by one scan.

Flax NNX modules, used as plain pytrees: nothing in a forward pass mutates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from vgx.config.schema import Model
from vgx.parts.activations import Activation, Identity
from vgx.parts.initializers import LSUV
from vgx.parts.normalizations import Affine, BatchNorm, Moments, NoNormalization, Normalization
from vgx.parts.residuals import NoResidual, Residual, Skip
from vgx.training.probes import (
    Delta,
    Forward,
    Probe,
    Tier,
    Weights,
    branch_ratio,
    empty_probe,
    input_square,
    measure_forward,
    restore,
    tap,
    tap_branch,
    tap_branch_weights,
    tap_rest,
    tap_weights,
)
from vgx.training.weights import InitialWeights, draw_weights, stacks_of


class Design(NamedTuple):
    """What all layers of a stack have in common."""

    activation: Activation
    normalization: Normalization
    dropout: float
    residual: Residual = NoResidual()
    """Of the net; a layer that adds to no stream may have to hand one on."""
    skip: Skip | None = None
    """Of the layers themselves."""
    depth: int = 1
    """Hidden layers of the whole net, which a residual's scale may go by."""
    reads_out: bool = False


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


class Carried(NamedTuple):
    """What a layer hands to the one above."""

    x: Array
    """[B, N], what it passes on."""
    stream: Array | None
    """[B, N], where the stream is of pre-activations; None in any other net."""
    exponent: Array
    """What the taps carry theirs by."""


class Layer(nnx.Module):
    """One layer: x -> dropout(f(norm(W x + b))), or norm after f; [B, N_in] to [B, N]. It may add to a stream."""

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
        self.residual = design.residual
        self.streams_h = design.residual.streams_preactivations and not design.reads_out
        self.skip = skip = design.skip
        self.first_scale = skip.initial_scale(design.depth) if skip else 1.0
        learns = skip is not None and skip.learns
        self.scale = nnx.data(nnx.Param(jnp.full((), self.first_scale, kernel.dtype)) if learns else None)

    def __call__(
        self, carried: Carried, probe: Probe | None, key: Array | None, tier: Tier
    ) -> tuple[Carried, Moments | None, Forward]:
        """Returns what the layer hands on in training, the batch's moments, and the forward statistics.

        `probe` None leaves the taps out; `key` is this layer's at this step.
        """
        noise, drop = (None, None) if key is None else jax.random.split(key)
        h, (affine, learned), scale, exponent = self._linear(carried, probe, tier)
        ratio = None
        if self.skip and self.streams_h:
            h, exponent, ratio = self._add(h, carried.stream, scale, exponent, probe)
        if self.streams_h and probe is not None:
            (affine, learned), exponent = tap_rest((affine, learned), exponent, probe.rest_log2)
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
        if self.skip and not self.streams_h:
            y, exponent, ratio = self._add(y, carried.x, scale, exponent, probe)
        seen = self.kernel[...], carried.x, h if self.streams_h else z, slope, y
        forward = measure_forward(tier, self.activation.steepest, *jax.lax.stop_gradient(seen))
        if self.residual.skips and tier in ("standard", "full"):
            none = jnp.full((), jnp.nan, jnp.promote_types(h.dtype, jnp.float32))
            forward = forward._replace(branch_ratio=none if ratio is None else ratio)
        return Carried(y, h if self.streams_h else None, exponent), before or after, forward

    def _linear(
        self, carried: Carried, probe: Probe | None, tier: Tier
    ) -> tuple[Array, tuple[Affine | None, Array | None], Array | float, Array]:
        """Returns h, the parameters that come after it, the branch's scale, and the exponent; each tapped.

        The taps of parameters stand below the one that divides the gradient that they receive.
        """
        x, _, exponent = carried
        kernel, bias, rest, learned = self.kernel[...], self.bias[...], (self._affine, self._slope), self._learned_scale
        if probe is None:
            kernel, bias, rest, learned = restore((kernel, bias, rest, learned), exponent)
            h = linear(x, kernel, bias)
        else:
            square = jax.lax.stop_gradient(input_square(x)) if tier == "full" else None
            weights, measure = (tap_branch_weights, tap_branch) if self.skip else (tap_weights, tap)
            kernel, bias, exponent = weights(kernel, bias, exponent, Weights(*probe[2:5]))
            h, exponent = measure(linear(x, kernel, bias), exponent, Delta(*probe[:2], probe.coherence), square)
            if learned is not None:
                assert probe.scale_log2 is not None
                learned, exponent = tap_rest(learned, exponent, probe.scale_log2)
            if not self.streams_h:
                rest, exponent = tap_rest(rest, exponent, probe.rest_log2)
        return h, rest, self.first_scale if learned is None else learned.astype(x.dtype), exponent

    def _add(
        self, branch: Array, stream: Array | None, scale: Array | float, exponent: Array, probe: Probe | None
    ) -> tuple[Array, Array, Array]:
        """Returns the stream [B, N] with the branch added, tapped where it is whole, and the ratio of their norms."""
        assert stream is not None
        added = scale * branch
        ratio = branch_ratio(jax.lax.stop_gradient(added), jax.lax.stop_gradient(stream))
        whole = stream + added
        if probe is not None:
            assert probe.stream_log2 is not None
            whole, exponent = tap(whole, exponent, Delta(probe.stream_log2, jnp.zeros_like(exponent)), None)
        return whole, exponent, ratio

    def evaluate(self, carried: Carried, running: Moments | None) -> Carried:
        """Returns what the layer hands on in evaluation: no dropout, mean slopes, running moments."""
        h = linear(carried.x, self.kernel[...], self.bias[...])
        scale = self.first_scale if self._learned_scale is None else self._learned_scale.astype(h.dtype)
        if self.skip and self.streams_h:
            assert carried.stream is not None
            h = carried.stream + scale * h
        z = self.normalization.evaluate(h, self._affine, running) if self.normalization.before else h
        y = self.activation.evaluate(z, self._slope)
        y = self.normalization.evaluate(y, self._affine, running) if self.normalization.after else y
        if self.skip and not self.streams_h:
            y = carried.x + scale * y
        return carried._replace(x=y, stream=h if self.streams_h else None)

    @property
    def _learned_scale(self) -> Array | None:
        return None if self.scale is None else self.scale[...]

    @property
    def learns_scale(self) -> bool:
        """Whether what its branch is multiplied by is a parameter."""
        return self.scale is not None

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
        depth = sum(len(drawn.kernel) for drawn in weights) - 1
        hidden = Design(model.activation, model.normalization, model.dropout, model.residual, None, depth)
        normalizes_logits = isinstance(model.normalization, BatchNorm) and model.normalization.logits
        logits = (
            model.normalization.model_copy(update={"placement": "before"}) if normalizes_logits else NoNormalization()
        )
        readout = Design(Identity(), logits, 0.0, model.residual, reads_out=True)
        skip = model.residual if isinstance(model.residual, Skip) else None
        even = [i > 0 and drawn.kernel.shape[1] == drawn.kernel.shape[2] for i, drawn in enumerate(weights[:-1])]
        designs = [*(hidden._replace(skip=skip if one else None) for one in even), readout]
        self.stacks = nnx.data(
            tuple(jax.vmap(partial(Layer, design))(*drawn) for design, drawn in zip(designs, weights, strict=True))
        )

    @classmethod
    def draw(cls, model: Model, features: int, classes: int, key: Array) -> MLP:
        """Returns the net with its initial weights, before LSUV has seen any data."""
        stacks = stacks_of(model.widths, features, classes, first_alone=model.residual.skips)
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
        carried = Carried(x, None, zero)
        moments, forwards, start = [], [], 0
        for i, (stack, count) in enumerate(zip(self.stacks, self.counts, strict=True)):
            keys = (
                None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(start, start + count))
            )

            def apply(carry, layer_probe_key):
                layer, probe, key = layer_probe_key
                carry, moments, forward = layer(carry, probe, key, tier)
                return carry, (moments, forward)

            of_stack = stack, None if probes is None else probes[i], keys
            carried, (stack_moments, forward) = _through(apply, carried, of_stack, count)
            moments.append(stack_moments)
            forwards.append(forward)
            start += count
        return carried.x, tuple(moments), jax.tree.map(lambda *parts: jnp.concatenate(parts), *forwards)

    def evaluate(self, x: Array, running: tuple[Moments | None, ...]) -> Array:
        """Returns the logits [B, C] in evaluation, with each stack's running moments."""
        carried = Carried(x, None, jnp.zeros((), x.dtype))
        for stack, moments, count in zip(self.stacks, running, self.counts, strict=True):
            of_stack = stack, moments
            carried, _ = _through(lambda below, one: (one[0].evaluate(below, one[1]), None), carried, of_stack, count)
        return carried.x

    def empty_probes(self, tier: Tier = "lite") -> tuple[Probe, ...]:
        """Returns the probes of a measured forward pass: one stack of zeros per stack of layers."""
        return tuple(
            empty_probe((stack.kernel.shape[0],), of_stream=stack.residual.skips, tier=tier) for stack in self.stacks
        )

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
    carried = Carried(x, None, jnp.zeros(()))
    for stack, count in zip(mlp.stacks, mlp.counts, strict=True):
        keys = None if key is None else jax.random.split(key, count)

        def fit(carried, layer_key):
            layer, key = layer_key
            kernel = _unit_variance(carried.x, layer.kernel[...], layer.bias[...], rule)
            layer = _with_kernel(layer, kernel)
            return layer(carried, None, key, "none")[0], kernel

        carried, kernels = _through(fit, carried, (stack, keys), count)
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
