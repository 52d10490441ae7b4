"""The page of a map and its exports: the cells where they are, theory's contours through them, the words beside."""

from __future__ import annotations

import csv
import math
from xml.etree import ElementTree

import numpy as np
import pytest
from browser_pages import BROWSER, PHONE, drawn

from vgx.export import export
from vgx.report.html import write
from vgx.report.html.page_data import gather
from vgx.results.map_file import map_of
from vgx.results.map_fit import joined
from vgx.runner.map_theory import MapTheory

TANH = {
    "name": "small",
    "data": {"name": "synthetic", "examples": 200},
    "model": {"width": 24, "activation": "tanh", "initializer": "lecun_normal", "bias": {"name": "normal", "std": 0.2}},
    "train": {"batch_size": 16, "steps": 8},
}
SIDES = {"x": "initializer.gain=0.8:2.6", "y": "depth=4:64", "points": "5x3", "refine": 1}


@pytest.fixture
def run(map_by_rule):
    theory = MapTheory()
    return map_by_rule(TANH, lambda config, seed: 0.1 + 0.8 / (1 + (theory(config).correlation / 5) ** 6), **SIDES)


def test_the_figure_has_a_rectangle_for_each_cell_and_the_contours_over_them(run):
    contents, found = gather(run), map_of(run)
    html, stills = write.drawn(contents)
    rows = dict(stills)["map"]["datasets"]
    assert len(rows["map"]) == len(found.cells) > 15
    assert sorted(row["cell"] for row in rows["map"]) == list(range(len(found.cells)))
    by_label = {row["label"]: row["accuracy"] for row in rows["map"]}
    for (x, y), accuracy in found.accuracies.items():
        assert by_label[f"gain {x:g}, depth {y:g}"] == accuracy
    fitted = found.multiples["correlation"].value
    names = {row["contour"] for row in rows["contours"]}
    assert {f"{fitted:.1f} correlation depths, fitted", "6 correlation depths"} <= names
    assert f"Nets train up to {fitted:.1f} correlation depths (95 % interval" in html
    assert "The cells as a table" in html


def test_a_sweep_that_is_no_map_has_no_map_on_its_page(run):
    (run.path / "map.json").unlink()
    html, stills = write.drawn(gather(run))
    assert "map" not in dict(stills)
    assert "The cells as a table" not in html


def test_the_figure_is_a_file_of_its_own(run, tmp_path):
    _, *figures = write.write_report(run, tmp_path / "a.html")
    path = next(path for path in figures if path.name == "map.svg")
    rectangles = [
        len(list(group))
        for group in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}g")
        if "mark-rect role-mark" in group.attrib.get("class", "")
    ]
    assert len(map_of(run).cells) in rectangles


def test_pieces_of_a_contour_are_joined_into_as_few_lines_as_there_are():
    pieces = [(0, 0, 1, 1), (2, 0, 1, 1), (2, 0, 3, 1), (9, 9, 8, 8)]
    lines = joined(pieces)
    assert sorted(map(len, lines)) == [2, 4]
    assert [(0, 0), (1, 1), (2, 0), (3, 1)] in (lines[0], lines[0][::-1])
    around = [(0, 0, 1, 0), (1, 0, 1, 1), (1, 1, 0, 0)]
    assert joined(around) == [[(0, 0), (1, 0), (1, 1), (0, 0)]]
    assert joined([]) == []


def test_an_export_has_the_cells_with_their_depths(run, tmp_path):
    found = map_of(run)
    folder = export(run, "csv", tmp_path / "csv")
    rows = list(csv.DictReader((folder / "map.csv").read_text().splitlines()))
    assert len(rows) == len(found.cells)
    for row, cell in zip(rows, found.cells, strict=True):
        assert float(row["model.initializer.gain"]) == cell.x
        assert float(row["test_accuracy"]) == pytest.approx(found.accuracies[cell[:2]])
        assert math.isclose(float(row["depth_over_correlation_depth"]), found.ratios["correlation"][cell[:2]])
        assert row["trained"] == str(found.accuracies[cell[:2]] >= found.threshold).lower()
    with np.load(export(run, "npz", tmp_path / "map.npz")) as arrays:
        depths = arrays["map.model.depth"].tolist()
    assert depths == [cell.y for cell in found.cells]


class TestInABrowser:
    pytestmark = BROWSER

    @pytest.mark.parametrize("viewport", [None, PHONE])
    def test_a_click_on_the_map_chooses_its_cell(self, run, visit, viewport, tmp_path):
        page = visit(write.write_report(run, tmp_path / "a.html")[0], viewport=viewport)
        cells = page.evaluate("views.map.view.data('map').length")
        assert cells == len(map_of(run).cells)
        box = page.locator("#chart-map").bounding_box()
        assert box["x"] + box["width"] <= page.evaluate("innerWidth")
        rectangle = page.locator("#chart-map .mark-rect.role-mark path[aria-label], #chart-map .mark-rect path").nth(0)
        rectangle.click(position={"x": 3, "y": 3}, force=True)
        drawn(page)
        assert page.url.endswith("#cell-0")
