"""Holds the theory of Jacobians and of coherence against drawn nets, and writes JACOBIANS.md."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vgx.config.load import load_config
from vgx.config.schema import Config
from vgx.results.spectrum import MAPS, figures_of
from vgx.results.words import counted
from vgx.theory.jacobians import coherence, predicted_spectra
from vgx.theory.predict import InputStatistics, net_of
from vgx.theory.validate import CLASSES, normal_inputs
from vgx.training.model import MLP
from vgx.training.probes import LayerRecord
from vgx.training.spectrum import spectra_at
from vgx.training.step import make_record

RESULTS = Path(__file__).with_name("JACOBIANS.md")
WIDTH, DEPTH, BATCH, NETS, EXAMPLES = 256, 16, 64, 6, 2
PARTS: dict[str, dict[str, Any]] = {
    "linear, lecun_normal": {"activation": "linear", "initializer": "lecun_normal"},
    "linear, orthogonal": {"activation": "linear", "initializer": "orthogonal"},
    "tanh, lecun_normal": {"activation": "tanh", "initializer": "lecun_normal"},
    "tanh, orthogonal": {"activation": "tanh", "initializer": "orthogonal"},
    "logistic, lecun_normal": {"activation": "logistic", "initializer": "lecun_normal"},
    "relu, he_normal": {"activation": "relu"},
    "relu, orthogonal": {"activation": "relu", "initializer": "orthogonal"},
    "elu, he_normal": {"activation": "elu"},
    "tanh, orthogonal, layer norm": {"activation": "tanh", "initializer": "orthogonal", "normalization": "layer"},
    "relu, he_normal, rms norm": {"activation": "relu", "normalization": "rms"},
    "elu, he_normal, batch norm": {"activation": "elu", "normalization": "batch"},
    "tanh, lecun_normal, pre-activation 1/sqrt(L)": {
        "activation": "tanh",
        "initializer": "lecun_normal",
        "residual": {"name": "pre_activation", "scale": "depth"},
    },
    "tanh, lecun_normal, post-activation 1/sqrt(L)": {
        "activation": "tanh",
        "initializer": "lecun_normal",
        "residual": {"name": "post_activation", "scale": "depth"},
    },
    "relu, he_normal, pre-activation 1/sqrt(L)": {"residual": {"name": "pre_activation", "scale": "depth"}},
    "relu, he_normal, post-activation 1/sqrt(L)": {"residual": {"name": "post_activation", "scale": "depth"}},
}


class Drawn(NamedTuple):
    """What nets show: means over nets and examples."""

    spectra: dict[str, tuple[float, float]]
    """By map, log10 of the mean square, and the spread."""
    coherence: np.ndarray
    """[L + 1]"""


def measured(config: Config) -> Drawn:
    """Draws nets and normal inputs, which all have one label: so their gradients at the logits are nearly alike."""

    @jax.jit
    def one(key: jax.Array) -> tuple[Any, LayerRecord]:
        weights, data = jax.random.split(key)
        mlp = MLP.draw(config.model, WIDTH, CLASSES, weights)
        # a readout of 0, so that each example's gradient at the logits is the same; it lets 1e-6 of it through
        x = jax.random.normal(data, (BATCH, WIDTH))
        moments = mlp(x, jnp.zeros(()), None, None, "none")[1]
        spectra = jax.lax.map(partial(spectra_at, mlp, moments), x[:EXAMPLES])
        readout = mlp.stacks[-1]
        readout.kernel[...] = 1e-6 * readout.kernel[...]

        def loss(mlp: MLP, probes: Any) -> Any:
            logits, _, forward = mlp(x, 0 * x[0, 0], probes, None, "full")
            return -jax.nn.log_softmax(logits)[:, 0].mean(), forward

        (gradient, probes), forward = jax.grad(loss, (0, 1), has_aux=True)(mlp, mlp.empty_probes("full"))
        return spectra, make_record(probes, forward, gradient, config).layers

    found = [one(key) for key in jax.random.split(jax.random.key(0), NETS)]
    figures = {}
    for name in MAPS:
        each = figures_of(np.concatenate([np.asarray(getattr(spectra, name)) for spectra, _ in found]))
        figures[name] = float(each.square_log10.mean()), float(each.spread.mean())
    return Drawn(figures, np.mean([record.coherence for _, record in found], 0))


def rows() -> Iterator[str]:
    """A row of markdown for each net: measured beside predicted."""
    source = InputStatistics(WIDTH, CLASSES, normal_inputs(WIDTH))
    for title, parts in PARTS.items():
        asked = {"model": {"depth": DEPTH, "width": WIDTH} | parts, "train": {"batch_size": BATCH}}
        config = load_config(asked | {"log": {"statistics": "full"}})
        net, drawn = net_of(config, source), measured(config)
        cells = [title]
        for name, predicted in predicted_spectra(net, source.signal).items():
            square, spread = drawn.spectra[name]
            cells += [f"{square:+.3f}, {predicted.square_log10:+.3f}", f"{spread:.3g}, {predicted.spread:.3g}"]
        alike = coherence(net, source.signal)
        for layer in (0, DEPTH // 2):
            known = f"{alike[layer]:.3f}" if np.isfinite(alike[layer]) else "-"
            cells.append(f"{drawn.coherence[layer]:.3f}, {known}")
        row = f"| {' | '.join(cells)} |"
        print(row, flush=True)
        yield row


def main() -> None:
    began, lines = time.monotonic(), list(rows())
    machine = f"jax {jax.__version__}, {platform.system()} {platform.machine()}, {time.monotonic() - began:.0f} s"
    RESULTS.write_text(f"""# Jacobians and coherence, measured and predicted

`python -m benchmarks.jacobians`, {datetime.now(UTC):%Y-%m-%d}, {machine}.

Nets of {DEPTH} layers of {WIDTH} at initialization, {counted(NETS, "net")} and {EXAMPLES} examples of each, normal
inputs, {CLASSES} classes: log10 of the mean squared singular value of the Jacobian and the spread of the squares, from
the input to the logits and from the first to the last hidden layer; and the mean cosine between the gradients of
{BATCH} examples of one label in layers 1 and {DEPTH // 2 + 1}. In each cell what was measured stands before what is
predicted. Plain nets have the theory of infinite width, from which they stray by the order of depth over width; in nets
with skip connections the direction of the signal counts, too, to first order in one over the width. A mean over so few
nets strays itself, that of the logits by a tenth.

| net | logits: mean square | spread | hidden: mean square | spread | coherence, layer 1 | layer {DEPTH // 2 + 1} |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}
""")


if __name__ == "__main__":
    main()
