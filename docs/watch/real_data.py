"""What the examples train on: handwritten digits that come with vgx, and text that comes with Python."""

from collections.abc import Iterator
from pathlib import Path
from pydoc_data import topics

import numpy as np

import vgx


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns 1,797 images [8, 8] between 0 and 1, and their labels."""
    with np.load(Path(vgx.__file__).parent / "data" / "digits.npz") as archive:
        return archive["images"].astype(np.float32) / 16, archive["labels"].astype(np.int32)


def text() -> np.ndarray:
    """Returns the bytes of the help topics of Python, half a million of them."""
    return np.frombuffer("\n".join(topics.topics.values()).encode(), np.uint8).astype(np.int32)


def batches(count: int, size: int, steps: int) -> Iterator[np.ndarray]:
    """Yields, for each step, which of `count` examples are in its batch: always the same ones."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        yield rng.integers(0, count, size)
