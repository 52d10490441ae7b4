"""Text from outside steers nothing: no terminal, no browser, no spreadsheet, and no library that draws."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, suppress
from xml.etree import ElementTree

import html5lib
import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

import vgx
from vgx import cli
from vgx.cli.options import fail
from vgx.cli.screen import safe_streams
from vgx.errors import VgxError
from vgx.export import export
from vgx.report.html import write
from vgx.report.html.page_data import gather
from vgx.report.html.render import fragment
from vgx.report.terminal.console import SafeConsole
from vgx.results.columns import FINAL
from vgx.results.safe_text import csv_cell, everywhere, file_name, json_in_html, one_line, visible
from vgx.results.store import Run

STEERING = "\x00\x07\x08\r\x0b\x1b\x7f\x85\x9b\u202e\u2066\ufdd0\ufffe\uffff\U0001fffe"
"""Some of what may steer a terminal, or is no character of XML or HTML."""
EVIL = f"\x1b]0;owned\x07\x1b[2J\x9b31m{STEERING}<b>=1+1"
anything = st.text(st.one_of(st.characters(codec=None), st.sampled_from(STEERING + "\ud800\t\n<>&'\"")), max_size=40)


def steers(text: str) -> set[str]:
    """What of a text would steer a terminal: every control character but ends of lines and tabs, and reversals."""
    forbidden = r"[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
    return set(re.findall(forbidden, text))


@given(anything)
def test_what_is_visible_steers_nothing_and_says_all(text):
    shown = visible(text)
    assert steers(shown) == set()
    assert visible(shown) == shown
    kept = re.sub(r"\\u[0-9a-f]{4}|\\U[0-9a-f]{8}", lambda match: chr(int(match[0][2:], 16)), shown)
    assert "\\" in text or kept == text
    assert steers(text) or "\ufdd0" in text or ord(max(text, default="a")) & 0xFFFE == 0xFFFE or shown == text
    assert not set("\n\t") & set(one_line(text))


@given(anything)
def test_html_holds_any_text(text):
    html5lib.HTMLParser(strict=True).parse(f"<!DOCTYPE html><title>a</title>{fragment('notebook.html', error=text)}")
    script = json_in_html({"a": [text], text: 1.5})
    assert json.loads(script) == everywhere({"a": [text], text: 1.5})
    assert not set("<>&\u2028") & set(script)


@given(anything)
def test_a_file_is_named_by_plain_letters(text):
    assert re.fullmatch(r"[A-Za-z0-9._]*", file_name(text))


@pytest.mark.parametrize("text", ["=1+1", "+cmd|'/c calc'!A1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=\x1b[2J"])
def test_a_spreadsheet_computes_no_text(text):
    assert csv_cell(text).startswith("'")
    assert steers(csv_cell(text)) == set()


@pytest.mark.parametrize("text", ["", "relu", "-0.5", "+1e-3", "he_normal 2", "a=b", "{name: relu}"])
def test_a_number_and_an_ordinary_text_are_a_cell_as_they_are(text):
    assert csv_cell(text) == text


def test_a_console_styles_its_text_and_the_text_styles_nothing():
    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=True, color_system="standard", width=80)
    table = Table(box=None)
    table.add_column("a")
    table.add_row("b\x1b[2Jc")
    console.print(table, Text("red\x1b]0;x\x07", "red"))
    text = out.getvalue()
    assert "\x1b[31m" in text
    assert r"b\u001b[2Jc" in text
    assert r"red\u001b]0;x" in text
    assert steers(re.sub("\x1b\\[[0-9;]*m", "", text)) == set()


def test_a_live_picture_moves_the_cursor_on_safe_streams_and_what_is_printed_below_it_does_not(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with safe_streams():
        with Live(Text("a\x1b[2Jb", "red"), console=SafeConsole(force_terminal=True, width=80)) as live:
            print("\x1b[2Jprinted")
            live.update("later")
        print("\x1b[2Jdone")
    text = out.getvalue()
    assert "\x1b[2K" in text
    assert r"a\u001b[2Jb" in text
    assert r"\u001b[2Jdone" in text
    assert steers(re.sub("\x1b\\[[?0-9;]*[A-Za-z]|\r", "", text)) == set()
    assert r"\u001b[2K" not in text
    assert "\x1b[2J" not in text


@pytest.fixture
def tampered(write_run) -> Run:
    """A run whose every text was written by an enemy."""
    steps, depth = 3, 4
    settings = {"name": "tampered", "model": {"depth": depth, "width": 4}, "train": {"steps": steps}}
    delta = np.random.default_rng(0).normal(size=(steps, 2, depth + 1))
    run = write_run(settings, {"delta_log10": delta}, {"train_loss": np.ones((steps, 2)) * [[2], [1], [0.5]]})
    config = run.config | {"name": EVIL, "sweep": {"axes": {"model.activation": ["relu", EVIL]}, "cells": []}}
    (run.path / "config.yaml").write_text(yaml.safe_dump(config))
    more = {"lanes": 2, "lanes_done": 2, "programs": 1, "rounds": 0, "git_commit": EVIL, "host": {EVIL: EVIL}}
    (run.path / "meta.json").write_text(json.dumps(run.meta | more | {"devices": [EVIL], "versions": {EVIL: EVIL}}))
    rows = [
        {
            "lane": lane,
            "cell": str(lane),
            "seed": 0,
            "model.activation": f"{EVIL}{lane}",
            f"{EVIL}option": f"{EVIL}{lane}",
            "status": "done",
            "verdict": EVIL,
            "evidence": f"=1+1{EVIL}",
            "diverged_step": 1,
            "diverged_layer": 1,
            "error": EVIL,
            **dict.fromkeys(("slope", *FINAL), 0.5),
        }
        for lane in (0, 1)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), run.path / "lanes.parquet")
    return run


def said(*arguments: str) -> str:
    """All that a command writes to standard output and standard error, and what is printed of how it failed."""
    result, failure = CliRunner().invoke(cli.app, list(arguments)), io.StringIO()
    if isinstance(result.exception, VgxError):
        with redirect_stderr(failure), suppress(SystemExit):
            fail(result.exception.on_command_line, result.exception.exit_code)
    else:
        assert isinstance(result.exception, SystemExit | None)
    return result.output + failure.getvalue()


def test_no_command_lets_a_run_steer_the_terminal(tampered, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "bundle", lambda: "")
    monkeypatch.setattr(write, "write_stills", lambda stills, folder: [folder / f"{name}.svg" for name, _ in stills])
    run, runs = str(tampered.path), ["--runs", str(tampered.path.parent)]
    for command in (
        ["show", run],
        ["show", run, "--lane", "1"],
        ["show", run, "--layer", "2"],
        ["show", run, "--rows", EVIL],
        ["runs", *runs],
        ["report", run, "-o", str(tmp_path / "page\x1b[2J.html")],
        ["export", run, "--to", "csv"],
    ):
        text = said(*command)
        assert steers(text) == set(), command
        assert len(text) > 20
    single = tampered.config
    del single["sweep"]
    (tampered.path / "config.yaml").write_text(yaml.safe_dump(single))
    for command in (["show", run], ["compare", run, run], ["compare", run, run, "--json"], ["runs", *runs]):
        assert steers(said(*command)) == set(), command


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", EVIL],
        ["compare", EVIL, EVIL],
        ["check", f"{EVIL}.yaml"],
        ["train", f"{EVIL}.yaml"],
        ["train", "configs/quickstart.yaml", "--set", f"{EVIL}=1", "--set", EVIL, "--set", f"name={EVIL}"],
        ["predict", "configs/quickstart.yaml", "--axis", EVIL],
        ["show", "a", "--step", EVIL],
        [EVIL],
        [f"--{EVIL}"],
        ["runs", "--runs", EVIL],
        ["data", EVIL],
    ],
)
def test_no_argument_steers_the_terminal(arguments):
    arguments = [argument.replace("\x00", "") for argument in arguments]  # a process has none
    text = said(*arguments)
    assert steers(text) == set()
    assert "1b]0;owned" in text or "--step" in text


def test_a_page_and_a_table_of_a_tampered_run_are_valid_and_compute_nothing(tampered, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "bundle", lambda: "")
    html, _ = write.drawn(gather(tampered))
    assert steers(html) == set()
    root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)
    assert root.find(".//h1").text == visible(EVIL)
    data = json.loads(root.find(".//script[@id='data']").text)
    assert steers(json.dumps(data, ensure_ascii=False)) == set()
    assert data["lanes"][0]["verdict"] == visible(EVIL)
    assert visible(EVIL) in "".join(root.find(".//ul[@id='verdicts']").itertext())
    path = export(tampered, "csv", tmp_path / "csv")
    for file in path.glob("*.csv"):
        assert steers(file.read_text()) == set()
    head, first, _ = csv.reader((path / "lanes.csv").read_text().splitlines())
    assert first[head.index("evidence")] == f"'{visible(f'=1+1{EVIL}')}"
    assert first[head.index("slope")] == "0.5"
    for folder in export(tampered, "tensorboard", tmp_path / "tb").iterdir():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", folder.name)


@pytest.mark.slow
def test_a_swept_value_with_any_character_is_drawn(tampered):
    done = subprocess.run([sys.executable, "-m", "vgx", "report", str(tampered.path)], capture_output=True, text=True)
    assert done.returncode == 0
    figures = list((tampered.path / "figures").glob("*.svg"))
    assert len(figures) > 5
    for figure in figures:
        assert steers("".join(ElementTree.parse(figure).getroot().itertext())) == set()
    assert any(r"\u001b]0;owned" in figure.read_text() for figure in figures)


def test_a_library_that_prints_is_safe_too_and_streams_are_given_back(monkeypatch):
    monkeypatch.setattr(vgx, "load_config", lambda *given: print("\x1b[2Jhello", file=sys.stderr) or sys.exit(0))
    before = sys.stdout, sys.stderr
    assert said("train", "a.yaml") == "\\u001b[2Jhello\n"
    assert (sys.stdout, sys.stderr) == before
