"""The page of a watched run, and of two compared, in a browser: they draw and name what the tables hold."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from vgx.report.html.comparison_page import write_comparison
from vgx.report.html.write import write_report
from vgx.results.comparison import compare, groups_of
from vgx.results.store import Run
from vgx.watch.log import Log

pytest.importorskip("playwright", reason="playwright is not here: pip install -e '.[browser]'")
from browser_pages import BROWSER, DESKTOP, PHONE, drawn

pytestmark = BROWSER
PATHS = ["model.embed", *(f"model.blocks.{i}.{role}" for i in range(8) for role in ("attention", "mlp")), "model.head"]


def write(path: Path, columns: tuple[str, ...] = ("delta_log10", "weight_grad_log10"), fall: float = 0.1) -> Run:
    with Log(path, {"layers": 8}) as log:
        for step in range(6):
            rows = {name: dict.fromkeys(columns, fall * (i - 18) - step / 10) for i, name in enumerate(PATHS)}
            if step == 5:
                rows[PATHS[3]]["act_rms"] = math.inf
            log.write(step, rows, loss=1 / (step + 1))
    return Run(path)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("columns", [("delta_log10", "weight_grad_log10"), ("weight_grad_log10",), ("preact_std",)])
def test_a_watched_page_opens_without_complaint_and_fits(tmp_path, columns, viewport, visit):
    run = write(tmp_path / "net", columns)
    page = visit(write_report(run)[0], viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    text = page.inner_text("body")
    assert "undefined" not in text
    assert "layer 1" not in text
    assert "First not finite: step 5, forward, model.blocks.1.attention." in text
    page.locator("#to-diverged").click()
    drawn(page)
    assert page.inner_text("#step-name") == "step 5"
    for details in page.locator("details").all():
        details.locator("summary").click()
    assert "undefined" not in page.inner_text("body")


def test_layers_are_chosen_and_told_by_name(tmp_path, visit):
    page = visit(write_report(write(tmp_path / "net"))[0])
    assert page.inner_text("#gradient-now") == "step 0: |dloss/dh| is 0.016 at embed and 0.79 at head"
    assert page.inner_text("#chips").split("×")[0].strip().startswith("embed")
    page.select_option("#add-layer", label="blocks.2.mlp")
    drawn(page)
    assert "blocks.2.mlp 0.063 to 0.02" in page.inner_text("#figure-tracks figcaption")
    labels = page.locator("#chart-gradient .role-axis-label text").all_text_contents()
    assert {"blocks.1", "blocks.7"} <= set(labels)
    assert "blocks.*.mlp" in (page.locator("#chart-gradient .role-legend").first.text_content() or "")


def test_compared_watched_runs_name_the_places(tmp_path, visit):
    runs = [write(tmp_path / "a"), write(tmp_path / "b", fall=0.2)]
    write_comparison(compare([group for run in runs for group in groups_of(run)]), tmp_path / "both.html")
    page = visit(tmp_path / "both.html")
    assert "at embed and" in page.inner_text("#curves-now")
    assert "undefined" not in page.inner_text("body")
    assert "blocks.7" in (page.locator("#chart-curves .role-axis-label").first.text_content() or "")
