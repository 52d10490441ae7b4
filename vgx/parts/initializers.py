"""Initializers: how the weights W [N_in, N] of a layer, and its bias [N], are drawn.

A name that `jax.nn.initializers` also has draws the same numbers from the same key.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array
from pydantic import Field

from vgx.registry import Part, Registry

Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["normal", "truncated_normal", "uniform"]

TRUNCATED_VARIANCE = 0.87962566103423978**2
"""The variance of a standard normal cut off at two deviations."""
EXCESS_KURTOSIS = {"normal": 0.0, "truncated_normal": -0.6344, "uniform": -1.2}
"""E[x^4] / E[x^2]^2 - 3 of each distribution, the truncated one cut off at two deviations."""


class Initializer(Part):
    """A distribution of weights."""

    fits_to_data: ClassVar[bool] = False
    """Whether the weights are rescaled on real inputs before training (LSUV)."""
    isometric: ClassVar[bool] = False
    """Whether W keeps lengths and angles, up to its gain, wherever its shape lets it."""

    @property
    def excess_kurtosis(self) -> float:
        """E[W^4] / E[W^2]^2 - 3 of one weight."""
        return 0.0

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Returns weights of `shape`: [N_in, N] for a kernel, [N] for a bias."""
        raise NotImplementedError

    def variance(self, n_in: int, n_out: int) -> float:
        """Returns the variance of one weight of an [n_in, n_out] kernel before any data is seen."""
        raise NotImplementedError


INITIALIZERS: Registry[Initializer] = Registry("initializer")
BIASES: Registry[Initializer] = Registry("bias")


class VarianceScaled(Initializer):
    """A variance of scale / fan, drawn from one of three distributions, times gain^2."""

    gain: float = 1.0
    """Multiplies the weights."""

    _rule: ClassVar[tuple[float, Mode, Distribution]]

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        return self.gain * jax.nn.initializers.variance_scaling(*self._rule)(key, shape)

    @property
    def excess_kurtosis(self) -> float:
        return EXCESS_KURTOSIS[self._rule[2]]

    def variance(self, n_in: int, n_out: int) -> float:
        scale, mode, _ = self._rule
        return self.gain**2 * scale / {"fan_in": n_in, "fan_out": n_out, "fan_avg": (n_in + n_out) / 2}[mode]


@INITIALIZERS.register("lecun_normal")
class LeCunNormal(VarianceScaled):
    """Keeps the variance forward through a linear layer; truncated normal.

    LeCun, Bottou, Orr and Mueller 1998, Efficient BackProp; Klambauer et al. 2017, arXiv:1706.02515.
    """

    formula = "Var W = gain^2 / n_in"
    _rule = (1.0, "fan_in", "truncated_normal")


@INITIALIZERS.register("lecun_uniform")
class LeCunUniform(VarianceScaled):
    """Keeps the variance forward through a linear layer; uniform.

    LeCun, Bottou, Orr and Mueller 1998, Efficient BackProp.
    """

    formula = "Var W = gain^2 / n_in"
    _rule = (1.0, "fan_in", "uniform")


@INITIALIZERS.register("glorot_normal", "xavier_normal")
class GlorotNormal(VarianceScaled):
    """Xavier: between keeping the variance forward and backward; truncated normal.

    Glorot and Bengio 2010, AISTATS, equation 12.
    """

    formula = "Var W = gain^2 2 / (n_in + n_out)"
    _rule = (1.0, "fan_avg", "truncated_normal")


@INITIALIZERS.register("glorot_uniform", "xavier_uniform")
class GlorotUniform(VarianceScaled):
    """Xavier: between keeping the variance forward and backward; uniform.

    Glorot and Bengio 2010, AISTATS, equation 16.
    """

    formula = "Var W = gain^2 2 / (n_in + n_out)"
    _rule = (1.0, "fan_avg", "uniform")


@INITIALIZERS.register("he_normal", "kaiming_normal")
class HeNormal(VarianceScaled):
    """Twice the variance, since ReLU passes half of it; truncated normal.

    He, Zhang, Ren and Sun 2015, arXiv:1502.01852, equation 10.
    """

    formula = "Var W = gain^2 2 / n_in"
    _rule = (2.0, "fan_in", "truncated_normal")


@INITIALIZERS.register("he_uniform", "kaiming_uniform")
class HeUniform(VarianceScaled):
    """Twice the variance, since ReLU passes half of it; uniform.

    He, Zhang, Ren and Sun 2015, arXiv:1502.01852, equation 10.
    """

    formula = "Var W = gain^2 2 / n_in"
    _rule = (2.0, "fan_in", "uniform")


@INITIALIZERS.register("torch_default")
class TorchDefault(VarianceScaled):
    """What PyTorch's Linear draws its weights from: a third of LeCun's variance.

    torch.nn.Linear.reset_parameters: kaiming_uniform with a = sqrt(5).
    """

    formula = "Var W = gain^2 / (3 n_in), uniform"
    _rule = (1 / 3, "fan_in", "uniform")


@INITIALIZERS.register("variance_scaling")
class VarianceScaling(VarianceScaled):
    """Any member of the family by its three choices, as in jax.

    jax.nn.initializers.variance_scaling.
    """

    scale: float = Field(default=1.0, gt=0)
    """The variance times the fan."""
    mode: Mode = "fan_in"
    """The fan: inputs, outputs, or their mean."""
    distribution: Distribution = "truncated_normal"
    """The shape; a truncated normal is widened so that its variance is the nominal one."""

    formula = "Var W = gain^2 scale / fan"

    @property
    def _rule(self):  # type: ignore[override]
        return self.scale, self.mode, self.distribution


def _rotation(key: Array, shape: tuple[int, ...]) -> Array:
    """What `jax.nn.initializers.orthogonal` draws, by our own factorization.

    jax hands the factorization to LAPACK on a CPU, where several at a time, as many lanes need, wait for each other
    forever (jaxlib 0.10, OpenBLAS). Q is unique once the diagonal of R is positive, so only rounding differs.
    """
    n_in, n_out = shape
    tall = jax.random.normal(key, (max(shape), min(shape)))
    return orthonormal(tall) if n_in >= n_out else orthonormal(tall).T


def orthonormal(a: Array) -> Array:
    """Returns the Q of a = Q R [m, n], m >= n, with a positive diagonal of R, by block Gram-Schmidt, done twice.

    Giraud, Langou and Rozloznik 2005, The loss of orthogonality in the Gram-Schmidt orthogonalization process: twice is
    enough for columns as independent as random ones.
    """
    m, n = a.shape
    block = max(size for size in range(1, 65) if n % size == 0)

    def columns(panel: Array) -> Array:
        def column(j: Array, q: Array) -> Array:
            v = panel[:, j]
            v = v - q @ (q.T @ v)
            v = v - q @ (q.T @ v)
            return q.at[:, j].set(v / jnp.linalg.norm(v))

        return jax.lax.fori_loop(0, block, column, jnp.zeros_like(panel))

    def turn(i: Array, q: Array) -> Array:
        panel = jax.lax.dynamic_slice(a, (0, i * block), (m, block))
        for _ in range(2):
            panel = columns(panel - q @ (q.T @ panel))
        return jax.lax.dynamic_update_slice(q, panel, (0, i * block))

    return jax.lax.fori_loop(0, n // block, turn, jnp.zeros_like(a))


@INITIALIZERS.register("orthogonal")
class Orthogonal(Initializer):
    """A random rotation: every singular value is `gain`.

    Saxe, McClelland and Ganguli 2014, arXiv:1312.6120.
    """

    gain: float = 1.0
    """Every singular value."""

    formula = "W^T W = gain^2 I, Var W = gain^2 / max(n_in, n_out)"
    isometric = True

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        return self.gain * _rotation(key, shape)

    def variance(self, n_in: int, n_out: int) -> float:
        return self.gain**2 / max(n_in, n_out)


@INITIALIZERS.register("lsuv")
class LSUV(Initializer):
    """Orthogonal, then each layer in turn is rescaled on real inputs until its pre-activations have variance 1.

    Mishkin and Matas 2016, arXiv:1511.06422, algorithm 1.
    """

    tolerance: float = Field(default=0.02, gt=0)
    """How near to 1 the variance must come."""
    rounds: int = Field(default=20, ge=1)
    """How often a layer is rescaled at the most."""

    formula = "orthogonal, then W <- W / std(W x + b) until |Var(W x + b) - 1| <= tolerance"
    fits_to_data = True
    isometric = True

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        return _rotation(key, shape)

    def variance(self, n_in: int, n_out: int) -> float:
        return 1 / max(n_in, n_out)


@BIASES.register("normal")
@INITIALIZERS.register("normal")
class Normal(Initializer):
    """A normal of a given standard deviation, whatever the width.

    jax.nn.initializers.normal; Krizhevsky, Sutskever and Hinton 2012, NIPS, with std 0.01.
    """

    std: float = Field(default=0.01, ge=0)
    """The standard deviation."""

    formula = "N(0, std^2)"

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        return self.std * jax.random.normal(key, shape)

    def variance(self, n_in: int, n_out: int) -> float:
        return self.std**2


@INITIALIZERS.register("truncated_normal")
class TruncatedNormal(Initializer):
    """A normal cut off at two deviations; its own deviation is 0.88 std.

    jax.nn.initializers.truncated_normal.
    """

    std: float = Field(default=0.01, ge=0)
    """The standard deviation before the tails are cut off."""

    formula = "N(0, std^2) on [-2 std, 2 std], Var W = 0.774 std^2"

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.nn.initializers.truncated_normal(self.std)(key, shape)

    @property
    def excess_kurtosis(self) -> float:
        return EXCESS_KURTOSIS["truncated_normal"]

    def variance(self, n_in: int, n_out: int) -> float:
        return TRUNCATED_VARIANCE * self.std**2


@INITIALIZERS.register("uniform")
class Uniform(Initializer):
    """Uniform between minus and plus a bound (jax's `uniform` is one-sided; this one has mean 0).

    torch.nn.init.uniform_ from -bound to bound.
    """

    bound: float = Field(default=0.01, ge=0)
    """The largest weight."""

    formula = "U(-bound, bound), Var W = bound^2 / 3"

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, minval=-self.bound, maxval=self.bound)

    @property
    def excess_kurtosis(self) -> float:
        return EXCESS_KURTOSIS["uniform"]

    def variance(self, n_in: int, n_out: int) -> float:
        return self.bound**2 / 3


@BIASES.register("constant")
@INITIALIZERS.register("constant")
class Constant(Initializer):
    """The same number everywhere.

    jax.nn.initializers.constant.
    """

    value: float
    """The number."""

    formula = "value"

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jnp.full(shape, self.value, dtype=float)

    def variance(self, n_in: int, n_out: int) -> float:
        return 0.0


@BIASES.register("zeros")
@INITIALIZERS.register("zeros")
class Zeros(Initializer):
    """Zero everywhere.

    jax.nn.initializers.zeros.
    """

    formula = "0"

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jnp.zeros(shape)

    def variance(self, n_in: int, n_out: int) -> float:
        return 0.0
