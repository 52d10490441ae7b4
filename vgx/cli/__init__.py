"""The command line: parse, delegate, print."""

from __future__ import annotations

import sys

from vgx.cli.options import app, fail

# Each room adds its commands to the app; `vgx --help` lists them in this order.
# isort: off
from vgx.cli import running, theory, viewing, claims, asking, doctor  # noqa: F401
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Runs the command; a fault the user can mend is printed as its message, and the exit code says what kind it is."""
    from vgx.errors import VgxError

    try:
        app()
    except VgxError as error:
        fail(error.on_command_line, error.exit_code, *getattr(error, "__notes__", ()))
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has left (`vgx parts | head`); Python would complain again while it flushes at exit.
        sys.stderr.close()
        sys.exit(0)
