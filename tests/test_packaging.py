"""What others run vgx by: the GitHub Action, the workflow, the hook, the images, the citation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import vgx

ROOT = Path(vgx.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
NET = "name: tiny\nmodel: {depth: 2, width: 8}\ntrain: {steps: 4, batch_size: 16}\nexpect: {train_loss: '%s'}\n"


def act(folder: Path, **inputs: str) -> tuple[int, str]:
    """The exit code and the summary of the action's last step, as a runner would run it."""
    step = ACTION["runs"]["steps"][-1]
    given = {name: one.get("default", "") for name, one in ACTION["inputs"].items()} | inputs
    summary = folder / "summary.md"
    environment = {
        key: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda found: given[found[1]], value)
        for key, value in step["env"].items()
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment |= {"PATH": path, "RUNNER_TEMP": str(folder), "GITHUB_STEP_SUMMARY": str(summary)}
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(bash, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    return done.returncode, summary.read_text()


@pytest.mark.parametrize(("bound", "code", "word"), [("< 100", 0, "held"), ("< 0", 3, "did not hold")])
def test_the_action_exits_as_vgx_does_and_puts_the_table_into_the_summary(bound, code, word, tmp_path):
    (tmp_path / "tiny.yaml").write_text(NET % bound)
    exit_code, summary = act(tmp_path, config="tiny.yaml", arguments="--runs out")
    assert exit_code == code
    assert f"`vgx train tiny.yaml --runs out`: exit {code}" in summary
    assert re.search(rf"train_loss +{bound} +[0-9.]+ +{word}", summary)
    assert (tmp_path / "out").is_dir()


def test_the_action_says_in_the_summary_what_is_wrong_with_a_config(tmp_path):
    (tmp_path / "tiny.yaml").write_text("modle: {}\n")
    code, summary = act(tmp_path, config="tiny.yaml", command="check")
    assert code == 2
    assert "did you mean 'model'?" in summary


def test_the_action_takes_only_inputs_that_it_uses():
    text = (ROOT / "action.yml").read_text()
    assert {name for name in ACTION["inputs"] if f"inputs.{name} " not in text} == set()


def test_the_workflow_runs_all_of_ci_on_every_python_that_is_promised():
    (workflow,) = (ROOT / ".github" / "workflows").glob("*.yml")
    job = yaml.safe_load(workflow.read_text())["jobs"]["all"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_hook_is_make_check():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == ["make check"]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


@pytest.mark.parametrize(("name", "extra"), [("Dockerfile", None), ("Dockerfile.cuda", "cuda")])
def test_an_image_installs_what_there_is_and_runs_vgx(name, extra):
    lines = (ROOT / name).read_text().splitlines()
    (base,) = (line.removeprefix("FROM python:") for line in lines if line.startswith("FROM"))
    assert base.startswith(("3.11", "3.12", "3.13"))
    (install,) = (line for line in lines if line.startswith("RUN pip install"))
    assert install.split()[-1].strip("'") == ("/vgx" if extra is None else f"/vgx[{extra}]")
    assert extra is None or extra in PROJECT["optional-dependencies"]
    assert lines[-1] == 'ENTRYPOINT ["vgx"]'
