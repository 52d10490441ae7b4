"""A worker: a Ray actor that trains one round after the other on the devices that Ray gave it.

It trains as one machine alone does (`train_lanes`), in a thread, and keeps what is measured until the driver asks for
it: Ray Client, by which a laptop talks to a far cluster, has no streams of an actor's results.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import jax
import pyarrow as pa

from vgx.config.modules import import_module
from vgx.data import Dataset
from vgx.devices import find_devices, keep_compiled_programs, memory_for_lanes, numerics
from vgx.errors import ConfigError, EnvironmentFault, VgxError
from vgx.results.files import is_alive
from vgx.results.writer import encode
from vgx.runner import checkpoint
from vgx.runner.cluster.messages import (
    Batch,
    Checkpoint,
    Ended,
    Opened,
    Order,
    Outbox,
    Part,
    RemoteDevice,
    Report,
    Setup,
)
from vgx.runner.loop import TrainingProgress, TrainingResult, train_lanes
from vgx.runner.plan import speed
from vgx.runner.predictions import Predictions
from vgx.runner.preparation import LaneGroup, ProgramCache, mesh_for
from vgx.runner.stopping import Interrupted
from vgx.runner.sweeping import in_short

TAKE_SECONDS = 0.5
"""How long the driver's question waits for an answer: how soon a worker hears that it is to stop."""
CHECKPOINT = "checkpoint"


class Worker:
    """What runs on a node. The driver alone calls it, and one call after the other."""

    def __init__(self) -> None:
        self.outbox, self.stop = Outbox(), threading.Event()
        self.progress: TrainingProgress | None = None
        self.data: dict[str, Dataset] = {}

    def open(self, setup: Setup) -> Opened | str:
        """Makes ready: jax on its devices, the user's parts. Returns what it is, or in a line why it can be nothing."""
        # Ray has set CUDA_VISIBLE_DEVICES (TPU_VISIBLE_CHIPS) to what is this worker's: nothing here sets it again.
        # Others may share a GPU with us all the same, and jax by default takes three quarters of it at once.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        if setup.platform == "cpu":
            # So that a node's accelerator stays free; and not a device per core of the machine, but of our share.
            jax.config.update("jax_platforms", "cpu")
            jax.config.update("jax_num_cpu_devices", setup.cores)
            # XLA's threads are else as many as the machine has cores, and those of two workers wait for each other.
            os.environ["NPROC"] = str(setup.cores)
        self.home = _fresh_home()
        try:
            _import(setup, self.home)
            keep_compiled_programs()
            self.devices = find_devices(setup.platform, 2)
        except VgxError as error:
            return error.on_command_line
        self.memory, self.cache = setup.memory or memory_for_lanes(self.devices), ProgramCache()
        return Opened([RemoteDevice(one.platform, one.device_kind) for one in self.devices], self.memory)

    def speed(self) -> float:
        """Returns floating-point operations per second of a large matrix product."""
        return speed(self.devices[0])

    def begin(self, order: Order, dataset: Dataset, files: bytes | None) -> None:
        """Begins a round in a thread, from the checkpoint packed in `files` or anew."""
        self.stop.clear()
        self.progress = None
        # One of equal ones: so its copy on the devices is found again.
        dataset = self.data.setdefault(dataset.digest, dataset)
        # A thread, not a process: one that is forked after jax has started hangs.
        threading.Thread(target=self._run, args=(order, dataset, files), name="round", daemon=True).start()

    def take(self, stop: bool) -> Batch:
        """Returns what there is to tell, as soon as there is anything; `stop` asks the round to stop and be saved."""
        if stop:
            self.stop.set()
        messages = self.outbox.take(TAKE_SECONDS)
        return Batch(messages, self.progress)

    def _run(self, order: Order, dataset: Dataset, files: bytes | None) -> None:
        try:
            ended = self._train(order, dataset, files)
        except Interrupted:
            ended = Ended("interrupted")
        except EnvironmentFault as error:
            ended = Ended("fault", text=error.on_command_line)
        except VgxError as error:
            ended = Ended("refused", text=error.on_command_line)
        except Exception as error:
            text, details, memory = in_short(error)
            ended = Ended("failed", text=text, details=details, memory=memory)
        shutil.rmtree(self.home / CHECKPOINT, ignore_errors=True)
        self.outbox.put(ended)

    def _train(self, order: Order, dataset: Dataset, files: bytes | None) -> Ended:
        if files is not None:
            checkpoint.unpack(self.home / CHECKPOINT, order.step, files)
        group = LaneGroup(order.lane_specs, order.capacity, dataset, CHECKPOINT, order.step, order.bad_since)
        configs = [spec.config for spec in order.lane_specs]
        predictions = Predictions(lambda config: dataset)

        def watch(progress: TrainingProgress) -> None:
            self.progress = progress

        def meanwhile() -> None:
            self.cache.thread.submit(predictions.prepare, configs)

        with numerics(configs[0].train.precision, self.devices[0]):
            mesh = mesh_for(group, self.devices, order.per_run)
            about = group, mesh, _Sender(self.home, self.outbox), partial(self._report, [order.step])
            result = train_lanes(*about, watch, meanwhile, self.cache, self.memory, self.stop)
        known = None
        with suppress(Exception):  # the driver works it out itself, and meets what is wrong
            known = predictions.known(configs)
        return Ended("done", result.step, known=known)

    def _report(self, sent: list[int], result: TrainingResult) -> None:
        """Sends how far the round is, and before that a checkpoint newer than the one that was `sent` last."""
        step = checkpoint.newest(self.home / CHECKPOINT) or 0
        if step > sent[0]:
            self.outbox.put(Checkpoint(step, checkpoint.packed(self.home / CHECKPOINT, step)))
            sent[0] = step
        self.outbox.put(Report(result))


class _Sender:
    """Keeps tables by sending them."""

    def __init__(self, path: Path, outbox: Outbox):
        self.path, self.outbox = path, outbox

    def append(self, metrics: pa.Table, layers: pa.Table, spectrum: pa.Table | None = None) -> None:
        self.outbox.put(Part(encode(metrics), encode(layers), encode(spectrum) if spectrum else None))


def _fresh_home() -> Path:
    """Makes this worker's folder, and removes those of workers of this machine that were killed."""
    root = Path(tempfile.gettempdir())
    for old in root.glob("vgx-worker-*"):
        process = old.name.rpartition("-")[2]
        if process.isdigit() and not is_alive(int(process)):
            shutil.rmtree(old, ignore_errors=True)
    home = root / f"vgx-worker-{os.getpid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def _import(setup: Setup, home: Path) -> None:
    """Imports the user's own parts, from what was sent or from what is installed here."""
    if setup.sources:
        archive = home / "sources.zip"
        archive.write_bytes(setup.sources)
        sys.path.insert(0, str(archive))
    for name in setup.modules:
        try:
            import_module(name)
        except ConfigError as error:
            raise ConfigError(f"import: {error}") from None
