"""What the device reported, on the host: from a chunk's arrays to rows of the run's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vgx.config.schema import Config
from vgx.results.columns import DEAD_UNITS
from vgx.results.writer import layer_rows, metrics_rows, spectrum_rows
from vgx.training.batches import ChunkPlan
from vgx.training.chunks import Chunk
from vgx.training.spectrum import seen_examples
from vgx.training.step import Scalars


class Rows(NamedTuple):
    """What one chunk reported: T steps, T' of them recorded."""

    steps: np.ndarray
    """[T], from 1."""
    scalars: dict[str, np.ndarray]
    """[T, R] each."""
    recorded: np.ndarray
    """[T] of booleans."""
    gradient_log10: np.ndarray | None
    """[T', R]; None where no layer was measured."""
    layers: dict[str, np.ndarray]
    """[T', R, L + 1] each."""
    evaluated: dict[str, np.ndarray]
    """[R] each, DEAD_UNITS [R, L], at the last step; empty where nothing was measured after it."""

    @property
    def bytes(self) -> int:
        """What the arrays take in memory."""
        known = [self.gradient_log10] if self.gradient_log10 is not None else []
        return sum(x.nbytes for x in (*self.scalars.values(), *self.layers.values(), *known))

    def first_bad(self) -> dict[int, int]:
        """Returns, for each lane whose loss or gradient was NaN or infinite, the first step at which it was."""
        bad = ~np.isfinite(self.scalars["train_loss"])
        if self.gradient_log10 is not None:
            bad[self.recorded] |= ~(self.gradient_log10 < np.inf)
        return {int(lane): int(self.steps[bad[:, lane]][0]) for lane in np.flatnonzero(bad.any(0))}


class SpectraRows(NamedTuple):
    """The singular values of Jacobians after a step."""

    step: int
    log10: dict[str, np.ndarray]
    """By map [R, E, k], the largest first."""


def rows_of(plan: ChunkPlan, done: int, report: Chunk | Scalars) -> Rows:
    """Returns the rows of a chunk that began after step `done`, from what the device reported, as NumPy arrays."""
    steps = np.arange(done + 1, done + plan.steps + 1)
    recorded = np.zeros(plan.steps, bool)
    if isinstance(report, Scalars):
        scalars = {name: x[: plan.steps].copy() for name, x in report._asdict().items()}
        return Rows(steps, scalars, recorded, None, {}, {})
    periods = len(plan.lengths)
    ran = np.arange(report.scalars.train_loss.shape[1]) < np.asarray(plan.lengths)[:, None]
    scalars = {name: x[:periods][ran] for name, x in report.scalars._asdict().items()}
    if report.records is None:
        return Rows(steps, scalars, recorded, None, {}, {})
    recorded[np.cumsum((0, *plan.lengths[:-1]))] = True
    # Copies: a slice would keep the whole chunk's array in memory.
    layers = {name: x[:periods].copy() for name, x in report.records.layers._asdict().items() if x is not None}
    return Rows(steps, scalars, recorded, np.array(report.records.gradient_log10[:periods]), layers, {})


def tables(
    rows: Sequence[Rows],
    precision: str,
    lanes: np.ndarray,
    last: np.ndarray,
    branches: Sequence[bool],
    steps_per_epoch: int,
    asked: Sequence[str] = (),
) -> tuple[pa.Table, pa.Table]:
    """Returns the next part of the metrics table and of the layer table.

    Args:
        rows: chunks in order.
        precision: of the run.
        lanes: [R], the number of each lane; a chunk's further lanes are padding.
        last: [R], the last step of each lane that is wanted.
        branches: [L], which hidden layers add to a stream.
        steps_per_epoch: of the run.
        asked: the columns that only some runs have, and this one has, though they may not be measured yet.
    """
    count = len(lanes)
    steps = np.concatenate([chunk.steps for chunk in rows])
    recorded = np.concatenate([chunk.recorded for chunk in rows])
    columns: dict[str, Any] = {
        name: np.concatenate([chunk.scalars[name][:, :count] for chunk in rows]) for name in Scalars._fields
    }
    columns["epoch"] = np.repeat(steps[:, None] / steps_per_epoch, count, 1)

    def column(where: np.ndarray, values: Sequence[np.ndarray]) -> np.ma.MaskedArray:
        """[T, R], null but at the steps `where`."""
        figures = np.ma.array(np.zeros((len(steps), count)), mask=True)
        if values:
            figures[where] = np.concatenate(values)[:, :count]
        return figures

    measured = [chunk for chunk in rows if chunk.gradient_log10 is not None]
    if measured:
        columns["gradient_log10"] = column(recorded, [chunk.gradient_log10 for chunk in measured])  # type: ignore[misc]
    for name in dict.fromkeys([*asked, *(name for chunk in rows for name in chunk.evaluated)]):
        seen = {int(chunk.steps[-1]): chunk.evaluated[name] for chunk in rows if name in chunk.evaluated}
        then = np.isin(steps, list(seen))
        if name == DEAD_UNITS:
            columns[name] = _lists(np.repeat(then, count), [lists[:count] for lists in seen.values()])
        else:
            columns[name] = column(then, [figures[None] for figures in seen.values()])
    names = measured[0].layers if measured else ()
    of_layers = {name: np.concatenate([chunk.layers[name][:, :count] for chunk in measured]) for name in names}
    keep = steps[:, None] <= last
    return (
        metrics_rows(precision, lanes, steps, columns, keep),
        layer_rows(precision, lanes, len(branches) + 1, steps[recorded], of_layers, keep[recorded], branches),
    )


def spectrum_table(
    spectra: Sequence[SpectraRows], precision: str, lanes: np.ndarray, last: np.ndarray, config: Config, examples: int
) -> pa.Table | None:
    """Returns the next part of the spectrum table, of `examples` to train on; None where there is none.

    `lanes` and `last` are as in `tables`.
    """
    if not spectra:
        return None
    steps = np.array([one.step for one in spectra])
    values = [one.log10 for one in spectra]
    return spectrum_rows(precision, lanes, steps, seen_examples(config, examples), values, steps[:, None] <= last)


def _lists(there: np.ndarray, values: Sequence[np.ndarray]) -> pa.Array:
    """A list for each row that is `there` [rows], null for the others; `values` [R, L] are those lists in order."""
    flat = np.concatenate(values).reshape(-1) if values else np.zeros(0, np.float32)
    lengths = np.where(there, len(flat) // max(1, int(there.sum())), 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=pa.array(~there))
