"""Rows of a run's tables as arrays: the rows of each lane, and a column of the layer table over steps and layers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa


class Curves(NamedTuple):
    """A column of the layer table in one lane, T steps of L hidden layers."""

    steps: np.ndarray
    """[T], the recorded steps."""
    values: np.ndarray
    """[T, L + 1], the readout last; as stored, a null as NaN."""

    @property
    def hidden(self) -> np.ndarray:
        """[T, L], without the readout."""
        return self.values[:, :-1]


def curves_of(layers: pa.Table, column: str) -> Curves:
    """Returns a column over steps and layers, of rows of one lane in order of step and layer."""
    numbers = layers["layer"].to_numpy()
    width = int(numbers.max(initial=1))
    return Curves(layers["step"].to_numpy()[::width], layers[column].to_numpy().reshape(-1, width))


def rows_by_lane(table: pa.Table) -> dict[int, np.ndarray]:
    """Returns the rows of each lane of a table, in order."""
    lane = table["lane"].to_numpy()
    order = np.argsort(lane, kind="stable")
    numbers, starts = np.unique(lane[order], return_index=True)
    return dict(zip(map(int, numbers), np.split(order, starts)[1:], strict=True))


def evenly(values: np.ndarray, most: int) -> np.ndarray:
    """Returns at most so many of the values, evenly spaced, the first and the last among them."""
    if len(values) <= most:
        return values
    return values[np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))]
