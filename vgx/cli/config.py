"""Commands about what may be asked: configs, parts, data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vgx.cli.completion import config_files
from vgx.cli.options import Modules, Overrides, app, data, fail, make_console


@app.command()
def check(
    configs: Annotated[
        list[str],
        typer.Argument(metavar="CONFIG...", help="YAML files; - reads standard input.", autocompletion=config_files),
    ],
    overrides: Overrides = None,
    modules: Modules = None,
) -> None:
    """Check configs and say all that is wrong with them, without running anything."""
    from vgx.errors import VgxError
    from vgx.report.terminal.working import working

    faults, well = [], []
    with working("checking") as say:
        from vgx.reproduce.experiment import check

        for config in configs:
            name = "<stdin>" if config == "-" else config
            say("checking", name)
            try:
                well.append(f"{name}: ok, {check(config, overrides or [], modules or [])}")
            except VgxError as error:
                faults.append(error.on_command_line)
    for line in well:
        print(line)
    if faults:
        fail("\n".join(faults), 2)


@app.command()
def schema(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where --write puts it; into vgx itself by default.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write it, and say how a config names it.")] = False,
    modules: Modules = None,
) -> None:
    """Print the JSON Schema of configs, sweeps and experiments, for editors; or write it."""
    from vgx.errors import ConfigError, RunError
    from vgx.report.terminal.working import working
    from vgx.results.files import drafted, explained

    if file and not write:
        raise ConfigError(f"--write writes {file}; without it the schema is printed, and needs no FILE")
    if write and modules and not file:
        raise ConfigError("with parts of your own, give a FILE; vgx itself keeps the schema of its own parts")
    with working("writing"):
        from vgx.config.modeline import SCHEMA_FILE, modeline
        from vgx.config.modules import import_modules
        from vgx.reproduce.schema import json_schema

        import_modules(modules or [])
        text = json.dumps(json_schema(), indent=1) + "\n"
    if not write:
        return print(text, end="")
    target = file or SCHEMA_FILE
    with explained(target, "read"):
        if target.exists() and '"title": "vgx config"' not in target.read_text(encoding="utf-8", errors="replace"):
            raise RunError(f"{target}: exists, and is no schema of vgx; choose another name")
    with explained(target), drafted(target) as draft:
        draft.write_text(text, encoding="utf-8")
    print(f"{target}: written; an editor checks a config here by it when this is the first line:")
    print(modeline(Path("my-net.yaml"), target))


@app.command()
def new(
    name: Annotated[
        str | None, typer.Argument(help="The config's name; NAME.yaml is written. The example's by default.")
    ] = None,
    example: Annotated[str | None, typer.Option("--from", metavar="EXAMPLE", help="Copy this example.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the examples, and write nothing.")] = False,
) -> None:
    """Write a commented config to start from: of every default, or a copy of an example."""
    from vgx.errors import ConfigError
    from vgx.report.terminal.working import working
    from vgx.results.files import write_new

    with working("starting"):
        from vgx.config.load import legal_name, starter
        from vgx.config.modeline import modeline
        from vgx.config.shipped import copied, example_called, examples

    if listing:
        from vgx.report.terminal.parts import examples_table

        if name or example:
            raise ConfigError("--list lists all examples; leave the rest out")
        make_console().print(examples_table(examples().values()))
        return print("\n`vgx new --from NAME` writes one here")
    if not name and not example:
        raise ConfigError("give a NAME to write a starter; or --from EXAMPLE, of those that --list lists")
    found = example_called(example) if example else None
    name = name or f"{found and found.name}.yaml"
    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if (legal := legal_name(path.stem)) != path.stem:
        raise ConfigError(f"{path.stem!r} cannot name a config; try '{legal}'")
    write_new(path, copied(found, path) if found else f"{modeline(path)}\n{starter(path.stem)}")
    print(f"{path}: written; `vgx {found.command if found else 'train'} {path}` runs it")


@app.command()
def parts(
    kind: Annotated[str | None, typer.Argument(help="activations, initializers, ...: one kind alone.")] = None,
    modules: Modules = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Print every named part: options with defaults, formula and paper."""
    from vgx.report.terminal.working import working

    with working("reading the parts"):
        from vgx.config.modules import import_modules
        from vgx.report.terminal.parts import catalogue, catalogue_json, kinds_called

        import_modules(modules or [])
        registries = kinds_called(kind)
    if as_json:
        print(json.dumps(catalogue_json(registries), indent=2))
    else:
        make_console().print(catalogue(registries))


@data.command(name="list")
def list_data() -> None:
    """List the data sets, and whether their files are there."""
    from vgx.report.terminal.working import working

    with working("looking"):
        from vgx.report.terminal.parts import data_table

        table = data_table()
    make_console().print(table)


@data.command()
def get(
    name: Annotated[str, typer.Argument(help="mnist, fashion_mnist or kmnist.")],
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where to put it; $VGX_DATA_DIR/NAME or the user cache by default.")
    ] = None,
    mirror: Annotated[str | None, typer.Option(help="An address to fetch the files from first.")] = None,
) -> None:
    """Download a data set, and check it."""
    from vgx.data.download import get
    from vgx.report.terminal.progress import downloading

    with downloading(make_console()) as progress:
        files = get(name, directory=directory, mirror=mirror, progress=progress)
    print("\n".join(map(str, files)))


@data.command()
def verify(
    name: Annotated[str, typer.Argument(help="mnist, fashion_mnist or kmnist.")],
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to look first.")] = None,
) -> None:
    """Check a data set's files against their published checksums."""
    from vgx.report.terminal.working import working

    with working("checking"):
        from vgx.data.download import verify

        checks = verify(name, directory)
    for check in checks:
        print(f"{check.path or check.file}: {check.state}" + (f" ({check.detail})" if check.detail else ""))
    if any(check.state not in ("ok", "unchecked") for check in checks):
        raise typer.Exit(2)
