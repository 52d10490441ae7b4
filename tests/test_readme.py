"""README from top to bottom: every command and every line of Python in it, as a reader would paste them.

They run in the order in which they stand, in a folder with a copy of the configs: what one leaves, the next one uses.
To take minutes, the copies train for a few steps, and MNIST is a made-up one of a tenth of its size.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

import vgx
from vgx.config.schema import Config
from vgx.data.mirrors import FILES

ROOT = Path(vgx.__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()

NOT_RUN = {
    "make demo": "installs; .ci/run runs it in a clean clone",
    "make test": "installs, and runs every other test; .ci/run runs it",
    "vgx reproduce --all": "trains for hours; .ci/run runs all of them at scale smoke",
    "vgx doctor": "finds the made-up MNIST at fault, as it should; tests/test_doctor.py runs it",
    "vgx data get mnist": "downloads; tests/test_download.py gets it from a server of its own",
    ".venv/bin/pip install": "downloads",
    "vgx train configs/mnist.yaml --device gpu": "needs a GPU",
}
"""Lines that are shown and not run, by how they begin, and why."""
SMALLER = {
    "vgx reproduce batch-norm-elu": "--scale smoke",
    "vgx reproduce ranking": "--scale smoke",
    "vgx verify": "--width 128 --nets 2",
}
"""What is put behind commands that would take long, by how they begin."""
OF_MNIST = ("B against A", "he-exact")
"""Outputs, by how they begin, of trainings that take long, or on the true MNIST."""
FIRST_WORDS = ("vgx", "make", ".", ".venv/bin/pip", "pip")


def blocks() -> list[str]:
    """The indented blocks."""
    found = re.findall(r"(?:^    .*\n)+", TEXT, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip("\n") for block in found]


def is_config(block: str) -> bool:
    try:
        tree = yaml.safe_load(block)
    except yaml.YAMLError:
        return False
    return isinstance(tree, dict) and set(tree) <= {*Config.model_fields, "sweep"}


def is_command(line: str) -> bool:
    return line.split(" ")[0] in FIRST_WORDS


COMMANDS = [line for block in blocks() for line in block.splitlines() if is_command(line)]
CONFIGS = [block for block in blocks() if is_config(block)]
PYTHON = [line.removeprefix(">>> ") for block in blocks() for line in block.splitlines() if line.startswith(">>> ")]
OUTPUTS = [
    block.splitlines()
    for block in blocks()
    if not any(map(is_command, block.splitlines())) and not is_config(block) and ">>>" not in block
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where a reader is: configs as they are shipped, shorter, and data that VGX_DATA_DIR points to."""
    here = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "configs", here / "configs")
    for path in [*here.glob("configs/*.yaml"), *here.glob("configs/sweeps/*.yaml")]:
        path.write_text(re.sub(r"\bsteps: \d+", "steps: 4", path.read_text()))
    (here / "my-net.yaml").write_text(CONFIGS[0])
    write_mnist(here / "data" / "mnist")
    (here / "docs").mkdir()
    return here


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


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """The lines that the commands have printed so far, without what a terminal's width does to them."""
    return []


def run(command: list[str], folder: Path) -> str:
    """What a command prints. Fails when it does not succeed."""
    place = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"VGX_DATA_DIR": str(folder / "data"), "PATH": place, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def commands() -> Iterator[str]:
    """The commands that are run, as they are."""
    for line in COMMANDS:
        if not any(line.startswith(start) for start in NOT_RUN):
            command = line.partition("  #")[0].rstrip()
            yield next((f"{command} {more}" for start, more in SMALLER.items() if line.startswith(start)), command)


@pytest.mark.docs
@pytest.mark.parametrize("command", list(commands()))
def test_a_command_does_what_it_is_shown_to_do(command, folder, printed):
    printed += [" ".join(line.split()) for line in run(["bash", "-c", command], folder).splitlines()]


@pytest.mark.docs
def test_what_is_shown_of_an_output_is_printed(printed):
    shown = [block for block in OUTPUTS if not block[0].startswith((*OF_MNIST, "runs/my-net"))]
    assert shown
    lines = [" ".join(line.split()) for block in shown for line in block]
    assert [line for line in lines if line not in printed] == []


@pytest.mark.docs
def test_the_python_runs(folder):
    assert PYTHON
    run([sys.executable, "-c", "\n".join([*PYTHON, "assert run.layers().num_rows"])], folder)


@pytest.mark.docs
def test_every_config_is_one(folder):
    assert len(CONFIGS) == 3
    for number, block in enumerate(CONFIGS):
        whole = block if number == 0 else f"{CONFIGS[0]}\n{block}"
        (folder / f"part-{number}.yaml").write_text(whole)
        assert "ok, my-net-" in run([sys.executable, "-m", "vgx", "check", f"part-{number}.yaml"], folder)


def test_few_lines_are_not_run_and_each_is_there():
    for start in [*NOT_RUN, *SMALLER]:
        assert any(line.startswith(start) for line in COMMANDS), start
    assert len(list(commands())) > 3 * len(NOT_RUN)


def test_commands_within_a_sentence_are_commands():
    from typer.main import get_command

    from vgx.cli import app

    known = get_command(app).commands
    said = re.findall(r"`vgx ([a-z]+)([^`]*)`", TEXT)
    assert said
    for name, rest in said:
        assert name in known, f"vgx {name}"
        flags = {flag for one in known[name].params for flag in one.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= flags, f"vgx {name}{rest}"
