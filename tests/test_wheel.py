"""The wheel as a stranger meets it: `uvx vgx` from a folder of wheels, in an environment of its own, off line.

`make test-wheel` puts the wheels of vgx and of all it needs into .wheels, and runs these.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import vgx

ROOT = Path(vgx.__file__).parent.parent
WHEELS = ROOT / ".wheels"
pytestmark = pytest.mark.wheel


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("stranger")


def uvx(here: Path, *arguments: str) -> str:
    """What `uvx vgx` prints, which has nothing of this clone and nothing of this Python's packages."""
    uv = shutil.which("uvx", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert uv, "pip install uv"
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "VGX_DATA_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"UV_CACHE_DIR": str(here.parent / "uv"), "UV_NO_CONFIG": "1"}
    index = ["--offline", "--no-index", "--find-links", str(WHEELS), "--python", sys.executable]
    done = subprocess.run([uv, *index, "vgx", *arguments], cwd=here, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package_and_every_config():
    (wheel,) = WHEELS.glob("vgx-*.whl")
    tracked = subprocess.run(["git", "ls-files", "vgx", "configs"], cwd=ROOT, capture_output=True, text=True)
    expected = {f"vgx/{name}" if name.startswith("configs/") else name for name in tracked.stdout.splitlines()}
    assert {"vgx/report/html/templates/run.html", "vgx/report/html/static/page.js"} <= expected
    assert {"vgx/config/vgx.schema.json", "vgx/data/digits.npz", "vgx/configs/reproduce/ranking.yaml"} <= expected
    assert expected - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_a_net_is_written_checked_trained_and_shown_from_the_wheel_alone(here):
    assert uvx(here, "--version").startswith("vgx ")
    uvx(here, "new", "mine", "--from", "quickstart")
    address = (here / "mine.yaml").read_text().partition("\n")[0].partition("$schema=")[2]
    schema = Path(unquote(urlsplit(address).path))
    assert not schema.is_relative_to(ROOT)
    assert json.loads(schema.read_text()) == json.loads(uvx(here, "schema"))
    assert "ok, mine-" in uvx(here, "check", "mine.yaml")
    uvx(here, "train", "mine.yaml", "--set", "train.steps=4")
    uvx(here, "report", "mine")
    (page,) = here.glob("runs/mine-*/report.html")
    assert "</html>" in page.read_text()


def test_its_examples_and_experiments_are_there(here):
    assert "he-relu" in uvx(here, "new", "--list")
    assert "he-exact" in uvx(here, "reproduce")
