"""Many runs as one program: states stacked on an axis of lanes, the step mapped over it, the axis spread over devices.

A lane's numbers do not depend on its neighbours: nothing is ever summed over lanes. A lane may have several devices,
which share each of its batches and have a copy of its parameters each; no lane's devices wait for another's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from vgx.config.schema import Config
from vgx.parts.initializers import LSUV, Initializer, Zeros
from vgx.training.batches import batch_size_of
from vgx.training.inputs import BATCH, Images, master_dtype, place
from vgx.training.program import Program, blank, fill, floats, numbers_of
from vgx.training.sharpness import sharpness_bytes
from vgx.training.spectrum import spectrum_bytes
from vgx.training.step import (
    EVALUATION_BATCH,
    Lane,
    State,
    first_state,
    fit_lane,
    lane_keys,
)
from vgx.training.weights import InitialWeights, draw_weights, stacks_of

LIGHTLY = {"xla_backend_optimization_level": 1}
"""For programs that run once: XLA compiles random draws much sooner, and they come out the same to the bit."""
LANES = "lanes"
"""The mesh axis that the lanes are spread over."""


def spread_over(devices: Sequence[Any], lanes: int, per_run: int = 1) -> Mesh:
    """Returns a mesh of lanes by batch: `per_run` devices for each of as many lanes at once as there are devices
    for."""
    groups = max(1, min(len(devices) // per_run, lanes))
    return Mesh(np.array(devices[: groups * per_run]).reshape(groups, per_run), (LANES, BATCH))


def lanes_on(mesh: Mesh, lanes: int) -> int:
    """Returns how many lanes a program for `lanes` has: a multiple of those that are worked on at once; the last ones
    are padding."""
    return -(-lanes // mesh.shape[LANES]) * mesh.shape[LANES]


def put(tree: Any, mesh: Mesh, axes: Any = None) -> Any:
    """Returns the tree's arrays on the mesh: a copy on each device, or spread along the lane axis that `axes` names."""
    if axes is None:
        return place(tree, on_each(mesh))
    return jax.tree.map(lambda leaf, axis: place(leaf, NamedSharding(mesh, axis_spec(axis))), tree, axes)


def on_each(mesh: Mesh) -> NamedSharding:
    """Returns how an array stands of which each device has a copy."""
    return NamedSharding(mesh, P())


def axis_spec(axis: int) -> P:
    """Returns how an array whose axis of lanes is `axis` is spread over the devices."""
    return P(*[None] * axis, LANES)


@lru_cache(maxsize=32)
def lane_axes(program: Program) -> State:
    """Returns, for each leaf of a state, where the axis of lanes stands: behind the axis of layers where there is one.

    So a scan over layers takes its slices, [R, ...], without transposing the weights of all lanes at every step.
    """
    return jax.tree.map(lambda leaf: int(leaf.ndim > 1), _state_shape(program))


def _state_shape(program: Program) -> State:
    """The shapes of one lane's state, in the precision that jax is set to."""
    model = program.config.model
    stacks = stacks_of(model.widths, program.features, program.classes, first_alone=model.residual.skips)
    weights = partial(draw_weights, Zeros(), Zeros(), stacks)
    return jax.eval_shape(lambda: first_state(program, weights(jax.random.key(0)), numbers_of(program.config)))


def state_shapes(program: Program, lanes: int, mesh: Mesh) -> State:
    """Returns the shapes of the states of R lanes, stacked along `lane_axes` and spread over the devices."""

    def stacked(leaf: Any, axis: int) -> jax.ShapeDtypeStruct:
        shape = (*leaf.shape[:axis], lanes, *leaf.shape[axis:])
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=NamedSharding(mesh, axis_spec(axis)))

    return jax.tree.map(stacked, _state_shape(program), lane_axes(program))


def make_lanes(configs: Sequence[Config], seeds: Sequence[int], steps: int) -> Lane:
    """Returns what sets R lanes of one program apart, from the config and the seed of each and the length of a run."""
    dtype = master_dtype(configs[0])
    numbers = [numbers_of(config) for config in configs]
    orders = list(dict.fromkeys(seeds))
    return Lane(
        jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32)),
        jnp.asarray([orders.index(seed) for seed in seeds], jnp.int32),
        jnp.full(len(seeds), steps, jnp.int32),
        jax.tree.map(lambda *values: jnp.asarray(values, dtype), *numbers),
    )


def make_initial_states(
    program: Program, configs: Sequence[Config], mesh: Mesh
) -> Callable[[Lane, Images, ArrayLike], State]:
    """Returns the start of R lanes, a config each: their states before the first step, stacked along `lane_axes`.

    Lanes whose weights follow one law are drawn together, by a program that knows nothing of activations, so that all
    programs of a sweep share it. LSUV looks at the examples `first` [n].
    """
    axes = lane_axes(program)
    laws: dict[_InitSpec, list[int]] = {}
    for i, config in enumerate(configs):
        model = config.model
        of_data = program.features, program.classes
        law = _InitSpec(blank(model.initializer), blank(model.bias), model.widths, *of_data, model.residual.skips)
        laws.setdefault(law, []).append(i)

    back = np.argsort([i for members in laws.values() for i in members])

    def begin(lane: Lane, data: Images, first: ArrayLike) -> State:
        weights, fitted = [], []
        for law, members in laws.items():
            numbers = [_initial_numbers(configs[i]) for i in members]
            stacked = jax.tree.map(lambda *values: np.asarray(values, master_dtype(program.config)), *numbers)
            keys = lane.key[np.asarray(members)]
            weights.append(_drawing(law)(keys, stacked))
            if isinstance(law.initializer, LSUV):
                fitted.append((np.asarray(members), law.initializer, keys, stacked["initializer"]))
        states = _growing(program)(weights, back, lane.numbers)
        for members, rule, keys, numbers in fitted:
            own = jax.tree.map(lambda axis, leaf, at=members: leaf[_at(axis, at)], axes, states)
            own = _fitting(program, cast(Any, rule))(own, keys, numbers, data, first)
            states = jax.tree.map(
                lambda axis, leaf, part, at=members: leaf.at[_at(axis, at)].set(part), axes, states, own
            )
        return put(states, mesh, axes)

    return begin


class _InitSpec(NamedTuple):
    """What initial weights depend on, but for a lane's numbers and its key."""

    initializer: Initializer
    bias: Initializer
    widths: tuple[int, ...]
    features: int
    classes: int
    first_alone: bool
    """Whether the first layer is a stack of its own, as in a net with a stream."""


def _initial_numbers(config: Config) -> dict[str, dict[str, float]]:
    return {"initializer": floats(config.model.initializer), "bias": floats(config.model.bias)}


@lru_cache(maxsize=32)
def _drawing(law: _InitSpec) -> Any:
    """The jitted drawing of R lanes' weights, from their keys [R] and numbers [R]; a law is compiled once."""

    def draw(key: Array, numbers: dict[str, dict[str, Array]]) -> tuple[InitialWeights, ...]:
        initializer, bias = fill(law.initializer, numbers["initializer"]), fill(law.bias, numbers["bias"])
        stacks = stacks_of(law.widths, law.features, law.classes, first_alone=law.first_alone)
        return draw_weights(initializer, bias, stacks, lane_keys(key)[0])

    return jax.jit(jax.vmap(draw), compiler_options=LIGHTLY)


@lru_cache(maxsize=32)
def _growing(program: Program) -> Any:
    """The jitted step from the weights of some lanes after others, their order and the lanes' numbers to states."""

    def grow(weights: list[Any], back: Array, numbers: dict[str, dict[str, Array]]) -> State:
        together = jax.tree.map(lambda *parts: jnp.concatenate(parts)[back], *weights)
        return jax.vmap(partial(first_state, program), out_axes=lane_axes(program))(together, numbers)

    return jax.jit(grow, compiler_options=LIGHTLY)


@lru_cache(maxsize=32)
def _fitting(program: Program, rule: Initializer) -> Any:

    def fit(state: State, key: Array, numbers: dict[str, Array], data: Images, first: Array) -> State:
        return fit_lane(program, cast(LSUV, fill(rule, numbers)), state, key, data, first)

    axes = lane_axes(program)
    return jax.jit(jax.vmap(fit, (axes, 0, 0, None, None), axes))


def _at(axis: int, index: np.ndarray) -> tuple[Any, ...]:
    return (*[slice(None)] * axis, index)


def state_bytes(program: Program) -> int:
    """Returns what the state of one lane takes, in bytes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(_state_shape(program)))


def lane_bytes(program: Program, platform: str) -> int:
    """Returns about how much memory one lane more takes on a device of a platform, in bytes: a bound from above.

    On a CPU, where lanes go through a chunk one by one, that is its state; elsewhere what its step works with, too.
    Held by a test against what XLA says of compiled chunks.
    """
    config, states = program.config, 3 * state_bytes(program)
    if platform == "cpu":
        return states
    width = master_dtype(config).itemsize
    activations = width * batch_size_of(config) * sum(config.model.widths)
    inputs = width * batch_size_of(config) * program.features
    evaluation = width * EVALUATION_BATCH * 3 * max(*config.model.widths, program.features)
    spectra = spectrum_bytes(config, program.features, program.classes)
    sharp = sharpness_bytes(config, state_bytes(program))
    return states + max(8 * activations + 2 * inputs, evaluation, sharp, spectra)
