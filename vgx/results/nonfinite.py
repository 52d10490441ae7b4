"""Where NaN or infinity began in a lane: at which step, on the way forward or back, and in which layer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vgx.results.store import Run
from vgx.results.verdict import Places

FORWARD = ("preact_mean", "preact_std", "act_mean", "act_rms")
"""Columns of the layer table that are measured on the way forward."""
BACKWARD = ("delta_log10", "weight_grad_log10", "bias_grad_log10", "stream_grad_log10")
"""And on the way back: logarithms, so that minus infinity is an honest 0."""

LOOKED_AT = 16
"""Recorded steps, from the one at which the loss or the whole gradient breaks, in which layers are looked at."""


class NotFinite(NamedTuple):
    """The first NaN or infinity of a lane."""

    step: int
    direction: str
    """forward; backward; or loss, where all that is known of layers was finite."""
    layer: int | None
    """The first that the pass met; None of the loss."""
    loss_step: int | None = None
    """An earlier step at which the loss was not finite, and no layer was recorded."""
    recovered: bool = False
    """Of a watched run, whether all that it last recorded is finite: its loop leaves such steps out."""

    def sentence(self, places: Places) -> str:
        """Where it was, in a sentence."""
        where = "the loss" if self.layer is None else f"{self.direction}, {places.one(self.layer)}"
        loss = "" if self.loss_step is None else f"; the loss at step {self.loss_step:,} already"
        again = "; finite again at the last step" if self.recovered else ""
        return f"First not finite: step {self.step:,}, {where}{loss}{again}."


def place_of(forward: np.ndarray, backward: np.ndarray) -> tuple[str, int] | None:
    """Returns where a step's first NaN or infinity was: the direction, and the layer, counted from 1.

    On the way forward that is the lowest layer whose values are not finite; else, on the way back, the highest whose
    gradient is not.

    Args:
        forward: [L], whether what a layer computes is finite.
        backward: [L], whether its gradients are.
    """
    if not forward.all():
        return "forward", int(np.argmin(forward)) + 1
    return None if backward.all() else ("backward", int(np.flatnonzero(~backward)[-1]) + 1)


def place_in(layers: pa.Table) -> tuple[str, int] | None:
    """Returns that of the rows of the layer table of one lane and step."""
    if not len(layers):
        return None
    forward, backward = (
        ~np.any([broken(layers[name]) for name in names if name in layers.column_names], axis=0)
        for names in (FORWARD, BACKWARD)
    )
    found = place_of(forward, backward)
    return found and (found[0], int(layers["layer"][found[1] - 1].as_py()))


def broken(column: pa.ChunkedArray) -> np.ndarray:
    """Returns where a column that was measured is NaN or infinity (minus infinity is the logarithm of an honest 0)."""
    return column.is_valid().to_numpy() & ~(column.to_numpy() < np.inf)


def first_not_finite(run: Run, lane: int = 0) -> NotFinite | None:
    """Returns where NaN or infinity began in a lane; None where all that was recorded is finite."""
    if run.is_watched:
        noted = run.meta.get("first_not_finite")
        return noted and NotFinite(**{name: noted[name] for name in NotFinite._fields})
    # Arrow's own filters do not find NaN: a file's statistics leave it out.
    mine = pc.field("lane") == lane
    metrics = run.metrics(["step", "train_loss", "gradient_log10"], where=mine)
    bad = metrics["step"].to_numpy()[broken(metrics["train_loss"]) | broken(metrics["gradient_log10"])]
    if not len(bad):
        return None
    since = int(bad.min())
    steps = run.recorded_steps([lane])
    steps = steps[steps >= since][:LOOKED_AT].tolist()
    rows = run.layers(["step", "layer", *FORWARD, *BACKWARD], where=mine & pc.field("step").isin(steps))
    for step in steps:
        if found := place_in(rows.filter(pc.field("step") == step)):
            return NotFinite(step, *found, since if since < step else None)
    return NotFinite(since, "loss", None)
