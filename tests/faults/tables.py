"""The rows of a run, read without vgx: what must not be lost, or changed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

KEYS = {"metrics": ("lane", "step"), "layers": ("lane", "step", "layer")}

PART = "[0-9]" * 6 + ".parquet"


def rows_of(run: Path) -> dict[str, bytes]:
    """Returns the rows of a run's tables, in order of their keys, as bytes that are equal when all bits are."""
    found = {}
    for name, keys in KEYS.items():
        parts = [parquet.read_table(path) for path in sorted((run / name).glob(PART))]
        found[name] = _bytes(pa.concat_tables(parts).sort_by([(key, "ascending") for key in keys])) if parts else b""
    lanes = parquet.read_table(run / "lanes.parquet") if (run / "lanes.parquet").exists() else None
    return found | {"lanes": b"" if lanes is None else _bytes(lanes.sort_by("lane"))}


def rows_exported(folder: Path) -> dict[str, bytes]:
    """Returns the rows of an export to CSV, likewise."""
    return {name: _bytes(csv.read_csv(folder / f"{name}.csv")) for name in ("metrics", "layers", "lanes")}


def difference(rows: dict[str, bytes], expected: dict[str, bytes]) -> str:
    """Returns the names of the tables that are not what they should be."""
    return ", ".join(name for name in expected if rows.get(name) != expected[name])


def the_run(runs: Path) -> Path:
    """Returns the one run in a folder."""
    (run,) = [path for path in runs.iterdir() if not path.name.startswith(".")]
    return run


def status_of(run: Path) -> str:
    """Returns what a run says of itself; `absent` when it is not there, `unreadable` when it says nothing."""
    try:
        return json.loads((run / "meta.json").read_text())["status"] if run.exists() else "absent"
    except (OSError, ValueError, LookupError, TypeError):
        return "unreadable"


def lost(run: Path, expected: Path) -> str:
    """Returns which tables of a run are not those of another, or cannot be read; nothing when all bits are there."""
    try:
        return difference(rows_of(run), rows_of(expected))
    except (OSError, pa.ArrowException) as error:
        return str(error).splitlines()[0]


def leftovers(runs: Path) -> list[str]:
    """Returns what drafts are left in a folder of runs."""
    kept = (".lock", ".vgx-export", ".gitkeep")
    return sorted(str(path.relative_to(runs)) for path in runs.rglob(".*") if path.name not in kept)


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        for batch in table.to_batches(max_chunksize=len(table) or 1):
            stream.write_batch(batch)
    return sink.getvalue().to_pybytes()
