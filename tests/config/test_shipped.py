"""What comes with vgx, and what it says of what does not."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.config.modeline import without
from vgx.config.shipped import CONFIGS, examples
from vgx.config.sweep import load_either
from vgx.errors import ConfigError, RunError, install
from vgx.reproduce.experiment import find_experiments

ROOT = Path(__file__).parents[2]


def new(*arguments: str):
    return CliRunner().invoke(app, ["new", *arguments])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_package_holds_the_configs_where_it_looks_for_them():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert table["force-include"] == {"configs": "vgx/configs"}
    assert CONFIGS == ROOT / "configs"
    assert not (ROOT / "vgx" / "configs").exists()  # in git there is one copy
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == {"sweeps", "maps", "reproduce"}
    assert find_experiments().keys() == {path.stem for path in (CONFIGS / "reproduce").glob("*.yaml")}


def test_every_config_that_ships_is_an_example_and_says_what_it_is():
    found = examples()
    assert {one.path for one in found.values()} == {
        path for folder in (CONFIGS, CONFIGS / "sweeps", CONFIGS / "maps") for path in folder.glob("*.yaml")
    }
    assert all(20 < len(one.says) < 130 and not one.says.startswith("#") for one in found.values())


def test_the_list_names_every_example_with_what_it_is_and_what_runs_it():
    shown = new("--list").stdout
    for name, one in examples().items():
        line = next(line for line in shown.splitlines() if line.strip().startswith(f"{name} "))
        assert f"vgx {one.command}" in line
    assert len(shown.splitlines()) > len(examples())


@pytest.mark.parametrize("example", examples())
def test_an_example_written_elsewhere_runs_what_it_ran_under_its_new_name(example: str):
    one = examples()[example]
    result = new("mine", "--from", example)
    assert result.stdout == f"mine.yaml: written; `vgx {one.command} mine.yaml` runs it\n"
    text = without(Path("mine.yaml").read_text())
    before_and_after = zip(without(one.path.read_text()).splitlines(), text.splitlines(), strict=True)
    changed = [pair for pair in before_and_after if len({*pair}) > 1]
    assert changed[-1] == (f"name: {example}", "name: mine")
    assert all("configs/" in before and "`vgx train mine.yaml`" in after for before, after in changed[:-1])
    ours, theirs = load_either("mine.yaml"), load_either(one.path)
    assert (
        ours == theirs.model_copy(update={"name": "mine"})
        if hasattr(theirs, "digest")
        else ([cell.key for cell in ours.cells] == [cell.key for cell in theirs.cells] and ours.base.name == "mine")
    )


def test_an_example_keeps_its_name_unless_told():
    assert new("--from", "he-relu").stdout.startswith("he-relu.yaml: written")
    assert without(Path("he-relu.yaml").read_text()) == without((CONFIGS / "he-relu.yaml").read_text())
    assert new("--from", "he-relu").exit_code == 0  # the same once more loses nothing
    Path("he-relu.yaml").write_text("name: mine\n")
    refused = new("--from", "he-relu").exception
    assert isinstance(refused, RunError)
    assert str(refused) == "he-relu.yaml: exists already; choose another name"
    assert Path("he-relu.yaml").read_text() == "name: mine\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--from", "he-rely"], "no example is called 'he-rely'; did you mean 'he-relu'?"),
        (["--from", "zzz"], "no example is called 'zzz'; `vgx new --list` lists them"),
        ([], "give a NAME to write a starter; or --from EXAMPLE, of those that --list lists"),
        (["x", "--list"], "--list lists all examples; leave the rest out"),
        (["my net", "--from", "he-relu"], "'my net' cannot name a config; try 'my-net'"),
        (["my net"], "'my net' cannot name a config; try 'my-net'"),
    ],
)
def test_a_request_for_no_example_gets_a_line_and_writes_nothing(arguments: list[str], line: str):
    refused = new(*arguments).exception
    assert isinstance(refused, ConfigError)
    assert str(refused) == line
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("extra", ["cuda", "tpu", "tensorboard", "wandb", "mlflow"])
def test_what_an_extra_needs_is_installed_by_its_own_names_into_the_python_that_runs(extra: str):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    said = install(extra)
    assert said.startswith(f"{sys.executable} -m pip install ")
    assert "vgx[" not in said
    named = {one.partition(">")[0].lower() for one in said.replace("'", "").split()[4:]}
    assert named == {one.partition(">")[0].lower() for one in extras[extra]}


def test_every_library_that_is_asked_for_belongs_to_an_extra():
    assert requires("vgx")
    hints = [path for path in Path(vgx.__file__).parent.rglob("*.py") if "pip install" in path.read_text()]
    assert hints == []
