"""The instrument on nets that vgx did not build: their layers' gradients, and a run directory for what is measured."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vgx.watch.log import Log

__all__ = ["Log"]

_HOMES = {"Log": "vgx.watch.log"}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: a log alone is written without jax."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vgx.watch' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
