"""Commands that look at runs: show, compare, export, report, runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vgx.cli.options import BestOver, GridColumns, GridRows, GridValue, RunName, RunsFolder, app, make_console

if TYPE_CHECKING:
    from vgx.comparison import Contender
    from vgx.run_directory import Run


@app.command()
def show(
    run: RunName,
    step: Annotated[int | None, typer.Option(help="The step to show; the last recorded one unless told.")] = None,
    lane: Annotated[int | None, typer.Option(help="The lane to show; of a single run the first unless told.")] = None,
    statistic: Annotated[str | None, typer.Option(help="A column of the layer table, instead of the gradient.")] = None,
    layer: Annotated[int | None, typer.Option(help="A layer to show over the steps.")] = None,
    rows: GridRows = None,
    columns: GridColumns = None,
    value: GridValue = None,
    best_over: BestOver = None,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Show a run: its gradient at every layer, at any step, and its verdict. Show a sweep: a grid for two axes."""
    from vgx.errors import RunError
    from vgx.report.courses import cells_map
    from vgx.report.sweeps import show_sweep
    from vgx.report.terminal import show
    from vgx.run_directory import find_run

    console, found = make_console(), find_run(run, runs)
    if found.is_sweep and (lane, step, statistic, layer) == (None,) * 4:
        console.print(show_sweep(found, rows, columns, value, best_over, console.width))
        return
    if (rows, columns, value, best_over) != (None,) * 4:
        raise RunError(f"{found.path}: --rows, --columns, --value and --best-over are for the grid of a sweep alone")
    if found.is_sweep and lane is None:
        console.print(cells_map(found, statistic, step, layer))
    else:
        console.print(show(found, step, lane or 0, console.width, statistic, layer, over_steps=True))


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs; each cell of a sweep is one of its own.")],
    statistic: Annotated[str, typer.Option(help="A column of the layer table.")] = "delta_log10",
    step: Annotated[int | None, typer.Option(help="The step to draw; the last recorded one unless told.")] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="OPTION=VALUE", help="Of sweeps, these cells alone.")
    ] = None,
    runs: RunsFolder = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page instead, which works offline.")
    ] = None,
) -> None:
    """Compare runs: configs, outcomes, and where and when their gradients part beyond the seeds' spread."""
    from vgx.comparison import compare
    from vgx.errors import RunError
    from vgx.report.comparison import comparison, to_json

    if html and as_json:
        raise RunError("--html, --json: choose one")
    compared = compare(_contenders(names, runs, where or []), statistic)
    if html:
        from vgx.report.comparison_page import write_comparison

        write_comparison(compared, html, step)
        print(f"{html}: written")
    elif as_json:
        print(json.dumps(to_json(compared), allow_nan=False))
    else:
        console = make_console()
        console.print(comparison(compared, step, console.width))


def _contenders(names: list[str], runs: Path, where: list[str]) -> list[Contender]:
    """What the runs, and the cells of sweeps among them, are to a comparison."""
    from vgx.comparison import contenders_of
    from vgx.errors import RunError
    from vgx.run_directory import find_run

    found = [find_run(name, runs) for name in names]
    if where and not any(run.is_sweep for run in found):
        raise RunError(f"--where {where[0]}: none of these runs is a sweep; leave it out")
    return [one for run in found for one in contenders_of(run, _configs(run) if run.is_sweep else {}, where)]


def _configs(run: Run) -> dict[str, dict[str, Any]]:
    """The resolved config of each cell of a sweep, as far as it is known without importing anything."""
    from vgx.cell_configs import cell_configs

    kept = cell_configs(run)
    if kept is None:
        from vgx.cells import resolved

        return resolved(run.config)
    return kept


@app.command()
def export(
    run: RunName,
    to: Annotated[Literal["csv", "npz", "tensorboard", "wandb", "mlflow"], typer.Option("--to", help="The format.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="A folder, a file for npz; exports/ in the run unless told.")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="How many layers have curves of their own, 8 unless told.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Write a run in another tool's format."""
    from vgx.exports import export
    from vgx.run_directory import find_run

    print(export(find_run(run, runs), to, output, layers, overwrite))


@app.command()
def report(
    run: RunName,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The page; report.html in the run unless told."),
    ] = None,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Write a run or a sweep as one HTML page that works offline, and its figures as SVG and PNG."""
    from vgx.report.document import write_report
    from vgx.run_directory import find_run

    page, *figures = write_report(find_run(run, runs), output)
    print(f"{page}: written, and {len(figures)} figures in {page.parent / 'figures'}")


@app.command(name="runs")
def list_runs(runs: RunsFolder = Path("runs")) -> None:
    """List the runs, the newest first."""
    from vgx.report.terminal import runs_table
    from vgx.run_directory import find_runs

    found = find_runs(runs)
    make_console().print(runs_table(found) if found else f"{runs}: no runs yet; `vgx train CONFIG` makes one")
