"""Commands that train: one config, or a grid of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
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
    Overrides,
    Platform,
    RunsFolder,
    app,
    make_console,
)

if TYPE_CHECKING:
    from vgx.config.schema import Config
    from vgx.config.sweep import Sweep
    from vgx.results.expectations import ExpectationResult
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
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the last line only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Train a config and log the gradient at every layer at every step."""
    from vgx.report.terminal.working import working

    console, silent = make_console(), quiet or as_json
    with working("starting", silent=quiet):
        import vgx
        from vgx.report.terminal.progress import watching
        from vgx.report.terminal.run import expectations, last_line, show, summary
        from vgx.results.words import plain
        from vgx.runner.train import run_path

        tree = vgx.load_config(config, overrides or [], modules or [])
    begun = run_path(tree, runs) / "config.yaml"
    with going_on("--resume", config=begun, silent=silent), watching(console, tree, silent=silent) as watch:
        run = vgx.train(tree, runs=runs, resume=resume, overwrite=overwrite, device=device, watch=watch)
    _tell_of_fault(run)
    with working("reading", silent=quiet):
        held = _held(tree, run) if tree.expect.asks else []
        shown = last_line(run) if silent else show(run, width=console.width)
    if as_json:
        expected = {"expect": [one._asdict() | {"found": plain(one.found)} for one in held]} if held else {}
        print(json.dumps(summary(run) | expected))
    else:
        console.print(shown, soft_wrap=quiet)
        if held and not (quiet and all(one.holds for one in held)):
            console.print()
            console.print(expectations(held))
    if not silent:
        say_next("report", short_name(run.path), runs=runs)
    if not all(one.holds for one in held):
        raise typer.Exit(3)


def _tell_of_fault(run: Run) -> None:
    """Prints a line, beside what is asked for, when a run had to do without predictions."""
    if fault := run.meta.get("prediction_fault"):
        print(f"{run.path}: no prediction: {fault}; the training is whole", file=sys.stderr)


def _held(config: Config, run: Run) -> list[ExpectationResult]:
    """What the config expects, and whether it holds."""
    from vgx.results.expectations import evaluate, facts_of

    return evaluate(config.expect.model_dump(mode="json"), facts_of(run), _predicted(config))


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
        from vgx.report.terminal.sweep import last_line, show_sweep, watching_sweep
        from vgx.runner.plan import parse_memory
        from vgx.runner.sweep import sweep_path

        grid = vgx.load_sweep(config, overrides or [], axes or [], seeds, modules or [])
        limit = parse_memory(memory) if memory else None
        planned = vgx.plan(grid, runs=runs, device=device, memory=limit) if plan else None
    if planned:
        _print_plan(planned, as_json)
        return
    begun = sweep_path(grid, runs) / "config.yaml"
    with going_on(config=begun, silent=silent), watching_sweep(console, silent=silent) as watch:
        again = retry == "failed"
        run = vgx.sweep(
            grid, runs=runs, overwrite=overwrite, retry_failed=again, device=device, memory=limit, watch=watch
        )
    _tell_of_fault(run)
    if quiet and not as_json:
        console.print(last_line(run), soft_wrap=True)
    elif not as_json:
        with working("reading"):
            shown = show_sweep(run, rows, columns, value, best_over, console.width)
        console.print(shown)
    held = _held_in_sweep(grid, run)
    _print_expectations(run, held, as_json)
    if not silent:
        _say_what_follows(run, begun, runs)
    if not all(one.holds for one in held):
        raise typer.Exit(3)


def _print_plan(planned: Plan, as_json: bool) -> None:
    from vgx.report.terminal.sweep import show_plan

    if as_json:
        print(json.dumps(planned._asdict() | {"path": str(planned.path)}))
    else:
        make_console().print(show_plan(planned))


def _print_expectations(run: Run, held: Sequence[ExpectationResult], as_json: bool) -> None:
    """Prints what was expected of a sweep and did not hold; as JSON the run's summary with all that was expected."""
    from vgx.report.terminal.run import expectations, summary
    from vgx.results.words import plain

    broken = [one for one in held if not one.holds]
    if as_json:
        expected = {"expect": [one._asdict() | {"found": plain(one.found)} for one in held]} if held else {}
        print(json.dumps(summary(run) | expected))
    elif broken:
        console = make_console()
        console.print()
        console.print(expectations(broken))


def _say_what_follows(run: Run, begun: Path, runs: Path) -> None:
    """Names the command that comes after a sweep: its page, or the lanes that failed once more."""
    if "failed" in run.lanes()["status"].to_pylist():
        say_aside(f"next: {same_command(['--retry', 'failed'], begun)}")
    else:
        say_next("report", short_name(run.path), runs=runs)


def _held_in_sweep(grid: Sweep, run: Run) -> list[ExpectationResult]:
    """What each cell expects of its lanes that have ended, and whether it holds."""
    from vgx.results.expectations import evaluate, facts_of

    if not grid.base.expect.asks:
        return []
    facts: dict[str, list[Any]] = {}
    for lane, fact in zip(run.lanes().to_pylist(), facts_of(run), strict=True):
        facts.setdefault(lane["cell"], []).append(fact)
    return [
        one
        for cell in grid.cells
        for one in evaluate(
            cell.config.expect.model_dump(mode="json"), facts.get(cell.key, []), _predicted(cell.config)
        )
    ]


def _predicted(config: Config) -> tuple[float, float] | str | None:
    """The predicted slope and its tolerance, if the config expects that; why there is none, if there is none."""
    if config.expect.slope is None or "predicted" not in config.expect.slope:
        return None
    import vgx
    from vgx.theory.predict import FAULTS, fault_in_words

    try:
        prediction = vgx.predict(config)
    except FAULTS as error:
        return fault_in_words(error)
    return prediction.reasons.get("slope") or (prediction.slope, prediction.slope_tolerance)
