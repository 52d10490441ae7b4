"""Which lanes ride together: cells grouped by what must be compiled, in rounds that fit into memory."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
from rich.filesize import decimal

from vgx.config.schema import NO_NUMBERS, Config, Section
from vgx.data import Dataset
from vgx.devices import Device, PerRun, resolve_per_run
from vgx.errors import ConfigError, VgxError
from vgx.registry import Part, remembered
from vgx.results.sizes import parse_size
from vgx.runner.preparation import steps_of
from vgx.training.batches import batch_size_of
from vgx.training.lanes import lane_bytes
from vgx.training.program import Program, shared_config, shared_model, shared_train
from vgx.training.spectrum import spectrum_bytes

COMPILE_SECONDS = 6.0
"""About what a program takes to be traced and compiled."""
SHARE = 0.4
"""About how fast a step is, by the operations of its matrix products, as a share of the speed of one large product."""


HESSIAN_PRODUCTS = 20
"""About what a sharpness takes, each with three times the operations of a gradient."""
FACTORIZATION = 10
"""Floating-point operations with which a Jacobian is multiplied with one more layer's, over the number of its entries
times its smaller side."""
IDLE = 0.1
"""The share of the workers' time that may be lost at the end of a sweep, before programs are parted among rounds."""
MEASURE_SECONDS = 0.2
"""For how long the speed of a product is measured, at the most."""


class PlannedRound(NamedTuple):
    """Lanes to be run side by side."""

    program: str
    """Twelve hexadecimal digits that tell what is compiled."""
    lanes: tuple[int, ...]
    steps: int
    """Of each lane."""
    capacity: int
    """How many lanes the compiled program has; those beyond `lanes` are padding."""
    bytes: int
    """About what it takes on all devices together, at the most."""
    products: float
    """Floating-point operations of the matrix products in all its steps, and half of those in its evaluations, whose
    products are larger and so about twice as fast."""


class PlannedPlace(NamedTuple):
    """What one worker of a cluster would do."""

    host: str
    devices: list[str]
    rounds: list[int]
    lanes: int
    seconds: float
    """About how long it takes."""


def program_key(config: Config) -> str:
    """Returns what tells programs apart: lanes of equal keys can ride side by side."""
    return _digest(config.data, shared_model(config.model), shared_train(config.train), config.log)


@remembered
def _digest(data: Part, *sections: Section) -> str:
    of_data = data.model_dump_json(exclude=NO_NUMBERS["data"])
    texts = [of_data, *(section.model_dump_json(exclude=section.later_defaults) for section in sections)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def plan_rounds(
    lanes: Sequence[tuple[int, Config]],
    data: Callable[[Config], Dataset],
    devices: Sequence[Device],
    memory: int,
    per_run: PerRun = 1,
    workers: int = 1,
) -> list[PlannedRound]:
    """Returns the rounds in which to run these lanes, given by number and config; lanes of one program stay together.

    Args:
        lanes: in order.
        data: gives a config's data set.
        devices: what the lanes are spread over.
        memory: bytes that a round may take on all devices together.
        per_run: how many devices share the batches of each lane.
        workers: how many rounds run at a time, each on such devices: with too few programs to keep them all at work,
            the lanes of a program are parted among rounds.

    Raises RunError where the devices of a program cannot share its batches.
    """
    programs: dict[str, list[int]] = {}
    first: dict[str, Config] = {}
    for lane, config in lanes:
        key = program_key(config)
        programs.setdefault(key, []).append(lane)
        first.setdefault(key, config)
    parts = rounds_each(len(programs), workers)
    return [
        planned
        for key, members in programs.items()
        for planned in _rounds(key, members, first[key], data(first[key]), devices, memory, per_run, parts)
    ]


def rounds_each(programs: int, workers: int) -> int:
    """Returns in how many rounds to part each program, so that workers lose no more than IDLE of their time at the end.

    Rounds are taken as equally long, and there are as many as workers at least.
    """
    for parts in range(1, workers):
        rounds = programs * parts
        if rounds >= workers and -(-rounds // workers) * workers <= rounds * (1 + IDLE):
            return parts
    return workers


def _rounds(
    key: str,
    members: list[int],
    config: Config,
    dataset: Dataset,
    devices: Sequence[Device],
    memory: int,
    per_run: PerRun,
    parts: int,
) -> list[PlannedRound]:
    check_spectrum_fits(config, dataset, memory // len(devices))
    examples, features = dataset.train.images.shape
    steps, shared = steps_of(config, dataset), shared_config(config, examples)
    parts = min(parts, len(members))
    share = resolve_per_run(per_run, len(devices), -(-len(members) // parts), batch_size_of(shared))
    each = share * lane_bytes(Program(shared, features, dataset.classes), devices[0].platform)
    spread = min(len(devices) // share, -(-len(members) // parts))
    most = max(memory // each // spread, 1) * spread
    count = max(-(-len(members) // most), parts)
    capacity = -(-len(members) // (count * spread)) * spread
    held_out = sum(len(split.labels) for split in (dataset.validation, dataset.test) if split is not None)
    each_lane = steps * _products(shared, features, dataset.classes)
    each_lane += -(-steps // config.train.evaluate_every) * held_out * _forward(config, features, dataset.classes) / 2
    if config.log.sharpness:
        seen = min(config.log.sharpness.examples, examples) / batch_size_of(shared)
        each_step = _products(shared, features, dataset.classes)
        each_lane += -(-steps // config.train.evaluate_every) * HESSIAN_PRODUCTS * 3 * seen * each_step
    if spectrum := config.log.spectrum:
        at, sizes = spectrum.at, [*config.model.widths, dataset.classes]
        times = len(at) if isinstance(at, tuple) else 1 if at == "first" else -(-steps // config.train.evaluate_every)
        of_one = sum(FACTORIZATION * a * b * (min(a, b) + dataset.classes) for a, b in pairwise(sizes))
        each_lane += times * min(spectrum.examples, examples) * of_one
    groups = [tuple(members[start : start + capacity]) for start in range(0, len(members), capacity)]
    return [PlannedRound(key, group, steps, capacity, capacity * each, capacity * each_lane) for group in groups]


def check_spectrum_fits(config: Config, dataset: Dataset, memory: int) -> None:
    """Raises ConfigError where a Jacobian does not fit into a device's memory, in bytes."""
    takes = spectrum_bytes(config, dataset.train.images.shape[1], dataset.classes)
    if takes > memory:
        sizes = f"take about {decimal(takes)}, and there are {decimal(memory)}"
        raise ConfigError(f"log.spectrum: the Jacobians of this net {sizes}; make it narrower, or leave them out")


def _products(config: Config, features: int, classes: int) -> float:
    """Floating-point operations of one step's matrix products: forward, to the weights, and down to all but the
    input."""
    first = 2.0 * features * config.model.widths[0]
    return batch_size_of(config) * (3 * _forward(config, features, classes) - first)


def _forward(config: Config, features: int, classes: int) -> float:
    """Floating-point operations of the matrix products with which one example is classified."""
    sizes = [features, *config.model.widths, classes]
    return 2.0 * sum(a * b for a, b in pairwise(sizes))


def seconds_for(rounds: Sequence[PlannedRound], devices: Sequence[Device]) -> float:
    """Returns about how long rounds take, in seconds, from the speed of a large matrix product on this machine."""
    per_second = speed(devices[0])
    if devices[0].platform != "cpu":
        per_second *= len(devices)  # on a CPU, one product had all cores
    programs = len({planned.program for planned in rounds})
    return programs * COMPILE_SECONDS + sum(planned.products for planned in rounds) / (SHARE * per_second)


@cache
def speed(device: Device) -> float:
    """Floating-point operations per second of a large matrix product: the median of some, since others may work, too.

    Measured once, so that the times of several sweeps are of one measure.
    """
    size, times = 512, []
    x = jax.device_put(jnp.ones((size, size)), device)
    multiply = jax.jit(lambda x: x @ x)
    multiply(x).block_until_ready()
    while len(times) < 5 or (sum(times) < MEASURE_SECONDS and len(times) < 200):
        began = time.perf_counter()
        multiply(x).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * size**3 / sorted(times)[len(times) // 2]


def parse_memory(text: str) -> int:
    """Returns the bytes in a text such as 4GB, 512 MiB or 2e9. Raises VgxError for another text."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise VgxError(f"--memory {text}: {error}") from None
