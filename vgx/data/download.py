"""Fetching the published sets, and checking what is on disk."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from vgx.data.files import irregular
from vgx.data.mirrors import FILES, locate, places, publication
from vgx.errors import DataError, EnvironmentFault
from vgx.results.files import drafted

CHUNK = 2**16
LARGEST = 2**28
"""Bytes, some ten times what any of the files has. A server that goes on sending is not sending the file."""

DownloadProgress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes that have arrived and the bytes in all (0 when the server does not say)."""


class FileCheck(NamedTuple):
    """What is on disk of one published file."""

    file: str
    path: Path | None
    state: Literal["ok", "missing", "unreadable", "wrong checksum", "unchecked"]
    detail: str


def verify(name: str, directory: str | os.PathLike[str] | None = None) -> list[FileCheck]:
    """Returns a check of each file of a published set, where the data set called `name` would find it.

    A gzip file is right when its MD5 is the publisher's, or, whoever packed it, when its contents have the SHA-256 on
    record. Raises DataError when no published set has that name.
    """
    publication(name)
    return [_check(name, file, path) for file, path in locate(name, directory).items()]


def get(
    name: str,
    *,
    directory: str | os.PathLike[str] | None = None,
    mirror: str | None = None,
    progress: DownloadProgress | None = None,
    timeout: float = 20.0,
) -> list[Path]:
    """Fetches what is not there and right of a published set, and returns its four paths.

    Files go to `directory`, or else to `$VGX_DATA_DIR/name`, or else to the user cache. Each is asked of `mirror` or
    the publisher, then of the other mirrors; a server may be silent for `timeout` seconds. A file appears under its
    name only whole and with the right MD5. Raises DataError when no address gives a file, EnvironmentFault when it
    cannot be stored.
    """
    publisher, *others = publication(name).addresses
    addresses = [mirror or publisher, *others]
    place = places(name, directory)[0]
    return [_fetch(name, file, place, addresses, progress, timeout) for file in FILES]


def _check(name: str, file: str, path: Path | None) -> FileCheck:
    mend = f"run `vgx data get {name}`"
    if path is None:
        return FileCheck(file, None, "missing", mend)
    known, which = publication(name), FILES.index(file)
    try:
        if kind := irregular(path):
            return FileCheck(file, path, "unreadable", f"it is {kind}; move it away, then {mend}")
        if path.stat().st_size > LARGEST:
            return FileCheck(file, path, "wrong checksum", f"it is larger than what was published; {mend}")
        if _md5(path) == known.md5[which]:
            return FileCheck(file, path, "ok", "as published")
        if known.sha256 and _sha256_of_contents(path) == known.sha256[which]:
            return FileCheck(file, path, "ok", "the published contents, packed otherwise or not at all")
    except (OSError, EOFError, zlib.error) as error:
        return FileCheck(file, path, "unreadable", f"{getattr(error, 'strerror', None) or error}; {mend}")
    if path.suffix != ".gz" and not known.sha256:
        return FileCheck(file, path, "unchecked", f"no checksum of the unpacked file is known; {mend}")
    return FileCheck(file, path, "wrong checksum", f"it is not what was published; {mend}")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _sha256_of_contents(path: Path) -> str:
    """The checksum of what a file holds unpacked, of no more than its first LARGEST bytes."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        gzipped = file.peek(2)[:2] == b"\x1f\x8b"
        contents = gzip.GzipFile(fileobj=file) if gzipped else file
        left = LARGEST
        while left > 0 and (chunk := contents.read(CHUNK)):
            sha.update(chunk)
            left -= len(chunk)
    return sha.hexdigest()


def _fetch(
    name: str, file: str, place: Path, addresses: list[str], progress: DownloadProgress | None, timeout: float
) -> Path:
    present = [path for path in (place / f"{file}.gz", place / file) if path.is_file()]
    if present and _check(name, file, present[0]).state == "ok":
        return present[0]
    packed = f"{file}.gz"
    if (place / packed).exists() and (kind := irregular(place / packed)):
        raise DataError(f"{place / packed}: this is {kind}, where the file is to go; move it away")
    faults = []
    for address in addresses:
        url = f"{address.rstrip('/')}/{packed}"
        fault = _retrieve(url, place / packed, publication(name).md5[FILES.index(file)], progress, timeout)
        if fault is None:
            return place / packed
        faults.append(f"{url}: {fault}")
    raise DataError(
        f"{name}: {packed} could not be fetched: {'; '.join(faults)}; nothing of it was kept;"
        " try again later, or name another server with --mirror"
    )


def _retrieve(url: str, path: Path, md5: str, progress: DownloadProgress | None, timeout: float) -> str | None:
    """Returns what went wrong, or None when the file is there."""
    from requests import exceptions
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    try:
        with drafted(path) as draft:
            _download(url, draft, path.name, progress, timeout)
            if _md5(draft) != md5:
                raise ValueError
            draft.chmod(0o644)
    except exceptions.HTTPError as error:
        return str(error)
    except (exceptions.Timeout, ReadTimeoutError):
        return f"the server was silent for {timeout:g} seconds"
    except exceptions.ConnectionError as error:
        return f"no connection ({_root(error)})"
    except HTTPError:
        return "the connection was cut"
    except exceptions.RequestException as error:
        return f"not an address to fetch from ({error})"
    except ValueError:
        return "what arrived has not the published checksum"
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: cannot be written ({error.strerror or error}); choose another directory"
        ) from None
    return None


def _download(url: str, output: Path, name: str, progress: DownloadProgress | None, timeout: float) -> None:
    """Writes what is at an address, as it comes: a gzip file stays one that the server also calls an encoding."""
    import requests

    with requests.get(url, stream=True, timeout=timeout) as response, output.open("wb") as file:
        if response.status_code != 200:
            raise requests.HTTPError(f"the server answered {response.status_code} {response.reason}")
        total = response.raw.length_remaining or 0
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            file.write(chunk)
            if file.tell() > LARGEST:
                raise ValueError
            if progress:
                progress(name, file.tell(), total)


def _root(error: BaseException) -> str:
    while error.__context__:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error)
