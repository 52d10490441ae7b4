"""`vgx reproduce` as a command, and what is reproduced without a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_experiment import BASE
from typer.testing import CliRunner

from vgx.cli import app
from vgx.config import yaml_tree
from vgx.errors import ConfigError
from vgx.parts import ACTIVATIONS

# Geron, Hands-On Machine Learning, the notebook of chapter 11: mean and standard deviation at layers 0, 100, ..., 900
MOMENTS = [
    "-0.00/1.00",
    "0.02/0.96",
    "0.01/0.90",
    "-0.02/0.92",
    "0.05/0.89",
    "0.01/0.93",
    "0.02/0.92",
    "-0.02/0.90",
    "0.05/0.83",
    "0.02/1.00",
]


def selu_moments(selu, dtype) -> list[tuple[float, float]]:
    """The notebook's demo: a thousand layers of 100, and the moments of every hundredth."""
    random = np.random.RandomState(42)
    z, moments = random.normal(size=(500, 100)).astype(dtype), []
    for layer in range(1000):
        z = selu(z @ random.normal(size=(100, 100), scale=np.sqrt(1 / 100)).astype(dtype))
        if layer % 100 == 0:
            moments.append((float(z.mean(axis=0).mean()), float(z.std(axis=0).mean())))
    return moments


def test_the_selu_moment_demo_prints_what_is_printed(float64):
    selu = jax.jit(ACTIVATIONS["selu"]())
    moments = selu_moments(lambda h: np.asarray(selu(h)), np.float64)
    assert [f"{mean:.2f}/{std:.2f}" for mean, std in moments][:9] == MOMENTS[:9]
    # A rounding error grows by sqrt(1.0716) per layer, to about 3e-4 by layer 900; exact are .0198 and .9953.
    assert moments[9] == pytest.approx((0.0198, 0.9953), abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs more digits than float64 has")
def test_the_selu_moment_demo_prints_what_is_printed_to_the_last_digit(float64):
    scale, alpha = np.longdouble("1.05070098735548049342"), np.longdouble("1.67326324235437728482")

    def selu(h):
        return scale * np.where(h < 0, alpha * np.expm1(h), h)

    assert [f"{mean:.2f}/{std:.2f}" for mean, std in selu_moments(selu, np.longdouble)] == MOMENTS
    h = np.linspace(-20, 20, 4001)
    ours = np.asarray(ACTIVATIONS["selu"]()(jnp.asarray(h)))
    np.testing.assert_allclose(ours, selu(h.astype(np.longdouble)).astype(float), rtol=1e-15)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiment") / "small.yaml"
    path.write_text(yaml_tree.write(BASE))
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)], catch_exceptions=True)


def test_an_experiment_of_ones_own_is_run_shown_and_not_run_again(file, monkeypatch):
    runs = file.parent / "runs"
    shown = run(file, "--runs", runs)
    assert shown.exit_code == 0, shown.output
    assert "reproduced" in shown.output
    assert str(runs)[-10:] in shown.output.replace("\n", "")
    monkeypatch.setattr("vgx.reproduce.evaluate.sweep", None)
    again = run(file, "--runs", runs, "--json")
    (result,) = json.loads(again.output)["experiments"]
    assert result["seeds"] == [0, 1, 2]
    assert [check["verdict"] for check in result["checks"]][1] == "reproduced"
    assert result["checks"][1]["findings"][0]["low"] < -0.25
    quiet = run(file, "--runs", runs, "--quiet")
    assert quiet.output.startswith("small: ")
    assert quiet.output.count("\n") == 1


def test_a_number_that_is_not_reproduced_exits_3(file):
    text = file.read_text().replace("published: -0.301", "published: -3.01")
    wrong = file.with_name("wrong.yaml")
    wrong.write_text(text)
    done = run(wrong, "--runs", file.parent / "runs", "--quiet")
    assert done.exit_code == 3
    assert "not reproduced" in done.output


def test_the_list_says_what_there_is(tmp_path):
    listed = json.loads(run("--runs", tmp_path, "--json").output)["experiments"]
    names = [one["name"] for one in listed]
    assert names[:4] == ["leaky-relu", "selu", "batch-norm-elu", "collapse"]
    assert all(one["verdicts"] is None and one["seconds"] for one in listed)
    shown = run("--runs", tmp_path).output
    assert max(map(len, shown.splitlines())) <= 80
    assert "ranking" in shown


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["rankin"], "no experiment is called 'rankin'; did you mean 'ranking'"),
        (["--write"], "--write writes the page of all claims, or the section of one: give --all, or name one"),
        (["ranking", "--all"], "leave one of the two out"),
        (["he-exact", "--activation", "mish"], "this experiment has no axis model.activation"),
        (["ranking", "--activation", "mis"], "no activation is called 'mis'; did you mean 'mish'?"),
        (["ranking", "--import", "no_such_module"], "--import no_such_module: there is no module"),
    ],
)
def test_a_wrong_request_gets_a_line(arguments, line):
    error = run(*arguments).exception
    assert isinstance(error, ConfigError)
    assert line in str(error)


def test_without_mnist_one_line_says_how_to_get_it(tmp_path):
    command = [sys.executable, "-m", "vgx", "reproduce", "he-exact", "--runs", str(tmp_path)]
    environment = {key: value for key, value in os.environ.items() if key != "VGX_DATA_DIR"}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "run `vgx data get mnist`" in done.stderr


def test_all_writes_the_page_of_claims_from_what_was_run(file, tmp_path, monkeypatch):
    folder = file.parent / "experiments"
    folder.mkdir()
    (folder / "small.yaml").write_text(file.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vgx.reproduce.experiment.find_experiments", lambda: {"small": folder / "small.yaml"})
    arguments = ("--all", "--write", "--quiet", "--runs", file.parent / "runs")
    assert run(*arguments).exit_code == 0
    page = (tmp_path / "docs/CLAIMS.md").read_text()
    assert "| [He is better](#small) |" in page
    assert "`vgx reproduce small`" in page
    assert "-0.301 ± 0.05" in page
    assert "two arms are *the same* when the whole interval of their difference lies within a margin" in page
    assert "nothing is decided by fewer than three seeds." in " ".join(page.split())
    run(*arguments)
    assert (tmp_path / "docs/CLAIMS.md").read_text() == page


def test_one_claim_renews_its_line_and_its_section_and_leaves_the_others(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = file.parent / "two"
    folder.mkdir()
    for name in ("first", "second"):
        (folder / f"{name}.yaml").write_text(file.read_text().replace("name: small", f"name: {name}"))
    found = {name: folder / f"{name}.yaml" for name in ("first", "second")}
    monkeypatch.setattr("vgx.reproduce.experiment.find_experiments", lambda: found)
    where = ("--quiet", "--runs", file.parent / "runs")
    page = tmp_path / "docs/CLAIMS.md"
    run("--all", "--write", *where)
    whole = page.read_text()
    page.unlink()
    run(found["first"], "--write", *where)
    assert "## second" not in page.read_text()
    run(found["second"], "--write", *where)
    assert page.read_text() == whole
    before, of_second = whole.split("## second")
    page.write_text(before.replace("-0.301 ± 0.05", "older") + "## second\n\nold\n")
    run(found["second"], "--write", *where)
    assert page.read_text() == whole.replace("-0.301 ± 0.05", "older", 1)
    assert of_second.count("Machine: ") == 1
    other = run(found["second"], "--write", *where, "--scale", "smoke").exception
    assert "is of another scale than smoke; --all --write makes the page anew" in str(other)


@pytest.mark.slow
def test_everything_runs_at_smoke_scale(tmp_path):
    done = run("--all", "--scale", "smoke", "--runs", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    results = json.loads(done.output)["experiments"]
    exact = next(result for result in results if result["name"] == "he-exact")
    assert exact["verdicts"] == ["reproduced"]
