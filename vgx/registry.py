"""Parts: the named pieces a config chooses, and the registry that finds them.

A part is a frozen pydantic model whose fields are its YAML options. Registering it is all it takes to make it usable in
a config, listed by `vgx parts`, present in the JSON Schema and covered by the tests that run over a registry.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Generic, ParamSpec, Self, TypeVar, cast
from weakref import WeakSet

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializationInfo,
    model_serializer,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

from vgx.errors import did_you_mean

A = ParamSpec("A")
T = TypeVar("T")
P = TypeVar("P", bound="Part")
C = TypeVar("C", bound="type[Part]")


def remembered(make: Callable[A, T]) -> Callable[A, T]:
    """`make`, remembering what it made of the last 16,384 arguments: parts, sections and configs hash by their values.

    (To a type checker, `lru_cache` forgets which arguments there are.)
    """
    return cast(Callable[A, T], lru_cache(maxsize=2**14)(make))


def _hashable(option: Any) -> Any:
    """An option as it enters its part's hash: a user's part may have lists."""
    return tuple(map(_hashable, option)) if isinstance(option, list | tuple) else option


class Frozen(BaseModel):
    """A strict model whose values do not change, so that its hash, by class and values, is worked out once."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @cached_property
    def _hash(self) -> int:
        return hash((type(self), *(_hashable(getattr(self, name)) for name in type(self).model_fields)))

    def __hash__(self) -> int:
        return self._hash

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Returns a copy with other values, and a hash of its own."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("_hash", None)
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        """Leaves the hash out: in another process words have others."""
        state = super().__getstate__()
        values = {name: value for name, value in state["__dict__"].items() if name != "_hash"}
        return state | {"__dict__": values}


class Part(Frozen):
    """A named piece of a net or its training; its fields are its options."""

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    formula: ClassVar[str] = ""
    """The part in one line of mathematics."""

    @model_serializer
    def _named(self, info: SerializationInfo) -> dict[str, Any]:
        left_out = info.exclude or ()
        return {"name": self.name} | {option: value for option, value in self if option not in left_out}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema of its options, and of the name that chooses it."""
        options = handler.resolve_ref_schema(handler(schema))
        name = {"enum": [cls.name, *cls.aliases], "description": cls.formula}
        return options | {
            "description": cls.summary(),
            "properties": {"name": name} | options.get("properties", {}),
            "required": ["name", *options.get("required", [])],
        }

    @classmethod
    def summary(cls) -> str:
        """Returns the first line of the part's docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]

    @classmethod
    def source(cls) -> str:
        """Returns the paper or definition: the last paragraph of the docstring, or nothing if there is only one."""
        paragraphs = (inspect.getdoc(cls) or "").split("\n\n")
        return " ".join(paragraphs[-1].split()) if len(paragraphs) > 1 else ""

    def __str__(self) -> str:
        changed = {name: value for name, value in self if value != type(self).model_fields[name].default}
        options = ", ".join(f"{name}: {value}" for name, value in changed.items())
        return f"{self.name} ({options})" if options else self.name


_REGISTRIES: WeakSet[Registry[Any]] = WeakSet()


class Registry(Generic[P]):
    """The parts of one kind by name, in the order they were registered."""

    def __init__(self, kind: str):
        self.kind = kind
        self._parts: dict[str, type[P]] = {}
        self._aliases: dict[str, str] = {}
        _REGISTRIES.add(self)

    def __repr__(self) -> str:
        return f"Registry({self.kind!r})"

    def register(self, name: str, *aliases: str) -> Callable[[C], C]:
        """Returns a class decorator that files the part under `name` and each alias. A name is taken only once."""

        def file(part: C) -> C:
            for word in (name, *aliases):
                if word in self._parts or word in self._aliases:
                    raise ValueError(f"the {self.kind} '{word}' is registered already")
            part.name, part.aliases = name, aliases
            self._parts[name] = cast(type[P], part)
            self._aliases |= dict.fromkeys(aliases, name)
            return part

        return file

    def __iter__(self) -> Iterator[type[P]]:
        return iter(self._parts.values())

    def __contains__(self, name: object) -> bool:
        return name in self._parts or name in self._aliases

    def __getitem__(self, name: str) -> type[P]:
        """Returns the part called `name`. Raises KeyError, with the nearest name, when there is none."""
        if name not in self:
            near = did_you_mean(name, [*self._parts, *self._aliases])
            raise KeyError(f"no {self.kind} is called {name[:60]!r}{near or '; known: ' + ', '.join(self._parts)}")
        return self._parts[self._aliases.get(name, name)]

    def parse(self, value: Any) -> P:
        """Returns the part that a config's `value` asks for: a part, its name, or a mapping with `name` and options."""
        if isinstance(value, Part):
            if self._parts.get(value.name) is type(value):
                return cast(P, value)
            value = value.model_dump()
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            article = "an" if self.kind[0] in "aeiou" else "a"
            example = next((word for word in value if word in self), None) if isinstance(value, dict) else None
            mapping = f"{{name: {example or next(iter(self._parts))}, ...}}"
            raise PydanticCustomError(
                "part",
                "{reason}",
                {"reason": f"expected the name of {article} {self.kind}, or {mapping} with its options"},
            )
        try:
            part = self[value["name"]]
        except KeyError as error:
            raise PydanticCustomError("part_name", "{reason}", {"reason": error.args[0]}) from None
        return part.model_validate({key: option for key, option in value.items() if key != "name"})

    @property
    def field(self) -> Any:
        """What makes a pydantic field hold one of these parts, as in `Annotated[Activation, ACTIVATIONS.field]`."""
        return _PartField(self)


@contextmanager
def temporary() -> Iterator[None]:
    """A context that forgets, at its end, every part that was registered inside it."""
    before = [(registry, dict(registry._parts), dict(registry._aliases)) for registry in _REGISTRIES]
    try:
        yield
    finally:
        for registry, parts, aliases in before:
            registry._parts, registry._aliases = parts, aliases


class _PartField:
    def __init__(self, registry: Registry[Any]):
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.registry.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda part, info: part.model_dump(exclude=info.exclude), info_arg=True
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Written afresh at each call, so that parts registered by a user are in it."""
        parts = list(self.registry)
        bare = [part for part in parts if not any(field.is_required() for field in part.model_fields.values())]
        names = core_schema.literal_schema([word for part in bare for word in (part.name, *part.aliases)])
        return handler(core_schema.union_schema([names, *(part.__pydantic_core_schema__ for part in parts)]))


def registry_of(field: FieldInfo) -> Registry[Any] | None:
    """Returns the registry whose parts a model's field holds, or None when it holds no part."""
    return next((mark.registry for mark in field.metadata if isinstance(mark, _PartField)), None)
