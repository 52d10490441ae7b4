"""What `value_and_grad` needs to know of a watched model, whatever library made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vgx.watch.sites import Path, Site


class Parts(NamedTuple):
    """A watched model, taken apart."""

    parameters: Any
    """What the gradient is taken of, a pytree."""
    probes: list[Any]
    """An array for each site."""
    sites: tuple[Site, ...]
    by_path: dict[Path, Any]
    """The parameters by path."""
    call: Callable[[Any, list[Any]], tuple[Any, Any]]
    """From parameters and probes to what the loss function returns, and what it changed of the model's state."""
    finish: Callable[[Any], None]
    """Puts that state into the caller's model."""
    gradients: Callable[[Any], Any]
    """From the parameters' gradients to a tree like the one that the caller's optimizer expects."""
