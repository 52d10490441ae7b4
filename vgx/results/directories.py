"""A run directory as a whole: made, replaced, removed and locked, so that a kill at any moment loses nothing.

What is made is a draft until it is whole; what is replaced or removed is set aside first, and only then deleted, as far
as vgx wrote it. All of it lies beside the run:

    .NAME.HOST.PROCESS.new     a draft
    .NAME.HOST.PROCESS.old     an earlier run (or export) until a new one stands in its place
    .NAME.HOST.PROCESS.gone    a run on its way out

`recover` finishes or undoes what a process of this host left so that is gone.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vgx.errors import RunError
from vgx.results import locks
from vgx.results.files import Leftover, explained, hidden, is_alive, leftovers, short
from vgx.results.recognition import EXPORT_MARK, FOLDERS, WRITTEN, is_run_of_vgx, sort

LOG = logging.getLogger("vgx")


def lock(path: Path) -> int:
    """Takes the lock of a run directory and returns its open file; closing it lets go, and so does dying.

    Raises RunError when another process has it.
    """
    with explained(path, run=True):
        while True:
            descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                locks.take(descriptor)
                if os.path.samestat(os.fstat(descriptor), os.stat(path / ".lock")):
                    os.ftruncate(descriptor, 0)
                    os.lseek(descriptor, 0, os.SEEK_SET)
                    os.write(descriptor, str(os.getpid()).encode())
                    return descriptor
            except BlockingIOError:
                busy = _busy(path, _holder(descriptor))
                os.close(descriptor)
                raise busy from None
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)  # the directory was replaced just now: its lock is another file


def _holder(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 32).decode(errors="replace") or "?"


def _busy(path: Path, process: int | str) -> RunError:
    return RunError(f"{path}: another vgx is writing this run (process {process}); wait for it, or stop it")


def refuse_busy(path: Path) -> None:
    """Raises RunError when another process writes the run at `path`."""
    with explained(path, "read"), suppress(FileNotFoundError):
        descriptor = os.open(path / ".lock", os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            locks.take(descriptor, shared=True)
        except BlockingIOError:
            raise _busy(path, _holder(descriptor)) from None
        finally:
            os.close(descriptor)


def ready(path: Path, overwrite: bool = False) -> None:
    """Makes a path ready for a run: finishes what killed processes left of it, and looks whether it can be one's place.

    Raises RunError where there is a file, a link to nothing, or a run that another process writes; to overwrite, also
    where there is something that is no run of vgx.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise RunError(
            f"{short(path)}: this name is not UTF-8, or the locale is not (LC_ALL=C.UTF-8 is); choose another --runs"
        ) from None
    home = _home(path)
    recover(home.parent, home.name)
    with explained(path, "read"):
        if path.is_symlink() and not home.exists():
            raise RunError(f"{path}: is a link to {home}, where nothing is; remove it, or make a folder there")
        if home.exists() and not home.is_dir():
            raise RunError(f"{path}: is a file, and the run's directory would be there; move it away")
    for left in leftovers(home.parent, home.name):
        if left.kind == "old" and not home.exists():
            raise _busy(path, left.process)
    refuse_busy(path)
    if overwrite and occupied(path):
        _refuse_strangers(path)


def occupied(path: Path) -> bool:
    """Whether there is anything at a path but an empty folder."""
    with explained(path, "read"):
        return os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))


def _home(path: Path) -> Path:
    """Where a path that may be a link leads: there its directory is made and replaced, and the link stays."""
    return Path(os.path.realpath(path))


def _refuse_strangers(path: Path) -> None:
    with explained(path, "read"):
        if not is_run_of_vgx(path):
            raise RunError(f"{path}: is no run of vgx, and is left as it is; move it away, or choose another --runs")


@contextmanager
def draft(path: Path) -> Iterator[tuple[Path, int]]:
    """An empty, locked directory beside `path`, to be filled and published; gone again when that fails."""
    target = _home(path)
    folder = hidden(target, "new")
    folder.mkdir(parents=True)
    descriptor = lock(folder)
    try:
        yield folder, descriptor
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
        raise


def publish(folder: Path, path: Path, replace: bool = False) -> None:
    """Renames a whole draft into place. To replace, what vgx wrote of what is there goes; the rest stays where it is.

    Raises RunError when another process was faster, or where something else has the place of what vgx writes.
    """
    target = _home(path)
    aside = hidden(target, "old")
    if replace and occupied(target):
        _refuse_obstacles(target, folder)
        target.rename(aside)
    try:
        folder.rename(target)
    except BaseException as error:
        if aside.exists() and not target.exists():
            aside.rename(target)
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise RunError(f"{path}: another vgx has made this meanwhile; see `vgx runs`") from None
        raise
    if aside.exists() and (kept := _clear(aside, target)):
        LOG.warning("%s: %s", path, in_words(path, kept))


def _refuse_obstacles(path: Path, folder: Path) -> None:
    for other in sort(path).others:
        name = other.relative_to(path)
        if os.path.lexists(folder / name) or str(name) in FOLDERS or WRITTEN.fullmatch(name.as_posix()):
            raise RunError(f"{other}: vgx did not write this and needs its place; move it away")


def remove(path: Path) -> list[Path]:
    """Deletes what vgx wrote of a run, and returns what it did not, which stays with its directory.

    Raises as `ready` to overwrite.
    """
    ready(path, overwrite=True)
    target = _home(path)
    aside = hidden(target, "gone")
    with explained(path, "delete"):
        descriptor = lock(target)
        try:
            target.rename(aside)
            rest = _clear(aside, target)
        finally:
            os.close(descriptor)
        if path.is_symlink() and not rest:
            path.unlink()
    return rest


def _clear(aside: Path, target: Path) -> list[Path]:
    """Deletes what vgx wrote of what was set aside; the rest goes to its place below `target`, and is returned."""
    ours, others = sort(aside)
    kept = [target / other.relative_to(aside) for other in others]
    for other, place in zip(others, kept, strict=True):
        if not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            other.rename(place)
    for path in [*ours, aside]:
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):  # something else is in it
                path.rmdir()
        else:
            path.unlink(missing_ok=True)
    return kept


def in_words(path: Path, kept: Sequence[Path]) -> str:
    """Returns what stays of a run directory, since vgx did not write it, in words."""
    names = ", ".join(short(each.relative_to(_home(path))) for each in kept[:5])
    return f"kept what vgx did not write: {names}" + (", ..." if len(kept) > 5 else "")


def find(name: str, root: Path) -> Path:
    """Returns the directory of a run that is to be deleted: at that path, or the only one of `root` that begins so.

    Unlike `find_run` it finds damaged ones too. Raises RunError where there is none, or more than one.
    """
    recover(root)
    here, there = Path(name), root / name
    with explained(here, "read"):
        if is_run_of_vgx(here) or (os.path.lexists(here) and not os.path.lexists(there)):
            return here
        if os.path.lexists(there):
            return there
        begins = [] if "/" in name else sorted(filter(is_run_of_vgx, root.glob(f"{glob.escape(name)}*")))
    if len(begins) > 1:
        listed = ", ".join(path.name for path in begins[:5]) + (", ..." if len(begins) > 5 else "")
        raise RunError(f"{name}: {len(begins)} runs begin so: {listed}; give the whole name")
    if not begins:
        raise RunError(f"{short(name)}: no such run in {root}; `vgx runs` lists the runs there are")
    return begins[0]


def recover(folder: Path, name: str | None = None) -> None:
    """Finishes or undoes what processes of this host left in a folder that are gone, of one name there or of all.

    A draft goes. A run set aside is put back where none stands in its place; else it goes, as one on its way out does.
    """
    for left in leftovers(folder, name):
        with suppress(OSError), _abandoned(left) as abandoned:
            if not abandoned:
                continue
            if left.kind == "new":
                shutil.rmtree(left.path) if left.path.is_dir() else left.path.unlink()
            elif left.kind == "old" and not occupied(left.target):
                left.path.rename(left.target)
            elif left.kind == "gone" or (left.target / "meta.json").is_file() or _is_export(left.target):
                _clear(left.path, left.target)


def _is_export(folder: Path) -> bool:
    return (folder / EXPORT_MARK).is_file()


@contextmanager
def _abandoned(left: Leftover) -> Iterator[bool]:
    """Whether the process is gone that made this; its lock tells, or else its number."""
    try:
        descriptor = os.open(left.path / ".lock", os.O_RDWR)
    except OSError:
        yield not is_alive(left.process)
        return
    try:
        locks.take(descriptor)
    except OSError:  # it is locked, or this system cannot tell
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
