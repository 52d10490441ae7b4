"""The tests' own surroundings: the same whoever runs them, and in whatever terminal."""

from __future__ import annotations

import os
import subprocess
import sys

from vgx.cli.options import make_console


def test_tests_see_80_columns_in_a_terminal_of_any_width(monkeypatch):
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((140, 50)))
    assert make_console().width == 80


def test_what_tests_start_sees_80_columns_too():
    script = "import shutil; print(shutil.get_terminal_size().columns)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "80"


def test_no_colour_is_forced_or_forbidden_from_outside():
    assert {"NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS"} & set(os.environ) == set()
