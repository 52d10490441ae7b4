"""`vgx doctor`, `vgx --version` and what a shell completes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vgx.cli import app
from vgx.cli.completion import config_files
from vgx.data.mirrors import FILES
from vgx.runner import doctor
from vgx.runner.doctor import Finding, examine


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, and no data set anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VGX_DATA_DIR", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda name: str(tmp_path / "cache" / name))


def found() -> dict[str, Finding]:
    return {one.name: one for one in examine(Path("runs"))}


def test_all_that_vgx_stands_on_is_said_once():
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["ok"] is True
    names = [one["name"] for one in said["findings"]]
    assert len(names) == len(set(names))
    wanted = {"vgx", "packages", "extras", "devices", "memory", "float32", "float64", "programs", "mnist", "runs"}
    assert wanted < set(names)
    table = CliRunner().invoke(app, ["doctor"]).stdout
    assert table.splitlines()[-1] == "all is well"
    assert [line.split()[0] for line in table.splitlines() if line[:1].strip()][: len(names)] == names


def test_what_is_wrong_is_said_with_a_way_out_and_the_exit_code_is_4(monkeypatch):
    monkeypatch.setenv("VGX_DATA_DIR", "/nowhere")
    result = CliRunner().invoke(app, ["doctor", "--runs", "/proc/runs"])
    assert result.exit_code == 4
    words = " ".join(result.stdout.split())
    assert "/nowhere there is no such folder; make it, or unset the variable" in words
    assert "/proc cannot be written to" in words
    assert words.endswith("2 things to mend")


def test_a_broken_data_file_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("VGX_DATA_DIR", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    for file in FILES:
        (tmp_path / "mnist" / file).write_bytes(b"no images")
    assert "`vgx data get mnist` fetches it anew" in found()["mnist"].fault
    assert not found()["kmnist"].fault


def test_products_that_are_less_exact_than_they_say_are_found(monkeypatch):
    assert not found()["float32"].fault
    monkeypatch.setitem(doctor.EXACT, "float32", 1e-9)  # as TF32 is to 1e-5
    assert "products are less exact than float32" in found()["float32"].fault


def test_a_full_disk_and_a_terminal_that_cannot_draw_are_found(monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_SPACE", 10**30)
    assert "make room" in found()["runs"].fault
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    fault = found()["encoding"].fault
    assert "set LC_ALL=C.UTF-8" in fault
    assert fault.isascii()


def test_a_jax_that_does_not_start_is_a_finding_and_no_traceback(monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr("jax.devices", devices)
    assert "jax does not start: Unable to initialize backend 'cuda'" in found()["devices"].fault


def test_the_version_is_printed():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"vgx {version('vgx')}\n"


def completed(line: str) -> list[str]:
    """What bash is offered for the last word of a line, and whether jax was met for it."""
    words = line.split(" ")
    told = {"_VGX_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    script = (
        "import sys; sys.argv = ['vgx']\nfrom vgx.cli import main\ntry: main()\nfinally: print('jax' in sys.modules)"
    )
    folder = str(Path(doctor.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | told | {"PYTHONPATH": folder}, capture_output=True, text=True
    )
    *offered, met = done.stdout.split()
    assert met == "False"
    return offered


def test_a_shell_completes_commands_runs_and_configs_without_jax(tmp_path):
    for name in ("he-relu-00000001", "he-tanh-00000002"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "meta.json").touch()
    assert completed("vgx rep") == ["report", "reproduce"]
    assert completed("vgx show he-") == ["he-relu-00000001", "he-tanh-00000002"]
    assert completed("vgx compare he-relu-00000001 he-t") == ["he-tanh-00000002"]
    assert completed(f"vgx export --runs {tmp_path / 'runs'} he-r") == ["he-relu-00000001"]


def test_configs_are_completed_in_their_folder_and_the_ones_below(tmp_path):
    (tmp_path / "configs" / "sweeps").mkdir(parents=True)
    for name in ("net.yaml", "configs/he.yaml", "configs/relu.yml", "configs/sweeps/depth.yaml", "configs/notes.txt"):
        (tmp_path / name).touch()
    assert config_files("") == ["configs/he.yaml", "configs/relu.yml", "net.yaml"]
    assert config_files("con") == ["configs/he.yaml", "configs/relu.yml"]
    assert config_files("configs/s") == ["configs/sweeps/depth.yaml"]
    assert config_files("configs/he") == ["configs/he.yaml"]
    assert config_files("[") == []
