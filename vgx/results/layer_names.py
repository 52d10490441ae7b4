"""The layers of a watched run by name: their paths, shortened, in blocks, and as chains from input to output.

A path such as `blocks.3.mlp.up` has a block, `blocks.3`, and a role in it; the same role in every block is a chain,
`blocks.*.mlp.up`. Names are joined by dots and have numbers of their own, or end in one: `layer1.0.conv2`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from vgx.errors import Damaged
from vgx.results import manifest
from vgx.results.reading import read_table

FILE = "layers.parquet"
SCHEMA = pa.schema(
    [
        pa.field("layer", pa.int32(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("type", pa.string()),
        pa.field("shape", pa.list_(pa.int64())),
    ]
)
LONGEST = 28
"""Characters of a short name, where so many tell it from the others."""
_NUMBER = re.compile(r"[0-9]+")
_NUMBERED = re.compile(r".*[0-9]")


class NamedLayer(NamedTuple):
    """A row of `layers.parquet`."""

    path: str
    type: str | None
    """Of its module: `Linear`; None where nobody said."""
    shape: tuple[int, ...] | None
    """Of its kernel, likewise."""


class Block(NamedTuple):
    """Neighbouring layers of one block, in the order of the forward pass."""

    name: str
    """`blocks.3`; empty for layers of none."""
    start: int
    """Its first layer, counted from 0."""
    stop: int


def to_table(layers: Sequence[NamedLayer]) -> pa.Table:
    """Returns `layers.parquet` of these layers, numbered from 1 in the order of the forward pass."""
    rows = [layer._asdict() | {"layer": number} for number, layer in enumerate(layers, start=1)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def read(path: Path, kind: None = None) -> list[NamedLayer]:
    """Returns the layers of a `layers.parquet`, none where there is no such file yet.

    Raises Damaged when it is not what vgx wrote, or is missing where layers are recorded.
    """
    del kind  # as other readers of small files take it
    if not path.exists():
        parts = manifest.read(path.parent) or {}
        if any(part.rows for part in parts.values() if part.file.startswith("layers/")):
            raise Damaged(path, "is missing")
        return []
    rows = read_table(path, SCHEMA).to_pylist()
    paths = [row["path"] for row in rows]
    if [row["layer"] for row in rows] != list(range(1, len(rows) + 1)) or len(set(paths)) < len(paths):
        raise Damaged(path, "does not number its layers from 1, each with a path of its own")
    return [NamedLayer(row["path"], row["type"], row["shape"] and tuple(row["shape"])) for row in rows]


def short_names(paths: Sequence[str], longest: int = LONGEST) -> list[str]:
    """Returns a name for each path, all different: without what all begin with, the middle of long ones left out."""
    return elided(without_shared(paths), longest)


def without_shared(paths: Sequence[str]) -> list[str]:
    """Returns paths without the names that all of them begin with; each keeps its last."""
    parts = [path.split(".") for path in paths]
    shared = 0
    while len(parts) > 1 and all(len(own) > shared + 1 and own[shared] == parts[0][shared] for own in parts):
        shared += 1
    while shared and any(_NUMBER.fullmatch(own[shared]) for own in parts):
        shared -= 1  # a number says nothing without its name
    return [".".join(own[shared:]) for own in parts]


def elided(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """Returns names in so many characters, the middle of longer ones left out; in more where some would be alike."""
    for most in range(longest, max(map(len, names), default=0)):
        shortened = [_elided(name, most) for name in names]
        if len(set(shortened)) == len(set(names)):
            return shortened
    return list(names)


def _elided(name: str, most: int) -> str:
    """A name in so many characters: its beginning, and more of its end, which tells it from its neighbours.

    Words are left out whole, where whole ones stay on both sides.
    """
    if len(name) <= most:
        return name
    cut = (most - 1) // 3
    head, tail = name[:cut], name[len(name) - (most - 1 - cut) :]
    if "." in head and name[cut] != ".":
        head = head.rpartition(".")[0]
    if "." in tail and name[len(name) - len(tail) - 1] != ".":
        tail = tail.partition(".")[2]
    return f"{head}…{tail}"


def block_names(paths: Sequence[str]) -> list[str]:
    """Returns the block that each path is in: up to its first number, or name that ends in one; empty for none.

    A number that has no other beside it is a block's only where there is none of another kind.
    """
    parts = [path.split(".") for path in paths]
    beside = _beside(parts)
    found = []
    for own in parts:
        numbered = [i for i, part in enumerate(own[:-1]) if _NUMBERED.fullmatch(part)]
        best = min(
            numbered, key=lambda i: (len(beside[_above(own, i)]) < 2, not _NUMBER.fullmatch(own[i]), i), default=-1
        )
        found.append(".".join(own[: best + 1]))
    return found


def _above(own: Sequence[str], i: int) -> tuple[str, ...]:
    """What stands before the number at a place of a path, whatever numbers are there."""
    return tuple(part.rstrip("0123456789") for part in own[: i + 1])


def _beside(parts: Sequence[Sequence[str]]) -> dict[tuple[str, ...], set[str]]:
    """The numbers that stand at one place, each with layers below it."""
    found: dict[tuple[str, ...], set[str]] = {}
    for own in parts:
        for i, part in enumerate(own[:-1]):
            if _NUMBERED.fullmatch(part):
                found.setdefault(_above(own, i), set()).add(part)
    return found


def blocks_of(paths: Sequence[str]) -> list[Block]:
    """Returns the blocks of layers in the order of the forward pass; one that is left and met again is two."""
    blocks: list[Block] = []
    for i, name in enumerate(block_names(paths)):
        if blocks and blocks[-1].name == name:
            blocks[-1] = blocks[-1]._replace(stop=i + 1)
        else:
            blocks.append(Block(name, i, i + 1))
    return blocks


def chains_of(paths: Sequence[str]) -> dict[str, list[int]]:
    """Returns the chains of a net, two layers or more each, by their pattern: `blocks.*.mlp.up`.

    None where most layers are in no chain: then the order of the forward pass is all that is known.
    """
    beside = _beside([path.split(".") for path in paths])
    chains: dict[str, list[int]] = {}
    for i, (path, block) in enumerate(zip(paths, block_names(paths), strict=True)):
        if pattern := _pattern(path, block, beside):
            chains.setdefault(pattern, []).append(i)
    chains = {pattern: members for pattern, members in chains.items() if len(members) > 1}
    return chains if sum(map(len, chains.values())) > len(paths) / 2 else {}


def roles_of(paths: Sequence[str]) -> list[str]:
    """Returns for each layer the pattern of its chain; empty for layers in none."""
    roles = [""] * len(paths)
    for pattern, members in chains_of(paths).items():
        for i in members:
            roles[i] = pattern
    return roles


def _pattern(path: str, block: str, beside: dict[tuple[str, ...], set[str]]) -> str:
    """What a path has in common with those of the same role in other blocks; empty for a path without a number."""
    if not block:
        above, _, last = path.rpartition(".")
        return f"{above}.*".lstrip(".") if _NUMBER.fullmatch(last) else ""
    own = block.split(".")
    starred = [
        f"{above[-1]}*" if len(beside.get(above := _above(own, i), ())) > 1 else part for i, part in enumerate(own)
    ]
    return ".".join(starred) + path[len(block) :]


def member_names(paths: Sequence[str]) -> list[str]:
    """Returns what tells the layers of one chain apart: their blocks, or themselves where they are in none."""
    return [block or path for path, block in zip(paths, block_names(paths), strict=True)]
