"""Draws the README's pictures from real runs: `make pictures`."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

from rich.console import Console, Group
from rich.text import Text

import vgx
from vgx.report.terminal.run import show

FOLDER = Path(__file__).parent.parent.absolute() / "docs"
WIDTH = 80


def draw(config: str, *overrides: str) -> None:
    """Trains a shipped config and saves what `vgx show` prints of it, as `docs/NAME.svg`."""
    FOLDER.mkdir(exist_ok=True)
    tree = vgx.load_config(f"configs/{config}.yaml", overrides)
    command = " ".join(["$ vgx train", f"configs/{config}.yaml", *(f"--set {override}" for override in overrides)])
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        console.print(Group(Text(command, "bold"), Text(), show(vgx.train(tree), width=WIDTH)))
    (FOLDER / f"{config}.svg").write_text(console.export_svg(title="vgx"))


if __name__ == "__main__":
    draw("vanishing-logistic")
    draw("he-relu")
