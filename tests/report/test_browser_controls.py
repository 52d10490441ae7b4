"""What steers a page does what it says: steps, play, cells, zoom, axes, layers and smoothing; and all can use it."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest

from vgx.report.html.chart_rows import axis_ends
from vgx.report.html.comparison_page import write_comparison
from vgx.report.html.findings import members
from vgx.report.html.page_data import gather
from vgx.results.comparison import compare, groups_of
from vgx.results.store import Run
from vgx.results.words import power_of_ten

pytest.importorskip("playwright", reason="playwright is not here: pip install -e '.[browser]'")
from browser_pages import BROWSER, DESKTOP, PHONE, barriers, curve, drawn, near, points
from playwright.sync_api import Page

pytestmark = BROWSER


def at_step(page: Page, text: str) -> None:
    """Waits until a step is shown and drawn."""
    page.wait_for_function("text => document.getElementById('step-name').textContent === text", arg=text)
    drawn(page)


def domain(page: Page, chart: str, channel: str = "y") -> list[float]:
    return page.evaluate("([chart, channel]) => views[chart].view.scale(channel).domain()", [chart, channel])


@pytest.fixture
def comparison(pages, tmp_path):
    """The page of a comparison of two runs."""
    runs = [Run(pages[name].parent) for name in ("twenty", "full")]
    write_comparison(compare([one for run in runs for one in groups_of(run)]), tmp_path / "comparison.html")
    return tmp_path / "comparison.html"


def test_the_first_screen_of_a_run_has_the_answer(pages, visit):
    run, page = Run(pages["thousand"].parent), visit(pages["thousand"])
    for what in ("#words", "#headline", "#tiles", "#step", "#chart-gradient svg", "#chart-strip canvas"):
        box = page.locator(what).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= DESKTOP["height"], what
    (lane,) = run.lanes().to_pylist()
    said = page.inner_text("#headline")
    assert said.startswith(f"Each layer passes on {power_of_ten(lane['slope'])} of the gradient above it")
    assert f"after 1000 layers {power_of_ten(1000 * lane['slope'])} is left" in said
    assert page.inner_text("#words").split() == ["V", "vanishing"]
    assert f"{lane['test_accuracy']:.4f}" in page.inner_text("#tiles")


def test_buttons_lead_to_the_first_step_and_the_last_and_to_where_the_numbers_ended(pages, visit):
    run, page = Run(pages["diverged"].parent), visit(pages["diverged"])
    at_step(page, "step 1")
    last = int(run.recorded_steps()[-1])
    page.click("#to-last")
    at_step(page, f"step {last}")
    page.click("#to-first")
    at_step(page, "step 1")
    (lane,) = run.lanes().to_pylist()
    assert page.inner_text("#to-diverged") == f"diverged: step {lane['diverged_step']}"
    page.click("#to-diverged")
    at_step(page, f"step {lane['diverged_step']}")
    marks = page.evaluate("[...document.querySelectorAll('#marks option')].map(option => Number(option.value))")
    assert marks == sorted({0, last - 1, lane["diverged_step"] - 1}) or set(marks) == {0, last - 1}
    healthy = visit(pages["twenty"])
    assert healthy.locator("#to-diverged").is_hidden()


def test_play_goes_through_every_step_to_the_last_on_one_axis_and_stops_when_asked(pages, visit):
    page = visit(pages["twenty"])
    page.evaluate(
        """() => {
          window.seen = [];
          new MutationObserver(() => seen.push(document.getElementById("step-name").textContent))
            .observe(document.getElementById("step-name"), {childList: true});
        }"""
    )
    page.click("#play")
    page.wait_for_function("state.step > 2")
    assert page.get_attribute("#play", "aria-label") == "Pause"
    assert page.is_checked("#whole-range")
    page.click("#play")
    page.wait_for_function("document.getElementById('play').getAttribute('aria-pressed') === 'false'")
    drawn(page)
    stopped = page.evaluate("state.step")
    assert stopped < 29
    page.click("#play")
    page.wait_for_function("state.step === 29 && document.getElementById('play').ariaPressed === 'false'")
    seen = page.evaluate("seen")
    assert seen == [f"step {step}" for step in range(2, 31)]


def test_axes_fit_the_step_that_is_shown_and_those_of_all_steps_on_request(pages, visit):
    run, page = Run(pages["twenty"].parent), visit(pages["twenty"])
    contents = gather(run)
    lanes = members(contents)
    shown = {key: axis_ends(contents, lanes, slice(9, 10))[key] for key in ("gradient", "activations", "updates")}
    for _ in range(9):
        page.locator("#step").press("ArrowRight")
    at_step(page, "step 10")
    for whole, ends in ((False, shown), (True, axis_ends(contents, lanes))):
        page.set_checked("#whole-range", whole)
        drawn(page)
        for key in shown:
            low, high = ends[key]
            room = 0.04 * (high - low)
            assert domain(page, key) == pytest.approx([low - room, high + room], abs=1e-3), (key, whole)


@pytest.mark.parametrize("chart", ["gradient", "loss", "heat"])
def test_a_figure_is_zoomed_by_buttons_by_the_wheel_with_ctrl_and_moved_by_the_mouse(chart, pages, visit):
    page = visit(pages["twenty"])
    page.locator(f"#chart-{chart}").scroll_into_view_if_needed()
    whole = {channel: domain(page, chart, channel) for channel in "xy"}
    log = page.evaluate("chart => views[chart].view.scale('y').type", chart) == "log"

    def length(channel: str) -> float:
        low, high = domain(page, chart, channel)
        return float(np.log10(high / low)) if log and channel == "y" else high - low

    lengths = {channel: length(channel) for channel in "xy"}
    figure = page.locator(f"#figure-{chart}")
    figure.hover()
    figure.get_by_role("button", name="Zoom in").click()
    drawn(page)
    assert [length(channel) / lengths[channel] for channel in "xy"] == pytest.approx([0.5, 0.5])
    box = page.locator(f"#chart-{chart} svg").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = domain(page, chart, "x")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1], steps=3)
    page.mouse.up()
    page.wait_for_function("([chart, x]) => views[chart].view.scale('x').domain()[0] < x", arg=[chart, before[0]])
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    narrow = before[1] - before[0]
    page.wait_for_function(
        "([chart, x]) => views[chart].view.scale('x').domain().reduce((a, b) => b - a) < 0.99 * x", arg=[chart, narrow]
    )
    figure.get_by_role("button", name="Show all").click()
    drawn(page)
    assert {channel: domain(page, chart, channel) for channel in "xy"} == whole
    top = page.evaluate("scrollY")
    page.mouse.move(*middle)
    page.mouse.wheel(0, -200)
    page.wait_for_function("top => scrollY < top || top === 0", arg=top)
    assert {channel: domain(page, chart, channel) for channel in "xy"} == whole


def test_layers_are_chosen_by_the_menu_by_their_points_and_taken_out_by_their_names(pages, visit):
    run, page = Run(pages["full"].parent), visit(pages["full"])

    def tracked() -> dict[str, list[float]]:
        drawn(page)
        rows = page.evaluate("views.tracks.view.data('tracks').map(row => [row.layers, row.step, row.value])")
        return {
            layer: [x for name, _, x in sorted(rows, key=lambda row: row[1]) if name == layer] for layer, _, _ in rows
        }

    def column(name: str, layer: int) -> list[float]:
        return run.layers([name], where=pc.field("layer") == layer)[name].to_pylist()

    assert list(tracked()) == ["1", "2", "3"]
    page.select_option("#add-layer", label="readout")
    assert tracked()["readout"] == pytest.approx(column("delta_log10", 4), abs=1e-5)
    page.click("#chips button >> text=layer 2")
    assert list(tracked()) == ["1", "3", "readout"]
    page.select_option("#statistic", "act_rms")
    assert tracked()["3"] == pytest.approx(column("act_rms", 3), rel=1e-5)
    page.locator("#chart-gradient .mark-symbol.role-mark path").nth(1).click()
    page.wait_for_function("tracked.layers.includes(1)")
    assert tracked()["2"] == pytest.approx(column("act_rms", 2), rel=1e-5)
    for name in ("layer 1", "layer 3", "readout", "layer 2"):
        page.click(f"#chips button >> text={name}")
        drawn(page)
    assert list(tracked()) == ["2"]  # the last one stays


def test_a_click_on_a_map_chooses_the_step(pages, visit):
    page = visit(pages["twenty"])
    for chart in ("strip", "heat"):
        page.locator("#step").press("Home")
        at_step(page, "step 1")
        box = page.locator(f"#chart-{chart} {'canvas' if chart == 'strip' else 'svg'}").bounding_box()
        assert box is not None
        page.locator(f"#chart-{chart}").click(position={"x": 0.7 * box["width"], "y": 0.5 * box["height"]})
        page.wait_for_function("state.step > 12")
        drawn(page)
        step = page.evaluate("state.step + 1")
        assert page.input_value("#step") == str(step - 1)
        assert page.evaluate("chart => views[chart].view.signal('now')", chart) == pytest.approx(step + 0.5)


def test_the_loss_is_smoothed_on_request_with_the_curve_itself_behind(pages, visit):
    run, page = Run(pages["twenty"].parent), visit(pages["twenty"])
    rows = "views.loss.view.data('course').filter(row => row.name === 'training loss')"
    assert page.evaluate(f"{rows}.every(row => row.smooth === null)")
    page.locator("#smoothing").fill("0.8")
    page.wait_for_function("document.getElementById('smoothing-value').textContent === '0.80'")
    drawn(page)
    table = run.metrics(["lane", "step", "train_loss"]).to_pandas()
    raw = table.pivot(index="step", columns="lane", values="train_loss").median(axis=1).to_numpy()
    weights = 0.2 * 0.8 ** np.arange(len(raw))
    expected = [np.sum(weights[: t + 1][::-1] * raw[: t + 1]) / weights[: t + 1].sum() for t in range(len(raw))]
    assert page.evaluate(f"{rows}.map(row => row.smooth)") == pytest.approx(expected, rel=1e-5)
    assert page.evaluate(f"{rows}.map(row => row.value)") == pytest.approx(raw.tolist(), rel=1e-5)
    lines = page.locator("#chart-loss .mark-line.role-mark path")
    assert {line.get_attribute("opacity") for line in lines.all()} == {"0.3", None} or lines.count() > 2
    page.locator("#smoothing").fill("0")
    page.wait_for_function("document.getElementById('smoothing-value').textContent === 'off'")
    drawn(page)
    assert page.evaluate(f"{rows}.every(row => row.smooth === null)")


def test_a_cell_that_is_chosen_in_any_figure_is_the_one_that_all_show(pages, visit):
    run, page = Run(pages["sweep"].parent), visit(pages["sweep"])
    assert page.locator("#grid").bounding_box()["y"] < page.locator("#answer").bounding_box()["y"]
    assert "Test accuracy: mean over seeds ± one standard deviation" in page.inner_text("#grid-legend")
    page.select_option("#grid-value", "slope")
    assert "decades per layer" in page.inner_text("#grid-legend")
    page.select_option("#cell", "3")  # logistic, he_normal
    page.wait_for_function("state.cell === 3")
    drawn(page)
    for chart in ("ranking", "predicted", "measured", "multiples"):
        assert page.evaluate("chart => views[chart].view.signal('chosen')", chart) == 3
    slope = np.mean([row["slope"] for row in run.lanes().to_pylist()[9:12]])
    assert f"passes on {power_of_ten(slope)} of" in page.inner_text("#headline")
    page.evaluate("document.getElementById('chart-ranking').scrollIntoView()")
    best = page.evaluate("views.ranking.view.data('ranking')[0].cell")
    page.locator("#chart-ranking .mark-symbol.role-mark").nth(1).locator("path").first.click()
    page.wait_for_function("best => state.cell === best", arg=best)
    drawn(page)
    assert page.input_value("#cell") == str(best)
    assert page.locator("#grid a[aria-current]").get_attribute("data-cell") == str(best)
    lanes = page.evaluate("state.lanes")
    median = np.median([curve(run, 1, lane) for lane in lanes], 0)
    assert near(points(page, "gradient", "delta_log10"), list(median), page, "gradient")


def test_on_a_phone_the_grid_scrolls_and_its_first_column_stays(pages, visit):
    page = visit(pages["sweep"], PHONE)
    head = page.locator("#grid tbody th").first
    before = head.bounding_box()
    page.evaluate("document.querySelector('#grid').parentElement.scrollLeft = 200")
    page.wait_for_function("document.querySelector('#grid').parentElement.scrollLeft === 200")
    assert head.bounding_box()["x"] == pytest.approx(before["x"], abs=4)
    assert page.locator("#grid tbody td").first.bounding_box()["x"] < before["x"] + before["width"]


def test_a_comparison_is_played_zoomed_and_names_its_nets(comparison, visit):
    page = visit(comparison)
    at_step(page, "step 1")
    text = page.inner_text("main")
    assert "twenty" in text
    assert "full" in text
    legend = page.locator("#chart-curves .role-legend-label text").all_text_contents()
    assert legend == ["twenty", "full"]
    fit = domain(page, "curves")
    page.click("#to-last")
    at_step(page, "step 30")
    assert domain(page, "curves") != fit
    page.set_checked("#whole-range", True)
    drawn(page)
    low, high = page.evaluate("DATA.ends")
    room = 0.05 * (high - low)
    assert domain(page, "curves") == pytest.approx([low, high], abs=room)
    page.click("#to-first")
    at_step(page, "step 1")
    page.click("#play")
    page.wait_for_function("state.step === DATA.steps.length - 1")


def test_what_a_figure_draws_is_told_on_request(pages, visit):
    page = visit(pages["one-layer"])
    tip = page.locator("#about-gradient")
    assert tip.is_hidden()
    page.locator("#figure-gradient .what").focus()
    assert tip.is_visible()
    assert "root mean square over examples" in tip.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["twenty", "diverged", "unlogged", "sweep", "comparison"])
def test_axe_finds_nothing_that_shuts_anyone_out(name, scheme, pages, comparison, visit):
    for viewport in (DESKTOP, PHONE):
        page = visit(comparison if name == "comparison" else pages[name], viewport, scheme)
        assert barriers(page) == []
