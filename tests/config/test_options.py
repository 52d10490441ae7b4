"""Every option of every part governs something: changed, it changes the run, alone and as a lane beside others.

Over the registries, so that a part's new option without an effect fails here.
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from vgx.config.schema import Config
from vgx.data import DATASETS, Dataset, Source, Split
from vgx.errors import DataError
from vgx.parts import ACTIVATIONS, BIASES, CLIPS, INITIALIZERS, NORMALIZATIONS, OPTIMIZERS, RESIDUALS, SCHEDULES
from vgx.registry import Part, Registry, registry_of
from vgx.training.chunks import make_plain_steps
from vgx.training.inputs import encode, to_device
from vgx.training.lanes import lane_axes, make_initial_states, make_lanes, spread_over
from vgx.training.program import Program, shared_config

FEATURES, CLASSES, EXAMPLES, STEPS, BATCH, SEED = 6, 3, 24, 3, 8, 7

PLACES: dict[Registry[Any], str] = {
    OPTIMIZERS: "train.optimizer",
    SCHEDULES: "train.optimizer.schedule",
    CLIPS: "train.clip",
    BIASES: "model.bias",
    INITIALIZERS: "model.initializer",
    NORMALIZATIONS: "model.normalization",
    RESIDUALS: "model.residual",
    ACTIVATIONS: "model.activation",
}
"""Where a config has a part of each kind."""
SLOW = {INITIALIZERS, NORMALIZATIONS, ACTIVATIONS}
"""Kinds of which nearly every option is another program to compile."""

BASE: dict[str, Any] = {"every": 1, "weight_decay": 0.1}
"""Options to begin from that are not the defaults: a staircase of 1,000 steps has no step in a short run, and a 0 makes
another program than the numbers that lanes differ in."""
UNEVEN = {"name": "normal", "std": 0.5}
"""Biases with which LSUV is not done after one round."""
OTHERS: dict[str, list[Any]] = {"classes": [(2, 1)], "validation": [2], "max_bytes": [1]}
"""Other values of options whose type does not tell any, or not those that matter."""


def base_of(part: type[Part]) -> dict[str, Any]:
    """The options that a part is looked at with: its defaults, and a number for what has none."""
    needed = {name: 0.5 for name, field in part.model_fields.items() if field.is_required()}
    return needed | {name: value for name, value in BASE.items() if name in part.model_fields}


def others(part: type[Part], name: str, now: Any) -> list[Any]:
    """Other values for an option, by its type; some may be out of bounds."""
    field = part.model_fields[name]
    if registry := registry_of(field):
        return [other.name for other in registry]
    kind = next(kind for kind in _alternatives(field.annotation) if kind is not NoneType)
    if name in OTHERS and not (name == "classes" and kind is int):
        return OTHERS[name]
    if kind is bool:
        return [not now]
    if kind is int:
        return [2 * (now or 0) + 2, 1, 2]
    if kind is float:
        return [2 * now, now / 2, 0.3, 0.7, 2.0, 1e-3]
    if get_origin(kind) is Literal:
        return [word for word in get_args(kind) if word != now]
    return OTHERS[name]


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union, without their bounds; a type alone is one of one."""
    if get_origin(annotation) in (Union, UnionType):
        return [one for kind in get_args(annotation) for one in _alternatives(kind)]
    return [annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation]


class Option(NamedTuple):
    """An option of a part that some net has."""

    registry: Registry[Any]
    part: type[Part]
    name: str

    def __str__(self) -> str:
        return f"{self.registry.kind} {self.part.name} {self.name}"

    def config(self, **changed: Any) -> Config:
        """A net small enough to be trained in a moment, with the part in it."""
        config: dict[str, Any] = {
            "model": {
                "width": [5, 5] if self.registry is RESIDUALS else [5],
                "bias": UNEVEN if self.part.name == "lsuv" else "zeros",
            },
            "train": {"batch_size": BATCH, "steps": STEPS, "precision": "float64"},
            "log": {"statistics": "none"},
        }
        place = config
        *sections, key = PLACES[self.registry].split(".")
        for section in sections:
            place = place.setdefault(section, {"name": "sgd"})
        place[key] = {"name": self.part.name} | base_of(self.part) | changed
        return Config.model_validate(config)

    def changes(self) -> Iterator[Config]:
        """The config with each other value of the option that is legal."""
        now = base_of(self.part).get(self.name, self.part.model_fields[self.name].default)
        for value in others(self.part, self.name, now):
            try:
                yield self.config(**{self.name: value})
            except ValidationError:
                continue


def options() -> Iterator[Any]:
    """Every option of every part; quick are those of kinds that lanes differ in, where they are met first."""
    met = set()
    for registry in PLACES:
        for part in registry:
            for name in part.model_fields:
                home = next(one for one in part.__mro__ if name in inspect.get_annotations(one))
                slow = registry in SLOW or (home, name) in met
                met.add((home, name))
                yield pytest.param(Option(registry, part, name), marks=pytest.mark.slow if slow else ())


@cache
def noise() -> Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (EXAMPLES, FEATURES), np.uint8)
    split = Split(images, random.integers(0, CLASSES, EXAMPLES).astype(np.int32))
    mean, std = (x.astype(np.float32) for x in (images.mean(0) / 255, images.std(0) / 255))
    return Dataset("noise", split, None, split, 255.0, CLASSES, mean, std, "0")


COMPILED: dict[tuple[str, int], Any] = {}


def compiled(shared: Config, lanes: int) -> Any:
    """A program and its steps, for R lanes; it knows nothing of what lanes differ in."""
    key = shared.model_dump_json(), lanes
    if key not in COMPILED:
        program, mesh = Program(shared, FEATURES, CLASSES), spread_over(jax.devices()[:1], lanes)
        COMPILED[key] = program, mesh, make_plain_steps(program, STEPS, mesh)
    return COMPILED[key]


def trained(*configs: Config) -> list[Any]:
    """The states of configs that were trained side by side, as one program."""
    program, mesh, steps = compiled(shared_config(configs[0]), len(configs))
    lane, data = make_lanes(configs, [SEED] * len(configs), STEPS), to_device(noise().train, noise())
    state = make_initial_states(program, configs, mesh)(lane, data, np.arange(EXAMPLES))
    batches = np.arange(STEPS * BATCH).reshape(STEPS, 1, BATCH) % EXAMPLES
    state, _ = steps(state, lane, data, batches, np.int32(STEPS))
    axes = lane_axes(program)

    def of_lane(i: int) -> Any:
        return jax.tree.map(lambda leaf, axis: np.asarray(leaf).take(i, axis), state, axes)

    return [of_lane(i) for i in range(len(configs))]


def differ(one: Any, other: Any) -> bool:
    """Whether more than rounding sets two states apart."""
    ours, theirs = (jax.tree.leaves(state) for state in (one, other))
    return len(ours) != len(theirs) or not all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(ours, theirs, strict=True)
    )


def assert_same(one: Any, other: Any) -> None:
    """Batched products may add in another order, and float64 rounds at 1e-16."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.fixture
def in_haste(float64: None) -> Iterator[None]:
    """float64, and no optimizing of programs that run for a microsecond."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("option", list(options()), ids=str)
def test_an_option_that_is_changed_changes_the_run_alone_and_as_a_lane(option, in_haste):
    base = option.config()
    alone = trained(base)[0]
    changed = next((config for config in option.changes() if differ(trained(config)[0], alone)), None)
    assert changed is not None, "no other value of this option changes anything"
    if shared_config(changed) == shared_config(base):  # if not, they are two programs
        lanes = trained(base, changed)
        assert_same(lanes[0], alone)
        assert_same(lanes[1], trained(changed)[0])


# Data sets: what an option governs is what is read, and how it is encoded.


def loaded(source: Source) -> str:
    """The digest of all examples, or why there are none."""
    try:
        return source.load().digest
    except DataError as error:
        return str(error)


def inputs(source: Source) -> np.ndarray:
    """A few examples as the first layer sees them, [4, D]."""
    dataset = source.load()
    few = Split(dataset.train.images[:4], dataset.train.labels[:4])
    return np.asarray(encode(to_device(few, dataset), jnp.arange(4), source.input, jnp.dtype("float32")))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """For each option that is a path, two places with other examples in each."""
    found = []
    for seed in (0, 1):
        folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(seed)
        arrays = {}
        for split, stem, n in (("train", "train", 12), ("test", "t10k", 6)):
            images = random.integers(0, 256, (n, 28, 28), np.uint8)
            for what, array in (("images-idx3", images), ("labels-idx1", np.arange(n, dtype=np.uint8) % (3 + seed))):
                sizes = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
                (folder / f"{stem}-{what}-ubyte").write_bytes(sizes + array.tobytes())
                arrays[f"{split}_{what.partition('-')[0]}"] = array
        np.savez(folder / "all.npz", **arrays)
        named = {"train_images": "train-images-idx3-ubyte", "train_labels": "train-labels-idx1-ubyte"}
        named |= {"test_images": "t10k-images-idx3-ubyte", "test_labels": "t10k-labels-idx1-ubyte", "path": "all.npz"}
        found.append({"dir": str(folder)} | {option: str(folder / file) for option, file in named.items()})
    return found


@pytest.mark.parametrize(
    ("part", "name"),
    [(part, name) for part in DATASETS for name in part.model_fields],
    ids=lambda x: getattr(x, "name", x),
)
def test_an_option_of_a_data_set_that_is_changed_changes_the_inputs(part, name, files):
    here, there = ({key: path for key, path in of.items() if key in part.model_fields} for of in files)
    base = part(**here)
    values = [there[name]] if name in there else others(part, name, getattr(base, name))
    changed = (part(**here | {name: value}) for value in values)
    # What is loaded is told by its digest; what becomes of it on the device is not in that.
    assert any(loaded(one) != loaded(base) or (inputs(one) != inputs(base)).any() for one in changed)
