"""The pure training step, and the jitted chunk of steps that the host calls.

`State` is what a step changes, `Lane` what sets one run apart from its neighbours, `Program` what is compiled.
Everything is written for one lane; the chunk maps it over R of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from vgx.config import Config
from vgx.data import Dataset, Split
from vgx.model import MLP, fit_to_data
from vgx.parts import Clip, Optimizer
from vgx.parts.initializers import LSUV
from vgx.parts.normalizations import Moments
from vgx.probes import LOG10_2, Forward, LayerRecord, Probe, log2_norm, log2_root_sum_square, noise_scale
from vgx.registry import Part

EVALUATION_BATCH = 1000


class Program(NamedTuple):
    """What is compiled: the config (but for the numbers that lanes carry), the data's sizes, the length of the run."""

    config: Config
    features: int
    classes: int
    steps: int


class Lane(NamedTuple):
    """What sets one run apart: its random key, and the numbers of its optimizer, schedule and clipping."""

    key: Array
    numbers: dict[str, dict[str, Array]]


class State(NamedTuple):
    """What a step changes."""

    step: Array
    """Steps done, []."""
    model: MLP
    running: tuple[Moments | None, ...]
    optimizer: optax.OptState


class Images(NamedTuple):
    """A split on the device, and how its raw values become inputs."""

    images: Array
    """[n, D], as stored: uint8, or float32."""
    labels: Array
    """[n] int32."""
    scale: Array
    """The raw value that becomes 1, []."""
    mean: Array
    """Of each input over the training set, [D]."""
    std: Array
    """Of each input over the training set, [D]."""


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


def numbers_of(config: Config) -> dict[str, dict[str, float]]:
    """Returns the numbers of a config that a lane carries as data: the float options of optimizer, schedule and
    clipping.

    A 0 is left out: it may switch a term off, and that is the program's business.
    """
    optimizer, clip = config.train.optimizer, config.train.clip
    return {"optimizer": _floats(optimizer), "schedule": _floats(optimizer.schedule), "clip": _floats(clip)}


def _floats(part: Part) -> dict[str, float]:
    fields = type(part).model_fields
    return {name: value for name, value in part if fields[name].annotation is float and value != 0}


def to_device(split: Split, dataset: Dataset) -> Images:
    """Returns the split on the device, in the types it is stored in."""
    return Images(
        jnp.asarray(split.images),
        jnp.asarray(split.labels),
        *map(jnp.asarray, (np.float32(dataset.scale), dataset.mean, dataset.std)),
    )


def encode(data: Images, index: Array, kind: str, dtype: jnp.dtype) -> Array:
    """Returns the inputs [B, D] of the examples `index` [B], encoded as `data.input` says."""
    unit = data.images[index].astype(dtype) / data.scale.astype(dtype)
    match kind:
        case "centered":
            return unit - 0.5
        case "standardized":
            return (unit - data.mean.astype(dtype)) / data.std.astype(dtype)
        case "binary":
            return (unit >= 0.5).astype(dtype)
        case _:
            return unit


def compute_dtype(config: Config) -> jnp.dtype:
    """Returns the type of the arithmetic; parameters are float64 with float64 and float32 otherwise."""
    return jnp.dtype(config.train.precision)


def master_dtype(config: Config) -> jnp.dtype:
    """Returns the type in which parameters, losses and inputs are kept."""
    return jnp.promote_types(compute_dtype(config), jnp.float32)


def lane_keys(key: Array) -> tuple[Array, Array]:
    """Returns a lane's key for its initial weights and its key for the noise of training."""
    initial, noise = jax.random.split(key)
    return initial, noise


def initial_state(program: Program, lane: Lane, data: Images, first: Array) -> State:
    """Returns one lane's state before the first step; LSUV looks at the examples `first` [n]."""
    model_config = program.config.model
    initial, noise = lane_keys(lane.key)
    mlp = MLP(model_config, program.features, program.classes, initial)
    if isinstance(model_config.initializer, LSUV):
        x = encode(data, first, program.config.data.input, master_dtype(program.config))
        mlp = fit_to_data(mlp, x, noise, model_config.initializer)
    return _state_of(program, mlp)


def _state_of(program: Program, mlp: Any) -> State:
    optimizer = program.config.train.optimizer
    return State(jnp.zeros((), jnp.int32), mlp, mlp.initial_moments(), optimizer.transform(1.0).init(mlp))


def lane_axes(program: Program) -> State:
    """Returns, for each leaf of a state, where the axis of lanes stands: behind the axis of layers where there is one.

    So a scan over layers takes its slices, [R, ...], without transposing the weights of all lanes at every step.
    """
    size = program.config.model, program.features, program.classes
    one = jax.eval_shape(lambda: _state_of(program, MLP(*size, jax.random.key(0))))
    return jax.tree.map(lambda leaf: int(leaf.ndim > 1), one)


def make_initial_states(program: Program) -> Callable[[Lane, Images, Array], State]:
    """Returns the jitted start of R lanes: `initial_state` of each, stacked along `lane_axes`."""
    return jax.jit(jax.vmap(partial(initial_state, program), (0, None, None), lane_axes(program)))


def _optimizer(program: Program, lane: Lane) -> tuple[Optimizer, Clip]:
    """The config's optimizer and clipping, with the lane's numbers in place of the config's."""
    train = program.config.train
    schedule = train.optimizer.schedule.model_copy(update=lane.numbers["schedule"])
    optimizer = train.optimizer.model_copy(update={**lane.numbers["optimizer"], "schedule": schedule})
    return optimizer, train.clip.model_copy(update=lane.numbers["clip"])


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
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        accuracy = jnp.mean(jnp.argmax(logits, -1) == labels, dtype=loss.dtype)
        return loss, (accuracy, moments, forward)

    def step(state: State, lane: Lane, data: Images, index: Array) -> tuple[State, Scalars, Record | None]:
        x = encode(data, index, config.data.input, master_dtype(config)).astype(dtype)
        labels = data.labels[index]
        key = jax.random.fold_in(lane_keys(lane.key)[1], state.step) if needs_key else None
        optimizer, clip = _optimizer(program, lane)
        learning_rate = optimizer.learning_rate * optimizer.schedule(state.step, program.steps)

        probes = state.model.empty_probes() if measures else None
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


def _over_lanes(
    program: Program, *, measured: bool
) -> Callable[[State, Lane, Images, Array], tuple[State, Scalars, Record | None]]:
    """The step of R lanes."""
    axes = lane_axes(program)
    return jax.vmap(make_step(program, measured=measured), (axes, 0, None, 0), (axes, 0, 0))


def make_record(probes: tuple[Probe, ...], forward: Forward, updates: Any, config: Config) -> Record:
    """Returns a step's record from what the taps and the forward pass report, and from the change of the parameters."""
    batch = config.train.batch_size
    probe = jax.tree.map(lambda *stacks: jnp.concatenate(stacks), *probes)
    layers = LayerRecord(
        delta_log10=LOG10_2 * (probe.delta_log2 + 0.5 * math.log2(batch)),
        weight_grad_log10=LOG10_2 * probe.kernel_log2,
        bias_grad_log10=LOG10_2 * probe.bias_log2,
        weight_grad_zero=probe.kernel_zero,
    )
    if config.log.statistics in ("standard", "full"):
        assert forward.weight_norm is not None
        change = jnp.concatenate([jax.vmap(log2_norm)(stack.kernel[...]) for stack in updates.stacks])
        named = {name: value for name, value in forward._asdict().items() if name in LayerRecord._fields}
        layers = layers._replace(update_ratio=jnp.exp2(change) / forward.weight_norm, **named)
    if config.log.statistics == "full":
        assert forward.input_exponent is not None
        one_example = math.log2(batch) + probe.noise_log2 + 2 * forward.input_exponent
        layers = layers._replace(noise_scale=noise_scale(one_example - 2 * probe.kernel_log2, batch))
    # A stack with nothing after its taps reports nothing there.
    rests = [probe.rest_log2 for probe, stack in zip(probes, updates.stacks, strict=True) if stack.learns_after_tap]
    norms = jnp.concatenate([probe.kernel_log2, probe.bias_log2, *rests])
    return Record(LOG10_2 * log2_root_sum_square(norms), layers)


class Chunk(NamedTuple):
    """What a chunk of steps reports. Rows past those that ran are zeros."""

    scalars: Scalars
    """[P, every, R]: a row per period, a column per step of it."""
    records: Record | None
    """[P, R, ...]: of the first step of each period; None with `statistics: none`."""


def make_chunk(program: Program, periods: int) -> Any:
    """Returns the jitted chunk of up to `periods` periods of one measured and (every - 1) plain steps, for R lanes.

    It takes the states (stacked along `lane_axes`) and lanes, the data, indices [P, every, R, B], and how many steps
    each period really has [P] (0: the period is left out). One compiled program serves every length of chunk; the state
    is donated.
    """
    every = program.config.log.every
    measured = _over_lanes(program, measured=program.config.log.statistics != "none")
    plain = _over_lanes(program, measured=False)

    @partial(jax.jit, donate_argnums=0)
    def chunk(state: State, lane: Lane, data: Images, indices: Array, lengths: Array) -> tuple[State, Chunk]:
        def period(i: Array, carry: tuple[State, Chunk]) -> tuple[State, Chunk]:
            state, log = carry
            state, scalars, record = measured(state, lane, data, indices[i, 0])
            rows = _write(log.scalars, (i, 0), scalars)
            if every > 1:

                def rest(j: Array, carry: tuple[State, Scalars]) -> tuple[State, Scalars]:
                    state, scalars, _ = plain(carry[0], lane, data, indices[i, j])
                    return state, _write(carry[1], (i, j), scalars)

                state, rows = jax.lax.fori_loop(1, lengths[i], rest, (state, rows))
            return state, Chunk(rows, None if record is None else _write(log.records, (i,), record))

        _, scalars, record = jax.eval_shape(measured, state, lane, data, indices[0, 0])
        empty = Chunk(_room(scalars, (periods, every)), None if record is None else _room(record, (periods,)))
        return jax.lax.fori_loop(0, jnp.sum(lengths > 0), period, (state, empty))

    return chunk


def make_plain_steps(program: Program, steps: int) -> Any:
    """Returns the jitted run of up to `steps` plain steps: what is left of a period that an evaluation cut in two.

    It takes state and lane, the data, indices [steps, R, B] and how many steps to do; returns scalars [steps, R].
    """
    plain = _over_lanes(program, measured=False)

    @partial(jax.jit, donate_argnums=0)
    def rest(state: State, lane: Lane, data: Images, indices: Array, count: Array) -> tuple[State, Scalars]:
        def one(j: Array, carry: tuple[State, Scalars]) -> tuple[State, Scalars]:
            state, scalars, _ = plain(carry[0], lane, data, indices[j])
            return state, _write(carry[1], (j,), scalars)

        _, scalars, _ = jax.eval_shape(plain, state, lane, data, indices[0])
        return jax.lax.fori_loop(0, count, one, (state, _room(scalars, (steps,))))

    return rest


def _room(shapes: Any, leading: tuple[int, ...]) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros((*leading, *leaf.shape), leaf.dtype), shapes)


def _write(log: Any, place: tuple[Any, ...], values: Any) -> Any:
    return jax.tree.map(lambda room, value: room.at[place].set(value), log, values)


def make_evaluate(program: Program) -> Callable[[State, Images], Evaluation]:
    """Returns the jitted evaluation of R lanes on a whole split: mean loss and accuracy, [R] each."""
    config = program.config
    dtype, wide = compute_dtype(config), master_dtype(config)

    def evaluate(state: State, data: Images) -> Evaluation:
        total = data.labels.shape[0]
        size = min(EVALUATION_BATCH, total)

        def batch(sums: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
            index = start + jnp.arange(size)
            inside = index < total
            index = jnp.minimum(index, total - 1)
            x = encode(data, index, config.data.input, wide).astype(dtype)
            logits = state.model.evaluate(x, state.running).astype(wide)
            labels = data.labels[index]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            right = jnp.argmax(logits, -1) == labels
            return (
                sums[0] + jnp.sum(jnp.where(inside, losses, 0)),
                sums[1] + jnp.sum(right & inside, dtype=jnp.int32),
            ), None

        zero = (jnp.zeros((), wide), jnp.zeros((), jnp.int32))
        (loss, right), _ = jax.lax.scan(batch, zero, jnp.arange(0, total, size))
        return Evaluation(loss / total, right.astype(wide) / total)

    return jax.jit(jax.vmap(evaluate, (lane_axes(program), None)))
