"""Whatever a config file holds, `vgx check` says what it is or what is wrong with it, a line for each fault."""

from __future__ import annotations

import io
import re
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random

import pytest
import yaml

import vgx
from faults.commands import Outcome, none, troubles
from faults.configs import generate
from vgx.cli import main

pytestmark = pytest.mark.faults

CHUNKS, CONFIGS = 22, 100
MOST_LINES = 21
"""Of what is wrong with a config: twenty faults, and how many more there are."""
SECONDS = 20
"""Of computing, after which a check hangs."""


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_config_is_accepted_or_refused_in_words(chunk, random: Random, tmp_path: Path, tally: Callable):
    found = []
    refused = accepted = tracebacks = 0
    for number, (how, content) in enumerate(generate(random, CONFIGS)):
        path = tmp_path / f"{number:03d}-{how}.yaml"
        path.write_bytes(content)
        outcome = check(path)
        wrong = wrongs(path, outcome) or (returns_changed(path) if outcome.code == 0 else [])
        refused, accepted = refused + (outcome.code == 2), accepted + (outcome.code == 0)
        tracebacks += "Traceback" in outcome.err
        found += [f"{path}: {one}" for one in wrong]
        if not wrong:
            path.unlink()
    tally("configs", all=CONFIGS, refused=refused, accepted=accepted, tracebacks=tracebacks, failed=len(found))
    none(found)


def check(path: Path) -> Outcome:
    """Runs `vgx check` in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    before = sys.argv, signal.signal(signal.SIGVTALRM, _late)
    # `main` ignores these as it ends, and so would every command that this process starts afterwards.
    stops = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    sys.argv = ["vgx", "check", str(path)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            except BaseException:
                code = 1
                traceback.print_exc()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        sys.argv = before[0]
        signal.signal(signal.SIGVTALRM, before[1])
        for number, handler in stops.items():
            signal.signal(number, handler)
    return Outcome(("check", str(path)), code, out.getvalue(), err.getvalue())


def _late(number, frame):
    raise TimeoutError(f"no answer after {SECONDS} seconds")


def wrongs(path: Path, outcome: Outcome) -> list[str]:
    """Returns what is wrong with what was said."""
    found = troubles(outcome, 0, 2, lines=MOST_LINES)
    placed = re.compile(re.escape(str(path)) + r"(:\d+:\d+)?: \S")
    strays = [line for line in outcome.err.splitlines()[: MOST_LINES - 1] if not placed.match(line)]
    if strays and not found:
        found = [f"a line that begins with no place: {strays[0]!r}\n{outcome}"]
    return found


def returns_changed(path: Path) -> list[str]:
    """Returns what is wrong when a config that was accepted, written out and read again, is another."""
    tree = yaml.load(path.read_text("utf-8-sig"), yaml.BaseLoader)
    if "claim" in tree:
        return []
    again = path.with_name("again.yaml")
    if "sweep" in tree or "map" in tree:
        sweep = vgx.load_map(path) if "map" in tree else vgx.load_sweep(path)
        again.write_text(sweep.to_yaml(), encoding="utf-8")
        back = vgx.load_sweep(again)
        same = (sweep.base, sweep.folder, sweep.cells) == (back.base, back.folder, back.cells)
    else:
        config = vgx.load_config(path)
        again.write_text(config.to_yaml(), encoding="utf-8")
        same = vgx.load_config(again) == config and vgx.load_config(again).digest == config.digest
    return [] if same else [f"reads back as another:\n{again.read_text('utf-8')}"]
