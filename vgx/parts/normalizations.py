"""Normalizations: what keeps a layer's values at mean 0, variance 1, before or after the activation.

Each has a learned scale (and offset) per unit. Batch norm alone distinguishes training, where the batch's own moments
serve, from evaluation, where the running ones do.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array
from pydantic import Field

from vgx.registry import Part, Registry


class Moments(NamedTuple):
    """Mean and variance of each unit over examples: [N] each."""

    mean: Array
    variance: Array


class Affine(NamedTuple):
    """What a normalization learns: [N] each; `offset` is None where there is none."""

    scale: Array
    offset: Array | None


class Normalization(Part):
    """A map of [B, N] to the same shape."""

    over_batch: ClassVar[bool] = False
    """Whether examples see each other."""

    @property
    def before(self) -> bool:
        """Whether it acts on what the activation receives."""
        return False

    @property
    def after(self) -> bool:
        """Whether it acts on what the activation returns."""
        return False

    @property
    def title(self) -> str:
        """The part and its place in words: `batch norm before`, `no norm`."""
        if self.name == "none":
            return "no norm"
        return f"{self.name} norm" + (" before" if self.before else " after" if self.after else "")

    def parameters(self, width: int) -> Affine | None:
        """Returns the initial scale and offset of a layer of `width` units, or None when nothing is learned."""
        return None

    def train(self, x: Array, affine: Affine | None) -> tuple[Array, Moments | None]:
        """Returns normalized `x` [B, N], and the batch's moments where evaluation will need them."""
        raise NotImplementedError

    def evaluate(self, x: Array, affine: Affine | None, running: Moments | None) -> Array:
        """Returns normalized `x` [B, N], by the running moments if the normalization is over the batch."""
        return self.train(x, affine)[0]


NORMALIZATIONS: Registry[Normalization] = Registry("normalization")


@NORMALIZATIONS.register("none")
class NoNormalization(Normalization):
    """Nothing."""

    formula = "x"

    def train(self, x: Array, affine: Affine | None) -> tuple[Array, Moments | None]:
        return x, None


class Placed(Normalization):
    """A normalization that acts, and so stands before or after the activation."""

    placement: Literal["before", "after"] = "before"
    """Before or after the activation."""

    @property
    def before(self) -> bool:
        return self.placement == "before"

    @property
    def after(self) -> bool:
        return self.placement == "after"


@NORMALIZATIONS.register("batch", "batch_norm")
class BatchNorm(Placed):
    """Each unit over the batch; evaluation uses running averages of mean and (unbiased) variance.

    Ioffe and Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2.
    """

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """What a running average keeps of itself at each step (torch's momentum is 1 minus this)."""
    epsilon: float = Field(default=1e-5, ge=0)
    """Added to the variance."""
    logits: bool = False
    """Whether the readout is normalized too."""

    formula = "scale (x - mean_B) / sqrt(var_B + epsilon) + offset"
    over_batch = True

    def parameters(self, width: int) -> Affine | None:
        return Affine(jnp.ones(width), jnp.zeros(width))

    def train(self, x: Array, affine: Affine | None) -> tuple[Array, Moments | None]:
        assert affine is not None
        wide = _at_least_float32(x)
        mean = jnp.mean(wide, 0)
        variance = jnp.mean(jnp.square(wide - mean), 0)
        unbiased = variance * (x.shape[0] / (x.shape[0] - 1))
        return self._normalize(x, affine, Moments(mean, variance)), Moments(mean, unbiased)

    def evaluate(self, x: Array, affine: Affine | None, running: Moments | None) -> Array:
        assert affine is not None
        assert running is not None
        return self._normalize(x, affine, running)

    def _normalize(self, x: Array, affine: Affine, moments: Moments) -> Array:
        assert affine.offset is not None
        slope = affine.scale / jnp.sqrt(moments.variance + self.epsilon)
        return (slope * (_at_least_float32(x) - moments.mean) + affine.offset).astype(x.dtype)

    def initial(self, width: int) -> Moments:
        """Returns the running moments before the first step: mean 0, variance 1, [N] each."""
        return Moments(jnp.zeros(width), jnp.ones(width))

    def fold(self, running: Moments, batch: Moments) -> Moments:
        """Returns the running moments after a step whose batch had the moments `batch`."""
        keep = self.momentum
        return Moments(
            keep * running.mean + (1 - keep) * batch.mean,
            keep * running.variance + (1 - keep) * batch.variance,
        )


@NORMALIZATIONS.register("layer", "layer_norm")
class LayerNorm(Placed):
    """Each example over its units.

    Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """

    epsilon: float = Field(default=1e-5, ge=0)
    """Added to the variance."""

    formula = "scale (x - mean_N) / sqrt(var_N + epsilon) + offset"

    def parameters(self, width: int) -> Affine | None:
        return Affine(jnp.ones(width), jnp.zeros(width))

    def train(self, x: Array, affine: Affine | None) -> tuple[Array, Moments | None]:
        assert affine is not None
        assert affine.offset is not None
        wide = _at_least_float32(x)
        centred = wide - jnp.mean(wide, -1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), -1, keepdims=True)
        return (centred / jnp.sqrt(variance + self.epsilon) * affine.scale + affine.offset).astype(x.dtype), None


@NORMALIZATIONS.register("rms", "rms_norm")
class RMSNorm(Placed):
    """Each example over its units, by its root mean square alone: no centring, no offset.

    Zhang and Sennrich 2019, arXiv:1910.07467.
    """

    epsilon: float = Field(default=1e-5, ge=0)
    """Added to the mean square."""

    formula = "scale x / sqrt(mean_N(x^2) + epsilon)"

    def parameters(self, width: int) -> Affine | None:
        return Affine(jnp.ones(width), None)

    def train(self, x: Array, affine: Affine | None) -> tuple[Array, Moments | None]:
        assert affine is not None
        wide = _at_least_float32(x)
        mean_square = jnp.mean(jnp.square(wide), -1, keepdims=True)
        return (wide / jnp.sqrt(mean_square + self.epsilon) * affine.scale).astype(x.dtype), None


def _at_least_float32(x: Array) -> Array:
    """bfloat16 has too few digits for a mean and a variance."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
