"""What the sections of a config have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field

from vgx.registry import Frozen

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Step = Annotated[int, Field(ge=0, lt=2**31)]


def _one_or_many(value: Any) -> str:
    return "many" if isinstance(value, list | tuple) else "one"


OneOrMany = Discriminator(_one_or_many)


class Section(Frozen):
    """A part of the tree: frozen, strict, every field explained to the JSON Schema by its docstring."""

    later: ClassVar[frozenset[str]] = frozenset()
    """Options that earlier versions did not have."""

    @property
    def later_defaults(self) -> set[str]:
        """The `later` options that have their defaults: they tell a run from none that an earlier version made."""
        return {name for name in self.later if getattr(self, name) == type(self).model_fields[name].default}
