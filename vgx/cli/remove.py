"""The command that deletes runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vgx.cli.options import RunsFolder, app


@app.command(name="rm")
def remove_runs(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run directories, or their names in --runs.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Delete what vgx wrote of runs, after asking; whatever else lies in their directories stays."""
    from vgx.errors import RunError
    from vgx.results import directories

    paths = list(dict.fromkeys(directories.find(name, runs) for name in names))
    for path in paths:
        directories.ready(path, overwrite=True)
    if not yes:
        if not _can_ask():
            raise RunError("rm asks before it deletes, and there is no terminal to ask in; --yes goes ahead")
        print("\n".join(map(str, paths)))
        try:
            answer = input(f"delete {'this run' if len(paths) == 1 else f'these {len(paths)} runs'}? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing is deleted")
            return
    for path in paths:
        rest = directories.remove(path)
        kept = f"; {directories.in_words(path, rest)}" if rest else ""
        print(f"{path}: deleted{kept}")


def _can_ask() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
