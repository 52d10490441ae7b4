"""NumPy archives that hold a data set as four arrays."""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from vgx.errors import DataError

KERAS_NAMES = {
    "train_images": "x_train",
    "train_labels": "y_train",
    "test_images": "x_test",
    "test_labels": "y_test",
}


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Returns the arrays train_images, train_labels, test_images and test_labels of a NumPy archive, as they are in it.

    Keras's names for them, x_train, y_train, x_test and y_test, do as well. Nothing is unpickled. Raises DataError when
    the file cannot be read, is no archive, lacks one of the arrays or holds one that cannot be read.
    """
    path = Path(os.path.expanduser(path))
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise DataError(f"{path}: not an npz archive; write one with numpy.savez(path, {_signature()})")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: _read_array(archive, name, path) for name in KERAS_NAMES}
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)}); check the path, or write the file again") from None


def _read_array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    found = next((word for word in (name, KERAS_NAMES[name]) if word in archive.files), None)
    if found is None:
        held = ", ".join(map(repr, archive.files[:6])) + ", ..." * (len(archive.files) > 6)
        raise DataError(
            f"{path}: holds no array {name} (keras: {KERAS_NAMES[name]}), only {held or 'nothing'};"
            f" write it with numpy.savez(path, {_signature()})"
        )
    try:
        return archive[found]
    except _BROKEN as error:
        raise DataError(f"{path}: its array {found} cannot be read ({_reason(error)}); write the file again") from None


def _reason(error: BaseException) -> str:
    """Returns what the error says, in a line."""
    return getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__


def _signature() -> str:
    return ", ".join(f"{name}=..." for name in KERAS_NAMES)


_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,  # the header promises more than there is room for
    RuntimeError,  # encrypted, or a compression this Python lacks
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,  # a header is Python text: numpy parses it,
    tokenize.TokenError,  # and tokenizes it when it cannot
)
