"""The grid of `benchmarks.sweeps` in PyTorch, from the start of its processes to the evaluation of its last net."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from benchmarks.torch_loops import ACTIVATIONS, Measure, prepare, train_net
from benchmarks.torch_nets import Data, Settings

EVALUATION_BATCH = 1000


class Splits(NamedTuple):
    """MNIST, or random examples of its sizes."""

    train: Data
    test: Data


def mnist_folder() -> Path | None:
    """Returns where MNIST's four files are, if they are here."""
    folder = Path(os.environ.get("VGX_DATA_DIR", "")) / "mnist"
    return folder if (folder / "train-images-idx3-ubyte.gz").exists() else None


def load() -> Splits:
    """Returns the data, read anew."""
    folder = mnist_folder()
    return Splits(*(_split(folder, name, count) for name, count in (("train", 60_000), ("t10k", 10_000))))


def _split(folder: Path | None, name: str, count: int) -> Data:
    if folder is None:
        random = np.random.default_rng(count)
        images, labels = random.integers(0, 256, (count, 784), np.uint8), random.integers(0, 10, count)
    else:
        images = np.frombuffer(_bytes(folder / f"{name}-images-idx3-ubyte.gz"), np.uint8, offset=16).reshape(count, 784)
        labels = np.frombuffer(_bytes(folder / f"{name}-labels-idx1-ubyte.gz"), np.uint8, offset=8)
    return Data(torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64)))


def _bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


_held: dict[str, Splits] = {}


def _start() -> None:
    prepare(1)
    _held["data"] = load()


def _train_and_evaluate(job: tuple[Settings, Measure, str]) -> tuple[float, float]:
    """Trains a net, leaves what was measured in a file, and returns its loss and accuracy on the test set."""
    settings, measure, file = job
    data = _held["data"]
    forward, table = train_net(settings, data.train, measure)
    if table is not None:
        np.save(file, table.numpy())
    loss = right = 0.0
    with torch.no_grad():
        for start in range(0, len(data.test.labels), EVALUATION_BATCH):
            labels = data.test.labels[start : start + EVALUATION_BATCH]
            logits = forward(data.test.images[start : start + EVALUATION_BATCH].to(torch.float32).div_(255))
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
            right += float((logits.argmax(1) == labels).sum())
    return loss / len(data.test.labels), right / len(data.test.labels)


def seconds_for(cells: Sequence[Settings], workers: int, measure: Measure) -> float:
    """Returns how long a single-threaded process per core take for these trainings, their own start included."""
    assert {cell.activation for cell in cells} <= set(ACTIVATIONS)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(cell, measure, f"{folder}/{i}.npy") for i, cell in enumerate(cells)]
        with multiprocessing.get_context("spawn").Pool(workers, _start) as pool:
            pool.map(_train_and_evaluate, jobs, chunksize=1)
    return time.perf_counter() - began
