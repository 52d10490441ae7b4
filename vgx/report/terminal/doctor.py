"""What `vgx doctor` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vgx.results.words import counted

if TYPE_CHECKING:
    from vgx.runner.doctor import Finding


def examination(findings: Sequence[Finding]) -> RenderableType:
    """Returns what was looked at, a line each with what is wrong below it; the last line counts what is."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for one in findings:
        table.add_row(one.name, one.value)
        if one.fault:
            table.add_row("", Text(one.fault, "red"))
    wrong = sum(bool(one.fault) for one in findings)
    last = Text(f"{counted(wrong, 'thing')} to mend", "bold red") if wrong else Text("all is well", "bold green")
    return Group(table, Text(), last)
