"""The axis of a watched run's layers: their names in place of numbers, block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vgx.results.curves import evenly
from vgx.results.layer_names import Block, blocks_of, elided, without_shared

MOST = 16
"""Names at the axis."""
LONGEST = 18
"""Characters of a name there."""
TITLE = "layer, in the order of the forward pass"


def ticks(paths: Sequence[str]) -> dict[int, str]:
    """Returns what the axis says at which layers, from 1: each block at its first layer, evenly thinned.

    Layers in no block stand for themselves, as all do in a net without blocks; what is too near to its neighbour on
    the left is left out.
    """
    names = without_shared(paths)
    named = [part for block in blocks_of(names) for part in _parts(block, names)]
    kept = [named[i] for i in evenly(np.arange(len(named)), MOST)]
    apart = len(names) / (2 * MOST)
    kept = [part for i, part in enumerate(kept) if not i or part.start - kept[i - 1].start >= apart]
    labels = elided([part.name for part in kept], LONGEST)
    return {part.start + 1: label for part, label in zip(kept, labels, strict=True)}


def _parts(block: Block, names: Sequence[str]) -> list[Block]:
    """A block as what its axis names: itself, or the layers that are in none."""
    if block.name:
        return [block]
    return [Block(names[i], i, i + 1) for i in range(block.start, block.stop)]


def with_names(
    spec: Mapping[str, Any], paths: Sequence[str], fields: Sequence[str] = ("layer", "y")
) -> Mapping[str, Any]:
    """Returns a figure over numbered layers, which are in these fields, with the names of a watched run's at its axis.

    Its lines join the layers of one chain over the blocks. Without paths that is the figure itself.
    """
    if not paths:
        return spec
    said = ticks(paths)
    label = f"{json.dumps({str(at): name for at, name in said.items()})}[datum.value]"
    spec = json.loads(json.dumps(spec))
    for mark, encoding in _encodings(spec):
        if mark == "line" and encoding.get("x", {}).get("field") == "layer":
            encoding["detail"] = {"field": "chain", "type": "nominal"}
        x, y = encoding.get("x", {}), encoding.get("y", {})
        of_layers = [one for one in (x, y) if one.get("field") in fields and one.get("axis", ...) is not None]
        for one in of_layers:
            turned = {"labelAngle": -40, "labelAlign": "right", "labelOverlap": False} if one is x else {}
            one["axis"] = {"values": list(said), "labelExpr": label, "labelLimit": 130, "grid": one is x} | turned
            if one is x:
                one["title"] = TITLE
    return spec


def _encodings(spec: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a figure draws, and its encoding, of all its layers."""
    if "encoding" in spec:
        mark = spec.get("mark", "")
        yield mark["type"] if isinstance(mark, dict) else mark, spec["encoding"]
    for inner in spec.get("layer", ()):
        yield from _encodings(inner)
