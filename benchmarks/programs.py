"""Compiled chunks of steps on random images, ready to be timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vgx.config.schema import Config
from vgx.training.chunks import make_chunk, make_evaluate, make_sharpness, make_spectra
from vgx.training.inputs import Images
from vgx.training.lanes import make_initial_states, make_lanes, put, spread_over
from vgx.training.program import Program, shared_config

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
    lanes: int = 1,
    devices: int = 1,
    per_run: int = 1,
    precision: str = "float32",
) -> Timed:
    """Returns a plain ReLU net's training in some lanes, `steps` steps at a time, on MNIST's sizes."""
    settings = {
        "model": {"depth": depth, "width": width},
        "train": {
            "batch_size": batch,
            "optimizer": {"name": "sgd", "learning_rate": 0.01},
            "precision": precision,
        },
        "log": {"statistics": statistics, "every": every},
    }
    config = Config.model_validate(settings)
    random, data = np.random.default_rng(0), _images(features)
    program = Program(shared_config(config), features, CLASSES)
    mesh = spread_over(jax.devices()[:devices], lanes, per_run)
    configs = [config] * lanes
    lane = make_lanes(configs, list(range(lanes)), steps)
    state = jax.block_until_ready(make_initial_states(program, configs, mesh)(lane, data, jnp.arange(batch)))
    periods = max(1, steps // every)
    indices = random.integers(0, EXAMPLES, (periods, every, lanes, batch), np.int32)
    lengths = np.full(periods, every, np.int32)
    data, indices, lengths = put((data, indices, lengths), mesh)
    lane = put(lane, mesh, jax.tree.map(lambda leaf: 0, lane))
    began = time.perf_counter()
    chunk = make_chunk(program, periods, mesh).lower(state, lane, data, indices, lengths).compile()
    compiled = time.perf_counter() - began
    held = [jax.block_until_ready(chunk(state, lane, data, indices, lengths))[0]]

    def seconds_per_step() -> float:
        began = time.perf_counter()
        held[0], _ = jax.block_until_ready(chunk(held[0], lane, data, indices, lengths))
        return (time.perf_counter() - began) / (periods * every)

    return Timed(compiled, seconds_per_step)


def at_evaluations(depth: int = 20, width: int = 128, features: int = 784) -> dict[str, Callable[[], float]]:
    """Returns functions that measure what evaluations of a net may measure, and return the seconds that took."""
    log = {"sharpness": {"examples": 1024}, "spectrum": {"examples": 4}}
    config = Config.model_validate({"model": {"depth": depth, "width": width}, "log": log})
    program, data = Program(shared_config(config), features, CLASSES), _images(features)
    mesh = spread_over(jax.devices()[:1], 1)
    state = make_initial_states(program, [config], mesh)(make_lanes([config], [0], 1), data, jnp.arange(128))
    measures = {
        f"test loss and accuracy of {EXAMPLES:,} examples": make_evaluate(program, mesh),
        "sharpness of 1,024 examples": make_sharpness(program, mesh),
        "spectra of 4 examples": make_spectra(program, mesh),
    }

    def timed(measure: Callable[..., object]) -> Callable[[], float]:
        jax.block_until_ready(measure(state, data))

        def run() -> float:
            began = time.perf_counter()
            jax.block_until_ready(measure(state, data))
            return time.perf_counter() - began

        return run

    return {name: timed(measure) for name, measure in measures.items()}


def _images(features: int) -> Images:
    random = np.random.default_rng(0)
    return Images(
        jnp.asarray(random.integers(0, 256, (EXAMPLES, features), np.uint8)),
        jnp.asarray(random.integers(0, CLASSES, EXAMPLES, np.int32)),
        jnp.float32(255),
        jnp.zeros(features),
        jnp.ones(features),
    )


def bare_products(depth: int, width: int, batch: int, features: int = 784) -> Callable[[], float]:
    """Returns a function that does the matrix products of 40 steps, and nothing else, and returns seconds per step."""
    sizes = [features, *[width] * depth, CLASSES]
    random = np.random.default_rng(0)
    shapes = list(pairwise(sizes))
    kernels = [jnp.asarray(random.normal(size=shape, scale=shape[0] ** -0.5), jnp.float32) for shape in shapes]
    first, inner, last = kernels[0], jnp.stack(kernels[1:-1]), kernels[-1]

    def step(_: int, x: jax.Array) -> jax.Array:
        y, inputs = jax.lax.scan(lambda y, w: (y @ w, y), x @ first, inner)
        g = (y @ last) @ last.T
        g, of_weights = jax.lax.scan(lambda g, wx: (g @ wx[0].T, wx[1].T @ g), g, (inner, inputs), reverse=True)
        # everything is used, and x depends on it, so that nothing is left out or moved out of the loop
        return x + 1e-30 * (jnp.sum(of_weights[:, 0, 0]) + jnp.max(x.T @ g) + jnp.max(y.T @ (y @ last)))

    steps = jax.jit(lambda x: jax.lax.fori_loop(0, 40, step, x))
    x = jnp.ones((batch, features))
    steps(x).block_until_ready()

    def seconds_per_step() -> float:
        began = time.perf_counter()
        steps(x).block_until_ready()
        return (time.perf_counter() - began) / 40

    return seconds_per_step
