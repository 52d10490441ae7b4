"""The names of runs: which run a word stands for, and that no two different nets answer to one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.errors import RunError
from vgx.results.store import find_run, runs_called
from vgx.theory.cure import slower


@pytest.fixture
def runs(write_run) -> Path:
    """Two runs of one config's name and one whose name goes on from it, the newest last in this order."""
    net = {"model": {"depth": 2, "width": 4}, "train": {"steps": 2}}
    loss, layers = {"train_loss": np.ones((2, 1))}, {"delta_log10": np.zeros((2, 1, 3))}
    folder = write_run(net | {"name": "he-relu"}, layers, loss).path.parent
    for age, name in enumerate(("xavier-relu-00000001", "xavier-relu-00000002", "xavier-relu-cured-00000003")):
        shutil.copytree(next(folder.glob("he-relu-*")), folder / name)
        os.utime(folder / name, (1e9 + age, 1e9 + age))
    return folder


def command(*words: object):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("xavier-relu-00000002", ["xavier-relu-00000002"]),
        ("xavier-relu-cured", ["xavier-relu-cured-00000003"]),
        ("xavier-relu-c", ["xavier-relu-cured-00000003"]),
        ("xavier-relu", ["xavier-relu-00000002", "xavier-relu-00000001"]),  # a cured net has another name
        ("xav", ["xavier-relu-cured-00000003", "xavier-relu-00000002", "xavier-relu-00000001"]),
        ("nothing", []),
    ],
)
def test_a_directory_goes_before_a_config_and_a_config_before_the_beginning_of_a_name(runs, word, found):
    assert [run.path.name for run in runs_called(word, runs)] == found


def test_show_and_export_say_which_of_several_runs_they_took(runs, tmp_path):
    for words in (["show"], ["export", "--to", "csv", "--output", tmp_path / "out"]):
        result = command(words[0], "xavier-relu", *words[1:], "--runs", runs)
        assert result.exit_code == 0, result.output
        assert result.stderr == (
            "'xavier-relu' names 2 runs: this is xavier-relu-00000002, the newest; also xavier-relu-00000001\n"
        )
        assert "names 2 runs" not in result.stdout
    assert command("show", "xavier-relu-cured", "--runs", runs).stderr == ""


@pytest.mark.parametrize("words", [["compare", "he-relu", "xavier-relu"], ["report", "xavier-relu"]])
def test_compare_and_report_refuse_a_name_of_several_runs_and_list_them(runs, words):
    result = command(*words, "--runs", runs)
    assert isinstance(result.exception, RunError)
    assert result.exception.exit_code == 2
    assert str(result.exception).splitlines() == [
        "xavier-relu: 2 runs are called so; say which, by its directory's name:",
        "  xavier-relu-00000002",
        "  xavier-relu-00000001",
    ]


@pytest.mark.parametrize(
    ("word", "meant"),
    [("he-rleu", "he-relu"), ("xavier-relu-curd", "xavier-relu-cured"), ("runs/xavier-rlu", "xavier-relu")],
)
def test_a_mistyped_run_is_asked_back_for(runs, word, meant):
    with pytest.raises(RunError, match=f"{word}: does not exist; did you mean '{meant}'\\?$"):
        find_run(word, runs)


def test_a_word_near_to_nothing_is_shown_the_way_to_the_list(runs):
    with pytest.raises(RunError, match="quite-another: does not exist; `vgx runs` lists the runs there are"):
        find_run("quite-another", runs)


def test_what_proves_a_cure_has_a_name_of_its_own():
    sick = vgx.load_config({"name": "sick", "train": {"optimizer": {"name": "sgd", "learning_rate": 0.5}}})
    assert [config.name for _, config in slower(sick)] == [
        "sick-cured",
        "sick-cured-rate-0.05",
        "sick-cured-rate-0.005",
    ]
    longest = vgx.load_config({"name": "x" * 100})
    for _, config in slower(longest):
        assert vgx.load_config(config.model_dump(mode="json", exclude_none=True)) == config
