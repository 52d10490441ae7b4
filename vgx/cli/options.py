"""The app, and what its commands have in common: options, the console, the end of a command that cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vgx.cli.completion import config_files, run_names
from vgx.cli.screen import Commands

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="vgx",
    cls=Commands,
    help="Where does my gradient go? Trains deep MLPs and logs the gradient at every layer at every step.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Data sets: what there is, download, checksums.", no_args_is_help=True)
app.add_typer(data, name="data")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"vgx {version('vgx')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What stands before a command."""


Platform = Literal["cpu", "gpu", "tpu"]
ConfigFile = Annotated[
    str,
    typer.Argument(metavar="CONFIG", help="A YAML file; - reads standard input.", autocompletion=config_files),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override, as model.depth=64.")
]
Axes = Annotated[list[str] | None, typer.Option("--axis", metavar="PATH=A,B", help="An axis, as activation=relu,elu.")]


def _per_run(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdigit() or not int(text):
        raise typer.BadParameter(f"{text} is neither a number of devices, from 1, nor auto")
    return int(text)


PerRun = Annotated[
    Any,
    typer.Option(
        "--devices-per-run", parser=_per_run, metavar="N", help="Devices that share each batch of a run, or auto."
    ),
]
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
On = Annotated[
    str | None,
    typer.Option("--on", metavar="CLUSTER", help="A Ray cluster: ray (starts or joins), auto, ray://HOST:PORT."),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run directory, or the beginning of its name in --runs.", autocompletion=run_names
    ),
]

CLAIMS_PAGE = Path("docs/CLAIMS.md")


def make_console(**options: Any) -> Console:
    from vgx.report.terminal.console import SafeConsole

    return SafeConsole(**options)


def fail(message: str, code: int, *asides: str) -> None:
    console = make_console(stderr=True, soft_wrap=True)
    console.print(message, style="red")
    for line in asides:
        console.print(line, style="dim")
    sys.exit(code)
