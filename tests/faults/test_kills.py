"""Killed at any moment, vgx leaves a run that can be read, and that the same command brings to the same bits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from faults import samples
from faults.commands import Outcome, Warm, none, troubles
from faults.tables import leftovers, lost, status_of, the_run

pytestmark = pytest.mark.faults

KILLS = 6
"""For each scenario, spread over all that it does to files."""


class Scenario(NamedTuple):
    """A command that is killed, and where it begins."""

    sample: str
    """The run that is there before; none when empty."""
    argv: tuple[str, ...]
    """The command, {run} and {config} filled in."""
    again: tuple[str, ...]
    """What brings it to its end afterwards."""
    uncut: str
    """The run that it must come to."""


TRAIN = ("train", "{config}", "--quiet")
SWEEP = ("sweep", "{config}", "--quiet")
SCENARIOS = {
    "train": Scenario("", TRAIN, (*TRAIN, "--resume"), "uncut"),
    "resume": Scenario("cut", (*TRAIN, "--resume"), (*TRAIN, "--resume"), "uncut"),
    "overwrite": Scenario("whole", (*TRAIN, "--overwrite"), (*TRAIN, "--resume"), "whole"),
    "overwrite-cut": Scenario("cut", (*TRAIN, "--overwrite"), (*TRAIN, "--resume"), "uncut"),
    "sweep": Scenario("", SWEEP, SWEEP, "griduncut"),
    "sweep-on": Scenario("gridcut", SWEEP, SWEEP, "griduncut"),
    "sweep-overwrite": Scenario("grid", (*SWEEP, "--overwrite"), SWEEP, "grid"),
}


class Place:
    """A folder with a run, or about to have one."""

    def __init__(self, scenario: Scenario, shared: Path, copy_of: Callable[..., Path], folder: Path):
        self.scenario, self.folder = scenario, folder
        self.expected = the_run(shared / scenario.uncut)
        name = scenario.uncut.replace("un", "")
        settings = samples.grid(name) if name.startswith("grid") else samples.single(name)
        self.config = folder / "config.yaml"
        self.config.write_text(samples.text(settings))
        self.run = copy_of(*([scenario.sample] if scenario.sample else []), "other").parent / self.expected.name
        self.runs = self.run.parent

    def command(self, argv: tuple[str, ...]) -> list[str]:
        return [*(word.format(config=self.config, run=self.run) for word in argv), "--runs", str(self.runs)]

    def wrongs_after(self, warm: Warm) -> list[str]:
        """Returns what is wrong after a kill: with what is there, and with what the command comes to."""
        found = troubles(listed := warm("runs", "--runs", self.runs), 0)
        if "other-" not in listed.out or (self.run.exists() and self.run.name not in listed.out):
            found.append(f"a run is not listed:\n{listed}")
        if self.run.exists():
            found += troubles(warm("show", self.run, "--runs", self.runs), 0)
            if status_of(self.run) == "done" and (wrong := lost(self.run, self.expected)):
                found.append(f"says done, and has other rows: {wrong}")
        again = warm(*self.command(self.scenario.again))
        found += troubles(again, 0)
        if again.code == 0:
            if wrong := lost(self.run, self.expected):
                found.append(f"other rows in the end: {wrong}")
            if status_of(self.run) != "done":
                found.append(f"{status_of(self.run)} in the end")
            if left := leftovers(self.runs):
                found.append(f"leftovers: {left}")
        return found


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_that_was_killed_at_any_change_of_a_file_comes_to_the_same_bits(
    name, shared: Path, copy_of: Callable[..., Path], warm: Warm, tmp_path: Path, random: Random, tally: Callable
):
    scenario = SCENARIOS[name]
    place = Place(scenario, shared, copy_of, tmp_path)
    child = warm.start(*place.command(scenario.argv), watched=place.runs)
    whole = warm.end(child)
    found = troubles(whole, 0)
    changes = warm.changes(child)
    killed = 0
    for part in range(KILLS):
        turn = 1 + int((part + random.random()) / KILLS * changes)
        place = Place(scenario, shared, copy_of, tmp_path)
        victim = warm(*place.command(scenario.argv), watched=place.runs, die_at=turn)
        killed += victim.code == -signal.SIGKILL
        if victim.code not in (0, -signal.SIGKILL):
            found += troubles(victim, 0)
        found += [f"killed at change {turn} of {changes}: {one}" for one in place.wrongs_after(warm)]
    tally("kills at a change of a file", all=KILLS, killed=killed, failed=len(found))
    none(found)


@pytest.mark.parametrize("name", ["report", "csv", "npz"])
def test_a_report_or_an_export_that_was_killed_leaves_the_earlier_one_or_the_whole_new_one(
    name, shared: Path, copy_of: Callable[..., Path], warm: Warm, tmp_path: Path, random: Random, tally: Callable
):
    run = copy_of("whole")
    argv = ("report", run) if name == "report" else ("export", run, "--to", name, "--overwrite")
    kills = KILLS if name != "report" else KILLS // 2
    target = run / (
        "report.html" if name == "report" else f"exports/{name}" if name == "csv" else f"exports/{run.name}.npz"
    )
    found = troubles(warm(*argv), 0)
    child = warm.start(*argv, watched=run)
    found += troubles(warm.end(child), 0)
    changes, killed, whole = warm.changes(child), 0, contents_of(target)
    for part in range(kills):
        turn = 1 + int((part + random.random()) / kills * changes)
        victim = warm(*argv, watched=run, die_at=turn)
        killed += victim.code == -signal.SIGKILL
        # Between the two renames of a folder, the earlier one stands beside it, and the next command puts it back.
        if whole.keys() not in (contents_of(one).keys() for one in (target, *target.parent.glob(f".{target.name}.*"))):
            found.append(f"killed at change {turn} of {changes}: {target.name} is gone, or not whole")
        if wrong := lost(run, the_run(shared / "whole")):
            found.append(f"killed at change {turn} of {changes}: other rows: {wrong}")
        found += troubles(warm(*argv), 0)
        if left := leftovers(run):
            found.append(f"killed at change {turn} of {changes}: leftovers after the next: {left}")
    tally("kills at a change of a file", all=kills, killed=killed, failed=len(found))
    none(found)


def contents_of(path: Path) -> dict[str, int]:
    """Returns the names and sizes of the files at a path, whose text is whole."""
    return {str(one.relative_to(path)): one.stat().st_size for one in [path, *path.rglob("*")] if one.is_file()}


LONG = {"train": (samples.single("long", steps=20_000), "train"), "sweep": (samples.grid("long", steps=8_000), "sweep")}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def uncut(shared: Path, env: dict[str, str], warm: Warm, tmp_path_factory) -> Callable[[str], Path]:
    """A function that returns a long run that was never interrupted."""

    def made(name: str) -> Path:
        runs = tmp_path_factory.getbasetemp() / f"uncut-{name}"
        if not runs.exists():
            config = tmp_path_factory.getbasetemp() / f"{name}.yaml"
            config.write_text(samples.text(LONG[name][0]))
            outcome = warm(LONG[name][1], config, "--runs", runs, "--quiet")
            assert outcome.code == 0, outcome
        return the_run(runs)

    return made


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("name", LONG)
def test_a_process_killed_at_any_time_leaves_what_the_same_command_finishes(
    name, number, cold: Callable, uncut: Callable, warm: Warm, tmp_path: Path, random: Random, tally: Callable
):
    settings, command = LONG[name]
    config, runs = tmp_path / "config.yaml", tmp_path / "runs"
    config.write_text(samples.text(settings))
    argv = (command, config, "--runs", runs, "--quiet", *(["--resume"] if command == "train" else []))
    found: list[str] = []
    conditions = [
        lambda: True,
        lambda: any(runs.glob(".*.new")) or any(runs.glob("*/meta.json")),
        lambda: any(runs.glob("*/metrics/*.parquet")),
        lambda: any(runs.glob("*/checkpoint/*")),
        lambda: any(runs.glob("*/layers/.*")),
    ]
    for turn in range(2):  # the second kill meets what the first one left
        victim = cold(*argv)
        reached = victim.until(random.choice(conditions))
        time.sleep(random.choice([0, 0.01, 0.1, 0.5, 1.0, 2.0]))
        victim.process.send_signal(random.choice(SIGNALS) if reached else signal.SIGKILL)
        found += [f"{turn}: {one}" for one in wrongs_of_victim(victim.end(), runs)]
    again = warm(*argv)
    found += troubles(again, 0)
    if again.code == 0:
        if wrong := lost(the_run(runs), uncut(name)):
            found.append(f"other rows in the end: {wrong}")
        if left := leftovers(runs):
            found.append(f"leftovers: {left}")
    tally("kills at any time", all=2, failed=len(found))
    none(found)


def wrongs_of_victim(outcome: Outcome, runs: Path) -> list[str]:
    """Returns what is wrong with how an interrupted or killed process ended."""
    if outcome.code in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
        # A signal that comes before Python runs ends the process at once.
        found = [] if not outcome.err else troubles(outcome, outcome.code)
    else:
        found = troubles(outcome, 130)
    return found + [f"{run}: failed" for run in runs.glob("[!.]*") if run.is_dir() and status_of(run) == "failed"]


MOMENTS = {
    "reading the config": "pydantic_core",
    "importing jax": "jaxlib",
    "importing more": "libjax_common",
    "compiling": "",
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("command", ["train", "sweep"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_before_the_first_step_ends_with_130_and_no_failed_run(
    moment, command, number, cold: Callable, warm: Warm, tmp_path: Path, random: Random, tally: Callable
):
    config, runs = tmp_path / "config.yaml", tmp_path / "runs"
    config.write_text(samples.text(LONG[command][0]))
    argv = (command, config, "--runs", runs, "--quiet")
    victim = cold(*argv, env={"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")})
    maps, library = Path(f"/proc/{victim.pid}/maps"), MOMENTS[moment]
    assert victim.until(lambda: library in maps.read_text() if library else any(runs.glob("*/meta.json")))
    time.sleep(random.choice([0, 0, 0.05, 0.1, 0.2]))
    os.kill(victim.pid, number)
    outcome = victim.end()
    found = troubles(outcome, 130)
    found += [f"{run.name}: {status_of(run)}" for run in runs.glob("[!.]*") if status_of(run) == "failed"]
    tally("signals before the first step", all=1, failed=len(found))
    none([f"{moment}: {one}" for one in found])
