"""A run that lost a file, or had one altered: nothing is silently short, and every reader says which file it is."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.errors import Damaged, EnvironmentFault, RunError, VgxError
from vgx.results import manifest
from vgx.results.reading import FORMAT
from vgx.results.store import Run, find_runs
from vgx.results.writer import RunWriter
from vgx.runner import loop, preparation

SMALL = {
    "name": "small",
    "model": {"depth": 2, "width": 8},
    "train": {"steps": 40, "batch_size": 32, "evaluate_every": 10},
}
GRID = {"sweep": {"axes": {"model.initializer": ["he_normal", "lecun_normal"]}}, "seeds": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "FLUSH_SECONDS", 0.0)  # many parts
        return vgx.train(vgx.load_config(SMALL), runs=tmp_path_factory.mktemp("runs")).path


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "FLUSH_SECONDS", 0.0)
        return vgx.sweep(vgx.load_sweep(SMALL | GRID), runs=tmp_path_factory.mktemp("runs")).path


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / trained.name))


@pytest.fixture
def copy_of_sweep(swept, tmp_path) -> Path:
    return Path(shutil.copytree(swept, tmp_path / swept.name))


def tables(path: Path) -> tuple[pa.Table, ...]:
    run = Run(path)
    return run.metrics(), run.layers(), run.lanes(), run.prediction()


def going_on(path: Path) -> None:
    """Makes a run one that was cut off."""
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | {"status": "running"}))


def said(*command: str) -> tuple[int, str]:
    """The exit code of a command and what it says of a fault, seen to be no traceback."""
    result = CliRunner().invoke(app, list(command))
    assert isinstance(result.exception, VgxError), result.output
    return result.exception.exit_code, result.exception.on_command_line


@pytest.mark.parametrize("table", ["metrics", "layers"])
@pytest.mark.parametrize("harm", ["missing", "cut", "altered", "other"])
def test_a_part_that_is_not_what_was_written_is_named_by_reading_and_by_resuming(copy, table, harm):
    part = sorted((copy / table).glob("*.parquet"))[1]
    content = part.read_bytes()
    match harm:
        case "missing":
            part.unlink()
        case "cut":
            part.write_bytes(content[:-40])
        case "altered":
            part.write_bytes(bytes([*content[:100], content[100] ^ 1, *content[101:]]))
        case "other":
            parquet.write_table(pa.table({"a": [1]}), part)
    with pytest.raises(Damaged, match=part.name):
        getattr(Run(copy), table)()
    with pytest.raises(Damaged, match=part.name):
        vgx.train(vgx.load_config(SMALL), runs=copy.parent, resume=True)
    code, error = said("show", str(copy))
    assert (code, len(error.splitlines())) == (2, 1)
    assert f"{table}/{part.name}" in error


def test_a_run_cut_off_does_not_go_on_over_a_hole(copy):
    going_on(copy)
    sorted((copy / "layers").glob("*.parquet"))[0].unlink()
    with pytest.raises(Damaged, match=r"layers/000000.parquet: is missing, with \d+ rows"):
        vgx.train(vgx.load_config(SMALL), runs=copy.parent, resume=True)


def test_what_a_kill_left_out_of_the_list_is_no_part_of_the_run(copy):
    before = tables(copy)
    going_on(copy)
    stray = copy / "layers" / "000099.parquet"
    shutil.copy(copy / "layers" / "000000.parquet", stray)
    with (copy / manifest.FILE).open("a") as file:
        file.write('{"file": "layers/000099.par')
    assert all(a.equals(b) for a, b in zip(before, tables(copy), strict=True))
    writer = RunWriter(copy)
    writer.drop_after(40)
    writer.close()
    assert not stray.exists()
    assert all(a.equals(b) for a, b in zip(before, tables(copy), strict=True))


def test_a_done_run_without_its_lane_table_says_so_and_gets_it_again(copy):
    whole = tables(copy)[2]
    (copy / "lanes.parquet").unlink()
    with pytest.raises(Damaged, match=r"lanes.parquet: is missing.*resume=True to make it from the tables"):
        Run(copy).lanes()
    vgx.train(vgx.load_config(SMALL), runs=copy.parent, resume=True)
    assert Run(copy).lanes().equals(whole)


@pytest.mark.parametrize("harm", ["missing", "short", "unreadable"])
def test_a_finished_sweep_makes_a_lost_lane_table_again(copy_of_sweep, harm):
    table, path = Run(copy_of_sweep).lanes(), copy_of_sweep / "lanes.parquet"
    match harm:
        case "missing":
            path.unlink()
        case "short":
            parquet.write_table(table.slice(0, 1), path)
        case "unreadable":
            path.write_bytes(b"PAR1 and nothing")
    with pytest.raises(Damaged, match=r"lanes.parquet"):
        Run(copy_of_sweep).lanes()
    again = vgx.sweep(vgx.load_sweep(SMALL | GRID), runs=copy_of_sweep.parent)
    assert again.status == "done"
    assert again.lanes().equals(table)


def test_a_sweep_whose_lanes_cannot_be_told_is_refused(copy_of_sweep):
    (copy_of_sweep / "lanes.parquet").unlink()
    for path in (copy_of_sweep / "rounds").glob("*.json"):
        state = json.loads(path.read_text())
        path.write_text(json.dumps({key: state[key] for key in state if key not in ("cells", "seeds")}))
    with pytest.raises(Damaged, match="has no lane 0; the run is damaged"):
        vgx.sweep(vgx.load_sweep(SMALL | GRID), runs=copy_of_sweep.parent)


def test_a_sweep_that_lost_a_round_is_not_trained_twice(copy_of_sweep):
    (copy_of_sweep / "rounds" / "0000.json").unlink()
    with pytest.raises(Damaged, match=r"rounds/0000.json: is missing"):
        vgx.sweep(vgx.load_sweep(SMALL | GRID), runs=copy_of_sweep.parent)


def test_a_sweep_with_another_base_is_refused_though_its_lane_table_is_gone(copy_of_sweep):
    (copy_of_sweep / "lanes.parquet").unlink()
    with pytest.raises(RunError, match="began with another base config"):
        vgx.sweep(vgx.load_sweep(SMALL | GRID, ["train.batch_size=16"]), runs=copy_of_sweep.parent)


HARMS = {
    "empty": b"",
    "binary": bytes(range(256)),
    "a list": b"[1, 2]",
    "a word": b"status",
    "an object of nothing": b"{}",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("file", ["meta.json", "config.yaml", "lanes.parquet", "prediction.parquet", manifest.FILE])
@pytest.mark.parametrize("harm", HARMS)
def test_every_file_passes_one_gate_and_one_bad_run_does_not_hide_the_others(copy, trained, file, harm):
    (copy / file).write_bytes(HARMS[harm])
    shutil.copytree(trained, copy.parent / "sound-run")
    code, error = said("report", str(copy))
    assert (code, len(error.splitlines())) == (2, 1)
    assert f"{copy}/{file}: " in error
    listed = CliRunner().invoke(app, ["runs", "--runs", str(copy.parent)], env={"COLUMNS": "120"})
    assert listed.exit_code == 0
    assert "sound-run" in listed.output
    if file in ("meta.json", "config.yaml", "lanes.parquet"):
        assert f"{copy.name} damaged" in " ".join(listed.output.split())


def test_a_run_whose_list_is_emptied_is_not_a_run_of_no_rows(copy):
    (copy / manifest.FILE).write_bytes(b"")
    with pytest.raises(Damaged, match=r"parts.jsonl: does not list metrics/000000.parquet"):
        Run(copy).metrics()
    going_on(copy)
    with pytest.raises(Damaged, match=r"lists rows up to step 0, and the checkpoint is of step 40"):
        vgx.train(vgx.load_config(SMALL), runs=copy.parent, resume=True)
    assert len(list((copy / "layers").iterdir())) > 1


@pytest.mark.parametrize("file", ["meta.json", "lanes.parquet", "layers/000000.parquet", manifest.FILE])
def test_what_would_never_end_is_not_waited_for(copy, file):
    (copy / file).unlink()
    os.mkfifo(copy / file)
    with pytest.raises(Damaged, match=r"regular file|bytes"):
        tables(copy)


def test_a_copy_that_somebody_left_beside_the_parts_is_not_read(copy):
    before = tables(copy)
    shutil.copy(copy / "metrics" / "000000.parquet", copy / "metrics" / "000000 (copy).parquet")
    assert all(a.equals(b) for a, b in zip(before, tables(copy), strict=True))


def test_no_thread_of_arrow_reads_a_file_of_pythons(trained, monkeypatch):
    """One that does aborts the process at its exit, one time in ten; a run that ends so proves nothing, so look."""
    read, seen = parquet.read_table, []
    monkeypatch.setattr(parquet, "read_table", lambda file, **how: (seen.append(type(file)), read(file, **how))[1])
    Run(trained).lanes()
    assert set(seen) == {pa.OSFile}


def test_a_table_that_the_machine_refuses_is_not_called_damaged(trained, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(pyarrow.dataset, "dataset", refuse)
    with pytest.raises(EnvironmentFault, match="layers: cannot read: Too many open files"):
        Run(trained).layers()


def test_a_damaged_checkpoint_is_one_line(copy):
    going_on(copy)
    for path in (copy / "checkpoint").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Damaged, match=r"checkpoint/000000040: cannot be read"):
        vgx.train(vgx.load_config(SMALL), runs=copy.parent, resume=True)


def test_a_newer_format_is_refused_by_name_and_an_older_one_is_read(copy):
    before = tables(copy)
    meta = json.loads((copy / "meta.json").read_text())
    assert meta["format"] == FORMAT
    (copy / "meta.json").write_text(json.dumps(meta | {"format": FORMAT + 1}))
    with pytest.raises(RunError, match=f"format {FORMAT + 1} is newer than this vgx, which reads up to {FORMAT}"):
        Run(copy).metrics()
    del meta["format"]
    (copy / "meta.json").write_text(json.dumps(meta))
    (copy / manifest.FILE).unlink()
    assert all(a.equals(b) for a, b in zip(before, tables(copy), strict=True))


@pytest.mark.skipif(os.geteuid() != 0, reason="takes the place of another user")
@pytest.mark.parametrize("what", ["metrics", "layers", "meta.json", "lanes.parquet", manifest.FILE, "."])
def test_what_may_not_be_read_is_no_empty_table(copy, what):
    Run(copy).layers()  # whatever is imported late is imported now
    modes = {folder: folder.stat().st_mode for folder in copy.parents}
    for folder, mode in modes.items():
        folder.chmod(mode | 0o011)
    copy.chmod(0o755)
    (copy / what).chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(RunError, match="ermission denied"):
            tables(copy)
    finally:
        os.seteuid(0)
        for folder, mode in modes.items():
            folder.chmod(mode)


def test_runs_of_format_1_are_held_against_the_schema(copy):
    meta = json.loads((copy / "meta.json").read_text())
    del meta["format"]
    (copy / "meta.json").write_text(json.dumps(meta))
    (copy / manifest.FILE).unlink()
    part = sorted((copy / "layers").glob("*.parquet"))[0]
    parquet.write_table(Run(copy).layers().drop_columns(["lane"]), part)
    with pytest.raises(Damaged, match=f"{part.name}: has no column 'lane'"):
        Run(copy).layers()


def test_flushes_stay_near_each_other_and_rows_do_not_pile_up(tmp_path, monkeypatch):
    """Whatever a checkpoint costs, rows go to disk by time and by size; a kill then goes on to the same bits."""
    monkeypatch.setattr(loop, "FLUSH_BYTES", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 1e-9)  # as if one took for ever: one alone, at the end
    monkeypatch.setattr(preparation, "CHUNK_BYTES", 2000)
    run = vgx.train(vgx.load_config(SMALL), runs=tmp_path)
    parts = manifest.read(run.path)
    assert parts is not None
    assert len(parts) >= 8
    rows = [part.rows for part in parts.values() if part.file.startswith("layers")]
    assert max(rows) <= 36
    assert sum(rows) == 40 * 3


def test_find_runs_lists_what_is_left_of_a_run(copy):
    (copy / "meta.json").unlink()
    (found,) = find_runs(copy.parent)
    with pytest.raises(Damaged, match=r"meta.json: is missing"):
        _ = found.status
