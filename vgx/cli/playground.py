"""`vgx playground`: any net's prediction as a page that works offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vgx.cli.options import Modules, app


@app.command()
def playground(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page.")] = Path("playground.html"),
    modules: Modules = None,
) -> None:
    """Write a page that predicts nets, and finds cures, as sliders move; it works offline."""
    from importlib.metadata import version

    from vgx.report.html.write import refuse_others
    from vgx.report.terminal.working import working

    refuse_others(output)
    with working("reading the digits, and tables of theory"):
        from vgx.config.load import load_config
        from vgx.config.modules import import_modules
        from vgx.report.html.playground_page import shipped_tables, write_playground
        from vgx.theory.predict import default_activations, source_of
        from vgx.theory.tables import choices, tables_of

        import_modules(modules or [])
        data = load_config({"data": "digits"}).data
        source, shipped = source_of(data.load(), data.input), shipped_tables()
        activations = {
            part.name: {
                "formula": part.formula,
                "random": part.random,
                "tables": shipped.get(part.name) or tables_of(part, source.signal),
            }
            for part in default_activations()
        }
        write_playground(output, choices(source), activations, version("vgx"))
    print(f"{output}: written, {output.stat().st_size / 1e6:.1f} MB")
