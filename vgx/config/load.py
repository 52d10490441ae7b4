"""From text to a config: a YAML file and its overrides, with a line for each fault in our own words."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from heapq import nsmallest
from pathlib import Path
from types import UnionType
from typing import Any, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from vgx.config import yaml_tree
from vgx.config.documents import Document, document
from vgx.config.modules import MAX_MODULES, import_module
from vgx.config.options import fields_of
from vgx.config.schema import COUNT_OR_FULL, Config, legal_name
from vgx.config.yaml_tree import Fault, Keys, Place, Tree, shown
from vgx.data import DATASETS
from vgx.errors import ConfigError, did_you_mean
from vgx.parts import ACTIVATIONS, BIASES, CLIPS, INITIALIZERS, NORMALIZATIONS, OPTIMIZERS, RESIDUALS
from vgx.registry import Part, Registry, registry_of

MAX_FAULTS = 20
"""Faults that are told, of however many."""


Written = str | Path | Mapping[str, Any] | Document
"""A config: the YAML file (`-` is standard input), what would be in it, or its text that was read."""


def load_config(source: Written, overrides: Sequence[str] = (), modules: Sequence[str] = ()) -> Config:
    """Returns the config in a YAML file (`-` is standard input) or a mapping, with overrides such as `model.depth=64`.

    A config without a name is called after its file. An override's value is YAML; of two for one key the later wins.
    An override of a part's option keeps the part (`model.activation.negative_slope=0.2` over `leaky_relu`), and one of
    `train.steps`, `train.epochs` or a list for `model.width` removes what would contradict it (`train.epochs`,
    `train.steps`, `model.depth`). What the config names under `import` is imported, and so are `modules`, which join
    it. Raises ConfigError with a line for each thing that is wrong, in the order of their places.
    """
    tree = open_tree(source, overrides, modules)
    config, faults = validated(tree)
    if config is None or faults:
        raise refused(faults)
    return config


def open_tree(source: Written, overrides: Sequence[str] = (), modules: Sequence[str] = ()) -> Tree:
    """Returns the tree of values in a config, with overrides and a name, once its modules are imported.

    Raises ConfigError when it is no mapping, or a module cannot be imported.
    """
    if not isinstance(source, Mapping | Document):
        source = document(source)
    tree = yaml_tree.take(source) if isinstance(source, Mapping) else yaml_tree.read(source.text, source.source)
    if not isinstance(tree.value, dict):
        raise ConfigError(str(tree.faults[0] if tree.faults else Fault(tree.place(()), (), _no_mapping(tree.value))))
    for turn, text in enumerate(overrides, start=1):
        override(tree, text, turn)
    if isinstance(source, Document) and source.is_file:
        tree.value.setdefault("name", legal_name(Path(source.source).stem))
    _import_modules(tree, modules)
    return tree


def _import_modules(tree: Tree, more: Sequence[str]) -> None:
    """Imports what the tree names, and more modules, which join it. Raises ConfigError when one cannot be imported."""
    own = tree.value.get("import", [])
    own = own if isinstance(own, list) and len(own) <= MAX_MODULES else []
    wrong = []
    for i, name in enumerate([*own, *more]):
        asked = f"--import {name if name.isprintable() else repr(name)}" if i >= len(own) else ""
        try:
            import_module(name) if isinstance(name, str) else None
        except ConfigError as error:
            place, keys = (Place(2**31, source=asked), ()) if asked else (tree.place(("import", i)), ("import",))
            wrong.append(Fault(place, keys, str(error)))
    if wrong:  # what else is wrong may be so for want of the module
        raise refused(tree.faults + wrong)
    if more and own == tree.value.get("import", []):
        tree.value["import"] = [*own, *(name for name in dict.fromkeys(more) if name not in own)]


def validated(tree: Tree) -> tuple[Config | None, list[Fault]]:
    """Returns the config in a tree, or None, and all that is wrong with it."""
    try:
        return Config.model_validate(tree.value), tree.faults
    except ValidationError as error:
        refused = {(fault.place, fault.keys) for fault in tree.faults}
        found = [_fault(details, tree) for details in error.errors(include_url=False) if not _is_echo(details)]
        return None, tree.faults + [fault for fault in found if (fault.place, fault.keys) not in refused]


S = TypeVar("S", bound=BaseModel)


def section_in(tree: Tree, keys: Keys, model: type[S], value: Any) -> S | None:
    """Returns a section of another kind that stands at `keys` of a tree; None when it has faults, which join the
    tree's."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        own = Tree(value)
        for mine, theirs in ((own.values, tree.values), (own.keys, tree.keys)):
            mine |= {at[len(keys) :]: place for at, place in theirs.items() if at[: len(keys)] == keys}
        found = [_fault(details, own, model) for details in error.errors(include_url=False) if not _is_echo(details)]
        tree.faults += [fault._replace(keys=keys + fault.keys) for fault in found]
        return None


def refused(faults: Sequence[Fault], more: str = "") -> ConfigError:
    """Returns the error that says a line for each fault, in the order of their places, for MAX_FAULTS at the most.

    A last line counts the rest, and says what was not looked at: `more`, if anything.
    """
    lines = [str(fault) for fault in nsmallest(MAX_FAULTS, faults, key=lambda fault: fault.place)]
    left = len(faults) - len(lines)
    rest = ", ".join(f"and {words}" for words in (f"{left:,} more" if left else "", more) if words)
    return ConfigError("\n".join([*lines, f"... {rest}"] if rest else lines))


def _is_echo(error: ErrorDetails) -> bool:
    """Whether a list is called too short only because pydantic left out the items it found fault with."""
    value = error["input"]
    return error["type"] == "too_short" and isinstance(value, list) and len(value) >= error.get("ctx", {})["min_length"]


def _no_mapping(value: Any) -> str:
    if value is None:
        return "there is nothing in it; `vgx new NAME` writes a config to start from"
    return f"a config is a mapping of keys to values, and this is {shown(value)}"


_GIVES_WAY: dict[Keys, Keys] = {
    ("train", "steps"): ("train", "epochs"),
    ("train", "epochs"): ("train", "steps"),
    ("model", "width"): ("model", "depth"),
}
"""What an override of a key removes, since the two cannot stand together; a width only does when it is a list."""


def override(tree: Tree, text: str, turn: int) -> None:
    """Puts what `path=value` says into the tree, or its fault among the tree's."""
    path, equals, value_text = text.partition("=")
    keys: Keys = tuple(path.strip().split("."))
    if not equals or not all(keys) or len(keys) > yaml_tree.DEEPEST:
        tree.faults.append(Fault(Place(turn, source=f"--set {text!r}"), (), "give it as path=value"))
        return
    place = Place(turn, source=f"--set {text if text.isprintable() else repr(text)}")
    read = yaml_tree.read(value_text, "")
    tree.faults += [Fault(place, keys + fault.keys, fault.reason) for fault in read.faults]
    assign(tree, keys, read.value, place)


def assign(tree: Tree, keys: Keys, value: Any, place: Place) -> None:
    """Puts a value into the tree, as an override does, or a fault among the tree's when there is no room for it."""
    model, section = Config, tree.value
    for depth, key in enumerate(keys[:-1], start=1):
        inner = _opened(section.get(key), _field(model, key))
        if not isinstance(inner, dict):
            reason = f"{yaml_tree.dotted(keys[:depth])} is {shown(inner)}, which has no keys; set it as a whole"
            tree.faults.append(Fault(place, (), reason))
            return
        tree.values.setdefault(keys[:depth], place)
        tree.keys.setdefault(keys[:depth], place)
        section[key] = inner
        section, model = inner, _inside(model, key, inner)
    tree.forget(keys)
    section[keys[-1]] = value
    tree.values[keys] = tree.keys[keys] = place
    contrary = _GIVES_WAY.get(keys)
    if contrary and (isinstance(value, list) if keys[-1] == "width" else value is not None):
        tree.forget(contrary)
        section.pop(contrary[-1], None)


def _opened(value: Any, field: FieldInfo | None) -> Any:
    """Returns the mapping that stands for a part's bare name, or for what is left out; another value as it is."""
    if field is not None and registry_of(field) is not None:
        default = field.get_default(call_default_factory=True) if value is None else None
        if isinstance(default, Part):
            value = default.name
        if isinstance(value, str):
            return {"name": value}
    return {} if value is None else value


def _field(model: type[BaseModel] | None, key: Any) -> FieldInfo | None:
    return fields_of(model).get(key) if model else None


def _inside(model: type[BaseModel] | None, key: Any, value: Any) -> type[BaseModel] | None:
    """Returns the section or part that `value`, at `key` of `model`, asks for; None when it is neither."""
    field = _field(model, key)
    if field is None:
        return None
    if (registry := registry_of(field)) is not None:
        name = value.get("name") if isinstance(value, dict) else value
        return registry[name] if isinstance(name, str) and name in registry else None
    kinds = (field.annotation, *_kinds(field, UnionType, Union))
    return next((kind for kind in kinds if _is_model(kind)), None)


def _follow(
    location: tuple[int | str, ...], tree: Any, root: type[BaseModel]
) -> tuple[Keys, type[BaseModel] | None, FieldInfo | None]:
    """Returns the keys to a fault, less the members of unions that pydantic names; its section or part; its field."""
    keys: list[str | int] = []
    owner, field, model = None, None, root
    for key in location:
        if model is not None:
            tree = tree.get(key) if isinstance(tree, dict) else None
            owner, field, model = model, _field(model, key), _inside(model, key, tree)
            keys.append(key)
        elif isinstance(key, int):
            keys.append(key)
            tree = tree[key] if isinstance(tree, list) and key < len(tree) else None
            model = next((kind for kind in _kinds(field, tuple) if _is_model(kind)), None)
    return tuple(keys), owner, field


def _kinds(field: FieldInfo | None, *of: Any) -> tuple[Any, ...]:
    """What a field's list or union holds."""
    kind = field.annotation if field else None
    return get_args(kind) if get_origin(kind) in of else ()


def _is_model(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _fault(error: ErrorDetails, tree: Tree, root: type[BaseModel] = Config) -> Fault:
    """Returns what pydantic found, in our own words and with its place."""
    keys, owner, field = _follow(error["loc"], tree.value, root)
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden" and owner is not None:
        if keys[0] in _ELSEWHERE:
            return Fault(tree.key_place(keys), keys, _ELSEWHERE[keys[0]])
        return Fault(tree.key_place(keys), keys[:-1], _unknown(owner, str(keys[-1])))
    if kind == "missing":
        subject = owner.name if owner is not None and issubclass(owner, Part) else "this"
        return Fault(tree.place(keys[:-1]), keys[:-1], f"{subject} needs '{keys[-1]}', which has no default")
    if kind == "conflict":
        keys = (*keys, *context["at"].split("."))
        return Fault(tree.key_place(keys), keys, context["reason"])
    if kind == "part_name":
        return Fault(tree.place((*keys, "name")), keys, context["reason"])
    if kind == "part":
        reason = f"{context['reason']}, {_found_for_part(value, field)}"
    elif "error" in context:  # a ValueError raised by a check of vgx or of a user's part
        reason = " ".join(str(context["error"]).split())
    elif kind == "literal_error":
        choices = re.findall("'([^']*)'", context["expected"])
        reason = f"expected {context['expected']}, found {shown(value)}{_near(value, choices)}"
    elif kind == "bool_type" and isinstance(value, str) and value.lower() in _BOOLEANS:
        reason = f"'{value}' is text here; write {_BOOLEANS[value.lower()]}"
    elif kind in _WRONG:
        many = " or a list of them" if "one" in error["loc"] else " or full" if COUNT_OR_FULL in error["loc"] else ""
        reason = _WRONG[kind].format_map(context | {"found": shown(value), "many": many}) + _instead(kind, value)
    else:
        reason = error["msg"]
    return Fault(tree.place(keys), keys, reason)


_ELSEWHERE: dict[Any, str] = {
    "sweep": "this is a sweep, of many configs; `vgx sweep` runs it",
    "map": "this is a map, of many configs; `vgx map` runs it",
    "claim": "this is an experiment; `vgx reproduce` runs it",
    "scales": "this is an experiment; `vgx reproduce` runs it",
    "tuning": "this is an experiment; `vgx reproduce` runs it",
}

_BOOLEANS = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}

_WRONG = {
    "int_type": "expected a whole number{many}, found {found}",
    "float_type": "expected a number, found {found}",
    "bool_type": "expected true or false, found {found}",
    "string_type": "expected text, found {found}",
    "string_unicode": "expected text, found {found}",
    "list_type": "expected a list, found {found}",
    "tuple_type": "expected a list, found {found}",
    "model_type": "expected a mapping of keys to values, found {found}",
    "greater_than": "must be more than {gt:.10g}, and is {found}",
    "greater_than_equal": "must be at least {ge:.10g}, and is {found}",
    "less_than": "must be less than {lt:.10g}, and is {found}",
    "less_than_equal": "must be at most {le:.10g}, and is {found}",
    "finite_number": "must be finite, and is {found}",
    "too_short": "the list needs {min_length} or more, and has {actual_length}",
    "too_long": "the list takes {max_length} or fewer, and has {actual_length}",
}
"""What is wrong, for each type of error that pydantic knows and a config can meet."""


def _unknown(owner: type[BaseModel], key: str) -> str:
    known = list(fields_of(owner))
    near = did_you_mean(key, known)
    if issubclass(owner, Part):
        return f"{owner.name} has no option {key[:60]!r}; it has {', '.join(known) or 'none'}{near}"
    elsewhere = next((f"; did you mean '{path}'?" for path in _paths(Config) if path.endswith(f".{key}")), "")
    return f"unknown key {key[:60]!r}{elsewhere or near or '; known: ' + ', '.join(known)}"


def _paths(model: type[BaseModel]) -> Iterator[str]:
    """Yields the path of every key that a config can have whatever parts it names."""
    for name, field in fields_of(model).items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{name}.{path}" for path in _paths(field.annotation))


def _found_for_part(value: Any, field: FieldInfo | None) -> str:
    if isinstance(value, dict):
        return f"found the name {shown(value['name'])}" if "name" in value else "found no name"
    registry = registry_of(field) if field is not None else None
    return f"found {shown(value)}{_near(value, ['none'] if registry and 'none' in registry else [])}"


def _near(value: Any, known: list[str]) -> str:
    word = "none" if value is None or value is False else value
    return did_you_mean(word, known) if isinstance(word, str) else ""


def _instead(kind: str, value: Any) -> str:
    """Returns `; write x` where it is plain what was meant."""
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if kind == "int_type" and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return f"; write {shown(int(value))}"
    if kind in ("int_type", "float_type") and isinstance(value, str):
        try:
            number = yaml_tree.plain(re.sub("(?<=[0-9])[_,](?=[0-9]{3})", "", value))
        except ValueError:
            return ""
        if isinstance(number, int if kind == "int_type" else int | float) and not isinstance(number, bool):
            return f"; write {shown(number)}"
    return ""


def starter(name: str) -> str:
    """Returns a commented YAML config of defaults. Raises ConfigError when `name` is none that a config can have."""
    if (legal := legal_name(name)) != name:
        raise ConfigError(f"{name!r} cannot name a config; try '{legal}'")
    return textwrap.dedent(f"""\
        # `vgx parts` lists every choice with its options, as in: activation: {{name: leaky_relu, negative_slope: 0.2}}
        {yaml_tree.write({"name": name}).strip()}
        seeds: 1  # how many, side by side; or a list of seeds
        # The examples.
        data:
          name: digits  # {_choices(DATASETS)}
          input: unit  # unit, centered, standardized or binary
          validation: 0  # how many training examples to hold out
        # The net: hidden layers x = norm(f(W x + b)) and a linear readout.
        model:
          depth: 20  # hidden layers
          width: 128  # units in each; or a list such as [300, 100], without a depth
          activation: relu  # {_choices(ACTIVATIONS)}
          initializer: he_normal  # {_choices(INITIALIZERS)}
          bias: zeros  # {_choices(BIASES)}
          normalization: none  # {_choices(NORMALIZATIONS)}
          residual: none  # {_choices(RESIDUALS)}
          dropout: 0.0  # the chance that a step drops a unit
        # The training.
        train:
          loss: cross_entropy  # or mse, half the squared distance to the one-hot label
          batch_size: 128  # or full
          steps: 1000  # or epochs instead
          optimizer: {{name: sgd, learning_rate: 0.1}}  # {_choices(OPTIMIZERS)}
          clip: none  # {_choices(CLIPS)}
          precision: float32  # float32, bfloat16 or float64
          evaluate_every: 100  # steps
        # The record.
        log:
          every: 1  # steps between records of the layers
          statistics: standard  # none, lite, standard or full
          # spectrum: {{examples: 4, at: evaluation}}  # singular values of Jacobians; at: first, or a list of steps
          # sharpness: {{examples: 1024}}  # evaluations measure the largest eigenvalue of the training loss's Hessian
          tensorboard: false  # true: event files as well
        # What turns a run into a test: `vgx train` exits 3 when it does not hold.
        expect: {{}}  # such as {{verdict: healthy, slope: predicted, test_accuracy: '>= 0.95'}}
        # Modules of your own that register parts, looked for where the command runs and among what is installed.
        import: []  # such as [my_parts]
        """)


def _choices(registry: Registry[Any]) -> str:
    return textwrap.shorten(", ".join(part.name for part in registry), 88, placeholder=" ...")
