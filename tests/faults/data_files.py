"""Data files that are not what they say: IDX and npz, damaged, absurd, and without end."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

IDX = ("train_images", "train_labels", "test_images", "test_labels")
MIB = 2**20


def idx(array: np.ndarray, code: int = 8) -> bytes:
    """Returns an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


def right_arrays(random: Random) -> dict[str, np.ndarray]:
    """Returns the arrays of a small data set that is as it should be."""
    draw = np.random.default_rng(random.randrange(2**32))
    n, m, side = random.randint(12, 40), random.randint(4, 12), random.randint(1, 6)
    return {
        "train_images": draw.integers(0, 256, (n, side, side), np.uint8),
        "train_labels": draw.integers(0, 3, n, np.uint8),
        "test_images": draw.integers(0, 256, (m, side, side), np.uint8),
        "test_labels": draw.integers(0, 3, m, np.uint8),
    }


def idx_sources(random: Random, folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """Writes `count` data sets of four IDX files of which one or two are damaged; yields each as a config names it."""
    for number in range(count):
        place = folder / f"idx{number:03d}"
        place.mkdir()
        files = {name: idx(array) for name, array in right_arrays(random).items()}
        for name in random.sample(IDX, random.choice([0, 1, 1, 1, 2])):
            files[name] = damaged_idx(random, files[name])
        for name, content in files.items():
            if random.random() < 0.4:
                content = gzip.compress(content, 1)
                if random.random() < 0.3:
                    content = damaged_bytes(random, content)
            (place / name).write_bytes(content)
        yield {"name": "idx"} | {name: str(place / name) for name in IDX}


def damaged_idx(random: Random, content: bytes) -> bytes:
    """A header that promises something else, or bytes damaged."""
    if random.random() < 0.3:
        return damaged_bytes(random, content)
    dimensions = content[3]
    header, values = bytearray(content[: 4 + 4 * dimensions]), content[4 + 4 * dimensions :]
    sizes = (0, 1, 2, 3, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
    match random.randrange(6):
        case 0:
            header[random.randrange(4)] = random.randrange(256)
        case 1:
            struct.pack_into(">I", header, 4 + 4 * random.randrange(dimensions), random.choice(sizes))
        case 2:
            shape = [random.choice(sizes) for _ in range(random.randint(0, 5))]
            header = bytearray(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape))
        case 3:
            values += random.randbytes(random.randint(1, 50))
        case 4:
            values = values[: random.randrange(len(values))]
        case _:
            values = bytes(random.randrange(256) for _ in values)
    return bytes(header) + values


def damaged_bytes(random: Random, content: bytes) -> bytes:
    """Cut short, flipped, nothing, noise, or another kind of file."""
    match random.randrange(6):
        case 0:
            return content[: random.randrange(len(content))]
        case 1:
            return b""
        case 2:
            return random.randbytes(random.randint(1, 200))
        case 3:
            return content[len(content) // 2 :] + content[: len(content) // 2]
        case _:
            changed = bytearray(content)
            for _ in range(random.randint(1, 4)):
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
            return bytes(changed)


def npz_sources(random: Random, folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """Writes `count` archives with something wrong in most of them; yields each as a config names it."""
    for number in range(count):
        path = folder / f"{number:03d}.npz"
        members = {f"{name}.npy": npy(array) for name, array in right_arrays(random).items()}
        for name in random.sample(sorted(members), random.choice([0, 1, 1, 1, 2])):
            damage_member(random, members, name)
        buffer = io.BytesIO()
        method = random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        content = buffer.getvalue()
        path.write_bytes(damaged_bytes(random, content) if random.random() < 0.25 else content)
        yield {"name": "npz", "path": str(path)}


def npy(array: np.ndarray) -> bytes:
    """Returns an array in NumPy's format."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_of(header: str, values: bytes = b"\0" * 64, version: tuple[int, int] = (1, 0)) -> bytes:
    """Returns a file in NumPy's format with this text for its header."""
    text = header.encode("latin1")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + values


def damage_member(random: Random, members: dict[str, bytes], name: str) -> None:
    """Replaces, renames or removes one array of an archive."""
    shapes = ["(True,)", "(True, False)", "(-1,)", "(3,)", "(2**70,)", f"({10**30},)", "(0, 0)", "()", "(1.0,)", "None"]
    shapes += [
        f"({2**31}, {2**31}, {2**31})",
        "(64,)",
        "(4, 4, 4)",
        "[64]",
        "'64'",
        "(((64,),),)",
        f"({2**62},)",
        "(x,)",
    ]
    kinds = ["|u1", "<f4", "<f8", "|O", "<U4", "|S1", "<c8", "|b1", "<M8[s]", "|V8", "|u0", "<f16", "zz", "<U999999999"]
    kinds += ["<i8", ">f4", "<i2", "<u8"]
    draw = np.random.default_rng(random.randrange(2**32))
    match random.randrange(9):
        case 0 | 1 | 2:
            order = random.choice(["False", "True", "None"])
            kind = repr(random.choice([*kinds, "|u1", "|u1"]))
            if random.random() < 0.1:
                kind = random.choice(["[('a', '|u1')]", "[]", "None", "3", "{'names': []}", "'|u1', 'more': 1"])
            header = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {random.choice(shapes)}, }}\n"
            members[name] = npy_of(
                header, b"\1" * random.choice([0, 8, 64, 512]), random.choice([(1, 0), (2, 0), (3, 0)])
            )
        case 3:
            header = random.choice(
                ["", "{", "[]", "{}", "1/0", "__import__('os')", "(" * 500, "{'descr': '|u1'}", "\0" * 50]
            )
            members[name] = npy_of(header, version=random.choice([(1, 0), (2, 0), (3, 0), (9, 9)]))
        case 4:
            members[name] = damaged_bytes(random, members[name])
        case 5:
            members[random.choice(["a.npy", name.removesuffix(".npy"), "/etc/x.npy", "\x1b[31m.npy"])] = members.pop(
                name
            )
        case 6:
            members[name.removesuffix(".npy")] = random.choice([b"text", b"", b"\x93NUMPY"])
            members.pop(name)
        case 7:
            kind = random.choice(["O", "U3", "S3", "f2", "f4", "f8", "c8", "i8", "u8", "?", "M8[s]", "i1", "V4"])
            members[name] = npy(np.zeros(random.choice([(), (0,), (6,), (20,), (6, 0), (6, 2), (6, 2, 2, 2, 2)]), kind))
        case _:
            values = draw.standard_normal((20, 4)).astype(random.choice(["f4", "f8"]))
            values[random.randrange(20)] = random.choice([np.nan, np.inf, -np.inf, 1e30, 0])
            members[name] = npy(values)


def special_sources(folder: Path, random: Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what never ends, never begins, or unpacks to more than there is: each by name, as a config names it."""
    whole = {name: folder / f"whole-{name}" for name in IDX}
    for name, array in right_arrays(random).items():
        whole[name].write_bytes(idx(array))
    fifo, link, loop = folder / "fifo", folder / "link", folder / "loop"
    os.mkfifo(fifo)
    link.symlink_to("/dev/zero")
    loop.symlink_to(loop)
    paths = {"a FIFO": fifo, "/dev/zero": Path("/dev/zero"), "a link to it": link, "a link to itself": loop}
    paths |= {
        "a folder": folder,
        "nothing": Path("/dev/null"),
        "memory": Path("/proc/self/mem"),
        "no file": folder / "x",
    }
    paths |= {
        "noise without end": Path("/dev/urandom"),
        "a name of 5,000": folder / ("x" * 5000),
        "standard input": Path("-"),
    }
    paths |= {"a NUL": folder / "a\0b", "an escape": folder / "\x1b[31mred"}
    for name, path in paths.items():
        yield f"{name} as npz", {"name": "npz", "path": str(path)}
        which = random.choice(IDX)
        yield f"{name} as idx", {"name": "idx"} | {key: str(path if key == which else whole[key]) for key in IDX}
    for name, path in (("idx", idx_bomb(folder)), ("idx that lies", idx_bomb(folder, lies=True))):
        yield f"a bomb of {name}", {"name": "idx"} | {key: str(whole[key]) for key in IDX} | {"train_images": str(path)}
    for name in ("of zeros", "that lies"):
        yield f"a bomb of npz {name}", {"name": "npz", "path": str(npz_bomb(folder, random, lies=name == "that lies"))}


def idx_bomb(folder: Path, lies: bool = False) -> Path:
    """Writes some megabytes of gzip that unpack to 3 GiB; one that lies has a header of one image."""
    path, rows = folder / f"bomb{lies}.gz", 3 * 1024
    piece = gzip.compress(bytes(16 * MIB), 9)
    header = struct.pack(">HBB3I", 0, 8, 3, 1 if lies else rows, 1024, 1024)
    path.write_bytes(gzip.compress(header) + piece * (rows // 16))  # members of one gzip file
    return path


def npz_bomb(folder: Path, random: Random, lies: bool = False) -> Path:
    """Writes a small archive whose first array has 3 GiB; one that lies says in its directory that it is small."""
    path, size = folder / f"bomb{lies}.npz", 3 * 1024 * MIB
    header = npy_of(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size // MIB}, {MIB}), }}\n", b"")
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = pack.compress(header) + pack.flush(zlib.Z_FULL_FLUSH)
    piece = pack.compress(bytes(16 * MIB)) + pack.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before it
    packed += piece * (size // (16 * MIB)) + pack.flush()
    name, unpacked = b"train_images.npy", 128 if lies else len(header) + size
    entry = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(packed), unpacked, len(name), 0)
    local = b"PK\3\4" + entry + name + packed
    rest = io.BytesIO()
    with zipfile.ZipFile(rest, "w") as archive:
        for other, array in right_arrays(random).items():
            if other != "train_images":
                archive.writestr(f"{other}.npy", npy(array))
    with zipfile.ZipFile(rest) as archive:
        ends_at = archive.start_dir
    tail = rest.getvalue()
    directory = bytearray(tail[ends_at:-22])
    moved, at = len(local), 0
    while at < len(directory):  # what follows the bomb lies further back than it was
        struct.pack_into("<I", directory, at + 42, struct.unpack_from("<I", directory, at + 42)[0] + moved)
        at += 46 + sum(struct.unpack_from("<HHH", directory, at + 28))
    first = b"PK\1\2" + struct.pack("<H", 20) + entry + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    content = local + tail[:ends_at]
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 4, 4, len(first) + len(directory), len(content), 0)
    path.write_bytes(content + first + directory + end)
    return path


def load(source: str) -> None:
    """Loads a data set as a run would, in a process of its own, and says how that went as JSON."""
    import vgx
    from vgx.results.safe_text import one_line

    try:
        dataset = vgx.load_config({"data": json.loads(source)}).data.load()
    except vgx.VgxError as error:
        print(json.dumps({"refused": one_line(str(error))}))
        return
    for split in (dataset.train, dataset.test):
        assert split.images.ndim == 2
        assert len(split.images) == len(split.labels) > 0
        assert split.images.dtype in (np.uint8, np.float32)
        assert split.labels.dtype == np.int32
        assert 0 <= split.labels.min() <= split.labels.max() < dataset.classes
        assert np.isfinite(split.images).all()
    assert np.isfinite(dataset.mean).all()
    assert np.isfinite(dataset.std).all()
    assert dataset.std.min() > 0
    print(json.dumps({"accepted": dataset.digest}))
