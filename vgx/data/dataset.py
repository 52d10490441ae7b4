"""What a data set is once it is read, and the checks that make it one."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from vgx.errors import DataError

MAX_CLASSES = 2**16
BLOCK = 2**22
"""Values that are worked on at a time, in float64: 32 MB, however large the data set."""
ROWS = 2**12
"""Examples of such a block."""


class Split(NamedTuple):
    """Examples as they are kept and trained on."""

    images: np.ndarray
    """[n, D] uint8 or float32: raw values."""
    labels: np.ndarray
    """[n] int32: 0 to C - 1."""


class Dataset(NamedTuple):
    """A data set, ready to train on."""

    name: str
    train: Split
    validation: Split | None
    test: Split
    scale: float
    """The raw value that the `unit` input maps to 1: 255 for bytes, 16 for the digits, 1 for floats."""
    classes: int
    """C, the number of classes; a label may be missing."""
    mean: np.ndarray
    """[D] float32: each pixel's mean over the training split, in unit values (raw / scale)."""
    std: np.ndarray
    """[D] float32: likewise its standard deviation (of the population); 1 where the pixel never changes."""
    digest: str
    """16 hex digits of the SHA-256 of the scale and of every image and label, for telling changed data."""


class Raw(NamedTuple):
    """One split as it was read, and what a message calls its two arrays."""

    images: np.ndarray
    """[n, ...] of any type."""
    labels: np.ndarray
    """[n] of any type."""
    images_name: str
    labels_name: str


def checked(raw: Raw, classes: int | None = None) -> Split:
    """Returns the split with flat images and int32 labels.

    Raises DataError when an array is not what it should be, the two do not belong together or a label is not below
    `classes`.
    """
    images = _checked_images(raw.images, raw.images_name)
    labels = _checked_labels(raw.labels, raw.labels_name, classes or MAX_CLASSES)
    if len(images) != len(labels):
        raise DataError(
            f"{raw.images_name}: holds {len(images):,} images, but {raw.labels_name} holds {len(labels):,} labels;"
            " give two files of one split"
        )
    return Split(images, labels)


def _checked_images(images: np.ndarray, name: str) -> np.ndarray:
    if images.ndim < 2:
        raise DataError(
            f"{name}: holds an array of shape {images.shape}, not images [n, ...]; is it the file of labels?"
        )
    if images.size == 0:
        raise DataError(f"{name}: is empty (its shape is {images.shape}); give a file with examples")
    if images.dtype not in (np.uint8, np.float32, np.float64):
        raise DataError(f"{name}: holds {images.dtype} values; save the images as uint8 (0 to 255) or float32")
    images = np.ascontiguousarray(images).reshape(len(images), -1)
    if images.dtype == np.uint8:
        return images
    with np.errstate(over="ignore"):
        images = images.astype(np.float32, copy=False)
    finite = np.isfinite(images)
    if not finite.all():
        row, column = divmod(int(finite.argmin()), images.shape[1])
        raise DataError(f"{name}: image {row} has no finite float32 value at pixel {column}; mend or drop it")
    return images


def _checked_labels(labels: np.ndarray, name: str, classes: int) -> np.ndarray:
    if labels.ndim != 1:
        raise DataError(
            f"{name}: holds an array of shape {labels.shape}, not labels [n]; is it the file of images, or one-hot?"
        )
    if labels.dtype.kind not in "iu":
        raise DataError(f"{name}: holds {labels.dtype} values; save the labels as integers 0, 1, 2, ...")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        at = wrong.argmax()
        raise DataError(
            f"{name}: label {at} is {labels[at]}; labels count classes from 0, here to at most {classes - 1:,}"
        )
    return labels.astype(np.int32)


def require_alike(train: Raw, test: Raw) -> None:
    """Raises DataError when the images of the two splits differ in shape or type."""
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"{test.images_name}: its images are {extent(test.images)}, but those of {train.images_name} are"
            f" {extent(train.images)}; give two files of one data set"
        )
    if train.images.dtype != test.images.dtype:
        raise DataError(
            f"{test.images_name}: holds {test.images.dtype} values, but {train.images_name} holds"
            f" {train.images.dtype}; save both as one type"
        )


def extent(images: np.ndarray) -> str:
    """Returns the size of one image, as in `28 x 28`."""
    return " x ".join(map(str, images.shape[1:]))


def select(name: str, train: Split, test: Split, classes: tuple[int, ...]) -> tuple[Split, Split]:
    """Returns the examples of these classes alone, relabelled 0, 1, ... in the order given.

    Raises DataError for a class that has no training examples, or when no test example is left.
    """
    present = np.unique(train.labels)
    for label in classes:
        if label not in present:
            raise DataError(
                f"{name}: classes asks for {label}, but no training example has that label;"
                f" there are labels from {present[0]} to {present[-1]}"
            )
    if not np.isin(test.labels, classes).any():
        raise DataError(f"{name}: no test example has a label in classes {list(classes)}; choose others")
    return _relabelled(train, classes), _relabelled(test, classes)


def _relabelled(split: Split, classes: tuple[int, ...]) -> Split:
    kept = np.isin(split.labels, classes)
    order = np.argsort(classes)
    labels = order[np.searchsorted(classes, split.labels[kept], sorter=order)]
    return Split(split.images[kept], labels.astype(np.int32))


def hold_out(name: str, train: Split, examples: int, start: str) -> tuple[Split, Split | None]:
    """Returns the training and validation splits; the `examples` held out are the first or the last ones.

    Raises DataError when nothing would be left to train on.
    """
    n = len(train.labels)
    if examples >= n:
        raise DataError(f"{name}: validation would hold out {examples:,} of {n:,} training examples; hold out fewer")
    if examples == 0:
        return train, None
    cut = examples if start == "first" else n - examples
    head, tail = Split(*(array[:cut] for array in train)), Split(*(array[cut:] for array in train))
    return (tail, head) if start == "first" else (head, tail)


def limit_to(name: str, train: Split, limit: int) -> Split:
    """Returns the first `limit` training examples, or raises DataError when there are fewer."""
    n = len(train.labels)
    if limit > n:
        raise DataError(
            f"{name}: limit asks for {limit:,} training examples, but there are {n:,}; lower it or leave it out"
        )
    return Split(*(array[:limit] for array in train))


def moments(train: Split, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation [D] float32 of each pixel's unit values; 1 for one that never changes."""
    mean, std = (np.empty(train.images.shape[1], np.float32) for _ in range(2))
    width = BLOCK // ROWS
    for start in range(0, len(mean), width):
        columns = slice(start, start + width)
        mean[columns], std[columns] = _moments(train.images[:, columns], scale)
    return mean, std


def _moments(images: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    mean = images.mean(axis=0, dtype=np.float64)
    blocks = np.array_split(images, len(images) // ROWS + 1)  # float64 copies of a block at a time
    variance = sum(np.square(block - mean).sum(axis=0) for block in blocks) / len(images)
    constant = images.min(axis=0) == images.max(axis=0)  # exact, where the rounded variance need not be 0
    return mean / scale, np.where(constant, 1.0, np.sqrt(variance) / scale)


def digest(scale: float, *splits: Split | None) -> str:
    """Returns 16 hex digits of the SHA-256 of these splits' arrays and shapes."""
    sha = hashlib.sha256(f"scale {scale:g}".encode())
    for split in splits:
        for array in split or ():
            sha.update(f"{array.dtype.str}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array).data)
        sha.update(b"|")
    return sha.hexdigest()[:16]
