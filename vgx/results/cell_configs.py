"""The resolved config of every cell of a sweep, kept in its directory, so that showing it takes no part's code.

    cells.json    {"sections": {"data": [...], "model": [...], ...}, "cells": {key: [which data, which model, ...]}}

Cells of a grid have most sections in common: each section stands there once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from vgx.errors import Damaged
from vgx.results.reading import RunConfig, read_json, valid
from vgx.results.store import Run
from vgx.results.writer import RunWriter

FILE = "cells.json"
SECTIONS = ("data", "model", "train", "log", "expect")
"""What cells may differ in; all else is the base's."""


def write_cell_configs(writer: RunWriter, configs: Mapping[str, BaseModel]) -> None:
    """Writes `cells.json`, from the config of each cell by its key."""
    numbers: dict[str, dict[BaseModel, int]] = {name: {} for name in SECTIONS}
    cells = {
        key: [known.setdefault(getattr(config, name), len(known)) for name, known in numbers.items()]
        for key, config in configs.items()
    }
    kept = {name: [section.model_dump(mode="json") for section in known] for name, known in numbers.items()}
    writer.write_text(FILE, json.dumps({"sections": kept, "cells": cells}) + "\n")


def cell_configs(run: Run) -> dict[str, dict[str, Any]] | None:
    """Returns the resolved config of each cell of a sweep, by its key; None where an older vgx kept none.

    Raises Damaged when the file is damaged.
    """
    path = run.path / FILE
    if not path.exists():
        return None
    base = {name: value for name, value in run.config.items() if name != "sweep"}
    try:
        kept = read_json(path, dict)
        configs = {
            key: base | {name: kept["sections"][name][i] for name, i in zip(SECTIONS, row, strict=True)}
            for key, row in kept["cells"].items()
        }
    except (ValueError, TypeError, LookupError, AttributeError):
        raise Damaged(path, "does not hold the configs of cells", "the same sweep again makes it anew") from None
    return {key: dict(valid(path, RunConfig, config)) for key, config in configs.items()}
