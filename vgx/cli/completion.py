"""Runs by name, on the command line: which one is meant, and what a shell may complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from typer import Context  # which typer looks up when it completes

from vgx.cli.hints import say_aside

if TYPE_CHECKING:
    from vgx.results.store import Run


def run_names(context: Context, incomplete: str) -> list[str]:
    """Returns the runs whose directories' names begin with a word, for a shell to complete; nothing heavy is met."""
    root = Path(context.params.get("runs") or "runs")
    return sorted(path.parent.name for path in root.glob("[!.]*/meta.json") if path.parent.name.startswith(incomplete))


def config_files(incomplete: str) -> list[str]:
    """Returns the YAML files that a word is the beginning of, in its own folder and in those below; for a shell."""
    if set(incomplete) & set("*?["):
        return []
    found = (Path().glob(f"{incomplete}{rest}{end}") for rest in ("*", "*/*") for end in (".yaml", ".yml"))
    return sorted(str(path) for some in found for path in some) if not Path(incomplete).is_absolute() else []


def configs_and_runs(context: Context, incomplete: str) -> list[str]:
    """Returns both, for a shell."""
    return [*config_files(incomplete), *run_names(context, incomplete)]


def newest_run(name: str, runs: Path) -> Run:
    """Returns the newest of the runs that `name` stands for, and says on standard error which that is of several.

    Raises RunError where there is none.
    """
    from vgx.results.store import find_run, runs_called

    found = runs_called(name, runs)
    if len(found) < 2:
        return find_run(name, runs)
    newest, *others = (run.path.name for run in found)
    say_aside(f"'{name}' names {len(found)} runs: this is {newest}, the newest; also {', '.join(others)}")
    return found[0]
