"""Commands that look at runs: show, compare, export, report, runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vgx.cli.completion import newest_run, run_names
from vgx.cli.hints import say_aside
from vgx.cli.options import BestOver, GridColumns, GridRows, GridValue, RunName, RunsFolder, app, make_console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vgx.results.comparison import RunGroup
    from vgx.results.store import Run


@app.command()
def show(
    run: RunName,
    step: Annotated[int | None, typer.Option(help="The step to show; the last recorded one by default.")] = None,
    lane: Annotated[int | None, typer.Option(help="The lane to show; of a single run the first by default.")] = None,
    statistic: Annotated[str | None, typer.Option(help="A column of the layer table, instead of the gradient.")] = None,
    layer: Annotated[
        str | None, typer.Option(help="A layer to show over the steps: its number, or its path in a watched run.")
    ] = None,
    rows: GridRows = None,
    columns: GridColumns = None,
    value: GridValue = None,
    best_over: BestOver = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show it anew while another vgx writes it.")] = False,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Show a run: its gradient at every layer, at any step, and its verdict. Of a sweep, a grid for two axes; a map."""
    from vgx.errors import RunError
    from vgx.report.terminal.map import show_map
    from vgx.report.terminal.over_steps import cells_map
    from vgx.report.terminal.run import show
    from vgx.report.terminal.sweep import show_sweep
    from vgx.report.terminal.working import working
    from vgx.results.map_file import map_of
    from vgx.results.values import known_layer

    console, found = make_console(), newest_run(run, runs)
    of_grid, of_lane = (rows, columns, value, best_over), (lane, step, statistic, layer)
    number = None if layer is None else known_layer(found, layer)
    as_grid = found.is_sweep and of_lane == (None,) * 4
    if not as_grid and of_grid != (None,) * 4:
        raise RunError(f"{found.path}: --rows, --columns, --value and --best-over are for the grid of a sweep alone")

    def draw() -> RenderableType:
        if as_grid and of_grid == (None,) * 4 and (mapped := map_of(found)):
            return show_map(found, mapped, console.width)
        if as_grid:
            return show_sweep(found, rows, columns, value, best_over, console.width)
        if found.is_sweep and lane is None:
            return cells_map(found, statistic, step, number)
        return show(found, step, lane or 0, console.width, statistic, number, over_steps=not follow)

    if follow:
        from vgx.cli.follow import follow as following

        following(found, draw, console)
    with working("reading"):
        shown = draw()
    console.print(shown)


@app.command()
def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Runs; each cell of a sweep is one of its own.", autocompletion=run_names
        ),
    ],
    statistic: Annotated[str, typer.Option(help="A column of the layer table.")] = "delta_log10",
    step: Annotated[
        int | None, typer.Option(help="The step to draw; by default the last recorded one, on a page the first.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="OPTION=VALUE", help="Of sweeps, these cells alone.")
    ] = None,
    runs: RunsFolder = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page instead, which works offline.")
    ] = None,
) -> None:
    """Compare runs: configs, outcomes, and where and when their gradients diverge beyond the seeds' spread."""
    from vgx.errors import RunError
    from vgx.report.terminal.comparison import comparison, to_json
    from vgx.report.terminal.working import working
    from vgx.results.comparison import compare

    if html and as_json:
        raise RunError("--html, --json: choose one")
    groups, console = _groups(names, runs, where or []), make_console()
    with working("comparing") as say:
        compared = compare(groups, statistic)
        if html:
            from vgx.report.html.comparison_page import write_comparison

            say("drawing the page")
            write_comparison(compared, html, step)
    if html:
        print(f"{html}: written")
    elif as_json:
        print(json.dumps(to_json(compared), allow_nan=False))
    else:
        console.print(comparison(compared, step, console.width))


def _groups(names: list[str], runs: Path, where: list[str]) -> list[RunGroup]:
    """What the runs, and the cells of sweeps among them, are to a comparison."""
    from vgx.errors import RunError
    from vgx.results.comparison import groups_of, unended_cells
    from vgx.results.store import find_run
    from vgx.results.words import counted

    found = [find_run(name, runs) for name in names]
    if where and not any(run.is_sweep for run in found):
        raise RunError(f"--where {where[0]}: none of these runs is a sweep; leave it out")
    for run in found:
        if run.is_sweep and (missing := unended_cells(run)):
            say_aside(f"{run.path.name}: {counted(missing, 'cell')} left out, of which no lane has ended")
    return [one for run in found for one in groups_of(run, _configs(run) if run.is_sweep else {}, where)]


def _configs(run: Run) -> dict[str, dict[str, Any]]:
    """The resolved config of each cell of a sweep, as far as it is known without importing anything."""
    from vgx.results.cell_configs import cell_configs

    kept = cell_configs(run)
    if kept is None:
        from vgx.config.sweep import resolved

        return resolved(run.config)
    return kept


@app.command()
def export(
    run: RunName,
    to: Annotated[Literal["csv", "npz", "tensorboard", "wandb", "mlflow"], typer.Option("--to", help="The format.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="A folder, a file for npz; exports/ in the run by default.")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="How many layers have curves of their own, 8 by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Write a run in another tool's format."""
    from vgx.export import export
    from vgx.report.terminal.working import working

    found = newest_run(run, runs)
    with working("writing"):
        written = export(found, to, output, layers, overwrite)
    print(written)


@app.command()
def report(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="A run directory, or the beginning of its name in --runs.", autocompletion=run_names
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The page; report.html in the run by default. With --all, a folder."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every run in --runs, and an index of them.")] = False,
    show_it: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Write a run or a sweep as one HTML page that works offline, and its figures as SVG and PNG; --all, an index."""
    from vgx.errors import RunError
    from vgx.report.terminal.working import working
    from vgx.results.store import find_run
    from vgx.results.words import counted

    if (run is None) != every:
        raise RunError("report: name a run, or give --all" + ("" if run is None else ", not both"))
    if run is None:
        page, beside = _index(runs, output or runs / "report"), ""
    else:
        found = find_run(run, runs)
        with working("drawing the page and its figures"):
            from vgx.report.html.write import write_report

            page, *figures = write_report(found, output)
        beside = f", and {counted(len(figures), 'figure')} in {figures[0].parent}" if figures else ""
    print(f"{page}: written{beside}")
    if show_it:
        from vgx.cli.browser import open_page

        if not open_page(page):
            say_aside(f"no browser opens here; the page is at {page.resolve().as_uri()}")


def _index(runs: Path, folder: Path) -> Path:
    """Writes the index of all runs."""
    from vgx.errors import RunError
    from vgx.report.terminal.working import working
    from vgx.results.store import find_runs

    found = find_runs(runs)
    if not found:
        raise RunError(f"{runs}: no runs yet; `vgx train CONFIG` makes one")
    with working("drawing runs") as say:
        from vgx.report.html.index_page import write_index

        return write_index(found, folder, say)


@app.command(name="runs")
def list_runs(
    runs: RunsFolder = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """List the runs, the newest first."""
    from vgx.report.terminal.run import runs_json, runs_table
    from vgx.report.terminal.working import working
    from vgx.results.store import find_runs

    with working("reading"):
        found = find_runs(runs)
        shown = runs_json(found) if as_json else runs_table(found)
    if as_json:
        print(json.dumps(shown, allow_nan=False))
    else:
        make_console().print(shown if found else f"{runs}: no runs yet; `vgx train CONFIG` makes one")
