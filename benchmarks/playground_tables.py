"""Writes the tables that the playground's page interpolates: `python -m benchmarks.playground_tables`, some 20 minutes.

To be run when theory has changed; `tests/theory/test_tables.py` fails until then.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import vgx
from vgx.parts import ACTIVATIONS
from vgx.report.html.playground_page import TABLES
from vgx.theory.predict import default_activations, source_of
from vgx.theory.tables import tables_of


def main(only: list[str]) -> None:
    """Tabulates the registered activations, or those named, and keeps the others as they are."""
    data = vgx.load_config({"data": "digits"}).data
    inputs = source_of(data.load(), data.input).signal
    kept = dict(np.load(TABLES)) if TABLES.exists() else {}
    for activation in map(ACTIVATIONS.parse, only) if only else default_activations():
        kept |= {f"{activation.name}/{name}": table for name, table in tables_of(activation, inputs).items()}
        np.savez_compressed(TABLES, **kept)
        print(activation.name, f"{Path(TABLES).stat().st_size / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
