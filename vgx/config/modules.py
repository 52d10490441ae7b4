"""A user's own parts: modules that register them, imported by name where something is to be computed.

Looked for as Python does: in the current directory, then among what is installed. Never beside a config file, since a
config may be another's: naming a run's config.yaml must not run what lies in that run's folder. Who only reads a run
imports nothing.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

from vgx.errors import ConfigError

MAX_MODULES = 100
MODULE_NAME = r"^[^\W\d]\w*(\.[^\W\d]\w*)*$"
"""What names a module: my_parts, or package.my_parts."""


def import_module(name: str) -> None:
    """Imports a module, which may lie in the current directory. Raises ConfigError, with the reason alone."""
    if not all(word.isidentifier() for word in name.split(".")):
        raise ConfigError(f"{name[:60]!r} names no module; write it as my_parts, or package.my_parts")
    if "" not in sys.path:
        sys.path.insert(0, "")
    importlib.invalidate_caches()
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(_broken(name, error)) from None
        mend = f"; write {name.removesuffix('.py')}" if name.endswith(".py") else ""
        raise ConfigError(f"there is no module {name} in this directory or among what is installed{mend}") from None
    except (Exception, SystemExit) as error:  # the module is the user's: it may raise anything
        raise ConfigError(_broken(name, error)) from None


def _broken(name: str, error: BaseException) -> str:
    """Where in the module it failed, and the last line of the traceback."""
    said = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    if isinstance(error, SyntaxError) and error.filename:
        place, said = f"{error.filename}:{error.lineno}", f"SyntaxError: {error.msg}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if frame.filename not in (__file__, importlib.__file__)]
        theirs = [frame for frame in theirs if not frame.filename.startswith("<frozen")]
        own = [frame for frame in theirs if frame.filename == theirs[0].filename]
        place = f"{own[-1].filename}:{own[-1].lineno}" if own else name
    return f"the module {name} cannot be imported: {place}: {said}"


def import_modules(names: Sequence[str]) -> None:
    """Imports the modules that `--import` names. Raises ConfigError for one that cannot be."""
    for name in names:
        try:
            import_module(name)
        except ConfigError as error:
            raise ConfigError(f"--import {name[:60]}: {error}") from None
