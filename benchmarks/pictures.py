"""Runs the tutorial, writes what it prints into it, and draws its pictures and the README's: `make pictures`.

In docs/tutorial.md a block of `console` has commands, each after a `$`, and below each what it printed. The commands
run from top to bottom in one empty folder, in a terminal of 80 columns. A picture `pictures/RUN.FIGURE.svg` is the
figure of that name in the run's report; the README's are what a terminal shows.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group
from rich.text import Text

import vgx
from vgx.report.terminal.run import show

ROOT = Path(__file__).parent.parent.absolute()
TUTORIAL, FOLDER = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "pictures"
WIDTH = 80
HOME = "/home/you/vgx"
"""Where the reader's clone is said to be."""
README = ("vanishing-logistic", "he-relu")
"""The configs whose training the README shows."""
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"\(pictures/([a-z-]+)\.([a-z-]+)\.svg\)")


def shown(text: str) -> list[tuple[str, str]]:
    """Returns the commands of a page in their order, each with what stands below it."""
    return [pair for block in BLOCK.findall(text) for pair in _pairs(block)]


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def run(command: str, folder: Path) -> str:
    """Returns what a command prints in a folder, notes of its progress left out. Raises CalledProcessError."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    told = {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=os.environ | told, stdout=subprocess.PIPE, text=True, check=True
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.replace(str(ROOT), HOME).splitlines())


def draw_figures(text: str, folder: Path, target: Path = FOLDER) -> list[Path]:
    """Copies the figures that a page shows from the runs in a folder, and returns the copies."""
    drawn = []
    target.mkdir(exist_ok=True)
    for name, figure in PICTURE.findall(text):
        (found,) = (path for path in (folder / "runs").iterdir() if re.fullmatch(rf"{name}-[0-9a-f]{{8}}", path.name))
        if not (found / "figures").is_dir():
            vgx.open_run(found).report()
        drawn.append(Path(shutil.copy(found / "figures" / f"{figure}.svg", target / f"{name}.{figure}.svg")))
    return drawn


def write_tutorial() -> None:
    """Runs the tutorial's commands, and writes their output and pictures."""
    text = TUTORIAL.read_text()

    def anew(block: re.Match[str]) -> str:
        printed = [f"$ {command}\n{run(command, Path(folder))}" for command, _ in _pairs(block[1])]
        return f"```console\n{''.join(printed)}```"

    with tempfile.TemporaryDirectory() as folder:
        text = BLOCK.sub(anew, text)
        draw_figures(text, Path(folder))
    TUTORIAL.write_text(text)


def draw(config: str) -> None:
    """Trains a shipped config and saves what `vgx train` shows of it in a terminal, as `docs/pictures/NAME.svg`."""
    FOLDER.mkdir(exist_ok=True)
    tree = vgx.load_config(ROOT / "configs" / f"{config}.yaml")
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        command = Text(f"$ vgx train configs/{config}.yaml", "bold")
        console.print(Group(command, Text(), show(vgx.train(tree), width=WIDTH)))
    # Rich would have a browser fetch its font from elsewhere.
    format = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    (FOLDER / f"{config}.svg").write_text(console.export_svg(title="vgx", code_format=format))


if __name__ == "__main__":
    write_tutorial()
    for name in README:
        draw(name)
