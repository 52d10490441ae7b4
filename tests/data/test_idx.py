"""IDX files: what is read, and that nothing else is."""

from __future__ import annotations

import contextlib
import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vgx.data.idx import read_idx
from vgx.errors import DataError


def idx_bytes(array: np.ndarray) -> bytes:
    return idx_header(*array.shape) + array.astype(np.uint8).tobytes()


def idx_header(*sizes: int, code: int = 8) -> bytes:
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes), *sizes)


SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=6)


@given(array=arrays.arrays(np.uint8, SHAPES), packed=st.booleans())
def test_reading_returns_what_was_written_gzipped_or_not(tmp_path_factory, array, packed):
    path = tmp_path_factory.getbasetemp() / "any.idx"
    path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    read = read_idx(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array, strict=True)


@given(contents=st.binary(max_size=80), header=st.lists(st.integers(0, 2**32 - 1), max_size=5), packed=st.booleans())
def test_no_bytes_raise_anything_but_a_data_error(tmp_path_factory, contents, header, packed):
    path = tmp_path_factory.getbasetemp() / "any.idx"
    contents = idx_header(*header) + contents if header else contents
    path.write_bytes(gzip.compress(contents) if packed else contents)
    with contextlib.suppress(DataError):
        assert read_idx(path).size < len(contents)


@given(st.binary(max_size=80))
def test_no_bytes_after_a_gzip_magic_raise_anything_but_a_data_error(tmp_path_factory, contents):
    path = tmp_path_factory.getbasetemp() / "any.idx.gz"
    path.write_bytes(b"\x1f\x8b" + contents)
    with pytest.raises(DataError):
        read_idx(path)


@given(at=st.integers(0, 200), flip=st.integers(1, 255))
def test_a_gzip_file_with_one_changed_byte_reads_the_same_or_is_refused(tmp_path_factory, at, flip):
    array = np.arange(120, dtype=np.uint8).reshape(5, 4, 6)
    contents = bytearray(gzip.compress(idx_bytes(array), mtime=0))
    contents[at % len(contents)] ^= flip
    path = tmp_path_factory.getbasetemp() / "any.idx.gz"
    path.write_bytes(contents)
    with contextlib.suppress(DataError):
        np.testing.assert_array_equal(read_idx(path), array)


def test_the_name_does_not_decide_whether_a_file_is_gzipped(tmp_path: Path):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    (tmp_path / "plain.gz").write_bytes(idx_bytes(array))
    (tmp_path / "packed").write_bytes(gzip.compress(idx_bytes(array)))
    for name in ("plain.gz", "packed"):
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)


@pytest.mark.parametrize(
    "contents",
    [
        idx_header(60000, 60000) + b"few",
        gzip.compress(idx_header(60000, 60000) + b"few"),
        gzip.compress(idx_header(*[2**32 - 1] * 4)),
        gzip.compress(idx_header(10) + bytes(2**25)),
    ],
    ids=["promise", "packed promise", "absurd promise", "bomb"],
)
def test_a_false_promise_is_refused_without_allocating_it(tmp_path: Path, contents: bytes):
    path = tmp_path / "file"
    path.write_bytes(contents)
    tracemalloc.start()
    with pytest.raises(DataError):
        read_idx(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20  # a chunk is 1 MiB; the smallest of these promises, or bombs, is 32


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "labels").write_bytes(idx_bytes(np.arange(3)))
    assert read_idx("~/labels").tolist() == [0, 1, 2]


IMAGES = idx_bytes(np.arange(24).reshape(2, 3, 4))
CUT = "it was cut short: copy or download it again"
DAMAGED = "it is damaged: copy or download it again"

BAD_FILES = {
    "nothing": (b"", f"ends in its header, after 0 bytes; {CUT}"),
    "three bytes": (IMAGES[:3], f"ends in its header, after 3 bytes; {CUT}"),
    "half a header": (IMAGES[:10], f"ends in its header, after 10 bytes; {CUT}"),
    "a header alone": (
        IMAGES[:16],
        f"the header declares 2 x 3 x 4 values, but only 0 of 24 bytes follow; {CUT}",
    ),
    "one byte short": (
        IMAGES[:-1],
        f"the header declares 2 x 3 x 4 values, but only 23 of 24 bytes follow; {CUT}",
    ),
    "one byte long": (IMAGES + b"!", f"the header declares 2 x 3 x 4 values, and more bytes follow; {DAMAGED}"),
    "two files joined": (2 * IMAGES, f"the header declares 2 x 3 x 4 values, and more bytes follow; {DAMAGED}"),
    "a web page": (
        b"<!DOCTYPE html>",
        "not an IDX file (it starts with 3c 21, not 00 00); give one in the format MNIST is published in",
    ),
    "a png": (
        b"\x89PNG\r\n\x1a\n",
        "not an IDX file (it starts with 89 50, not 00 00); give one in the format MNIST is published in",
    ),
    "floats": (
        idx_header(2, code=0x0D) + bytes(8),
        "holds float32 (type code 0x0d), not unsigned bytes (0x08); convert it to uint8",
    ),
    "signed bytes": (
        idx_header(2, code=0x09) + bytes(2),
        "holds int8 (type code 0x09), not unsigned bytes (0x08); convert it to uint8",
    ),
    "an unknown type": (
        idx_header(2, code=0x42) + bytes(2),
        "holds unknown values (type code 0x42), not unsigned bytes (0x08); convert it to uint8",
    ),
    "no dimensions": (
        idx_header() + b"x",
        "the header declares 0 dimensions, but labels have 1 and images 2 to 4; give a file of labels or of images",
    ),
    "five dimensions": (
        idx_header(1, 1, 1, 1, 1) + b"x",
        "the header declares 5 dimensions, but labels have 1 and images 2 to 4; give a file of labels or of images",
    ),
    "no images": (
        idx_header(0, 28, 28),
        "is empty (its header declares 0 x 28 x 28 values); give a file with examples",
    ),
    "no pixels": (
        idx_header(2**32 - 1, 2**32 - 1, 0),
        "is empty (its header declares 4294967295 x 4294967295 x 0 values); give a file with examples",
    ),
    "an absurd size": (
        idx_header(2**31, 2**31, 2**31),
        "would take a petabyte of memory or more, and no machine has as much",
    ),
    "gzip, cut in the data": (
        gzip.compress(IMAGES, mtime=0)[:-12],
        "the gzip file is damaged (Compressed file ended before the end-of-stream marker was reached);"
        " copy or download it again",
    ),
    "gzip, cut in the checksum": (
        gzip.compress(IMAGES, mtime=0)[:-5],
        "the gzip file is damaged (Compressed file ended before the end-of-stream marker was reached);"
        " copy or download it again",
    ),
    "gzip with a wrong length": (
        gzip.compress(IMAGES, mtime=0)[:-4] + b"\1\0\0\0",
        "the gzip file is damaged (Incorrect length of data produced); copy or download it again",
    ),
    "gzip of another method": (
        b"\x1f\x8b\7" + bytes(20),
        "the gzip file is damaged (Unknown compression method); copy or download it again",
    ),
    "gzip with garbage after it": (
        gzip.compress(IMAGES, mtime=0) + b"garbage",
        "the gzip file is damaged (Not a gzipped file (b'ga')); copy or download it again",
    ),
    "gzip of nothing": (gzip.compress(b""), f"ends in its header, after 0 bytes; {CUT}"),
    "gzip, one byte short": (
        gzip.compress(IMAGES[:-1]),
        f"the header declares 2 x 3 x 4 values, but only 23 of 24 bytes follow; {CUT}",
    ),
    "gzip, one byte long": (
        gzip.compress(IMAGES + b"!"),
        f"the header declares 2 x 3 x 4 values, and more bytes follow; {DAMAGED}",
    ),
    "gzip in gzip": (
        gzip.compress(gzip.compress(IMAGES)),
        "not an IDX file (it starts with 1f 8b, not 00 00); give one in the format MNIST is published in",
    ),
}


@pytest.mark.parametrize(("contents", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_with_its_name_the_reason_and_the_way_out(tmp_path: Path, contents: bytes, reason: str):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(contents)
    with pytest.raises(DataError) as fault:
        read_idx(path)
    assert str(fault.value) == f"{path}: {reason}"


def test_a_path_that_is_no_file_is_refused(tmp_path: Path):
    path = tmp_path / "none"
    with pytest.raises(DataError) as fault:
        read_idx(path)
    assert str(fault.value) == f"{path}: cannot be read (No such file or directory); check the path and its permissions"
    with pytest.raises(DataError, match="embedded null byte"):
        read_idx(f"{tmp_path}/\0")
