"""The command line: parse, delegate, print."""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from vgx.cells import Sweep
    from vgx.config import Config
    from vgx.expectation import Held
    from vgx.run_directory import Run

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
Axes = Annotated[
    list[str] | None, typer.Option("--axis", metavar="PATH=A,B", help="An axis, as model.activation=relu,elu.")
]
RunsFolder = Annotated[Path, typer.Option("--runs", help="The folder of the runs.")]
GridRows = Annotated[str | None, typer.Option("--rows", help="The swept option of the rows.")]
GridColumns = Annotated[str | None, typer.Option("--columns", help="The swept option of the columns.")]
GridValue = Annotated[str | None, typer.Option("--value", help="What the cells show: slope, verdict, test_loss, ...")]
BestOver = Annotated[
    str | None, typer.Option("--best-over", help="A swept option to choose by validation accuracy, not to show.")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or the beginning of its name in --runs.")]


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    runs: RunsFolder = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut off.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that exists.")] = False,
    device: Annotated[Platform | None, typer.Option(help="Where to compute; jax's choice unless told.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the last line only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Train a config and log the gradient at every layer at every step."""
    import vgx
    from vgx.report.live import watching
    from vgx.report.terminal import plain, summary

    tree = vgx.load_config(config, overrides or [])
    with watching(_console(), tree, silent=quiet or as_json) as watch:
        run = vgx.train(tree, runs=runs, resume=resume, overwrite=overwrite, device=device, watch=watch)
    held = _held(tree, run) if tree.expect.asks else []
    if as_json:
        expected = {"expect": [one._asdict() | {"found": plain(one.found)} for one in held]} if held else {}
        print(json.dumps(summary(run) | expected))
    else:
        from vgx.report.terminal import expectations, last_line, show

        console = _console()
        console.print(last_line(run) if quiet else show(run, width=console.width), soft_wrap=quiet)
        if held and not (quiet and all(one.holds for one in held)):
            console.print()
            console.print(expectations(held))
    if not all(one.holds for one in held):
        raise typer.Exit(3)


def _held(config: Config, run: Run) -> list[Held]:
    """What the config expects, and whether it holds."""
    from vgx.expectation import evaluate, facts_of

    return evaluate(config.expect.model_dump(mode="json"), facts_of(run), _predicted(config))


@app.command()
def sweep(
    config: ConfigFile,
    axes: Axes = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds, instead of the file's.")] = None,
    overrides: Overrides = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be run, and run nothing.")] = False,
    runs: RunsFolder = Path("runs"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again from nothing.")] = False,
    retry: Annotated[Literal["failed"] | None, typer.Option(help="Try the lanes again that failed.")] = None,
    memory: Annotated[str | None, typer.Option(help="What a round may take, as 4GB; half of what is free.")] = None,
    device: Annotated[Platform | None, typer.Option(help="Where to compute; jax's choice unless told.")] = None,
    rows: GridRows = None,
    columns: GridColumns = None,
    value: GridValue = None,
    best_over: BestOver = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the last line only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Train a grid of configs side by side; the same command goes on with a sweep that was cut off or has grown."""
    import vgx
    from vgx.planning import parse_memory
    from vgx.report import sweeps
    from vgx.report.terminal import expectations, plain, summary

    grid = vgx.load_sweep(config, overrides or [], axes or [], seeds)
    limit = parse_memory(memory) if memory else None
    console = _console()
    if plan:
        planned = vgx.plan(grid, runs=runs, device=device, memory=limit)
        if as_json:
            print(json.dumps(planned._asdict() | {"path": str(planned.path)}))
        else:
            console.print(sweeps.show_plan(planned))
        return
    with sweeps.watching_sweep(console, silent=quiet or as_json) as watch:
        again = retry == "failed"
        run = vgx.sweep(
            grid, runs=runs, overwrite=overwrite, retry_failed=again, device=device, memory=limit, watch=watch
        )
    held = _held_in_sweep(grid, run)
    if as_json:
        expected = {"expect": [one._asdict() | {"found": plain(one.found)} for one in held]} if held else {}
        print(json.dumps(summary(run) | expected))
    elif quiet:
        console.print(sweeps.last_line(run), soft_wrap=True)
    else:
        console.print(sweeps.show_sweep(run, rows, columns, value, best_over, console.width))
    if not all(one.holds for one in held):
        if not as_json:
            console.print()
            console.print(expectations([one for one in held if not one.holds]))
        raise typer.Exit(3)


def _held_in_sweep(grid: Sweep, run: Run) -> list[Held]:
    """What each cell expects of its lanes that have ended, and whether it holds."""
    from vgx.expectation import evaluate, facts_of

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


def _predicted(config: Config) -> tuple[float, float] | None:
    """The predicted slope and its tolerance, if the config expects that."""
    if config.expect.slope is None or "predicted" not in config.expect.slope:
        return None
    import vgx

    prediction = vgx.predict(config)
    return prediction.slope, prediction.slope_tolerance


@app.command()
def predict(
    config: ConfigFile,
    axes: Axes = None,
    overrides: Overrides = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the first step too, and say why.")] = False,
    grid: Annotated[bool, typer.Option("--grid", help="A table: activation, initializer, normalization.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Predict the gradient at every layer, before any training, by mean-field theory; of a sweep, for every cell."""
    import vgx
    from vgx.cells import Sweep, load_either
    from vgx.errors import ConfigError
    from vgx.report.forecast import forecast, grid_table

    tree, console = load_either(config, overrides or [], axes or []), _console()
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
        _console().print(outlook_table(options, predictions, measured))


@app.command()
def cure(
    config: Annotated[str, typer.Argument(metavar="CONFIG|RUN", help="A YAML file, or a run of one.")],
    overrides: Overrides = None,
    write: Annotated[Path | None, typer.Option("--write", metavar="FILE", help="Write the best cure there.")] = None,
    prove: Annotated[bool, typer.Option("--prove", help="Train before and after, and show both.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Find the smallest change that makes the gradient level, by theory."""
    import vgx
    from vgx.cure import diagnose, slower, written
    from vgx.errors import ConfigError
    from vgx.report.cures import Proof, diagnosis_text, proof_table
    from vgx.run_directory import explained, find_run

    is_file = config == "-" or config.endswith((".yaml", ".yml")) or Path(config).is_file()
    file = config if is_file else str(find_run(config, runs).path / "config.yaml")
    tree, console = vgx.load_config(file, overrides or []), _console()
    diagnosis = diagnose(tree)
    if not as_json:
        console.print(diagnosis_text(diagnosis, tree.model_dump(mode="json")))
    best = next(iter(diagnosis.cures), None)
    if best is None and (write or prove):
        raise ConfigError(f"{file}: there is no cure to write or prove")
    proofs = []
    if best and write:
        with explained(write):
            write.write_text(written(Path(file).read_text(), best, overrides or []))
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
    modules: Annotated[
        list[str] | None,
        typer.Option("--import", metavar="MODULE", help="Python that registers parts."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Hold theory against nets at initialization, for every combination of parts; exit 3 where it does not hold."""
    from vgx.report.forecast import checks_table
    from vgx.verification import Bench, axes_of, verify

    _import(modules or [])
    activations, initializers, normalizations = axes_of(axes or [])
    total, console, checks = len(activations) * len(initializers) * len(normalizations), _console(), []
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


def _import(modules: list[str]) -> None:
    """Imports a user's modules, which may lie where the command runs."""
    from vgx.errors import ConfigError

    sys.path.insert(0, "")
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ConfigError(f"--import {module}: {error}") from None


@app.command()
def show(
    run: RunName,
    step: Annotated[int | None, typer.Option(help="The step to show; the last recorded one unless told.")] = None,
    lane: Annotated[int | None, typer.Option(help="The lane to show; of a single run the first unless told.")] = None,
    rows: GridRows = None,
    columns: GridColumns = None,
    value: GridValue = None,
    best_over: BestOver = None,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Show a run: its gradient at every layer, at any step, and its verdict. Show a sweep: a grid for two axes."""
    from vgx.report.sweeps import show_sweep
    from vgx.report.terminal import show
    from vgx.run_directory import find_run

    console, found = _console(), find_run(run, runs)
    if found.is_sweep and lane is None and step is None:
        console.print(show_sweep(found, rows, columns, value, best_over, console.width))
    else:
        console.print(show(found, step, lane or 0, console.width))


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
    _console().print(runs_table(found) if found else f"{runs}: no runs yet; `vgx train CONFIG` makes one")


@app.command()
def check(
    configs: Annotated[list[str], typer.Argument(metavar="CONFIG...", help="YAML files.")], overrides: Overrides = None
) -> None:
    """Check configs and say all that is wrong with them, without running anything."""
    import vgx

    faults = []
    for config in configs:
        try:
            print(f"{config}: ok, {vgx.check(config, overrides or [])}")
        except vgx.VgxError as error:
            faults.append(str(error))
    if faults:
        _fail("\n".join(faults), 2)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a config, for editors."""
    from vgx.config import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def new(name: Annotated[str, typer.Argument(help="The config's name; NAME.yaml is written.")]) -> None:
    """Write a commented config to start from."""
    from vgx.errors import RunError
    from vgx.loading import starter
    from vgx.run_directory import explained

    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    with explained(path):
        try:
            with path.open("x") as file:
                file.write(starter(path.stem))
        except FileExistsError:
            raise RunError(f"{path}: exists already; choose another name") from None
    print(f"{path}: written; `vgx train {path}` runs it")


@app.command()
def parts(
    kind: Annotated[str | None, typer.Argument(help="activations, initializers, ...: one kind alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Print every named part: options with defaults, formula and paper."""
    from vgx.report.catalogue import catalogue, catalogue_json, kinds_called

    registries = kinds_called(kind)
    if as_json:
        print(json.dumps(catalogue_json(registries), indent=2))
    else:
        _console().print(catalogue(registries))


@data.command(name="list")
def list_data() -> None:
    """List the data sets, and whether their files are there."""
    from vgx.report.catalogue import data_table

    _console().print(data_table())


@data.command()
def get(
    name: Annotated[str, typer.Argument(help="mnist, fashion_mnist or kmnist.")],
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where to put it; $VGX_DATA_DIR/NAME or the user cache unless told.")
    ] = None,
    mirror: Annotated[str | None, typer.Option(help="An address to fetch the files from first.")] = None,
) -> None:
    """Download a data set, and check it."""
    from vgx.data.download import get
    from vgx.report.live import downloading

    with downloading(_console()) as progress:
        files = get(name, directory=directory, mirror=mirror, progress=progress)
    print("\n".join(map(str, files)))


@data.command()
def verify(
    name: Annotated[str, typer.Argument(help="mnist, fashion_mnist or kmnist.")],
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to look first.")] = None,
) -> None:
    """Check a data set's files against their published checksums."""
    from vgx.data.download import verify

    checks = verify(name, directory)
    for check in checks:
        print(f"{check.path or check.file}: {check.state}" + (f" ({check.detail})" if check.detail else ""))
    if any(check.state not in ("ok", "unchecked") for check in checks):
        raise typer.Exit(2)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _fail(message: str, code: int) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True).print(message, style="red")
    sys.exit(code)


def main() -> None:
    """Runs the command; a fault the user can mend is printed as its message, and the exit code says what kind it is."""
    from vgx.errors import VgxError

    try:
        app()
    except VgxError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has left (`vgx parts | head`); Python would complain again while it flushes at exit.
        sys.stderr.close()
        sys.exit(0)
