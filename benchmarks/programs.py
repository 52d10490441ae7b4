"""Compiled chunks of steps on random images, ready to be timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vgx.config import Config
from vgx.training import Images, Lane, Program, make_chunk, make_initial_states, numbers_of

EXAMPLES, CLASSES = 5000, 10


class Timed(NamedTuple):
    """A compiled program."""

    compile_seconds: float
    """From Python to an executable, the persistent cache left out."""
    seconds_per_step: Callable[[], float]
    """Runs some steps and returns what one took."""


def build(
    *,
    depth: int = 20,
    width: int = 128,
    batch: int = 128,
    features: int = 784,
    statistics: str = "none",
    every: int = 1,
    steps: int = 40,
) -> Timed:
    """Returns a plain ReLU net's training, `steps` steps at a time, on MNIST's sizes."""
    settings = {
        "model": {"depth": depth, "width": width},
        "train": {"batch_size": batch, "optimizer": {"name": "sgd", "learning_rate": 0.01}},
        "log": {"statistics": statistics, "every": every},
    }
    config = Config.model_validate(settings)
    random = np.random.default_rng(0)
    data = Images(
        jnp.asarray(random.integers(0, 256, (EXAMPLES, features), np.uint8)),
        jnp.asarray(random.integers(0, CLASSES, EXAMPLES, np.int32)),
        jnp.float32(255),
        jnp.zeros(features),
        jnp.ones(features),
    )
    program = Program(config, features, CLASSES, steps)
    lane = Lane(
        jax.vmap(jax.random.key)(jnp.zeros(1, jnp.uint32)), jax.tree.map(lambda x: jnp.full(1, x), numbers_of(config))
    )
    state = jax.block_until_ready(make_initial_states(program)(lane, data, jnp.arange(batch)))
    periods = max(1, steps // every)
    indices = jnp.asarray(random.integers(0, EXAMPLES, (periods, every, 1, batch), np.int32))
    lengths = jnp.full(periods, every, jnp.int32)
    began = time.perf_counter()
    chunk = make_chunk(program, periods).lower(state, lane, data, indices, lengths).compile()
    compiled = time.perf_counter() - began
    held = [jax.block_until_ready(chunk(state, lane, data, indices, lengths))[0]]

    def seconds_per_step() -> float:
        began = time.perf_counter()
        held[0], _ = jax.block_until_ready(chunk(held[0], lane, data, indices, lengths))
        return (time.perf_counter() - began) / (periods * every)

    return Timed(compiled, seconds_per_step)
