"""Optimizers, learning-rate schedules and gradient clipping, from optax.

A part's float options may be arrays: that is how runs that differ only in such numbers share one compiled program.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike
from pydantic import Field

from vgx.registry import Part, Registry


def _kernels(parameters: optax.Params) -> optax.Params:
    """A tree of booleans: which leaves decay. Weights do; biases, normalization's parameters, PReLU's slopes do not."""

    def is_kernel(path, _) -> bool:
        return any(getattr(entry, "name", getattr(entry, "key", None)) == "kernel" for entry in path)

    return jax.tree_util.tree_map_with_path(is_kernel, parameters)


class Schedule(Part):
    """How the learning rate changes over a run."""

    warmup: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises from near 0."""

    def after_warmup(self, step: Array, steps: Array) -> ArrayLike:
        """Returns the factor at `step`, counted from the end of the warm-up, of a run with `steps` more."""
        raise NotImplementedError

    def __call__(self, step: Array, steps: ArrayLike) -> Array:
        """Returns the factor on the learning rate at `step` (from 0) of a run of `steps`, which may be traced."""
        rise = jnp.minimum(1.0, (step + 1.0) / self.warmup) if self.warmup else 1.0
        left = jnp.maximum(jnp.asarray(steps) - self.warmup, 1)
        return jnp.asarray(rise * self.after_warmup(jnp.maximum(step - self.warmup, 0), left))


SCHEDULES: Registry[Schedule] = Registry("schedule")


@SCHEDULES.register("constant")
class ConstantSchedule(Schedule):
    """The same learning rate throughout.

    Robbins and Monro 1951 would have it fall; plain practice keeps it.
    """

    formula = "1"

    def after_warmup(self, step: Array, steps: Array) -> ArrayLike:
        return jnp.ones_like(step, dtype=float)


@SCHEDULES.register("cosine")
class CosineSchedule(Schedule):
    """Half a cosine down to a final fraction at the end of the run.

    Loshchilov and Hutter 2017, arXiv:1608.03983.
    """

    final: float = Field(default=0.0, ge=0, le=1)
    """The fraction of the learning rate left at the end."""

    formula = "final + (1 - final) (1 + cos(pi t / T)) / 2"

    def after_warmup(self, step: Array, steps: Array) -> ArrayLike:
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step, steps) / steps))
        return (1 - self.final) * cosine + self.final


@SCHEDULES.register("step")
class StepSchedule(Schedule):
    """A constant factor every so many steps.

    He, Zhang, Ren and Sun 2016, arXiv:1512.03385, among many.
    """

    every: int = Field(default=1000, ge=1)
    """Steps between drops."""
    factor: float = Field(default=0.1, gt=0, le=1)
    """What a drop multiplies the learning rate by."""

    formula = "factor^floor(t / every)"

    def after_warmup(self, step: Array, steps: Array) -> ArrayLike:
        return self.factor ** (step // self.every)


class Clip(Part):
    """A bound on the gradient before the optimizer sees it."""

    def __call__(self, gradient: optax.Updates) -> optax.Updates:
        """Returns the gradient, a tree of arrays, within the bound."""
        raise NotImplementedError


CLIPS: Registry[Clip] = Registry("clip")


@CLIPS.register("none")
class NoClip(Clip):
    """Nothing."""

    formula = "g"

    def __call__(self, gradient: optax.Updates) -> optax.Updates:
        return gradient


@CLIPS.register("value")
class ClipByValue(Clip):
    """Every entry is brought into [-limit, limit].

    Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, section 3.2, cite Mikolov 2012.
    """

    limit: float = Field(default=1.0, gt=0)
    """The largest entry."""

    formula = "min(max(g, -limit), limit)"

    def __call__(self, gradient: optax.Updates) -> optax.Updates:
        return jax.tree.map(lambda g: jnp.clip(g, -self.limit, self.limit), gradient)


@CLIPS.register("norm")
class ClipByNorm(Clip):
    """The gradient of all parameters together is shortened to a norm of at most `limit`.

    The norm is taken relative to the largest entry, so it neither underflows nor overflows (optax's does both).

    Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, algorithm 1.
    """

    limit: float = Field(default=1.0, gt=0)
    """The largest norm."""

    formula = "g min(1, limit / |g|)"

    def __call__(self, gradient: optax.Updates) -> optax.Updates:
        leaves = jax.tree.leaves(gradient)
        largest = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]).max()
        unit = jnp.where(largest > 0, largest, 1.0)
        relative = jnp.sqrt(sum(jnp.sum(jnp.square(leaf / unit)) for leaf in leaves))
        too_long = relative > self.limit / unit
        # (g / unit) (limit / relative), and not g (limit / norm): the norm can overflow, and that fraction underflow
        return jax.tree.map(lambda g: jnp.where(too_long, g / unit * (self.limit / relative), g), gradient)


class Optimizer(Part):
    """A rule that turns gradients into changes of the parameters."""

    learning_rate: float = Field(default=0.1, gt=0)
    """The step size."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Pulls the weights (nothing else) to zero: this times the weights is added to their gradient."""
    schedule: Annotated[Schedule, SCHEDULES.field] = ConstantSchedule()
    """How the learning rate changes."""

    decoupled: ClassVar[bool] = False
    """Whether weight decay bypasses the rule instead of entering the gradient."""

    def rule(self) -> optax.GradientTransformation:
        """Returns the rule at learning rate 1, ascending: what `transform` scales and turns downhill."""
        raise NotImplementedError

    def transform(self, learning_rate: Array | float) -> optax.GradientTransformation:
        """Returns the optax transformation for one step at `learning_rate`; no number decides the form of its state."""
        rule = self.rule()
        if isinstance(self.weight_decay, (int, float)) and self.weight_decay == 0:
            return optax.chain(rule, optax.scale_by_learning_rate(learning_rate))
        decay = optax.add_decayed_weights(self.weight_decay, _kernels)
        first, second = (rule, decay) if self.decoupled else (decay, rule)
        return optax.chain(first, second, optax.scale_by_learning_rate(learning_rate))


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer")


@OPTIMIZERS.register("sgd")
class SGD(Optimizer):
    """Plain stochastic gradient descent.

    Robbins and Monro 1951, Annals of Mathematical Statistics.
    """

    formula = "w <- w - learning_rate g"

    def rule(self) -> optax.GradientTransformation:
        return optax.identity()


@OPTIMIZERS.register("momentum")
class Momentum(Optimizer):
    """Gradient descent along a decaying sum of gradients.

    Polyak 1964; Nesterov 1983; Sutskever, Martens, Dahl and Hinton 2013, ICML.
    """

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """What the sum keeps of itself at each step."""
    nesterov: bool = False
    """Whether the gradient is looked at one step ahead."""

    formula = "m <- momentum m + g; w <- w - learning_rate m"

    def rule(self) -> optax.GradientTransformation:
        return optax.trace(self.momentum, self.nesterov)


@OPTIMIZERS.register("rmsprop")
class RMSProp(Optimizer):
    """The gradient divided by the root of its running mean square.

    Tieleman and Hinton 2012, Coursera lecture 6.5.
    """

    learning_rate: float = Field(default=0.001, gt=0)
    """The step size."""
    decay: float = Field(default=0.9, ge=0, lt=1)
    """What the mean square keeps of itself at each step."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the mean square."""

    formula = "v <- decay v + (1 - decay) g^2; w <- w - learning_rate g / sqrt(v + epsilon)"

    def rule(self) -> optax.GradientTransformation:
        return optax.scale_by_rms(self.decay, self.epsilon)


@OPTIMIZERS.register("adagrad")
class Adagrad(Optimizer):
    """The gradient divided by the root of the sum of its squares so far.

    Duchi, Hazan and Singer 2011, JMLR 12.
    """

    learning_rate: float = Field(default=0.01, gt=0)
    """The step size."""
    initial: float = Field(default=0.1, ge=0)
    """What the sum of squares starts from."""
    epsilon: float = Field(default=1e-7, gt=0)
    """Added to the sum."""

    formula = "v <- v + g^2; w <- w - learning_rate g / sqrt(v + epsilon)"

    def rule(self) -> optax.GradientTransformation:
        return optax.scale_by_rss(self.initial, self.epsilon)


@OPTIMIZERS.register("adam")
class Adam(Optimizer):
    """Momentum divided by the root of the running mean square, both corrected for their start at zero.

    Kingma and Ba 2015, arXiv:1412.6980.
    """

    learning_rate: float = Field(default=0.001, gt=0)
    """The step size."""
    b1: float = Field(default=0.9, ge=0, lt=1)
    """What the mean keeps of itself at each step."""
    b2: float = Field(default=0.999, ge=0, lt=1)
    """What the mean square keeps of itself at each step."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root."""

    formula = "m, v <- running means of g, g^2; w <- w - learning_rate m / (sqrt(v) + epsilon)"

    def rule(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(self.b1, self.b2, self.epsilon)


@OPTIMIZERS.register("adamw")
class AdamW(Adam):
    """Adam with weight decay outside the rule.

    Loshchilov and Hutter 2019, arXiv:1711.05101.
    """

    weight_decay: float = Field(default=0.01, ge=0)
    """Pulls the weights (nothing else) to zero: they lose learning_rate times this of themselves at each step."""

    formula = "as adam, and w <- w - learning_rate weight_decay w"
    decoupled = True
