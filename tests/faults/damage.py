"""Ways to damage a run directory, a file of it at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

Change = Callable[[Path, Random], None]


class Damage(NamedTuple):
    """What is done to a run: a change of the file that a pattern finds."""

    pattern: str
    change: Change

    def __str__(self) -> str:
        return f"{self.pattern}-{self.change.__name__}"

    def do(self, run: Path, random: Random) -> Path:
        """Damages a run, and returns which file it was."""
        found = sorted(run.glob(self.pattern)) or [run / self.pattern]
        path = random.choice(found)
        self.change(path, random)
        return path

    @property
    def loses_rows(self) -> bool:
        """Whether rows of the tables are gone, or changed."""
        return self.pattern.startswith(("metrics", "layers", "lanes")) and self.change not in (extra, backup)


def gone(path: Path, random: Random) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def emptied(path: Path, random: Random) -> None:
    path.write_bytes(b"")


def cut(path: Path, random: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: random.randrange(1, len(content))])


def flipped(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(3):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def noise(path: Path, random: Random) -> None:
    path.write_bytes(random.randbytes(200))


def folder(path: Path, random: Random) -> None:
    gone(path, random)
    (path / "inner").mkdir(parents=True)


def file(path: Path, random: Random) -> None:
    gone(path, random)
    path.write_text("a file where a folder belongs\n")


def loop(path: Path, random: Random) -> None:
    gone(path, random)
    path.symlink_to(path.name)


def fifo(path: Path, random: Random) -> None:
    gone(path, random)
    os.mkfifo(path)


def unreadable(path: Path, random: Random) -> None:
    path.chmod(0)


def extra(path: Path, random: Random) -> None:
    """Files of others beside it."""
    beside = path if path.is_dir() else path.parent
    for name in (".DS_Store", "notes.txt", "000001 (copy).parquet", "._000000.parquet", "x.tmp"):
        (beside / name).write_bytes(random.randbytes(20))


def backup(path: Path, random: Random) -> None:
    path.with_name(path.name + "~").write_bytes(path.read_bytes())


def doubled(path: Path, random: Random) -> None:
    """A part twice, under the next number."""
    shutil.copy(path, path.with_name("000099.parquet"))


def other_columns(path: Path, random: Random) -> None:
    parquet.write_table(pa.table({"a": [1, 2, 3], "lane": ["x", "y", "z"]}), path)


def other_types(path: Path, random: Random) -> None:
    table = parquet.read_table(path)
    parquet.write_table(pa.table({name: pa.array(["x"] * len(table)) for name in table.column_names}), path)


def short(path: Path, random: Random) -> None:
    table = parquet.read_table(path)
    parquet.write_table(table.slice(0, len(table) // 2), path)


def no_rows(path: Path, random: Random) -> None:
    parquet.write_table(parquet.read_table(path).slice(0, 0), path)


def nulls(path: Path, random: Random) -> None:
    table = parquet.read_table(path)
    parquet.write_table(pa.table({name: pa.nulls(len(table), table[name].type) for name in table.column_names}), path)


def bare(path: Path, random: Random) -> None:
    path.write_text("{}\n")


def a_list(path: Path, random: Random) -> None:
    path.write_text("[1, 2, 3]\n")


def null(path: Path, random: Random) -> None:
    path.write_text("null\n")


def other_values(path: Path, random: Random) -> None:
    """JSON in which every value is of another type."""
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({key: ["x"] if not isinstance(value, list) else 3 for key, value in meta.items()}))


def one_other_value(path: Path, random: Random) -> None:
    meta = json.loads(path.read_text())
    meta[random.choice(sorted(meta))] = random.choice([None, -1, 1e300, "x", [], {}, True])
    path.write_text(json.dumps(meta))


def one_key_less(path: Path, random: Random) -> None:
    meta = json.loads(path.read_text())
    del meta[random.choice(sorted(meta))]
    path.write_text(json.dumps(meta))


def escapes(path: Path, random: Random) -> None:
    """What would clear the screen, in every text."""
    meta = json.loads(path.read_text())
    said = {key: value if isinstance(value, int | float | None) else "\x1b[2J\x07<b>" for key, value in meta.items()}
    path.write_text(json.dumps(said | {"status": meta.get("status"), "error": "\x1b[2J\x07<b>"}))


def odd_numbers(path: Path, random: Random) -> None:
    path.write_text(path.read_text().replace('"step": ', '"step": -').replace('"seconds": ', '"seconds": 1e999, "x": '))


def newer(path: Path, random: Random) -> None:
    """Written by a vgx of years to come."""
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 999, "status": "paused"}))


def other_config(path: Path, random: Random) -> None:
    path.write_text("name: other\nmodel: {depth: 9, width: 4}\n")


def no_config(path: Path, random: Random) -> None:
    path.write_text("model: {depht: 9}\ntrain: [\n")


def escaped_config(path: Path, random: Random) -> None:
    path.write_text(path.read_text().replace("name: ", 'name: "\\e[2J"  # ', 1))


ANY: tuple[Change, ...] = (gone, emptied, cut, flipped, noise, folder, loop, fifo, unreadable)
JSON: tuple[Change, ...] = (
    bare,
    a_list,
    null,
    other_values,
    one_other_value,
    one_key_less,
    escapes,
    odd_numbers,
    newer,
)
TABLE: tuple[Change, ...] = (other_columns, other_types, short, no_rows, nulls)


def damages_of(kind: str) -> Iterator[Damage]:
    """Yields what is done to a run: of `whole`, `cut`, `grid` or `gridcut`."""
    sweep = kind.startswith("grid")
    patterns: dict[str, tuple[Change, ...]] = {
        "config.yaml": (*ANY, a_list, null, other_config, no_config, escaped_config),
        "meta.json": (*ANY, *JSON),
        "metrics/*.parquet": (*ANY, *TABLE, doubled, extra, backup),
        "layers/*.parquet": (*ANY, *TABLE, doubled),
        "metrics": (gone, file, loop, unreadable, extra),
        "layers": (gone, file, unreadable),
        "lanes.parquet": (*ANY, *TABLE),
        "prediction.parquet": (cut, noise, folder, unreadable, *TABLE),
        ".lock": (gone, folder, unreadable, noise),
    }
    if sweep:
        patterns["rounds/*.json"] = (*ANY, *JSON)
        patterns["rounds"] = (gone, file, unreadable, extra)
    if kind.endswith("cut"):
        patterns["checkpoint"] = (gone, file, unreadable)
        patterns["checkpoint/**/[0-9a-f]*"] = (gone,)
        patterns["checkpoint/**/d/*"] = (gone, emptied, cut, flipped)
        patterns["checkpoint/**/manifest.ocdbt"] = (gone, emptied, flipped)
        patterns["checkpoint/**/_METADATA"] = (gone, emptied, bare)
    if kind == "cut":
        patterns.pop("lanes.parquet")
    for pattern, changes in patterns.items():
        for change in changes:
            yield Damage(pattern, change)
