"""What tests in a browser share: the runs whose pages they open, and how they read a figure."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pytest

from vgx.results.store import Run

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium, or set CHROMIUM"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
BASE = {"data": "digits", "train": {"batch_size": 32, "steps": 30, "evaluate_every": 10}}
RUNS = {
    "twenty": {"seeds": 2, "model": {"depth": 20, "width": 32}},
    "thousand": {
        "model": {"depth": 1000, "width": 64, "activation": "logistic", "initializer": "lecun_normal"},
        "train": {"batch_size": 32, "steps": 4},
    },
    "diverged": {
        "model": {"depth": 3, "width": 16},
        "train": {"batch_size": 32, "steps": 50, "optimizer": {"name": "sgd", "learning_rate": 1e30}},
    },
    "one-layer": {"model": {"depth": 1, "width": 16}},
    "full": {"model": {"depth": 3, "width": 16}, "log": {"statistics": "full"}},
    "unlogged": {"model": {"depth": 3, "width": 16}, "log": {"statistics": "none"}},
}
SWEEP = {
    "name": "sweep",
    "seeds": 3,
    "model": {"depth": 20, "width": 16},
    "sweep": {
        "axes": {
            "model.activation": ["logistic", "tanh", "relu", {"name": "leaky_relu", "negative_slope": 0.2}, "elu"],
            "model.initializer": [
                "lecun_normal",
                "glorot_normal",
                "glorot_uniform",
                "he_normal",
                "he_uniform",
                "orthogonal",
            ],
        }
    },
}
INTERRUPTED = """
import sys, vgx, vgx.runner.loop
vgx.runner.loop.FLUSH_SECONDS, vgx.runner.loop.CHUNK_SECONDS = 0.0, 0.01
vgx.train(vgx.load_config({"name": "interrupted", "model": {"depth": 3, "width": 16}, "train": {"steps": 100000}}),
          runs=sys.argv[1])
"""


def drawn(page: Page) -> None:
    """Waits until the page has drawn the last choice."""
    page.evaluate("turn")


def points(page: Page, chart: str, field: str, mark: int = 0) -> list[float]:
    """Where the points of a figure stand on its y axis, read off the picture itself."""
    return page.evaluate(
        """([chart, mark]) => {
          const scale = views[chart].view.scale("y");
          const groups = [...document.querySelectorAll(`#chart-${chart} .mark-symbol.role-mark`)];
          return [...groups[mark].querySelectorAll("path")].map(path =>
            scale.invert(Number(/translate\\([^,]+,([^)]+)\\)/.exec(path.getAttribute("transform"))[1])));
        }""",
        [chart, mark],
    )


def curve(run: Run, step: int, lane: int, column: str = "delta_log10") -> list[float]:
    where = (pc.field("step") == step) & (pc.field("lane") == lane)
    return run.layers([column], where=where)[column].to_pylist()


def near(found: list[float], expected: list[float], page: Page, chart: str) -> bool:
    """Whether points stand where they should, to half a pixel."""
    low, high = page.evaluate("chart => views[chart].view.scale('y').domain()", chart)
    return np.allclose(found, expected, atol=0.5 * (high - low) / 250, rtol=0)


def barriers(page: Page) -> list[str]:
    """What axe-core finds that keeps someone from using a page, in a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:120]}" for one in found]
