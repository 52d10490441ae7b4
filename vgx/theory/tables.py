"""Theory's averages as tables of Chebyshev coefficients: what the playground's page interpolates, and computes nothing.

A table is a function of x, log2 of a deviation, in pieces of one length, and `plane` of an angle too: coefficients
[columns, pieces, nodes], or with [..., ANGLES]. What spans orders of magnitude is kept as a logarithm, so that beyond
the last piece it goes on in a straight line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import chebyshev

from vgx.parts import INITIALIZERS, RESIDUALS, Activation, Initializer
from vgx.parts.initializers import Constant, VarianceScaling, Zeros
from vgx.parts.normalizations import BatchNorm
from vgx.theory.layer_response import Net, Signal, response_of
from vgx.theory.moments import LEAST, gaussian, gaussian_pair, saturation, sphere
from vgx.theory.predict import InputStatistics, placed_normalizations

BATCHES = (8, 16, 32, 64, 128, 256, 512)
"""Batch sizes that are tabulated: batch norm's laws differ from one to the next."""
FANS = ("one", "in", "out", "mean", "largest")


class Axis(NamedTuple):
    """Where a table's x, log2 of a deviation, has its nodes."""

    start: float
    piece: float
    """Octaves to a piece."""
    pieces: int
    nodes: int

    def points(self) -> np.ndarray:
        """Returns the nodes [K, n]."""
        offsets = (1 + chebyshev.chebpts1(self.nodes)) / 2
        return self.start + self.piece * (np.arange(self.pieces)[:, None] + offsets)


LINE = Axis(-24.0, 2.0, 22, 12)
"""Of one pre-activation."""
PLANE = Axis(-12.0, 2.0, 11, 8)
"""Of two; an angle has ANGLES nodes."""
ANGLES = 24
SPHERE = Axis(-5.0, 1.0, 5, 6)
"""Of a normalized batch."""
BATCH = Axis(-5.0, 3.0, 3, 8)
"""Of a batch that is normalized after the activation."""
FIRST = Axis(-4.0, 3.5, 2, 10)
"""The same in the first layer."""
BETWEEN = Axis(-5.0, 4.5, 2, 8)
"""The same where a stream carries some of both."""
FIRST_SHARES = (0.15, 0.5, 0.87)
"""Shares of such a stream's square that the first layer has; of 0 and 1 are `batch` and `first`."""
SHARES = Axis(-6.0, 16.0, 1, 65)
"""Of saturated entries: even steps, and straight lines between them, since they jump."""
AXES = {
    "line": LINE,
    "mean": LINE,
    "plane": PLANE,
    "sphere": SPHERE,
    "batch": BATCH,
    "first": FIRST,
    "between": BETWEEN,
    "shares": SHARES,
}


def tables_of(activation: Activation, inputs: Signal) -> dict[str, np.ndarray]:
    """Returns all tables of an activation, by the names of AXES; a minute of work.

    Args:
        activation: f
        inputs: of the net; `first` and `between` depend on them, by the cosine of two.
    """
    by_batch = {
        "sphere": [sphere_table(activation, batch) for batch in BATCHES],
        "batch": [batch_table(activation, batch) for batch in BATCHES],
        "first": [first_table(activation, batch, inputs) for batch in BATCHES],
        "between": [between_table(activation, batch, inputs) for batch in BATCHES],
    }
    return {
        "line": line_table(activation),
        "mean": mean_table(activation).astype("f4"),
        "plane": plane_table(activation).astype("f4"),
        "shares": saturation(activation, 0.0, 2.0 ** share_points()).astype("f4"),
    } | {name: np.array(tables, "f4") for name, tables in by_batch.items()}


def choices(source: InputStatistics) -> dict[str, Any]:
    """Returns what the playground offers besides activations, and the net's inputs, as plain values."""
    return {
        "axes": {name: axis._asdict() for name, axis in AXES.items()},
        "angles": ANGLES,
        "batches": list(BATCHES),
        "first_shares": list(FIRST_SHARES),
        "residuals": [
            {"name": part.name, "skips": part.skips, "streams_preactivations": part.streams_preactivations}
            for part in RESIDUALS
        ],
        "initializers": [row for part in _initializers() if (row := weights(part))],
        "normalizations": [
            {
                "name": part.name,
                "placement": part.model_dump().get("placement"),
                "title": part.title,
                "epsilon": part.model_dump().get("epsilon", 0.0),
            }
            for part in placed_normalizations()
        ],
        "features": source.features,
        "classes": source.classes,
        "signal": source.signal._asdict(),
    }


def _initializers() -> Iterator[Initializer]:
    """Every initializer whose weights have mean 0, with its default options."""
    for part in INITIALIZERS:
        if not issubclass(part, Constant) and not any(field.is_required() for field in part.model_fields.values()):
            yield part()


def weights(part: Initializer) -> dict[str, Any] | None:
    """Returns how the variance of a weight depends on the number that the page lets choose: coefficient number^2 / fan.

    None where it depends on the shape in another way, as one of a user's own may.
    """
    option = next((name for name in ("gain", "std", "bound") if name in type(part).model_fields), None)
    at_one = part if option is None else part.model_copy(update={option: 1.0})
    shapes = ((64, 128), (128, 64), (32, 32))
    for fan in FANS:
        found = {round(at_one.variance(*shape) * fan_of(fan, *shape), 12) for shape in shapes}
        if len(found) == 1:
            row = {"name": part.name, "option": option, "fan": fan, "coefficient": at_one.variance(1, 1)}
            return row | {"default": getattr(part, option) if option else 1.0, "fits": part.fits_to_data}
    return None


def fan_of(fan: str, n_in: int, n_out: int) -> float:
    """Returns what a weight's variance is divided by."""
    return {"one": 1.0, "in": n_in, "out": n_out, "mean": (n_in + n_out) / 2, "largest": max(n_in, n_out)}[fan]


def share_points() -> np.ndarray:
    return np.linspace(SHARES.start, SHARES.start + SHARES.piece, SHARES.nodes)


def coefficients(values: np.ndarray) -> np.ndarray:
    """Returns Chebyshev coefficients of values at nodes: along the last axis, of any shape."""
    nodes = chebyshev.chebpts1(values.shape[-1])
    return np.linalg.solve(chebyshev.chebvander(nodes, len(nodes) - 1), values[..., None])[..., 0]


def line_table(activation: Activation) -> np.ndarray:
    """Returns log2 E[f^2] - 2 x, log2 Var f - 2 x and log2 E[f'^2] at deviations 2^x: [3, pieces, nodes]."""
    x = LINE.points()
    f = gaussian(activation, 0.0, 2.0**x)
    return coefficients(np.stack([_log2(f.square) - 2 * x, _log2(f.variance) - 2 * x, _log2(f.slope_square)]))


def mean_table(activation: Activation) -> np.ndarray:
    """Returns E[f] / sqrt(E[f^2]) at deviations 2^x: [1, pieces, nodes] coefficients."""
    f = gaussian(activation, 0.0, 2.0 ** LINE.points())
    return coefficients((f.mean / np.sqrt(np.maximum(f.square, LEAST)))[None])


def plane_table(activation: Activation) -> np.ndarray:
    """Returns the angle between f of two normals by their own: [pieces, nodes, ANGLES] coefficients.

    An angle is the arc cosine of a correlation; it keeps the digits of one that is near to 1.
    """
    x = PLANE.points()
    angles = np.pi / 2 * (1 + chebyshev.chebpts1(ANGLES))
    rows = []
    for std in 2.0 ** x.ravel():
        pair, one = gaussian_pair(activation, 0.0, std, np.cos(angles)), gaussian(activation, 0.0, std)
        rows.append(np.arccos(np.clip(pair.covariance / max(float(one.variance), LEAST), -1, 1)))
    values = np.array(rows).reshape(*x.shape, ANGLES)
    return np.moveaxis(coefficients(np.moveaxis(coefficients(values), 1, -1)), -1, 1)


def sphere_table(activation: Activation, batch: int) -> np.ndarray:
    """Returns what batch norm before f makes of a batch, at deviations 2^x: [5, pieces, nodes] coefficients.

    They are log2 E[f(z1)^2], E[f(z1) f(z2)] relative to that, log2 of `own` + `others` and of `own` over the batch, and
    E[f] relative to the root of E[f^2].
    """
    x = SPHERE.points()
    found = [sphere(activation, scale, batch) for scale in 2.0 ** x.ravel()]
    square, product, own, others, mean = (
        np.array([getattr(one, name) for one in found]) for name in ("square", "product", "own", "others", "mean")
    )
    columns = [_log2(square), product / np.maximum(square, LEAST)]
    columns += [_log2((own + others) / batch), _log2(own / batch), mean / np.sqrt(np.maximum(square, LEAST))]
    return coefficients(np.stack(columns).reshape(-1, *x.shape))


def batch_table(activation: Activation, batch: int) -> np.ndarray:
    """Returns what batch norm after f does where examples share nothing, as above another of its kind without biases.

    At deviations 2^x of h, log2 of the two gains + 2 x, and log2 of the square: [3, pieces, nodes] coefficients.
    """
    return _after(activation, batch, BATCH, lambda square: Signal(square, -square / (batch - 1), 0.0))


def first_table(activation: Activation, batch: int, inputs: Signal) -> np.ndarray:
    """Returns the same in a first layer without biases, which receives the inputs."""
    cosine = inputs.cross / inputs.square
    return _after(activation, batch, FIRST, lambda square: Signal(square, square * cosine, 0.0))


def between_table(activation: Activation, batch: int, inputs: Signal) -> np.ndarray:
    """Returns the same of a stream, at each of FIRST_SHARES: [shares, 3, pieces, nodes] coefficients."""
    first, rest = inputs.cross / inputs.square, -1 / (batch - 1)
    cosines = [share * first + (1 - share) * rest for share in FIRST_SHARES]
    return np.array(
        [
            _after(activation, batch, BETWEEN, lambda square, c=cosine: Signal(square, square * c, 0.0))
            for cosine in cosines
        ]
    )


def _after(activation: Activation, batch: int, axis: Axis, signal_of: Callable[[float], Signal]) -> np.ndarray:
    norm = BatchNorm(placement="after")
    net = Net((1, 1, 1), activation, VarianceScaling(scale=1.0), Zeros(), norm, 0.0, batch)
    x = axis.points()
    found = [response_of(net, signal_of(float(square)), 1, 1) for square in 4.0 ** x.ravel()]
    gains = [_log2(np.array([getattr(one, name) for one in found])) + 2 * x.ravel() for name in ("gain", "top_gain")]
    squares = _log2(np.array([one.signal.square for one in found]))
    return coefficients(np.stack([*gains, squares]).reshape(3, *x.shape))


def _log2(x: np.ndarray) -> np.ndarray:
    return np.log2(np.maximum(x, LEAST))
