"""Commands of theory: predict, cure, verify."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vgx.cli.completion import configs_and_runs, newest_run
from vgx.cli.hints import going_on, same_command, say_aside, say_next, short_name
from vgx.cli.options import Axes, ConfigFile, Modules, Overrides, RunsFolder, app, make_console
from vgx.results.words import counted

if TYPE_CHECKING:
    import numpy as np
    from rich.console import RenderableType

    from vgx.config.schema import Config
    from vgx.config.sweep import Sweep
    from vgx.report.terminal.working import Clock
    from vgx.runner.loop import TrainingProgress
    from vgx.runner.proof import Proof
    from vgx.theory.cure import Cure, Diagnosis
    from vgx.theory.predict import CellPrediction, Prediction


@app.command()
def predict(
    config: ConfigFile,
    axes: Axes = None,
    overrides: Overrides = None,
    modules: Modules = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the first step too, and say why.")] = False,
    grid: Annotated[bool, typer.Option("--grid", help="A table: activation, initializer, normalization.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Predict the gradient at every layer, before any training, by mean-field theory; of a sweep, for every cell."""
    from vgx.report.terminal.working import working

    console = make_console()
    with working("predicting") as say:
        from vgx.config.sweep import Sweep, load_either
        from vgx.errors import ConfigError

        tree = load_either(config, overrides or [], axes or [], modules or [])
        if grid and isinstance(tree, Sweep):
            raise ConfigError(f"{config}: --grid makes a grid of one config, and this is a sweep; leave it out")
        if isinstance(tree, Sweep):
            found, shown = _outlook(tree, measure, say)
        elif grid:
            found, shown = _grid(tree, say)
        else:
            found, shown = _forecast(tree, measure, console.width, say)
    if as_json:
        print(json.dumps(found, allow_nan=False))
    else:
        console.print(shown)


Shown = tuple[dict[str, Any], "RenderableType"]
"""What is predicted, for a script and for the terminal."""


def _forecast(config: Config, measure: bool, width: int, say: Clock) -> Shown:
    """What is predicted of one config."""
    import vgx
    from vgx.report.terminal.prediction import forecast
    from vgx.runner.first_step import first_gradient

    prediction, measured = vgx.predict(config), None
    if measure:
        say("measuring")
        measured = first_gradient(config).mean(0)
    return prediction.to_json(measured), forecast(prediction, config.model_dump(mode="json"), width, measured)


def _grid(config: Config, say: Clock) -> Shown:
    """What is predicted of a config with all parts."""
    from vgx.report.terminal.prediction import grid_table
    from vgx.theory.predict import predict_grid

    cells: list[CellPrediction] = []
    for cell in predict_grid(config):
        cells.append(cell)
        say("predicting", f"{counted(len(cells), 'net')}, {cell.activation}")
    return {"cells": [cell.to_json() for cell in cells]}, grid_table(cells)


def _outlook(sweep: Sweep, measure: bool, say: Clock) -> Shown:
    """What is predicted of every cell of a sweep."""
    from vgx.config.sweep import value_at
    from vgx.report.terminal.prediction import outlook_table
    from vgx.runner.first_step import first_gradient
    from vgx.theory.predict import as_json_of, predict_cells

    predictions: list[Prediction | str] = []
    measured: list[np.ndarray] = []
    for one in predict_cells(sweep):
        predictions.append(one)
        say("predicting", f"{len(predictions):,} of {counted(len(sweep.cells), 'cell')}")
    for cell in sweep.cells if measure else ():
        say("measuring", f"{len(measured) + 1:,} of {counted(len(sweep.cells), 'cell')}")
        measured.append(first_gradient(cell.config).mean(0))
    options = [{path: value_at(cell.config, path) for path in sweep.paths} for cell in sweep.cells]
    deltas = measured or [None] * len(predictions)
    cells = [values | as_json_of(one, delta) for values, one, delta in zip(options, predictions, deltas, strict=True)]
    return {"cells": cells}, outlook_table(options, predictions, measured)


@app.command()
def cure(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG|RUN", help="A YAML file, or a run of one.", autocompletion=configs_and_runs)
    ],
    overrides: Overrides = None,
    modules: Modules = None,
    write: Annotated[Path | None, typer.Option("--write", metavar="FILE", help="Write the best cure there.")] = None,
    prove: Annotated[bool, typer.Option("--prove", help="Train before and after, and show both.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Find the smallest change that makes the gradient level, by theory."""
    from vgx.report.terminal.working import working

    there = Path(config).exists() and not Path(config).is_dir()
    is_file = config == "-" or config.endswith((".yaml", ".yml")) or there
    file, console = config if is_file else str(newest_run(config, runs).path / "config.yaml"), make_console()
    with working("diagnosing"):
        import vgx
        from vgx.config.documents import document
        from vgx.config.modeline import moved
        from vgx.errors import ConfigError
        from vgx.report.terminal.cure import diagnosis_text, proof_table
        from vgx.results.files import write_new
        from vgx.theory.cure import diagnose, written

        text = document(file)
        tree = vgx.load_config(text, overrides or [], modules or [])
        diagnosis = diagnose(tree)
    if not as_json:
        console.print(diagnosis_text(diagnosis, tree.model_dump(mode="json")))
    best = next(iter(diagnosis.cures), None)
    if best is None and (write or prove):
        raise ConfigError(f"{text.source}: there is no cure to write or prove")
    proofs = []
    if best and write:
        write_new(write, moved(written(text.text, best, overrides or []), write))
        if not as_json:
            print(f"\n{write}: written, with {best.in_words}")
    if best and prove:
        with going_on(silent=as_json):
            proofs = _proven(tree, diagnosis, best, runs)
    if as_json:
        proven = {"proof": [proof.to_json() for proof in proofs]} if proofs else {}
        print(json.dumps(diagnosis.to_json() | proven, allow_nan=False))
    elif proofs:
        console.print()
        console.print(proof_table(proofs))
    if not as_json and best:
        _say_what_follows(config, proofs, write, runs)


def _proven(config: Config, diagnosis: Diagnosis, best: Cure, runs: Path) -> list[Proof]:
    """What became of a net as it is, and cured, told while it trains."""
    from vgx.report.terminal.working import working
    from vgx.runner.proof import prove

    with working("training") as say:

        def watch(what: str, one: Config, progress: TrainingProgress) -> None:
            at = "" if progress.phase == "compiling" else f", step {progress.step:,} of {progress.steps:,}"
            say("training", f"{what} ({one.name}){at}")

        return prove(config, diagnosis, best, runs, watch)


def _say_what_follows(config: str, proofs: Sequence[Proof], write: Path | None, runs: Path) -> None:
    """Names the command that comes after a cure: look at what was trained, train what was written, or prove it."""
    if proofs:
        say_next("compare", *(short_name(Path(proofs[i].path)) for i in (0, -1)), runs=runs)
    elif write:
        say_next("train", write, runs=runs)
    elif config != "-":
        say_aside(f"next: {same_command(['--prove'])}")


@app.command(name="verify")
def verify_theory(
    axes: Annotated[
        list[str] | None,
        typer.Option("--axis", metavar="PART=NAME,...", help="Only these, as activation=relu,elu; all by default."),
    ] = None,
    width: Annotated[int, typer.Option(min=2, help="Units per layer.")] = 512,
    depth: Annotated[int, typer.Option(min=3, help="Hidden layers.")] = 20,
    nets: Annotated[int, typer.Option(min=1, help="Nets per combination.")] = 4,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Examples that they see; 8, then 64 by default.")
    ] = None,
    modules: Modules = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Check theory against measured networks, for every combination of parts; exit 3 where it does not hold."""
    from vgx.report.terminal.working import working

    console, checks = make_console(), []
    with working("verifying") as say:
        from vgx.config.modules import import_modules
        from vgx.report.terminal.prediction import checks_table
        from vgx.theory.validate import BATCHES, Ensemble, axes_of, verify

        import_modules(modules or [])
        parts = axes_of(axes or [])
        batches = batch or BATCHES
        total = math.prod(map(len, [*parts, batches]))
        for size in batches:
            for check in verify(*parts, ensemble=Ensemble(width, depth, nets, size)):
                checks.append(check)
                say("verifying", f"{len(checks):,} of {total:,}: {check.activation}, {check.normalization.title}")
    if as_json:
        print(json.dumps({"checks": [check.to_json() for check in checks]}, allow_nan=False))
    else:
        console.print(checks_table(checks))
    if not all(check.holds for check in checks):
        raise typer.Exit(3)
