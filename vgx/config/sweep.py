"""From a sweep file to its cells: a config each, all checked before anything runs."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from vgx.config import grid, yaml_tree
from vgx.config.load import MAX_FAULTS, Written, assign, open_tree, refused, validated
from vgx.config.map_options import MapOptions
from vgx.config.options import fields_of, full_path
from vgx.config.schema import NO_NUMBERS, Config, outside_section
from vgx.config.yaml_tree import Fault, Keys, Place, Tree, shown
from vgx.errors import ConfigError
from vgx.registry import Part, remembered
from vgx.results.values import inline
from vgx.results.words import counted

MAX_CELLS = 1_000_000
_NOT_SWEPT = {
    "name": "a sweep has one name",
    "seeds": "seeds are crossed with every cell already; give them as `seeds`",
    "sweep": "a sweep holds no sweeps",
    "import": "modules are imported once, for all cells",
}


class Cell(NamedTuple):
    """One point of the grid: a config, run once per seed."""

    key: str
    """Twelve hexadecimal digits that tell it from others: equal configs are one cell."""
    config: Config
    overlay: grid.Overlay
    """What it changes in the base."""


@dataclass(frozen=True)
class Sweep:
    """A grid of configs, checked."""

    base: Config
    axes: dict[str, list[Any]]
    explicit: list[dict[str, Any]]
    """The cells added to the cross."""
    cells: tuple[Cell, ...]
    """Every cell once, in order."""
    map: MapOptions | None = None
    """Of a trainability map, what it asks for; its first grid is the axes."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that a cell changes."""
        return tuple(dict.fromkeys(path for cell in self.cells for path in cell.overlay))

    @property
    def folder(self) -> str:
        """The name of its run directory, which does not change when an axis gets more values."""
        told = sorted(self.axes) if self.map is None else ["map", *self.axes]
        digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
        return f"{self.base.name}-{digest}"

    def to_yaml(self) -> str:
        """Returns the sweep as a file, every default of the base written out; loading it gives an equal sweep."""
        return yaml_tree.write(self._plain(self.axes, self.explicit))

    def rebuilt(self, axes: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> Sweep:
        """Returns a sweep of the same base with other axes and cells. Raises ConfigError as `load_sweep`."""
        return load_sweep(self._plain(axes, cells))

    def _plain(self, axes: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        base = self.base.model_dump(mode="json", exclude_none=True)
        mapped = {} if self.map is None else {"map": self.map.model_dump(mode="json", exclude_none=True)}
        return base | mapped | {"sweep": {"axes": dict(axes), "cells": list(cells)}}


def load_sweep(
    source: Written,
    overrides: Sequence[str] = (),
    axes: Sequence[str] = (),
    seeds: int | None = None,
    modules: Sequence[str] = (),
) -> Sweep:
    """Returns the sweep in a YAML file or a mapping: a config, with a `sweep` section of axes and cells or without.

    Args:
        source: as `load_config` takes it.
        overrides: changes of the base, such as `model.depth=64`.
        axes: more axes, or other values for those in the file, such as `model.activation=relu,elu`; the end of a path
            is enough where it is the only such one.
        seeds: how many seeds, instead of the file's.
        modules: to import besides those that the file names.

    Raises ConfigError with a line for each thing that is wrong; a cell that cannot run is named with its values.
    """
    tree = open_tree(source, overrides, modules)
    if "map" in tree.value:
        if "sweep" not in tree.value or axes or seeds is not None:
            raise ConfigError(
                f"{tree.place(()).source or 'map'}: this is a map, whose options are its two sides; `vgx map` runs it"
            )
        return _map_in(tree)
    return sweep_in(tree, axes, seeds, len(overrides))


def load_either(
    source: Written, overrides: Sequence[str] = (), axes: Sequence[str] = (), modules: Sequence[str] = ()
) -> Config | Sweep:
    """Returns the `Sweep` in a file or a mapping if it has a `sweep` or a `map` section or `axes` are given, else its
    `Config`.

    Raises ConfigError as `load_config` and `load_sweep` do.
    """
    tree = open_tree(source, overrides, modules)
    if "map" in tree.value and not axes:
        return _map_in(tree)
    if "sweep" in tree.value or axes:
        return sweep_in(tree, axes, None, len(overrides))
    config, faults = validated(tree)
    if config is None or faults:
        raise refused(faults)
    return config


def _map_in(tree: Tree) -> Sweep:
    from vgx.config.maps import map_in  # which makes a sweep of a map

    return map_in(tree)


def resolved(sweep: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the resolved config of each cell of a sweep by its key; none when it has parts that are not known here.

    Nothing is imported.
    """
    try:
        cells = load_sweep({name: value for name, value in sweep.items() if name != "import"}).cells
    except ConfigError:
        return {}
    return {cell.key: cell.config.model_dump(mode="json") for cell in cells}


def check(source: Written, overrides: Sequence[str] = (), modules: Sequence[str] = ()) -> str:
    """Returns a few words on the config or the sweep in a file. Raises ConfigError with all that is wrong with it."""
    found = load_either(source, overrides, (), modules)
    if isinstance(found, Sweep):
        kind = "sweep" if found.map is None else "map"
        return f"{found.folder}, a {kind} of {counted(len(found.cells), 'cell')}"
    return f"{found.name}-{found.digest}"


def sweep_in(tree: Tree, axes: Sequence[str], seeds: int | None, turn: int) -> Sweep:
    """Returns the sweep in a tree that is open, after `turn` overrides. Raises as `load_sweep`."""
    section = tree.value.pop("sweep", None)
    if seeds is not None:
        assign(tree, ("seeds",), seeds, Place(turn + 1, source=f"--seeds {seeds}"))
    asked = _Section(tree, section)
    for place, text in enumerate(axes, start=turn + 2):
        asked.add_axis(text, place)
    base, faults = validated(tree)
    if base is None or faults:
        raise refused(faults)
    if not asked.axes and not asked.cells:
        raise ConfigError(
            f"{tree.place(()).source or base.name}: nothing to sweep: add a `sweep` section with axes,"
            " or --axis model.activation=relu,elu"
        )
    if (many := grid.count(asked.axes, asked.cells)) > MAX_CELLS:
        raise ConfigError(f"sweep: {many:,} cells are more than {MAX_CELLS:,}; leave out some values")
    return Sweep(base, asked.axes, asked.cells, _checked(tree, base, asked))


class _Section:
    """The `sweep` section: its axes and cells, and where each value was written."""

    def __init__(self, tree: Tree, section: Any):
        self.tree = tree
        self.axes: dict[str, list[Any]] = {}
        self.cells: list[dict[str, Any]] = []
        self.places: dict[tuple[str, int], Place] = {}
        """By axis and value; explicit cells under the axis ''."""
        if section is not None:
            self._read(section)

    def _read(self, section: Any) -> None:
        if not isinstance(section, dict):
            return self._refuse(("sweep",), f"expected axes and cells, found {shown(section)}")
        for key in section:
            if key not in ("axes", "cells"):
                self._refuse(("sweep", key), f"unknown key {key[:60]!r}; known: axes, cells")
        axes, cells = section.get("axes") or {}, section.get("cells") or []
        if isinstance(axes, dict):
            for path, values in axes.items():
                self._axis(path, values, ("sweep", "axes", path))
        else:
            self._refuse(("sweep", "axes"), f"expected a list of values for each path, found {shown(axes)}")
        if not isinstance(cells, list):
            return self._refuse(("sweep", "cells"), f"expected a list of cells, found {shown(cells)}")
        for i, cell in enumerate(cells):
            keys = ("sweep", "cells", i)
            if not isinstance(cell, dict) or not cell:
                self._refuse(keys, f"a cell is a mapping such as {{model.activation: relu}}, found {shown(cell)}")
                continue
            self.places["", len(self.cells)] = self.tree.place(keys)
            self.cells.append(cell)
            for path in cell:
                self._allowed(path, (*keys, path))

    def _refuse(self, keys: Keys, reason: str, place: Place | None = None) -> None:
        self.tree.faults.append(Fault(place or self.tree.key_place(keys), keys, reason))

    def _allowed(self, path: str, keys: Keys, place: Place | None = None) -> None:
        first = path.partition(".")[0]
        if first in _NOT_SWEPT:
            self._refuse(keys, f"{first} cannot be swept: {_NOT_SWEPT[first]}", place)
        elif not all(path.split(".")):
            self._refuse(keys, "expected a path such as model.activation", place)

    def _axis(self, path: str, values: Any, keys: Keys, place: Place | None = None) -> None:
        self._allowed(path, keys, place)
        if not isinstance(values, list) or not values:
            return self._refuse(keys, f"expected a list of values, found {shown(values)}", place)
        self.axes[path] = values
        for i in range(len(values)):
            self.places[path, i] = place or self.tree.place((*keys, i))

    def add_axis(self, text: str, turn: int) -> None:
        """Takes an axis from the command line: `path=a,b`, the values read as YAML."""
        path, equals, values = text.partition("=")
        place = Place(turn, source=f"--axis {text if text.isprintable() else repr(text)}")
        if not equals or not values.strip():
            return self._refuse((), "give it as path=value,value", place)
        path = path.strip()
        if path.partition(".")[0] not in fields_of(Config) and path not in _NOT_SWEPT:
            try:
                path = full_path(path, Config, self.tree.value)
            except ValueError as error:
                return self._refuse((), str(error), place)
        read = yaml_tree.read(f"[{values}]", "")
        for fault in read.faults:
            self._refuse((), fault.reason, place)
        if not read.faults:
            self._axis(path, read.value, (), place)

    @cached_property
    def _axes_by_keys(self) -> tuple[dict[Keys, str], dict[Keys, str]]:
        """The axis of each swept option, and the first one below each section, by its keys."""
        owns: dict[Keys, str] = {tuple(path.split(".")): path for path in self.axes}
        above: dict[Keys, str] = {}
        for own, path in reversed(owns.items()):
            above |= {own[:length]: path for length in range(1, len(own))}
        return owns, above

    def place(self, overlay: grid.Overlay, keys: Keys) -> tuple[str | None, Place]:
        """Returns the axis (None: no axis) whose value in a cell stands at or above `keys`, and where it is written."""
        owns, above = self._axes_by_keys
        starts = (keys[:length] for length in range(len(keys), 0, -1))
        path = above.get(keys) or next((owns[start] for start in starts if start in owns), "")
        for i, value in enumerate(self.axes.get(path, ())):
            if grid.flat({path: value}).items() <= overlay.items():
                return path, self.places[path, i]
        return None, next(iter(self.places.values()))


def _checked(tree: Tree, base: Config, asked: _Section) -> tuple[Cell, ...]:
    cells: dict[str, Cell] = {}
    lines: dict[tuple[Place, Keys, str], Fault] = {}
    known: dict[Any, Any] = {}
    for overlay in grid.overlays(asked.axes, asked.cells):
        config, faults = _cell(tree.value, base, overlay, known)
        if config is not None and not faults:
            key = _key(config)
            cells.setdefault(key, Cell(key, config, overlay))
            continue
        named = ", ".join(f"{path}={inline(value)}" for path, value in overlay.items()) if faults else ""
        for fault in faults:
            axis, place = asked.place(overlay, fault.keys)
            reason = fault.reason if axis and len(overlay) == 1 else f"{fault.reason} (in the cell {named})"
            lines.setdefault((place, fault.keys, fault.reason), Fault(place, fault.keys, reason))
        if len(lines) >= MAX_FAULTS:
            raise refused(list(lines.values()), "no further cells were looked at")
    if lines:
        raise refused(list(lines.values()))
    return tuple(cells.values())


def _cell(
    tree: dict[str, Any], base: Config, overlay: grid.Overlay, known: dict[Any, Any]
) -> tuple[Config | None, list[Fault]]:
    """The config of a cell, or what is wrong with it; `known` keeps the sections that cells have in common."""
    changes: dict[str, grid.Overlay] = {}
    for path, value in overlay.items():
        changes.setdefault(path.partition(".")[0], {})[path] = value
    keys = {name: (name, _frozen(changed)) for name, changed in changes.items()}
    changed = {name: known[key] for name, key in keys.items() if key in known}
    new = _overlaid(tree, {name: overlay for name, overlay in changes.items() if name not in changed})
    whole = {field.alias or name: getattr(base, name) for name, field in type(base).model_fields.items()}
    try:
        config = None if new.faults else Config.model_validate(whole | changed | new.value)
    except ValidationError:
        config = None
    if config is None:
        whole_tree = _overlaid(tree, changes)
        return validated(Tree(tree | whole_tree.value, faults=whole_tree.faults))
    for name in new.value:
        known[keys[name]] = getattr(config, name)
    return config, []


def _overlaid(tree: dict[str, Any], changes: Mapping[str, grid.Overlay]) -> Tree:
    """The sections of the tree that change, with what changes in them."""
    sections = Tree({name: copy.deepcopy(tree[name]) for name in changes if name in tree})
    for overlay in changes.values():
        for path, value in overlay.items():
            assign(sections, tuple(path.split(".")), copy.deepcopy(value), Place())
    return sections


def _frozen(value: Any) -> tuple[Any, Any]:
    """A plain value as a key, which tells 1 from 1.0 and from true."""
    if isinstance(value, dict):
        return dict, tuple((key, _frozen(inner)) for key, inner in value.items())
    return type(value), tuple(map(_frozen, value)) if isinstance(value, list) else value


def _key(config: Config) -> str:
    """The cell's key, from all but its name, its seeds and what changes no number."""
    texts = [_json(name, getattr(config, name)) for name in ("data", *grid.SECTIONS)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


@remembered
def _json(name: str, section: BaseModel) -> str:
    return section.model_dump_json(exclude=outside_section(name, section))


def differences(old: Config, new: Config) -> list[str]:
    """Returns a line for each option that two configs differ in, seeds and what changes no number left out.

    As in `train.steps: 200 there, 300 here`.
    """
    before, after = ({} for _ in range(2))
    for config, values in ((old, before), (new, after)):
        _leaves(config.model_dump(mode="json", exclude={"seeds": True, **NO_NUMBERS}), (), values)
    paths = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    return [f"{path}: {_said(before, path)} there, {_said(after, path)} here" for path in paths]


def _said(values: dict[str, Any], path: str) -> str:
    return inline(values[path]) if values.get(path) is not None else "nothing"


def _leaves(value: Any, keys: Keys, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _leaves(inner, (*keys, key), into)
    else:
        into[yaml_tree.dotted(keys)] = value


def value_at(config: Config, path: str) -> Any:
    """Returns the value of an option in a config, a part as briefly as can be; None where this config has no such."""
    value: Any = config
    for key in path.split("."):
        names = (
            {field.alias or name: name for name, field in type(value).model_fields.items()} if _is_tree(value) else {}
        )
        if key not in names:
            return value.name if key == "name" and isinstance(value, Part) else None
        value = getattr(value, names[key])
    return brief(value)


def _is_tree(value: Any) -> bool:
    return isinstance(value, BaseModel)


def brief(value: Any) -> Any:
    """Returns a part as its name, or as a mapping with the options that are not its defaults; another value as is."""
    if not isinstance(value, Part):
        value = list(value) if isinstance(value, tuple) else value
        return value.model_dump(mode="json") if _is_tree(value) else value
    fields = type(value).model_fields
    changed = {
        name: brief(inner) for name, inner in value if inner != fields[name].get_default(call_default_factory=True)
    }
    return {"name": value.name, **changed} if changed else value.name
