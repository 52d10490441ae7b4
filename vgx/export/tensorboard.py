"""TensorBoard's event files: written from a run that is done, or while it goes on."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vgx.export import LAYERS, require
from vgx.export.colormap import viridis
from vgx.export.series import begun, by_step, lane_name, options_of, series_of
from vgx.results.curves import evenly
from vgx.results.files import explained
from vgx.results.safe_text import everywhere
from vgx.results.store import Run

PICTURE_STEPS = 512
"""Steps of the picture, at the most."""


class EventFile:
    """An event file: opened and closed at every call, so that a thousand lanes need not be open at once."""

    def __init__(self, folder: Path, purge_from: int | None = None):
        """Begins a file in `folder`; TensorBoard forgets what earlier files there have from step `purge_from` on."""
        self._proto = require("tensorboardX.proto.event_pb2", "tensorboard")
        self._summary = require("tensorboardX.proto.summary_pb2", "tensorboard").Summary
        self._crc = require("tensorboardX.record_writer", "tensorboard").masked_crc32c
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("events.out.tfevents.*")))
        self.path = folder / f"events.out.tfevents.{int(time.time()):010d}.vgx.{number:04d}"
        first = [self._proto.Event(wall_time=time.time(), file_version="brain.Event:2")]
        if purge_from is not None:
            start = self._proto.SessionLog(status=self._proto.SessionLog.START)
            first.append(self._proto.Event(wall_time=time.time(), step=purge_from, session_log=start))
        self._append(first)

    def _append(self, events: Sequence[Any]) -> None:
        with self.path.open("ab") as file:
            for event in events:
                data = event.SerializeToString()
                length = struct.pack("<Q", len(data))
                crcs = (struct.pack("<I", self._crc(part)) for part in (length, data))
                file.write(length + next(crcs) + data + next(crcs))

    def _event(self, step: int, values: Sequence[Any]) -> Any:
        return self._proto.Event(wall_time=time.time(), step=step, summary=self._summary(value=values))

    def scalars(self, metrics: pa.Table, layers: pa.Table, count: int, paths: Sequence[str] = ()) -> None:
        """Appends a lane's rows, an event a step. Values become float32: the format has no other scalar."""
        value, largest = self._summary.Value, float(np.finfo(np.float32).max)
        self._append(
            [
                self._event(
                    step,
                    [
                        value(tag=tag, simple_value=x if not abs(x) > largest else np.copysign(np.inf, x))
                        for tag, x in values.items()
                    ],
                )
                for step, values in by_step(series_of(metrics, layers, count, paths))
            ]
        )

    def picture(self, step: int, delta_log10: np.ndarray) -> None:
        """Appends the gradient [T, L] as a picture: the top layer above, steps to the right, dark where it is small."""
        finite = delta_log10[np.isfinite(delta_log10)]
        low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
        pixels = np.flip(viridis(delta_log10, float(low), float(max(high, low + 1))), 1).swapaxes(0, 1)
        tall, wide = (max(1, -(-256 // size)) for size in pixels.shape[:2])
        pixels = pixels.repeat(tall, 0).repeat(wide, 1)
        image = self._summary.Image(
            height=pixels.shape[0], width=pixels.shape[1], colorspace=3, encoded_image_string=_png(pixels)
        )
        self._append([self._event(step, [self._summary.Value(tag="gradient/delta_log10", image=image)])])

    def options(self, options: Mapping[str, Any]) -> None:
        """Appends what sets the lane apart, for TensorBoard's table of hyperparameters."""
        hparams = require("tensorboardX.summary", "tensorboard").hparams
        known = {"loss/train": 0, "loss/test": 0, "accuracy/test": 0, "gradient/slope": 0}
        for summary in hparams(everywhere(dict(options)), known):
            self._append([self._proto.Event(wall_time=time.time(), summary=summary)])


def _png(pixels: np.ndarray) -> bytes:
    """A PNG of [height, width, 3] bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def write_tensorboard(run: Run, draft: Path, output: Path, layers: int) -> None:
    """Writes a folder of events for each lane."""
    del output
    for lane in begun(run):
        file = EventFile(draft / lane_name(lane))
        mine = pc.field("lane") == lane["lane"]
        if run.is_sweep:
            file.options(options_of(lane))
        file.scalars(run.metrics(where=mine), run.layers(where=mine), layers, run.paths)
        _add_picture(run, lane["lane"], file)


def _add_picture(run: Run, lane: int, file: EventFile) -> None:
    """Appends the picture of all steps so far, evenly thinned."""
    steps = run.recorded_steps([lane])
    if len(steps):
        curves = run.curves("delta_log10", [lane], steps=evenly(steps, PICTURE_STEPS))
        if lane in curves:
            file.picture(int(steps[-1]), curves[lane].values if run.is_watched else curves[lane].hidden)


class LiveEvents:
    """The event files of some lanes of a run that goes on, in `tensorboard/` of its directory."""

    def __init__(self, run: Run, lanes: Sequence[tuple[int, int]], done: int):
        """Begins the files of (lane, seed) pairs, whose rows up to step `done` are in the run's tables already."""
        self.run = run
        self.files: dict[int, EventFile] = {}
        rows = {row["lane"]: row for row in run.lanes().to_pylist()} if run.is_sweep else {}
        with explained(run.path / "tensorboard", run=True):
            for lane, seed in lanes:
                row = rows.get(lane, {"lane": lane, "seed": seed, "status": "running"})
                folder = run.path / "tensorboard" / lane_name(row)
                # What a killed run wrote since its last checkpoint is forgotten, and what it left out is there.
                file = self.files[lane] = EventFile(folder, purge_from=0 if folder.exists() else None)
                if run.is_sweep:
                    file.options(options_of(row))
                if done:
                    mine = pc.field("lane") == lane
                    file.scalars(run.metrics(where=mine), run.layers(where=mine), LAYERS)

    def append(self, metrics: pa.Table, layers: pa.Table) -> None:
        """Appends the rows of all lanes that were written to the tables just now."""
        with explained(self.run.path / "tensorboard", run=True):
            for lane, file in self.files.items():
                mine = pc.field("lane") == lane
                file.scalars(metrics.filter(mine), layers.filter(mine), LAYERS)

    def finish(self) -> None:
        """Appends each lane's picture."""
        with explained(self.run.path / "tensorboard", run=True):
            for lane, file in self.files.items():
                _add_picture(self.run, lane, file)


def check() -> None:
    """Raises EnvironmentFault when events cannot be written."""
    require("tensorboardX", "tensorboard")
