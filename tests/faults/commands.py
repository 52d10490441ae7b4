"""Commands of vgx as processes, and what is claimed of every one of them, whatever was done to it."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent.parent
SEED = os.environ.get("VGX_FAULT_SEED", "20250")
"""Of the whole campaign."""
PATIENCE = 60.0
"""Seconds. A command that takes longer hangs: none takes 20 on an idle core."""


class Outcome(NamedTuple):
    """How a command ended."""

    argv: tuple[str, ...]
    code: int
    """The exit code, or minus the number of the signal that ended it."""
    out: str
    err: str
    peak: int = 0
    """The most memory it had, in bytes; 0 where that is not looked at."""
    seconds: float = 0.0

    def __str__(self) -> str:
        said = f"{_ends(self.out, 300)}{_ends(self.err, 600)}".strip()
        return f"$ vgx {' '.join(self.argv)}\n{said}\n(exit {self.code})"


def _ends(text: str, most: int) -> str:
    return text if len(text) <= 2 * most else f"{text[:most]}\n[...]\n{text[-most:]}"


def environment(cache: Path) -> dict[str, str]:
    """Returns the variables that commands see: a terminal of 100 columns, a cache of compiled programs, no network."""
    return os.environ | {
        "COLUMNS": "100",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "OPENBLAS_NUM_THREADS": "1",  # no threads in a process that forks
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }


class Warm:
    """Runs commands as children of a process that has vgx imported, one at a time."""

    def __init__(self, folder: Path, env: dict[str, str]):
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "faults.warm"],
            env=env,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self.process.communicate(timeout=10)

    def __call__(self, *argv: str | Path, timeout: float = PATIENCE, **how: Any) -> Outcome:
        """Runs `vgx argv...` to its end, and returns how it ended; `how` is what `warm.become` knows."""
        return self.end(self.start(*argv, **how), timeout)

    def start(self, *argv: str | Path, **how: Any) -> Child:
        """Starts a command; `end` must be called before the next one."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.count += 1
        out, err = (self.folder / f"{self.count}.{name}" for name in ("out", "err"))
        said = {"argv": [*map(str, argv)], "out": str(out), "err": str(err), "cwd": str(self.folder)}
        self.process.stdin.write(json.dumps(said | {key: _plain(value) for key, value in how.items()}) + "\n")
        self.process.stdin.flush()
        return Child(tuple(map(str, argv)), int(self.process.stdout.readline()), out, err)

    def end(self, child: Child, timeout: float = PATIENCE) -> Outcome:
        """Waits for a command, kills it when that takes too long, and returns how it ended."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        if not ready:
            os.killpg(child.pid, signal.SIGKILL)
        ended = json.loads(self.process.stdout.readline())
        out, err = (path.read_text(errors="backslashreplace") for path in (child.out, child.err))
        if not ready:
            err += f"\n(killed by the harness: it hung for {timeout:g} seconds)"
        for path in (child.out, child.err):
            path.unlink()
        return Outcome(child.argv, ended["code"], out, err, ended["peak"], ended["seconds"])

    def changes(self, child: Child) -> int:
        """Returns how many changes a watched command that has ended made to files."""
        return int(Path(f"{child.err}.changes").read_text())


class Child(NamedTuple):
    """A command that runs."""

    argv: tuple[str, ...]
    pid: int
    out: Path
    err: Path


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


class Cold:
    """A command as a user starts it: `python -m vgx argv...`, its output in files."""

    def __init__(self, folder: Path, env: dict[str, str], *argv: str | Path, **how: Any):
        self.argv, self.began = tuple(map(str, argv)), time.monotonic()
        self.paths = folder / f"cold-{time.monotonic_ns()}.out", folder / f"cold-{time.monotonic_ns()}.err"
        with self.paths[0].open("wb") as out, self.paths[1].open("wb") as err:
            how = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, "cwd": folder} | how
            self.process = subprocess.Popen([sys.executable, "-m", "vgx", *self.argv], env=env, **how)

    @property
    def pid(self) -> int:
        return self.process.pid

    def until(self, condition: Any) -> bool:
        """Waits until `condition()` holds, and returns whether it ever did while the command ran."""
        while self.process.poll() is None and time.monotonic() - self.began < PATIENCE:
            if condition():
                return True
            time.sleep(0.002)
        return False

    def end(self, timeout: float = PATIENCE) -> Outcome:
        """Waits for its end, and returns how it ended."""
        try:
            self.process.wait(timeout)
            late = ""
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            late = f"\n(killed by the harness: it hung for {timeout:g} seconds)"
        out, err = (path.read_text(errors="backslashreplace") for path in self.paths)
        return Outcome(self.argv, self.process.returncode, out, err + late, 0, time.monotonic() - self.began)


NAMES_OF_PYTHON = re.compile(
    r"Traceback|\b(?!VgxError)[A-Z]\w*(Error|Exception|Warning|Interrupt)\b|<class '|object at 0x"
)
"""What only a programmer should ever see."""


def troubles(outcome: Outcome, *codes: int, about: str = "", lines: int = 1) -> list[str]:
    """Returns what is wrong with how a command ended; nothing for one that did its work or said why it cannot.

    Args:
        outcome: of the command.
        codes: the exit codes that will do.
        about: what the message of a refusal must name.
        lines: how many lines a refusal may have.
    """
    found = []
    if outcome.code not in (codes or (0, 2, 3, 4, 130)):
        found.append(f"exit code {outcome.code}")
    if match := NAMES_OF_PYTHON.search(outcome.err) or NAMES_OF_PYTHON.search(outcome.out):
        found.append(f"{match[0]!r} in its output")
    if raw := sorted({char for char in outcome.out + outcome.err if is_raw(char)}):
        found.append(f"raw control characters: {raw}")
    if outcome.code in (2, 4):
        said = outcome.err.strip()
        if not said:
            found.append("no word why")
        if said.count("\n") >= lines:
            found.append(f"{said.count(chr(10)) + 1} lines where {lines} will do")
        if about not in said:
            found.append(f"no mention of {about}")
    return [f"{'; '.join(found)}:\n{outcome}"] if found else []


def none(found: list[str]) -> None:
    """Fails the test that found troubles, and shows them."""
    if found:
        pytest.fail(f"{len(found)} found:\n\n" + "\n\n".join(found), pytrace=False)


def is_raw(char: str) -> bool:
    """Whether a character does something to a terminal instead of being seen."""
    return char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
