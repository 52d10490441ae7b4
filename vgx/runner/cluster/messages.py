"""What driver and worker tell each other: a round to train, and what comes of it while it trains."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vgx.devices import PerRun, Platform
from vgx.results.writer import EncodedTable
from vgx.runner.loop import TrainingProgress, TrainingResult
from vgx.runner.predictions import Known
from vgx.runner.preparation import LaneSpec

OUTBOX_BYTES = 2**28
"""What a worker keeps for the driver before it waits for it."""


class Setup(NamedTuple):
    """What a worker is to be."""

    platform: Platform
    cores: int
    """On a CPU, how many devices."""
    memory: int | None
    """Bytes that a round may take; half of what is free on the node when None."""
    modules: Sequence[str]
    """The modules of the user's own parts, to import."""
    sources: bytes
    """A zip archive with those of them that are not installed, but files of the driver's."""


class RemoteDevice(NamedTuple):
    """A device of a worker, as far as the driver need know it."""

    platform: str
    device_kind: str


class Opened(NamedTuple):
    """What a worker is."""

    devices: list[RemoteDevice]
    memory: int
    """Bytes that a round may take on them together."""


class Order(NamedTuple):
    """A round to train from its checkpoint on; the data set and the checkpoint come beside it."""

    lane_specs: Sequence[LaneSpec]
    capacity: int
    per_run: PerRun
    step: int
    bad_since: Mapping[int, int]


class Part(NamedTuple):
    """The next part of both tables."""

    metrics: EncodedTable
    layers: EncodedTable
    spectrum: EncodedTable | None = None

    @property
    def bytes(self) -> int:
        return sum(len(table.parquet) for table in self if table is not None)


class Checkpoint(NamedTuple):
    """A checkpoint at the end of the parts so far, as `checkpoint.packed` makes it."""

    step: int
    files: bytes

    @property
    def bytes(self) -> int:
        return len(self.files)


class Report(NamedTuple):
    """How far the round is with what was sent so far."""

    result: TrainingResult
    bytes: int = 0


class Ended(NamedTuple):
    """The round's end, the last message."""

    status: str
    """done; interrupted; failed: it cannot be run; refused: the run is at fault; fault: the node is."""
    step: int = 0
    text: str = ""
    details: str = ""
    memory: bool = False
    """Whether it failed for want of memory."""
    known: Known | None = None
    """What theory says of its lanes."""
    bytes: int = 0


Message = Part | Checkpoint | Report | Ended


class Batch(NamedTuple):
    """What a worker has to tell since it was asked last."""

    messages: list[Message]
    progress: TrainingProgress | None


class Outbox:
    """Messages on their way to the driver; who adds more than it takes waits."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, message: Message) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < OUTBOX_BYTES)
            self._messages.append(message)
            self._bytes += message.bytes
            self._changed.notify_all()

    def take(self, seconds: float) -> list[Message]:
        """Returns all there is, as soon as there is anything, or nothing after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._messages), seconds)
            messages, self._messages, self._bytes = self._messages, [], 0
            self._changed.notify_all()
            return messages
