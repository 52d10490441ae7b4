"""The first step of a config's net, measured without a run: what theory is held against."""

from __future__ import annotations

import jax
import numpy as np

from vgx.config.schema import Config
from vgx.devices import find_devices, keep_compiled_programs, numerics
from vgx.runner.opening import load_data
from vgx.training.batches import batches_of
from vgx.training.chunks import make_chunk
from vgx.training.inputs import to_device
from vgx.training.lanes import make_initial_states, make_lanes, spread_over
from vgx.training.probes import LayerRecord
from vgx.training.program import Program, shared_config
from vgx.training.step import LSUV_EXAMPLES


def first_step(config: Config) -> LayerRecord:
    """Returns what the taps report of the first training step of each of the config's seeds: [R, L + 1] each.

    Raises DataError when the data set is missing or broken, or smaller than a batch.
    """
    keep_compiled_programs()
    if config.log.statistics == "none":
        config = config.model_copy(update={"log": config.log.model_copy(update={"statistics": "standard"})})
    dataset, seeds = load_data(config), config.seed_list
    examples, features = dataset.train.images.shape
    devices = find_devices()
    with numerics(config.train.precision, devices[0]):
        steps = config.train.steps or 1
        program = Program(shared_config(config, examples), features, dataset.classes)
        mesh, configs = spread_over(devices, 1), [config] * len(seeds)
        lane, data = make_lanes(configs, seeds, steps), to_device(dataset.train, dataset)
        state = make_initial_states(program, configs, mesh)(lane, data, np.arange(min(LSUV_EXAMPLES, examples)))
        first = batches_of(config, seeds, examples).at(0)
        batches = np.zeros((1, config.log.every, *first.shape), np.int32)
        batches[0, 0] = first
        _, log = make_chunk(program, 1, mesh)(state, lane, data, batches, np.ones(1, np.int32))
        return jax.tree.map(lambda column: np.asarray(column[0], np.float64), log.records.layers)


def first_gradient(config: Config) -> np.ndarray:
    """Returns the gradient at the first step of each seed, in log10: [R, L + 1], float64. Raises as `first_step`.

    That is the stream's where layers add to one, and dloss/dh of the readout.
    """
    layers = first_step(config)
    delta, stream = layers.delta_log10, layers.stream_grad_log10
    return np.asarray(delta if stream is None else np.concatenate([stream[:, :-1], delta[:, -1:]], 1))
