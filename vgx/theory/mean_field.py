"""Mean-field theory: what signals and gradients do in a deep MLP at initialization, layer by layer, at infinite width.

Over the units of a layer, h = W x + b is Gaussian, with mean m and deviation s, and x = f(h). So

    s^2 = n_in Var(W) E[x^2] + Var(b)                       forward; of two inputs, E[x_a x_b] in place of E[x^2]
    |delta_l|^2 = n_l Var(W_{l+1}) E[f'(h)^2] |delta_{l+1}|^2                         backward, of one example

"Factor" is the growth of |delta|^2 from a layer to the one below. All of it in float64; logarithms of what may be tiny.

Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232; Yang et al. 2019, arXiv:1902.08129.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vgx.parts.activations import Identity
from vgx.parts.normalizations import BatchNorm, NoNormalization, Normalization
from vgx.theory import streams
from vgx.theory.gradient_spread import GradientSpread, gradient_spread, no_spread
from vgx.theory.idle_units import dead_share, saturated_share
from vgx.theory.layer_response import HUGE, TINY, LayerResponse, Net, Signal, in_range, response_of, same_signal
from vgx.theory.readout import alike

NORM_LOG10 = math.log10(math.e) / 2
"""log10 of a norm per natural logarithm of its square."""


class Propagation(NamedTuple):
    """The prediction for each layer, from the first to the readout: [L + 1] each."""

    delta_log10: np.ndarray
    """log10 of the norm of dloss/dh relative to the output layer's: its mean over draws of weights of this width."""
    stream_grad_log10: np.ndarray
    """The same of the stream that layers add to; `delta_log10` in a net without one. A verdict rests on it."""
    factor: np.ndarray
    """Growth of its square from the layer above at infinite width, as all that follows; NaN for the readout."""
    weight_gain: np.ndarray
    """What the weights above contribute to the factor, n_l Var(W_{l+1}); NaN for the readout, as in the next two."""
    slope_square: np.ndarray
    """What the activation contributes: E[f'^2]."""
    normalization: np.ndarray
    """What the normalization contributes."""
    skip: np.ndarray
    """What the skip connection contributes; 1 without. The four, and 1 / (1 - dropout), multiply to the factor."""
    act_rms: np.ndarray
    preact_std: np.ndarray
    cosine: np.ndarray
    """Of what two inputs become; NaN where that is 0, which has no direction."""
    dead: np.ndarray
    """Share of units whose slope is 0 for every example of a batch, or of those examined."""
    saturated: np.ndarray
    """Share of entries whose slope is below 5 % of the activation's steepest."""
    band: np.ndarray
    """A standard deviation of `delta_log10` over draws of weights of this width, in decades."""
    act_band: np.ndarray
    """The same of `act_rms`."""
    preact_band: np.ndarray
    """The same of `preact_std`."""
    by_size: float
    """The largest deviation of ln |dloss/dh|^2 that an example's own |h| makes."""
    has_stream: bool = False
    """Whether layers add to a stream."""


def propagate(net: Net, signal: Signal, *, wide: bool = False) -> Propagation:
    """Returns what becomes of inputs with these moments, and of the gradient on its way back to them.

    `wide` leaves out what a finite width adds: it is as of infinite width, and bands are 0.
    """
    responses = streams.stream_responses(net, signal) if net.residual.skips else hidden_responses(net, signal)
    norm = net.normalization
    responses.append(readout_response(net, responses[-1].signal if responses else signal))

    widths = np.array(net.sizes[1:-1], float)
    weight = np.array([response.weight for response in responses])
    gain = np.array([response.gain for response in responses[:-1]])
    if not _normalizes_logits(norm):
        gain[-1] = _below_readout(net, responses[-2], responses[-1])
    weight_gain = widths * weight[1:]
    product = weight_gain * gain
    slope_square = np.array([response.slope_square for response in responses[:-1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        normalization = gain * (1 - net.dropout) / slope_square
    factor, delta, stream, finite = _come_down(net, signal, responses, product, wide)
    with np.errstate(divide="ignore", invalid="ignore"):
        skip = factor / product
    act_rms = finite.act_factor * [_reported(response.signal.square) for response in responses]
    squares = [response.preact[1] ** 2 for response in responses]
    if net.residual.streams_preactivations:
        squares[:-1] = [response.q for response in responses[:-1]]  # of the stream, before any norm
    preact_std = finite.preact_factor * [_reported(square) for square in squares]
    preact = np.array([response.preact for response in responses[:-1]])
    with np.errstate(invalid="ignore"):
        bands = act_rms * finite.act, preact_std * finite.preact
    return Propagation(
        delta_log10=np.append(delta + NORM_LOG10 * finite.shift, 0.0),
        stream_grad_log10=np.append(stream + NORM_LOG10 * finite.shift, 0.0),
        factor=np.append(factor, np.nan),
        weight_gain=np.append(weight_gain, np.nan),
        slope_square=np.append(slope_square, np.nan),
        normalization=np.append(normalization, np.nan),
        skip=np.append(skip, np.nan),
        act_rms=act_rms,
        preact_std=preact_std,
        cosine=np.array([_cosine(response.signal) for response in responses]),
        dead=np.append(dead_share(net.activation, preact, net.examined or net.batch), 0.0),
        saturated=np.append(saturated_share(net.activation, preact), 0.0),
        band=np.append(NORM_LOG10 * finite.deviation, 0.0),
        act_band=bands[0],
        preact_band=bands[1],
        by_size=finite.by_size,
        has_stream=net.residual.skips,
    )


def _come_down(
    net: Net, signal: Signal, responses: list[LayerResponse], product: np.ndarray, wide: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, GradientSpread]:
    """The factors, the gradient at h and at the stream, in log10 of an infinite width, and what a finite one adds.

    `product` is what the layers alone would make the factors, [L].
    """
    finite = no_spread(len(responses))
    if net.residual.skips:
        down = streams.descent(net, responses)
        with np.errstate(invalid="ignore"):  # no gradient comes down
            factor = np.exp(np.clip(-np.diff(np.append(down.stream, 0.0)), -700, 700))
        finite = finite if wide else streams.stream_spread(net, signal, responses, down)
        return factor, NORM_LOG10 * down.delta, NORM_LOG10 * down.stream, finite
    with np.errstate(divide="ignore"):
        delta = _from_above(0.5 * np.log10(product))
    return product, delta, delta, finite if wide else gradient_spread(net, signal, responses)


def _normalizes_logits(norm: Normalization) -> bool:
    return isinstance(norm, BatchNorm) and norm.logits


def _below_readout(net: Net, layer: LayerResponse, readout: LayerResponse) -> float:
    """The gain of the highest hidden layer.

    Where the residuals of examples are alike, a batch norm takes out what they share: of `gain`, their correlation is
    -1 / (B - 1), of `top_gain` 0.
    """
    if net.loss != "mse" or layer.gain == layer.top_gain:
        return layer.top_gain
    _, std, cosine = readout.preact
    std = 1.0 if net.initializer.fits_to_data else std
    shared = alike(std, cosine, net.sizes[-1]) * (net.batch - 1)
    return max(layer.top_gain - shared * (layer.gain - layer.top_gain), 0.0)


def _from_above(x: np.ndarray) -> np.ndarray:
    return np.cumsum(x[::-1])[::-1]


def _cosine(signal: Signal) -> float:
    return signal.cross / signal.square if signal.square else math.nan


def _reported(square: float) -> float:
    """A root mean square; beyond the range that is followed, 0 or infinity."""
    return 0.0 if square <= TINY else math.inf if square >= HUGE else math.sqrt(square)


def readout_response(net: Net, signal: Signal) -> LayerResponse:
    """Returns what the readout makes of what the last hidden layer passes on."""
    norm = net.normalization
    logits = norm.model_copy(update={"placement": "before"}) if _normalizes_logits(norm) else NoNormalization()
    top = net._replace(activation=Identity(), normalization=logits, dropout=0.0)
    return response_of(top, signal, *net.sizes[-2:])


def hidden_responses(net: Net, signal: Signal) -> list[LayerResponse]:
    """Returns what each hidden layer does: [L]."""
    responses: list[LayerResponse] = []
    settled = None
    for shape in pairwise(net.sizes[:-1]):
        if shape != settled:
            responses.append(response_of(net, signal, *shape))
            after = in_range(responses[-1].signal)
            settled = shape if shape[0] == shape[1] and same_signal(signal, after) else None
            signal = after
        else:
            responses.append(responses[-1])
    return responses
