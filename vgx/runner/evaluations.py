"""What is measured between chunks: losses and accuracies on held-out data, dead units, sharpness, spectra."""

from __future__ import annotations

import numpy as np

from vgx.config.schema import Config
from vgx.results.columns import DEAD_UNITS, SHARPNESS
from vgx.results.spectrum import means_of
from vgx.runner import processes
from vgx.runner.preparation import Prepared
from vgx.training.step import State


def is_evaluated(config: Config, step: int, steps: int) -> bool:
    """Returns whether the net is evaluated after a step, of so many."""
    return (step > 0 and step % config.train.evaluate_every == 0) or step == steps


def has_spectrum(config: Config, step: int, steps: int) -> bool:
    """Returns whether the spectra of Jacobians are measured after a step, of so many; step 0 is before the first."""
    if config.log.spectrum is None:
        return False
    match config.log.spectrum.at:
        case "evaluation":
            return is_evaluated(config, step, steps)
        case "first":
            return step == 0
        case asked:
            return step in asked


def next_pause(config: Config, step: int, steps: int) -> int:
    """Returns the next step after which something of that is measured."""
    every = config.train.evaluate_every
    at = config.log.spectrum.at if config.log.spectrum else ()
    asked = [other for other in at if other > step] if isinstance(at, tuple) else []
    return min((step // every + 1) * every, steps, *asked)


def evaluated(ready: Prepared, state: State, learning_rates: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the figures of every lane's net, [R] each, and DEAD_UNITS [R, L] where they are looked for.

    `learning_rates` [R] are those of the last step.
    """
    figures: dict[str, np.ndarray] = {}
    for name, images in ready.held_out.items():
        loss, accuracy = processes.on_host(ready.compiled.evaluate[name].result()(state, images))
        figures |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
    if ready.compiled.examine:
        figures[DEAD_UNITS] = processes.on_host(ready.compiled.examine(state, ready.lane, ready.data))
    if ready.compiled.sharpness:
        sharp = processes.on_host(ready.compiled.sharpness(state, ready.data))
        figures |= dict(zip(SHARPNESS, (sharp, learning_rates * sharp / 2), strict=True))
    return figures


def spectra_of(ready: Prepared, state: State) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns log10 of the singular values of every lane's Jacobians, [R, E, k] by map, and what they come to, [R]
    each."""
    found = processes.on_host(ready.compiled.spectra(state, ready.data))._asdict()
    return found, means_of(list(found.values()))
