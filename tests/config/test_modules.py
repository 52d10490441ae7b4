"""Parts of a user's own: imported where something is computed, and never where a run is only read."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.config.modules import import_module
from vgx.config.sweep import resolved, value_at
from vgx.errors import ConfigError, RunError
from vgx.registry import temporary
from vgx.results.cell_configs import FILE, cell_configs, write_cell_configs
from vgx.results.comparison import groups_of
from vgx.results.store import Run
from vgx.results.writer import RunWriter
from vgx.runner.plan import program_key
from vgx.runner.rounds import SweepState
from vgx.theory.cure import diagnose, written

PARTS = '''
from jax import numpy as jnp
from vgx.parts import ACTIVATIONS, Activation

@ACTIVATIONS.register("bent")
class Bent(Activation):
    """Half of it below 0."""
    formula = "max(h, h / 2)"
    kinks = (0.0,)

    def __call__(self, h):
        return jnp.maximum(h, h / 2)
'''
SMALL = {
    "name": "small",
    "data": {"name": "synthetic", "examples": 64, "features": 4, "classes": 2},
    "model": {"depth": 3, "width": 8, "activation": "bent"},
    "train": {"batch_size": 16, "steps": 4, "evaluate_every": 4},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A current directory of its own, where modules may be imported, and what they register is forgotten after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    with temporary():
        yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        call(*arguments, **options)
    return str(refused.value)


def test_a_config_s_modules_are_imported_before_its_parts_are_looked_for(here: Path):
    (here / "my_parts.py").write_text(PARTS)
    config = vgx.load_config(SMALL | {"import": ["my_parts"]})
    assert (config.model.activation.name, config.modules) == ("bent", ("my_parts",))
    assert vgx.load_config(places_of(config)) == config


def places_of(config: Any) -> Path:
    Path("resolved.yaml").write_text(config.to_yaml())
    return Path("resolved.yaml")


def test_modules_named_beside_a_config_join_it(here: Path):
    (here / "my_parts.py").write_text(PARTS)
    (here / "others.py").touch()
    config = vgx.load_config(SMALL | {"import": ["others"]}, modules=["my_parts"])
    assert config.modules == ("others", "my_parts")
    assert "import:\n- others\n- my_parts\n" in config.to_yaml()


def test_how_parts_were_found_makes_no_other_run(here: Path):
    (here / "my_parts.py").write_text(PARTS)
    one, other = vgx.load_config(SMALL | {"import": ["my_parts"]}), vgx.load_config(SMALL)
    assert one.digest == other.digest
    assert program_key(one) == program_key(other)
    assert vgx.config.sweep.differences(one, other) == []


BAD = {
    "..x": "'..x' names no module; write it as my_parts, or package.my_parts",
    "my parts": "'my parts' names no module; write it as my_parts, or package.my_parts",
    "": "'' names no module; write it as my_parts, or package.my_parts",
    "nowhere": "there is no module nowhere in this directory or among what is installed",
    "nowhere.parts": "there is no module nowhere.parts in this directory or among what is installed",
    "fine.py": "there is no module fine.py in this directory or among what is installed; write fine",
    "divides": "the module divides cannot be imported: {here}/divides.py:2: ZeroDivisionError: division by zero",
    "lacks": "the module lacks cannot be imported: {here}/lacks.py:1: ModuleNotFoundError: No module named 'nowhere'",
    "wrong": "the module wrong cannot be imported: {here}/wrong.py:1: SyntaxError: '(' was never closed",
    "leaves": "the module leaves cannot be imported: {here}/leaves.py:1: SystemExit: 3",
    "deep": "the module deep cannot be imported: {here}/deep.py:2: ValueError: no",
    "relu": "the module relu cannot be imported: {here}/relu.py:2: ValueError: the activation 'relu' is registered",
}
MODULES = {
    "fine": "",
    "divides": "\n1 / 0",
    "lacks": "import nowhere",
    "wrong": "f(",
    "leaves": "raise SystemExit(3)",
    "deep": "import json\njson.loads('1', parse_int=lambda text: (_ for _ in ()).throw(ValueError('no\\nno')))",
    "relu": "from vgx.parts import ACTIVATIONS, Activation\nACTIVATIONS.register('relu')(type('R', (Activation,), {}))",
}


@pytest.mark.parametrize("name", BAD)
def test_a_module_that_cannot_be_imported_gets_one_line_with_the_place(name: str, here: Path):
    for module, text in MODULES.items():
        (here / f"{module}.py").write_text(text)
    said = BAD[name].format(here=here)
    assert refusal(import_module, name).startswith(said)
    Path("c.yaml").write_text(f"model: {{activation: bent}}\nimport:\n- {json.dumps(name)}\n")
    assert refusal(vgx.load_config, "c.yaml").startswith(f"c.yaml:3:3: import: {said}")
    result = CliRunner().invoke(app, ["schema", "--import", name])
    assert str(result.exception).startswith(f"--import {name}: {said}")
    assert len(str(result.exception).splitlines()) == 1


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("my_parts", "import: expected a list, found the text 'my_parts'"),
        ([3], "import.0: expected text, found 3; put it in quotes"),
        (["json"] * 101, "import: the list takes 100 or fewer, and has 101"),
        (None, "import: expected a list, found nothing"),
    ],
)
def test_what_names_no_modules_is_refused(named: Any, reason: str):
    assert refusal(vgx.load_config, {"import": named}) == reason


def test_modules_are_not_swept():
    assert "import cannot be swept: modules are imported once, for all cells" in refusal(
        vgx.load_sweep, {"sweep": {"axes": {"import": [["json"], []]}}}
    )


def test_a_module_is_not_looked_for_beside_the_config(here: Path):
    (here / "theirs").mkdir()
    (here / "theirs" / "my_parts.py").write_text(PARTS)
    (here / "theirs" / "config.yaml").write_text("import: [my_parts]\n")
    assert "there is no module my_parts" in refusal(vgx.load_config, here / "theirs" / "config.yaml")


@pytest.mark.parametrize(
    "command",
    [
        ["check", "c.yaml"],
        ["predict", "c.yaml", "--json"],
        ["predict", "c.yaml", "--axis", "activation=bent,tanh", "--json"],
        ["cure", "c.yaml", "--json"],
        ["schema"],
        ["parts", "activations", "--json"],
    ],
    ids=lambda command: " ".join(command[:4]),
)
def test_every_command_that_computes_takes_modules(command: list[str], here: Path):
    (here / "my_parts.py").write_text(PARTS)
    (here / "c.yaml").write_text(json.dumps(SMALL))
    result = CliRunner().invoke(app, [*command, "--import", "my_parts"])
    assert result.exit_code in (0, 3), result.exception
    assert "bent" in result.stdout or "small" in result.stdout or json.loads(result.stdout)


def test_a_cure_is_written_with_the_modules_that_it_needs(here: Path):
    (here / "my_parts.py").write_text(PARTS)
    text = "model: {depth: 30, activation: bent, initializer: glorot_normal}\n"
    (here / "sick.yaml").write_text(text)
    sick = vgx.load_config("sick.yaml", modules=["my_parts"])
    cured = written(text, diagnose(sick).cures[0])
    assert "import: [my_parts]" in cured


def failure(folder: Path, script: str) -> str:
    """What a fresh Python complains of in a folder."""
    with pytest.raises(AssertionError) as failed:
        run_vgx(folder, script)
    return str(failed.value)


def run_vgx(folder: Path, script: str) -> str:
    """What a fresh Python prints in a folder."""
    command = [sys.executable, "-W", "error", "-c", script]
    env = os.environ | {"PYTHONPATH": str(Path(vgx.__file__).parents[1])}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


READ = """
import sys
from typer.testing import CliRunner
from vgx.cli import app
for command in COMMANDS:
    result = CliRunner().invoke(app, command)
    print(result.stdout)
    assert result.exit_code == 0, (command, result.output, result.exception)
assert "my_parts" not in sys.modules
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A stranger's folder, with a config and the module of its parts, and ours, where that module would do harm."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
    (theirs / "my_parts.py").write_text(PARTS)
    (theirs / "c.yaml").write_text(json.dumps(SMALL | {"import": ["my_parts"]}))
    (ours / "my_parts.py").write_text("raise SystemExit('a stranger ran code')")
    return theirs, ours


def test_a_run_is_shown_in_full_where_its_parts_are_not_known(here: Path, folders: tuple[Path, Path], monkeypatch):
    theirs, ours = folders
    monkeypatch.chdir(theirs)
    run = vgx.train(vgx.load_config("c.yaml"), runs=ours / "runs").path
    shutil.copytree(run, copy := run.with_name("copy"))
    commands = [["show", str(run)], ["runs"], ["compare", str(run), str(copy)], ["export", str(run), "--to", "csv"]]
    shown = run_vgx(ours, READ.replace("COMMANDS", str(commands)))
    assert shown.count("3 x 8 bent") == 3
    # To go on with it takes the module, and says so.
    (ours / "my_parts.py").unlink()
    again = f"import vgx\nvgx.load_config('{run}/config.yaml')"
    wanted = rf"{re.escape(str(run))}/config\.yaml:\d+:3: import: there is no module my_parts in this directory"
    assert re.search(wanted, failure(ours, again))


@pytest.mark.slow
def test_a_sweep_and_the_pages_are_shown_in_full_where_the_parts_are_not_known(folders: tuple[Path, Path], monkeypatch):
    theirs, ours = folders
    run_vgx(theirs, "import vgx\nvgx.sweep(vgx.load_sweep('c.yaml', axes=['activation=bent,tanh', 'depth=2,3']))")
    run_vgx(theirs, "import vgx\nvgx.train(vgx.load_config('c.yaml'))")
    (theirs / "runs").rename(ours / "runs")
    one, sweep = map(str, sorted((ours / "runs").iterdir(), key=lambda path: (path / "rounds").exists()))
    commands = [
        ["show", sweep],
        ["report", one],
        ["report", sweep],
        ["compare", sweep, one],
        ["export", sweep, "--to", "npz"],
    ]
    shown = run_vgx(ours, READ.replace("COMMANDS", str(commands)))
    assert "2 x 8 bent" in shown
    monkeypatch.chdir(ours)
    Path("my_parts.py").unlink()
    again = ["sweep", f"{sweep}/config.yaml"]
    assert "import: there is no module my_parts in this directory" in str(CliRunner().invoke(app, again).exception)


@pytest.fixture
def swept(tmp_path: Path) -> Run:
    """A sweep over depths and activations, as if it had run."""
    axes = {"model.depth": [2, 3], "model.activation": ["tanh", {"name": "elu", "alpha": 0.5}]}
    sweep = vgx.load_sweep(SMALL | {"model": {"width": 8}, "sweep": {"axes": axes}})
    meta = {"status": "done", "step": 0, "devices": ["cpu: cpu"], "seconds": 0.0, "compile_seconds": 0.0}
    writer = RunWriter.create(tmp_path / "runs" / "swept", sweep.to_yaml(), meta | {"steps_per_second": None})
    ledger = SweepState(writer)
    options = {cell.key: {path: value_at(cell.config, path) for path in sweep.paths} for cell in sweep.cells}
    ledger.add_lanes([(cell.key, 0) for cell in sweep.cells], options)
    for lane in ledger.lanes:
        lane["status"] = "done"
    ledger.write_lanes()
    write_cell_configs(writer, {cell.key: cell.config for cell in sweep.cells})
    writer.close()
    return Run(writer.path)


def test_each_section_of_the_cells_is_kept_once(swept: Run):
    kept = cell_configs(swept)
    cells = vgx.load_sweep(swept.path / "config.yaml").cells
    assert kept == {cell.key: cell.config.model_dump(mode="json") for cell in cells} == resolved(swept.config)
    sections = json.loads((swept.path / FILE).read_text())["sections"]
    counts = {"data": 1, "model": 4, "train": 1, "log": 1, "expect": 1}
    assert {name: len(values) for name, values in sections.items()} == counts


def test_cells_of_parts_that_are_not_known_are_compared_by_what_their_lanes_say(swept: Run):
    known = groups_of(swept, cell_configs(swept))
    (swept.path / FILE).unlink()
    assert cell_configs(swept) is None
    guessed = groups_of(swept)
    assert [one.layers for one in guessed] == [one.layers for one in known] == [2, 2, 3, 3]
    assert [one.config["model"]["activation"]["name"] for one in guessed] == ["tanh", "elu", "tanh", "elu"]
    config = swept.config
    config["sweep"]["axes"]["model.activation"] = ["bent"]
    assert resolved(config) == {}


def test_resolving_the_cells_of_a_run_imports_nothing(here: Path):
    (here / "my_parts.py").write_text("raise SystemExit('a stranger ran code')")
    found = resolved(SMALL | {"model": {}, "import": ["my_parts"], "sweep": {"axes": {"model.depth": [2]}}})
    assert len(found) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sections": {}, "cells": {"a": [0]}}', '{"cells": 3}'])
def test_damaged_cells_get_a_line(swept: Run, text: str):
    (swept.path / FILE).write_text(text)
    with pytest.raises(RunError, match=r"cells.json: .*the run is damaged"):
        cell_configs(swept)
