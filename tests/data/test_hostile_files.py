"""Files that mean harm, or are none: refused in a line, before they take memory or time."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import socket
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pooch
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from vgx.cli import app
from vgx.config.load import load_config
from vgx.config.sweep import differences, load_sweep
from vgx.data import DATASETS
from vgx.data.dataset import Split, moments
from vgx.data.download import get, verify
from vgx.data.mirrors import FILES
from vgx.errors import ConfigError, DataError
from vgx.runner.plan import program_key

CONFIGS = Path(__file__).parents[2] / "configs"
ROOM = 8 * 2**20
"""Bytes that refusing may take; what is refused would take more than twice as much."""
LABELS = np.zeros(6, np.uint8)
IMAGES = np.zeros((6, 2, 2), np.uint8)
NAMES = ("train_images", "train_labels", "test_images", "test_labels")


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_header(text: str, values: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    """A member whose header is this text, and says of itself that it is so long."""
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode("latin-1") + values


def header(shape: str, descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


def archive(path: Path, images: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = "train_images.npy") -> Path:
    """An archive whose training images are these bytes, the rest as it should be."""
    rest = dict(zip(NAMES[1:], (npy(LABELS), npy(IMAGES), npy(LABELS)), strict=True))
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(name, images)
        for member, contents in rest.items():
            file.writestr(f"{member}.npy", contents)
    return path


def refusal(options: dict) -> str:
    """What is said of a data set that is refused without taking ROOM."""
    tracemalloc.start()
    with pytest.raises(DataError) as refused:
        DATASETS.parse(options).load()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < ROOM
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


BOMB = with_header(header("(4096, 5000)"), bytes(4096 * 5000))
MEMBERS = {
    "absurd shape": (with_header(header("(1000000000000, 1000000000000)")), "no machine has as much"),
    "a bomb": (
        BOMB,
        "would take 20.5 MB, more than the 10.0 MB of data.max_bytes; overrides data.max_bytes=1GB allows it",
    ),
    "true for a size": (with_header(header("(True,)")), "its header declares the shape (True,)"),
    "a negative size": (with_header(header("(-1, 2)")), "its header declares the shape (-1, 2)"),
    "a size of its own": (with_header(header("6")), "its header declares the shape 6"),
    "a size beyond any": (with_header(header("(0, 10000000000000000000000)")), "its header declares the shape (0, 1"),
    "pickled objects": (with_header(header("(1,)", "'|O'")), "it holds Python objects or records"),
    "records": (with_header(header("(1,)", "[('a', '|u1')]")), "it holds Python objects or records"),
    "no array": (b"PK\x03\x04 a zip in the zip", "it is not a NumPy array"),
    "nothing": (b"", "it is not a NumPy array"),
    "a version to come": (b"\x93NUMPY\x09\x00", "its format is of no version that is known"),
    "an endless header": (with_header("", b" " * 2**24, 2, 2**31), "its header has 2,147,483,648 characters"),
    "no header": (with_header("("), "its header is damaged"),
    "keys of two kinds": (with_header("{1: 2, 'descr': 3}"), "its header is damaged"),
    "a deep header": (with_header("-" * 9000 + "1"), "its header is damaged"),
    "too few values": (with_header(header("(6, 2, 2)"), b"abc"), "its header declares 24 bytes, and only 3 follow"),
    "too many values": (with_header(header("(6, 2, 2)"), bytes(25)), "its header declares 24 bytes, and more follow"),
}


@pytest.mark.parametrize(("images", "reason"), MEMBERS.values(), ids=MEMBERS)
def test_an_array_that_is_none_is_refused_before_it_takes_memory(tmp_path: Path, images: bytes, reason: str):
    path = archive(tmp_path / "a.npz", images)
    said = refusal({"name": "npz", "path": str(path), "max_bytes": "10MB"})
    assert said.startswith(f"{path}: ")
    assert reason in said


def test_the_largest_set_that_is_allowed_is_read(tmp_path: Path):
    path = archive(tmp_path / "a.npz", npy(IMAGES))
    size = 2 * IMAGES.nbytes + 2 * LABELS.nbytes
    assert DATASETS.parse({"name": "npz", "path": str(path), "max_bytes": size}).load().train.images.shape == (6, 4)
    assert "would take 60 bytes, more than the 59 bytes" in refusal(
        {"name": "npz", "path": str(path), "max_bytes": size - 1}
    )


def test_an_array_in_fortran_s_order_is_read_as_it_is_meant(tmp_path: Path):
    images = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(6, 2, 2))
    path = archive(tmp_path / "a.npz", npy(images))
    read = DATASETS.parse({"name": "npz", "path": str(path)}).load().train.images
    np.testing.assert_array_equal(read, images.reshape(6, 4))


def changed_directory(path: Path, at: int, value: bytes) -> None:
    """Changes the first entry of a zip file's central directory, which says what there is."""
    contents = bytearray(path.read_bytes())
    start = contents.index(b"PK\x01\x02") + at
    contents[start : start + len(value)] = value
    path.write_bytes(contents)


def test_a_zip_file_that_lies_is_refused_or_read_as_it_is(tmp_path: Path):
    path = archive(tmp_path / "a.npz", npy(IMAGES))
    options = {"name": "npz", "path": str(path)}
    changed_directory(path, 24, struct.pack("<I", 2**31))  # the unpacked size
    assert DATASETS.parse(options).load().train.images.shape == (6, 4)
    changed_directory(path, 24, struct.pack("<I", 5))
    assert "cannot be read" in refusal(options)
    archive(path, npy(IMAGES))
    changed_directory(path, 8, b"\x01")
    assert "it is encrypted" in refusal(options)
    archive(path, bytes(2**25), zipfile.ZIP_BZIP2)
    assert "numpy packs nothing in this way" in refusal(options)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("test_labels.npy", npy(LABELS))
    assert "holds more than one array test_labels" in refusal(options)


def idx(*sizes: int) -> bytes:
    return struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes)


def test_idx_files_that_would_take_too_much_together_are_refused_unread(tmp_path: Path):
    big = gzip.compress(idx(4096, 5000) + bytes(4096 * 5000), 1)
    paths = {name: str(tmp_path / name) for name in NAMES}
    for name, contents in zip(NAMES, (big, idx(6) + bytes(6), big, idx(6) + bytes(6)), strict=True):
        Path(paths[name]).write_bytes(contents)
    said = refusal({"name": "idx", "max_bytes": 10**7, **paths})
    assert said.startswith(f"{paths['train_images']}: would take 20.5 MB, more than the 10.0 MB of data.max_bytes")
    assert "would take 41.0 MB, more than the 30.0 MB" in refusal({"name": "idx", "max_bytes": "30 MB", **paths})


def test_points_that_would_take_too_much_are_refused_before_they_are_made():
    assert "would take 85.0 TB" in refusal({"name": "synthetic", "examples": 10**12})
    assert "would take" in refusal({"name": "synthetic", "features": 10**12})


@pytest.mark.parametrize("text", ["4 miles", "", "-1GB", "nan", 0, True, 1.5, [1]])
def test_what_is_no_size_is_refused(text):
    with pytest.raises((ValidationError, ConfigError)):
        load_config({"data": {"name": "digits", "max_bytes": text}})


def test_a_limit_changes_no_number_so_it_makes_no_other_run():
    small, large = ({"name": "net", "data": {"name": "digits", "max_bytes": size}} for size in ("1GB", 3 * 10**9))
    one, other = load_config(small), load_config(large)
    assert (one.data.max_bytes, other.data.max_bytes) == (10**9, 3 * 10**9)
    assert one.digest == other.digest == load_config({"name": "net"}).digest
    assert program_key(one) == program_key(other)
    assert differences(one, other) == []
    sweeps = [load_sweep(each | {"sweep": {"axes": {"model.depth": [2]}}}) for each in (small, large)]
    assert sweeps[0].cells[0].key == sweeps[1].cells[0].key


def test_configs_have_the_digests_that_they_had_before_there_were_limits_and_imports():
    assert load_config({}).digest == "ad11e1b3"
    assert load_config({"data": {"name": "synthetic", "examples": 50}, "model": {"depth": 3}}).digest == "fefd9982"
    sweep = load_sweep({"sweep": {"axes": {"model.activation": ["relu", "tanh"]}}})
    assert (sweep.folder, [cell.key for cell in sweep.cells]) == ("run-3d1706c5", ["6b52683064d3", "39246c26dc13"])
    assert program_key(load_config({})) == "6086dc8a7178"


def test_moments_are_taken_a_block_at_a_time_and_are_numpys():
    images = np.random.default_rng(0).integers(0, 256, (300, 40_000), np.uint8)
    tracemalloc.start()
    mean, std = moments(Split(images, np.zeros(300, np.int32)), 255.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300 * 40_000  # a copy in float64 takes eight times that
    np.testing.assert_allclose(mean[::999], images[:, ::999].mean(0) / 255, rtol=1e-6)
    np.testing.assert_allclose(std[::999], images[:, ::999].std(0) / 255, rtol=1e-6)


@pytest.fixture
def special(tmp_path: Path):
    """Files that are none, by what they are called."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):
        server.bind("socket")
    return {
        "a pipe": tmp_path / "fifo",
        "a socket": tmp_path / "socket",
        "a device": Path("/dev/zero"),
        "a directory": tmp_path,
    }


def test_data_are_read_from_regular_files_alone(special: dict[str, Path], tmp_path: Path):
    for kind, path in special.items():
        said = f"{path}: this is {kind}, and data are read from regular files alone; name one"
        assert refusal({"name": "npz", "path": str(path)}) == said
        assert refusal({"name": "idx", **dict.fromkeys(NAMES, str(path))}) == said
    assert "this is a pipe" in refusal({"name": "npz", "path": str(tmp_path / "link")})


def test_a_link_to_a_regular_file_is_one(tmp_path: Path):
    archive(tmp_path / "a.npz", npy(IMAGES))
    (tmp_path / "link").symlink_to("a.npz")
    assert DATASETS.parse({"name": "npz", "path": str(tmp_path / "link")}).load().train.images.shape == (6, 4)


@pytest.fixture
def nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the shared directory nor the user's cache has published files."""
    monkeypatch.delenv("VGX_DATA_DIR", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)


@pytest.mark.usefixtures("nowhere_else")
def test_a_pipe_where_a_published_file_should_be_is_said_to_be_one(tmp_path: Path):
    os.mkfifo(tmp_path / f"{FILES[0]}.gz")
    first, *_ = verify("mnist", tmp_path)
    assert (first.state, first.detail) == ("unreadable", "it is a pipe; move it away, then run `vgx data get mnist`")
    with pytest.raises(DataError, match="this is a pipe, where the file is to go; move it away"):
        get("mnist", directory=tmp_path)
    for name in FILES[1:]:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="this is a pipe, and data are read from regular files alone"):
        DATASETS.parse({"name": "mnist", "dir": str(tmp_path)}).load()


@pytest.mark.usefixtures("nowhere_else")
def test_a_published_file_that_unpacks_without_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("vgx.data.download.LARGEST", 2**20)
    read = []

    class Counting(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            read.append(len(chunk := super().read(size)))
            return chunk

    monkeypatch.setattr("vgx.data.download.gzip.GzipFile", Counting)
    (tmp_path / f"{FILES[0]}.gz").write_bytes(gzip.compress(bytes(2**24)))
    assert verify("mnist", tmp_path)[0].state == "wrong checksum"
    assert sum(read) <= 2**20 + 2**16


REFUSED: dict[str, Callable[[Path], str]] = {
    "a pipe": lambda path: f"{path}: this is a named pipe, which may never end; give - in its place, and < {path}",
    "a socket": lambda path: f"{path}: this is no file; name a YAML file, or give - to read standard input",
    "a device": lambda path: f"{path}: this is no file; name a YAML file, or give - to read standard input",
    "a directory": lambda path: f"{path}: this is a directory; name a file in it",
}


def test_a_config_that_is_no_file_is_refused_in_a_line(special: dict[str, Path]):
    for kind, path in special.items():
        with pytest.raises(ConfigError) as refused:
            load_config(path)
        assert str(refused.value) == REFUSED[kind](path)


@pytest.mark.parametrize("config", ["quickstart", "sweeps/depth", "reproduce/dying-relu"])
def test_a_config_may_come_through_a_pipe_which_is_read_once(config: str):
    contents = (CONFIGS / f"{config}.yaml").read_bytes()
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "wb") as file:
        file.write(contents)
        file.close()
        result = CliRunner().invoke(app, ["check", f"/dev/fd/{reader}"])
    assert result.stdout.startswith(f"/dev/fd/{reader}: ok, ")
    assert CliRunner().invoke(app, ["check", "-"], input=contents).stdout.startswith("<stdin>: ok, ")
