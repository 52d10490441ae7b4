"""Skip connections: what a hidden layer adds to the stream that passes it by, and where.

With layers of equal width a layer need not replace what it receives: it may add to it. `h = W x + b` throughout, f is
the activation, N the normalization, s the scale. A layer that changes the width, and the first one, stay plain.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from vgx.registry import Frozen, Part, Registry


class Learned(Frozen):
    """A scale that each layer learns, one number, from the value given."""

    learned: float
    """What it begins with: 0 makes the net the identity at first (ReZero, SkipInit)."""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scale(value: Any) -> bool:
    if isinstance(value, dict):
        return list(value) == ["learned"] and _number(value["learned"])
    return isinstance(value, Learned) or value == "depth" or (_number(value) and value > 0)


def _checked(value: Any) -> Any:
    if not _is_scale(value):
        raise ValueError(f"expected a number above 0, depth or {{learned: 0.0}}, found {str(value)[:60]}")
    return value


Scale = Annotated[float | Literal["depth"] | Learned, BeforeValidator(_checked)]


class Residual(Part):
    """How hidden layers of equal width are connected to those below."""

    skips: ClassVar[bool] = False
    """Whether there is a stream that layers add to."""
    streams_preactivations: ClassVar[bool] = False
    """Whether the stream is of what activations receive, and not of what layers pass on."""


RESIDUALS: Registry[Residual] = Registry("residual")


@RESIDUALS.register("none")
class NoResidual(Residual):
    """Nothing: a layer's output replaces its input."""

    formula = "x_l = f(N(h_l))"


class Skip(Residual):
    """A stream that every hidden layer of equal width adds its branch to."""

    scale: Scale = 1.0
    """What the branch is multiplied by: a number, `depth` for 1/sqrt(L), or {learned: 0.0}."""

    skips = True

    def initial_scale(self, depth: int) -> float:
        """Returns the scale of a net of `depth` hidden layers before training."""
        if isinstance(self.scale, Learned):
            return self.scale.learned
        return 1 / math.sqrt(depth) if self.scale == "depth" else self.scale

    @property
    def learns(self) -> bool:
        """Whether the scale is a parameter of each layer."""
        return isinstance(self.scale, Learned)


@RESIDUALS.register("post_activation")
class PostActivation(Skip):
    """The branch ends with the activation; the stream is of what layers pass on.

    He, Zhang, Ren and Sun 2015, arXiv:1512.03385, without their activation on the stream; Yang and Schoenholz 2017,
    arXiv:1712.08969. Scales: De and Smith 2020, arXiv:2002.10444; Bachlechner et al. 2020, arXiv:2003.04887.
    """

    formula = "x_l = x_{l-1} + s f(N(h_l))"


@RESIDUALS.register("pre_activation")
class PreActivation(Skip):
    """The branch ends with the linear map; the stream is of what activations receive, and none is in its way.

    He, Zhang, Ren and Sun 2016, arXiv:1603.05027.
    """

    formula = "r_l = r_{l-1} + s h_l; x_l = f(N(r_l))"
    streams_preactivations = True
