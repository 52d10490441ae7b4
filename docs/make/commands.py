"""The page of every command, as typer has it."""

from __future__ import annotations

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from vgx.cli import app

EXIT_CODES = """
## Exit codes

| code | means |
|---|---|
| 0 | done; a net that vanishes or diverges is a result, not an error |
| 2 | the request is wrong: a config, an option, a name |
| 3 | an expectation failed, or a published number was not reproduced |
| 4 | the machine is in the way: no space, no permission, no device |
| 130 | interrupted, and saved: `--resume`, or a sweep's own command, goes on |

Numbers go to files, words to the terminal; `--json` prints one object. Output is plain where standard output is no
terminal, or where `NO_COLOR` is set.
"""


def pages() -> dict[str, str]:
    """Returns the pages by their paths in docs/."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="vgx", title="Commands")
    return {"reference/commands.md": text.rstrip() + "\n" + EXIT_CODES}
