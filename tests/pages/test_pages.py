"""README and the how-to pages from top to bottom: every command, config and line of Python, as a reader pastes them.

Each page runs in the order in which it stands, in a folder of its own with a copy of the configs: what one command
leaves, the next one uses. To take minutes, the copies train for a few steps, and MNIST is a made-up one of a tenth of
its size. (The tutorial is run as it is: test_tutorial.py.)
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vgx
from vgx.data.mirrors import FILES

ROOT = Path(vgx.__file__).parent.parent
PAGES = {path.stem: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]}

NOT_RUN = {
    "make demo": "installs; .ci/run runs it in a clean clone",
    "make test": "installs, and runs every other test; .ci/run runs it",
    "vgx reproduce --all": "trains for hours; .ci/run runs all of them at scale smoke",
    "vgx doctor": "finds the made-up MNIST at fault, as it should; tests/runner/test_doctor.py runs it",
    "vgx data get mnist": "downloads; tests/data/test_download.py gets it from a server of its own",
    "vgx data verify": "finds the made-up MNIST at fault, as it should",
    ".venv/bin/pip install": "downloads",
    "vgx export tracked --to wandb": "an extra; make test-exports runs it",
    "vgx export tracked --to mlflow": "an extra; make test-exports runs it",
    "vgx train configs/mnist.yaml --device gpu": "needs a GPU",
    "vgx map configs/maps/tanh-map.yaml": "trains for ten minutes; the digits' map, above it on the page, is run",
    "vgx report tanh-map": "of that",
    "docker ": "needs docker; tests/test_packaging.py reads the files",
    "vgx train my-net.yaml --set 'data={name: idx": "files that the reader has; tests/data/test_idx.py reads such",
}
"""Lines that are shown and not run, by how they begin, and why."""
SMALLER = {
    "vgx reproduce": "--scale smoke",
    "vgx verify": "--width 128 --nets 2",
}
"""What is put behind commands that would take long, by how they begin."""
GIVEN = {"editors": ("activation", "my_parts.py"), "ci": ("ci", "guarded.yaml")}
"""Files that a page takes from another one: where they are."""
FIRST_WORDS = ("vgx", "make", "python", ".venv/bin/pip", "docker")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page with their languages, and in a page of none the indented ones as `bash`."""
    if fenced := FENCE.findall(text):
        return fenced
    found = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return [("bash", re.sub(r"^    ", "", block, flags=re.MULTILINE)) for block in found]


def commands(text: str) -> list[str]:
    lines = [line for kind, block in blocks(text) if kind == "bash" for line in block.splitlines()]
    return [line for line in lines if line.strip()]


def file_of(block: str) -> str | None:
    """The name of the file that a block is, as its first line says."""
    named = re.match(r"# ([\w-]+\.(?:yaml|py))\n", block)
    return named[1] if named else None


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("data")
    write_mnist(place / "mnist")
    return place


def write_mnist(place: Path, train: int = 6_000, test: int = 1_000) -> None:
    """Images of noise around ten pictures, in the four files of MNIST."""
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 200, (10, 28, 28))
    for count, images, labels in ((train, *FILES[:2]), (test, *FILES[2:])):
        classes = rng.integers(0, 10, count).astype(np.uint8)
        pixels = np.clip(pictures[classes] + rng.normal(0, 60, (count, 28, 28)), 0, 255).astype(np.uint8)
        header = struct.pack(">IIII", 2051, count, 28, 28), struct.pack(">II", 2049, count)
        (place / f"{images}.gz").write_bytes(gzip.compress(header[0] + pixels.tobytes(), 1))
        (place / f"{labels}.gz").write_bytes(gzip.compress(header[1] + classes.tobytes(), 1))


def reader(folder: Path) -> None:
    """Puts into a folder what a reader of the docs has in a clone: the configs, shorter."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    for path in [path for kind in ("", "sweeps/", "maps/") for path in folder.glob(f"configs/{kind}*.yaml")]:
        path.write_text(re.sub(r"\bsteps: \d+", "steps: 4", path.read_text()))
    (folder / "docs").mkdir()


def run(command: list[str], folder: Path, data: Path) -> str:
    """What a command prints. Fails when it does not succeed."""
    place = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"VGX_DATA_DIR": str(data), "PATH": place, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[-1]}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def runnable(line: str) -> str | None:
    """A command as the test runs it; None where it is not run."""
    if any(line.startswith(start) for start in NOT_RUN):
        return None
    command = line.partition("  #")[0].rstrip()
    more = next((more for start, more in SMALLER.items() if line.startswith(start)), "")
    return command if not more or command == "vgx reproduce" else f"{command} {more}"


@pytest.mark.docs
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_shows_from_top_to_bottom(page, tmp_path, data):
    reader(tmp_path)
    if page in GIVEN:
        source, name = GIVEN[page]
        (text,) = (block for _, block in blocks(PAGES[source]) if file_of(block) == name)
        (tmp_path / name).write_text(text)
    for kind, block in blocks(PAGES[page]):
        if name := file_of(block):
            (tmp_path / name).write_text(block)
        elif kind == "python":
            run([sys.executable, "-c", block], tmp_path, data)
        elif kind == "bash":
            for line in filter(None, map(runnable, filter(str.strip, block.splitlines()))):
                run(["bash", "-c", line], tmp_path, data)


def test_every_line_of_commands_is_one():
    shown = [line for text in PAGES.values() for line in commands(text)]
    assert [line for line in shown if line.split()[0] not in FIRST_WORDS] == []
    assert len(shown) > 60


def test_few_lines_are_not_run_and_each_is_there():
    shown = [line for text in PAGES.values() for line in commands(text)]
    for start in [*NOT_RUN, *SMALLER]:
        assert any(line.startswith(start) for line in shown), start
    assert len([line for line in shown if runnable(line)]) > 3 * len(NOT_RUN)


def test_every_config_that_stands_alone_is_written_under_a_name():
    whole = [block for text in PAGES.values() for kind, block in blocks(text) if kind == "yaml"]
    assert [block for block in whole if not file_of(block) and not block.startswith("jobs:")] == []


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.stem
)
def test_commands_within_a_sentence_are_commands(path):
    from typer.main import get_command

    from vgx.cli import app

    known = get_command(app).commands
    for name, rest in re.findall(r"`vgx ([a-z]+)([^`]*)`", path.read_text()):
        if path.stem == "CLAIMS" or name == "data":
            continue
        assert name in known, f"vgx {name}"
        flags = {flag for one in known[name].params for flag in one.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= flags, f"vgx {name}{rest}"


def test_the_readme_comes_to_its_picture_and_two_commands_within_a_screen():
    lines = PAGES["README"].splitlines()
    (first, *_) = (i for i, line in enumerate(lines) if line.startswith("!["))
    assert first < 24
    assert [line.split("#")[0].strip() for line in lines[:first] if line.startswith("    ")] == [
        "make demo",
        "make test",
    ]


def test_the_readme_tells_the_story_in_the_tutorials_order():
    steps = re.findall(r"^## (\d)\. (.*)$", (ROOT / "docs" / "tutorial.md").read_text(), re.MULTILINE)
    told = re.findall(r"# (\d)\. ([^:\n]*):", PAGES["README"])
    assert [number for number, _ in told] == [number for number, _ in steps] == list("123456")
    assert all(one.split()[0].lower() in other.lower() for (_, one), (_, other) in zip(told, steps, strict=True))
