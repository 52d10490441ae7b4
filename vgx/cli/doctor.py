"""The command that looks at what vgx stands on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vgx.cli.options import RunsFolder, app, make_console


@app.command(name="doctor")
def examine(
    runs: RunsFolder = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Look at versions, devices, precision, caches and folders, and say what is wrong; exit 4 if something is."""
    from vgx.report.terminal.working import working

    with working("looking") as say:
        from vgx.runner import doctor

        findings = []
        for one in doctor.examine(runs):
            findings.append(one)
            say("looking", f"beyond {one.name}")
    wrong = [one for one in findings if one.fault]
    if as_json:
        print(json.dumps({"ok": not wrong, "findings": [one._asdict() for one in findings]}))
    else:
        from vgx.report.terminal.doctor import examination

        make_console().print(examination(findings))
    if wrong:
        raise typer.Exit(4)
