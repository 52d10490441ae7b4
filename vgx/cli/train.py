"""Commands that train: one config, or a grid of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vgx.cli.hints import going_on, same_command, say_aside, say_next, short_name
from vgx.cli.options import (
    Axes,
    BestOver,
    ConfigFile,
    GridColumns,
    GridRows,
    GridValue,
    Modules,
    On,
    Overrides,
    PerRun,
    Platform,
    RunsFolder,
    app,
    make_console,
)

if TYPE_CHECKING:
    from rich.console import Console

    from vgx.results.store import Run
    from vgx.runner.sweep import Plan


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    modules: Modules = None,
    runs: RunsFolder = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Resume a run that was cut off.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that exists.")] = False,
    device: Annotated[Platform | None, typer.Option(help="Where to compute; jax's choice by default.")] = None,
    devices_per_run: PerRun = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Train together with other processes: srun, mpirun, a TPU pod.")
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the first of the processes listens.")
    ] = None,
    processes: Annotated[int | None, typer.Option(metavar="N", min=1, help="How many processes there are.")] = None,
    process: Annotated[int | None, typer.Option(metavar="I", min=0, help="Which this one is, from 0.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the last line only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Train a config and log the gradient at every layer at every step."""
    from vgx.report.terminal.working import working

    named = coordinator, processes, process
    together = _is_joint(distributed, named)
    console, silent = make_console(), quiet or as_json
    with working("starting", silent=quiet):
        import vgx
        from vgx.report.terminal.progress import watching
        from vgx.runner.processes import is_first, join
        from vgx.runner.train import run_path, train_beside

        tree = vgx.load_config(config, overrides or [], modules or [])
    if together:
        join(*named)
    where: dict[str, Any] = {"device": device, "devices_per_run": devices_per_run or ("auto" if together else 1)}
    if together and not is_first():
        train_beside(tree, **where)
        return
    begun = run_path(tree, runs) / "config.yaml"
    with going_on("--resume", config=begun, silent=silent), watching(console, tree, silent=silent) as watch:
        run = vgx.train(
            tree,
            runs=runs,
            resume=resume,
            overwrite=overwrite,
            watch=watch,
            **where,
        )
    tell_of_fault(run)
    _show_trained(run, console, quiet, as_json)
    if not silent:
        say_next("report", short_name(run.path), runs=runs)
    if not all(one.holds for one in run.expectations):
        raise typer.Exit(3)


def _show_trained(run: Run, console: Console, quiet: bool, as_json: bool) -> None:
    from vgx.report.terminal.run import expectations, last_line, show
    from vgx.report.terminal.working import working

    if as_json:
        _print_json(run)
        return
    with working("reading", silent=quiet):
        shown = last_line(run) if quiet else show(run, width=console.width)
    console.print(shown, soft_wrap=quiet)
    held = run.expectations
    if held and not (quiet and all(one.holds for one in held)):
        console.print()
        console.print(expectations(held))


def _is_joint(distributed: bool, named: tuple[str | None, int | None, int | None]) -> bool:
    """Whether a run is to be trained together with other processes, by what says which; makes output ready for that."""
    if not distributed and named == (None, None, None):
        return False
    if named.count(None) not in (0, 3):
        raise typer.BadParameter("give all of --coordinator HOST:PORT, --processes N and --process I, or none of them")
    from vgx.cli.process import keep_output_apart

    keep_output_apart()
    return True


def tell_of_fault(run: Run) -> None:
    """Prints a line, beside what is asked for, when a run had to do without predictions."""
    if fault := run.meta.get("prediction_fault"):
        print(f"{run.path}: no prediction: {fault}; the training is whole", file=sys.stderr)


@app.command()
def sweep(
    config: ConfigFile,
    axes: Axes = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds, instead of the file's.")] = None,
    overrides: Overrides = None,
    modules: Modules = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be run, and run nothing.")] = False,
    runs: RunsFolder = Path("runs"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again from nothing.")] = False,
    retry: Annotated[Literal["failed"] | None, typer.Option(help="Try the lanes again that failed.")] = None,
    memory: Annotated[str | None, typer.Option(help="What a round may take, as 4GB; half of what is free.")] = None,
    device: Annotated[Platform | None, typer.Option(help="Where to compute; jax's choice by default.")] = None,
    devices_per_run: PerRun = "1",
    on: On = None,
    rows: GridRows = None,
    columns: GridColumns = None,
    value: GridValue = None,
    best_over: BestOver = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the last line only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Train a grid of configs side by side; the same command resumes a sweep that was cut off or has grown."""
    from vgx.report.terminal.working import working

    console, silent = make_console(), quiet or as_json
    with working("planning", silent=quiet):
        import vgx
        from vgx.report.terminal.run import expectations
        from vgx.report.terminal.sweep import last_line, show_sweep, watching_sweep
        from vgx.runner.plan import parse_memory
        from vgx.runner.sweep import sweep_path

        grid = vgx.load_sweep(config, overrides or [], axes or [], seeds, modules or [])
        limit = parse_memory(memory) if memory else None
        where: dict[str, Any] = {"device": device, "devices_per_run": devices_per_run, "on": on}
        planned = vgx.plan(grid, runs=runs, memory=limit, **where) if plan else None
    if planned:
        print_plan(planned, as_json)
        return
    begun = sweep_path(grid, runs) / "config.yaml"
    with going_on(config=begun, silent=silent), watching_sweep(console, silent=silent) as watch:
        again = retry == "failed"
        run = vgx.sweep(grid, runs=runs, overwrite=overwrite, retry_failed=again, memory=limit, watch=watch, **where)
    tell_of_fault(run)
    if quiet and not as_json:
        console.print(last_line(run), soft_wrap=True)
    elif not as_json:
        with working("reading"):
            shown = show_sweep(run, rows, columns, value, best_over, console.width)
        console.print(shown)
    broken = [one for one in run.expectations if not one.holds]
    if as_json:
        _print_json(run)
    elif broken:
        console.print()
        console.print(expectations(broken))
    if not silent:
        say_what_follows(run, begun, runs)
    if broken:
        raise typer.Exit(3)


def print_plan(planned: Plan, as_json: bool) -> None:
    """Prints what a sweep would do."""
    from vgx.report.terminal.sweep import show_plan

    if as_json:
        places = [place._asdict() for place in planned.places or ()]
        print(json.dumps(planned._asdict() | {"path": str(planned.path), "places": places or None}))
    else:
        make_console().print(show_plan(planned))


def _print_json(run: Run) -> None:
    """Prints a run's summary, with all that was expected of it, as one object."""
    from vgx.report.terminal.run import summary_json

    print(json.dumps(summary_json(run)))


def say_what_follows(run: Run, begun: Path, runs: Path) -> None:
    """Names the command that comes after a sweep: its page, or the lanes that failed once more."""
    if "failed" in run.lanes()["status"].to_pylist():
        say_aside(f"next: {same_command(['--retry', 'failed'], begun)}")
    else:
        say_next("report", short_name(run.path), runs=runs)
