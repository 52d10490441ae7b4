"""How large to make an experiment: what a scale changes in its file."""

from __future__ import annotations

from typing import Any, Literal, get_args

from vgx.config import grid, yaml_tree
from vgx.config.load import assign, section_in
from vgx.config.schema import Section
from vgx.config.yaml_tree import Fault, Keys, Tree
from vgx.errors import did_you_mean

Scale = Literal["smoke", "cpu", "full"]
SCALES: tuple[str, ...] = get_args(Scale)


class Size(Section):
    """What a scale says besides its changes."""

    seconds: float | None = None
    """About how long it takes on two cores."""
    judged: bool = True
    """Whether verdicts are given: not where other data or too few steps stand in for the real ones."""


def scaled(tree: Tree, scales: Any, scale: str) -> Size | None:
    """Puts what a scale changes into the tree, and returns what else it says; None when it is no mapping."""
    if scales is None:
        return Size()
    if not isinstance(scales, dict) or not all(isinstance(changes, dict) for changes in scales.values()):
        tree.faults.append(Fault(tree.place(("scales",)), ("scales",), "expected a mapping of changes for each scale"))
        return None
    for name in scales:
        if name not in SCALES:
            near = did_you_mean(name, list(SCALES)) or f"; known: {', '.join(SCALES)}"
            tree.faults.append(Fault(tree.key_place(("scales", name)), ("scales",), f"unknown scale '{name}'{near}"))
    changes = dict(scales.get(scale, {}))
    of_size = {name: changes.pop(name) for name in Size.model_fields if name in changes}
    tuning = changes.pop("tuning", None)
    if tuning is not None:
        _merge(tree, tuning, ("scales", scale, "tuning"), ("tuning",))
    grids = changes.pop("sweep", None) or {}
    for path, value in grid.flat(changes).items():
        keys = tuple(path.split("."))
        assign(tree, keys, value, tree.place(("scales", scale, *keys)))
    section = tree.value.setdefault("sweep", {})
    if isinstance(grids, dict) and isinstance(section, dict):
        for key, value in grids.items():
            if isinstance(value, dict) and isinstance(section.get(key), dict):
                for path, values in value.items():
                    _moved(tree, values, ("scales", scale, "sweep", key, path), ("sweep", key, path))
                    section[key][path] = values
            else:
                _moved(tree, value, ("scales", scale, "sweep", key), ("sweep", key))
                section[key] = value
    return section_in(tree, ("scales", scale), Size, of_size)


def _merge(tree: Tree, value: Any, old: Keys, new: Keys) -> None:
    """Puts a value at `new`, whose mappings change only what they name."""
    section: Any = tree.value
    for key in new[:-1]:
        section = section[key]
    if isinstance(value, dict) and isinstance(section.get(new[-1]), dict):
        for key, inner in value.items():
            _merge(tree, inner, (*old, key), (*new, key))
    else:
        _moved(tree, value, old, new)
        section[new[-1]] = value


def _moved(tree: Tree, value: Any, old: Keys, new: Keys) -> None:
    """Gives what is about to stand at `new` the places of what was written at `old`."""
    tree.forget(new)
    for keys in list(yaml_tree.within(value)):
        for table in (tree.values, tree.keys):
            if (*old, *keys) in table:
                table[(*new, *keys)] = table[(*old, *keys)]
