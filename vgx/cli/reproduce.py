"""The command that tests claims."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vgx.cli.hints import going_on, say_aside, say_next, short_name
from vgx.cli.options import CLAIMS_PAGE, Modules, Overrides, Platform, RunsFolder, app, make_console

if TYPE_CHECKING:
    from vgx.reproduce.evaluate import Result
    from vgx.reproduce.experiment import Experiment


@app.command(name="reproduce")
def reproduce_claim(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME|FILE]", help="An experiment, or a YAML file of one.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Run every experiment that comes with vgx.")] = False,
    scale: Annotated[Literal["smoke", "cpu", "full"], typer.Option(help="How large to make it.")] = "cpu",
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, instead of the scale's.")] = None,
    activations: Annotated[
        list[str] | None, typer.Option("--activation", metavar="NAME", help="One more activation to compare.")
    ] = None,
    modules: Modules = None,
    overrides: Overrides = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write docs/CLAIMS.md here, or its section on the one.")
    ] = False,
    runs: RunsFolder = Path("runs"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again from nothing.")] = False,
    device: Annotated[Platform | None, typer.Option(help="Where to compute; jax's choice by default.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the last line of each only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Test a claim: list the experiments, or run one; exit 3 when a published number is not reproduced."""
    from vgx.errors import ConfigError
    from vgx.report.terminal.working import working

    if write and not (name or every):
        raise ConfigError("--write writes the page of all claims, or the section of one: give --all, or name one")
    if name and every:
        raise ConfigError(f"--all runs every experiment, and '{name}' names one; leave one of the two out")
    if write:
        from vgx.report.markdown import refuse_others

        refuse_others(CLAIMS_PAGE, None if every else scale)
    silent = quiet or as_json
    with working("reading what has been run", silent=quiet):
        from vgx.reproduce.experiment import experiment_called, find_experiments, load_experiment

        files = [experiment_called(name)] if name else find_experiments().values()
        asked = scale, overrides or [], activations or [], seeds, modules or []
        loaded = [load_experiment(file, *asked) for file in files]
        experiments = sorted(loaded, key=lambda experiment: experiment.claim.letter)
        if not name and not every:
            _list(experiments, runs, as_json)
            return
    how = {"runs": runs, "overwrite": overwrite, "device": device}
    if not silent:
        _say_what_to_expect(experiments, how)
    results = [_reproduced(experiment, how, titled=every, quiet=quiet, as_json=as_json) for experiment in experiments]
    if as_json:
        from vgx.report.terminal.claims import to_json

        print(json.dumps({"experiments": [to_json(result) for result in results]}, allow_nan=False))
    if write:
        _write(results, every)
    if not silent and name:
        say_next("report", short_name(results[0].run.path), runs=runs)
    elif not silent:
        say_next("reproduce", "--scale", scale, runs=runs)
    if any(result.failed for result in results):
        raise typer.Exit(3)


def _write(results: Sequence[Result], every: bool) -> None:
    """Writes the page of all claims, or the section of one."""
    from vgx.report.markdown import renew_section, write_page

    if every:
        write_page(results, CLAIMS_PAGE)
    else:
        renew_section(results[0], CLAIMS_PAGE)


def _list(experiments: Sequence[Experiment], runs: Path, as_json: bool) -> None:
    """Prints the experiments, and what was found of those that have been run."""
    from vgx.report.terminal import claims
    from vgx.reproduce.evaluate import count, finished

    known = [finished(experiment, runs) for experiment in experiments]
    if as_json:
        listed = [claims.listed_json(*pair) for pair in zip(experiments, known, strict=True)]
        print(json.dumps({"experiments": listed}))
    else:
        counts = [count(experiment, runs) for experiment in experiments]
        make_console().print(claims.experiments_table(experiments, counts, known))


def _say_what_to_expect(experiments: Sequence[Experiment], how: dict[str, Any]) -> None:
    """Says about how long it all takes, and that it may be interrupted."""
    from vgx.report.terminal.claims import expectation
    from vgx.report.terminal.working import working
    from vgx.reproduce.evaluate import expected_seconds

    with working("estimating how long it takes"):
        seconds = [expected_seconds(experiment, **how) for experiment in experiments]
    if line := expectation(seconds):
        say_aside(line)


def _reproduced(experiment: Experiment, how: dict[str, Any], *, titled: bool, quiet: bool, as_json: bool) -> Result:
    """Runs an experiment and prints what it found, its claim before it where several are run."""
    from vgx.report.terminal import claims
    from vgx.report.terminal.sweep import watching_sweep
    from vgx.reproduce.evaluate import reproduce

    console, silent = make_console(), quiet or as_json
    if titled and not silent:
        console.print(f"{experiment.name}: {experiment.claim.says}", soft_wrap=True)
    with going_on(silent=silent), watching_sweep(console, silent=silent) as watch:
        result = reproduce(experiment, watch=watch, **how)
    if not as_json:
        console.print(claims.last_line(result) if quiet else claims.show_result(result), soft_wrap=quiet)
    return result
