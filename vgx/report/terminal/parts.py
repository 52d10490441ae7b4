"""What there is to choose from: `vgx parts` and `vgx data list`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vgx.data import DATASETS
from vgx.data.download import verify
from vgx.data.mirrors import PUBLISHED
from vgx.errors import VgxError, did_you_mean
from vgx.parts import ACTIVATIONS, BIASES, CLIPS, INITIALIZERS, NORMALIZATIONS, OPTIMIZERS, RESIDUALS, SCHEDULES
from vgx.registry import Part, Registry
from vgx.report.terminal.tables import plain_table

if TYPE_CHECKING:
    from vgx.config.shipped import Example

KINDS: dict[str, Registry[Any]] = {
    "activations": ACTIVATIONS,
    "initializers": INITIALIZERS,
    "biases": BIASES,
    "normalizations": NORMALIZATIONS,
    "residuals": RESIDUALS,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "clips": CLIPS,
    "datasets": DATASETS,
}


def kinds_called(word: str | None) -> Mapping[str, Registry[Any]]:
    """Returns the registries of the kind `word` (singular or plural), or all. Raises VgxError for another word."""
    if word is None:
        return KINDS
    for plural, registry in KINDS.items():
        if word in (plural, registry.kind):
            return {plural: registry}
    raise VgxError(f"no parts are called '{word}'{did_you_mean(word, list(KINDS)) or '; kinds: ' + ', '.join(KINDS)}")


def catalogue(registries: Mapping[str, Registry[Any]]) -> RenderableType:
    """Returns every part: name and aliases, what it is, formula, options with defaults, source."""
    lines: list[RenderableType] = []
    for plural, registry in registries.items():
        lines.append(Text(plural, "bold underline"))
        for part in registry:
            lines += [_title(part), Padding(_details(part), (0, 0, 1, 4))]
    return Group(*lines)


def _title(part: type[Part]) -> Text:
    aliases = f"  (or {', '.join(part.aliases)})" if part.aliases else ""
    return Text.assemble("  ", (part.name, "bold cyan"), (aliases, "dim"))


def _details(part: type[Part]) -> Group:
    lines = [Text(part.summary()), Text(part.formula, "green")]
    for name, field in part.model_fields.items():
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        lines.append(
            Text.assemble(
                (f"{name}: {default}", "yellow"), (f"  {field.description}" if field.description else "", "dim")
            )
        )
    return Group(*lines, Text(part.source(), "dim italic"))


def _default(value: Any) -> str:
    if isinstance(value, Part):
        return value.name
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def catalogue_json(registries: Mapping[str, Registry[Any]]) -> dict[str, list[dict[str, Any]]]:
    """Returns the same as plain values."""
    return {plural: [_plain(part) for part in registry] for plural, registry in registries.items()}


def _plain(part: type[Part]) -> dict[str, Any]:
    options = {
        name: {"required": True}
        if field.is_required()
        else {"default": _json_default(field.get_default(call_default_factory=True))}
        for name, field in part.model_fields.items()
    }
    words = {"summary": part.summary(), "formula": part.formula, "source": part.source()}
    return {"name": part.name, "aliases": list(part.aliases), **words, "options": options}


def _json_default(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def data_table() -> Table:
    """Returns the data sets as a table: name, what it is, and what is on disk."""
    table = plain_table("name", "what it is", "on disk")
    for source in DATASETS:
        table.add_row(Text(source.name, "bold cyan"), source.formula, _on_disk(source.name))
    return table


def examples_table(examples: Iterable[Example]) -> Table:
    """Returns examples as a table: name, what runs it, what it is."""
    table = plain_table("name", "runs with", "what it is")
    for example in examples:
        table.add_row(Text(example.name, "bold cyan", no_wrap=True), f"vgx {example.command}", example.says)
    return table


def _on_disk(name: str) -> Text:
    if name == "digits":
        return Text("in the package", "green")
    if name not in PUBLISHED:
        return Text("-", "dim")
    states = {check.state for check in verify(name)}
    if states <= {"ok", "unchecked"}:
        return Text("ok", "green")
    return Text(f"missing: vgx data get {name}" if states == {"missing"} else ", ".join(sorted(states)), "yellow")
