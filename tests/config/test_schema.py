"""The JSON Schema that an editor checks a config with, against an independent validator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from vgx.config import yaml_tree
from vgx.config.load import load_config, starter
from vgx.config.schema import Config, json_schema
from vgx.data import DATASETS
from vgx.errors import ConfigError
from vgx.parts import ACTIVATIONS, BIASES, CLIPS, INITIALIZERS, NORMALIZATIONS, OPTIMIZERS, RESIDUALS, SCHEDULES
from vgx.parts.activations import Activation
from vgx.registry import temporary

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)

GOOD = [
    "{}",
    "name: x\nseeds: [0, 5]",
    "data: digits",
    "data: {name: mnist, input: unit}",
    "data: {name: mnist, input: standardized, validation: {examples: 5000, from: first}}",
    "data: {name: npz, path: mine.npz, classes: [3, 7], limit: 100, max_bytes: 4GB}",
    "data: {name: mnist, max_bytes: 512 MiB}",
    "import: [json, json.tool]",
    "data: {name: synthetic, examples: 10, validation: 2}",
    "model: {width: [300, 100]}",
    "model: {depth: 1000, width: 64, activation: sigmoid, initializer: xavier_uniform}",
    "model: {activation: {name: leaky_relu, negative_slope: 0.2}, bias: {name: constant, value: 1}}",
    "model: {normalization: {name: batch_norm, placement: after, momentum: 0.5}, dropout: 0}",
    "train: {optimizer: {name: adam, learning_rate: 1e-3, schedule: {name: cosine, warmup: 10}}}",
    "train: {optimizer: {name: sgd, schedule: step}, clip: {name: norm, limit: 2}, epochs: 3}",
    "log: {every: 10, statistics: none}",
    "train: {batch_size: full, loss: mse}",
    starter("mine"),
    Config().to_yaml(),
    *(path.read_text() for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))),
]

BAD = [
    "modle: {}",
    "sweep: {}",
    "map: {}",
    "model: {detph: 3}",
    "model: 3",
    "model: ~",
    "model: {depth: abc}",
    "model: {depth: 0}",
    "model: {depth: 1.5}",
    "model: {width: wide}",
    "model: {width: []}",
    "model: {width: [1, x]}",
    "model: {dropout: 1}",
    "model: {activation: leaky_rely}",
    "model: {activation: {negative_slope: 1}}",
    "model: {activation: {name: leaky_relu, slope: 1}}",
    "model: {activation: {name: relu, negative_slope: 1}}",
    "model: {activation: {name: elu, alpha: x}}",
    "model: {initializer: constant}",
    "model: {normalization: ~}",
    "model: {normalization: {name: batch, placement: befor}}",
    "name: my run",
    "name: 3",
    "seeds: -1",
    "seeds: [-1]",
    "data: {name: minst}",
    "data: {name: npz}",
    "data: {name: digits, validation: -1}",
    "data: {name: digits, max_bytes: 0}",
    "data: {name: digits, max_bytes: 4 miles}",
    "import: my_parts",
    "import: [../parts]",
    "data: {name: digits, validation: {from: first}}",
    "data: {name: digits, validation: {examples: 1, form: first}}",
    "train: {stop_when_diverged: no}",
    "train: {precision: float16}",
    "train: {steps: 0}",
    "train: {optimizer: {name: sgd, schedule: {name: cosine, final: 2}}}",
    "train: {optimizer: {name: sgd, schedule: cosin}}",
    "train: {optimizer: {name: sgd, momentum: 0.9}}",
    "[]",
]


@pytest.mark.parametrize("text", GOOD, ids=lambda text: repr(text[:50]))
def test_what_loads_is_valid(text, tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(text)
    assert isinstance(load_config(path), Config)
    assert [error.message for error in VALIDATOR.iter_errors(yaml_tree.read(text, "good").value)] == []


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_in_structure_neither_loads_nor_is_valid(text, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_config(path)
    assert not VALIDATOR.is_valid(yaml_tree.read(text, "bad").value)


def nodes(schema: Any) -> list[dict[str, Any]]:
    """Every mapping in the schema, outermost first."""
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return ([schema] if isinstance(schema, dict) else []) + [node for item in inner for node in nodes(item)]


def test_the_schema_is_one_of_the_draft_it_names():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["title"] == "vgx config"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_every_reference_leads_to_a_definition_at_the_root():
    assert all("$defs" not in node for node in nodes(SCHEMA)[1:] if node is not SCHEMA["$defs"])
    references = {node["$ref"] for node in nodes(SCHEMA) if isinstance(node.get("$ref"), str)}
    assert references == {f"#/$defs/{name}" for name in SCHEMA["$defs"]}


def mappings_of_options() -> list:
    """All mappings but those of a sweep, whose keys are paths."""
    options = SCHEMA | {"properties": {key: node for key, node in SCHEMA["properties"].items() if key != "sweep"}}
    return [node for node in nodes(options) if node.get("type") == "object"]


def test_no_mapping_takes_keys_it_does_not_name():
    mappings = mappings_of_options()
    assert len(mappings) > 50
    assert all(node["additionalProperties"] is False for node in mappings)


def test_every_key_of_a_section_and_every_option_of_a_part_is_described():
    for node in mappings_of_options():
        assert node["description"]
        assert [key for key, option in node["properties"].items() if not option.get("description")] == []


@pytest.mark.parametrize(
    "registry", [DATASETS, ACTIVATIONS, INITIALIZERS, BIASES, NORMALIZATIONS, RESIDUALS, OPTIMIZERS, SCHEDULES, CLIPS],
    ids=lambda registry: registry.kind,
)  # fmt: skip
def test_an_editor_offers_every_part_by_every_name(registry):
    words = {word for part in registry for word in (part.name, *part.aliases)}
    bare = [set(node["enum"]) for node in nodes(SCHEMA) if "enum" in node]
    named = [node["properties"]["name"].get("enum") for node in nodes(SCHEMA) if "name" in node.get("properties", {})]
    required = {
        part.name for part in registry if any(field.is_required() for field in part.model_fields.values())
    }  # a bare name cannot say these
    assert words - required in bare
    assert all([part.name, *part.aliases] in named for part in registry)
    descriptions = {node.get("description") for node in nodes(SCHEMA)}
    assert {part.summary() for part in registry} <= descriptions


def test_a_part_registered_later_is_in_the_schema_from_then_on():
    part = type("Mine", (Activation,), {"__doc__": "Mine alone.", "formula": "h", "__module__": __name__})
    with temporary():
        ACTIVATIONS.register("mine")(part)
        assert Draft202012Validator(json_schema()).is_valid({"model": {"activation": {"name": "mine"}}})
        assert load_config({"model": {"activation": "mine"}}).model.activation == part()
    assert not VALIDATOR.is_valid({"model": {"activation": "mine"}})


def test_the_defaults_an_editor_shows_are_the_config_s_own():
    shown = SCHEMA["$defs"]["Model"]["properties"]
    assert {key: shown[key]["default"] for key in ("width", "dropout", "activation")} == {
        "width": 128,
        "dropout": 0.0,
        "activation": {"name": "relu"},
    }
