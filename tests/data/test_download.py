"""Fetching from a server that does right, does wrong or does nothing; and checking what is on disk."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest

from vgx.data import mirrors
from vgx.data.download import get, verify
from vgx.data.mirrors import FILES, PUBLISHED, Publication
from vgx.errors import DataError, EnvironmentFault
from vgx.results import files

NAME = "letters"
CONTENTS = {file: np.random.default_rng(seed).bytes(200_000) for seed, file in enumerate(FILES)}
PACKED = {file: gzip.compress(contents, mtime=0) for file, contents in CONTENTS.items()}
HELP = "nothing of it was kept; try again later, or name another server with --mirror"


class Handler(BaseHTTPRequestHandler):
    """Serves PACKED under /right/; the other folders are named after what goes wrong in them."""

    def do_GET(self) -> None:
        _, manner, file = self.path.split("/")
        self.server.asked.append(self.path)
        contents = PACKED[file.removesuffix(".gz")]
        if manner == "missing":
            self.send_error(404)
            return
        if manner == "mute":
            self.server.over.wait(10)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(contents)))
        if manner == "encoded":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if manner == "wrong":
            contents = bytes(len(contents))
        if manner in ("cut", "stalled"):
            contents = contents[: len(contents) // 2]
        self.wfile.write(contents)
        if manner == "stalled":
            self.wfile.flush()
            self.server.over.wait(10)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.over = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A published set with no address but the ones a test gives it, and a cache of its own."""
    md5 = tuple(hashlib.md5(packed).hexdigest() for packed in PACKED.values())
    sha256 = tuple(hashlib.sha256(contents).hexdigest() for contents in CONTENTS.values())
    monkeypatch.setitem(PUBLISHED, NAME, Publication(("http://127.0.0.1:9/",), md5, sha256))
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.delenv("VGX_DATA_DIR", raising=False)


def contents_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


WHOLE = {f"{file}.gz": packed for file, packed in PACKED.items()}


def test_what_is_fetched_is_there_whole_and_verified(server: Server, tmp_path: Path):
    paths = get(NAME, directory=tmp_path / "new" / "place", mirror=f"{server.address}/right")
    assert paths == [tmp_path / "new" / "place" / file for file in WHOLE]
    assert contents_of(tmp_path) == WHOLE
    assert [check.state for check in verify(NAME, tmp_path / "new" / "place")] == ["ok"] * 4


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_what_is_fetched_can_be_read_by_others(server: Server, tmp_path: Path):
    for path in get(NAME, directory=tmp_path, mirror=f"{server.address}/right"):
        assert path.stat().st_mode & 0o777 == 0o644


def test_what_a_killed_download_left_goes_with_the_next(server: Server, tmp_path: Path):
    (left := tmp_path / f".{next(iter(WHOLE))}.{files.host()}.{2**22 - 1}.new").write_bytes(b"half")
    get(NAME, directory=tmp_path, mirror=f"{server.address}/right")
    assert not left.exists()
    assert contents_of(tmp_path) == WHOLE


def test_a_server_that_calls_the_packing_an_encoding_does_not_get_it_unpacked(server: Server, tmp_path: Path):
    get(NAME, directory=tmp_path, mirror=f"{server.address}/encoded/")
    assert contents_of(tmp_path) == WHOLE


def test_files_go_to_the_shared_directory_or_else_to_the_cache(server: Server, tmp_path: Path, monkeypatch):
    mirror = f"{server.address}/right/"
    assert get(NAME, mirror=mirror)[0].parent == tmp_path / "cache" / "vgx" / NAME
    monkeypatch.setenv("VGX_DATA_DIR", str(tmp_path / "shared"))
    assert get(NAME, mirror=mirror)[0].parent == tmp_path / "shared" / NAME


def test_only_what_is_missing_or_wrong_is_fetched(server: Server, tmp_path: Path):
    right, repacked, wrong, _ = FILES
    (tmp_path / f"{right}.gz").write_bytes(PACKED[right])
    (tmp_path / f"{repacked}.gz").write_bytes(gzip.compress(CONTENTS[repacked], 1))
    (tmp_path / f"{wrong}.gz").write_bytes(b"not at all")
    get(NAME, directory=tmp_path, mirror=f"{server.address}/right/")
    assert server.asked == [f"/right/{file}.gz" for file in FILES[2:]]
    assert [check.state for check in verify(NAME, tmp_path)] == ["ok"] * 4


def test_progress_is_told_up_to_the_last_byte(server: Server, tmp_path: Path):
    told: list[tuple[str, int, int]] = []
    get(NAME, directory=tmp_path, mirror=f"{server.address}/right/", progress=lambda *news: told.append(news))
    for file, packed in WHOLE.items():
        done = [so_far for name, so_far, total in told if name == file and total == len(packed)]
        assert done == sorted(done)
        assert done[-1] == len(packed)


def test_the_next_address_is_asked_when_one_fails(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    addresses = tuple(f"{server.address}/{manner}/" for manner in ("missing", "wrong", "right"))
    monkeypatch.setitem(PUBLISHED, NAME, PUBLISHED[NAME]._replace(addresses=addresses))
    get(NAME, directory=tmp_path)
    assert contents_of(tmp_path) == WHOLE
    assert server.asked[:3] == [f"/{manner}/{FILES[0]}.gz" for manner in ("missing", "wrong", "right")]


@pytest.mark.parametrize(
    ("manner", "fault"),
    [
        ("missing", "the server answered 404 Not Found"),
        ("wrong", "what arrived has not the published checksum"),
        ("cut", "the connection was cut"),
        ("stalled", "the server was silent for 0.2 seconds"),
        ("mute", "the server was silent for 0.2 seconds"),
    ],
)
def test_a_failing_server_gets_one_line_and_leaves_nothing(server: Server, tmp_path: Path, manner: str, fault: str):
    with pytest.raises(DataError) as error:
        get(NAME, directory=tmp_path, mirror=f"{server.address}/{manner}/", timeout=0.2 if "silent" in fault else 20)
    url = f"{server.address}/{manner}/{FILES[0]}.gz"
    assert str(error.value) == f"{NAME}: {FILES[0]}.gz could not be fetched: {url}: {fault}; {HELP}"
    assert contents_of(tmp_path) == {}


def test_a_failing_server_leaves_a_file_that_was_there_as_it_was(server: Server, tmp_path: Path):
    (tmp_path / f"{FILES[0]}.gz").write_bytes(b"what I had")
    with pytest.raises(DataError):
        get(NAME, directory=tmp_path, mirror=f"{server.address}/cut/")
    assert contents_of(tmp_path) == {f"{FILES[0]}.gz": b"what I had"}


def test_an_interrupted_download_leaves_nothing(server: Server, tmp_path: Path):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(NAME, directory=tmp_path, mirror=f"{server.address}/right/", progress=interrupt)
    assert contents_of(tmp_path) == {}


def test_more_than_any_file_holds_is_not_stored(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vgx.data.download.LARGEST", 1000)
    with pytest.raises(DataError, match="has not the published checksum"):
        get(NAME, directory=tmp_path, mirror=f"{server.address}/right/")
    assert contents_of(tmp_path) == {}


def test_a_refused_connection_is_one_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DataError) as error:
        get(NAME, directory=tmp_path, mirror=f"http://127.0.0.1:{port}")
    fault = f"http://127.0.0.1:{port}/{FILES[0]}.gz: no connection (Connection refused)"
    assert str(error.value) == f"{NAME}: {FILES[0]}.gz could not be fetched: {fault}; {HELP}"
    assert contents_of(tmp_path) == {}


@pytest.mark.parametrize("mirror", ["not an address", "ftp://127.0.0.1", "http://", "http://127.0.0.1:x"])
def test_what_is_no_web_address_is_one_line(tmp_path: Path, mirror: str):
    with pytest.raises(DataError) as error:
        get(NAME, directory=tmp_path, mirror=mirror)
    assert f"{mirror.rstrip('/')}/{FILES[0]}.gz: not an address to fetch from (" in str(error.value)
    assert "\n" not in str(error.value)
    assert contents_of(tmp_path) == {}


def test_a_place_that_cannot_be_written_is_a_fault_of_the_machine(server: Server, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentFault) as error:
        get(NAME, directory=tmp_path / "file" / "folder", mirror=f"{server.address}/right/")
    path = tmp_path / "file" / "folder" / f"{FILES[0]}.gz"
    assert str(error.value) == f"{path}: cannot be written (Not a directory); choose another directory"


def test_pooch_says_nothing(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    get(NAME, directory=tmp_path, mirror=f"{server.address}/right/")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ask", [get, verify])
def test_a_set_that_is_not_published_is_refused_with_the_nearest_name(ask):
    with pytest.raises(DataError, match=r"^'mnits' is not a data set that is downloaded; did you mean 'mnist'\?$"):
        ask("mnits")
    with pytest.raises(
        DataError, match=r"^'idx' is not a data set that is downloaded; these are: mnist, fashion_mnist"
    ):
        ask("idx")


def test_verify_tells_each_state_apart(tmp_path: Path):
    unpacked, wrong, cut, _ = FILES
    (tmp_path / unpacked).write_bytes(CONTENTS[unpacked])
    (tmp_path / f"{wrong}.gz").write_bytes(gzip.compress(b"other contents"))
    (tmp_path / f"{cut}.gz").write_bytes(PACKED[cut][:-100])
    checks = verify(NAME, tmp_path)
    assert [check.file for check in checks] == list(FILES)
    assert [check.state for check in checks] == ["ok", "wrong checksum", "unreadable", "missing"]
    assert [check.path for check in checks] == [
        tmp_path / unpacked,
        tmp_path / f"{wrong}.gz",
        tmp_path / f"{cut}.gz",
        None,
    ]


def test_an_unpacked_file_of_unknown_checksum_is_called_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PUBLISHED, NAME, PUBLISHED[NAME]._replace(sha256=()))
    (tmp_path / FILES[0]).write_bytes(CONTENTS[FILES[0]])
    (tmp_path / f"{FILES[1]}.gz").write_bytes(PACKED[FILES[1]])
    assert [check.state for check in verify(NAME, tmp_path)] == ["unchecked", "ok", "missing", "missing"]


def test_the_place_that_has_all_files_goes_before_one_that_has_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VGX_DATA_DIR", str(tmp_path))
    (tmp_path / NAME).mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / FILES[0]).touch()
    assert mirrors.locate(NAME, tmp_path / "mine")[FILES[0]] == tmp_path / "mine" / FILES[0]
    for file in FILES:
        (tmp_path / NAME / file).touch()
    assert mirrors.locate(NAME, tmp_path / "mine")[FILES[0]] == tmp_path / NAME / FILES[0]


@pytest.mark.skipif("VGX_DATA_DIR" not in os.environ, reason="VGX_DATA_DIR is not set")
class TestMnist:
    directory = Path(os.environ.get("VGX_DATA_DIR", "")) / "mnist"

    def test_verifies_whoever_packed_it(self):
        checks = verify("mnist", self.directory)
        assert [check.state for check in checks] == ["ok"] * 4
        assert [check.path for check in checks] == [self.directory / f"{file}.gz" for file in FILES]

    def test_is_not_fetched_again_when_it_is_right(self):
        assert get("mnist", directory=self.directory, mirror="http://127.0.0.1:9/") == [
            self.directory / f"{file}.gz" for file in FILES
        ]
