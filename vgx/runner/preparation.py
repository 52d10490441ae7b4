"""Lanes made ready to train: their data and states on the devices, their program compiled."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow.compute as pc
from jax.sharding import Mesh

from vgx.config.schema import Config
from vgx.data import Dataset, Split
from vgx.devices import Device, PerRun, numerics, own, resolve_per_run
from vgx.results.columns import DEAD_UNITS, LAYERS, SHARPNESS
from vgx.results.lane_results import first_bad_steps
from vgx.results.spectrum import SPECTRUM
from vgx.results.store import Run
from vgx.runner import checkpoint, processes
from vgx.training.batches import Batches, ChunkPlan, batch_size_of, batches_of
from vgx.training.chunks import make_chunk, make_evaluate, make_examine, make_plain_steps, make_sharpness, make_spectra
from vgx.training.inputs import Images, master_dtype, to_device
from vgx.training.lanes import (
    lane_axes,
    lanes_on,
    make_initial_states,
    make_lanes,
    on_each,
    put,
    spread_over,
    state_shapes,
)
from vgx.training.program import Program, shared_config
from vgx.training.step import LSUV_EXAMPLES, Lane, State, is_examined

CHUNK_BYTES = 2**24
"""What the batches and the records of one chunk may take on the device."""
NEVER = np.iinfo(np.int64).max


class LaneSpec(NamedTuple):
    """One lane to train."""

    lane: int
    """Its number in the run's tables."""
    cell: int
    """Lanes of one cell differ in the seed alone, and stop together."""
    config: Config
    seed: int


class LaneGroup(NamedTuple):
    """Lanes of one program, to train side by side."""

    lane_specs: Sequence[LaneSpec]
    capacity: int
    """How many lanes the compiled program has, at least; those beyond the specs are padding."""
    dataset: Dataset
    checkpoint: str
    """The folder of its checkpoint in the run directory."""
    step: int
    """The step of the checkpoint to resume from; 0: there is none."""
    bad_since: Mapping[int, int] = MappingProxyType({})
    """The first step of each lane, by its number, that was NaN or infinite up to the checkpoint, of those that had
    one."""


class Compiled(NamedTuple):
    """A program, compiled for R lanes: every group of that many can use it."""

    chunk: Any
    plain: Any
    evaluate: dict[str, Future[Any]]
    """By split; compiled while the first chunks run."""
    examine: Any
    """None where batches are large enough."""
    sharpness: Any
    """None where it is not asked for, as the next."""
    spectra: Any


class Shape(NamedTuple):
    """What is compiled for a group of lanes: with equal ones, one will do."""

    program: Program
    mesh: Mesh
    lanes: int
    seeds: int
    splits: tuple[tuple[str, int], ...]
    """The names and sizes of what is evaluated."""

    @property
    def capacity(self) -> tuple[int, int]:
        """The most periods in a chunk, and the most steps of one period."""
        config = self.program.config
        measures = config.log.statistics != "none"
        longest = min(config.log.every if measures else 1, 256)
        columns = len(LAYERS) if measures else 0
        bytes_per_period = master_dtype(config).itemsize * self.lanes * (len(config.model.widths) + 1) * columns
        bytes_per_period += 4 * longest * self.seeds * batch_size_of(config)
        return max(1, min(256, CHUNK_BYTES // bytes_per_period)), longest


class Compiling(NamedTuple):
    """A program on its way: Python writes it down, then XLA compiles it, and leaves Python alone meanwhile."""

    lowered: Event
    """Set when Python has done its part."""
    compiled: Future[Compiled]


class ProgramCache:
    """What the rounds of a sweep have in common: data on the devices, and programs, compiled in a thread."""

    def __init__(self) -> None:
        self.data: dict[tuple[str, Mesh, np.dtype], tuple[Images, dict[str, Images]]] = {}
        self.programs: dict[Shape, Compiling] = {}
        self.thread = ThreadPoolExecutor(1, "compile")

    def close(self) -> None:
        """Forgets what the thread has not begun: after Ctrl-C it would keep Python from ending."""
        self.thread.shutdown(wait=False, cancel_futures=True)


class Prepared(NamedTuple):
    """Lanes that are ready to train."""

    lane_specs: Sequence[LaneSpec]
    config: Config
    """Of the first lane: what the others have in common with it is what a program needs."""
    shape: Shape
    steps: int
    """Of the run."""
    steps_per_epoch: int
    data: Images
    """The training split."""
    held_out: dict[str, Images]
    batches: Batches
    lane: Lane
    """The numbers of the lanes, [R] each."""
    state: State
    """At the start; the first chunk takes its memory."""
    bad_since: np.ndarray
    """[R], the first step known to be NaN or infinite, or NEVER."""
    compiled: Compiled
    seconds: float
    """What all this took."""

    @property
    def every(self) -> int:
        """Steps from one recorded step to the next."""
        return self.config.log.every if self.config.log.statistics != "none" else 1

    @property
    def measures(self) -> tuple[str, ...]:
        """The columns of the metrics table that only some runs have, and this one has."""
        log, examines = self.config.log, self.compiled.examine is not None
        return (
            (DEAD_UNITS,) * examines + SHARPNESS * (log.sharpness is not None) + SPECTRUM * (log.spectrum is not None)
        )

    @property
    def bytes(self) -> int:
        """What the compiled chunk takes on all devices together, in bytes; 0 where jax cannot tell."""
        memory = self.compiled.chunk.memory_analysis()
        if memory is None:
            return 0
        return self.shape.mesh.size * (memory.temp_size_in_bytes + memory.argument_size_in_bytes)

    def arguments(self, state: State, plan: ChunkPlan, done: int) -> tuple[State, Lane, Images, jax.Array, jax.Array]:
        """Returns what the chunk takes: every step's examples, in places for the most periods and the longest."""
        most, longest = self.shape.capacity
        batches = np.zeros((most, longest, len(self.batches.seeds), self.batches.batch), np.int32)
        lengths = np.zeros(most, np.int32)
        lengths[: len(plan.lengths)] = plan.lengths
        for i, length in enumerate(plan.lengths):
            for j in range(length):
                batches[i, j] = self.batches.at(done + j)
            done += length
        return state, self.lane, self.data, *put((batches, lengths), self.shape.mesh)

    def plain_arguments(self, state: State, plan: ChunkPlan, done: int) -> tuple[Any, ...]:
        """Returns what plain steps take."""
        batches = np.zeros((self.shape.capacity[1], len(self.batches.seeds), self.batches.batch), np.int32)
        for j in range(plan.steps):
            batches[j] = self.batches.at(done + j)
        return state, self.lane, self.data, *put((batches, np.int32(plan.steps)), self.shape.mesh)


def steps_of(config: Config, dataset: Dataset) -> int:
    """Returns how many steps a run has."""
    examples = len(dataset.train.labels)
    return config.train.steps or (config.train.epochs or 0) * (examples // batch_size_of(config, examples))


def mesh_for(group: LaneGroup, devices: Sequence[Device], per_run: PerRun) -> Mesh:
    """Returns lanes by batch: the devices that a group trains on, the same for all groups of its program."""
    lanes = max(group.capacity, len(group.lane_specs))
    batch = batch_size_of(group.lane_specs[0].config, len(group.dataset.train.labels))
    share = resolve_per_run(per_run, len(devices), lanes, batch)
    return spread_over(devices, len(group.lane_specs), share)


def prepare(group: LaneGroup, mesh: Mesh, path: Path | None, cache: ProgramCache) -> Prepared:
    """Puts data and lanes on the devices, compiles, and makes the states or restores them from the run at `path`, which
    only the process that writes it has."""
    began = time.monotonic()
    specs, dataset = group.lane_specs, group.dataset
    config, steps = specs[0].config, steps_of(specs[0].config, dataset)
    compiling = begin_compiling(group, mesh, cache)
    shape = _shape_of(group, mesh)
    data, held_out = _on_devices(dataset, config, shape.mesh, cache)
    padded = [*specs, *[specs[0]] * (shape.lanes - len(specs))]
    configs, seeds = [spec.config for spec in padded], [spec.seed for spec in padded]
    lane = make_lanes(configs, seeds, steps)
    batches = batches_of(config, tuple(dict.fromkeys(seeds)), len(dataset.train.labels))
    try:
        compiling.lowered.wait()  # first: two threads of Python would hold each other up
        state = _states(group, shape.program, configs, lane, shape.mesh, path)
        compiled = compiling.compiled.result()
    except BaseException:
        cache.programs.pop(shape, None)  # another try compiles anew
        raise
    jax.block_until_ready(state)
    return Prepared(
        lane_specs=specs,
        config=config,
        shape=shape,
        steps=steps,
        steps_per_epoch=batches.per_epoch,
        data=data,
        held_out=held_out,
        batches=batches,
        lane=put(lane, shape.mesh, jax.tree.map(lambda leaf: 0, lane)),
        state=state,
        bad_since=np.array([group.bad_since.get(spec.lane, NEVER) for spec in specs]),
        compiled=compiled,
        seconds=time.monotonic() - began,
    )


def begin_compiling(group: LaneGroup, mesh: Mesh, cache: ProgramCache) -> Compiling:
    """Has a group's program compiled in a thread, unless it has been; of earlier ones, the cache keeps the newest."""
    shape, config = _shape_of(group, mesh), group.lane_specs[0].config
    if shape not in cache.programs:
        for old in list(cache.programs)[:-1]:
            del cache.programs[old]
        with numerics(config.train.precision, own(shape.mesh)):
            on_devices = _on_devices(group.dataset, config, shape.mesh, cache)
        lowered = Event()
        compiled = cache.thread.submit(_compiled, shape, *on_devices, cache.thread, lowered)
        cache.programs[shape] = Compiling(lowered, compiled)
    return cache.programs[shape]


def _shape_of(group: LaneGroup, mesh: Mesh) -> Shape:
    dataset, specs = group.dataset, group.lane_specs
    examples, features = dataset.train.images.shape
    program = Program(shared_config(specs[0].config, examples), features, dataset.classes)
    splits = tuple((name, len(split.labels)) for name, split in _held_out(dataset).items())
    lanes = max(group.capacity, lanes_on(mesh, len(specs)))
    return Shape(program, mesh, lanes, len({spec.seed for spec in specs}), splits)


def _compiled(
    shape: Shape, data: Images, held_out: dict[str, Images], thread: ThreadPoolExecutor, lowered: Event
) -> Compiled:
    """Compiles a program, and leaves its evaluations to be compiled next."""
    program, mesh, (most, longest) = shape.program, shape.mesh, shape.capacity
    config = program.config
    try:
        with numerics(config.train.precision, own(mesh)):
            state = state_shapes(program, shape.lanes, mesh)
            lane = make_lanes([config] * shape.lanes, [0] * shape.lanes, 1)
            lane = put(lane, mesh, jax.tree.map(lambda leaf: 0, lane))
            batches = np.zeros((most, longest, shape.seeds, batch_size_of(config)), np.int32)
            arguments = put((batches, np.zeros(most, np.int32)), mesh)
            chunk = make_chunk(program, most, mesh).lower(state, lane, data, *arguments)
    finally:
        lowered.set()
    with numerics(config.train.precision, own(mesh)):
        chunk = chunk.compile()
        evaluate, examine = make_evaluate(program, mesh), make_examine(program, mesh) if is_examined(config) else None

    def evaluation(images: Images) -> Any:
        with numerics(config.train.precision, own(mesh)):
            return evaluate.lower(state, images).compile()

    evaluations = {name: thread.submit(evaluation, images) for name, images in held_out.items()}
    sharpness = make_sharpness(program, mesh) if config.log.sharpness else None
    spectra = make_spectra(program, mesh) if config.log.spectrum else None
    return Compiled(chunk, make_plain_steps(program, longest, mesh), evaluations, examine, sharpness, spectra)


def _held_out(dataset: Dataset) -> dict[str, Split]:
    return {"test": dataset.test} | ({"validation": dataset.validation} if dataset.validation else {})


def _on_devices(dataset: Dataset, config: Config, mesh: Mesh, cache: ProgramCache) -> tuple[Images, dict[str, Images]]:
    """The training split and the held-out ones, a copy on each device."""
    key = dataset.digest, mesh, master_dtype(config)
    if key not in cache.data:
        train, splits = to_device(dataset.train, dataset, on_each(mesh)), _held_out(dataset).items()
        cache.data[key] = train, {name: to_device(split, dataset, on_each(mesh)) for name, split in splits}
    return cache.data[key]


def _states(
    group: LaneGroup, program: Program, configs: Sequence[Config], lane: Lane, mesh: Mesh, path: Path | None
) -> State:
    """The states to begin with: from the checkpoint, or before the first step."""
    train = group.dataset.train
    few = train._replace(images=train.images[:LSUV_EXAMPLES], labels=train.labels[:LSUV_EXAMPLES])
    begin = make_initial_states(program, configs, mesh)
    arguments = lane, to_device(few, group.dataset), np.arange(len(few.labels))
    if not group.step:
        return begin(*arguments)
    shapes = state_shapes(program, len(configs), mesh)

    def restored() -> State:
        assert path is not None
        return checkpoint.load(path / group.checkpoint, group.step, shapes)

    return put(processes.from_first(restored), mesh, lane_axes(program))


def bad_steps(run: Run, lanes: Sequence[int]) -> dict[int, int]:
    """Returns the first step that was NaN or infinite of those lanes that had one, from what the run's tables hold."""
    return first_bad_steps(run.metrics(where=pc.field("lane").isin(list(lanes))))
