"""Pages in a browser, from disk and with the network off: what they draw and say is what the tables hold."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from vgx.report.html.comparison_page import write_comparison
from vgx.report.html.write import write_report
from vgx.results.comparison import compare, groups_of
from vgx.results.store import Run
from vgx.results.words import power_of_ten

pytest.importorskip("playwright", reason="playwright is not here: pip install -e '.[browser]'")
from browser_pages import BROWSER, DESKTOP, PHONE, RUNS, curve, drawn, near, points
from playwright.sync_api import Page

pytestmark = BROWSER


@pytest.mark.parametrize("name", [*RUNS, "interrupted", "sweep"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_page_opens_without_complaint_and_fits(name, scheme, viewport, pages, visit):
    page = visit(pages[name], viewport, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (brightness > 200) == (scheme == "light")
    text = page.inner_text("body")
    assert "undefined" not in text
    assert "[object" not in text
    if name != "unlogged":
        assert page.locator("#chart-gradient svg").count() == 1
        wide = page.evaluate("[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().right)")
        assert max(wide) <= viewport["width"]
    shots = os.environ.get("VGX_SCREENSHOTS")
    if shots:
        Path(shots).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(shots) / f"{name}-{viewport['width']}-{scheme}.png", full_page=True)


def test_the_points_of_a_figure_stand_where_the_table_says_at_every_step(pages, visit):
    run, page = Run(pages["twenty"].parent), visit(pages["twenty"])
    page.select_option("#lane", "1")
    slider = page.locator("#step")
    for key, step in (("Home", 1), ("ArrowRight", 2), ("End", 30), ("ArrowLeft", 29)):
        slider.press(key)
        page.wait_for_function("step => document.getElementById('step-name').textContent === `step ${step}`", arg=step)
        drawn(page)
        assert near(points(page, "gradient", "delta_log10"), curve(run, step, 1), page, "gradient")
        assert near(points(page, "weights", "y"), curve(run, step, 1, "weight_grad_log10"), page, "weights")
        assert slider.get_attribute("aria-valuetext") == f"step {step}"
        assert page.inner_text("#gradient-now").startswith(f"step {step}: |dloss/dh| is ")
        bottom, top = (power_of_ten(curve(run, step, 1)[layer]) for layer in (0, 19))
        assert f"is {bottom} at layer 1 and {top} at layer 20" in page.inner_text("#gradient-now")
        assert page.get_attribute("#chart-gradient", "aria-label") == page.inner_text("#gradient-now")


def test_seeds_together_are_drawn_at_their_median(pages, visit):
    run, page = Run(pages["twenty"].parent), visit(pages["twenty"])
    assert page.input_value("#lane") == "all"
    median = np.median([curve(run, 1, lane) for lane in (0, 1)], 0)
    assert near(points(page, "gradient", "delta_log10"), list(median), page, "gradient")


def test_every_statistic_of_the_menu_is_drawn_cell_by_cell(pages, visit):
    run, page = Run(pages["full"].parent), visit(pages["full"])
    options = page.eval_on_selector_all("#statistic option", "all => all.map(option => option.value)")
    layers = run.layers()
    assert options == [name for name in layers.column_names[3:] if layers[name].null_count < len(layers)]
    for name in options:
        page.select_option("#statistic", name)
        drawn(page)
        values = [x for x in layers[name].to_pylist() if x is not None]
        assert page.locator("#chart-heat .mark-rect.role-mark path").count() == len(values)
        colours = page.evaluate(
            """() => [...document.querySelectorAll("#chart-heat .mark-rect.role-mark path")]
              .map(path => path.getAttribute("fill"))"""
        )
        assert len(set(colours)) > 1 or len(set(values)) == 1
    details = page.locator("#figure-heat details")
    details.locator("summary").click()
    details.locator("tbody tr").first.wait_for()
    cells = details.locator("tbody tr").first.locator("td").all_inner_texts()
    first = layers.filter(pc.field("step") == 1)[options[-1]].to_pylist()
    assert [float(cell) if cell else None for cell in cells] == pytest.approx(first, rel=1e-4, nan_ok=True)


def test_the_numbers_to_unfold_are_those_of_the_table(pages, visit):
    run, page = Run(pages["one-layer"].parent), visit(pages["one-layer"])
    page.locator("#step").press("End")
    page.click("#figure-gradient summary")
    page.locator("#figure-gradient tbody tr").first.wait_for()
    rows = page.locator("#figure-gradient tbody tr").all_inner_texts()
    found = [row.split("\t")[:2] for row in rows]
    expected = [10**x for x in curve(run, 30, 0)]
    assert [name for name, _ in found] == ["1", "readout"]
    assert [float(value) for _, value in found] == pytest.approx(expected, rel=1e-4)


def hovered(page: Page, chart: str, mark: str, number: int) -> dict[str, str]:
    """What the page says of a mark under the pointer, by name."""
    page.locator(f"#chart-{chart} .mark-{mark}.role-mark path").nth(number).hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    rows = page.locator("#vg-tooltip-element tr").all()
    said = {row.locator(".key").inner_text().strip(): row.locator(".value").inner_text().strip() for row in rows}
    page.mouse.move(0, 0)
    page.wait_for_selector("#vg-tooltip-element:not(.visible)", state="attached")
    return said


def unfolded(page: Page, figure: str) -> dict[str, list[str]]:
    """A figure's table of numbers, by the names of its columns."""
    page.click(f"#figure-{figure} summary")
    page.locator(f"#figure-{figure} tbody tr").first.wait_for()
    heads = page.locator(f"#figure-{figure} thead th").all_inner_texts()
    rows = [row.split("\t") for row in page.locator(f"#figure-{figure} tbody tr").all_inner_texts()]
    return dict(zip(heads, zip(*rows, strict=True), strict=True))


def test_a_gradient_is_said_as_a_gradient_under_the_pointer_and_in_the_table(pages, visit, tmp_path):
    run, page = Run(pages["one-layer"].parent), visit(pages["one-layer"])
    for chart, column, name in (
        ("gradient", "delta_log10", "|dloss/dh|"),
        ("weights", "weight_grad_log10", "|dloss/dW|"),
    ):
        gradient = [10**x for x in curve(run, 1, 0, column)]
        assert page.locator(f"#chart-{chart} .role-title-text").first.text_content().startswith(name)
        (value,) = [said for key, said in hovered(page, chart, "symbol", 0).items() if key.startswith(name)]
        assert float(value) == pytest.approx(gradient[0], rel=1e-4)
        (column,) = [cells for head, cells in unfolded(page, chart).items() if name in head and "predict" not in head]
        assert [float(cell) for cell in column] == pytest.approx(gradient, rel=1e-4)
    page.select_option("#statistic", "update_ratio")
    drawn(page)
    assert float(hovered(page, "heat", "rect", 0)["value"]) == pytest.approx(curve(run, 1, 0, "update_ratio")[0], 1e-4)
    # However small: below what a double can hold, too.
    deep, deep_page = Run(pages["thousand"].parent), visit(pages["thousand"])
    mantissa, exponent = unfolded(deep_page, "gradient")["gradient |dloss/dh|"][0].split("e")
    assert math.log10(float(mantissa)) + int(exponent) == pytest.approx(curve(deep, 1, 0)[0], abs=1e-3)
    # And so in a comparison.
    one = [group for name in ("twenty", "full") for group in groups_of(Run(pages[name].parent))]
    write_comparison(compare(one), tmp_path / "both.html", 1)
    page = visit(tmp_path / "both.html")
    first = 10 ** float(np.mean([curve(one[0].run, 1, lane)[0] for lane in (0, 1)]))
    said, table = hovered(page, "curves", "symbol", 0), unfolded(page, "curves")
    assert float(said["geometric mean"]) == pytest.approx(first, rel=1e-4)
    assert float(table["twenty"][0]) == pytest.approx(first, rel=1e-4)
    assert "spread over seeds, decades" in said
    assert "± of twenty, decades" in table


def test_a_thousand_layers_vanish_to_the_true_number_and_not_to_zero(pages, visit):
    run, page = Run(pages["thousand"].parent), visit(pages["thousand"])
    bottom = curve(run, 1, 0)[0]
    assert bottom < -600
    assert f"is {power_of_ten(bottom)} at layer 1" in page.inner_text("#gradient-now")
    assert points(page, "gradient", "delta_log10")[0] == pytest.approx(bottom, abs=2)
    labels = page.locator("#chart-gradient .role-axis-label text").all_text_contents()
    assert "10⁻⁶⁰⁰" in labels
    seen = page.evaluate("views.weights.view.data('layers').map(row => row.seen)")
    assert seen[0] == "only zeros"
    assert seen[-1] != "only zeros"


def test_nan_is_marked_where_it_was_measured(pages, visit):
    page = visit(pages["diverged"])
    page.locator("#step").press("End")
    drawn(page)
    marks = page.locator("#chart-gradient .mark-text.role-mark text").all_text_contents()
    assert set(marks) & {"NaN", "∞"}
    assert "diverged" in page.inner_text("#verdicts")


def test_a_cell_of_the_grid_has_the_mean_of_its_seeds_and_leads_to_its_curves(pages, visit):
    run, page = Run(pages["sweep"].parent), visit(pages["sweep"])
    lanes = run.lanes().to_pylist()

    def mean(activation: str, initializer: str, column: str) -> float:
        which = {"model.activation": activation, "model.initializer": initializer}
        return float(np.mean([row[column] for row in lanes if all(row[k] == v for k, v in which.items())]))

    assert page.locator("#grid a").count() == 30
    tanh = page.locator("#grid tbody tr").nth(1)
    assert tanh.locator("a").nth(3).inner_text().startswith(f"{mean('tanh', 'he_normal', 'test_accuracy'):.4f}")
    page.select_option("#grid-value", "slope")
    assert tanh.locator("a").nth(3).inner_text().startswith(f"{mean('tanh', 'he_normal', 'slope'):+.3f}")
    page.select_option("#grid-value", "verdict")
    assert "vanishing" in page.locator("#grid tbody tr").nth(0).inner_text()
    page.select_option("#grid-rows", "model.initializer")  # and so the columns become the activations
    assert page.input_value("#grid-columns") == "model.activation"
    assert page.locator("#grid tbody th").all_inner_texts()[3] == "he_normal"
    assert page.locator("#grid thead th").all_inner_texts()[4] == "leaky_relu 0.2"
    page.locator("#grid tbody tr").nth(3).locator("a").nth(0).focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('curves-title').textContent === 'logistic, he_normal'")
    some = [row["lane"] for row in lanes if row["model.activation"] == "logistic"]
    some = [lane for lane in some if lanes[lane]["model.initializer"] == "he_normal"]
    settled(page, some)
    median = np.median([curve(run, 1, lane) for lane in some], 0)
    assert near(points(page, "gradient", "delta_log10"), list(median), page, "gradient")
    assert page.locator("#grid a[aria-current]").inner_text().startswith("V vanishing")


def words(page: Page) -> dict[str, str]:
    """What a page says of the lanes that are chosen, and what it says is chosen."""
    return page.evaluate(
        """() => ({
          lanes: state.lanes.join(),
          lane: document.getElementById("lane").value,
          title: document.getElementById("curves-title")?.textContent,
          verdicts: document.getElementById("verdicts").innerText,
          now: document.getElementById("gradient-now").textContent,
          heat: document.getElementById("chart-heat").getAttribute("aria-label"),
          ...Object.fromEntries([
            ...document.querySelectorAll(":is(#curves, #course) figure:has(figcaption)"),
          ].flatMap(figure => [
            [figure.id, figure.querySelector("figcaption").textContent],
            [figure.id + " aloud", figure.querySelector(".chart").getAttribute("aria-label")],
          ])),
        })"""
    )


def settled(page: Page, lanes: list[int]) -> dict[str, str]:
    """The words, once the choice has been drawn."""
    page.wait_for_function(
        "lanes => document.documentElement.dataset.ready && state.lanes.join() === lanes", arg=",".join(map(str, lanes))
    )
    drawn(page)
    return words(page)


def true_of(found: dict[str, str], page: Page, run: Run, lanes: list[int]) -> None:
    """That every sentence on a page is said of these lanes."""
    table = {row["lane"]: row for row in run.lanes().to_pylist()}
    said = page.evaluate("DATA.choices")[",".join(map(str, lanes))]["captions"]
    assert page.inner_text("#headline") == said.pop("headline")
    for key, caption in said.items():
        if f"figure-{key}" not in found:  # a constant, which is told and not drawn
            assert page.inner_text(f"#{key}") == caption
            continue
        assert found[f"figure-{key}"] == caption
        if key != "gradient":  # of which the step that is shown is said instead
            assert found[f"figure-{key} aloud"].endswith(f". {caption}")
    assert found["figure-gradient aloud"] == found["now"]
    bottom, top = (np.median([10 ** curve(run, 1, lane)[layer] for lane in lanes]) for layer in (0, 19))
    low, high = found["now"].partition("is ")[2].split(" at layer 1 and ")
    for text, value in ((low, bottom), (high.partition(" at layer 20")[0], top)):
        assert float(text) == pytest.approx(value, rel=6e-2)
    for lane in lanes:
        assert f"seed {table[lane]['seed']}: {table[lane]['evidence']}" in found["verdicts"]
    assert found["verdicts"].count("seed ") == len(lanes)
    assert found["lane"] == ("all" if len(lanes) > 1 else str(lanes[0]))
    if found["title"]:
        options = [str(table[lanes[0]][f"model.{name}"]) for name in ("activation", "initializer")]
        assert found["title"].startswith(options[0].removeprefix("{name: ").partition(",")[0])
        assert options[1] in found["title"]
        assert page.locator("#grid a[aria-current]").get_attribute("data-cell") == page.input_value("#cell")


def test_every_sentence_follows_the_cell_and_the_seed_that_are_chosen_also_after_reload_and_back(pages, visit):
    run, page = Run(pages["sweep"].parent), visit(pages["sweep"])
    best = page.evaluate("DATA.cells[DATA.first].shown")
    at_first = settled(page, best)
    true_of(at_first, page, run, best)
    page.select_option("#cell", "3")  # logistic, he_normal: three seeds of it
    other = settled(page, [9, 10, 11])
    true_of(other, page, run, [9, 10, 11])
    changed = {key for key in other if other[key] != at_first[key]}
    assert {"title", "verdicts", "now", "heat", "figure-gradient", "figure-loss"} <= changed
    assert {"figure-loss aloud", "figure-accuracy aloud"} <= changed
    page.select_option("#lane", "10")
    alone = settled(page, [10])
    true_of(alone, page, run, [10])
    for step in (page.reload, lambda: (page.goto("about:blank"), page.go_back())):
        page.select_option("#grid-value", "slope")
        page.locator("#step").press("End")
        step()
        assert settled(page, [10]) == alone
        assert [page.input_value(id) for id in ("#cell", "#grid-value", "#step")] == ["3", "score", "0"]
        assert "." in page.locator("#grid a").first.inner_text()
        assert page.inner_text("#step-name") == "step 1"
    page.go_back()
    assert settled(page, [9, 10, 11]) == other
    page.go_back()
    assert settled(page, best) == at_first
    page.go_forward()
    assert settled(page, [9, 10, 11]) == other
    page.evaluate("location.hash = 'main'")  # the link to the content changes nothing
    assert settled(page, [9, 10, 11]) == other


def test_every_sentence_follows_the_seed_that_is_chosen_of_a_run_also_after_reload(pages, visit):
    page = visit(pages["twenty"])
    together = settled(page, [0, 1])
    page.select_option("#lane", "1")
    alone = settled(page, [1])
    for lanes, found in (([0, 1], together), ([1], alone)):
        assert found["lane"] == ("all" if len(lanes) > 1 else "1")
        for key, caption in page.evaluate("DATA.choices")[",".join(map(str, lanes))]["captions"].items():
            assert found.get(f"figure-{key}", caption) == caption
        assert {"figure-gradient", "figure-loss", "figure-updates"} <= set(found)
    assert together["figure-gradient"] != alone["figure-gradient"]
    page.reload()
    assert settled(page, [1]) == alone
    page.select_option("#lane", "all")
    assert settled(page, [0, 1]) == together


def test_a_sweeps_ranking_and_slopes_are_those_of_its_lanes(pages, visit):
    run, page = Run(pages["sweep"].parent), visit(pages["sweep"])
    accuracy: dict[str, list[float]] = {}
    for row in run.lanes().to_pylist():
        accuracy.setdefault(row["cell"], []).append(row["test_accuracy"])
    means = sorted((float(np.mean(values)) for values in accuracy.values()), reverse=True)
    scores = page.evaluate("views.ranking.view.data('ranking').map(row => row.score)")
    assert scores == pytest.approx(means)
    for chart in ("predicted", "measured"):
        assert sorted(points(page, chart, "score", mark=1)) == pytest.approx(sorted(means), abs=0.004)
    facets = page.locator("#chart-multiples .mark-line.role-mark path").count()
    assert facets == 90


def test_the_theme_follows_the_system_and_then_the_button_and_paper_is_white(pages, visit):
    page = visit(pages["one-layer"], scheme="dark")
    ink = "getComputedStyle(document.querySelector('#chart-gradient text')).fill"
    dark = page.evaluate(ink)
    toggle = page.locator("#theme-toggle")
    toggle.focus()
    page.keyboard.press("Enter")
    assert page.evaluate(ink) != dark
    assert toggle.get_attribute("aria-pressed") == "false"
    page.keyboard.press("Enter")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"


def test_everything_is_reached_by_the_tabulator(pages, visit):
    page = visit(pages["twenty"])
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    buttons = {"to-first", "play", "to-last", "whole-range", "add-layer", "smoothing", "BUTTON"}
    assert {"theme-toggle", "lane", "step", "statistic", "SUMMARY"} | buttons <= reached


def test_a_comparison_draws_the_means_at_every_step_and_what_is_apart(pages, visit, tmp_path):
    runs = [Run(pages[name].parent) for name in ("twenty", "full", "diverged")]
    compared = compare([one for run in runs for one in groups_of(run)])
    write_comparison(compared, tmp_path / "comparison.html")
    for viewport, scheme in ((PHONE, "dark"), (DESKTOP, "light")):
        page = visit(tmp_path / "comparison.html", viewport, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        assert page.locator(".chart svg").count() == 5
    slider = page.locator("#step")
    for key, step in (("Home", 1), ("ArrowRight", 2)):
        slider.press(key)
        page.wait_for_function("step => document.getElementById('step-name').textContent === `step ${step}`", arg=step)
        drawn(page)
        expected = np.concatenate([course.mean[course.steps.searchsorted(step)] for course in compared.trajectories])
        assert near(points(page, "curves", "value"), list(expected[np.isfinite(expected)]), page, "curves")
    for i, divergence in enumerate(compared.divergences, start=1):
        kinds = page.evaluate("id => views[id].view.data('cells').map(row => row.kind)", f"parting-{i}")
        assert len(kinds) == divergence.beyond.size
        assert len(kinds) - kinds.count("level") == divergence.beyond.sum()
    page.click("#figure-parting-1 summary")
    page.locator("#figure-parting-1 tbody tr td").first.wait_for()  # the numbers come a moment after the unfolding
    cells = page.locator("#figure-parting-1 tbody tr").first.locator("td").all_inner_texts()
    assert [float(cell.removesuffix(" *")) for cell in cells] == pytest.approx(
        compared.divergences[0].difference[0].tolist(), rel=1e-4
    )
    assert [cell.endswith("*") for cell in cells] == compared.divergences[0].beyond[0].tolist()


def test_a_name_of_markup_is_text(pages, visit, tmp_path):
    source = pages["one-layer"].parent
    shutil.copytree(source, tmp_path / "evil")
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    config = (tmp_path / "evil" / "config.yaml").read_text().replace("name: one-layer", f"name: '{evil}'")
    (tmp_path / "evil" / "config.yaml").write_text(config)
    page = visit(write_report(Run(tmp_path / "evil"))[0])
    assert page.inner_text("h1") == evil
    assert page.locator("img").count() == 0
