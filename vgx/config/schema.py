"""What may be asked: the typed, frozen tree that a YAML file or Python makes, checked before anything runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vgx.config import yaml_tree
from vgx.config.log import Log
from vgx.config.map_options import MapOptions
from vgx.config.modules import MAX_MODULES, MODULE_NAME
from vgx.config.section import Count, OneOrMany, Section
from vgx.data import DATASETS, Source
from vgx.parts import (
    ACTIVATIONS,
    BIASES,
    CLIPS,
    INITIALIZERS,
    NORMALIZATIONS,
    OPTIMIZERS,
    RESIDUALS,
    Activation,
    Clip,
    Initializer,
    Normalization,
    Optimizer,
    Residual,
)
from vgx.parts.activations import ReLU
from vgx.parts.initializers import HeNormal, Zeros
from vgx.parts.losses import Loss
from vgx.parts.normalizations import NoNormalization
from vgx.parts.optimizers import SGD, NoClip
from vgx.parts.residuals import NoResidual
from vgx.results import bounds
from vgx.results.verdict import Word

Width = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
ModuleName = Annotated[str, Field(pattern=MODULE_NAME)]


COUNT_OR_FULL = "a count or full"
"""How pydantic's errors say that the word `full` would have done in place of a number."""


def _count_or_full(value: Any) -> str:
    return "full" if value == "full" else COUNT_OR_FULL


def _conflict(at: str, reason: str) -> PydanticCustomError:
    """What a rule between keys raises; `at` is the path, from the section, of the key to point at."""
    return PydanticCustomError("conflict", "{reason}", {"at": at, "reason": reason})


def legal_name(text: str) -> str:
    """Returns `text` made into a name that a config can have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("._-")[:100] or "run"


class Model(Section):
    """A deep MLP: hidden layers x = norm(f(W x + b)), which may add to a stream, and a linear readout."""

    later = frozenset({"residual"})

    depth: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Hidden layers, when `width` is one number (20 by default)."""
    width: Annotated[
        Annotated[Width, Tag("one")]
        | Annotated[tuple[Width, ...], Field(strict=False, min_length=1, max_length=100_000), Tag("many")],
        OneOrMany,
    ] = 128
    """Units per hidden layer: one number for all, or a list with one for each."""
    activation: Annotated[Activation, ACTIVATIONS.field] = ReLU()
    """The function after each hidden layer's linear map."""
    initializer: Annotated[Initializer, INITIALIZERS.field] = HeNormal()
    """How the weights are drawn."""
    bias: Annotated[Initializer, BIASES.field] = Zeros()
    """How the biases are drawn."""
    normalization: Annotated[Normalization, NORMALIZATIONS.field] = NoNormalization()
    """What normalizes a hidden layer's values, and where."""
    residual: Annotated[Residual, RESIDUALS.field] = NoResidual()
    """Whether hidden layers of equal width add to what they receive, in place of replacing it."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """The chance that a training step drops a unit of a hidden layer's output."""

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if isinstance(self.width, tuple):
            if self.depth is not None:
                raise _conflict("depth", "a list of widths says the depth already; leave one of the two out")
        elif self.depth is None:
            object.__setattr__(self, "depth", 20)
        return self

    @model_validator(mode="after")
    def _somewhere_to_skip(self) -> Self:
        if self.residual.skips and not any(self.branches):
            raise _conflict("residual", "a skip connection needs two neighbouring hidden layers of equal width")
        return self

    @property
    def branches(self) -> tuple[bool, ...]:
        """Which hidden layers add to a stream, from the input up: [L]."""
        even = [above == below for below, above in pairwise(self.widths)]
        return tuple(self.residual.skips and one for one in (False, *even))

    @property
    def widths(self) -> tuple[int, ...]:
        """The units of each hidden layer, from the input up: [L]."""
        return self.width if isinstance(self.width, tuple) else (self.width,) * (self.depth or 0)


class Train(Section):
    """How the net is trained."""

    later = frozenset({"loss"})

    loss: Loss = "cross_entropy"
    """What is minimized, a mean over examples: cross_entropy of softmax, or mse, half the squared distance of the
    logits to the one-hot label."""
    batch_size: Annotated[
        Annotated[Count, Tag(COUNT_OR_FULL)] | Annotated[Literal["full"], Tag("full")], Discriminator(_count_or_full)
    ] = 128
    """Examples per step, or full: all there are to train on, in the same order at every step."""
    steps: Count | None = None
    """Steps of training (1000 unless `epochs` is given)."""
    epochs: Count | None = None
    """Passes over the training set, instead of `steps`; a pass leaves out its last examples when they fill no batch."""
    optimizer: Annotated[Optimizer, OPTIMIZERS.field] = SGD()
    """What turns gradients into changes of the weights, and its learning rate."""
    clip: Annotated[Clip, CLIPS.field] = NoClip()
    """A bound on the gradient."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """Of the arithmetic; with bfloat16 the weights are kept, and updated, in float32."""
    evaluate_every: Count = 100
    """Steps between evaluations on the whole test (and validation) set; the last step is always evaluated."""
    stop_when_diverged: bool = True
    """Whether to stop once every seed's loss or gradient is NaN or infinite."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise _conflict("epochs", "steps and epochs are two answers to one question; leave one of the two out")
        if self.steps is None and self.epochs is None:
            object.__setattr__(self, "steps", 1000)
        return self

    @model_validator(mode="after")
    def _warm_in_time(self) -> Self:
        warmup = self.optimizer.schedule.warmup
        if self.steps is not None and warmup > self.steps:
            raise _conflict("optimizer.schedule.warmup", f"a warm-up of {warmup} steps in a run of {self.steps}")
        return self


class Expect(Section):
    """What every seed must come to, or `vgx train` exits 3. Bounds are texts: '>= 0.95', '< 1', '0 +- 0.01'."""

    verdict: (
        Annotated[
            Annotated[Word, Tag("one")] | Annotated[tuple[Word, ...], Field(strict=False, min_length=1), Tag("many")],
            OneOrMany,
        ]
        | None
    ) = None
    """The verdict, or a list of those that will do."""
    slope: str | None = None
    """Decades of gradient per layer, from the top down; or 'predicted': the first step's, as theory has it."""
    train_loss: str | None = None
    """At the last step."""
    train_accuracy: str | None = None
    """At the last step."""
    test_loss: str | None = None
    """At the last evaluation."""
    test_accuracy: str | None = None
    """At the last evaluation."""
    validation_loss: str | None = None
    """At the last evaluation."""
    validation_accuracy: str | None = None
    """At the last evaluation."""
    dead: str | None = None
    """The share of dead units, the mean over hidden layers at the last recorded step."""
    saturated: str | None = None
    """The share of saturated entries in the median hidden layer at the last recorded step."""
    zeros: str | None = None
    """The share of exact zeros that the optimizer sees, in the worst hidden layer at the last recorded step."""

    @field_validator("*", mode="before")
    @classmethod
    def _bounded(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name == "verdict" or value is None:
            return value
        if not isinstance(value, str):
            raise ValueError(f"expected a bound such as '>= 0.95', found {yaml_tree.shown(value)}; put it in quotes")
        if bounds.parse(value).predicted and info.field_name != "slope":
            raise ValueError("only the slope is predicted")
        return value

    @property
    def asks(self) -> bool:
        """Whether anything is expected."""
        return any(value is not None for _, value in self)


NO_NUMBERS: dict[str, Any] = {"expect": True, "modules": True, "log": {"tensorboard"}, "data": {"max_bytes"}}
"""What changes no number of a run: two configs that differ in it alone are one run."""


class Config(Section):
    """One run, or one per seed side by side."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: str = Field(default="run", json_schema_extra={"pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"})
    """Names the run directory: letters, digits, '.', '_' and '-'."""
    seeds: Annotated[
        Annotated[int, Field(ge=1, le=10_000), Tag("one")]
        | Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=10_000), Tag("many")],
        OneOrMany,
    ] = 1
    """A count n (seeds 0 to n - 1), or a list of seeds."""
    data: Annotated[Source, DATASETS.field] = Field(
        default_factory=lambda: DATASETS.parse("digits"), json_schema_extra={"default": {"name": "digits"}}
    )
    """The examples."""
    model: Model = Model()
    """The net."""
    train: Train = Train()
    """The training."""
    log: Log = Log()
    """The record."""
    expect: Expect = Expect()
    """What turns a run into a test."""
    modules: Annotated[tuple[ModuleName, ...], Field(strict=False, max_length=MAX_MODULES)] = Field(
        default=(), alias="import"
    )
    """Modules of your own that register parts, as [my_parts]: in the directory of the command, or installed."""

    @field_validator("name")
    @classmethod
    def _names_a_directory(cls, name: str) -> str:
        if (legal := legal_name(name)) != name:
            raise ValueError(
                f"at most 100 letters, digits, '.', '_' and '-', with a letter or digit first; try '{legal}'"
            )
        return name

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(seeds, tuple) and len(set(seeds)) < len(seeds):
            raise ValueError(f"seed {Counter(seeds).most_common(1)[0][0]} is listed twice")
        return seeds

    @model_validator(mode="after")
    def _batch_norm_needs_company(self) -> Self:
        if self.model.normalization.over_batch and self.train.batch_size == 1:
            raise _conflict("train.batch_size", "batch norm needs at least 2: one example has no variance")
        if self.model.normalization.over_batch and self.log.sharpness and self.log.sharpness.examples == 1:
            raise _conflict("log.sharpness.examples", "batch norm needs at least 2: one example has no variance")
        return self

    @model_validator(mode="after")
    def _comes_to_its_spectra(self) -> Self:
        steps, spectrum = self.train.steps, self.log.spectrum
        if steps and spectrum and (late := spectrum.beyond(steps)) is not None:
            raise _conflict("log.spectrum.at", f"step {late}: the run has {steps} steps")
        return self

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seed of each lane: [R]."""
        return self.seeds if isinstance(self.seeds, tuple) else tuple(range(self.seeds))

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of the SHA-256 of the tree, but for what changes no number: equal runs are equal."""
        canonical = json.dumps(self.model_dump(mode="json", exclude=outside_digest(self)), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    def to_yaml(self) -> str:
        """Returns the tree with every default written out; loading it gives an equal config."""
        return yaml_tree.write(self.model_dump(mode="json", exclude_none=True))


def outside_digest(config: Config) -> dict[str, Any]:
    """Returns what does not tell a config's run from another, to be excluded where it is written to that end."""
    sections = {"model": config.model, "train": config.train, "log": config.log}
    return NO_NUMBERS | {name: outside_section(name, section) for name, section in sections.items()}


def outside_section(name: str, section: BaseModel) -> set[str]:
    """Returns which options of the section of that name do not tell a config's run from another."""
    return set(NO_NUMBERS.get(name, ())) | (section.later_defaults if isinstance(section, Section) else set())


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a config file, a sweep or a map, with the parts registered by now."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema = Config.model_json_schema()
    axes = {
        "type": "object",
        "description": "The values of each option, by its path such as model.activation; the axes are crossed.",
        "minProperties": 1,
        "additionalProperties": {"type": "array", "minItems": 1},
    }
    cells = {
        "type": "array",
        "description": "Further cells, each a mapping of paths to values.",
        "minItems": 1,
        "items": {"type": "object", "minProperties": 1},
    }
    schema["properties"]["sweep"] = {
        "type": "object",
        "description": "Makes a sweep of the config: `vgx sweep` runs every cell once per seed.",
        "properties": {"axes": axes, "cells": cells},
        "minProperties": 1,
        "additionalProperties": False,
    }
    schema["properties"]["map"] = MapOptions.model_json_schema()
    return dialect | schema | {"title": "vgx config"}
