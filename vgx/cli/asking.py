"""Commands about what may be asked: configs, parts, data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vgx.cli.naming import config_files
from vgx.cli.options import Overrides, app, data, fail, make_console


@app.command()
def check(
    configs: Annotated[list[str], typer.Argument(metavar="CONFIG...", help="YAML files.", autocompletion=config_files)],
    overrides: Overrides = None,
) -> None:
    """Check configs and say all that is wrong with them, without running anything."""
    from vgx.errors import VgxError
    from vgx.report.working import working

    faults, well = [], []
    with working("checking") as say:
        from vgx.claims import check

        for config in configs:
            say("checking", config)
            try:
                well.append(f"{config}: ok, {check(config, overrides or [])}")
            except VgxError as error:
                faults.append(str(error))
    for line in well:
        print(line)
    if faults:
        fail("\n".join(faults), 2)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a config, for editors."""
    from vgx.report.working import working

    with working("writing"):
        from vgx.config import json_schema
    print(json.dumps(json_schema(), indent=2))


@app.command()
def new(name: Annotated[str, typer.Argument(help="The config's name; NAME.yaml is written.")]) -> None:
    """Write a commented config to start from."""
    from vgx.disk import write_new
    from vgx.report.working import working

    with working("starting"):
        from vgx.loading import starter

    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    write_new(path, starter(path.stem))
    print(f"{path}: written; `vgx train {path}` runs it")


@app.command()
def parts(
    kind: Annotated[str | None, typer.Argument(help="activations, initializers, ...: one kind alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Print every named part: options with defaults, formula and paper."""
    from vgx.report.working import working

    with working("reading the parts"):
        from vgx.report.catalogue import catalogue, catalogue_json, kinds_called

        registries = kinds_called(kind)
    if as_json:
        print(json.dumps(catalogue_json(registries), indent=2))
    else:
        make_console().print(catalogue(registries))


@data.command(name="list")
def list_data() -> None:
    """List the data sets, and whether their files are there."""
    from vgx.report.working import working

    with working("looking"):
        from vgx.report.catalogue import data_table

        table = data_table()
    make_console().print(table)


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

    with downloading(make_console()) as progress:
        files = get(name, directory=directory, mirror=mirror, progress=progress)
    print("\n".join(map(str, files)))


@data.command()
def verify(
    name: Annotated[str, typer.Argument(help="mnist, fashion_mnist or kmnist.")],
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to look first.")] = None,
) -> None:
    """Check a data set's files against their published checksums."""
    from vgx.report.working import working

    with working("checking"):
        from vgx.data.download import verify

        checks = verify(name, directory)
    for check in checks:
        print(f"{check.path or check.file}: {check.state}" + (f" ({check.detail})" if check.detail else ""))
    if any(check.state not in ("ok", "unchecked") for check in checks):
        raise typer.Exit(2)
