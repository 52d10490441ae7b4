"""The first line of a config, by which an editor finds the schema that comes with vgx."""

from __future__ import annotations

import os
from pathlib import Path

SCHEMA_FILE = Path(__file__).with_name("vgx.schema.json")
"""Written by `vgx schema --write`."""
START = "# yaml-language-server: $schema="


def modeline(file: Path, schema: Path = SCHEMA_FILE) -> str:
    """Returns the line with which a config at `file` is to begin.

    Within the folder that holds vgx, a clone, the path is relative, so that it is the same on every machine; elsewhere
    it is the address of the installed file.
    """
    file, schema = file.absolute(), schema.absolute()
    if schema != SCHEMA_FILE or file.is_relative_to(SCHEMA_FILE.parents[2]):
        return START + Path(os.path.relpath(schema, file.parent)).as_posix()
    return START + schema.as_uri()


def moved(text: str, file: Path) -> str:
    """Returns the text of a config with the modeline that it needs at `file`, if it has one; else as it is."""
    first, line_end, rest = text.partition("\n")
    return f"{modeline(file)}{line_end}{rest}" if first.startswith(START) else text


def without(text: str) -> str:
    """Returns the text of a config below its modeline, if it has one."""
    return text.partition("\n")[2] if text.startswith(START) else text
