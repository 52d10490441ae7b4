"""The index of runs: what it holds of each, and what its controls do in a browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser_pages import BROWSER, DESKTOP, PHONE, barriers

import vgx
from vgx.report.html.index_page import CURVE, row_of, write_index
from vgx.results.store import Run, find_runs

BASE = {"data": "digits", "train": {"batch_size": 32, "steps": 20, "evaluate_every": 10}}
RUNS = {
    "level": {"model": {"depth": 20, "width": 32}, "seeds": 2},
    "shrinking": {"model": {"depth": 20, "width": 32, "activation": "logistic", "initializer": "glorot_normal"}},
    "shallow": {"model": {"depth": 3, "width": 16}},
    "deep": {"model": {"depth": 100, "width": 16, "initializer": "orthogonal"}},
    "unlogged": {"model": {"depth": 3, "width": 16}, "log": {"statistics": "none"}},
}
SWEEP = {"name": "swept", "model": {"depth": 3, "width": 16}, "sweep": {"axes": {"model.activation": ["relu", "tanh"]}}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder of runs, a damaged one among them."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in RUNS.items():
        vgx.train(vgx.load_config(BASE | {"name": name} | more), runs=folder)
    vgx.sweep(vgx.load_sweep(BASE | SWEEP), runs=folder)
    shutil.copytree(next(folder.glob("shallow-*")), folder / "broken-00000000")
    for part in (folder / "broken-00000000" / "layers").iterdir():
        part.unlink()
    return folder


@pytest.fixture(scope="module")
def index(runs) -> Path:
    return write_index(find_runs(runs), runs / "report")


def run_called(folder: Path, name: str) -> Run:
    return Run(next(folder.glob(f"{name}-*")))


def report(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vgx", "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_row_has_the_gradient_of_the_last_step_as_the_run_has_it(runs):
    run = run_called(runs, "deep")
    row, curve = row_of(run), run.curves("delta_log10")[0].values[-1]
    assert row["depth"] == 100
    assert len(row["layers"]) == CURVE
    assert (row["layers"][0], row["layers"][-1]) == (1, 100)
    expected = (curve[:-1] - curve[-1])[np.array(row["layers"]) - 1]
    np.testing.assert_allclose(row["gradient"], expected, rtol=1e-3, atol=1e-4)


def test_a_row_has_what_was_not_recorded_as_nothing(runs):
    row = row_of(run_called(runs, "unlogged"))
    assert (row["depth"], row["gradient"], row["slope"]) == (None, [], None)
    assert row["accuracy"] is not None


def test_each_readable_run_has_its_page_and_the_damaged_one_a_reason(index, runs):
    pages = {path.name for path in index.parent.glob("*.html")} - {"index.html"}
    assert pages == {f"{path.name}.html" for path in runs.iterdir() if path.name[:3] not in ("bro", "rep", ".")}
    assert "is missing" in index.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--all", "--runs", "empty"), "empty: no runs yet"),
        (("--all", "level", "--runs", "{runs}"), "name a run, or give --all, not both"),
        ((), "name a run, or give --all"),
        (("--all", "--runs", "{runs}", "-o", "file"), "file: is a file; name a folder"),
        (("--all", "--runs", "{runs}", "-o", "other"), "other/index.html: exists, and is no page of vgx"),
    ],
)
def test_what_cannot_be_listed_is_one_line_and_exit_code_2(arguments, says, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("other").mkdir()
    Path("other/index.html").write_text("mine")
    ended = report(*(str(word).format(runs=runs) for word in arguments))
    assert ended.returncode == 2
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert (Path("file").read_text(), Path("other/index.html").read_text()) == ("mine", "mine")


class TestInABrowser:
    pytestmark = BROWSER

    @staticmethod
    def names(page) -> list[str]:
        return page.eval_on_selector_all("#runs tbody tr", "rows => rows.map(row => row.dataset.run.split('-')[0])")

    @pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_the_screen_and_nothing_bars_anyone(self, visit, index, viewport, scheme):
        page = visit(index, viewport, scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert barriers(page) == []
        for run in ("level", "shrinking"):
            page.locator(f"[data-run^={run}] input").check()
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    @pytest.mark.parametrize("key", ["title", "word", "slope", "accuracy", "step"])
    def test_a_head_sorts_its_column_either_way_and_what_is_not_measured_stands_last(self, visit, index, key):
        page = visit(index)
        for turn in ("ascending", "descending"):
            page.locator(f"[data-sort={key}]").click()
            assert page.locator(f"th[data-key={key}]").get_attribute("aria-sort") == turn
            values = page.evaluate(
                "key => [...BODY.rows].map(line => ROWS.find(row => row.name === line.dataset.run)[key] ?? null)", key
            )
            known = [value for value in values if value is not None]
            assert len(known) > 4
            assert known == sorted(known, reverse=turn == "descending")
            assert values[: len(known)] == known

    def test_the_filter_takes_words_of_names_and_options_and_the_menu_a_verdict(self, visit, index):
        page = visit(index)
        page.fill("#filter", "orthogonal")
        assert self.names(page) == ["deep"]
        page.fill("#filter", "activation: logistic")
        assert self.names(page) == ["shrinking"]
        page.fill("#filter", "nothing is called so")
        assert self.names(page) == []
        assert page.locator("#shown").text_content() == "0 of 7 shown"
        page.fill("#filter", "")
        page.select_option("#word", "damaged")
        assert self.names(page) == ["broken"]

    def test_two_ticked_runs_open_their_comparison_and_the_address_keeps_it(self, visit, index):
        page = visit(index)
        assert page.locator("#comparison").is_hidden()
        page.locator("[data-run^=level] input").check()
        assert page.locator("#comparison").is_hidden()
        page.locator("[data-run^=shrinking] input").check()
        assert page.locator("#comparison-title").text_content() == "level against shrinking"
        table = page.eval_on_selector_all(
            "#outcomes tbody tr", "rows => rows.map(row => [...row.cells].map(c => c.textContent))"
        )
        assert ["model.activation", "relu", "logistic"] in table
        assert page.locator("#chart-gradient path.curve").count() == 2
        again = visit(index, address=page.evaluate("location.hash"))
        assert again.locator("#comparison-title").text_content() == "level against shrinking"
        page.locator("#close").click()
        assert page.locator("#comparison").is_hidden()
        assert page.locator("#runs input:checked").count() == 0

    def test_a_third_tick_takes_the_place_of_the_first(self, visit, index):
        page = visit(index)
        for run in ("level", "shrinking", "deep"):
            page.locator(f"[data-run^={run}] input").check()
        assert page.locator("#comparison-title").text_content() == "shrinking against deep"
        assert page.locator("[data-run^=level] input").is_checked() is False

    def test_the_compared_curves_are_the_runs_own(self, visit, index, runs):
        page = visit(index)
        for run in ("level", "shrinking"):
            page.locator(f"[data-run^={run}] input").check()
        label = page.locator("#chart-gradient").get_attribute("aria-label")
        curve = run_called(runs, "shrinking").curves("delta_log10")[0].values[-1]
        assert float(label.rsplit(" ", 1)[1]) == pytest.approx(curve[0] - curve[-1], rel=1e-3)

    def test_sweeps_and_damaged_runs_cannot_be_ticked_and_links_lead_to_pages(self, visit, index):
        page = visit(index)
        for run in ("swept", "broken"):
            assert page.locator(f"[data-run^={run}] input").is_disabled()
        page.locator("[data-run^=level] a").click()
        page.wait_for_selector("html[data-ready]")
        assert "level" in page.title()
