"""What comes next: the command that goes on, as a shell takes it, beside the result and never in it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.cli.hints import same_command, say_next, short_name
from vgx.cli.options import fail
from vgx.cli.train import say_what_follows
from vgx.runner.loop import Interrupted

NET = "name: net\nmodel: {depth: 2, width: 4}\ntrain: {steps: 2, batch_size: 16}\n"


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    """A config in a folder that the command runs in; `vgx` is found by the shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda word: f"/usr/bin/{word}" if word == "vgx" else None)
    Path("net.yaml").write_text(NET)
    return Path("net.yaml")


def command(*words: object):
    return CliRunner().invoke(app, list(map(str, words)))


def test_a_training_names_its_page_and_standard_output_ends_with_the_verdict(config, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/vgx"])
    run = command("train", config)
    assert run.stderr == "next: vgx report net\n"
    assert run.stdout.splitlines()[-1].split("  ")[1].startswith("runs/net-")
    for quiet in ("--quiet", "--json"):
        assert command("train", config, "--resume", quiet).stderr == ""
    (found,) = Path("runs").glob("net-*")
    shutil.copytree(found, "runs/net-00000000")
    # Two runs of one name: the directory's tells them apart, and finds the one that was meant.
    other = command("train", config, "--resume")
    assert other.stderr == f"next: vgx report {found.name}\n"
    assert command("show", found.name).stderr == ""


def test_a_folder_of_runs_that_was_told_is_told_again(config, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/vgx"])
    say_next("report", "net", runs=Path("other place"))
    assert capsys.readouterr().err == "next: vgx report net --runs 'other place'\n"


def test_a_sweep_names_its_page_and_lanes_that_failed_are_tried_again(config, monkeypatch, capsys):
    words = ["sweep", "net.yaml", "--axis", "model.activation=relu,tanh"]
    monkeypatch.setattr(sys, "argv", ["vgx", *words])
    assert command(*words).stderr == "next: vgx report net\n"
    some_failed: Any = SimpleNamespace(lanes=lambda: pa.table({"status": ["done", "failed"]}))
    say_what_follows(some_failed, config, Path("runs"))
    again = "next: vgx sweep net.yaml --axis model.activation=relu,tanh --retry failed\n"
    assert capsys.readouterr().err == again


@pytest.mark.parametrize(
    ("words", "add", "line"),
    [
        (
            ["train", "a b.yaml", "--set", "train.optimizer={name: adam}", "--overwrite"],
            ["--resume"],
            "vgx train 'a b.yaml' --set 'train.optimizer={name: adam}' --resume",
        ),
        (["train", "net.yaml", "--resume", "--runs", "x"], ["--resume"], "vgx train net.yaml --resume --runs x"),
        (["sweep", "net.yaml", "--axis", "depth=1,2"], [], "vgx sweep net.yaml --axis depth=1,2"),
        (["train", "-", "--set", "a=-"], ["--resume"], "vgx train net.yaml --set a=- --resume"),
    ],
)
def test_the_command_that_goes_on_is_the_same_one_quoted(config, monkeypatch, words, add, line):
    monkeypatch.setattr(sys, "argv", ["/opt/venv/bin/vgx", *words])
    assert same_command(add, config) == line


def test_where_a_shell_does_not_find_vgx_it_is_called_as_it_was(config, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda word: None)
    monkeypatch.setattr(sys, "argv", [".venv/bin/vgx", "train", "net.yaml"])
    assert same_command() == ".venv/bin/vgx train net.yaml"
    monkeypatch.setattr(sys, "argv", ["/a/vgx/__main__.py", "train", "net.yaml"])
    monkeypatch.setattr(sys, "orig_argv", ["bin/python", "-m", "vgx"])
    assert same_command() == "bin/python -m vgx train net.yaml"


@pytest.mark.parametrize("quiet", [False, True])
def test_ctrl_c_leaves_the_command_that_goes_on(config, monkeypatch, quiet):
    def stopped(*_, **__):
        raise Interrupted("runs/net: stopped at step 1 of 2, and saved; --resume goes on")

    monkeypatch.setattr(vgx, "train", stopped, raising=False)
    words = ["train", "net.yaml", "--set", "train.optimizer={name: adam}", *["--quiet"] * quiet]
    monkeypatch.setattr(sys, "argv", ["vgx", *words])
    notes = getattr(command(*words).exception, "__notes__", [])
    assert notes == ([] if quiet else ["next: vgx train net.yaml --set 'train.optimizer={name: adam}' --resume"])


def test_what_goes_on_stands_below_what_happened(capsys):
    with pytest.raises(SystemExit):
        fail("net: stopped", 130, "next: vgx train net.yaml --resume")
    assert capsys.readouterr().err == "net: stopped\nnext: vgx train net.yaml --resume\n"


def test_a_cure_leads_to_its_proof_and_a_proof_to_the_comparison(config, monkeypatch):
    config.write_text(NET.replace("depth: 2, width: 4", "depth: 30, width: 16, initializer: glorot_normal"))
    monkeypatch.setattr(sys, "argv", ["vgx", "cure", "net.yaml"])
    assert command("cure", config).stderr == "next: vgx cure net.yaml --prove\n"
    assert command("cure", config, "--write", "well.yaml").stderr == "next: vgx train well.yaml\n"
    assert command("cure", config, "--json").stderr == ""
    proofs: list[Any] = [SimpleNamespace(path=f"runs/{name}") for name in ("net-1", "lost-2", "net-cured-3")]
    monkeypatch.setattr("vgx.cli.predict._proven", lambda *_: proofs)
    monkeypatch.setattr("vgx.report.terminal.cure.proof_table", lambda _: "proven")
    assert command("cure", config, "--prove").stderr == "next: vgx compare net-1 net-cured-3\n"
    well = vgx.load_config({"name": "well", "model": {"depth": 2, "width": 4}})
    Path("healthy.yaml").write_text(well.to_yaml())
    assert command("cure", "healthy.yaml").stderr == ""


def test_runs_are_listed_for_scripts_too(write_run):
    metrics = {"train_loss": np.ones((2, 2)), "test_accuracy": np.array([[0.1, 0.1], [0.5, np.nan]])}
    run = write_run({"name": "net", "model": {"depth": 2, "width": 4}}, {}, metrics)
    assert short_name(run.path) == "net"
    result = command("runs", "--runs", run.path.parent, "--json")
    assert json.loads(result.stdout) == {
        "runs": [
            {
                "run": str(run.path),
                "name": "net",
                "status": "done",
                "step": 2,
                "sweep": False,
                "lanes": 2,
                "verdicts": {"healthy": 2},
                "slope": -0.5,
                "test_accuracy": None,
            }
        ]
    }
    assert json.loads(command("runs", "--runs", "nowhere", "--json").stdout) == {"runs": []}
