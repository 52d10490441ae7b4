"""The options that a config has, by path, and the short names that mean them: learning_rate is
train.optimizer.learning_rate where nothing else ends so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vgx.registry import Part, registry_of
from vgx.results.values import option_called


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Returns the fields of a section or part by the names that a config has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def option_paths(root: type[BaseModel], tree: Any = None) -> list[str]:
    """Returns the path of every option below `root`: of the parts that the values in `tree` name, or of all if None."""
    return list(dict.fromkeys(_paths(root, tree, "", tree is None)))


def _paths(model: type[BaseModel], values: Any, above: str, every: bool) -> Iterator[str]:
    for name, field in fields_of(model).items():
        path = f"{above}{name}"
        yield path
        value = values.get(name) if isinstance(values, dict) else None
        for inner in _models_in(field, value, every):
            if issubclass(inner, Part):
                yield f"{path}.name"
            yield from _paths(inner, value, f"{path}.", every)


def _models_in(field: FieldInfo, value: Any, every: bool) -> Iterable[type[BaseModel]]:
    """The section, or the parts, whose options stand below a field."""
    registry = registry_of(field)
    if registry is None:
        kind = field.annotation
        return [kind] if isinstance(kind, type) and issubclass(kind, BaseModel) else []
    if every:
        return registry
    part = value if value is not None else field.get_default(call_default_factory=True)
    name = part.name if isinstance(part, Part) else part.get("name") if isinstance(part, dict) else part
    return [registry[name]] if isinstance(name, str) and name in registry else []


def full_path(word: str, root: type[BaseModel], tree: Any) -> str:
    """Returns the path of the option that `word` names in full or by its end.

    Options of the parts that `tree` names go before those of others. Raises ValueError, with the reason, for a word
    that names none, or several.
    """
    own = option_paths(root, tree)
    known = own if any(path == word or path.endswith(f".{word}") for path in own) else option_paths(root)
    return option_called(word, known)
