"""No command is silent for long, and none says so where numbers are read."""

from __future__ import annotations

import io
import math
import sys
import threading
import time

import pytest
from rich.console import Console

import vgx
from vgx.errors import EnvironmentFault
from vgx.report.terminal import progress, sweep, working
from vgx.report.terminal.working import Clock
from vgx.runner.loop import TrainingProgress


@pytest.fixture
def lines(monkeypatch):
    """What is printed on standard error, line by line; something takes long at once."""
    monkeypatch.setattr(working, "LONG", (0.0, math.inf))
    said: list[str] = []
    told = threading.Condition()

    class Errors(io.StringIO):
        def write(self, text: str) -> int:
            with told:
                said.extend(line for line in text.splitlines() if line)
                told.notify_all()
            return len(text)

        def wait_for(self, count: int) -> list[str]:
            with told:
                assert told.wait_for(lambda: len(said) >= count, timeout=60)
            return said

    errors = Errors()
    monkeypatch.setattr(working, "SafeConsole", lambda **_: Console(file=errors, width=80))
    return errors


def test_what_takes_long_is_said_once_on_standard_error_and_nothing_on_standard_output(lines, capsys):
    with working.working("predicting") as say:
        assert lines.wait_for(1) == ["predicting 0 s"]
        say("measuring")
        assert lines.wait_for(2) == ["predicting 0 s", "measuring 0 s"]
        say("")  # something else is seen from here
    assert capsys.readouterr().out == ""


def test_what_is_quick_or_silent_says_nothing(capsys, monkeypatch):
    with working.working("predicting"):
        pass
    monkeypatch.setattr(working, "LONG", (0.0, math.inf))
    with working.working("predicting", silent=True):
        assert [thread.name for thread in threading.enumerate() if "_tell" in thread.name] == []
    assert capsys.readouterr() == ("", "")


def test_a_clock_counts_on_through_details_and_anew_for_something_else(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = Clock("verifying")
    now += 3
    clock("verifying", "1 of 2: relu")
    assert str(clock) == "verifying 1 of 2: relu 3 s"
    clock("writing")
    assert str(clock) == "writing 0 s"
    clock("")
    assert str(clock) == ""


def test_a_terminal_shows_it_and_standard_output_is_left_alone(monkeypatch):
    screen, out = io.StringIO(), io.StringIO()
    monkeypatch.setattr(working, "SafeConsole", lambda **_: Console(file=screen, force_terminal=True, width=80))
    monkeypatch.setattr(sys, "stdout", out)
    with working.working("drawing"):
        print('{"numbers": 1}')
    assert "drawing 0 s" in screen.getvalue()
    assert out.getvalue() == '{"numbers": 1}\n'


@pytest.mark.parametrize(("told", "seconds"), [("3", 3.0), ("inf", math.inf)])
def test_patience_may_be_told(monkeypatch, told, seconds):
    monkeypatch.setenv("VGX_PATIENCE", told)
    assert working._patience() == seconds
    monkeypatch.delenv("VGX_PATIENCE")
    assert working._patience() == 2


def test_patience_that_is_no_number_gets_one_line(monkeypatch):
    monkeypatch.setenv("VGX_PATIENCE", "long")
    with pytest.raises(EnvironmentFault, match="VGX_PATIENCE=long: expected seconds"):
        working._patience()


START = TrainingProgress("compiling", 0, 10, 0.0, 1, math.nan, math.nan, math.nan, 0, None)


def test_a_training_says_what_it_does_before_its_first_step_and_while_it_compiles():
    config, screen = vgx.load_config({"name": "net"}), io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with progress.watching(console, config, silent=False) as watch:
        assert "reading data and predicting 0 s" in screen.getvalue()
        assert watch
        watch(START)
    assert "compiling 0 s" in screen.getvalue()


def test_so_does_a_training_in_a_pipe(lines, capsys):
    with progress.watching(Console(), vgx.load_config({"name": "net"}), silent=False) as watch:
        assert watch
        assert lines.wait_for(1) == ["reading data and predicting 0 s"]
        watch(START)
        assert lines.wait_for(2)[1] == "compiling 0 s"


def test_so_does_a_sweep(lines):
    screen = io.StringIO()
    with sweep.watching_sweep(Console(file=screen, force_terminal=True, width=80), silent=False):
        pass
    assert "planning 0 s" in screen.getvalue()
    with sweep.watching_sweep(Console(file=io.StringIO()), silent=False):
        assert lines.wait_for(1) == ["planning 0 s"]
