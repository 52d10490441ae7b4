"""The first stage of an experiment: a shorter sweep of fewer seeds that chooses options for each arm.

    tuning:
      over: [model.initializer, train.optimizer.learning_rate]
      extend: 2
      seeds: 2
      train: {steps: 1000}

The whole grid is trained with what else stands there changed in the base config; for each choice of the other swept
options the cell that is best on validation data is chosen. A number chosen at an end of what was tried gets a further
value there, and is looked at again, `extend` times at the most. The chosen cells alone are then trained in full.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from pydantic import Field

from vgx.config import grid
from vgx.config.load import assign, refused, section_in
from vgx.config.schema import Section
from vgx.config.sweep import Cell, Sweep, sweep_in, value_at
from vgx.config.yaml_tree import Fault, Tree, shown
from vgx.reproduce.metrics import STATISTICS, Accuracy, Metric
from vgx.results.values import inline
from vgx.results.words import counted

PLACE = ("tuning",)


class TuningOptions(Section):
    """What is chosen, and by what."""

    over: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    """The swept options that are chosen for each arm, by path."""
    by: Annotated[Metric, STATISTICS.field] = Accuracy(split="validation")
    """What they are chosen by, its mean over seeds: on validation data, never on test data."""
    extend: int = Field(default=2, ge=0, le=10)
    """How often a grid of positive numbers may grow by one value beyond the end at which the best is."""


@dataclass(frozen=True)
class Tuning:
    """The first stage of an experiment."""

    options: TuningOptions
    sweep: Sweep
    """The grid, with its own seeds and steps."""

    def in_words(self) -> str:
        """Returns what was chosen, and with how many seeds and steps, in a sentence."""
        names = " and ".join(path.rpartition(".")[2].replace("_", " ") for path in self.options.over)
        train = self.sweep.base.train
        length = counted(train.epochs, "epoch") if train.epochs else counted(train.steps or 1000, "step")
        return f"{names} chosen for each arm on {counted(len(self.sweep.base.seed_list), 'seed')} of {length}"


class Choice(NamedTuple):
    """The options that were chosen for an arm."""

    overlay: grid.Overlay
    """The chosen cell's, every swept option among them."""
    extended: bool
    """Whether one of them is beyond the grid as it was written."""
    at_edge: bool
    """Whether one of them is better than its neighbour, and still the smallest or the largest that was tried."""


def tuning_in(tree: Tree) -> Tuning:
    """Takes the section out of a tree that is at its scale, and returns the first stage.

    Raises ConfigError with all that is wrong with it.
    """
    section = tree.value.pop("tuning")
    if not isinstance(section, dict):
        fault = Fault(tree.place(PLACE), PLACE, f"expected what to choose, as `over`, found {shown(section)}")
        raise refused([*tree.faults, fault])
    options = section_in(
        tree, PLACE, TuningOptions, {k: v for k, v in section.items() if k in TuningOptions.model_fields}
    )
    changes = {key: value for key, value in section.items() if key not in TuningOptions.model_fields}
    own = Tree(copy.deepcopy(tree.value), dict(tree.values), dict(tree.keys), tree.faults)
    for path, value in grid.flat(changes).items():
        keys = tuple(path.split("."))
        assign(own, keys, value, tree.place((*PLACE, *keys)))
    if options is None:
        raise refused(tree.faults)
    sweep = sweep_in(own, (), None, 0)
    if faults := list(_unfit(options, sweep, tree)):
        raise refused(faults)
    return Tuning(options, sweep)


def _unfit(options: TuningOptions, sweep: Sweep, tree: Tree) -> Iterator[Fault]:
    for i, path in enumerate(options.over):
        if path not in sweep.paths:
            keys = (*PLACE, "over", i)
            yield Fault(tree.place(keys), keys, f"{path} is not swept; swept are {', '.join(sweep.paths)}")
    split, keys = getattr(options.by, "split", None), (*PLACE, "by")
    if split == "test":
        yield Fault(tree.place(keys), keys, "choose by validation data; test data are for what is reported")
    if split == "validation" and not all(cell.config.data.validation.examples for cell in sweep.cells):
        yield Fault(tree.place(keys), keys, "no examples are held out to choose by; set data.validation")


def arm_of(cell: Cell, over: Sequence[str]) -> str:
    """Returns what tells an arm from others: its swept options but for those that are chosen."""
    return inline({path: value for path, value in cell.overlay.items() if path not in over})


def choose(tuning: Tuning, sweep: Sweep, scores: Mapping[str, float]) -> dict[str, Choice]:
    """Returns the choice for each arm.

    Args:
        tuning: what is chosen.
        sweep: its grid as far as it has grown.
        scores: the larger the better, by the key of the cell; arms without any are left out.
    """
    over, written = tuning.options.over, {cell.key for cell in tuning.sweep.cells}
    return {
        arm: Choice(best.overlay, best.key not in written, bool(_beyond(cells, best, over, scores)))
        for arm, cells in _arms(sweep, over, scores).items()
        for best in [max(cells, key=lambda cell: scores[cell.key])]
    }


def further(tuning: Tuning, sweep: Sweep, scores: Mapping[str, float]) -> list[grid.Overlay]:
    """Returns the cells to try besides: one beyond each end at which an arm's best option is."""
    over = tuning.options.over
    return [
        overlay
        for cells in _arms(sweep, over, scores).values()
        for overlay in _beyond(cells, max(cells, key=lambda cell: scores[cell.key]), over, scores)
    ]


def _arms(sweep: Sweep, over: Sequence[str], scores: Mapping[str, float]) -> dict[str, list[Cell]]:
    arms: dict[str, list[Cell]] = {}
    for cell in sweep.cells:
        if cell.key in scores:
            arms.setdefault(arm_of(cell, over), []).append(cell)
    return arms


def _beyond(cells: Sequence[Cell], best: Cell, over: Sequence[str], scores: Mapping[str, float]) -> list[grid.Overlay]:
    """The overlays one value beyond the best cell of an arm, in each option where it is at an end and no tie."""
    found = []
    for path in over:
        others = arm_of(best, [path])
        line = {value_at(cell.config, path): cell for cell in cells if arm_of(cell, [path]) == others}
        values = [value for value in line if isinstance(value, int | float) and not isinstance(value, bool)]
        values = sorted(value for value in values if value > 0)
        value = value_at(best.config, path)
        if len(values) < 2 or len(values) < len(line) or value not in (values[0], values[-1]):
            continue
        inwards = values if value == values[0] else values[::-1]
        if scores[best.key] > scores[line[inwards[1]].key]:
            found.append(best.overlay | {path: next_value(inwards)})
    return found


def next_value(values: Sequence[float]) -> float:
    """Returns the value that goes before the first of a geometric series, such as 3 of 1, 0.3, 0.1: in three digits."""
    step = values[0] / values[1] if len(values) < 3 else values[1] / values[2]
    return float(f"{values[0] * step:.3g}")
