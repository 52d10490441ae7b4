"""The command line: parse, delegate, print."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

__all__ = ["app", "main"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Makes the app when it is asked for: before that, `main` is to hear signals."""
    if name != "app":
        raise AttributeError(f"module 'vgx.cli' has no attribute '{name}'")
    # Each room adds its commands to the app; `vgx --help` lists them in this order.
    # isort: off
    from vgx.cli import train, map, predict, playground, show, remove, reproduce, config, doctor  # noqa: F401

    # isort: on
    from vgx.cli.options import app

    return app


class _Signals:
    """Stops the command at a signal, as an exception where it can be one.

    An extension module that is half imported may crash when one passes through it; nothing is under way then that a
    kill would harm. Where a library loses the exception, `stop_signals` still sees that a signal was heard.
    """

    heard = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.heard = True
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                os.write(2, b"interrupted\n")
                os._exit(130)
            frame = frame.f_back
        raise KeyboardInterrupt


def main() -> None:
    """Runs the command; a fault the user can mend is printed as its message, and the exit code says what kind it is.

    Ctrl-C and SIGTERM end it with 130, whenever they come.
    """
    message, hints = "", []
    try:
        on_signal = _Signals()
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not where it is ignored
                signal.signal(number, on_signal)
        from vgx.cli import process
        from vgx.errors import VgxError

        process.begin()
        try:
            code = _run()
            sys.stdout.flush()
        except VgxError as error:
            # Whoever read our output may have left (`vgx parts | head`), and wants no more words.
            left = isinstance(error.__cause__, BrokenPipeError)
            code, message = (0, "") if left else (error.exit_code, error.on_command_line)
            hints = [] if left else getattr(error, "__notes__", [])
        except (OSError, ImportError, UnicodeEncodeError) as error:
            fault = process.refusal(error)
            if fault is None:
                raise
            code, message = fault.exit_code, fault.on_command_line
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    from vgx.cli.process import end

    end(code, message, hints)


def _run() -> int:
    """Runs the command and returns its exit code, as far as typer settles it."""
    app = __getattr__("app")
    try:
        app()
    except SystemExit as ended:
        if isinstance(ended.__context__ and ended.__context__.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        return ended.code if isinstance(ended.code, int) else 0
    return 0
