"""The first step of a config's net, measured without a run: what theory is held against."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vgx.batches import Batches
from vgx.config import Config
from vgx.errors import DataError
from vgx.machine import find_device, keep_compiled_programs, numerics
from vgx.probes import LayerRecord
from vgx.training import Lane, Program, initial_state, make_step, master_dtype, numbers_of, to_device

LSUV_EXAMPLES = 1024
"""How many training examples LSUV looks at."""


def first_step(config: Config) -> LayerRecord:
    """Returns what the taps report of the first training step of each of the config's seeds: [R, L + 1] each.

    Raises DataError when the data set is missing or broken, or smaller than a batch.
    """
    keep_compiled_programs()
    if config.log.statistics == "none":
        config = config.model_copy(update={"log": config.log.model_copy(update={"statistics": "standard"})})
    dataset = config.data.load()
    examples, batch = len(dataset.train.labels), config.train.batch_size
    if batch > examples:
        raise DataError(f"train.batch_size: {batch} is more than the {examples} training examples; lower it")
    with numerics(config.train.precision, find_device()):
        program = Program(config, dataset.train.images.shape[1], dataset.classes, config.train.steps or 1)
        data = to_device(dataset.train, dataset)
        fitted = jnp.arange(min(LSUV_EXAMPLES, examples))
        numbers = jax.tree.map(lambda value: jnp.asarray(value, master_dtype(config)), numbers_of(config))

        @jax.jit
        def record(key: jax.Array, index: jax.Array) -> LayerRecord:
            lane = Lane(key, numbers)
            state = initial_state(program, lane, data, fitted)
            measured = make_step(program, measured=True)(state, lane, data, index)[2]
            assert measured is not None
            return measured.layers

        indices = Batches(config.seed_list, examples, batch).at(0)
        # One seed after the other: QR of several matrices at once can lock up jaxlib's threads on two cores.
        records = [
            jax.block_until_ready(record(jax.random.key(seed), jnp.asarray(index)))
            for seed, index in zip(config.seed_list, indices, strict=True)
        ]
        return jax.tree.map(lambda *parts: np.stack(parts).astype(np.float64), *records)


def first_delta(config: Config) -> np.ndarray:
    """Returns `delta_log10` at the first step of each seed: [R, L + 1], float64. Raises as `first_step`."""
    return np.asarray(first_step(config).delta_log10)
