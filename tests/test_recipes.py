"""The snippets of docs/recipes.md: that they run, and that three libraries say the same of one run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vgx

TEXT = (Path(vgx.__file__).parent.parent / "docs" / "recipes.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
LIBRARIES = ("pandas", "polars", "duckdb")
QUESTIONS = ("curve", "accuracy", "vanished")
STEPS = 10


@pytest.fixture
def run(write_run):
    """Two seeds whose layers 1 to 3 fall by more decades at every step; the accuracy is measured at every fifth."""
    fall = np.arange(STEPS)[:, None, None] * np.array([0.9, 0.5, 0.35, 0.0, 0.0])
    delta = -fall + 0.1 * np.random.default_rng(0).normal(size=(STEPS, 2, 5))
    accuracy = np.ma.array(np.random.default_rng(1).uniform(size=(STEPS, 2)), mask=True)
    accuracy.mask[4::5] = False
    accuracy[9, 0] = np.nan
    settings = {"name": "recipes", "model": {"depth": 4, "width": 8}, "train": {"steps": STEPS}}
    return write_run(settings, {"delta_log10": delta}, {"train_loss": np.ones((STEPS, 2)), "test_accuracy": accuracy})


def answer(library: str, question: str, run) -> Any:
    """What a snippet of a library leaves under the name of a question."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    alias = {"pandas": "import pandas as pd", "polars": "import polars as pl", "duckdb": "import duckdb"}[library]
    (block,) = (one for one in BLOCKS if one.startswith(alias) and re.search(rf"^{question} = ", one, re.MULTILINE))
    names: dict[str, Any] = {}
    exec(block.replace("runs/my-net-1a2b3c4d", str(run.path)), names)  # the snippet as a reader would paste it
    return names[question]


def rows_of(library: str, found: Any) -> np.ndarray:
    """An answer as plain rows."""
    if library == "pandas":
        return (found.reset_index() if found.ndim == 1 else found).to_numpy(dtype=float)
    return np.array(found.rows() if library == "polars" else found.fetchall(), float)


def test_there_is_a_snippet_for_each_question_and_library():
    assert len(BLOCKS) == len(LIBRARIES) * len(QUESTIONS)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_last_curve_is_the_runs(library, run):
    delta = run.layers()["delta_log10"].to_numpy().reshape(STEPS, 2, 5)[-1].mean(0)
    rows = rows_of(library, answer(library, "curve", run))
    assert rows[:, 0].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(rows[:, 1], delta, rtol=1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_accuracy_is_there_where_it_was_measured_and_nan_stays_nan(library, run):
    rows = rows_of(library, answer(library, "accuracy", run))
    assert rows[:, :2].tolist() == [[0, 5], [0, 10], [1, 5], [1, 10]]
    measured = run.metrics().filter(run.metrics()["test_accuracy"].is_valid())["test_accuracy"].to_numpy()
    np.testing.assert_array_equal(rows[:, 2].astype(np.float32), measured[[0, 2, 1, 3]])
    assert np.isnan(rows[1, 2])


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_first_step_below_a_thousandth_is_the_runs(library, run):
    delta = run.layers()["delta_log10"].to_numpy().reshape(STEPS, 2, 5)
    below = delta < delta[:, :, 3:4] - 3
    expected = [
        [lane, layer + 1, 1 + int(np.argmax(below[:, lane, layer]))]
        for lane in range(2)
        for layer in range(5)
        if below[:, lane, layer].any()
    ]
    assert len(expected) >= 5
    assert rows_of(library, answer(library, "vanished", run)).tolist() == expected
