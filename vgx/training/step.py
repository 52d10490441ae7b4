"""The pure training step, written for one lane.

`State` is what a step changes, `Lane` what sets one run apart from its neighbours.
`vgx.training.lanes` maps the step over many lanes and spreads those over devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from vgx.config.schema import Config
from vgx.parts import Clip, Optimizer
from vgx.parts.initializers import LSUV
from vgx.parts.losses import LOSSES
from vgx.parts.normalizations import Moments
from vgx.results.columns import SMALL_BATCH
from vgx.training.batches import batch_size_of
from vgx.training.inputs import Images, compute_dtype, devices_per_batch, encode, master_dtype, shared
from vgx.training.model import MLP, fit_to_data
from vgx.training.probes import LOG10_2, Forward, LayerRecord, Probe, log2_norms, log2_root_sum_square, noise_scale
from vgx.training.program import Program, fill
from vgx.training.weights import InitialWeights

EVALUATION_BATCH = 1000
LSUV_EXAMPLES = 1024
"""How many training examples LSUV looks at."""
EXAMINED = 512
"""Training examples that tell whether it is, where batches are smaller than SMALL_BATCH."""


class Lane(NamedTuple):
    """What sets one run apart: its random key, and the numbers of its optimizer, schedule and clipping."""

    key: Array
    order: Array
    """Which of the program's orders of examples it sees, []: lanes of one seed see the same batches."""
    steps: Array
    """Of the run, []: what a schedule goes by."""
    numbers: dict[str, dict[str, Array]]


class State(NamedTuple):
    """What a step changes."""

    step: Array
    """Steps done, []."""
    model: MLP
    running: tuple[Moments | None, ...]
    optimizer: optax.OptState


class Scalars(NamedTuple):
    """What every step reports: [] each."""

    train_loss: Array
    train_accuracy: Array
    learning_rate: Array


class Record(NamedTuple):
    """What a measured step reports besides."""

    gradient_log10: Array
    """log10 of the norm of the gradient of all parameters, []."""
    layers: LayerRecord


class Evaluation(NamedTuple):
    """Mean loss and accuracy over a whole split: [] each."""

    loss: Array
    accuracy: Array


def lane_keys(key: Array) -> tuple[Array, Array]:
    """Returns a lane's key for its initial weights and its key for the noise of training."""
    initial, noise = jax.random.split(key)
    return initial, noise


def first_state(program: Program, weights: tuple[InitialWeights, ...], numbers: dict[str, dict[str, Any]]) -> State:
    """Returns one lane's state before the first step, with its initial weights and its `numbers_of` the config."""
    mlp: Any = MLP(program.config.model, weights)
    optimizer, _ = _with_numbers(program, numbers)
    return State(jnp.zeros((), jnp.int32), mlp, mlp.initial_moments(), optimizer.transform(1.0).init(mlp))


def fit_lane(program: Program, rule: LSUV, state: State, key: Array, data: Images, first: Array) -> State:
    """Returns one lane's state with its weights fitted to the examples `first` [n], as LSUV does."""
    x = encode(data, first, program.config.data.input, master_dtype(program.config))
    return state._replace(model=fit_to_data(state.model, x, lane_keys(key)[1], rule))


def _with_numbers(program: Program, numbers: dict[str, dict[str, Any]]) -> tuple[Optimizer, Clip]:
    """The program's optimizer and clipping, whose own numbers are blank, with a lane's."""
    train = program.config.train
    schedule = fill(train.optimizer.schedule, numbers["schedule"])
    optimizer = fill(train.optimizer, {**numbers["optimizer"], "schedule": schedule})
    return optimizer, fill(train.clip, numbers["clip"])


def make_step(
    program: Program, *, measured: bool
) -> Callable[[State, Lane, Images, Array], tuple[State, Scalars, Record | None]]:
    """Returns the step of one lane: (state, lane, data, index [B]) to the next state, its scalars and, if measured, its
    record.

    The measured step and the plain one leave the same state.
    """
    config = program.config
    tier = config.log.statistics if measured else "none"
    measures = tier != "none"
    dtype = compute_dtype(config)
    needs_key = config.model.activation.random or config.model.dropout > 0

    def loss_of(mlp: MLP, probes: tuple[Probe, ...] | None, zero: Array, x: Array, labels: Array, key: Array | None):
        logits, moments, forward = mlp(x, zero, probes, key, tier)
        logits = logits.astype(master_dtype(config))
        loss = LOSSES[config.train.loss](logits, labels).mean()
        accuracy = jnp.mean(jnp.argmax(logits, -1) == labels, dtype=loss.dtype)
        return loss, (accuracy, moments, forward)

    def step(state: State, lane: Lane, data: Images, index: Array) -> tuple[State, Scalars, Record | None]:
        index = shared(index)
        x = encode(data, index, config.data.input, master_dtype(config)).astype(dtype)
        labels = data.labels[index]
        key = jax.random.fold_in(lane_keys(lane.key)[1], state.step) if needs_key else None
        optimizer, clip = _with_numbers(program, lane.numbers)
        learning_rate = optimizer.learning_rate * optimizer.schedule(state.step, lane.steps)

        probes = state.model.empty_probes(config.log.statistics) if measures else None
        zero = (state.step < 0).astype(master_dtype(config))  # not a constant to the compiler: see `restore`
        grad = jax.value_and_grad(loss_of, argnums=(0, 1) if measures else 0, has_aux=True)
        mlp: Any = state.model
        (loss, (accuracy, moments, forward)), gradient = grad(mlp, probes, zero, x, labels, key)
        gradient, probe = gradient if measures else (gradient, None)

        transform = optimizer.transform(learning_rate)
        updates, optimizer_state = transform.update(clip(gradient), state.optimizer, mlp)
        mlp = optax.apply_updates(mlp, updates)
        running = state.model.fold_moments(state.running, moments)
        after = State(state.step + 1, mlp, running, optimizer_state)
        scalars = Scalars(loss, accuracy, jnp.asarray(learning_rate, loss.dtype))
        return after, scalars, None if probe is None else make_record(probe, forward, updates, config)

    return step


def make_record(probes: tuple[Probe, ...], forward: Forward, updates: Any, config: Config) -> Record:
    """Returns a step's record from what the taps and the forward pass report, and from the change of the parameters."""
    batch = batch_size_of(config)
    probe = jax.tree.map(lambda *stacks: jnp.concatenate(stacks), *probes)
    of_example = 0.5 * math.log2(batch)
    layers = LayerRecord(
        delta_log10=LOG10_2 * (probe.delta_log2 + of_example),
        weight_grad_log10=LOG10_2 * probe.kernel_log2,
        bias_grad_log10=LOG10_2 * probe.bias_log2,
        weight_grad_zero=probe.kernel_zero,
    )
    if probe.stream_log2 is not None:
        added = jnp.asarray((*config.model.branches, False))
        stream = jnp.where(added, probe.stream_log2, probe.delta_log2)
        layers = layers._replace(stream_grad_log10=LOG10_2 * (stream + of_example))
    if config.log.statistics in ("standard", "full"):
        assert forward.weight_norm is not None
        change = jnp.concatenate([log2_norms(stack.kernel[...]) for stack in updates.stacks])
        named = {name: value for name, value in forward._asdict().items() if name in LayerRecord._fields}
        layers = layers._replace(update_ratio=jnp.exp2(change) / forward.weight_norm, **named)
    if config.log.statistics == "full":
        assert forward.input_exponent is not None
        one_example = math.log2(batch) + probe.noise_log2 + 2 * forward.input_exponent
        noise = noise_scale(one_example - 2 * probe.kernel_log2, batch)
        layers = layers._replace(noise_scale=noise, coherence=probe.coherence)
    # A stack with nothing after its taps reports nothing there.
    rests = [probe.rest_log2 for probe, stack in zip(probes, updates.stacks, strict=True) if stack.learns_after_tap]
    scales: list[Any] = [p.scale_log2 for p, stack in zip(probes, updates.stacks, strict=True) if stack.learns_scale]
    norms = jnp.concatenate([probe.kernel_log2, probe.bias_log2, *rests, *scales])
    return Record(LOG10_2 * log2_root_sum_square(norms), layers)


def is_examined(config: Config) -> bool:
    """Returns whether evaluations look for dead units besides, since batches are too small to tell."""
    return batch_size_of(config) < SMALL_BATCH and config.log.statistics in ("standard", "full")


def examine(program: Program, state: State, lane: Lane, data: Images) -> Array:
    """Returns the share of each hidden layer's units whose slope is 0 for all of a fixed set of examples: [L].

    The set is EXAMINED of the training examples, evenly spread, or all. One lane's net sees it as a training step sees
    its batch.
    """
    config = program.config
    total = data.labels.shape[0]
    index = shared(jnp.asarray(np.linspace(0, total, min(EXAMINED, total), endpoint=False, dtype=np.int32)))
    x = encode(data, index, config.data.input, master_dtype(config)).astype(compute_dtype(config))
    key = jax.random.fold_in(lane_keys(lane.key)[1], state.step)
    _, _, forward = state.model(x, jnp.zeros((), master_dtype(config)), None, key, "standard")
    assert forward.dead is not None
    return forward.dead[:-1]


def evaluate(program: Program, state: State, data: Images) -> Evaluation:
    """Returns one lane's mean loss and accuracy on a whole split."""
    config = program.config
    dtype, wide = compute_dtype(config), master_dtype(config)
    total = data.labels.shape[0]
    devices = devices_per_batch()
    size = -(-min(EVALUATION_BATCH, total) // devices) * devices

    def batch(sums: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
        index = shared(start + jnp.arange(size))
        inside = index < total
        index = jnp.minimum(index, total - 1)
        x = encode(data, index, config.data.input, wide).astype(dtype)
        logits = state.model.evaluate(x, state.running).astype(wide)
        labels = data.labels[index]
        losses = LOSSES[config.train.loss](logits, labels)
        right = jnp.argmax(logits, -1) == labels
        return (
            sums[0] + jnp.sum(jnp.where(inside, losses, 0)),
            sums[1] + jnp.sum(right & inside, dtype=jnp.int32),
        ), None

    zero = (jnp.zeros((), wide), jnp.zeros((), jnp.int32))
    (loss, right), _ = jax.lax.scan(batch, zero, jnp.arange(0, total, size))
    return Evaluation(loss / total, right.astype(wide) / total)
