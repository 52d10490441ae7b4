"""The configs that come with vgx: in a clone, or in the package that was made of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vgx.config.modeline import moved, without
from vgx.config.yaml_edit import amend
from vgx.errors import ConfigError, did_you_mean

_PLACES = tuple(folder / "configs" for folder in Path(__file__).parents[1:3])
CONFIGS = next((path for path in _PLACES if path.is_dir()), _PLACES[0])


class Example(NamedTuple):
    """A config to run and to copy from."""

    name: str
    path: Path
    says: str
    """What it is, in a line."""
    command: str
    """What runs it: train, sweep or map."""


def examples() -> dict[str, Example]:
    """Returns the examples by name: the configs, then the sweeps, then the maps."""
    found = {}
    for folder, command in ((CONFIGS, "train"), (CONFIGS / "sweeps", "sweep"), (CONFIGS / "maps", "map")):
        for path in sorted(folder.glob("*.yaml")):
            says = without(path.read_text(encoding="utf-8")).partition("\n")[0].removeprefix("#").strip()
            says = says.replace(_own(path), path.name)
            found[path.stem] = Example(path.stem, path, says, command)
    return found


def example_called(name: str) -> Example:
    """Returns the example of that name. Raises ConfigError when there is none."""
    known = examples()
    if name not in known:
        near = did_you_mean(name, list(known)) or "; `vgx new --list` lists them"
        raise ConfigError(f"no example is called '{name[:60]}'{near}")
    return known[name]


def copied(example: Example, file: Path) -> str:
    """Returns the text of an example as `file` is to hold it: under the file's name, its comments kept."""
    text = moved(example.path.read_text(encoding="utf-8"), file)
    text = text.replace(_own(example.path), str(file))
    return amend(text, {"name": file.stem}) if file.stem != example.name else text


def _own(path: Path) -> str:
    """What an example calls itself, where a clone has it."""
    return f"configs/{path.relative_to(CONFIGS).as_posix()}"
