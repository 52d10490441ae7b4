"""What a finite width does to the gradient that is logged: the mean and the deviation of its logarithm over draws.

Logged is ln R_l, R_l the mean over a batch of |dloss/dh_l|^2, relative to the readout's. With D_l = ln(R_l / R_{l+1}),

    D_l = ln(n_l Var(W_{l+1})) + ln E[x'^2] + S_l + (echo of the size of h_l, or of what a normalization divides by)

where S_l = mean over units of x'^2 v^2 / E[..] - 1, v = W_{l+1}^T dloss/dh_{l+1}, strays by Var / n_l. The size
eps_l = ln(|h_l|^2 / n q) of an example strays with A_j = mean of x_j^2 / E[..] - 1 of the layers j below. All are means
over units, so ln R_l is a sum over layers of S_j + w_j A_j; w_j, how A_j comes back in the layers above, follows from
the derivatives of E[x^2] and E[x'^2] in q. Of two examples a and b the covariances are

    n Cov(S_a, S_b) = E[M_a M_b] (1 + 2 rho^2) - 1,   n Cov(A_a, A_b),   n Cov(S_a, A_b) = E[M_a A_b] - 1

rho the cosine of their v: 1 / (classes - 1) in the square above the readout, and less from layer to layer. What two
examples do not share makes R_l a mean of B log-normals: with V_1 one example's variance and V_2 two examples'
covariance, Var ln R_l is V_2 and the variance of ln mean(e^x), x ~ N(0, V_1 - V_2), and its mean is shifted by that of
the same.

Where weights are rotations, or a normalization fixes |h|, what depends on |h| alone (the second Hermite part of A and
M) does not vary, nor does |v| with rotations. First order in 1 / n, but for the size of h, whose mean and variance are
followed by quadrature, since an activation may make them grow from layer to layer.

Hanin and Nica 2020, arXiv:1812.05994, for ReLU: 5 L / n for one example; Pennington, Schoenholz and Ganguli 2017,
arXiv:1711.04735, for rotations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import digamma, polygamma

from vgx.parts.normalizations import BatchNorm
from vgx.registry import remembered
from vgx.theory.finite_layers import FiniteLayer, Noise, Rules, finite_layers, noise_of, rules_of
from vgx.theory.layer_response import LayerResponse, Net, Signal
from vgx.theory.readout import Readout, readout_of
from vgx.theory.signal_size import Size, sizes_of, uneven_inputs

LARGEST = 50.0
"""A variance of a logarithm past which nothing is known any more."""
LEAST_LEFT = 0.05
"""Of |dloss/dh|^2 that is left, at the least, where it loses what it has along h."""
MOST, DRAWS = 256, 2**16
"""Examples of a batch that are drawn, and numbers in all, to know the logarithm of a mean of log-normals."""


class GradientSpread(NamedTuple):
    """Of ln |dloss/dh|^2 relative to the readout's, over draws, for each hidden layer [L]; and of signals."""

    shift: np.ndarray
    """Its mean less that of an infinite width."""
    deviation: np.ndarray
    preact: np.ndarray
    """The relative deviation of the root mean square of what activations receive, over a batch: [L + 1]."""
    act: np.ndarray
    """The same of what layers pass on."""
    preact_factor: np.ndarray
    """What inputs of uneven size make of the root mean square of what activations receive: [L + 1]."""
    act_factor: np.ndarray
    """The same of what layers pass on."""
    by_size: float
    """The largest deviation that an example's own |h| makes."""


def gradient_spread(net: Net, signal: Signal, responses: Sequence[LayerResponse]) -> GradientSpread:
    """Returns the finite-width mean and deviation of the logged gradient.

    Args:
        net: the net.
        signal: its inputs' moments.
        responses: of the hidden layers and of the readout, [L + 1].
    """
    if not responses[:-1]:
        return no_spread(1)
    rules = rules_of(net.normalization, net.initializer)
    layers = finite_layers(net, signal, responses, rules)
    top, std = responses[-2].signal, 1.0 if net.initializer.fits_to_data else responses[-1].preact[1]
    cosine = top.cross / top.square if top.square else 0.0
    readout = readout_of(std, cosine, net.sizes[-1], net.initializer.fits_to_data, net.loss)
    sizes = sizes_of(net, signal, layers, responses, rules)
    factors = uneven_inputs(net, signal, layers, responses, rules)
    found = _Sums(net, signal, rules, layers, readout, sizes, cosine).result()
    return found._replace(preact_factor=factors[0], act_factor=factors[1])


def no_spread(layers: int) -> GradientSpread:
    """Returns that of infinite width, for so many layers with the readout."""
    none, even = np.zeros(layers), np.ones(layers)
    return GradientSpread(none[:-1], none[:-1], none, none, even, even, 0.0)


def log_of_mean(variance: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance of ln mean(e^x) of a batch of normals x of mean 0: of means of log-normals.

    Args:
        variance: of x, any shape.
        batch: how many are independent.
    """
    deviations, means, variances = _means_of_log_normals(min(batch, MOST))
    at = np.sqrt(variance)
    thinned = min(MOST / batch, 1.0)
    mean, spread = np.interp(at, deviations, means), np.interp(at, deviations, variances)
    return mean + (1 - thinned) * np.minimum(spread, variance) / 2, thinned * spread


@remembered
def _means_of_log_normals(batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    normals = np.random.default_rng(0).standard_normal((max(DRAWS // batch, 64), batch))
    deviations = math.sqrt(LARGEST) * np.linspace(0, 1, 65) ** 2
    logs = np.array([np.log(np.mean(np.exp(x * normals - x * x / 2), 1)) + x * x / 2 for x in deviations])
    # Against the same draws with opposite sign the odd part of their noise cancels.
    mirrored = np.array([np.log(np.mean(np.exp(-x * normals - x * x / 2), 1)) + x * x / 2 for x in deviations])
    return deviations, (logs.mean(1) + mirrored.mean(1)) / 2, (logs.var(1) + mirrored.var(1)) / 2


class _Sums:
    """The sums over layers that mean and variance are made of."""

    def __init__(
        self,
        net: Net,
        signal: Signal,
        rules: Rules,
        layers: Sequence[FiniteLayer],
        readout: Readout,
        sizes: Sequence[Size],
        top_cosine: float,
    ):
        self.net, self.signal, self.rules, self.layers = net, signal, rules, layers
        self.readout, self.sizes, self.top_cosine = readout, sizes, top_cosine
        self.keep = 1 - net.dropout
        self.divides_logits = isinstance(net.normalization, BatchNorm) and net.normalization.logits
        self.batch = net.batch / readout.weight_square
        self.n = np.array([layer.n for layer in layers], float)
        self.loads = self._loads()
        self.rho_square = self._rho_square()
        self.own = [noise_of(layer, 1.0, rules, self.keep, pair=False) for layer in layers]
        self.shared = [
            noise_of(layer, rho, rules, self.keep, pair=True)
            for layer, rho in zip(layers, self.rho_square, strict=True)
        ]
        top = net.initializer.excess_kurtosis * readout.concentration
        self.own[-1], self.shared[-1] = (x._replace(s_s=x.s_s + top) for x in (self.own[-1], self.shared[-1]))

    def result(self) -> GradientSpread:
        own = self._variance(self.own, self.loads)
        shared = self._variance(self.shared, self.loads)
        apart = np.clip(own - shared, 0, LARGEST)
        if self.rules.fitted:
            # The mean over examples is fixed.
            shared = self._held()
        along, share = self._along()
        gained, spread = log_of_mean(apart, max(round(self.batch), 1))
        kept, kept_variance = self._kept(share)
        variance = shared + spread + self._cosine_noise() + kept_variance
        shift = np.cumsum(self._means(along)[::-1])[::-1] + gained + kept
        if self.net.initializer.fits_to_data:
            top_shift, top_variance = self._fitted_readout()
            shift = shift + top_shift
            variance = variance + top_variance * (1 - self.rules.fitted * share * self.readout.along.mean()) ** 2
        by_size = math.sqrt(self._from_below(self.own, self.loads).max())
        even = np.ones(len(self.layers) + 1)
        return GradientSpread(shift, np.sqrt(np.maximum(variance, 0.0)), *self._forward(), even, even, by_size)

    def _forward(self) -> tuple[np.ndarray, np.ndarray]:
        """The relative deviations of the signal's root mean squares over a batch: [L + 1] each."""

        def mean(own: float, shared: float) -> float:
            return own / self.net.batch + (1 - 1 / self.net.batch) * shared

        rules, held = self.rules, self.rules.fitted
        preact, act, size = [], [], 0.0 if held else mean(self.sizes[0].variance, 0.0)
        strays = self._strays()
        for i, layer in enumerate(self.layers):
            echo = 0.0 if rules.before else self.sizes[i].a_echo
            drawn = mean(2.0, 2 * layer.c**2 + 2 * strays[i]) * layer.forward / layer.n
            preact.append(0.0 if rules.before or held else size + drawn)
            alike = self.shared[i].a_a + 2 * echo**2 * layer.forward * strays[i]
            passed = echo**2 * size + mean(self.own[i].a_a, alike) / layer.n
            divided = rules.after or (rules.batch and not rules.divides_below)
            act.append(0.0 if divided else max(passed, 0.0))
            share = self.layers[i + 1].share if i + 1 < len(self.layers) else 1.0
            size = 0.0 if held else min(share**2 * act[-1], LARGEST)
        classes, n = self.net.sizes[-1], self.layers[-1].n
        free = max(1 - classes / n, 0.0) if self.net.initializer.isometric else 1.0
        top = size + mean(2.0, 2 * self.top_cosine**2 + 2 * strays[-1]) * free / classes
        top = 0.0 if self.divides_logits or self.net.initializer.fits_to_data else top
        return np.sqrt([*preact, top]) / 2, np.sqrt([*act, top]) / 2

    def _loads(self) -> np.ndarray:
        """How A_j comes back in the layers above: [L]."""
        if self.rules.after:
            return np.full(len(self.layers), -1.0)
        loads = np.zeros(len(self.layers))
        for j in range(len(self.layers) - 2, -1, -1):
            size, above = self.sizes[j + 1], self.layers[j + 1]
            loads[j] = above.share * (-1.0 if self.rules.before else size.m_echo + size.a_echo * loads[j + 1])
        return loads

    def _rho_square(self) -> np.ndarray:
        """The squared cosine of two examples' v, from layer to layer: [L]."""
        found, rho = np.zeros(len(self.layers)), self.readout.cosine_square
        for i in range(len(self.layers) - 1, -1, -1):
            layer, m = self.layers[i], self.layers[i].moments
            found[i] = rho
            cosine = (m.slope_cosine * self.keep) ** 2
            drawn = m.pair_m_m * (1 + 2 * rho) - cosine * rho * (1 + 2 * (1 - layer.backward))
            # Where A takes back what S gives, both are of one |W|^2.
            echo = 0.0 if self.rules.batch else 1 + self.loads[i]
            rho = min(cosine * rho + max(drawn, 0.0) * (1 - rho) ** 2 * echo**2 / layer.n, 1.0)
        return found

    def _variance(self, noises: Sequence[Noise], loads: np.ndarray) -> np.ndarray:
        """The variance of ln |dloss/dh|^2, or the covariance of two examples': [L]."""
        rows = zip(noises, loads, self.n, strict=True)
        above = [(x.s_s + load**2 * x.a_a + 2 * load * x.s_a + x.size) / n for x, load, n in rows]
        variance = np.cumsum(above[::-1])[::-1]
        return np.minimum(variance + self._from_below(noises, loads), LARGEST)

    def _held(self) -> np.ndarray:
        """The covariance of two examples where the mean over a batch is held: A_j comes back as it is."""
        loads = np.full(len(self.layers), -1.0)
        if self.rules.divides_below and not self.divides_logits:
            loads[-1] = 0.0
        above = [(x.s_s + w**2 * x.a_a + 2 * w * x.s_a) / n for x, w, n in zip(self.shared, loads, self.n, strict=True)]
        return np.cumsum(above[::-1])[::-1]

    def _from_below(self, noises: Sequence[Noise], loads: np.ndarray) -> np.ndarray:
        """What the size of h, which strays in the layers below, adds: [L]."""
        found, size = [], self.sizes[0].variance * (noises is self.own)
        for i, layer in enumerate(self.layers):
            m_echo, a_echo = (-1.0, 0.0) if self.rules.before else (self.sizes[i].m_echo, self.sizes[i].a_echo)
            found.append((m_echo + a_echo * loads[i]) ** 2 * size)
            share = self.layers[i + 1].share if i + 1 < len(self.layers) else 1.0
            size = 0.0 if self.rules.after else min(share**2 * (a_echo**2 * size + noises[i].a_a / layer.n), LARGEST)
        return np.array(found)

    def _strays(self) -> np.ndarray:
        """The variance of the correlation of two examples' h, as pairs and layers below have it: [L]."""
        strays, variance = [], (1 - self.layers[0].c) ** 2 * self.signal.alike
        for layer in self.layers:
            m = layer.moments
            strays.append(variance)
            drawn = max(m.pair_a_a + 1 - (1 - layer.forward) * m.product**2, 0.0)
            variance = min(m.cosine_slope**2 * variance + (1 - layer.c**2) ** 2 * drawn / layer.n, 1.0)
        return np.array(strays)

    def _cosine_noise(self) -> np.ndarray:
        """What a normalization adds since the cosines of examples stray in the layers below: [L]."""
        found, above = np.zeros(len(self.layers)), 0.0
        if self.rules.free and not self.rules.batch:
            return found
        strays = self._strays()
        for i in range(len(self.layers) - 1, -1, -1):
            layer, m = self.layers[i], self.layers[i].moments
            above = 1 + m.cosine_slope**2 * above
            found[i] = 2 * layer.forward * strays[i] * above / layer.n * (m.a_echo**2 if self.rules.after else 1.0)
        return found

    def _along(self) -> tuple[list[tuple[float, float]], np.ndarray]:
        """How <h, dloss/dh>^2, relative to what independent vectors have, goes down the layers from 1 at the readout.

        A linear layer keeps it, and of |dloss/dh|^2 it is a growing share: where it is t at the readout, and K adds up
        what the layers do, |dloss/dh|^2 is (1 + (t - 1) share) times that for t = 1, with share = 1 - e^-K. Returns it
        above and in each layer, and the share: [L].
        """
        along, found = 1.0, [(0.0, 0.0)] * len(self.layers)
        total, carried, share = 0.0, 1.0, np.zeros(len(self.layers))
        for i in range(len(self.layers) - 1, -1, -1):
            layer, m = self.layers[i], self.layers[i].moments
            top = not (self.rules.before and i < len(self.layers) - 1)
            above = along if top else 0.0
            weight = self._weight(layer)
            grown = 1 + max((above - 1) * weight, 0.0) / layer.n
            met = 0.0 if self.rules.after else above
            along = (1 + 2 * m.m_echo + (met - 1) * m.along) / grown
            found[i] = above, along
            if top and not self.rules.after:
                total += carried * weight / layer.n
                carried *= m.along / grown
            share[i] = -math.expm1(-total) if total > 0 else total
        return found, share

    def _kept(self, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance over nets of ln(1 + (t - 1) share), t of the readout: [L] each."""
        examples = min(max(round(self.batch), 1), self.readout.along.shape[1])
        draws = self.readout.along[:, :examples].mean(1)
        at = np.linspace(min(share.min(), 0.0), max(share.max(), 1e-9), 33)
        logs = np.log(np.maximum(1 + (draws[:, None] - 1) * at, LEAST_LEFT))
        return np.interp(share, at, logs.mean(0)), np.interp(share, at, logs.var(0))

    def _weight(self, layer: FiniteLayer) -> float:
        """E[x^2 x'^2] / (E[x^2] E[x'^2]), less 1 where |v| is that of dloss/dh above."""
        return layer.moments.a_m - (1 - layer.backward)

    def _means(self, along: Sequence[tuple[float, float]]) -> np.ndarray:
        """The mean of D_l of one example, less that of an infinite width: [L]."""
        means, size = np.zeros(len(self.layers)), 0.0
        means[0] = self.sizes[0].slope_shift
        for i, (layer, noise, (above, here)) in enumerate(zip(self.layers, self.own, along, strict=True)):
            m, n = layer.moments, layer.n
            fixed = 1.0 if self.rules.before else 1 - layer.forward
            kept = (above - 1) * self._weight(layer)
            after = -0.5 * noise.a_a / n - 0.25 * fixed * m.a_fourth / n
            if self.rules.before:
                means[i] -= size
                kept -= here + self.rules.without_mean * (above - 1) * m.flat
                size = (self.layers[i + 1].share if i + 1 < len(self.layers) else 1.0) * after
            elif self.rules.after:
                means[i] -= after
                kept = -m.a_m + (1 - layer.backward) * (1 - above)
            else:
                means[i] = self.sizes[i].slope_shift
            means[i] += (kept - 0.5 * noise.s_s + 0.5 * noise.size - 0.25 * fixed * m.m_fourth) / n + layer.uneven
        return means

    def _fitted_readout(self) -> tuple[float, float]:
        """Mean and variance of -ln Var(logits), which LSUV divides by: of few units, that batches see alike."""
        classes, top = self.net.sizes[-1], self.layers[-1]
        c = self.top_cosine
        alike = max(c**2 * (1 - 1 / self.net.batch) + 1 / self.net.batch, 1e-9)
        degrees = max(classes - 1, 1) / alike / max(1 - classes / top.n, 1e-3)
        shift = math.log(degrees / 2) - float(digamma(degrees / 2)) - math.log(max(1 - c / classes, 0.5))
        return shift, float(polygamma(1, degrees / 2))
