"""A run in Python: its verdict, its page, what a notebook shows of it, and errors in Python's words."""

from __future__ import annotations

import inspect
import json
import pickle
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

import vgx
from vgx import cli
from vgx.errors import ARGUMENTS, RunError
from vgx.report.html import write
from vgx.report.palette import VERDICTS
from vgx.results import store
from vgx.runner import sweep, train

EVIL = "</table><script>alert(1)</script>\x1b[2J"


@pytest.fixture
def run(write_run) -> vgx.Run:
    """A run of two seeds, of 5 layers, whose gradient falls by half a decade a layer."""
    settings = {"name": "face", "model": {"depth": 5, "width": 4}, "train": {"steps": 3}}
    delta = np.tile(np.arange(-5, 1) * 0.5, (3, 2, 1))
    delta[:, 1] -= 1
    columns = {"train_loss": np.ones((3, 2)), "test_accuracy": np.tile([0.25, 0.75], (3, 1))}
    return vgx.open_run(write_run(settings, {"delta_log10": delta}, columns).path)


def with_verdicts(run: vgx.Run, *words: str | None, status: str = "done") -> vgx.Run:
    """The run with other verdicts of its lanes."""
    table = run.lanes()
    column = pa.array(words, pa.string())
    table = table.set_column(table.column_names.index("verdict"), "verdict", column)
    table = table.set_column(table.column_names.index("status"), "status", pa.array([status] * len(words)))
    parquet.write_table(table, run.path / "lanes.parquet")
    return run


def test_a_verdict_is_one_word_where_the_lanes_agree_and_all_of_them_where_not(run):
    assert run.verdict == "healthy"
    assert with_verdicts(run, "vanishing", "dead").verdict == "dead, vanishing"
    assert with_verdicts(run, None, None, status="failed").verdict == "failed"
    meta = json.loads((run.path / "meta.json").read_text())
    (run.path / "meta.json").write_text(json.dumps(meta | {"status": "running"}))
    (run.path / "lanes.parquet").unlink()
    assert run.verdict is None


def test_a_run_writes_its_page(run, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "bundle", lambda: "")
    monkeypatch.setattr(write, "write_stills", lambda stills, folder: [])
    assert run.report() == run.path / "report.html"
    assert run.report(str(tmp_path / "page.html")) == tmp_path / "page.html"
    assert "<h1>face</h1>" in (tmp_path / "page.html").read_text()


def test_a_run_says_what_it_is(run):
    net = "5 x 4 relu, he_normal, no norm, sgd 0.1, digits"
    assert repr(run) == f"Run 'face' (done, healthy, {net}, {run.path})"
    with_verdicts(run, "dead", "healthy")
    assert repr(run).startswith("Run 'face' (done, dead, healthy, 5 x 4 relu")
    (run.path / "config.yaml").unlink()
    assert repr(run).startswith(f"Run ({run.path / 'config.yaml'}: is missing")


def test_a_notebook_shows_a_table_with_the_gradient_of_each_lane(run):
    with_verdicts(run, "healthy", "vanishing")
    table = ElementTree.fromstring(run._repr_html_().replace("<br>", "<br/>"))
    said = {row.find("th").text: row.find("td") for row in table.iter("tr")}
    assert table.find("caption/b").text == "face"
    assert said["verdict"].text == "healthy, vanishing"
    assert said["test accuracy"].text == "0.5000"
    assert said["directory"].text == str(run.path)
    first, second = said["gradient"].iter("polyline")
    assert [line.attrib["stroke"] for line in (first, second)] == [
        VERDICTS[word].colour for word in ("healthy", "vanishing")
    ]
    points = [[float(y) for _, y in (p.split(",") for p in line.attrib["points"].split())] for line in (first, second)]
    assert all(np.allclose(np.diff(line), np.diff(line)[0], atol=0.11) and line[0] > line[-1] for line in points)
    assert np.all(np.array(points[1]) > np.array(points[0]))
    assert "from 3.2e-4 to 0.32" in said["gradient"].find("small").text


def test_a_notebook_shows_any_text_as_text_and_a_damaged_run_as_a_line(run):
    with_verdicts(run, EVIL, EVIL)
    shown = run._repr_html_()
    assert "<script" not in shown
    assert "\x1b" not in shown + repr(run)
    ElementTree.fromstring(shown.replace("<br>", "<br/>"))
    (run.path / "meta.json").write_text("{")
    assert run._repr_html_().startswith(f"<p>{run.path / 'meta.json'}: ")


def test_every_door_gives_a_run_with_a_face(run):
    done = vgx.train(vgx.load_config(run.path / "config.yaml"), runs=run.path.parent, resume=True)
    for one in (done, vgx.open_run(run.path), vgx.Run(str(run.path))):
        assert isinstance(one, vgx.Run)
        assert isinstance(one, store.Run)
        assert one.verdict == "healthy"
        assert pickle.loads(pickle.dumps(one)).metrics().equals(run.metrics())


def test_a_door_is_as_the_function_behind_it_and_can_be_sent_to_another_process():
    for door, behind in ((vgx.train, train.train), (vgx.sweep, sweep.sweep)):
        assert inspect.signature(door) == inspect.signature(behind)
        assert door.__doc__ == behind.__doc__
        assert pickle.loads(pickle.dumps(door)) is door


def test_reading_and_showing_a_run_imports_no_jax(run):
    script = f"import sys, vgx\nrun = vgx.open_run({str(run.path)!r})\nrun.verdict, repr(run), run._repr_html_()\n"
    script += "assert not {'jax', 'flax', 'altair'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_errors_name_arguments_in_python_and_options_on_the_command_line(run, tmp_path):
    config = vgx.load_config(run.path / "config.yaml")
    with pytest.raises(RunError, match=r"shows it, overwrite=True runs it again$") as raised:
        vgx.train(config, runs=run.path.parent)
    assert raised.value.on_command_line.endswith("shows it, --overwrite runs it again")
    with pytest.raises(vgx.VgxError, match=r"^overrides model.depth=0: model.depth"):
        vgx.load_config({}, ["model.depth=0"])
    with pytest.raises(vgx.VgxError, match=r"or axes model.activation=relu,elu"):
        vgx.load_sweep({})
    (tmp_path / "net.yaml").write_text("model: {depth: 2}\n")
    for command in (["check"], ["train"]):
        result = CliRunner().invoke(cli.app, [*command, str(tmp_path / "net.yaml"), "--set", "model.depth=0"])
        text = result.output or result.exception.on_command_line
        assert text.startswith("--set model.depth=0: model.depth: ")


def test_theory_and_watching_are_there_at_their_names_without_jax():
    script = "import sys, vgx\nvgx.watch.Log, vgx.theory\nassert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_option_that_an_error_translates_is_one_of_the_command_line():
    helps = "".join(
        CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"}).output
        for command in ("train", "sweep", "export", "predict")
    )
    for option, argument in ARGUMENTS.items():
        assert option.split()[0] in helps
        assert str(RunError(f"use {option}, or not")) == f"use {argument}, or not"
        assert str(RunError(f"x{option}y {option}s a-{option}")) == f"x{option}y {option}s a-{option}"
