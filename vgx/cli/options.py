"""The app, and what its commands have in common: options, the console, the end of a command that cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="vgx",
    help="Where does my gradient go? Trains deep MLPs and logs the gradient at every layer at every step.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Data sets: what there is, download, checksums.", no_args_is_help=True)
app.add_typer(data, name="data")


Platform = Literal["cpu", "gpu", "tpu"]
ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file; - reads standard input.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override, as model.depth=64.")
]
Axes = Annotated[list[str] | None, typer.Option("--axis", metavar="PATH=A,B", help="An axis, as activation=relu,elu.")]
RunsFolder = Annotated[Path, typer.Option("--runs", help="The folder of the runs.")]
GridRows = Annotated[str | None, typer.Option("--rows", help="The swept option of the rows.")]
GridColumns = Annotated[str | None, typer.Option("--columns", help="The swept option of the columns.")]
GridValue = Annotated[str | None, typer.Option("--value", help="What the cells show: slope, verdict, test_loss, ...")]
BestOver = Annotated[
    str | None, typer.Option("--best-over", help="A swept option to choose by validation accuracy, not to show.")
]
Modules = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="Python that registers parts of your own, as my_parts."),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or the beginning of its name in --runs.")]

CLAIMS_PAGE = Path("docs/CLAIMS.md")


def make_console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def fail(message: str, code: int) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True).print(message, style="red")
    sys.exit(code)
