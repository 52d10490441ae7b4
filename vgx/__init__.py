"""Where does my gradient go? Deep MLPs, predicted and measured layer by layer.

The same from Python as from the command line:

    import vgx
    run = vgx.train(vgx.load_config("configs/quickstart.yaml"))
    run.lanes(), run.metrics(), run.layers()    # Arrow tables
    run.verdict, run.report()                   # a word; the path of a page

Shapes, everywhere in this package: `L` hidden layers, `N` their width, `B` examples in a batch, `D` features, `C`
classes, `R` lanes (runs side by side), `T` steps. `h` = W x + b [B, N] is what a layer's linear map leaves, `x` [B, N]
what the layer passes on, `delta` = dloss/dh [B, N] the gradient there. Layers count from 1 at the input to L; L + 1 is
the readout.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vgx import theory as theory
    from vgx import watch as watch
    from vgx.api import Run, sweep, train, trainability_map
    from vgx.api import Run as open_run
    from vgx.config.load import load_config
    from vgx.config.maps import load_map
    from vgx.config.schema import Config
    from vgx.config.sweep import check, load_sweep
    from vgx.errors import VgxError
    from vgx.runner.sweep import plan
    from vgx.theory.cure import diagnose
    from vgx.theory.predict import predict

__all__ = [
    "Config",
    "Run",
    "VgxError",
    "check",
    "diagnose",
    "load_config",
    "load_map",
    "load_sweep",
    "open_run",
    "plan",
    "predict",
    "sweep",
    "train",
    "trainability_map",
]

_HOMES = {
    "Config": "vgx.config.schema",
    "check": "vgx.config.sweep",
    "diagnose": "vgx.theory.cure",
    "load_config": "vgx.config.load",
    "load_map": "vgx.config.maps",
    "load_sweep": "vgx.config.sweep",
    "VgxError": "vgx.errors",
    "train": "vgx.api",
    "trainability_map": "vgx.api",
    "plan": "vgx.runner.sweep",
    "sweep": "vgx.api",
    "predict": "vgx.theory.predict",
    "Run": "vgx.api",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: `import vgx` alone stays cheap."""
    if name == "open_run":
        return __getattr__("Run")
    if name in ("theory", "watch"):
        return importlib.import_module(f"vgx.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vgx' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
