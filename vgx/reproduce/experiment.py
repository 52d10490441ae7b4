"""Experiments as data: a sweep, what is claimed of it, and how large to make it.

An experiment file is a sweep file with two more sections, and where options are to be chosen a third:

    claim:
      says: Dying ReLUs ...
      source: who said so, and where
      checks:
        - says: ...
          statistic: {name: accuracy, split: test}
          best_over: [train.optimizer.learning_rate]
          compare: {name: greater, arm: {model.activation: elu}, than: {model.activation: relu}}
    tuning:
      over: [train.optimizer.learning_rate]
      seeds: 2
      train: {steps: 1000}
    scales:
      smoke: {train: {steps: 20}, tuning: {train: {steps: 10}}, judged: false}
      cpu: {}
      full: {seeds: 10}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vgx.config import sweep, yaml_tree
from vgx.config.documents import document
from vgx.config.load import Written, open_tree, override, refused, section_in
from vgx.config.schema import Config, Section, outside_digest
from vgx.config.shipped import CONFIGS
from vgx.config.sweep import Cell, Sweep, sweep_in, value_at
from vgx.config.yaml_tree import Fault, Keys, Place, Tree
from vgx.errors import ConfigError, did_you_mean
from vgx.reproduce.findings import Arm, Hypothesis, matches
from vgx.reproduce.hypotheses import Number, Theory
from vgx.reproduce.metrics import (
    PREDICTED,
    PREDICTED_FIGURES,
    STATISTICS,
    Accuracy,
    Metric,
    SpectrumMetric,
    StepsTo,
)
from vgx.reproduce.pairs import COMPARISONS
from vgx.reproduce.scales import SCALES, Size, scaled
from vgx.reproduce.tuning import Choice, Tuning, tuning_in
from vgx.results.values import inline
from vgx.results.words import counted

EXPERIMENTS = CONFIGS / "reproduce"
"""The experiments that come with vgx."""
ACTIVATION = "model.activation"


class Reach(Section):
    """The values of an option that reach an accuracy: the largest of them is what counts."""

    over: str
    """The swept option, a number such as train.optimizer.learning_rate."""
    at_least: float
    """What the statistic must come to."""


class Check(Section):
    """One thing that is claimed, and how to tell."""

    says: str
    """The claim, in a sentence."""
    statistic: Annotated[Metric, STATISTICS.field]
    """The number of each lane."""
    where: Arm = Field(default_factory=dict)
    """Swept options that are the same throughout, by path."""
    for_each: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Swept options for each of whose values the check is made."""
    best_over: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Swept options that are chosen for each arm by the mean over seeds of `best_by`."""
    best_by: Annotated[Metric, STATISTICS.field] = Accuracy(split="validation")
    """What they are chosen by: on validation data, never on test data."""
    spread_over: str | None = None
    """Take the statistic's range over the values of this swept option, instead of the statistic."""
    as_accurate_as: Arm | None = None
    """With `steps_to`: the arm whose own accuracy at its end is the one to reach, seed by seed."""
    largest: Reach | None = None
    """Take the largest value of a swept option that reaches something, instead of the statistic."""
    compare: Annotated[Hypothesis, COMPARISONS.field]
    """What is claimed of it."""
    published: str = ""
    """What was published, where it is not a number to be reproduced here."""


class Claim(Section):
    """What is claimed of a sweep."""

    says: str
    """The claim, in a sentence."""
    letter: str = ""
    """Where it stands among the claims, in `vgx reproduce`."""
    source: str
    """Who made it, and where."""
    differs: str = ""
    """What is different here from there, if anything."""
    checks: Annotated[tuple[Check, ...], Field(strict=False, min_length=1)]
    """How to tell."""


@dataclass(frozen=True)
class Experiment:
    """A claim and the sweep that tests it, at one scale."""

    name: str
    claim: Claim
    sweep: Sweep
    scale: str
    size: Size
    source: str
    """The file, as it was named."""
    tuning: Tuning | None = None
    """The first stage, which chooses options; `sweep` is then the grid it chooses from, at full length."""
    choices: Mapping[str, Choice] | None = None
    """What it chose, by the key of the cell in `sweep`; None where nothing has been chosen yet."""

    absent: tuple[str, ...] = ()
    """The data sets that are left out, since their files are not here."""

    @property
    def notes(self) -> list[str]:
        """What else there is to know of how it was done."""
        lacking = [f"{name} left out: no files of it here (`vgx data get {name}` fetches them)" for name in self.absent]
        return [*([self.tuning.in_words()] if self.tuning else []), *lacking]

    def cells_of(self, arm: Mapping[str, Any]) -> list[Cell]:
        """Returns the cells in which some swept options have these values.

        A bare name is the part with its defaults, or, where the grid has no such, with any options.
        """
        found = list(self.sweep.cells)
        for path, value in arm.items():
            exact = [cell for cell in found if value in (option(cell, path), value_at(cell.config, path))]
            found = exact or [cell for cell in found if matches(option(cell, path), value)]
        return found

    def values(self, path: str, arm: Mapping[str, Any] | None = None) -> list[Any]:
        """Returns the values that a swept option has in the grid, or in an arm's cells, in order."""
        found: list[Any] = []
        for cell in self.cells_of(arm or {}):
            if (value := option(cell, path)) not in found:
                found.append(value)
        return found

    def settings(self, check: Check) -> Iterator[Arm]:
        """Yields each setting in which a check is made: its `where` with a value for each of its `for_each`."""
        for values in product(*(self.values(path) for path in check.for_each)):
            setting = check.where | dict(zip(check.for_each, values, strict=True))
            if self.cells_of(setting):
                yield setting


def arms_of(check: Check) -> Iterator[Arm]:
    """Yields every arm that a check names."""
    yield from check.compare.arms()
    if check.as_accurate_as is not None:
        yield check.as_accurate_as


def option(cell: Cell, path: str) -> Any:
    """Returns the value of a swept option in a cell: as it was written, or else as the config has it."""
    return cell.overlay.get(path, value_at(cell.config, path))


def find_experiments(folder: Path = EXPERIMENTS) -> dict[str, Path]:
    """Returns the experiments in a folder by name. Raises ConfigError when there is none."""
    found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if not found:
        raise ConfigError(f"{folder}: no experiments here; name a YAML file, or run in a clone of vgx")
    return found


def experiment_called(name: str) -> Path:
    """Returns the file of an experiment that comes with vgx, or the file of that name. Raises ConfigError for none."""
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        return Path(name)
    known = find_experiments()
    if name not in known:
        near = did_you_mean(name, list(known)) or f"; known: {', '.join(known)}"
        raise ConfigError(f"no experiment is called '{name}'{near}")
    return known[name]


def load_experiment(
    source: Written,
    scale: str = "cpu",
    overrides: Sequence[str] = (),
    activations: Sequence[str] = (),
    seeds: int | None = None,
    modules: Sequence[str] = (),
) -> Experiment:
    """Returns the experiment in a YAML file or a mapping, at a scale.

    Args:
        source: a file, or what would be in it.
        scale: smoke, cpu or full.
        overrides: changes of the base config, after those of the scale, such as `data.name=fashion_mnist`.
        activations: more values for the axis `model.activation`, as YAML.
        seeds: how many seeds, instead of the scale's.
        modules: to import besides those that the file names.

    Raises ConfigError with a line for each thing that is wrong.
    """
    tree = open_tree(source, (), modules)
    where = tree.place(()).source or "experiment"
    section, scales = (tree.value.pop(name, None) for name in ("claim", "scales"))
    if section is None:
        raise ConfigError(f"{where}: an experiment has a `claim`; `vgx sweep` runs a sweep without one")
    claim, size = section_in(tree, ("claim",), Claim, section), scaled(tree, scales, scale)
    if claim is None or size is None:
        raise refused(tree.faults)
    tuned = "tuning" in tree.value
    for turn, text in enumerate(overrides, start=1):
        override(tree, text, turn)
    for turn, text in enumerate(activations, start=len(overrides) + 2):
        _add_activation(tree, text, turn)
    first = tuning_in(tree) if tuned else None
    sweep = sweep_in(tree, (), seeds, len(overrides) + len(activations))
    name = sweep.base.name
    if first is not None:
        first = replace(first, sweep=_named(first.sweep, f"{name[:60]}-tuning-{scale}"))
    sweep = _named(sweep, f"{name[:70]}-{scale}")
    experiment = Experiment(name, claim, sweep, scale, size, where, first)
    smaller = isinstance(scales, dict) and "sweep" in (scales.get(scale) or {})
    if faults := list(_unfit(experiment, tree, may_lack_arms=smaller)):
        raise refused(faults)
    return experiment


def check(source: str | Path, overrides: Sequence[str] = (), modules: Sequence[str] = ()) -> str:
    """Returns a few words on the config, the sweep or the experiment in a file, the latter at every scale.

    Raises ConfigError with all that is wrong with it.
    """
    found = document(source)
    read = yaml_tree.read(found.text, found.source) if "claim" in found.text else Tree()
    if not isinstance(read.value, dict) or "claim" not in read.value:
        return sweep.check(found, overrides, modules)
    sizes = {scale: load_experiment(found, scale, overrides, modules=modules) for scale in SCALES}
    counts = ", ".join(f"{counted(len(one.sweep.cells), 'cell')} at scale {scale}" for scale, one in sizes.items())
    return f"{sizes['cpu'].name}, an experiment of {counts}"


def _named(sweep: Sweep, name: str) -> Sweep:
    return replace(sweep, base=sweep.base.model_copy(update={"name": f"{name}-{_digest(sweep.base)}"}))


def _digest(base: Config) -> str:
    """Tells base configs apart, whatever they are called and however many seeds they have."""
    values = base.model_dump(mode="json", exclude={"name": True, "seeds": True} | outside_digest(base))
    values["log"]["tensorboard"] = False  # an earlier version hashed it, and its runs are to be found
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def _add_activation(tree: Tree, text: str, turn: int) -> None:
    place = Place(turn, source=f"--activation {text if text.isprintable() else repr(text)}")
    read = yaml_tree.read(text, "")
    axes = tree.value["sweep"].get("axes") if isinstance(tree.value["sweep"], dict) else None
    values = axes.get(ACTIVATION) if isinstance(axes, dict) else None
    tree.faults += [Fault(place, (), fault.reason) for fault in read.faults]
    if not isinstance(values, list):
        tree.faults.append(Fault(place, (), f"this experiment has no axis {ACTIVATION}"))
    elif not read.faults:
        tree.values["sweep", "axes", ACTIVATION, len(values)] = place
        values.append(read.value)


def _unfit(experiment: Experiment, tree: Tree, may_lack_arms: bool) -> Iterator[Fault]:
    """What the checks name that the sweep has not, or leave open."""
    paths = experiment.sweep.paths
    for i, check in enumerate(experiment.claim.checks):
        keys: Keys = ("claim", "checks", i)
        tuned = experiment.tuning.options.over if experiment.tuning else ()

        def fault(key: str, reason: str, keys: Keys = keys) -> Fault:
            return Fault(tree.place((*keys, key)), (*keys, key), reason)

        named = [*check.for_each, *check.best_over, *check.compare.free()]
        named += [path for path in (check.spread_over, check.largest and check.largest.over) if path]
        for path in dict.fromkeys([*named, *check.where, *(path for arm in arms_of(check) for path in arm)]):
            if path not in paths and not may_lack_arms:
                near = did_you_mean(path, list(paths)) or f"; swept are {', '.join(paths)}"
                yield fault("compare", f"{path} is not swept{near}")
                return
        if tuned and check.best_over and set(check.best_over) != set(tuned):
            yield fault("best_over", f"`tuning` chooses {', '.join(tuned)}; name these, or none")
        if tuned and "best_by" in check.model_fields_set:
            yield fault("best_by", "`tuning` says what is chosen by; leave this out")
        for key, reason in _unlike(check, experiment.sweep.base):
            yield fault(key, reason)
        free = {*check.for_each, *named}
        for arm in arms_of(check):
            settings = list(experiment.settings(check)) or [check.where]
            found = [experiment.cells_of(setting | arm) for setting in settings]
            if not any(found) and not may_lack_arms:
                yield fault("compare", f"no cell of the sweep has {inline(check.where | arm)}")
            for path in [path for path in paths if path not in free]:
                values = {inline(option(cell, path)) for some in found for cell in some}
                if len(values) > 1:
                    reason = f"{inline(arm)} leaves {path} open ({', '.join(sorted(values))}); add it to where"
                    yield fault("compare", reason)


def _unlike(check: Check, base: Config) -> Iterator[tuple[str, str]]:
    """What a check asks of its statistic that this has not: the key that asks, and the reason."""
    statistic, compare, spectrum = check.statistic, check.compare, base.log.spectrum
    over = compare.over if isinstance(compare, Number) else None
    if isinstance(compare, Theory):
        over = "layers" if compare.at else None
        if not statistic.is_predicted:
            layers, spectra = ", ".join(PREDICTED), " and ".join(PREDICTED_FIGURES)
            yield "statistic", f"theory predicts {layers} of the first step's layers, and {spectra} of first spectra"
    if over is not None and over not in type(statistic).model_fields:
        yield "compare", f"{statistic.name} has no option '{over}' to go over"
    if isinstance(statistic, SpectrumMetric):
        if spectrum is None:
            yield "statistic", "no singular values are measured; set log.spectrum"
        elif statistic.steps == "first" and not spectrum.before_training:
            yield "statistic", "no singular values are measured before the first step; set log.spectrum.at to first"
    if isinstance(statistic, StepsTo) and (statistic.accuracy is None) != bool(check.as_accurate_as):
        yield "statistic", "steps_to needs an `accuracy`, or the check an arm that it is `as_accurate_as`"
    elif check.as_accurate_as and not isinstance(statistic, StepsTo):
        yield "as_accurate_as", f"this is for steps_to, and the statistic is {statistic.name}"
