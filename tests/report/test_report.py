"""The page of a run: true to its tables, safe with any text, valid HTML, and small whatever the run."""

from __future__ import annotations

import base64
import json
import math
import re
import sys
import webbrowser
from pathlib import Path
from xml.etree import ElementTree

import html5lib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

import vgx
from vgx import cli
from vgx.errors import RunError
from vgx.report.html import write
from vgx.report.html.binning import NULL, Thinned, bins, is_null, thin
from vgx.report.html.captions import choices
from vgx.report.html.chart_rows import AXES, axis_ends, cell_rows, course_rows, layer_rows, together
from vgx.report.html.encode import packed
from vgx.report.html.findings import gradient_finding, weights_finding
from vgx.report.html.headline import headline
from vgx.report.html.page_data import NUMBERS, STEPS, _axis, _cubes, flag, gather
from vgx.report.html.sweep_summary import cell_summaries, squares
from vgx.report.palette import BLUE_ORANGE, VERDICTS, VIRIDIS, colour_at, ink_on
from vgx.results.agreement import agreement_of
from vgx.results.intervals import interval_of
from vgx.results.safe_text import json_in_html
from vgx.results.store import Run
from vgx.results.values import label
from vgx.results.words import power_of_ten
from vgx.results.writer import RunWriter, metrics_rows
from vgx.results.writer import layer_rows as table_of_layers

TINY = {
    "name": "tiny",
    "seeds": 2,
    "model": {"depth": 4, "width": 8},
    "train": {"batch_size": 16, "steps": 6, "evaluate_every": 3},
}
GRID = {
    "model.initializer": ["he_normal", {"name": "lecun_uniform", "gain": 1.5}],
    "train.optimizer.learning_rate": [0.01, 0.1],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return vgx.train(vgx.load_config(TINY), runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Run:
    """A sweep of four cells of two seeds, as its tables would be; nobody trained it."""
    planned = vgx.load_sweep(TINY | {"sweep": {"axes": GRID}})
    path, rng, lanes = tmp_path_factory.mktemp("runs") / planned.folder, np.random.default_rng(0), range(8)
    meta = {"status": "done", "step": 48, "seconds": 1.0, "steps_per_second": 9.0, "lanes": 8, "lanes_done": 8}
    meta |= {"devices": ["cpu: cpu"], "compile_seconds": 0.5}
    writer = RunWriter.create(path, planned.to_yaml(), meta)
    keep, accuracy = np.ones((6, 8), bool), rng.uniform(size=(6, 8))
    delta = np.cumsum(rng.normal(size=(6, 8, 5)), 2)
    writer.append(
        metrics_rows("float32", np.arange(8), np.arange(1, 7), {"test_accuracy": accuracy}, keep),
        table_of_layers("float32", np.arange(8), 5, np.arange(1, 7), {"delta_log10": delta}, keep),
    )
    rows = [
        {
            "lane": lane,
            "cell": planned.cells[lane // 2].key,
            "seed": lane % 2,
            "model.initializer": ["he_normal", "{name: lecun_uniform, gain: 1.5}"][lane // 4],
            "train.optimizer.learning_rate": [0.01, 0.1][lane // 2 % 2],
            "status": "done",
            "verdict": ["healthy", "vanishing"][lane % 2],
            "slope": float(rng.normal()),
            "evidence": "made up",
            "test_accuracy": float(accuracy[-1, lane]),
        }
        for lane in lanes
    ]
    writer.write_lanes(pa.Table.from_pylist(rows))
    writer.close()
    return Run(path)


@pytest.fixture
def no_bundle(monkeypatch):
    """Pages without Vega in them, which takes a second to bundle."""
    monkeypatch.setattr(write, "bundle", lambda: "")


def made_up(
    path: Path, delta: np.ndarray, *, name: str = "made-up", status: str = "done", **columns: np.ndarray
) -> Run:
    """A run with a table of layers [T, L + 1] that nobody trained."""
    steps, layers = delta.shape
    config = vgx.load_config({"name": "made-up", "model": {"depth": layers - 1, "width": 4}}).to_yaml()
    meta = {"status": status, "step": steps, "seconds": 1.0, "compile_seconds": 0.5, "steps_per_second": None}
    meta["devices"] = ["cpu: cpu"]
    writer = RunWriter.create(path, config.replace("name: made-up", f"name: {json.dumps(name)}", 1), meta)
    numbers, keep = np.arange(1, steps + 1), np.ones((steps, 1), bool)
    loss = np.ma.array(np.linspace(2, 1, steps)[:, None])
    of_layers = {"delta_log10": delta[:, None], **{key: x[:, None] for key, x in columns.items()}}
    writer.append(
        metrics_rows("float32", np.arange(1), numbers, {"train_loss": loss}, keep),
        table_of_layers("float32", np.arange(1), layers, numbers, of_layers, keep),
    )
    ended = {"lane": 0, "seed": 0, "status": "done", "evidence": "made up"}
    if status == "done":
        writer.write_lanes(pa.Table.from_pylist([ended]))
    writer.close()
    return Run(path)


# Thinning


def test_bins_are_few_cover_all_and_leave_the_ends_alone():
    for total in (1, 2, 3, 7, 100, 101, 999, 12345):
        for limit, last in ((5, 1), (6, 2), (100, 2)):
            made = bins(total, limit, last)
            assert len(made.starts) <= limit
            assert made.sizes.sum() == total
            assert (made.sizes > 0).all()
            if made.thin:
                assert made.sizes[0] == 1
                assert (made.sizes[-last:] == 1).all()
                assert made.sizes.max() <= 2 * max(1, math.ceil((total - 1 - last) / (limit - 1 - last)))


def test_each_bin_keeps_its_mean_lowest_and_highest():
    x = np.random.default_rng(0).normal(size=(37, 23)).astype(np.float32)
    by_step, by_layer = bins(37, 6), bins(23, 7, 2)
    found = thin(x, np.ones(x.shape, bool), by_step, by_layer)
    for i, (a, n) in enumerate(zip(by_step.starts, by_step.sizes, strict=True)):
        for j, (b, m) in enumerate(zip(by_layer.starts, by_layer.sizes, strict=True)):
            block = x[a : a + n, b : b + m].astype(np.float64)
            assert found.mean[i, j] == pytest.approx(block.mean(), abs=1e-6)
            assert (found.low[i, j], found.high[i, j]) == (
                block.min().astype(np.float32),
                block.max().astype(np.float32),
            )


def test_zero_nan_infinity_and_what_was_not_measured_stay_apart():
    x = np.array([[-np.inf, np.nan, np.inf, 5.0, 7.0]], np.float32)
    known = np.array([[True, True, True, False, True]])
    alone = thin(x, known, bins(1, 9), bins(5, 9)).mean[0]
    assert [flag(value) for value in alone] == ["0", "NaN", "∞", "NaN", ""]
    assert is_null(alone).tolist() == [False, False, False, True, False]
    assert is_null(np.float32([np.nan, -np.nan, 0, NULL])).tolist() == [False, False, False, True]
    merged = thin(np.repeat(x, 4, 0), np.repeat(known, 4, 0), bins(4, 3), bins(5, 9))
    assert [flag(value) for value in merged.mean[1]] == ["0", "NaN", "∞", "NaN", ""]
    assert merged.mean[1, 4] == 7


def test_one_nan_in_a_group_shows_and_hides_not_the_range():
    x = np.array([[1.0], [2.0], [np.nan], [4.0], [8.0]], np.float32)
    found = thin(x, np.ones(x.shape, bool), bins(5, 3), bins(1, 3))
    assert np.isnan(found.mean[1, 0])
    assert (found.low[1, 0], found.high[1, 0]) == (2, 4)


@pytest.mark.parametrize("lanes", [1, 3, 90, 1000])
@pytest.mark.parametrize("steps", [1, 200, 1000, 100_000])
@pytest.mark.parametrize("layers", [2, 21, 101, 1001])
def test_a_page_holds_so_many_numbers_and_no_more(lanes, steps, layers):
    statistics = 12 if lanes <= 300 else 3
    axis = _axis(np.arange(1, steps + 1), layers, lanes * statistics)
    cells = len(axis.by_step.starts) * len(axis.by_layer.starts)
    assert lanes * statistics * cells * (3 if axis.thin else 1) <= 1.3 * NUMBERS
    assert len(axis.by_step.starts) <= STEPS
    assert len(axis.by_layer.starts) >= min(layers, 6)
    if lanes == 1:
        assert len(axis.by_layer.starts) == min(layers, 100)
        assert len(axis.by_step.starts) == min(steps, 100)


# True to the tables


def test_the_numbers_of_a_page_are_those_of_the_tables_to_the_bit(run):
    contents = gather(run)
    data = packed(contents)
    found = np.frombuffer(base64.b64decode(data["numbers"]), "<f4").reshape(2, len(data["statistics"]), 6, 5)
    layers = run.layers()
    for s, name in enumerate(data["statistics"]):
        column = layers[name]
        values = column.to_numpy().astype(np.float32).reshape(6, 2, 5).transpose(1, 0, 2)
        known = column.is_valid().to_numpy().reshape(6, 2, 5).transpose(1, 0, 2)
        assert np.array_equal(is_null(found[:, s].copy()), ~known)
        assert np.array_equal(found[:, s][known], values[known], equal_nan=True)
    course = np.frombuffer(base64.b64decode(data["courseNumbers"]), "<f4").reshape(2, 6, len(data["course"]))
    metrics = run.metrics()
    for c, name in enumerate(data["course"]):
        values = metrics[name].to_numpy().reshape(6, 2).T
        known = metrics[name].is_valid().to_numpy().reshape(6, 2).T
        assert np.array_equal(is_null(course[:, :, c].copy()), ~known)
        assert np.array_equal(course[:, :, c][known], values[known].astype(np.float32))
    assert {name for name in layers.column_names if layers[name].null_count < len(layers)} == {
        "lane",
        "step",
        "layer",
        *data["statistics"],
    }


def test_rows_over_the_layers_are_those_of_the_table(run):
    contents = gather(run)
    table = run.layers(where=(pc.field("step") == 4) & (pc.field("lane") == 1)).to_pylist()
    rows = layer_rows(contents, [1], 3)
    assert [row["delta_log10"] for row in rows] == [row["delta_log10"] for row in table]
    assert [row["layers"] for row in rows] == ["1", "2", "3", "4", "readout"]
    for row, known in zip(rows, table, strict=True):
        assert row["update_ratio"] == pytest.approx(math.log10(known["update_ratio"]), abs=1e-6)
        spread = math.sqrt(known["act_rms"] ** 2 - known["act_mean"] ** 2)
        assert row["act_above"] - row["act_below"] == pytest.approx(2 * spread)
        zero = known["weight_grad_zero"]
        assert row["seen"] == ("no zeros" if zero == 0 else "only zeros" if zero == 1 else "some zeros")


def test_the_prediction_hangs_on_the_readouts_gradient_that_was_measured_first(run):
    contents = gather(run)
    table = run.prediction(where=(pc.field("statistic") == "delta_log10") & (pc.field("lane") == 0)).to_pylist()
    readout = run.layers(where=(pc.field("step") == 1) & (pc.field("lane") == 0))["delta_log10"][-1].as_py()
    for step in (0, 5):  # wherever the slider stands
        for row, known in zip(layer_rows(contents, [0], step), table, strict=True):
            assert row["predicted"] == pytest.approx(known["predicted"] + readout)
            assert row["predicted_high"] - row["predicted"] == pytest.approx(1.959964 * known["band"], rel=1e-6)


def test_the_axes_hold_all_that_is_drawn_of_any_choice_of_lanes_at_any_step(run):
    contents = gather(run)
    for lanes in choices(contents):
        drawn = [row for step in range(6) for row in layer_rows(contents, lanes, step)]
        found = axis_ends(contents, lanes)
        for key, axis in AXES.items():
            some = [row for row in drawn if axis.readout or row["layers"] != "readout"]
            values = [row[field] for row in some for field in axis.fields if row.get(field) is not None]
            low, high = found[key]
            assert low == 0 or not axis.zero
            assert low <= min(values) + 1e-6
            assert high >= max(values) - 1e-6
            assert high - low >= axis.least
        low, high, said, _ = packed(contents)["choices"][",".join(map(str, lanes))]["maps"]["delta_log10"]
        values = [row["value"] for row in cell_rows(contents, lanes, "delta_log10")]
        assert (low, high) == pytest.approx((min(values), max(values)), rel=1e-6)
        assert said == f"{len(values)} cells from {power_of_ten(min(values))} to {power_of_ten(max(values))}."


def test_every_cell_of_the_heat_map_is_a_row_of_the_table(run):
    contents = gather(run)
    rows = cell_rows(contents, [0], "preact_mean")
    table = run.layers(["step", "layer", "preact_mean"], where=pc.field("lane") == 0).to_pylist()
    found = [(row["x"], row["y"] + 0.5, row["value"]) for row in rows]
    assert found == [(row["step"], row["layer"], row["preact_mean"]) for row in table]


def test_curves_over_the_steps_leave_out_what_was_not_measured(run):
    rows = [row for row in course_rows(gather(run), [0]) if row["name"] == "test accuracy"]
    table = run.metrics(["step", "test_accuracy"], where=pc.field("lane") == 0)
    known = table.filter(table["test_accuracy"].is_valid()).to_pylist()
    assert [(row["step"], row["value"]) for row in rows] == [(row["step"], row["test_accuracy"]) for row in known]
    assert all(row["sparse"] for row in rows)


def test_seeds_together_are_their_median_and_their_range():
    rng = np.random.default_rng(1)
    for count in (2, 3, 4):
        means = rng.normal(size=(count, 5, 4)).astype(np.float32)
        means[0, 0, 0] = np.nan
        found = together([Thinned(mean, mean - 1, mean + 1) for mean in means])
        assert np.allclose(found.mean, np.nanmedian(means, 0))
        assert np.allclose(found.low, np.nanmin(means, 0) - 1)
        assert np.allclose(found.high, np.nanmax(means, 0) + 1)
    broken = Thinned(*[np.full((1, 1), np.nan, np.float32)] * 3)
    assert np.isnan(together([broken, broken]).mean).all()


def test_a_gradient_of_628_decades_is_said_and_drawn_and_zero_is_zero(tmp_path):
    delta = np.tile(np.linspace(-628.25, 0, 1001), (3, 1))
    zero = np.tile((delta[0] < -45).astype(float), (3, 1))
    run = made_up(tmp_path / "deep", delta, weight_grad_log10=delta, weight_grad_zero=zero)
    contents = gather(run)
    assert "5.6e-629 in layer 1" in gradient_finding(contents, [0])
    assert re.search(r"only zeros in layers 1 to 92\d", weights_finding(contents, [0]))
    rows = layer_rows(contents, [0], 0)
    assert rows[0]["delta_log10"] == np.float32(-628.25)
    assert rows[0]["seen"] == "only zeros"
    delta[:, :2] = -np.inf
    rows = layer_rows(gather(made_up(tmp_path / "zero", delta)), [0], 0)
    assert (rows[0]["delta_log10"], rows[0]["delta_log10_flag"]) == (None, "0")


def test_lanes_of_several_depths_and_lengths_each_have_their_axis(tmp_path):
    run = made_up(tmp_path / "depths", np.zeros((2, 3)))
    writer, steps = RunWriter(run.path), np.arange(1, 6, 2)
    for lane, layers in ((1, 5), (2, 3)):
        delta = np.arange(3.0 * layers).reshape(3, 1, layers) + lane
        rows = table_of_layers(
            "float32", np.array([lane]), layers, steps, {"delta_log10": delta}, np.ones((3, 1), bool)
        )
        writer.append(metrics_rows("float32", np.array([lane]), steps, {}, np.ones((3, 1), bool)), rows)
    writer.close()
    statistics, axes, axis_of, cubes = _cubes(run, [0, 1, 2, 3])
    assert statistics == ["delta_log10"]
    assert [(axis.layers, axis.steps.tolist()) for axis in axes] == [(3, [1, 2, 3, 5]), (5, [1, 3, 5])]
    assert axis_of == [0, 1, 0, None]
    assert cubes[1]["delta_log10"].mean.tolist() == (np.arange(15).reshape(3, 5) + 1).tolist()
    assert is_null(cubes[0]["delta_log10"].mean).all(1).tolist() == [False, False, True, True]
    assert is_null(cubes[2]["delta_log10"].mean).all(1).tolist() == [False, True, False, False]
    assert cubes[3] == {}


def test_the_cells_of_a_sweep_sum_up_its_lanes(sweep):
    contents, table = gather(sweep), sweep.lanes().to_pylist()
    summaries = cell_summaries(contents)
    assert [row["label"] for row in summaries] == [
        "he_normal, 0.01",
        "he_normal, 0.1",
        "lecun_uniform 1.5, 0.01",
        "lecun_uniform 1.5, 0.1",
    ]
    for row in summaries:
        lanes = [table[i] for i in row["lanes"]]
        assert row["score"] == pytest.approx(np.mean([lane["test_accuracy"] for lane in lanes]))
        assert row["slope"] == pytest.approx(np.mean([lane["slope"] for lane in lanes]))
        assert len({lane["cell"] for lane in lanes}) == 1
        assert (row["slope_low"], row["slope_high"]) == interval_of([lane["slope"] for lane in lanes])[1:]
        assert row["measured"] == pytest.approx(np.mean([contents.measured_slope(i) for i in row["lanes"]]))


def test_a_grids_squares_are_the_means_of_the_cells_in_them_whatever_is_fixed(sweep):
    contents, table = gather(sweep), sweep.lanes().to_pylist()
    summaries = cell_summaries(contents)
    found = squares(contents, summaries)
    assert set(found) == {"0,1,2,3", "0,1", "2,3", "0,2", "1,3", "0", "1", "2", "3"}
    for key, square in found.items():
        lanes = [table[i] for cell in key.split(",") for i in summaries[int(cell)]["lanes"]]
        for field, column, form in (("score", "test_accuracy", ".4f"), ("slope", "slope", "+.3f")):
            values = [lane[column] for lane in lanes]
            assert square[field][0] == format(np.mean(values), form)
            assert square[field][1] == f"±{np.std(values, ddof=1):{form.strip('+')}}"
            assert contrast(*square[field][2:]) >= 4.5
        assert square["verdict"][0] == f"H {len(lanes) // 2}/{len(lanes)} healthy"
    best = max(summaries, key=lambda row: row["score"])
    assert found[str(best["cell"])]["score"][2] == VIRIDIS[-1]
    assert found["0,1"]["title"] == "mean of 2 cells; leads to he_normal, 0.01"


# Words and colours


def test_words():
    assert power_of_ten(-628.25) == "5.6e-629"
    assert power_of_ten(-4.2) == "6.3e-5"
    assert power_of_ten(-9.999999) == "1e-10"
    assert power_of_ten(-2) == "0.01"
    assert label("{name: leaky_relu, negative_slope: 0.2}") == "leaky_relu 0.2"
    assert label(1e-05) == "1e-05"
    assert power_of_ten(math.log10(3249.7)) == "3200"


def contrast(a: str, b: str) -> float:
    """WCAG 2's contrast of two colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_on_any_cell_has_the_contrast_that_wcag_asks():
    colours = [colour_at(stops, i / 200) for stops in (VIRIDIS, BLUE_ORANGE) for i in range(201)]
    colours += [sign.colour for sign in VERDICTS.values()]
    assert min(contrast(colour, ink_on(colour)) for colour in colours) >= 4.5
    assert [colour_at(VIRIDIS, i / 5) for i in range(6)] == VIRIDIS


def test_no_two_verdicts_share_a_letter_a_shape_or_a_colour():
    for kind in zip(*VERDICTS.values(), strict=True):
        assert len(set(kind)) == len(VERDICTS)


def told(tmp_path: Path, word: str, slope: float, evidence: str, **more) -> str:
    """The headline of a run of 20 hidden layers that came to a verdict."""
    contents = gather(made_up(tmp_path / word, np.zeros((2, 21))))
    row = contents.lanes[0] | {"verdict": word, "slope": slope, "evidence": evidence} | more
    return headline(contents._replace(lanes=[row]), [0])


@pytest.mark.parametrize(
    ("word", "slope", "evidence", "sentence"),
    [
        (
            "vanishing",
            -0.6288,
            "the gradient shrinks on its way down; -0.629 decades",
            "Each layer passes on 0.24 of the gradient above it; after 20 layers 2.7e-13 is left: "
            "the lowest layers do not learn.",
        ),
        (
            "vanishing",  # somewhere inside, so that no layer's share says it
            -0.02,
            "the gradient shrinks on its way down; -0.020 decades",
            "The gradient shrinks on its way down: the lowest layers do not learn.",
        ),
        (
            "exploding",
            0.5,
            "the gradient grows on its way down; +0.5 decades",
            "Each layer passes on 3.2 times the gradient above it; after 20 layers it is 1e10 times as large: "
            "no learning rate suits all layers.",
        ),
        (
            "healthy",
            -0.008,
            "the gradient keeps its size; -0.008 decades",
            "Each layer passes on 0.98 of the gradient above it; after 20 layers 0.69 is left: every layer can learn.",
        ),
        (
            "healthy",
            -0.4,
            "has fitted: training accuracy 1, and no gradient is left",
            "The net has fitted: training accuracy 1, and no gradient is left.",
        ),
        (
            "diverged",
            0.2,
            "NaN or infinity at step 4, first in layer 3; +0.2 decades",
            "NaN or infinity at step 4, first in layer 3: what comes after is no measurement.",
        ),
    ],
)
def test_a_verdict_is_said_in_a_sentence_of_what_it_means_for_this_net(word, slope, evidence, sentence, tmp_path):
    assert told(tmp_path, word, slope, evidence) == sentence


def test_a_run_without_a_verdict_says_so_and_one_that_failed_why(tmp_path):
    assert told(tmp_path, "", math.nan, "", status="running") == "There is no verdict yet: this is noted as running."
    assert told(tmp_path, "failed", math.nan, "", status="failed", error="no room") == "no room"


def test_what_is_constant_is_told_and_not_drawn(run, no_bundle):
    specs = write.lane_specs(gather(run))
    assert "learning_rate" not in specs
    assert {"loss", "accuracy"} <= set(specs)
    root = parsed(write.drawn(gather(run))[0])
    assert root.find(".//p[@id='learning_rate']").text == "Learning rate 0.1."


# The page


def parsed(html: str) -> ElementTree.Element:
    """The page, read by a strict parser: any fault of HTML 5 is an error."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)


def text_of(run: Run) -> str:
    """All that a run's page says before its scripts run."""
    return " ".join("".join(parsed(write.drawn(gather(run))[0]).itertext()).split())


def asks_elsewhere(root: ElementTree.Element) -> list[str]:
    """What a page would fetch: addresses of elements that load something, and of its style."""
    loading = [
        value
        for element in root.iter()
        if isinstance(element.tag, str)
        for name, value in element.attrib.items()
        if name in ("src", "srcset", "href", "data", "action", "poster") and element.tag != "a"
    ]
    styles = "".join(element.text or "" for element in root.iter("style"))
    return [x for x in loading if not x.startswith("data:")] + re.findall(r"url\(|@import", styles)


def test_a_page_is_valid_and_asks_for_nothing(run, sweep, no_bundle):
    for one in (run, sweep):
        root = parsed(write.drawn(gather(one))[0])
        elements = [element for element in root.iter() if isinstance(element.tag, str)]
        assert asks_elsewhere(root) == []
        policy = root.find(".//meta[@http-equiv]")
        assert policy is not None
        assert policy.attrib["content"].startswith("default-src 'none';")
        assert root.attrib["lang"] == "en"
        ids = [element.attrib["id"] for element in elements if "id" in element.attrib]
        assert len(ids) == len(set(ids))
        charts = [element for element in root.iter("div") if element.attrib.get("class") == "chart"]
        assert all(len(chart.attrib["aria-label"]) > 20 and chart.attrib["role"] == "img" for chart in charts)
        assert len(charts) == len({chart.attrib["aria-label"] for chart in charts}) >= 5
        controls = [element for element in elements if element.tag in ("select", "input")]
        labelled = [control for label in root.iter("label") for control in label.iter() if control in controls]
        assert controls == labelled


def test_a_page_says_the_verdict_its_evidence_and_whether_theory_held(run, no_bundle):
    text = text_of(run)
    for lane in run.lanes().to_pylist():
        assert f"{lane['verdict']} seed {lane['seed']}: {lane['evidence']}" in text
        assert agreement_of(run, lane["lane"]).sentence in text
    assert "depth: 4" in text
    assert run.meta["versions"]["jax"] in text


EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\u2028&amp;"


def test_text_from_a_config_cannot_become_markup(tmp_path, no_bundle):
    run = made_up(tmp_path / "evil", np.zeros((2, 3)), name=EVIL)
    root = parsed(write.drawn(gather(run))[0])
    assert root.find(".//h1").text == EVIL
    assert root.find(".//title").text == f"{EVIL} - vgx"
    assert not list(root.iter("img"))
    assert len(list(root.iter("script"))) == 3 + 6
    assert json.loads(json_in_html({"a": EVIL})) == {"a": EVIL}
    assert not set("<>&\u2028") & set(json_in_html({"a": EVIL}))


def test_every_choice_of_lanes_has_captions_that_are_its_own(sweep, no_bundle):
    contents = gather(sweep)
    data = packed(contents)
    said = set()
    for i, cell in enumerate(data["cells"]):
        assert cell["shown"] == [2 * i, 2 * i + 1]
        assert cell["menu"][1:] == [(str(2 * i), "seed 0"), (str(2 * i + 1), "seed 1")]
        for lanes in (cell["shown"], *([lane] for lane in cell["shown"])):
            where = (pc.field("step") == 6) & pc.field("lane").isin(lanes)
            table = sweep.layers(["delta_log10"], where=where)["delta_log10"].to_numpy().reshape(-1, 5)
            bottom, top = (power_of_ten(float(np.median(table[:, layer]))) for layer in (0, 3))
            caption = data["choices"][",".join(map(str, lanes))]["captions"]["gradient"]
            assert caption.endswith(f"; at step 6 {top} and {bottom}.")
            said.add(caption)
    assert len(said) == 4 * 3
    # What stands there before any script runs is said of the cell whose name stands above it, the best.
    best = max(cell_summaries(contents), key=lambda row: row["score"])
    root = parsed(write.drawn(contents)[0])
    assert root.find(".//h2[@id='curves-title']").text == best["label"]
    said = data["choices"][",".join(map(str, best["lanes"]))]["captions"]
    assert root.find(".//p[@id='headline']").text == said.pop("headline")
    for key, text in said.items():
        assert root.find(f".//figure[@id='figure-{key}']/figcaption").text == text
        assert root.find(f".//div[@id='chart-{key}']").attrib["aria-label"].endswith(f". {text}")


def test_a_lane_that_ended_early_is_told_by_its_own_last_step(tmp_path):
    run = made_up(tmp_path / "short", np.zeros((2, 3)), weight_grad_zero=np.ones((2, 3)))
    writer, steps = RunWriter(run.path), np.arange(1, 6)
    rows = table_of_layers(
        "float32", np.array([1]), 3, steps, {"delta_log10": np.ones((5, 1, 3))}, np.ones((5, 1), bool)
    )
    writer.append(metrics_rows("float32", np.array([1]), steps, {}, np.ones((5, 1), bool)), rows)
    writer.close()
    contents = gather(run)
    tables = dict(zip(("statistics", "axes", "axis_of", "cubes"), _cubes(run, [0, 1]), strict=True))
    contents = contents._replace(**tables, lanes=contents.lanes * 2, forecasts=[{}, {}])
    assert contents.axis_of == [0, 0]
    assert gradient_finding(contents, [0]).endswith("; at step 2 1 and 1.")
    assert weights_finding(contents, [0]).startswith("At step 2 the optimizer saw only zeros")
    assert gradient_finding(contents, [1]).endswith("; at step 5 10 and 10.")


def test_what_was_drawn_together_is_said(tmp_path, no_bundle):
    text = text_of(made_up(tmp_path / "long", np.random.default_rng(0).normal(size=(400, 130))))
    assert "400 recorded steps in 100 groups" in text
    assert "130 layers in 100 groups" in text
    assert "the curves over 400 steps at 300 points" in text


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("interrupted", "This run was interrupted at step 2 and can be resumed"),
        ("running", "This run is noted as running, at step 2"),
    ],
)
def test_a_run_that_has_not_ended_says_so(status, sentence, tmp_path, no_bundle):
    assert sentence in text_of(made_up(tmp_path / status, np.zeros((2, 3)), status=status))


def test_figures_are_files_beside_the_page_wherever_it_is(run, sweep, tmp_path):
    for one, names in (
        (run, {"gradient-first", "gradient", "weights", "heat", "loss", "accuracy", "updates"}),
        (sweep, {"grid-test-accuracy", "grid-slope", "grid-verdict", "ranking", "measured-slope", "gradients"}),
    ):
        page, *figures = write.write_report(one, tmp_path / one.path.name / "a.html")
        assert page == tmp_path / one.path.name / "a.html"
        assert "vegaEmbed" in page.read_text()
        assert {path.parent for path in figures} == {page.parent / "a-figures"}
        assert names <= {path.stem for path in figures}
        for path in figures:
            if path.suffix == ".svg":
                assert "NaN" not in path.read_text()
                ElementTree.parse(path)
            else:
                assert path.read_bytes().startswith(b"\x89PNG")
    heat = ElementTree.parse(tmp_path / run.path.name / "a-figures" / "heat.svg")
    drawn = [
        g for g in heat.iter("{http://www.w3.org/2000/svg}g") if "mark-rect role-mark" in g.attrib.get("class", "")
    ]
    assert sum(len(list(g)) for g in drawn) == 6 * 5


def test_nothing_logged_and_nothing_run_yet_are_pages_too(tmp_path, no_bundle, list_parts):
    run = made_up(tmp_path / "none", np.zeros((2, 3)))
    for part in (run.path / "layers").iterdir():
        part.unlink()
    list_parts(run)
    assert "No layer was recorded here" in text_of(run)
    meta = {"status": "running", "step": 0, "seconds": 0.0, "compile_seconds": 0.0, "steps_per_second": None}
    meta["devices"] = ["cpu: cpu"]
    RunWriter.create(tmp_path / "new", vgx.load_config(TINY).to_yaml(), meta).close()
    assert "Nothing is written yet." in text_of(Run(tmp_path / "new"))


def test_the_command_says_where_the_page_is_and_refuses_what_is_no_run(run, tmp_path, monkeypatch, no_bundle):
    monkeypatch.setattr(write, "write_stills", lambda stills, folder: [folder / f"{name}.svg" for name, _ in stills])
    command = ["report", run.path.name[:5], "--runs", str(run.path.parent)]
    for more, page, folder in (
        ([], run.path / "report.html", run.path / "figures"),
        (["-o", str(tmp_path / "p.html")], tmp_path / "p.html", tmp_path / "p-figures"),
    ):
        result = CliRunner().invoke(cli.app, command + more)
        assert result.exit_code == 0
        assert result.output == f"{page}: written, and 10 figures in {folder}\n"
        assert page.read_text().startswith("<!DOCTYPE html>")
    refused = CliRunner().invoke(cli.app, ["report", "nothing", "--runs", str(tmp_path)])
    assert isinstance(refused.exception, RunError)
    assert "nothing: does not exist" in str(refused.exception)


def test_a_report_never_replaces_what_is_no_page_of_vgx(run, tmp_path):
    notes = tmp_path / "notes.html"
    notes.write_text("mine")
    with pytest.raises(RunError, match=r"notes\.html: exists, and is no page of vgx"):
        write.write_report(run, notes)
    assert notes.read_text() == "mine"
    with pytest.raises(RunError, match="is a folder"):
        write.write_report(run, tmp_path)
    assert sorted(tmp_path.iterdir()) == [notes]


def test_a_page_of_another_run_keeps_its_figures(tmp_path, no_bundle):
    drawn = {}
    for letter, depth in (("a", 3), ("b", 5)):
        run = made_up(tmp_path / letter, np.random.default_rng(depth).normal(size=(2, depth)))
        page, *figures = write.write_report(run, tmp_path / "pages" / f"{letter}.html")
        drawn[letter] = {path: path.read_bytes() for path in figures}
        assert {path.parent for path in figures} == {tmp_path / "pages" / f"{letter}-figures"}
        assert f"in {letter}-figures/" in page.read_text()
    assert len(drawn["a"]) == len(drawn["b"]) > 0
    for path, content in (drawn["a"] | drawn["b"]).items():
        assert path.read_bytes() == content
    own = write.write_report(Run(tmp_path / "a"))
    assert {path.parent for path in own} == {tmp_path / "a", tmp_path / "a" / "figures"}
    assert write.write_report(Run(tmp_path / "a"), tmp_path / "a" / "report.html") == own


def test_figures_never_replace_what_is_no_figure_of_vgx_and_none_is_left_of_an_older_page(
    tmp_path, no_bundle, list_parts
):
    run, folder = made_up(tmp_path / "mine", np.zeros((2, 3))), tmp_path / "p-figures"
    folder.mkdir()
    for name in ("gradient.svg", "loss.png"):
        (folder / name).write_text("mine")
        with pytest.raises(RunError, match=rf"{name}: exists, and is no figure of vgx"):
            write.write_report(run, tmp_path / "p.html")
        assert [path.name for path in folder.iterdir()] == [name]
        assert not (tmp_path / "p.html").exists()
        (folder / name).rename(tmp_path / "notes.svg")
    (tmp_path / "notes.svg").rename(folder / "notes.svg")
    write.write_report(run, tmp_path / "p.html")
    assert (folder / "notes.svg").read_text() == "mine"
    assert (folder / "gradient.png").exists()
    for part in (run.path / "layers").iterdir():
        part.unlink()
    list_parts(run)
    write.write_report(run, tmp_path / "p.html")  # the run has no layers any more: nor has the page figures of them
    assert sorted(path.name for path in folder.iterdir()) == ["loss.png", "loss.svg", "notes.svg"]


@pytest.mark.parametrize(("display", "opens"), [(":0", True), (":0", False), ("", True)])
def test_a_report_opens_in_the_browser_where_there_is_one_and_is_written_where_not(
    display, opens, tmp_path, monkeypatch, no_bundle
):
    run, opened = made_up(tmp_path / "a b", np.zeros((2, 3))), []
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(write, "write_stills", lambda stills, folder: [])
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or opens)
    page = run.path / "report.html"
    result = CliRunner().invoke(cli.app, ["report", str(run.path), "--open"])
    assert (result.exit_code, result.stdout) == (0, f"{page}: written\n")
    assert opened == ([page.as_uri()] if display else [])
    found = "" if display and opens else f"no browser opens here; the page is at {page.as_uri()}\n"
    assert result.stderr.endswith(found)
    assert ("no browser" in result.stderr) == bool(found)
    CliRunner().invoke(cli.app, ["report", str(run.path)])
    assert len(opened) == bool(display)
