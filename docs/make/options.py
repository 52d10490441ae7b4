"""The pages of every key of a file, from the JSON Schema that editors use: type, default, effect."""

from __future__ import annotations

import json
from typing import Any

from vgx.data import DATASETS
from vgx.parts import ACTIVATIONS, BIASES, CLIPS, INITIALIZERS, NORMALIZATIONS, OPTIMIZERS, RESIDUALS, SCHEDULES
from vgx.registry import Registry
from vgx.reproduce.findings import COMPARISONS
from vgx.reproduce.metrics import STATISTICS
from vgx.reproduce.schema import json_schema

Schema = dict[str, Any]
PAGES: dict[str, tuple[Registry[Any], ...]] = {
    "activations": (ACTIVATIONS,),
    "initializers": (INITIALIZERS, BIASES),
    "normalizations": (NORMALIZATIONS,),
    "residuals": (RESIDUALS,),
    "optimizers": (OPTIMIZERS, SCHEDULES, CLIPS),
    "datasets": (DATASETS,),
    "experiments": (STATISTICS, COMPARISONS),
}
"""The registries whose parts have a page in reference/, by the page."""
CONFIG = """\
# Config

Every key of a config, as its schema has it: what may stand there, what stands there when it is left out, and what it
does. Unknown keys are refused, each with its line and the nearest key there is. `vgx new NAME` writes a commented file;
`--set model.depth=64` changes any of these on the command line; a run's own `config.yaml` has every value written out.
"""
EXPERIMENTS = """\
# Sweeps and experiments

A sweep file is a [config](config.md) with a `sweep` section; `vgx sweep` runs it. One with a `map` section is a
[map](../how-to/map.md); `vgx map` runs it. An experiment is a sweep file with a `claim`; `vgx reproduce` runs it. The
[files that ship](configs.md) are there to be copied.
"""


def pages() -> dict[str, str]:
    """Returns the pages by their paths in docs/."""
    schema = json_schema()
    own = {name: node for name, node in schema["properties"].items() if name not in _BEYOND}
    return {
        "reference/config.md": CONFIG + "".join(_section(schema, "", own, "The file", 2)),
        "reference/experiments.md": EXPERIMENTS + "\n" + "\n".join(_beyond(schema)),
    }


_BEYOND = ("sweep", "map", "claim", "tuning", "scales")


def _beyond(schema: Schema) -> list[str]:
    lines = [
        "## sweep\n",
        _described(schema["properties"]["sweep"]),
        "",
        *table(schema, schema["properties"]["sweep"]["properties"], "sweep."),
        "\nA path may be given by its end where that is the only such one: `learning_rate` is "
        "`train.optimizer.learning_rate`.",
    ]
    mapped = schema["properties"]["map"]
    lines += ["\n## map\n", _described(mapped), "", *table(schema, mapped["properties"], "map.")]
    claim = schema["$defs"]["Claim"]
    check = schema["$defs"]["Check"]
    lines += ["\n## claim\n", _described(claim), "", *table(schema, claim["properties"], "claim.")]
    lines += ["\n## claim.checks\n", _described(check), "", *table(schema, check["properties"], "")]
    lines += ["\n`largest` has the keys:\n", *table(schema, schema["$defs"]["Reach"]["properties"], "")]
    own = {name: node for name, node in schema["properties"]["tuning"]["properties"].items() if name in _TUNING}
    lines += [
        "\n## tuning\n",
        "A first stage of fewer seeds and steps, which chooses options for each arm. Besides these",
    ]
    lines += ["keys it takes those of a config, such as `seeds` and `train`: what is different in that stage.\n"]
    lines += table(schema, own, "tuning.")
    scale = schema["properties"]["scales"]["properties"]["smoke"]["properties"]
    size = {name: scale[name] for name in ("seconds", "judged")}
    lines += [
        "\n## scales\n",
        "What `--scale smoke`, `cpu` or `full` changes: keys of a config, `sweep`, `tuning`, and\n",
    ]
    lines += table(schema, size, "scales.cpu.")
    for registry in PAGES["experiments"]:
        lines += ["", *catalogue(registry)]
    return lines


_TUNING = ("over", "by", "extend")


def _section(schema: Schema, path: str, properties: Schema, title: str, level: int) -> list[str]:
    """A heading with its table, and below it the sections within."""
    lines = [f"\n{'#' * level} {title}\n\n", "\n".join(table(schema, properties, path)), "\n"]
    for name, node in properties.items():
        inner = _resolved(schema, node)
        if "properties" in inner:
            head = f"{path}{name}"
            lines += [f"\n{'#' * (level + bool(path))} {head}\n\n{_described(inner)}\n"]
            lines += ["\n", "\n".join(table(schema, inner["properties"], f"{head}.")), "\n"]
    return lines


def table(schema: Schema, properties: Schema, path: str) -> list[str]:
    """Returns a Markdown table: a row for each key."""
    lines = ["| key | may be | default | effect |", "|---|---|---|---|"]
    for name, node in properties.items():
        default = _default(node) if "default" in node else ""
        lines.append(f"| `{path}{name}` | {_cell(may_be(schema, node))} | {default} | {_cell(_described(node))} |")
    return lines


def may_be(schema: Schema, node: Schema) -> str:
    """Returns in words what a schema takes."""
    if (kind := _kind(node)) is not None:
        page = next(page for page, registries in PAGES.items() if kind in registries)
        return f"[{_named(kind)}]({page}.md#{anchor(kind)})"
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2].lower()
        return f"[section](#{name})" if name in schema["properties"] or name == "claim" else "a mapping"
    if "anyOf" in node or "oneOf" in node:
        choices = [may_be(schema, one) for one in node.get("anyOf") or node["oneOf"] if one != {"type": "null"}]
        return " or ".join(dict.fromkeys(choices))
    if "enum" in node or "const" in node:
        return ", ".join(f"`{one}`" for one in node.get("enum", [node.get("const")]))
    return _plain(schema, node)


def _plain(schema: Schema, node: Schema) -> str:
    kind = node.get("type", "anything")
    if kind == "array":
        item = may_be(schema, node.get("items", {}))
        return f"a list of {_SEVERAL.get(item, item.replace('whole number', 'whole numbers'))}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    word = words.get(kind, "mapping" if kind == "object" else kind)
    limits = [f"{sign} {node[key]:,}" for key, sign in _LIMITS.items() if abs(node.get(key, _ENDLESS)) < _ENDLESS]
    return " ".join([word, *([", ".join(limits)] if limits else [])])


_SEVERAL = {"text": "texts", "mapping": "mappings", "a mapping": "mappings", "number": "numbers", "anything": "values"}
_ENDLESS = 2**31 - 1
"""A limit that nobody meets."""


_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _kind(node: Schema) -> Registry[Any] | None:
    """The registry whose parts a schema takes, if it takes parts."""
    taken = {one["$ref"].rpartition("/")[2] for one in node.get("anyOf", []) if "$ref" in one}
    every = (registry for registries in PAGES.values() for registry in registries)
    return next((registry for registry in every if taken == {part.__name__ for part in registry}), None)


def _resolved(schema: Schema, node: Schema) -> Schema:
    return schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _default(node: Schema) -> str:
    value = node["default"]
    if value is None or value == {} or value == []:
        return ""
    if isinstance(value, dict):
        value = value.get("name", "")
        return f"`{value}`" if value else ""
    return f"`{json.dumps(value) if not isinstance(value, str) else value or chr(39) * 2}`"


def _described(node: Schema) -> str:
    return node.get("description", "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def anchor(registry: Registry[Any]) -> str:
    """Returns the anchor of a registry's heading."""
    return plural(registry).replace(" ", "-")


def _named(registry: Registry[Any]) -> str:
    return registry.kind.replace("dataset", "data set")


def plural(registry: Registry[Any]) -> str:
    """Returns what several parts of a registry are called."""
    word = _named(registry)
    return f"{word}es" if word.endswith("s") else f"{word}s"


def catalogue(registry: Registry[Any]) -> list[str]:
    """Returns a section of Markdown on every part of a registry: what it is, formula, options, source."""
    lines = [f"## {plural(registry).capitalize()}", ""]
    for part in registry:
        lines += [f"### {part.name}", ""]
        if part.aliases:
            lines += ["Also " + ", ".join(f"`{alias}`" for alias in part.aliases) + ".", ""]
        lines += [part.summary(), ""]
        if part.formula:
            lines += [f"    {part.formula}", ""]
        schema = part.model_json_schema()
        options = {name: node for name, node in schema["properties"].items() if name != "name"}
        if options:
            lines += [*table(schema | {"properties": {}}, options, ""), ""]
        if part.source():
            lines += [f"*{part.source()}*", ""]
    return lines
