"""What a command says beside its result, in dim lines on standard error: scripts read standard output."""

from __future__ import annotations


def say_aside(line: str) -> None:
    """Prints a dim line on standard error."""
    from rich.console import Console

    Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True).print(line, style="dim")
