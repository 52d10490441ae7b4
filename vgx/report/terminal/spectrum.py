"""The singular values of Jacobians in the terminal."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Column
from rich.text import Text

from vgx.report.terminal.bars import sparkline
from vgx.report.terminal.tables import plain_table, right
from vgx.results.spectrum import MAPS, figures_of
from vgx.results.store import Run
from vgx.results.words import figure, signed

CURVE = 12
"""Columns of the curve of singular values."""


def spectrum_table(run: Run, lane: int) -> RenderableType | None:
    """Returns what a lane's Jacobians come to, at the first and the last step at which they were measured; None where
    they were not.

    The curve is of one example's singular values, in log10, from the largest down.
    """
    steps = run.spectrum(["step"], where=pc.field("lane") == lane)["step"].to_numpy()
    if not len(steps):
        return None
    names = map(right, ("step", "mean s^2", "spread", "isometry gap"))
    table = plain_table(Column("Jacobian", no_wrap=True), *names, Column("singular values", no_wrap=True))
    for name in MAPS:
        for step in dict.fromkeys((steps.min(), steps.max())):
            where = (pc.field("lane") == lane) & (pc.field("step") == int(step)) & (pc.field("map") == name)
            rows = run.spectrum(["example", "log10"], where=where)
            if not len(rows):
                continue
            examples = len(rows["example"].unique())
            log10 = rows["log10"].to_numpy().reshape(examples, -1).astype(float)
            square, spread, gap = (float(part.mean()) for part in figures_of(log10))
            largest, smallest = log10[0, 0], log10[0, -1]
            curve = sparkline(log10[0][np.isfinite(log10[0])], min(CURVE, log10.shape[1]))
            table.add_row(
                name,
                f"{step:,}",
                f"1e{signed(square, 2)}",
                figure(spread, "{:.3g}"),
                figure(gap, "{:.2f}"),
                Text.assemble(f"1e{signed(largest, 1)} ", (curve, "cyan"), f" 1e{signed(smallest, 1)}"),
            )
    key = "; ".join(f"{name}: {title}" for name, title in MAPS.items())
    return Group(Text(), table, Text(f"squares of singular values s, means over examples. {key}", "dim"))
