"""What a run writes down: how much of its layers, how often, and what evaluations measure besides."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, Tag, field_validator

from vgx.config.section import Count, OneOrMany, Section, Step


class Sharpness(Section):
    """How the sharpness of the training loss is measured."""

    examples: Count = 1024
    """Training examples that it is measured on, evenly spread; all, where there are fewer."""


class Spectrum(Section):
    """Which Jacobians have their singular values measured."""

    examples: Count = 4
    """Training examples, one at a time, evenly spread; all, where there are fewer."""
    at: Annotated[
        Annotated[Literal["evaluation", "first"], Tag("one")]
        | Annotated[tuple[Step, ...], Field(strict=False, min_length=1), Tag("many")],
        OneOrMany,
    ] = "evaluation"
    """When: at evaluations; first, before the first step; or after each of a list of steps, of which 0 is that."""

    @field_validator("at")
    @classmethod
    def _distinct(cls, at: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(at, tuple) and len(set(at)) < len(at):
            raise ValueError(f"step {Counter(at).most_common(1)[0][0]} is listed twice")
        return at

    @property
    def before_training(self) -> bool:
        """Whether they are measured before the first step."""
        return self.at == "first" or (isinstance(self.at, tuple) and 0 in self.at)

    def beyond(self, steps: int) -> int | None:
        """Returns a step that was asked for, and that a run of so many does not come to; None where there is none."""
        return next((step for step in self.at if step > steps), None) if isinstance(self.at, tuple) else None


class Log(Section):
    """What is written down."""

    later = frozenset({"sharpness", "spectrum"})

    every: Count = 1
    """Steps between records of the layers; the first step is always recorded."""
    statistics: Literal["none", "lite", "standard", "full"] = "standard"
    """How much is recorded of each layer."""
    sharpness: Sharpness | None = None
    """Whether evaluations measure the largest eigenvalue of the training loss's Hessian, as {examples: 1024}."""
    spectrum: Spectrum | None = None
    """Whether the singular values of Jacobians are measured, as {examples: 4, at: evaluation}."""
    tensorboard: bool = False
    """Whether event files for TensorBoard are written as well, to `tensorboard/` in the run, while it goes on."""
