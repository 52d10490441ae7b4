"""The statistics of the layer table as they are shown: what they are called, and on which scale."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from vgx.errors import RunError, did_you_mean
from vgx.results.store import Run


class Look(NamedTuple):
    """How a statistic is shown."""

    label: str
    log: bool = False
    """Whether what is shown is a logarithm, of which a decade is the least that matters."""


LOOKS = {
    "delta_log10": Look("log10 |dloss/dh|", True),
    "weight_grad_log10": Look("log10 |dloss/dW|", True),
    "bias_grad_log10": Look("log10 |dloss/db|", True),
    "weight_grad_zero": Look("share of zeros in dloss/dW"),
    "weight_norm": Look("norm of W"),
    "update_ratio": Look("log10 |step| / |W|", True),
    "preact_mean": Look("pre-activation mean"),
    "preact_std": Look("pre-activation spread"),
    "act_mean": Look("activation mean"),
    "act_rms": Look("activation rms"),
    "dead": Look("share of dead units"),
    "saturated": Look("share of saturated entries"),
    "cosine": Look("cosine between examples"),
    "participation": Look("effective dimension"),
    "noise_scale": Look("noise scale, in examples"),
}


def shown_values(statistic: str, column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Returns a column of the layer table as it is shown: the update ratio as its log10, a null as NaN."""
    values = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    if statistic != "update_ratio":
        return values.astype(np.float64)
    with np.errstate(divide="ignore"):
        return np.log10(values.astype(np.float64))


def known_statistic(run: Run, name: str | None, rows: pa.Table | None = None) -> str:
    """Returns the name of a statistic, the gradient's unless told.

    Raises RunError when there is none of that name, or when `rows` of the layer table have nothing of it.
    """
    if name is None:
        return "delta_log10"
    if name not in LOOKS:
        near = did_you_mean(name, list(LOOKS)) or f"; there are: {', '.join(LOOKS)}"
        raise RunError(f"{run.path}: no statistic is called '{name}'{near}")
    if rows is not None and rows[name].null_count == len(rows):
        measured = ", ".join(known for known in LOOKS if rows[known].null_count < len(rows))
        raise RunError(f"{run.path}: '{name}' was not measured; there are: {measured or 'none'}")
    return name


def evenly(steps: np.ndarray, most: int) -> np.ndarray:
    """Returns at most so many of the steps, the first and the last among them."""
    if len(steps) <= most:
        return steps
    return steps[np.unique(np.linspace(0, len(steps) - 1, most).round().astype(int))]
