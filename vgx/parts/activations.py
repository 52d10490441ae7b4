"""Activations: the function f in x = f(h), elementwise.

Adding one is one registered class with a `__call__`; `kinks` says where f, f' or f'' jumps (theory splits its integrals
there) and `steepest` is the largest |f'|, the yardstick of `saturated`.
"""

from __future__ import annotations

from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array
from pydantic import Field, model_validator

from vgx.registry import Part, Registry


class Activation(Part):
    """An elementwise function. A plain one defines `__call__` alone."""

    kinks: ClassVar[tuple[float, ...]] = ()
    """Where f, f' or f'' jumps."""
    steepest: ClassVar[float] = 1.0
    """The largest |f'|."""
    random: ClassVar[bool] = False
    """Whether training draws random numbers."""

    def __call__(self, h: Array) -> Array:
        """Returns f(h), any shape; what evaluation applies before anything is learned."""
        raise NotImplementedError

    def parameters(self, width: int) -> Array | None:
        """Returns the initial learned parameters of a layer of `width` units, or None when nothing is learned."""
        return None

    def evaluate(self, h: Array, parameters: Array | None) -> Array:
        """Returns f(h) as evaluation applies it; `h` is [B, N]."""
        return self(h)

    def train(self, h: Array, parameters: Array | None, key: Array | None) -> Array:
        """Returns f(h) as a training step applies it; `h` is [B, N], `key` is this layer's at this step."""
        return self.evaluate(h, parameters)


ACTIVATIONS: Registry[Activation] = Registry("activation")


@ACTIVATIONS.register("identity", "linear")
class Identity(Activation):
    """Nothing: a deep linear net.

    Saxe, McClelland and Ganguli 2014, arXiv:1312.6120.
    """

    formula = "h"

    def __call__(self, h: Array) -> Array:
        return h


@ACTIVATIONS.register("logistic", "sigmoid")
class Logistic(Activation):
    """The S-curve from 0 to 1; at most a quarter of a gradient passes.

    Glorot and Bengio 2010, AISTATS, on why it saturates.
    """

    formula = "1 / (1 + exp(-h))"
    steepest = 0.25

    def __call__(self, h: Array) -> Array:
        return jax.nn.sigmoid(h)


@ACTIVATIONS.register("tanh")
class Tanh(Activation):
    """The S-curve from -1 to 1, centred on zero.

    LeCun, Bottou, Orr and Mueller 1998, Efficient BackProp.
    """

    formula = "tanh(h)"

    def __call__(self, h: Array) -> Array:
        return jnp.tanh(h)


@ACTIVATIONS.register("lecun_tanh")
class LeCunTanh(Activation):
    """tanh scaled so that f(1) = 1 and the variance is kept.

    LeCun, Bottou, Orr and Mueller 1998, Efficient BackProp.
    """

    formula = "1.7159 tanh(2 h / 3)"
    steepest = 1.7159 * 2 / 3

    def __call__(self, h: Array) -> Array:
        return 1.7159 * jnp.tanh(2 / 3 * h)


@ACTIVATIONS.register("relu")
class ReLU(Activation):
    """The positive part; a unit that is negative for every example is dead.

    Nair and Hinton 2010, ICML.
    """

    formula = "max(h, 0)"
    kinks = (0.0,)

    def __call__(self, h: Array) -> Array:
        return jax.nn.relu(h)


@ACTIVATIONS.register("leaky_relu")
class LeakyReLU(Activation):
    """A small slope below zero keeps every unit alive.

    Maas, Hannun and Ng 2013, Rectifier nonlinearities improve neural network acoustic models.
    """

    negative_slope: float = Field(default=0.01, ge=-1, le=1)
    """The slope below zero."""

    formula = "h if h > 0 else negative_slope h"
    kinks = (0.0,)

    def __call__(self, h: Array) -> Array:
        return jnp.where(h > 0, h, self.negative_slope * h)


@ACTIVATIONS.register("rrelu")
class RReLU(Activation):
    """A leaky ReLU whose slope is drawn for each element of each example in training; evaluation takes the mean slope.

    The slope is uniform on (lower, upper), as in torch; Xu et al. draw its inverse from U(3, 8), which is not the same.

    Xu, Wang, Chen and Li 2015, arXiv:1505.00853.
    """

    lower: float = Field(default=1 / 8, ge=0)
    """The smallest slope."""
    upper: float = Field(default=1 / 3, le=1)
    """The largest slope."""

    formula = "h if h > 0 else a h, a ~ U(lower, upper)"
    kinks = (0.0,)
    random = True

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lower >= self.upper:
            raise ValueError(f"lower must be less than upper, and {self.lower:g} is not less than {self.upper:g}")
        return self

    def __call__(self, h: Array) -> Array:
        return jnp.where(h > 0, h, (self.lower + self.upper) / 2 * h)

    def train(self, h: Array, parameters: Array | None, key: Array | None) -> Array:
        assert key is not None
        slope = jax.random.uniform(key, h.shape, h.dtype, self.lower, self.upper)
        return jnp.where(h > 0, h, slope * h)


@ACTIVATIONS.register("prelu")
class PReLU(Activation):
    """A leaky ReLU that learns its slope, one for the layer or one per unit; the slope is never decayed.

    He, Zhang, Ren and Sun 2015, arXiv:1502.01852.
    """

    initial: float = 0.25
    """The slope below zero before training."""
    per_channel: bool = False
    """Whether each unit learns its own slope."""

    formula = "h if h > 0 else a h, a learned"
    kinks = (0.0,)

    def __call__(self, h: Array) -> Array:
        return jnp.where(h > 0, h, self.initial * h)

    def parameters(self, width: int) -> Array | None:
        return jnp.full((width if self.per_channel else 1,), self.initial)

    def evaluate(self, h: Array, parameters: Array | None) -> Array:
        assert parameters is not None
        return jnp.where(h > 0, h, parameters.astype(h.dtype) * h)


def _exponential_below_zero(h: Array) -> Array:
    """exp(h) - 1 for h <= 0; the inner minimum keeps exp, and so its derivative, finite above."""
    return jnp.expm1(jnp.where(h > 0, 0.0, h))


@ACTIVATIONS.register("elu")
class ELU(Activation):
    """Smooth to a floor of -alpha, so that a layer's mean is nearer to zero.

    Clevert, Unterthiner and Hochreiter 2016, arXiv:1511.07289.
    """

    alpha: float = Field(default=1.0, ge=0, le=1)
    """Minus the floor."""

    formula = "h if h > 0 else alpha (exp(h) - 1)"
    kinks = (0.0,)

    def __call__(self, h: Array) -> Array:
        return jnp.where(h > 0, h, self.alpha * _exponential_below_zero(h))


@ACTIVATIONS.register("selu")
class SELU(Activation):
    """ELU with the two constants that make mean 0 and variance 1 a fixed point.

    Klambauer, Unterthiner, Mayr and Hochreiter 2017, arXiv:1706.02515.
    """

    formula = "1.0507 (h if h > 0 else 1.6733 (exp(h) - 1))"
    kinks = (0.0,)
    steepest = 1.0507009873554805 * 1.6732632423543772

    def __call__(self, h: Array) -> Array:
        return 1.0507009873554805 * jnp.where(h > 0, h, 1.6732632423543772 * _exponential_below_zero(h))


@ACTIVATIONS.register("celu")
class CELU(Activation):
    """ELU with a continuous derivative whatever alpha is.

    Barron 2017, arXiv:1704.07483.
    """

    alpha: float = Field(default=1.0, gt=0)
    """Minus the floor, and the length over which it is reached."""

    formula = "h if h > 0 else alpha (exp(h / alpha) - 1)"
    kinks = (0.0,)

    def __call__(self, h: Array) -> Array:
        return jnp.where(h > 0, h, self.alpha * _exponential_below_zero(h / self.alpha))


@ACTIVATIONS.register("gelu")
class GELU(Activation):
    """h times the chance that a standard normal is below h; exact, not the tanh approximation.

    Hendrycks and Gimpel 2016, arXiv:1606.08415.
    """

    formula = "h Phi(h)"
    steepest = 1.1289041451851547

    def __call__(self, h: Array) -> Array:
        return jax.nn.gelu(h, approximate=False)


@ACTIVATIONS.register("silu", "swish")
class SiLU(Activation):
    """h times its logistic: ReLU with a smooth corner and a dip.

    Elfwing, Uchibe and Doya 2018, arXiv:1702.03118; Ramachandran, Zoph and Le 2017, arXiv:1710.05941.
    """

    formula = "h / (1 + exp(-h))"
    steepest = 1.0998393201288668

    def __call__(self, h: Array) -> Array:
        return jax.nn.silu(h)


@ACTIVATIONS.register("mish")
class Mish(Activation):
    """h times the tanh of its softplus.

    Misra 2020, arXiv:1908.08681.
    """

    formula = "h tanh(log(1 + exp(h)))"
    steepest = 1.0884981612517277

    def __call__(self, h: Array) -> Array:
        return jax.nn.mish(h)


@ACTIVATIONS.register("softplus")
class Softplus(Activation):
    """ReLU with a smooth corner, positive everywhere.

    Dugas, Bengio, Belisle, Nadeau and Garcia 2001, NIPS.
    """

    formula = "log(1 + exp(h))"

    def __call__(self, h: Array) -> Array:
        return jax.nn.softplus(h)


@ACTIVATIONS.register("softsign")
class Softsign(Activation):
    """An S-curve that saturates slowly, as a power and not exponentially.

    Bergstra, Desjardins, Lamblin and Bengio 2009; Glorot and Bengio 2010, AISTATS.
    """

    formula = "h / (1 + |h|)"
    kinks = (0.0,)

    def __call__(self, h: Array) -> Array:
        return h / (1 + jnp.where(h > 0, h, -h))


@ACTIVATIONS.register("hard_tanh", "hardtanh")
class HardTanh(Activation):
    """The identity, cut off at -1 and 1.

    Collobert 2004, Large Scale Machine Learning, thesis.
    """

    formula = "min(max(h, -1), 1)"
    kinks = (-1.0, 1.0)

    def __call__(self, h: Array) -> Array:
        return jnp.where(jnp.abs(h) < 1, h, jnp.sign(h))


@ACTIVATIONS.register("erf")
class Erf(Activation):
    """An S-curve whose Gaussian integrals are known in closed form.

    Williams 1997, Computing with infinite networks, NIPS.
    """

    formula = "erf(h)"
    steepest = 1.1283791670955126

    def __call__(self, h: Array) -> Array:
        return jax.scipy.special.erf(h)


@ACTIVATIONS.register("sin")
class Sin(Activation):
    """A periodic activation, which never saturates for good.

    Sitzmann, Martel, Bergman, Lindell and Wetzstein 2020, arXiv:2006.09661.
    """

    formula = "sin(h)"

    def __call__(self, h: Array) -> Array:
        return jnp.sin(h)
