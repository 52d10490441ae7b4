"""The JSON Schema of every file that vgx reads: a config, a sweep, or an experiment."""

from __future__ import annotations

import copy
from typing import Any

from pydantic.json_schema import models_json_schema

from vgx.config import schema as config
from vgx.reproduce.experiment import Claim
from vgx.reproduce.scales import SCALES, Size
from vgx.reproduce.tuning import TuningOptions

PATHS = {r"^[a-z_]+(\.[a-z_]+)+$": {"description": "One option, by its path such as train.optimizer.learning_rate."}}
"""Beside whole sections, changes may name an option by its path."""
UNCHANGED = ("name", "sweep", "map")
"""What an experiment's changes cannot have as a config has it."""


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a config, sweep or experiment, with the parts registered by now."""
    schema = config.json_schema()
    models = (Claim, TuningOptions, Size)
    references, found = models_json_schema([(model, "validation") for model in models], ref_template="#/$defs/{model}")
    schema["$defs"] |= found["$defs"]
    claim, tuning, size = (references[model, "validation"] for model in models)
    options = {name: node for name, node in schema["properties"].items() if name not in UNCHANGED}
    tuned = _changes(schema["$defs"].pop(_name(tuning)), options)
    scale = _changes(schema["$defs"].pop(_name(size)), options)
    grid = copy.deepcopy(schema["properties"]["sweep"])
    grid["description"] = "Axes and cells that replace those of the same names."
    scale["properties"]["sweep"] = grid
    scale["properties"]["tuning"] = {**tuned, "required": []}
    schema["properties"] |= {
        "claim": claim,
        "tuning": tuned,
        "scales": {
            "type": "object",
            "description": "How large to make the experiment: what `--scale` changes.",
            "properties": dict.fromkeys(SCALES, scale),
            "additionalProperties": False,
        },
    }
    schema["dependentRequired"] = {"claim": ["sweep"], "tuning": ["claim"], "scales": ["claim"]}
    return schema


def _changes(own: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The schema of changes of the base config, beside keys of their own."""
    return {**own, "properties": {**options, **own["properties"]}, "patternProperties": PATHS}


def _name(reference: dict[str, Any]) -> str:
    return reference["$ref"].rpartition("/")[2]
