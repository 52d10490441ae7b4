"""A program, and what its lanes share: the numbers of a lane stay variable, all else is compiled in."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from vgx.config.schema import Config, Expect, Model, Train
from vgx.parts.initializers import Zeros
from vgx.registry import Part, remembered
from vgx.training.batches import batch_size_of

P = TypeVar("P", bound=Part)


class Program(NamedTuple):
    """What is compiled: the config (as `shared_config` leaves it) and the data's sizes."""

    config: Config
    features: int
    classes: int


def numbers_of(config: Config) -> dict[str, dict[str, float]]:
    """Returns the numbers of a config that a lane carries as data: the float options of optimizer, schedule and
    clipping.

    A 0 is left out: it may switch a term off, and that is the program's business.
    """
    optimizer, clip = config.train.optimizer, config.train.clip
    return {"optimizer": floats(optimizer), "schedule": floats(optimizer.schedule), "clip": floats(clip)}


def floats(part: Part) -> dict[str, float]:
    """Returns the numbers of a part that a lane may carry: its float options that are not 0."""
    fields = type(part).model_fields
    return {name: value for name, value in part if fields[name].annotation is float and value != 0}


def shared_config(config: Config, examples: int | None = None) -> Config:
    """Returns the config without what a lane carries or only the host looks at: those that agree in it are one program.

    Left out are the name, the seeds, the initializers of weights and biases, the `numbers_of` the config, how long it
    trains, when it is evaluated and stops, and what is expected. A `batch_size` of `full` becomes the number of
    `examples` to train on, which nobody else need tell.
    """
    host = {
        "batch_size": batch_size_of(config, examples),
        "steps": 1,
        "epochs": None,
        "evaluate_every": 1,
        "stop_when_diverged": True,
    }
    sections = {
        "train": shared_train(config.train).model_copy(update=host),
        "model": shared_model(config.model),
        "log": config.log.model_copy(update={"tensorboard": False}),
        "expect": Expect(),
    }
    return config.model_copy(update={"name": "program", "seeds": 1, "modules": ()} | sections)


@remembered
def shared_train(train: Train) -> Train:
    """Returns the section without the numbers that a lane carries."""
    optimizer = blank(train.optimizer.model_copy(update={"schedule": blank(train.optimizer.schedule)}))
    return train.model_copy(update={"optimizer": optimizer, "clip": blank(train.clip)})


@remembered
def shared_model(model: Model) -> Model:
    """Returns the section without the initializers, which no step looks at."""
    return model.model_copy(update={"initializer": Zeros(), "bias": Zeros()})


def blank(part: P) -> P:
    """Returns the part with a 1 for each number that a lane carries."""
    return part.model_copy(update=dict.fromkeys(floats(part), 1.0))


def fill(part: P, numbers: dict[str, Any]) -> P:
    """Returns the part with a lane's numbers, which may be arrays, in place of its own."""
    return part.model_copy(update=numbers)
