"""What vgx wrote in a run directory, told from what it did not: only that is ever replaced or deleted."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

EXPORT_MARK = ".vgx-export"
"""A file in every folder that an export makes, with the names of what it wrote: only such a folder is ever replaced."""
PAGE_MARK = b'<meta name="generator" content="vgx">'
"""In the first 2,000 bytes of every page."""
NPZ_ARRAYS = {"config.npy", "lanes.lane.npy", "metrics.step.npy", "layers.step.npy"}
"""What every npz of a run has."""
SVG_MARK, PNG_MARK = "<!-- vgx -->", b"Software\0vgx"
"""In the first 2,000 bytes of every figure of a page."""
FIGURES = (
    "gradient-first|gradient|gradients|weights|activations|sizes|shares|updates|heat|loss|accuracy|learning_rate"
    "|grid-[a-z-]+|ranking|predicted-slope|measured-slope"
)
"""The figures beside the pages of earlier versions, which have no mark."""
FOLDERS = ("metrics", "layers", "spectrum", "rounds", "checkpoint", "figures", "exports", "tensorboard")
WRITTEN = re.compile(
    r"\.lock|config\.yaml|meta\.json|parts\.jsonl|(cells|map)\.json|(lanes|prediction|layers)\.parquet"
    r"|(metrics|layers|spectrum)/[0-9]+\.parquet|rounds/[0-9]+\.json"
    r"|checkpoint/[0-9]+(\.orbax-checkpoint-tmp[^/]*)?/.+"
    rf"|figures/({FIGURES})\.(svg|png)"
    r"|tensorboard/(.+/)?events\.out\.tfevents\.[0-9]+\.vgx\.[0-9]+"
)
"""The files that vgx writes in a run directory and that their names tell; others are told by what is in them."""
TRACES = {".lock", "metrics", "layers", "spectrum", "rounds", "checkpoint"}
"""What hardly anything but vgx leaves: where one of these is, a run may have lost its meta.json."""
STATUSES = ("running", "done", "interrupted", "failed")


class Sorted(NamedTuple):
    """What is in a directory."""

    ours: list[Path]
    """What vgx wrote, a folder after what is in it: the folder stays when something else is there."""
    others: list[Path]
    """All else; a folder without anything of vgx as one."""


def sort(folder: Path) -> Sorted:
    """Returns what vgx wrote of a run directory (or a folder that it exported) and what it did not."""
    if (folder / EXPORT_MARK).is_file():
        return _sort_export(folder)
    found = _sort(folder, folder)
    # The lock goes last: until then it says whose this is.
    return found._replace(ours=sorted(found.ours, key=lambda path: path == folder / ".lock"))


def _sort(folder: Path, root: Path) -> Sorted:
    ours: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if path.is_symlink() or not path.is_dir():
            (ours if not path.is_symlink() and path.is_file() and _is_ours(path, name) else others).append(path)
            continue
        exported = name.startswith("exports/") and (path / EXPORT_MARK).is_file()
        inside = _sort_export(path) if exported else _sort(path, root)
        empty = name.startswith(("checkpoint/", "tensorboard/")) and not inside.others
        if name in FOLDERS or inside.ours or empty:
            ours += [*inside.ours, path]
            others += inside.others
        else:
            others.append(path)
    return Sorted(ours, others)


def _sort_export(folder: Path) -> Sorted:
    """What an export wrote by its own list, which goes last; all of it where the list is empty, as it once was."""
    mark = folder / EXPORT_MARK
    text = mark.read_text(encoding="utf-8", errors="replace")
    try:
        listed = {folder / name for name in json.loads(text)} if text else None
    except (ValueError, TypeError):  # altered: nothing is known to be its own
        listed = set()
    inside = sorted(folder.rglob("*"), key=lambda path: -len(path.parts))
    files = [path for path in inside if path.is_symlink() or not path.is_dir()]
    ours = [path for path in files if path != mark and (listed is None or path in listed)]
    folders = [path for path in inside if path not in files]
    return Sorted([*ours, *folders, mark], [path for path in files if path != mark and path not in ours])


def mark_export(folder: Path) -> None:
    """Notes in a folder that an export wrote what it wrote there."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir()]
    (folder / EXPORT_MARK).write_text(json.dumps(names), encoding="utf-8")


def _is_ours(path: Path, name: str) -> bool:
    if WRITTEN.fullmatch(name):
        return True
    if draft := re.fullmatch(r"(.*/)?\.([^/]+?)(\.[A-Za-z0-9-]+\.[0-9]+\.new|\.tmp)", name):
        whole = f"{draft[1] or ''}{draft[2]}"
        return bool(WRITTEN.fullmatch(whole) or re.fullmatch(r"report\.html|exports/.*\.npz", whole))
    if name == "report.html":
        return is_page(path)
    return (name.startswith("figures/") and is_figure(path)) or (name.startswith("exports/") and is_npz_of_a_run(path))


def is_run_of_vgx(path: Path) -> bool:
    """Whether a directory is a run, or one whose meta.json is lost or damaged and that holds nothing else."""
    if not path.is_dir():
        return False
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
    except (ValueError, OSError):
        meta = None
    if isinstance(meta, dict) and meta.get("status") in STATUSES:
        return True
    ours, others = sort(path)
    return not others and bool(TRACES & {each.relative_to(path).parts[0] for each in ours})


def is_page(path: Path) -> bool:
    """Whether a file is a page that vgx wrote."""
    return PAGE_MARK in _beginning(path)


def is_figure(path: Path) -> bool:
    """Whether a file is a figure that vgx wrote."""
    return (SVG_MARK.encode() if path.suffix == ".svg" else PNG_MARK) in _beginning(path)


def _beginning(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(2000)


def is_npz_of_a_run(path: Path) -> bool:
    """Whether a file is an npz that vgx exported."""
    try:
        if not path.is_file():
            return False
        with zipfile.ZipFile(path) as file:
            return set(file.namelist()) >= NPZ_ARRAYS
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
