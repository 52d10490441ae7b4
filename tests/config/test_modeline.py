"""What an editor checks configs by: the first line of each, and the schema in the package that it leads to."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from vgx.cli import app
from vgx.config import yaml_tree
from vgx.config.modeline import SCHEMA_FILE, START, modeline, moved, without
from vgx.config.shipped import CONFIGS
from vgx.errors import ConfigError, RunError
from vgx.registry import temporary
from vgx.reproduce.experiment import load_experiment
from vgx.reproduce.schema import json_schema

SHIPPED = sorted(CONFIGS.rglob("*.yaml"))
VALIDATOR = Draft202012Validator(json_schema())


def vgx(*arguments: str):
    return CliRunner().invoke(app, arguments)


def leads_to(file: Path) -> Path:
    """The schema that an editor finds by a file's first line."""
    first = file.read_text().partition("\n")[0]
    assert first.startswith(START)
    address = first.removeprefix(START)
    assert " " not in address
    if address.startswith("file:"):
        return Path(unquote(urlsplit(address).path))
    return (file.parent / address).resolve()


def faults(value) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in VALIDATOR.iter_errors(value)]


def test_the_schema_in_the_package_is_that_of_its_parts():
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema(), "vgx schema --write"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_config_that_ships_names_the_schema_and_is_valid_by_it(path: Path):
    assert leads_to(path) == SCHEMA_FILE
    assert faults(yaml_tree.read(path.read_text(), "").value) == []


EXPERIMENT = """
name: small
sweep: {axes: {model.activation: [relu, elu]}}
claim:
  says: One is better
  source: nobody
  checks:
    - says: By accuracy
      statistic: accuracy
      compare: {name: greater, arm: {model.activation: elu}, than: {model.activation: relu}}
scales: {smoke: {train.steps: 3, model: {depth: 2}}}
"""
WRONG = [
    ("says: One is better", "sayz: One is better"),
    ("source: nobody", "source: 3"),
    ("statistic: accuracy", "statistic: acuracy"),
    ("name: greater", "name: grater"),
    ("than: {model.activation: relu}", "than: []"),
    ("scales: {smoke", "scales: {smok"),
    ("model: {depth: 2}", "modle: {depth: 2}"),
    ("model: {depth: 2}", "model: {detph: 2}"),
    ("scales:", "tuning: {seeds: 2}\nscales:"),
    ("sweep: {axes: {model.activation: [relu, elu]}}", ""),
    (EXPERIMENT[EXPERIMENT.index("claim:") : EXPERIMENT.index("scales:")], ""),
]


def test_an_experiment_is_valid_where_it_loads(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT)
    assert load_experiment(path, "smoke").sweep.base.train.steps == 3
    assert faults(yaml_tree.read(EXPERIMENT, "").value) == []


@pytest.mark.parametrize(("right", "wrong"), WRONG)
def test_an_experiment_that_is_wrong_in_structure_neither_loads_nor_is_valid(right: str, wrong: str, tmp_path):
    path = tmp_path / "small.yaml"
    assert EXPERIMENT.count(right) == 1
    path.write_text(EXPERIMENT.replace(right, wrong))
    with pytest.raises(ConfigError):
        load_experiment(path, "smoke")
    assert faults(yaml_tree.read(path.read_text(), "").value)


@pytest.mark.parametrize("folder", ["here", "my nets"])
@pytest.mark.parametrize("arguments", [("mine",), ("mine", "--from", "he-relu"), ("mine", "--from", "depth")])
def test_a_new_config_leads_to_the_schema_wherever_it_is_written(arguments, folder, tmp_path, monkeypatch):
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    assert vgx("new", *arguments).exit_code == 0
    assert leads_to(Path("mine.yaml").absolute()) == SCHEMA_FILE
    assert Path("mine.yaml").read_text().count(START) == 1


def test_a_cured_config_leads_to_the_schema_from_where_it_is_written(tmp_path):
    cured = tmp_path / "cured.yaml"
    assert vgx("cure", str(CONFIGS / "xavier-relu.yaml"), "--write", str(cured)).exit_code == 0
    assert leads_to(cured) == SCHEMA_FILE


def test_within_a_clone_the_line_has_no_path_of_this_machine():
    assert modeline(CONFIGS / "sweeps" / "x.yaml") == f"{START}../../vgx/config/vgx.schema.json"
    assert modeline(Path("/elsewhere/x.yaml")) == START + SCHEMA_FILE.as_uri()


def test_a_text_without_the_line_is_left_as_it_is():
    assert moved("name: x\n", Path("x.yaml")) == without("name: x\n") == "name: x\n"
    assert without(moved(f"{START}old.json\nname: x\n", Path("x.yaml"))) == "name: x\n"


def test_a_schema_with_parts_of_ones_own_is_written_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_parts.py").write_text(
        "from vgx.parts import ACTIVATIONS, Activation\n"
        "@ACTIVATIONS.register('own')\nclass Own(Activation):\n    '''One of my own.'''\n"
        "    formula = 'h'\n    def __call__(self, h): return h\n"
    )
    with temporary():
        result = vgx("schema", "own.json", "--write", "--import", "own_parts")
    assert result.stdout.splitlines()[-1] == f"{START}own.json"
    own = Draft202012Validator(json.loads(Path("own.json").read_text()))
    assert own.is_valid({"model": {"activation": "own"}})
    assert not VALIDATOR.is_valid({"model": {"activation": "own"}})
    assert vgx("schema", "own.json", "--write").exit_code == 0  # a schema gives way to a newer one


@pytest.mark.parametrize(
    ("arguments", "kind", "line"),
    [
        (["x.json"], ConfigError, "--write writes x.json; without it the schema is printed, and needs no FILE"),
        (
            ["--write", "--import", "os"],
            ConfigError,
            "with parts of your own, give a FILE; vgx itself keeps the schema of its own parts",
        ),
        (["mine.yaml", "--write"], RunError, "mine.yaml: exists, and is no schema of vgx; choose another name"),
    ],
)
def test_a_schema_is_written_over_nothing_else(arguments, kind, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("name: mine\n")
    refused = vgx("schema", *arguments).exception
    assert isinstance(refused, kind)
    assert str(refused) == line
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]
    assert Path("mine.yaml").read_text() == "name: mine\n"
