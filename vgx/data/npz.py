"""NumPy archives that hold a data set as four arrays, read without NumPy's trust in what a file says of itself.

Harris et al. 2020, Array programming with NumPy, arXiv:2006.10256; the format is that of `numpy.lib.format`: a zip file
of members such as `train_images.npy`, each a magic text, a header that is a Python dictionary, and the values.
"""

from __future__ import annotations

import ast
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np

from vgx.data.files import MAX_BYTES, open_regular, read_at_most, require_room
from vgx.errors import DataError

KERAS_NAMES = {
    "train_images": "x_train",
    "train_labels": "y_train",
    "test_images": "x_test",
    "test_labels": "y_test",
}
LONGEST_HEADER = 10_000
"""Characters. One of four thousand dimensions would be shorter."""
MAX_DIMENSIONS = 32

T = TypeVar("T")


class Header(NamedTuple):
    """What an array says of itself."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    """Whether the first dimension varies fastest."""

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(path: str | os.PathLike[str], most: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Returns the arrays train_images, train_labels, test_images and test_labels of a NumPy archive, as they are in it.

    Keras's names for them, x_train, y_train, x_test and y_test, do as well. Nothing is unpickled. Raises DataError when
    the file cannot be read, is no archive, lacks one of the arrays or holds one that cannot be read; and before
    anything is unpacked, when the arrays would take more than `most` bytes together.
    """
    path = Path(os.path.expanduser(path))
    try:
        with open_regular(path) as file:
            if not zipfile.is_zipfile(file):
                raise DataError(f"{path}: not an npz archive; write one with numpy.savez(path, {_signature()})")
            with zipfile.ZipFile(file) as archive:
                members = {name: _member(archive, name, path) for name in KERAS_NAMES}
                headers = [_unpacked(archive, member, path, _read_header) for member in members.values()]
                require_room(str(path), sum(header.bytes for header in headers), most)
                return {name: _unpacked(archive, member, path, _read_array) for name, member in members.items()}
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)}); check the path, or write the file again") from None


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> zipfile.ZipInfo:
    """The one member that holds an array. Raises DataError when there is none, or more than one."""
    held = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    found = next((word for word in (name, KERAS_NAMES[name]) if word in held), None)
    if found is None:
        some = ", ".join(repr(word[:60]) for word in held[:6]) + ", ..." * (len(held) > 6)
        raise DataError(
            f"{path}: holds no array {name} (keras: {KERAS_NAMES[name]}), only {some or 'nothing'};"
            f" write it with numpy.savez(path, {_signature()})"
        )
    if held.count(found) > 1:
        raise DataError(f"{path}: holds more than one array {found}; write the file again")
    return archive.infolist()[held.index(found)]


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, read: Callable[[IO[bytes]], T]) -> T:
    """What `read` makes of a member's contents. Raises DataError when they are not what a member should be."""
    try:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("numpy packs nothing in this way")  # and Python unpacks the other ways without bound
        if member.flag_bits & 1:
            raise ValueError("it is encrypted")
        with archive.open(member) as stream:
            return read(stream)
    except _BROKEN as error:
        name = member.filename.removesuffix(".npy")
        raise DataError(f"{path}: its array {name} cannot be read ({_reason(error)}); write the file again") from None


def _read_header(stream: IO[bytes]) -> Header:
    """Raises ValueError for what is no header of an array of plain values."""
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY":
        raise ValueError("it is not a NumPy array")
    size = {1: 2, 2: 4, 3: 4}.get(magic[6]) if len(magic) == 8 else None
    if size is None:
        raise ValueError("its format is of no version that is known")
    length = int.from_bytes(stream.read(size), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"its header has {length:,} characters")
    text = stream.read(length).decode("utf-8" if magic[6] == 3 else "latin-1")
    try:
        values = ast.literal_eval(re.sub("(?<=[0-9])L", "", text))  # as Python 2 wrote a long integer
        descr, shape, fortran = values["descr"], values["shape"], values["fortran_order"]
    except (ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError):
        raise ValueError("its header is damaged") from None
    if not isinstance(descr, str) or not re.fullmatch("[<>|=]?([biufcSU][0-9]{1,5})", descr):
        raise ValueError("it holds Python objects or records, not plain numbers")
    try:
        dtype = np.dtype(descr)
    except TypeError:
        raise ValueError(f"it holds values of an unknown type, {descr}") from None
    fits = isinstance(shape, tuple) and len(shape) <= MAX_DIMENSIONS and isinstance(fortran, bool)
    if not fits or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise ValueError(f"its header declares the shape {str(shape)[:60]}")
    return Header(dtype, shape, fortran)


def _read_array(stream: IO[bytes]) -> np.ndarray:
    header = _read_header(stream)
    content = read_at_most(stream, header.bytes)
    if len(content) != header.bytes:
        found = f"only {len(content):,} follow" if len(content) < header.bytes else "more follow"
        raise ValueError(f"its header declares {header.bytes:,} bytes, and {found}")
    return np.ndarray(header.shape, header.dtype, content, order="F" if header.fortran else "C")


def _reason(error: BaseException) -> str:
    """Returns what the error says, in a line."""
    return getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__


def _signature() -> str:
    return ", ".join(f"{name}=..." for name in KERAS_NAMES)


_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    OverflowError,  # an empty array of a size that no array has
    MemoryError,  # the machine has less room than was agreed to
    NotImplementedError,  # what zip files may have, and Python does not read
    zipfile.BadZipFile,
    zlib.error,
)
