"""Where the machine stands in the way - no space, no permission, no files, no output - vgx says so in a line."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from faults import samples
from faults.commands import Cold, Outcome, Warm, none, troubles
from faults.tables import difference, leftovers, lost, rows_of, the_run

pytestmark = pytest.mark.faults

COMMANDS = {
    "train": ("train", "{config}", "--quiet"),
    "resume": ("train", "{config}", "--quiet", "--resume"),
    "overwrite": ("train", "{config}", "--quiet", "--overwrite"),
    "sweep": ("sweep", "{config}", "--quiet"),
    "report": ("report", "{run}"),
    "csv": ("export", "{run}", "--to", "csv"),
    "npz": ("export", "{run}", "--to", "npz"),
    "tensorboard": ("export", "{run}", "--to", "tensorboard"),
    "cure": (
        "cure",
        "{run}",
        "--set",
        "model.initializer={{name: he_normal, gain: 0.1}}",
        "--write",
        "{runs}/cured.yaml",
    ),
}
"""What writes, {run}, {runs} and {config} filled in."""
SAMPLES = {"train": "", "resume": "cut", "sweep": ""}
"""What is there before, `whole` unless said here."""


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A mount at `folder`, or a skipped test where this user may make none."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def filled_in(name: str, shared: Path, folder: Path, runs: Path) -> tuple[list[str], Path]:
    """Returns a command with its paths, and the run that it comes to."""
    sample = SAMPLES.get(name, "whole")
    uncut = {"sweep": "grid", "resume": "uncut"}.get(name, "whole")
    expected = the_run(shared / uncut)
    config = folder / "config.yaml"
    kept = sample or uncut
    config.write_text(samples.text(samples.grid(kept) if kept == "grid" else samples.single(kept)))
    words = [word.format(config=config, run=runs / expected.name, runs=runs) for word in COMMANDS[name]]
    return [*words, "--runs", str(runs)], expected


def bytes_below(folder: Path) -> int:
    return sum(4096 + path.stat().st_size // 4096 * 4096 for path in folder.rglob("*"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_said_in_a_line_and_room_brings_the_run_to_the_same_bits(
    name, shared: Path, warm: Warm, tmp_path: Path, random: Random, tally: Callable
):
    runs, found, full = tmp_path / "runs", [], 0
    argv, expected = filled_in(name, shared, tmp_path, runs)
    needed = bytes_below(expected.parent)
    fills = 5 if name in ("train", "resume", "overwrite", "sweep") else 2
    for turn in range(fills):
        with mounted(runs, "-t", "tmpfs", "-o", "size=64m", "tmpfs"):
            if sample := SAMPLES.get(name, "whole"):
                subprocess.run(["cp", "-r", *map(str, (shared / sample).iterdir()), str(runs)], check=True)
            taken = bytes_below(runs)
            room = int(needed * (turn + random.random()) / fills)
            resize(runs, f"{(taken + room) // 1024}k")
            outcome = warm(*argv)
            full += outcome.code == 4
            found += [f"{room:,} bytes free: {one}" for one in troubles(outcome, 0, 4, about=str(runs))]
            resize(runs, "64m")
            if (runs / expected.name).exists():
                if name == "overwrite":
                    argv = [word.replace("--overwrite", "--resume") for word in argv]
                elif name == "train":
                    argv = [*argv, "--resume"]
            if name in ("csv", "npz", "tensorboard") and outcome.code == 0:
                argv = [*argv, "--overwrite"]
            again = warm(*argv)
            found += [f"{room:,} bytes free, then room: {one}" for one in troubles(again, 0)]
            if again.code == 0 and (wrong := lost(runs / expected.name, expected)):
                found.append(f"{room:,} bytes free, then room: other rows: {wrong}")
            if left := leftovers(runs):
                found.append(f"{room:,} bytes free, then room: leftovers: {left}")
            argv, _ = filled_in(name, shared, tmp_path, runs)
    tally("full disks", all=fills, full=full, failed=len(found))
    none(found)


def resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_may_not_grow_is_said_in_a_line(
    name, shared: Path, copy_of: Callable, warm: Warm, tmp_path: Path, random: Random, tally: Callable
):
    runs = copy_of(SAMPLES.get(name) or ("whole" if name not in SAMPLES else "other")).parent
    argv, _ = filled_in(name, shared, tmp_path, runs)
    room = random.choice([2000, 4000, 8000, 16000])  # what is said goes to a file, too
    outcome = warm(*argv, limits={"FSIZE": room}, timeout=60)
    found = troubles(outcome, 0, 4, about=str(runs))
    tally("files that may not grow", all=1, refused=int(outcome.code == 4), failed=len(found))
    none([f"{room:,} bytes: {one}" for one in found])


@pytest.mark.parametrize("how", ["a file system that is read-only", "a folder without permission"])
@pytest.mark.parametrize("name", COMMANDS)
def test_what_may_not_be_written_is_said_in_a_line_and_stays_as_it_is(
    name, how, shared: Path, copy_of: Callable, warm: Warm, tmp_path: Path, tally: Callable
):
    run = copy_of(SAMPLES.get(name) or ("whole" if name not in SAMPLES else "other"))
    runs = run.parent
    argv, _ = filled_in(name, shared, tmp_path, runs)
    before = rows_of(run)
    if how == "a folder without permission":
        folders = [runs, *(path for path in runs.rglob("*") if path.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        outcome = warm(*argv, plain_user=True)
        for folder in folders:
            folder.chmod(0o755)
    else:
        with mounted(runs, "--bind", str(runs)):
            subprocess.run(["mount", "-o", "remount,bind,ro", str(runs)], check=True)
            outcome = warm(*argv)
            found = [one for look in reading(run) for one in troubles(warm(*look, "--runs", runs), 0)]
            none(found)
    found = troubles(outcome, 4, about=str(runs))
    if wrong := difference(rows_of(run), before):
        found.append(f"other rows: {wrong}")
    tally("places that may not be written", all=1, refused=int(outcome.code == 4), failed=len(found))
    none(found)


def reading(run: Path) -> list[tuple[str | Path, ...]]:
    return [("runs",), ("show", run), ("export", run, "--to", "npz", "--output", run.parent.parent / "rows.npz")]


def test_a_download_that_fills_the_disk_is_said_in_a_line_and_leaves_nothing(
    warm: Warm, tmp_path: Path, tally: Callable
):
    place = tmp_path / "data"
    with mounted(place, "-t", "tmpfs", "-o", "size=1m", "tmpfs"), mirror(16 * 2**20) as address:
        outcome = warm("data", "get", "mnist", "--dir", place, "--mirror", address)
        found = troubles(outcome, 4, about=str(place))
        if left := [path.name for path in place.rglob("*")]:
            found.append(f"left there: {left}")
    tally("full disks", all=1, full=int(outcome.code == 4), failed=len(found))
    none(found)


@contextmanager
def mirror(size: int) -> Iterator[str]:
    """The address of a server that answers everything with so many bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(bytes(size))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ["train", "sweep", "report", "csv", "show", "runs"])
def test_too_few_open_files_are_said_in_a_line(
    name, shared: Path, copy_of: Callable, warm: Warm, tmp_path: Path, tally: Callable
):
    found, refused, numbers = [], 0, (1, 3, 6, 12, 20)
    for files in numbers:
        run = copy_of("whole" if name not in ("train", "sweep") else "other")
        if name in COMMANDS:
            argv, _ = filled_in(name, shared, tmp_path, run.parent)
        else:
            argv = [name, *([str(run)] if name == "show" else []), "--runs", str(run.parent)]
        outcome = warm(*argv, limits={"NOFILE": files}, timeout=60)
        refused += outcome.code == 4
        found += [f"{files} files more than are open: {one}" for one in troubles(outcome, 0, 4)]
    tally("limits of open files", all=len(numbers), refused=refused, failed=len(found))
    none(found)


TALKERS = (("--help",), ("parts",), ("schema",), ("check", "{config}"), ("runs",), ("show", "{run}"), ("data", "list"))


@pytest.mark.parametrize("where", ["full", "closed", "a reader that has left", "ASCII alone"])
def test_output_that_cannot_be_written_is_no_traceback(
    where, shared: Path, copy_of: Callable, cold: Callable[..., Cold], tmp_path: Path, tally: Callable
):
    run, config, found = copy_of("whole"), tmp_path / "config.yaml", []
    config.write_text(samples.text(samples.SINGLE))
    commands = [*TALKERS, ("train", "{config}", "--quiet", "--runs", "{new}")]
    for argv in commands:
        words = [word.format(config=config, run=run, new=tmp_path / "new") for word in argv]
        how: dict = {}
        codes = (0, 4)
        if where == "full":
            how, codes = {"stdout": os.open("/dev/full", os.O_WRONLY)}, (4,)
        elif where == "closed":
            how = {"preexec_fn": lambda: os.close(1)}
        elif where == "ASCII alone":
            how, codes = {"env": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}}, (0,)
        else:
            reader, writer = os.pipe()
            os.close(reader)
            how = {"stdout": writer}
        victim = cold(*words, **how)
        if "stdout" in how:
            os.close(how["stdout"])
        outcome = victim.end()
        wrong = troubles(outcome, *codes)
        if not wrong and ("Exception ignored" in outcome.err or outcome.err.count("\n") > 1):
            wrong.append(f"more than a line:\n{outcome}")
        found += wrong
    tally("outputs that cannot be written", all=len(commands), failed=len(found))
    none(found)


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}], ids=["C", "ASCII"])
def test_a_path_of_any_letters_works_in_a_locale_that_has_them_or_is_refused_in_a_line(
    locale, shared: Path, cold: Callable[..., Cold], tmp_path: Path, tally: Callable
):
    folder = tmp_path / "läufe 名前"
    folder.mkdir()
    config = folder / "größe.yaml"
    config.write_text(samples.text({**samples.single("letters", steps=20)}))
    found: list[str] = []
    commands: list[tuple[str | Path, ...]] = [
        ("check", config),
        ("train", config, "--runs", folder, "--quiet"),
        ("runs", "--runs", folder),
        ("show", "letters", "--runs", folder),
        ("export", "letters", "--runs", folder, "--to", "csv"),
    ]
    if "PYTHONUTF8" in locale:  # no library can take such a path there
        found += troubles(cold(*commands.pop(1), env=locale).end(), 2, about="LC_ALL=C.UTF-8")
        commands = commands[:2]
    for argv in commands:
        found += troubles(cold(*argv, env=locale).end(), 0, 4)
    tally("other locales", all=len(commands), failed=len(found))
    none(found)


ODD = {
    "a run name of 5,000 letters": ("show", "x" * 5000),
    "a name with an escape": ("show", "\x1b[2Jred"),
    "a file name with an escape": ("check", "\x1b[2Jred.yaml"),
    "an option with an escape": ("check", "{config}", "--set", "model.\x1b[2J=1"),
    "a value with an escape": ("check", "{config}", "--set", "name=\x1b[2J"),
    "a column with an escape": ("show", "{run}", "--statistic", "\x1b[2J"),
    "a folder with an escape": ("runs", "--runs", "\x1b[2J"),
    "an axis with an escape": ("sweep", "{config}", "--plan", "--axis", "model.activation=\x1b[2J,relu"),
    "a path with an escape": ("export", "{run}", "--to", "csv", "--output", "/dev/null/\x1b[2J"),
    "a module with two dots": ("verify", "--import", "..x"),
    "a module of a name that is none": ("verify", "--import", "a b"),
    "a module that is broken": ("verify", "--import", "."),
    "an empty name": ("show", ""),
    "a run that is a file": ("show", "{config}"),
    "the root": ("show", "/"),
    "a NUL in --set": ("check", "{config}", "--set", "name=a\x07b"),
    "memory of nonsense": ("sweep", "{config}", "--plan", "--memory", "\x1b[2J"),
    "runs in a file": ("runs", "--runs", "{config}"),
    "training into a file": ("train", "{config}", "--runs", "{config}"),
    "training below a file": ("train", "{config}", "--runs", "{config}/runs"),
    "a report onto a folder": ("report", "{run}", "-o", "/tmp"),
    "a report below a file": ("report", "{run}", "-o", "{config}/x/page.html"),
    "a report onto a device": ("report", "{run}", "-o", "/dev/full"),
    "a comparison onto a device": ("compare", "{run}", "{run}", "--html", "/dev/full"),
    "a comparison onto another file": ("compare", "{run}", "{run}", "--html", "{config}"),
    "a cure onto a folder": ("cure", "{run}", "--write", "/tmp"),
    "a new config elsewhere": ("new", "/nowhere/x"),
    "a new config of an odd name": ("new", "\x1b[2J"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_arguments_are_refused_in_a_line(name, copy_of: Callable, warm: Warm, tmp_path: Path, tally: Callable):
    run, config = copy_of("whole"), tmp_path / "config.yaml"
    config.write_text(samples.text(samples.SINGLE))
    outcome = warm(*(word.format(config=config, run=run) for word in ODD[name]), cwd=tmp_path)
    found = troubles(outcome, 0 if name == "a folder with an escape" else 2, 2, 4, lines=4)
    tally("odd arguments", all=1, failed=len(found))
    none(found)


@pytest.mark.parametrize("command", ["train", "overwrite", "resume", "sweep"])
@pytest.mark.parametrize("target", ["a folder", "nothing", "itself"])
def test_a_run_directory_that_is_a_link_is_refused_or_followed(
    target, command, shared: Path, copy_of: Callable, warm: Warm, tmp_path: Path, tally: Callable
):
    other = copy_of("other")
    argv, expected = filled_in(command, shared, tmp_path, other.parent)
    link, notes = other.parent / expected.name, tmp_path / "elsewhere" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    link.symlink_to({"a folder": notes.parent, "nothing": tmp_path / "nothing", "itself": link}[target])
    outcome: Outcome = warm(*argv)
    found = troubles(outcome, 0, 2, 4)
    if notes.read_text() != "mine" or not link.is_symlink():
        found.append(f"what was there is gone:\n{outcome}")
    tally("links", all=1, failed=len(found))
    none(found)


def test_overwriting_deletes_nothing_that_vgx_did_not_write(
    copy_of: Callable, shared: Path, warm: Warm, tmp_path: Path, tally: Callable
):
    found = []
    for command, sample in (("overwrite", "whole"), ("sweep", "grid")):
        run = copy_of(sample)
        mine = [run / "notes.txt", run / "metrics" / "mine.csv", run / "thoughts" / "a.md"]
        for path in mine:
            path.parent.mkdir(exist_ok=True)
            path.write_text("mine")
        argv, _ = filled_in(command, shared, tmp_path, run.parent)
        outcome = warm(*argv, *(["--overwrite"] if command == "sweep" else []))
        found += troubles(outcome, 0, 2, lines=3)
        kept = [path.read_text() for path in run.parent.rglob("*") if path.name in ("notes.txt", "mine.csv", "a.md")]
        if len(kept) < 3:
            found.append(f"{3 - len(kept)} files that vgx did not write are gone:\n{outcome}")
    foreign = tmp_path / "foreign" / the_run(shared / "whole").name
    foreign.mkdir(parents=True)
    for name in ("meta.json", "thesis.tex"):
        (foreign / name).write_text("{}")
    argv, _ = filled_in("overwrite", shared, tmp_path, foreign.parent)
    outcome = warm(*argv)
    found += troubles(outcome, 2)
    if not (foreign / "thesis.tex").exists():
        found.append(f"a folder that is no run is gone:\n{outcome}")
    tally("overwritings", all=3, failed=len(found))
    none(found)
