"""From a config with a `map` section, or with ranges on the command line, to the sweep of the map's first grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vgx.config.load import Written, assign, open_tree, refused, section_in, validated
from vgx.config.map_options import MapOptions, axis_of
from vgx.config.options import full_path
from vgx.config.schema import Config
from vgx.config.sweep import Sweep, sweep_in, value_at
from vgx.config.yaml_tree import Fault, Keys, Place, Tree, shown
from vgx.errors import ConfigError
from vgx.results.map_cells import MapAxis

SIDES = ("x", "y")


def load_map(
    source: Written,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    seeds: int | None = None,
    modules: Sequence[str] = (),
) -> Sweep:
    """Returns the first grid of the map in a YAML file or a mapping, as a sweep over x and y.

    Args:
        source: as `load_config` takes it, with a `map` section or without.
        overrides: changes of the base, such as `model.width=64`.
        options: in place of those of the section: x, y, points, refine, value, threshold; None leaves one as it is.
        seeds: how many seeds, instead of the file's.
        modules: to import besides those that the file names.

    Raises ConfigError with a line for each thing that is wrong.
    """
    tree = open_tree(source, overrides, modules)
    section = tree.value.setdefault("map", {})
    given = list((options or {}).items())
    for turn, (name, value) in enumerate(given, start=len(overrides) + 2):
        if value is not None and isinstance(section, dict):
            section[name] = value
            text = str(value)
            place = Place(turn, source=f"--{name} {text if text.isprintable() else repr(text)}")
            tree.values["map", name] = tree.keys["map", name] = place
    if seeds is not None:
        assign(tree, ("seeds",), seeds, Place(2**31, source=f"--seeds {seeds}"))
    return map_in(tree)


def map_in(tree: Tree) -> Sweep:
    """Returns the first grid of the map in a tree that is open. Raises as `load_map`."""
    section = tree.value.pop("map")
    if isinstance(section, dict) and not {"x", "y"} & section.keys():
        where = tree.place(()).source or "map"
        raise ConfigError(
            f"{where}: no map: say what is on its two sides, --x initializer.gain=0.5:2.5 --y depth=10:300, "
            "or in a `map` section"
        )
    options = section_in(tree, ("map",), MapOptions, section)
    swept = tree.value.pop("sweep", None)
    base, faults = validated(tree)
    if base is None or options is None:
        raise refused(list(faults))
    found = [_side(tree, base, name, number, options) for number, name in enumerate(SIDES)]
    axes = [axis for axis in found if axis is not None]
    if len({axis.path for axis in axes}) < len(axes):
        _refuse(tree, ("map", "y"), f"{axes[0].path} is across already; name another option")
    if tree.faults:
        raise refused(tree.faults)
    values = {axis.path: list(axis.values) for axis in axes}
    explicit = _cells_of(tree, swept, values)
    tree.value["sweep"] = {"axes": values, "cells": explicit}
    for axis, name in zip(axes, SIDES, strict=True):  # what is wrong with a cell is wrong with its side's range
        tree.values["sweep", "axes", axis.path] = tree.keys["sweep", "axes", axis.path] = tree.place(("map", name))
    written = {name: f"{axis.path}={_range(getattr(options, name))}" for axis, name in zip(axes, SIDES, strict=True)}
    made = sweep_in(tree, (), None, 0)
    return replace(made, map=options.model_copy(update=written))


def axes_of(sweep: Sweep) -> tuple[MapAxis, MapAxis]:
    """Returns the two sides of the map whose first grid a sweep is."""
    assert sweep.map is not None
    x, y = (
        axis_of(path, _range(text), isinstance(value_at(sweep.base, path), int), sweep.map.count(number, whole))
        for number, text in enumerate((sweep.map.x, sweep.map.y))
        for path in [text.partition("=")[0]]
        for whole in [isinstance(value_at(sweep.base, path), int)]
    )
    return x, y


def _side(tree: Tree, base: Config, name: str, number: int, options: MapOptions) -> MapAxis | None:
    """One side of the map; None when it has a fault, which joins the tree's."""
    word, equals, text = getattr(options, name).partition("=")
    keys: Keys = ("map", name)
    if not equals or not text.strip():
        return _refuse(tree, keys, "give it as option=from:to, such as initializer.gain=0.5:2.5")
    try:
        path = full_path(word.strip(), Config, tree.value)
    except ValueError as error:
        return _refuse(tree, keys, str(error))
    value = value_at(base, path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = "has no number here" if value is None else f"is {shown(value)} here, and no number"
        return _refuse(tree, keys, f"{path} {found}; a map is over two numbers")
    whole = isinstance(value, int)
    try:
        return axis_of(path, text.strip(), whole, options.count(number, whole))
    except ValueError as error:
        return _refuse(tree, keys, f"{path}: {error}")


def _range(text: str) -> str:
    return text.partition("=")[2].strip()


def _refuse(tree: Tree, keys: Keys, reason: str) -> None:
    tree.faults.append(Fault(tree.place(keys), keys, reason))


def _cells_of(tree: Tree, section: Any, values: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The cells besides the first grid in the config that a map's directory keeps. Raises ConfigError for others."""
    if section is None:
        return []
    if not isinstance(section, dict) or section.get("axes", values) != values:
        _refuse(tree, ("sweep",), "the axes of a map stand in its `map` section; leave `sweep` out")
        raise refused(tree.faults)
    return section.get("cells") or []
