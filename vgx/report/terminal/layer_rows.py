"""One step's layers as a table: by their numbers, or in a watched run by their names, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from rich.console import Group, RenderableType
from rich.table import Column
from rich.text import Text

from vgx.report.terminal.tables import plain_table, right
from vgx.results.columns import LAYERS
from vgx.results.curves import evenly
from vgx.results.layer_names import Block, blocks_of, elided, without_shared
from vgx.results.words import counted, figure

SHOWN_LAYERS = 12
"""Rows of a table of numbered layers; a deeper net is sampled evenly."""
SHOWN_NAMED = 24
"""Lines of a table of named ones; of a net of more, some of its blocks are shown, evenly over the depth."""
SHOWN_COLUMNS = [name for name in LAYERS if name not in ("bias_grad_log10", "weight_norm", "preact_mean")]
"""Of a layer table; more do not fit in 80 characters."""


class Line(NamedTuple):
    """A line of the table."""

    label: str
    row: int | None
    """Of the layers, from 0; None for the heading of a block."""


def layer_table(rows: pa.Table, width: int, paths: Sequence[str] = ()) -> RenderableType:
    """Returns one step's layers as a table; of numbered ones the readout last.

    Columns that `width` does not hold go to a second table below the first: no figure is cut.

    Args:
        rows: of the layer table, of one lane and step.
        width: columns.
        paths: of a watched run's layers.
    """
    lines = named_lines(paths) if paths else _numbered_lines(rows)
    columns = {
        LAYERS[name].heading: [
            "" if line.row is None else figure(rows[name][line.row].as_py(), LAYERS[name].form) for line in lines
        ]
        for name in SHOWN_COLUMNS
        if rows[name].null_count < len(rows)
    }
    first = max(map(len, ["layer", *(line.label for line in lines)]))
    widths = {heading: max(map(len, [heading, *figures])) for heading, figures in columns.items()}
    gap = 2 if first + sum(widths.values()) + 2 * len(widths) <= width else 1
    groups: list[list[str]] = [[]]
    for heading in columns:
        if first + sum(widths[each] + gap for each in [*groups[-1], heading]) > width and groups[-1]:
            groups.append([])
        groups[-1].append(heading)
    tables = []
    for headings in groups:
        heads = [Column("layer", no_wrap=True) if paths else right("layer"), *map(right, headings)]
        table = plain_table(*heads, padding=(0, gap, 0, 0))
        for i, line in enumerate(lines):
            label = Text(line.label, "dim" if line.row is None else "")
            table.add_row(label, *(columns[heading][i] for heading in headings))
        tables += [Text(), table] if tables else [table]
    return Group(*tables)


def left_out(layers: int, paths: Sequence[str] = ()) -> str:
    """Returns what the table of a net of so many layers, the readout among them, leaves out; nothing when nothing."""
    if not paths:
        few = layers <= SHOWN_LAYERS
        return "" if few else f"{SHOWN_LAYERS - 1} of {counted(layers - 1, 'layer')} and the readout"
    shown = sum(line.row is not None for line in named_lines(paths))
    return "" if shown == layers else f"{shown} of {counted(layers, 'layer')}"


def _numbered_lines(rows: pa.Table) -> list[Line]:
    picked = evenly(np.arange(len(rows)), SHOWN_LAYERS)
    return [Line("out" if i == len(rows) - 1 else str(rows["layer"][int(i)]), int(i)) for i in picked]


def named_lines(paths: Sequence[str]) -> list[Line]:
    """Returns the lines of a table of named layers, each block under a heading of its own."""
    names = without_shared(paths)
    blocks = _shown(blocks_of(names))
    if _height(blocks) > 2 * SHOWN_NAMED:  # a block is a whole net: there is no short table of whole blocks
        names = elided(names)
        return [Line(names[i], int(i)) for i in evenly(np.arange(len(names)), SHOWN_NAMED)]
    lines: list[Line] = []
    for block in blocks:
        own = range(block.start, block.stop)
        if not block.name or len(own) == 1:
            lines += [Line(name, i) for name, i in zip(elided([names[i] for i in own]), own, strict=True)]
            continue
        roles = elided([names[i][len(block.name) + 1 :] for i in own])
        lines.append(Line(block.name, None))
        lines += [Line(f"  {role}", i) for role, i in zip(roles, own, strict=True)]
    return lines


def _shown(blocks: list[Block]) -> list[Block]:
    """The blocks that a table shows: all, or the first, the last and some between, and all that is in no block."""
    numbered = [block for block in blocks if block.name]
    for count in range(len(numbered), 1, -1):
        kept = [numbered[i] for i in evenly(np.arange(len(numbered)), count)]
        shown = [block for block in blocks if not block.name or block in kept]
        if _height(shown) <= SHOWN_NAMED or count == 2:
            return shown
    return blocks


def _height(blocks: Sequence[Block]) -> int:
    return sum(block.stop - block.start + bool(block.name and block.stop - block.start > 1) for block in blocks)
