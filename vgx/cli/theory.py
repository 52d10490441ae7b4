"""Commands of theory: predict, cure, verify."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vgx.cli.options import Axes, ConfigFile, Modules, Overrides, RunsFolder, app, make_console

if TYPE_CHECKING:
    from vgx.cells import Sweep


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
    import vgx
    from vgx.cells import Sweep, load_either
    from vgx.errors import ConfigError
    from vgx.report.forecast import forecast, grid_table

    tree, console = load_either(config, overrides or [], axes or [], modules or []), make_console()
    if isinstance(tree, Sweep):
        if grid:
            raise ConfigError(f"{config}: --grid makes a grid of one config, and this is a sweep; leave it out")
        _outlook(tree, measure, as_json)
        return
    if grid:
        from vgx.prediction import predict_grid

        cells = list(predict_grid(tree))
        if as_json:
            print(json.dumps({"cells": [cell.to_json() for cell in cells]}, allow_nan=False))
        else:
            console.print(grid_table(cells))
        return
    prediction = vgx.predict(tree)
    measured = None
    if measure:
        from vgx.measurement import first_delta

        measured = first_delta(tree).mean(0)
    if as_json:
        print(json.dumps(prediction.to_json(measured), allow_nan=False))
    else:
        console.print(forecast(prediction, tree.model_dump(mode="json"), console.width, measured))


def _outlook(sweep: Sweep, measure: bool, as_json: bool) -> None:
    """Prints the prediction of every cell of a sweep."""
    from vgx.cells import value_at
    from vgx.measurement import first_delta
    from vgx.prediction import predict_cells
    from vgx.report.forecast import outlook_table

    predictions = list(predict_cells(sweep))
    measured = [first_delta(cell.config).mean(0) for cell in sweep.cells] if measure else []
    options = [{path: value_at(cell.config, path) for path in sweep.paths} for cell in sweep.cells]
    if as_json:
        deltas = measured or [None] * len(predictions)
        cells = [values | one.to_json(delta) for values, one, delta in zip(options, predictions, deltas, strict=True)]
        print(json.dumps({"cells": cells}, allow_nan=False))
    else:
        make_console().print(outlook_table(options, predictions, measured))


@app.command()
def cure(
    config: Annotated[str, typer.Argument(metavar="CONFIG|RUN", help="A YAML file, or a run of one.")],
    overrides: Overrides = None,
    modules: Modules = None,
    write: Annotated[Path | None, typer.Option("--write", metavar="FILE", help="Write the best cure there.")] = None,
    prove: Annotated[bool, typer.Option("--prove", help="Train before and after, and show both.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Find the smallest change that makes the gradient level, by theory."""
    import vgx
    from vgx.cure import diagnose, slower, written
    from vgx.documents import document
    from vgx.errors import ConfigError
    from vgx.report.cures import Proof, diagnosis_text, proof_table
    from vgx.run_directory import explained, find_run

    there = Path(config).exists() and not Path(config).is_dir()
    is_file = config == "-" or config.endswith((".yaml", ".yml")) or there
    file = config if is_file else str(find_run(config, runs).path / "config.yaml")
    text, console = document(file), make_console()
    tree = vgx.load_config(text, overrides or [], modules or [])
    diagnosis = diagnose(tree)
    if not as_json:
        console.print(diagnosis_text(diagnosis, tree.model_dump(mode="json")))
    best = next(iter(diagnosis.cures), None)
    if best is None and (write or prove):
        raise ConfigError(f"{text.source}: there is no cure to write or prove")
    proofs = []
    if best and write:
        with explained(write):
            write.write_text(written(text.text, best, overrides or []))
        if not as_json:
            print(f"\n{write}: written, with {best.in_words}")
    if best and prove:
        before, after = (effect.verdict.slope for effect in (diagnosis.effect, best.effect))
        proofs = [Proof.of("before", before, vgx.train(tree, runs=runs, resume=True))]
        for what, one in slower(best.config):
            proofs.append(Proof.of(what, after, vgx.train(one, runs=runs, resume=True)))
            if not proofs[-1].lost:
                break
    if as_json:
        proven = {"proof": [proof.to_json() for proof in proofs]} if proofs else {}
        print(json.dumps(diagnosis.to_json() | proven, allow_nan=False))
    elif proofs:
        console.print()
        console.print(proof_table(proofs))


@app.command(name="verify")
def verify_theory(
    axes: Annotated[
        list[str] | None,
        typer.Option("--axis", metavar="PART=NAME,...", help="Only these, as activation=relu,elu; all unless told."),
    ] = None,
    width: Annotated[int, typer.Option(min=2, help="Units per layer.")] = 512,
    depth: Annotated[int, typer.Option(min=3, help="Hidden layers.")] = 20,
    nets: Annotated[int, typer.Option(min=1, help="Nets per combination.")] = 4,
    modules: Modules = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Hold theory against nets at initialization, for every combination of parts; exit 3 where it does not hold."""
    from vgx.modules import import_modules
    from vgx.report.forecast import checks_table
    from vgx.verification import Bench, axes_of, verify

    import_modules(modules or [])
    activations, initializers, normalizations = axes_of(axes or [])
    total, console, checks = len(activations) * len(initializers) * len(normalizations), make_console(), []
    with console.status(f"0 of {total:,}") if console.is_terminal and not as_json else nullcontext() as status:
        for check in verify(activations, initializers, normalizations, Bench(width, depth, nets)):
            checks.append(check)
            if status is not None:
                status.update(f"{len(checks):,} of {total:,}: {check.activation}, {check.normalization.title}")
    if as_json:
        print(json.dumps({"checks": [check.to_json() for check in checks]}, allow_nan=False))
    else:
        console.print(checks_table(checks))
    if not all(check.holds for check in checks):
        raise typer.Exit(3)
