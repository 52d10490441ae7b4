"""The command that draws where nets train: a sweep over two options, refined, with theory's contours over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vgx.cli.hints import going_on, say_aside
from vgx.cli.options import ConfigFile, Modules, On, Overrides, PerRun, Platform, RunsFolder, app, make_console
from vgx.cli.train import print_plan, say_what_follows, tell_of_fault

if TYPE_CHECKING:
    from vgx.results.store import Run

SIDE = "OPTION=FROM:TO"


@app.command(name="map")
def draw_map(
    config: ConfigFile,
    x: Annotated[
        str | None, typer.Option("--x", metavar=SIDE, help="What is across, as initializer.gain=0.5:2.5.")
    ] = None,
    y: Annotated[str | None, typer.Option("--y", metavar=SIDE, help="What is upward, as depth=10:300.")] = None,
    points: Annotated[
        str | None, typer.Option(metavar="N|NxM", help="Values of a range: 12, and 6 of whole numbers, by default.")
    ] = None,
    refine: Annotated[
        str | None, typer.Option(metavar="N|NxM", help="Rounds that add cells between neighbours that differ; 1x0.")
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="The accuracy that counts: test_accuracy, validation_accuracy, train_accuracy.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="From which accuracy a net has trained; midway from chance to the best.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds, instead of the file's.")] = None,
    overrides: Overrides = None,
    modules: Modules = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what the first grid would run, and run nothing.")] = False,
    runs: RunsFolder = Path("runs"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again from nothing.")] = False,
    retry: Annotated[Literal["failed"] | None, typer.Option(help="Try the lanes again that failed.")] = None,
    memory: Annotated[str | None, typer.Option(help="What a round may take, as 4GB; half of what is free.")] = None,
    device: Annotated[Platform | None, typer.Option(help="Where to compute; jax's choice by default.")] = None,
    devices_per_run: PerRun = "1",
    on: On = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the last line only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Map where nets train over two options, more finely at the boundary; the same command goes on where it stopped."""
    from vgx.report.terminal.working import working

    console, silent = make_console(), quiet or as_json
    with working("planning", silent=quiet):
        import vgx
        from vgx.report.terminal.sweep import watching_sweep
        from vgx.runner.map import cost_of
        from vgx.runner.plan import parse_memory
        from vgx.runner.sweep import sweep_path

        asked = {"x": x, "y": y, "points": points, "refine": refine, "value": value, "threshold": threshold}
        grid = vgx.load_map(config, overrides or [], asked, seeds, modules or [])
        limit = parse_memory(memory) if memory else None
        where: dict[str, Any] = {"device": device, "devices_per_run": devices_per_run, "on": on}
        planned = vgx.plan(grid, runs=runs, memory=limit, **where) if plan else None
    if planned:
        print_plan(planned, as_json)
        return
    if not silent:
        say_aside(cost_of(grid))
    begun = sweep_path(grid, runs) / "config.yaml"
    how: dict[str, Any] = {"overwrite": overwrite, "retry_failed": retry == "failed", "memory": limit} | where
    with going_on(config=begun, silent=silent), watching_sweep(console, silent=silent) as watch:
        run = vgx.trainability_map(grid, runs=runs, watch=watch, say=None if silent else console.print, **how)
    tell_of_fault(run)
    _show(run, console, quiet, as_json)
    _end(run, None if silent else begun, runs)


def _end(run: Run, begun: Path | None, runs: Path) -> None:
    """Says what to do next with the map that `begun` is the config of, and exits 3 where an expectation failed."""
    if begun is not None:
        say_what_follows(run, begun, runs)
    if not all(one.holds for one in run.expectations):
        raise typer.Exit(3)


def _show(run: Run, console: Any, quiet: bool, as_json: bool) -> None:
    """Prints the map, or its last line, or all of it as one object; and what does not hold that was expected."""
    from vgx.report.terminal.map import show_map
    from vgx.report.terminal.run import expectations, summary_json
    from vgx.report.terminal.sweep import last_line
    from vgx.results.map_file import map_json, map_of

    found = map_of(run)
    assert found is not None
    if as_json:
        print(json.dumps(summary_json(run) | {"map": map_json(found)}, allow_nan=False))
        return
    console.print(last_line(run) if quiet else show_map(run, found, console.width), soft_wrap=quiet)
    if broken := [one for one in run.expectations if not one.holds]:
        console.print()
        console.print(expectations(broken))
