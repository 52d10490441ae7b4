"""The same instrument on nets that vgx did not build: Flax NNX, Equinox, plain functions, PyTorch.

    from vgx import watch

    model = watch.instrument(model)
    value, grads, record = watch.value_and_grad(loss_fn)(model, x, y)
    with watch.Log("runs/my-net") as log:
        log.write(step, record, loss=value)

`instrument` copies a model and puts a tap on what each of its linear layers leaves; `value_and_grad` is jax's, with one
more result; `tap` and `probe` are for functions that are no modules; `strip` gives the original back. `Log` writes the
run directory that `vgx show` reads, and takes plain mappings, too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vgx.watch.flax_nnx import LayerProbe
    from vgx.watch.gradients import value_and_grad
    from vgx.watch.instrumenting import instrument, strip
    from vgx.watch.log import Log
    from vgx.watch.record import Record, Watched
    from vgx.watch.taps import Probe, probe, tap

__all__ = ["LayerProbe", "Log", "Probe", "Record", "Watched", "instrument", "probe", "strip", "tap", "value_and_grad"]

_HOMES = {
    "LayerProbe": "vgx.watch.flax_nnx",
    "Log": "vgx.watch.log",
    "Probe": "vgx.watch.taps",
    "Record": "vgx.watch.record",
    "Watched": "vgx.watch.record",
    "instrument": "vgx.watch.instrumenting",
    "probe": "vgx.watch.taps",
    "strip": "vgx.watch.instrumenting",
    "tap": "vgx.watch.taps",
    "value_and_grad": "vgx.watch.gradients",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: a log alone is written without jax."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vgx.watch' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
