"""What theory expects of a deep net, as functions of Python: docs/theory.md shows each of them at work."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vgx.theory.elementwise import numpy_activation
    from vgx.theory.maps import (
        correlation_map,
        critical,
        depth_scales,
        fixed_point,
        gaussian_moments,
        gradient_factor,
        layers,
        length_map,
        length_slope,
    )

__all__ = [
    "correlation_map",
    "critical",
    "depth_scales",
    "fixed_point",
    "gaussian_moments",
    "gradient_factor",
    "layers",
    "length_map",
    "length_slope",
    "numpy_activation",
]

_HOMES = {
    "correlation_map": "vgx.theory.maps",
    "critical": "vgx.theory.maps",
    "depth_scales": "vgx.theory.maps",
    "fixed_point": "vgx.theory.maps",
    "gaussian_moments": "vgx.theory.maps",
    "gradient_factor": "vgx.theory.maps",
    "layers": "vgx.theory.maps",
    "length_map": "vgx.theory.maps",
    "length_slope": "vgx.theory.maps",
    "numpy_activation": "vgx.theory.elementwise",
}


def __getattr__(name: str) -> Any:
    """Imports a public function when it is first used: `import vgx.theory` alone stays cheap."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vgx.theory' has no attribute '{name}'")
