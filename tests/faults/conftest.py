"""What the parts of the campaign share: the seed, warm processes, samples, and the count of what was tried."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from faults.commands import SEED, Cold, Warm, environment
from faults.tables import the_run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints a line of counts for each part of the campaign."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for part, counts in report.user_properties:
                    sums[part].update(counts)
    if sums:
        terminalreporter.write_line(f"seed {SEED}; VGX_FAULT_SEED={SEED} make test-faults tries the same again")
    for part, counts in sums.items():
        total = counts.pop("all")
        terminalreporter.write_line(
            f"{total:,} {part}: " + ", ".join(f"{count:,} {word.replace('_', ' ')}" for word, count in counts.items())
        )


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Randomness of this test alone: of the campaign's seed and the test's name."""
    return Random(f"{SEED} {request.node.name}")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function that counts what was tried: `tally("configs", all=1, refused=1)`."""
    return lambda part, **counts: request.node.user_properties.append((part, counts))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers share, with the samples in it and a cache of compiled programs."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "samples.made").exists():
            made = subprocess.run(
                [sys.executable, "-m", "faults.samples", folder], env=environment(folder / "cache"), check=False
            )
            assert made.returncode == 0, "the samples cannot be trained"
            (folder / "samples.made").touch()
    return folder


@pytest.fixture(scope="session")
def env(shared: Path) -> dict[str, str]:
    """The variables that commands see."""
    return environment(shared / "cache")


@pytest.fixture(scope="session")
def warm(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Runs commands in children of a process that has vgx imported."""
    process = Warm(tmp_path_factory.mktemp("warm"), env)
    yield process
    process.close()


@pytest.fixture
def cold(env: dict[str, str], tmp_path: Path) -> Callable[..., Cold]:
    """Starts a command in a process of its own."""
    return lambda *argv, **how: Cold(tmp_path, env | how.pop("env", {}), *argv, **how)


@pytest.fixture
def copy_of(shared: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that copies samples into a fresh folder of runs, and returns the path of the first."""

    def copied(*names: str) -> Path:
        runs = tmp_path / f"runs{len(list(tmp_path.glob('runs*')))}"
        for name in names:
            shutil.copytree(shared / name, runs, dirs_exist_ok=True)
        return runs / the_run(shared / names[0]).name

    return copied
