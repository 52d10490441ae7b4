"""IDX files, the format MNIST is published in, read as unsigned bytes.

LeCun, Cortes and Burges 1998, The MNIST database of handwritten digits: two zero bytes, a type code, the number of
dimensions, the dimensions as big-endian uint32, then the values with the last dimension varying fastest.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vgx.data.files import MAX_BYTES, open_regular, read_at_most, require_room
from vgx.errors import DataError

UNSIGNED_BYTE = 0x08
OTHER_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
MAX_DIMENSIONS = 4


def read_idx_files(paths: Sequence[str | os.PathLike[str]], most: int = MAX_BYTES) -> list[np.ndarray]:
    """Returns the arrays in several IDX files, as `read_idx` does.

    Raises DataError before anything is unpacked when the headers promise more than `most` bytes together.
    """
    promised: dict[str, int] = {}
    for path in map(str, paths):
        with _opened(path) as (stream, where):
            promised[path] = math.prod(_read_shape(stream, where))
    largest = max(promised, key=promised.__getitem__)
    require_room(largest, promised[largest], most)
    require_room(", ".join(promised), sum(promised[str(path)] for path in paths), most)
    return [read_idx(path, most) for path in paths]


def read_idx(path: str | os.PathLike[str], most: int = MAX_BYTES) -> np.ndarray:
    """Returns the array in an IDX file, gzipped or not: uint8, with one to four dimensions, none of them 0.

    Memory grows with the bytes that arrive, never with what a header promises; reading stops one byte past that
    promise. Raises DataError when the file cannot be read, promises more than `most` bytes, or is anything but one
    whole IDX file of unsigned bytes.
    """
    with _opened(path) as (stream, where):
        return _read(stream, where, most)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO | gzip.GzipFile, Path]]:
    """A file's contents, unpacked as they are read, and its path."""
    path = Path(os.path.expanduser(path))
    try:
        with open_regular(path) as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if gzipped else file, path
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip file is damaged ({error}); copy or download it again") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None


def _read(stream: BinaryIO | gzip.GzipFile, path: Path, most: int) -> np.ndarray:
    shape = _read_shape(stream, path)
    promised, extent = math.prod(shape), " x ".join(map(str, shape))
    if promised == 0:
        raise DataError(f"{path}: is empty (its header declares {extent} values); give a file with examples")
    require_room(str(path), promised, most)
    content = read_at_most(stream, promised)
    if len(content) < promised:
        raise DataError(
            f"{path}: the header declares {extent} values, but only {len(content):,} of {promised:,} bytes follow;"
            " it was cut short: copy or download it again"
        )
    if len(content) > promised:
        raise DataError(
            f"{path}: the header declares {extent} values, and more bytes follow;"
            " it is damaged: copy or download it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_shape(stream: BinaryIO | gzip.GzipFile, path: Path) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise _cut_short(path, len(magic))
    zeros, code, dimensions = struct.unpack(">HBB", magic)
    if zeros:
        raise DataError(
            f"{path}: not an IDX file (it starts with {magic[:2].hex(' ')}, not 00 00);"
            " give one in the format MNIST is published in"
        )
    if code != UNSIGNED_BYTE:
        held = OTHER_TYPES.get(code, "unknown values")
        raise DataError(
            f"{path}: holds {held} (type code 0x{code:02x}), not unsigned bytes (0x08); convert it to uint8"
        )
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise DataError(
            f"{path}: the header declares {dimensions} dimensions, but labels have 1 and images 2 to {MAX_DIMENSIONS};"
            " give a file of labels or of images"
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise _cut_short(path, len(magic + sizes))
    return struct.unpack(f">{dimensions}I", sizes)


def _cut_short(path: Path, length: int) -> DataError:
    return DataError(f"{path}: ends in its header, after {length} bytes; it was cut short: copy or download it again")
