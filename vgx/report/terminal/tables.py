"""Tables without lines, as every command prints them."""

from __future__ import annotations

from rich.table import Column, Table


def plain_table(*heads: Column | str, padding: tuple[int, ...] = (0, 1)) -> Table:
    """Returns an empty table under dim heads."""
    return Table(*heads, box=None, pad_edge=False, header_style="dim", padding=padding)  # pyright: ignore[reportArgumentType]


def right(head: str, no_wrap: bool = True) -> Column:
    """Returns a column of numbers."""
    return Column(head, justify="right", no_wrap=no_wrap)
