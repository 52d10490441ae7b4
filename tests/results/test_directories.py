"""The life of a run directory: made, replaced, removed, locked, and killed at every moment of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.errors import RunError
from vgx.export import export
from vgx.report import markdown
from vgx.report.html.write import write_report
from vgx.results import files, recognition
from vgx.results.store import find_runs
from vgx.results.writer import RunWriter

CONFIG = "name: made\nmodel: {depth: 2, width: 8}\ntrain: {steps: 4, batch_size: 32}\n"
GONE = 2**22 - 1
"""The number of no process: Linux has none above 2**22."""


@pytest.fixture
def run(write_run):
    ones = np.ones((3, 1))
    settings = {"name": "made", "model": {"depth": 2, "width": 8}, "train": {"steps": 3, "batch_size": 32}}
    metrics = {"train_loss": ones, "train_accuracy": ones, "test_loss": ones, "test_accuracy": ones}
    return write_run(settings, {"delta_log10": np.ones((3, 1, 3))}, metrics)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; not the locks."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith(".lock")}


def called(folder: Path, kind: str, process: int = GONE, host: str | None = None) -> Path:
    """The hidden name beside a folder of what a process has on its way."""
    return folder.with_name(f".{folder.name}.{host or files.host()}.{process}.{kind}")


def python(script: str, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """Runs a script in a Python of its own."""
    words = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, **options)


# Kills

KILLED = """
    import json, os, shutil, sys
    from pathlib import Path
    from vgx.results import directories, store, writer

    root = Path(sys.argv[1])
    path, kept = root / "runs/made", root / "kept"

    def at(step, act):
        # Does it in a process that dies before its step-th change of the file system; whether it came to its end.
        left = [step]
        def count(event, arguments):
            if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") and str(root) in str(arguments[0]):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)
        child = os.fork()
        if child == 0:
            sys.addaudithook(count)
            act()
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0

    def look():
        files = {str(p.relative_to(path)): p.read_text(errors="replace") for p in path.rglob("*") if p.is_file()}
        return {name: text for name, text in files.items() if name != ".lock"} if path.exists() else None

    before, seen, step, ended = None, [], 0, False
    while not ended:
        step += 1
        shutil.rmtree(root / "runs", ignore_errors=True)
        shutil.copytree(kept, path)
        before = before or look()
        ended = at(step, lambda: ACT)
        directories.recover(root / "runs")
        left = [p.name for p in (root / "runs").iterdir() if p.name != "made"]
        seen.append([look() == before, look(), left])
    print(json.dumps(seen))
"""


def after_kills(tmp_path: Path, run, act: str) -> list:
    """What is left when a process dies before its first, second, ... change, and another one looks: whether the run
    is as it was, its files, and what else there is. The last one did not die."""
    run.path.rename(tmp_path / "kept")
    (tmp_path / "kept/notes.txt").write_text("mine")
    (tmp_path / "kept/plots").mkdir()
    (tmp_path / "kept/plots/a.txt").write_text("mine")
    done = python(KILLED.replace("ACT", act), tmp_path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_kill_while_a_run_is_replaced_leaves_the_old_one_whole_or_the_new_one(run, tmp_path):
    act = "writer.RunWriter.create(path, 'name: new', {'status': 'running'}, overwrite=True)"
    seen = after_kills(tmp_path, run, act)
    assert len(seen) > 15  # so many moments
    turns = [is_old for is_old, _, _ in seen]
    assert turns[0]
    assert not turns[-1]
    assert turns == sorted(turns, reverse=True)  # from some moment on it is the new one
    for is_old, kept, left in seen:
        assert left == []
        assert {"notes.txt", "plots/a.txt"} <= set(kept)
        if not is_old:
            assert kept["config.yaml"] == "name: new"
            assert [name for name in kept if name.endswith(".parquet")] == ["prediction.parquet"]


def test_a_kill_while_a_run_is_removed_leaves_it_whole_or_gone(run, tmp_path):
    seen = after_kills(tmp_path, run, "directories.remove(path)")
    assert len(seen) > 10
    for is_old, kept, left in seen:
        assert left == []
        assert is_old or kept == {"notes.txt": "mine", "plots/a.txt": "mine"}
    assert not seen[-1][0]


def test_a_kill_while_an_export_is_replaced_leaves_one_of_them(run, tmp_path):
    act = "__import__('vgx.export').export.export(store.Run(path), 'csv', root / 'out', overwrite=True)"
    export(run, "csv", tmp_path / "out")
    before = contents(tmp_path / "out")
    script = KILLED.replace("ACT", act).replace('directories.recover(root / "runs")', "directories.recover(root)")
    run.path.rename(tmp_path / "kept")
    script = script.replace("seen.append([", "seen.append([sorted(p.name for p in root.iterdir()), ")
    done = python(script, tmp_path)
    assert done.returncode == 0, done.stderr
    for names, *_ in json.loads(done.stdout):
        assert names == ["kept", "out", "runs"]
        assert set(contents(tmp_path / "out")) == set(before)


# Leftovers


@pytest.mark.parametrize("lock", [True, False], ids=["locked", "unlocked"])
def test_what_a_dead_process_left_is_cleared_and_what_another_has_stays(lock, tmp_path):
    path = tmp_path / "made"
    others = {
        "alive": called(path, "new", os.getppid()),
        "elsewhere": called(path, "new", host="another-machine"),
        "namesake": called(tmp_path / "made.b", "new"),
        "dead": called(path, "new"),
    }
    for folder in others.values():
        (folder / "metrics").mkdir(parents=True)
        if lock:
            (folder / ".lock").touch()
    if lock:
        import fcntl

        held = os.open(others["alive"] / ".lock", os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX)
    RunWriter.create(path, CONFIG, {"status": "running"}).close()
    assert {name for name, folder in others.items() if folder.exists()} == {"alive", "elsewhere", "namesake"}
    find_runs(tmp_path)
    assert {name for name, folder in others.items() if folder.exists()} == {"alive", "elsewhere"}
    if lock:
        os.close(held)


def test_the_draft_of_a_run_says_whose_it_is(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Path, "rename", lambda old, new: (seen.append(old.name), os.rename(old, new)))
    RunWriter.create(tmp_path / "made", CONFIG, {"status": "running"}).close()
    assert f".made.{socket.gethostname()}.{os.getpid()}.new" in seen


def test_listing_runs_puts_back_one_whose_replacement_was_killed(run):
    before = contents(run.path)
    run.path.rename(called(run.path, "old"))
    assert [found.path for found in find_runs(run.path.parent)] == [run.path]
    assert contents(run.path) == before


def test_drafts_of_pages_and_exports_of_dead_processes_go(run, tmp_path):
    page, npz = tmp_path / "page.html", tmp_path / "run.npz"
    stray = [called(page, "new"), called(npz, "new")]
    for path in stray:
        path.touch()
    (called(tmp_path / "csv", "new") / "half").mkdir(parents=True)
    with files.drafted(page) as draft:
        draft.write_text("whole")
    export(run, "npz", npz)
    export(run, "csv", tmp_path / "csv")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# What vgx wrote, and what it did not


def test_all_that_vgx_writes_is_known_as_such(run, monkeypatch):
    monkeypatch.setattr("vgx.report.html.write.bundle", lambda: "")
    monkeypatch.setattr("vl_convert.vegalite_to_svg", lambda *_, **__: "<svg></svg>")
    monkeypatch.setattr("vl_convert.svg_to_png", lambda *_, **__: b"\x89PNG\r\n\x1a\n" + bytes(25))
    write_report(run)
    for to in ("csv", "npz", "tensorboard"):
        export(run, to)
    (run.path / "checkpoint/000000003/d").mkdir(parents=True)
    (run.path / "checkpoint/000000003/d/abc").touch()
    (run.path / "checkpoint/000000004.orbax-checkpoint-tmp/d").mkdir(parents=True)
    for name in (".meta.json.tmp", "metrics/.000001.parquet.tmp"):
        (run.path / name).touch()
    assert recognition.sort(run.path).others == []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.path.parent)
        done = CliRunner().invoke(app, ["rm", str(run.path), "--yes"])
    assert done.output == f"{run.path}: deleted\n"
    assert not run.path.exists()


FOREIGN = ("notes.txt", "plots/a.png", "metrics/mine.csv", "checkpoint/keep/w.npy", "figures/mine.png", "report.html")


def test_overwriting_leaves_what_vgx_did_not_write_where_it_is_and_says_so(run, caplog):
    for name in FOREIGN:
        (run.path / name).parent.mkdir(exist_ok=True, parents=True)
        (run.path / name).write_text(f"my {name}")
    writer = RunWriter.create(run.path, CONFIG, {"status": "running"}, overwrite=True)
    writer.close()
    for name in FOREIGN:
        assert (run.path / name).read_text() == f"my {name}"
    assert sorted(contents(run.path)) == sorted(
        [*FOREIGN, "config.yaml", "meta.json", "parts.jsonl", "prediction.parquet"]
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"{run.path}: kept what vgx did not write: checkpoint/keep, figures/mine.png, metrics/mine.csv, notes.txt, "
        "plots, ..."
    ]


def test_a_folder_that_is_no_run_is_neither_overwritten_nor_removed(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "meta.json").write_text("{}")
    (folder / "thesis.tex").write_text("years of work")
    before = contents(folder)
    with pytest.raises(RunError, match="is no run of vgx, and is left as it is"):
        RunWriter.create(folder, CONFIG, {"status": "running"}, overwrite=True)
    done = CliRunner().invoke(app, ["rm", str(folder), "--yes"])
    assert "is no run of vgx" in str(done.exception)
    assert contents(folder) == before


@pytest.mark.parametrize("text", [None, "", "{}", '{"status"'])
def test_a_run_without_its_meta_is_overwritten_when_all_else_is_of_vgx(text, run):
    (run.path / "meta.json").unlink()
    if text is not None:
        (run.path / "meta.json").write_text(text)
    RunWriter.create(run.path, CONFIG, {"status": "running"}, overwrite=True).close()
    assert json.loads((run.path / "meta.json").read_text())["status"] == "running"


def test_a_link_in_the_place_of_what_vgx_writes_is_not_followed(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/000000.parquet").write_text("precious")
    for path in (run.path / "layers").iterdir():
        path.unlink()
    (run.path / "layers").rmdir()
    (run.path / "layers").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"layers: vgx did not write this and needs its place"):
        RunWriter.create(run.path, CONFIG, {"status": "running"}, overwrite=True)
    assert (tmp_path / "elsewhere/000000.parquet").read_text() == "precious"
    assert run.status == "done"


def test_an_export_replaces_an_export_alone(run, tmp_path):
    npz = tmp_path / "weights.npz"
    np.savez(npz, config=np.ones(3))
    with pytest.raises(RunError, match="no export of vgx"):
        export(run, "npz", npz, overwrite=True)
    assert np.load(npz)["config"].sum() == 3
    folder = export(run, "csv")
    (folder / "mine.csv").write_text("my own")
    export(run, "csv", overwrite=True)
    assert (folder / "mine.csv").read_text() == "my own"
    (folder / "config.yaml").write_text("name: cured\n")
    own = export(run, "npz")
    assert export(run, "npz", overwrite=True) == own


def test_no_command_writes_over_a_file_that_is_not_its_own(run, tmp_path):
    file = tmp_path / "docs/CLAIMS.md"
    file.parent.mkdir()
    file.write_text("mine")
    for write in (
        lambda: files.write_new(file, "a cured config"),
        lambda: write_report(run, file),
        lambda: markdown.refuse_others(file),
    ):
        with pytest.raises(RunError, match=r"CLAIMS\.md: exists"):
            write()
    assert file.read_text() == "mine"
    files.write_new(file, "mine")  # which is there already


def test_a_new_file_makes_no_folder(tmp_path):
    with pytest.raises(RunError, match=r"new\.yaml: there is no folder .*nowhere; make it, or choose another place"):
        files.write_new(tmp_path / "nowhere/new.yaml", "a config")
    assert not (tmp_path / "nowhere").exists()


# Where a run is

HERE = {"name": "made", "model": {"depth": 2, "width": 8}, "train": {"steps": 3, "batch_size": 32}}


def test_a_link_to_a_folder_is_followed_and_stays(run, tmp_path):
    home = tmp_path / "disk/big"
    home.parent.mkdir()
    run.path.rename(home)
    run.path.symlink_to(home)
    RunWriter.create(run.path, CONFIG, {"status": "running"}, overwrite=True).close()
    assert run.path.is_symlink()
    assert json.loads((home / "meta.json").read_text())["status"] == "running"
    assert [path.name for path in home.parent.iterdir()] == ["big"]
    assert CliRunner().invoke(app, ["rm", str(run.path), "--yes"]).exit_code == 0
    assert not os.path.lexists(run.path)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: path.symlink_to("nowhere"), "is a link to .*, where nothing is"),
        (lambda path: path.write_text("text"), "is a file, and the run's directory would be there"),
        (lambda path: path.symlink_to(__file__), "is a file"),
        (lambda path: path.symlink_to(path), "is a link to"),
    ],
    ids=["dangling link", "file", "link to a file", "link to itself"],
)
def test_what_cannot_be_a_run_directory_gets_a_line(make, line, run):
    config = vgx.load_config(run.config)
    run.path.rename(run.path.with_name("moved"))
    make(run.path)
    for overwrite in (False, True):
        with pytest.raises(RunError, match=line):
            vgx.train(config, runs=run.path.parent, overwrite=overwrite)


def test_an_empty_folder_is_no_obstacle(tmp_path):
    (tmp_path / "made").mkdir()
    RunWriter.create(tmp_path / "made", CONFIG, {"status": "running"}).close()
    assert (tmp_path / "made/meta.json").is_file()


def test_resuming_and_overwriting_exclude_each_other(run):
    with pytest.raises(RunError, match="choose one"):
        vgx.train(vgx.load_config(run.config), runs=run.path.parent, resume=True, overwrite=True)


# Two at a time


@pytest.mark.parametrize("status", ["done", "running"])
def test_a_run_that_another_process_writes_is_left_alone_and_the_process_named(status, run, tmp_path):
    config = vgx.load_config(run.config)
    writer = RunWriter(run.path)
    writer.write_json("meta.json", run.meta | {"status": status})
    before = contents(run.path)
    tries = [
        lambda: vgx.train(config, runs=tmp_path),
        lambda: vgx.train(config, runs=tmp_path, resume=True),
        lambda: vgx.train(config, runs=tmp_path, overwrite=True),
        lambda: CliRunner().invoke(app, ["rm", str(run.path), "--yes"], catch_exceptions=False),
    ]
    for attempt in tries:
        with pytest.raises(RunError, match=rf"another vgx is writing this run \(process {os.getpid()}\)") as refused:
            attempt()
        assert "--overwrite" not in str(refused.value)
    writer.close()
    assert contents(run.path) == before


def test_a_run_that_another_process_is_replacing_is_left_alone(run):
    aside = called(run.path, "old", os.getppid())
    run.path.rename(aside)
    (aside / ".lock").unlink()
    with pytest.raises(RunError, match=rf"process {os.getppid()}"):
        RunWriter.create(run.path, CONFIG, {"status": "running"})
    assert aside.exists()


# vgx rm


def test_rm_asks_and_without_a_terminal_does_nothing(run):
    done = CliRunner().invoke(app, ["rm", str(run.path)], input="y\n")
    assert "no terminal to ask in; --yes goes ahead" in str(done.exception)
    assert run.path.exists()


@pytest.mark.parametrize(("answer", "stays"), [("y", False), ("", True), ("n", True)])
def test_rm_deletes_when_told_yes(answer, stays, run, monkeypatch):
    monkeypatch.setattr("vgx.cli.remove._can_ask", lambda: True)
    done = CliRunner().invoke(app, ["rm", str(run.path)], input=f"{answer}\n")
    assert done.exit_code == 0
    assert f"{run.path}\ndelete this run? [y/N]" in done.output
    assert run.path.exists() == stays


def test_rm_says_what_stays_and_finds_a_damaged_run_by_name(run):
    (run.path / "meta.json").write_text("")
    words = ["rm", "made", "--yes", "--runs", str(run.path.parent)]
    (run.path / "report.html").write_text("my own page")
    assert "no such run" in str(CliRunner().invoke(app, words).exception)  # it might be anyone's
    (run.path / "report.html").unlink()
    assert CliRunner().invoke(app, words).output == f"{run.path}: deleted\n"


def test_rm_takes_no_name_for_two(run, tmp_path):
    other = tmp_path / f"{run.path.name}-2"
    RunWriter.create(other, CONFIG, {"status": "running"}).close()
    (other / "notes.txt").write_text("mine")
    words = ["rm", "--runs", str(tmp_path), "--yes"]
    assert "2 runs begin so" in str(CliRunner().invoke(app, [*words, "made"]).exception)
    done = CliRunner().invoke(app, [*words, other.name])
    assert done.output == f"{other}: deleted; kept what vgx did not write: notes.txt\n"
    assert contents(other) == {"notes.txt": b"mine"}
    assert run.path.exists()


def test_a_run_is_read_where_there_is_no_fcntl_and_writing_one_is_refused(run, tmp_path):
    script = f"""
        import os, sys, numpy
        sys.modules["fcntl"] = None
        del os.uname, os.O_NONBLOCK, os.pread, os.pwrite
        import vgx
        from vgx.errors import EnvironmentFault
        from vgx.results import directories
        run = vgx.open_run({str(run.path)!r})
        run.lanes(), run.metrics(), run.layers(), run.verdict
        try:
            with directories.draft({str(tmp_path / "new")!r}):
                pass
        except EnvironmentFault as fault:
            print(fault)
    """
    done = python(script)
    assert done.returncode == 0, done.stderr
    assert "this system cannot lock a file" in done.stdout
