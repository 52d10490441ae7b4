"""The compiled programs of many lanes: chunks of steps, evaluations, examinations. A device takes its lanes in blocks.

A block goes through all of a chunk's steps before the next begins. On a CPU it is one lane, whose weights stay in the
cache, and whose branches are taken or left, where a program mapped over lanes would compute both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from vgx.training.inputs import BATCH, Images, compute_dtype, master_dtype
from vgx.training.lanes import LANES, axis_spec, lane_axes
from vgx.training.program import Program
from vgx.training.sharpness import sharpness
from vgx.training.spectrum import Spectra, spectra
from vgx.training.step import Evaluation, Lane, Record, Scalars, State, evaluate, examine, make_step


class Chunk(NamedTuple):
    """What a chunk of steps reports. Rows past those that ran are zeros."""

    scalars: Scalars
    """[P, every, R]: a row per period, a column per step of it."""
    records: Record | None
    """[P, R, ...]: of the first step of each period; None with `statistics: none`."""


def block_of(lanes: int, platform: str) -> int:
    """Returns how many of a device's lanes go through a chunk together: one on a CPU, all elsewhere."""
    return 1 if platform == "cpu" else lanes


def make_chunk(program: Program, periods: int, mesh: Mesh) -> Any:
    """Returns the jitted chunk of up to `periods` periods of one measured and (every - 1) plain steps, for R lanes.

    It takes the states (stacked along `lane_axes`) and lanes, the data, the batches [P, every, S, B] of each order, and
    how many steps each period really has [P] (0: the period is left out). One compiled program serves every length of
    chunk; the state is donated.
    """
    every = program.config.log.every
    measures = program.config.log.statistics != "none"
    measured, plain = _over_lanes(program, measures), _over_lanes(program, False)

    def chunk(state: State, lane: Lane, data: Images, batches: Array, lengths: Array) -> tuple[State, Chunk]:
        def period(lane: Lane, i: Array, carry: tuple[State, Chunk]) -> tuple[State, Chunk]:
            state, log = carry
            state, scalars, record = measured(state, lane, data, batches[i, 0])
            rows = _write(log.scalars, (i, 0), scalars)
            if every > 1:

                def rest(j: Array, carry: tuple[State, Scalars]) -> tuple[State, Scalars]:
                    state, scalars, _ = plain(carry[0], lane, data, batches[i, j])
                    return state, _write(carry[1], (i, j), scalars)

                state, rows = jax.lax.fori_loop(1, lengths[i], rest, (state, rows))
            return state, Chunk(rows, None if record is None else _write(log.records, (i,), record))

        def block(lane: Lane, carry: tuple[State, Chunk]) -> tuple[State, Chunk]:
            return jax.lax.fori_loop(0, jnp.sum(lengths > 0), partial(period, lane), carry)

        _, scalars, record = jax.eval_shape(measured, state, lane, data, batches[0, 0])
        log = of_log(_zeros(scalars, (periods, every)), _zeros(record, (periods,)))
        return _by_block(mesh, block, (lane, 0), ((state, log), (lane_axes(program), of_log(2, 1))))

    def of_log(scalars: Any, records: Any) -> Chunk:
        return Chunk(scalars, records if measures else None)

    specs = _specs(program), of_log(axis_spec(2), axis_spec(1))
    return _on_every_device(chunk, mesh, _takes(program), specs, donate_argnums=0)


def make_plain_steps(program: Program, steps: int, mesh: Mesh) -> Any:
    """Returns the jitted run of up to `steps` plain steps: what is left of a period that an evaluation cut in two.

    It takes state and lane, the data, batches [steps, S, B] and how many steps to do; returns scalars [steps, R].
    """
    plain = _over_lanes(program, False)

    def rest(state: State, lane: Lane, data: Images, batches: Array, count: Array) -> tuple[State, Scalars]:
        def one(lane: Lane, j: Array, carry: tuple[State, Scalars]) -> tuple[State, Scalars]:
            state, scalars, _ = plain(carry[0], lane, data, batches[j])
            return state, _write(carry[1], (j,), scalars)

        def block(lane: Lane, carry: tuple[State, Scalars]) -> tuple[State, Scalars]:
            return jax.lax.fori_loop(0, count, partial(one, lane), carry)

        _, scalars, _ = jax.eval_shape(plain, state, lane, data, batches[0])
        return _by_block(mesh, block, (lane, 0), ((state, _zeros(scalars, (steps,))), (lane_axes(program), 1)))

    return _on_every_device(rest, mesh, _takes(program), (_specs(program), axis_spec(1)), donate_argnums=0)


def make_evaluate(program: Program, mesh: Mesh) -> Any:
    """Returns the jitted evaluation of R lanes: (state, split) to its mean loss and accuracy, [R] each."""
    axes = lane_axes(program)
    each = jax.vmap(partial(evaluate, program), (axes, None))

    def evaluation(state: State, data: Images) -> Evaluation:
        empty = Evaluation(*[jnp.zeros(_count(state, axes), master_dtype(program.config))] * 2)
        return _by_block(mesh, lambda state, _: each(state, data), (state, axes), (empty, 0))

    return _on_every_device(evaluation, mesh, (_specs(program), P()), axis_spec(0))


def make_examine(program: Program, mesh: Mesh) -> Callable[[State, Lane, Images], Array]:
    """Returns the jitted search of R lanes for dead units, on training examples: the share in each layer, [R, L]."""
    axes = lane_axes(program)
    each = jax.vmap(partial(examine, program), (axes, 0, None))

    def examination(state: State, lane: Lane, data: Images) -> Array:
        empty = jnp.zeros((_count(state, axes), len(program.config.model.widths)), compute_dtype(program.config))
        return _by_block(mesh, lambda read, _: each(read[0], read[1], data), ((state, lane), (axes, 0)), (empty, 0))

    return _on_every_device(examination, mesh, (_specs(program), axis_spec(0), P()), axis_spec(0))


def make_sharpness(program: Program, mesh: Mesh) -> Callable[[State, Images], Array]:
    """Returns the jitted sharpness of R lanes on training examples, [R]."""
    axes = lane_axes(program)
    each = jax.vmap(partial(sharpness, program), (axes, None))

    def measure(state: State, data: Images) -> Array:
        empty = jnp.zeros(_count(state, axes), master_dtype(program.config))
        return _by_block(mesh, lambda state, _: each(state, data), (state, axes), (empty, 0))

    return _on_every_device(measure, mesh, (_specs(program), P()), axis_spec(0))


def make_spectra(program: Program, mesh: Mesh) -> Callable[[State, Images], Spectra]:
    """Returns the jitted singular values of the Jacobians of R lanes at single training examples: [R, E, ...] each."""
    axes = lane_axes(program)
    each = jax.vmap(partial(spectra, program), (axes, None))

    def measure(state: State, data: Images) -> Spectra:
        shape = jax.eval_shape(each, state, data)
        empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
        return _by_block(mesh, lambda state, _: each(state, data), (state, axes), (empty, 0))

    return _on_every_device(measure, mesh, (_specs(program), P()), axis_spec(0))


@lru_cache(maxsize=32)
def _over_lanes(
    program: Program, measured: bool
) -> Callable[[State, Lane, Images, Array], tuple[State, Scalars, Record | None]]:
    """The step of R lanes, from the batches [S, B] of the S orders that they follow; jitted, so that it is traced once
    for all that is made of it."""
    axes = lane_axes(program)
    step = make_step(program, measured=measured)

    def of_lane(state: State, lane: Lane, data: Images, batches: Array) -> tuple[State, Scalars, Record | None]:
        return step(state, lane, data, batches[lane.order])

    def of_lanes(state: State, lane: Lane, data: Images, batches: Array) -> tuple[State, Scalars, Record | None]:
        if _count(state, axes) > 1:
            return jax.vmap(of_lane, (axes, 0, None, None), (axes, 0, 0))(state, lane, data, batches)
        # one alone keeps its branches, of which a mapped program would compute both
        alone = of_lane(_map(_only, axes, state), _map(_only, 0, lane), data, batches)
        return tuple(
            _map(lambda axis, leaf: jnp.expand_dims(leaf, axis), part_axes, part)
            for part_axes, part in zip((axes, 0, 0), alone, strict=True)
        )

    return jax.jit(of_lanes, inline=True)


def _by_block(
    mesh: Mesh,
    work: Callable[[Any, Any], Any],
    read: tuple[Any, Any],
    written: tuple[Any, Any],
) -> Any:
    """What `work` makes of a device's lanes, block by block, from what it reads and what it writes of them.

    `read` and `written` are trees of arrays, each with a tree of the axes along which their lanes stand.
    """
    (read, read_axes), (written, axes) = read, written
    lanes = _count(written, axes)
    size = block_of(lanes, mesh.devices.flat[0].platform)
    if size == lanes:
        return work(read, written)

    def block(i: Array, written: Any) -> Any:
        def part(axis: int, leaf: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(leaf, i * size, size, axis)

        done = work(_map(part, read_axes, read), _map(part, axes, written))

        def put(axis: int, whole: Array, part: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(whole, part, i * size, axis)

        return _map(put, axes, written, done)

    return jax.lax.fori_loop(0, lanes // size, block, written)


def _map(function: Callable[..., Any], axes: Any, *trees: Any) -> Any:
    """`function(axis, leaf, ...)` over trees, whose axes may be one for all below."""
    return jax.tree.map(lambda axis, *parts: jax.tree.map(partial(function, axis), *parts), axes, *trees)


def _only(axis: int, leaf: Array) -> Array:
    return jax.lax.squeeze(leaf, (axis,))


def _count(tree: Any, axes: Any) -> int:
    return jax.tree.leaves(tree)[0].shape[jax.tree.leaves(axes)[0]]


def _on_every_device(function: Any, mesh: Mesh, takes: Any, returns: Any, **options: Any) -> Any:
    """The jitted function, which each device runs on its own lanes; `takes` and `returns` say where the axis stands.

    Where several devices share a lane's batches, the compiler splits the work on them: a program is written for the
    whole batch, and so are its sums, its random draws and its powers of two.
    On a CPU of several devices XLA is asked to do each one's matrix products in one thread (of what jax 0.10.2 makes of
    that, nothing was measured: both ways take as long).
    """
    if mesh.size > 1:
        apart = {LANES} if mesh.shape[BATCH] > 1 else {LANES, BATCH}
        specs = {"in_specs": takes, "out_specs": returns, "axis_names": apart}
        function = jax.shard_map(function, mesh=mesh, check_vma=False, **specs)
        if mesh.devices.flat[0].platform == "cpu":
            options["compiler_options"] = {"xla_cpu_multi_thread_eigen": False}
    return jax.jit(function, **options)


def _specs(program: Program) -> State:
    return jax.tree.map(axis_spec, lane_axes(program))


def _takes(program: Program) -> tuple[Any, ...]:
    return _specs(program), axis_spec(0), P(), P(), P()


def _zeros(shapes: Any, leading: tuple[int, ...]) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros((*leading, *leaf.shape), leaf.dtype), shapes)


def _write(log: Any, place: tuple[Any, ...], values: Any) -> Any:
    return jax.tree.map(lambda rows, value: rows.at[place].set(value), log, values)
