"""The published sets: their files, where these are fetched from, where they are looked for, and their checksums."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from vgx.errors import DataError, did_you_mean

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""Published with `.gz` at the end; read with or without."""


class Publication(NamedTuple):
    """Where a set's four gzip files are fetched from, and the checksums they have."""

    addresses: tuple[str, ...]
    """The publisher's, then mirrors; a file's name is appended."""
    md5: tuple[str, str, str, str]
    """Of each gzip file as published, in the order of FILES."""
    sha256: tuple[str, ...] = ()
    """Of each file unpacked, however it was packed; empty where it is not known."""


PUBLISHED = {
    "mnist": Publication(
        addresses=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        md5=(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        sha256=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion_mnist": Publication(
        addresses=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        md5=(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "kmnist": Publication(
        addresses=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        md5=(
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
    ),
}


def publication(name: str) -> Publication:
    """Returns the publication called `name`. Raises DataError when there is nothing to fetch under that name."""
    if name not in PUBLISHED:
        near = did_you_mean(name, list(PUBLISHED)) or f"; these are: {', '.join(PUBLISHED)}"
        raise DataError(f"'{name}' is not a data set that is downloaded{near}")
    return PUBLISHED[name]


def places(name: str, directory: str | os.PathLike[str] | None = None) -> list[Path]:
    """Returns where the files are looked for: `directory`, then `$VGX_DATA_DIR/name`, then the user cache."""
    import pooch

    given = [Path(os.path.expanduser(directory))] if directory is not None else []
    if shared := os.environ.get("VGX_DATA_DIR"):
        given.append(Path(os.path.expanduser(shared)) / name)
    return [*given, Path(pooch.os_cache("vgx")) / name]


def locate(name: str, directory: str | os.PathLike[str] | None = None) -> dict[str, Path | None]:
    """Returns the path of each of FILES, all from one place, or None for one that is not there.

    The place is the first that has them all, or else the one that has most. A gzipped file goes before an unpacked one,
    so that what was fetched last is what is read.
    """
    found = [{file: _present(place / file) for file in FILES} for place in places(name, directory)]
    return max(found, key=lambda paths: sum(path is not None for path in paths.values()))


def _present(path: Path) -> Path | None:
    forms = path.with_name(path.name + ".gz"), path
    there = [form for form in forms if form.exists()]  # what is no file is found too, and refused when it is read
    return next((form for form in there if form.is_file()), next(iter(there), None))
