"""The playground: a page that predicts any net's gradient in the browser, from tables that Python worked out."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vgx.report.html.render import page
from vgx.report.html.write import refuse_others
from vgx.report.palette import VERDICTS
from vgx.results.files import drafted, explained

TABLES = Path(__file__).parent / "static" / "playground.npz"
"""What `python -m benchmarks.playground_tables` wrote of the activations that vgx has."""
SCRIPTS = [
    "page.js",
    "playground_theory.js",
    "playground_streams.js",
    "playground_cure.js",
    "plots.js",
    "playground_chart.js",
    "playground.js",
]


def shipped_tables() -> dict[str, dict[str, np.ndarray]]:
    """Returns the tables of the activations that vgx has, by activation and by name, as `vgx.theory.tables` says."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(TABLES) as file:
        for key in file.files:
            activation, _, name = key.partition("/")
            found.setdefault(activation, {})[name] = file[key]
    return found


def write_playground(
    target: Path, choices: dict[str, Any], activations: Mapping[str, Mapping[str, Any]], version: str
) -> None:
    """Writes the page. An older page of vgx is replaced.

    Args:
        target: its path.
        choices: what `vgx.theory.tables.choices` returns.
        activations: by name; each has `formula`, `random` and its `tables`.
        version: of vgx.

    Raises RunError when something else than a page of vgx is there; EnvironmentFault when the disk refuses.
    """
    refuse_others(target)
    packed = {
        name: {**one, "tables": {key: _base64(table) for key, table in one["tables"].items()}}
        for name, one in activations.items()
    }
    signs = {word: sign._asdict() for word, sign in VERDICTS.items()}
    html = page(
        "playground.html",
        SCRIPTS,
        {"choices": choices, "activations": packed, "signs": signs},
        title="Playground",
        activations=list(activations),
        initializers=[row["name"] for row in choices["initializers"]],
        normalizations=[row["title"] for row in choices["normalizations"]],
        batches=choices["batches"],
        residuals=[row["name"] for row in choices["residuals"]],
        version=version,
    )
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with drafted(target) as draft:
            draft.write_text(html, encoding="utf-8")


def _base64(table: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(table).astype(table.dtype.newbyteorder("<")).tobytes()).decode()
