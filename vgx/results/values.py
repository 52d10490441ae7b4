"""The values that options have, as tables and words hold them, and the short names of options."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from vgx.errors import RunError, did_you_mean
from vgx.results.columns import swept_columns
from vgx.results.store import Run

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
"""What YAML 1.1 takes for text when it has no point, or no sign in its exponent."""


def inline(value: Any) -> str:
    """Returns a value on one line, as `--axis` and `--set` take it: {name: leaky_relu, negative_slope: 0.2}."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    return yaml.safe_dump(value, default_flow_style=True, width=2**20, sort_keys=False).removesuffix("...\n").strip()


def in_words(value: Any) -> str:
    """Returns an option's value in a few words: a part without options as its name, `-` for None."""
    if isinstance(value, dict) and set(value) == {"name"}:
        return value["name"]
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else inline(value)


def label(value: Any) -> str:
    """Returns the same without keys: `{name: leaky_relu, negative_slope: 0.2}` is leaky_relu 0.2."""
    if isinstance(value, str) and value.startswith("{name: "):
        value = yaml.safe_load(value)
    return " ".join(map(label, value.values())) if isinstance(value, dict) else in_words(value)


def scalar(text: str) -> Any:
    """Returns what a text means as a value of YAML, or the text where it means none; 1e-3 is a number."""
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def option_called(word: str, options: Iterable[str], kind: str = "option") -> str:
    """Returns the option that `word` is the path of, or the end of the path of: activation for model.activation.

    Raises ValueError, with the reason, when it is so of none, or of several.
    """
    known = list(options)
    fits = [word] if word in known else [option for option in known if option.endswith(f".{word}")]
    if len(fits) > 1:
        raise ValueError(f"'{word}' may be {', '.join(fits[:-1])} or {fits[-1]}; say which")
    if not fits:
        near = did_you_mean(word, list(dict.fromkeys([*known, *(option.rpartition(".")[2] for option in known)])))
        some = f"; there are: {textwrap.shorten(', '.join(known), 300, placeholder=' ...') or 'none'}"
        raise ValueError(f"no {kind} is called '{word[:60]}'{near or some}")
    return fits[0]


def column(values: Sequence[Any]) -> list[Any]:
    """Returns an option's values over many lanes as a table's column: numbers if all of them are, else text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {int}:
        return list(values)
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else inline(value) for value in values]


def swept_options(run: Run) -> list[str]:
    """Returns the paths that the lanes of a sweep differ in, the axes first; none of a single run."""
    return swept_columns(run.lanes().column_names)


def known_layer(run: Run, word: str) -> int:
    """Returns the number of the layer that `word` is: a number, or of a watched run a path or the end of one.

    Raises RunError when it is neither.
    """
    if word.isascii() and word.isdigit():
        return int(word)
    if not run.is_watched:
        raise RunError(f"{run.path}: --layer {word[:60]}: expected a number; the layers of this run have no names")
    try:
        return run.paths.index(option_called(word, run.paths, "layer")) + 1
    except ValueError as error:
        raise RunError(f"{run.path}: --layer: {error}") from None
