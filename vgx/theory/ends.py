"""Where theory ends: nets of which it knows less, by the ratio that decides."""

from __future__ import annotations

from typing import Any, NamedTuple

from vgx.parts.normalizations import BatchNorm, NoNormalization
from vgx.theory.layer_response import Net
from vgx.theory.mean_field import Propagation


class Edge(NamedTuple):
    """A ratio, and from where on it says that theory is near its end."""

    ratio: str
    start: float
    what: str
    """What then happens."""


DEPTH = Edge("L / n", 0.25, "each layer's deviations no longer add up: what follows is of the second order in L / n")
BATCH = Edge(
    "B / n", 0.5, "a batch fills the space of a layer, and batch norm's gradients and signals share directions"
)
ROTATED = Edge(
    "B / n", 0.5, "a batch that fills a layer stays evenly spread, and its gradient grows less than predicted"
)
SIZE = Edge(
    "deviation of ln |dloss/dh|^2 by an example's own size", 0.3, "large and small signals part from layer to layer"
)
RESIDUALS = Edge(
    "C / n",
    0.05,
    "residuals of the mean squared error lie along the logits, and a normalization takes what does so out of the "
    "gradient, which grows less than predicted",
)


class End(NamedTuple):
    """One end that a net is near to."""

    edge: Edge
    value: float

    @property
    def sentence(self) -> str:
        return f"{self.edge.ratio} = {self.value:.2g}, from {self.edge.start:g} on: {self.edge.what}"

    def to_json(self) -> dict[str, Any]:
        """Returns what `vgx predict --json` has of it."""
        return {"ratio": self.edge.ratio, "value": self.value, "from": self.edge.start, "what": self.edge.what}


def ends_of(net: Net, curves: Propagation) -> tuple[End, ...]:
    """Returns the ends of theory that a net is near to."""
    hidden = net.sizes[1:-1]
    if not hidden:
        return ()
    n = min(hidden)
    values = [(DEPTH, len(hidden) / n)]
    if isinstance(net.normalization, BatchNorm):
        values.append((ROTATED if net.initializer.isometric else BATCH, net.batch / n))
    if net.loss == "mse" and not isinstance(net.normalization, NoNormalization):
        values.append((RESIDUALS, net.sizes[-1] / n))
    values.append((SIZE, curves.by_size))
    return tuple(End(edge, value) for edge, value in values if value >= edge.start)
