"""A map as it is trained: which cells, what theory says of them, that it goes on to the same bits, and how it looks."""

from __future__ import annotations

import json
import math

import pytest
from rich.console import Console
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.config.maps import load_map
from vgx.errors import Damaged, RunError
from vgx.report.map_words import boundary_in_words
from vgx.report.terminal.map import show_map
from vgx.results.map_file import map_of
from vgx.results.recognition import sort
from vgx.runner import sweeping
from vgx.runner.map import cost_of, trainability_map
from vgx.runner.map_theory import MapTheory, shallowest
from vgx.runner.stopping import Interrupted
from vgx.theory.predict import source_of

TANH = {
    "name": "small",
    "data": {"name": "synthetic", "examples": 200},
    "model": {"width": 24, "activation": "tanh", "initializer": "lecun_normal", "bias": {"name": "normal", "std": 0.2}},
    "train": {"batch_size": 16, "steps": 8, "evaluate_every": 8},
    "log": {"statistics": "none"},
}
SIDES = {"x": "initializer.gain=0.8:2.6", "y": "depth=4:64", "points": "7x5"}


def deep(multiple: float):
    """A rule by which nets train up to `multiple` correlation depths."""
    theory = MapTheory()

    def rule(config, seed):
        ratio = theory(config).correlation
        return 0.1 + 0.8 / (1 + (ratio / multiple) ** 6)

    return rule


def printed(run, width: int = 80, **console) -> str:
    shown = Console(width=width, **{"color_system": None} | console)
    with shown.capture() as capture:
        shown.print(show_map(run, map_of(run), width))
    return capture.get()


# Theory


def test_the_ratios_are_those_of_a_prediction_whatever_the_depth():
    theory = MapTheory()
    for gain, depth in ((0.9, 4), (1.4, 30), (2.2, 64)):
        model = TANH["model"] | {"initializer": {"name": "lecun_normal", "gain": gain}, "depth": depth}
        config = vgx.load_config(TANH | {"model": model})
        limit, found = vgx.predict(config).limit, theory(config)
        assert found.correlation == pytest.approx(depth / limit.correlation_depth_scale, rel=1e-9)
        assert found.gradient == pytest.approx(depth / limit.depth_scale, rel=1e-9)
        assert len(shallowest(config).model.widths) == 2


def test_where_theory_is_silent_or_a_depth_is_infinite_the_ratio_says_so():
    def ratios(**model):
        return MapTheory()(vgx.load_config(TANH | {"model": {"width": 24, "depth": 6} | model}))

    batch = ratios(normalization="batch")
    assert (batch.correlation, batch.reason) == (None, "theory has no correlation depth for batch norm")
    assert batch.gradient > 0
    assert ratios(activation="relu", initializer="he_normal").gradient == 0.0
    skips = ratios(activation="relu", residual={"name": "pre_activation", "scale": "depth"})
    assert skips.gradient is not None


def test_contours_are_multiples_of_the_predicted_depths(map_by_rule):
    found = map_of(map_by_rule(TANH, deep(5.0), **SIDES))
    at = {}
    for x0, y0, x1, y1 in found.contour("correlation", 5.0):
        at |= {x0: y0, x1: y1}
    assert len(at) > 10
    source = source_of(load_map(TANH, options=SIDES).base.data.load(), "unit")
    for gain in (value for value in found.file["theory"]["x"] if value in at):
        model = TANH["model"] | {"initializer": {"name": "lecun_normal", "gain": gain}, "depth": 9}
        limit = vgx.predict(vgx.load_config(TANH | {"model": model}), source).limit
        assert at[gain] == pytest.approx(5.0 * limit.correlation_depth_scale, rel=1e-6)


# Rounds


def test_a_map_is_refined_at_its_boundary_and_finds_the_multiple(map_by_rule):
    said = []
    run = map_by_rule(TANH, deep(5.0), said.append, **SIDES, refine="2x1")
    found = map_of(run)
    first = [cell for cell in found.cells if cell.round == 0]
    assert len(first) == 35
    assert len(said) == 2
    assert said[0].startswith("round 1 of refinement: ")
    added = [cell for cell in found.cells if cell.round]
    assert {cell.round for cell in added} == {1, 2}
    # what is added lies nearer to the boundary than the first grid does, on the whole
    near = [abs(math.log(found.ratios["correlation"][cell[:2]] / 5)) for cell in added]
    far = [abs(math.log(found.ratios["correlation"][cell[:2]] / 5)) for cell in first]
    assert sum(near) / len(near) < 0.6 * sum(far) / len(far)
    fit = found.multiples["correlation"]
    assert fit.low < 5.0 < fit.high
    assert fit.value == pytest.approx(5.0, rel=0.1)
    assert found.multiples["gradient"].high / found.multiples["gradient"].low > 1.3 * fit.high / fit.low
    assert f"Nets train up to {fit.value:.1f} correlation depths (95 % interval" in boundary_in_words(found)[0]


def test_nothing_is_added_where_no_neighbours_differ_and_the_words_say_so(map_by_rule):
    every = map_of(map_by_rule(TANH, lambda config, seed: 0.9, **SIDES, refine="3"))
    assert len(every.cells) == 35
    assert boundary_in_words(every) == ["Every net of the map trained: there is no boundary to fit."]
    none = map_of(map_by_rule(TANH, lambda config, seed: 0.11, **SIDES))
    assert boundary_in_words(none) == ["No net of the map trained: there is no boundary to fit."]


def test_a_lane_that_failed_leaves_its_cell_unknown(map_by_rule):
    good = deep(5.0)
    run = map_by_rule(TANH, lambda c, s: None if len(c.model.widths) == 64 else good(c, s), **SIDES, refine="0")
    found = map_of(run)
    assert sum(accuracy is None for accuracy in found.accuracies.values()) == 7
    assert "? not ended" in printed(run)


def test_batch_norm_has_the_gradient_depth_alone_and_says_why(map_by_rule):
    settings = TANH | {"model": TANH["model"] | {"normalization": "batch"}}
    run = map_by_rule(settings, lambda c, s: 0.9 if len(c.model.widths) < 20 else 0.1, **SIDES)
    first, second = boundary_in_words(map_of(run))
    assert first == "No multiple of the correlation depth: theory has no correlation depth for batch norm."
    assert second.startswith("Nets train up to ")
    assert "gradient depths" in second


def test_a_map_need_not_have_a_depth_on_either_side(map_by_rule):
    settings = TANH | {"model": TANH["model"] | {"depth": 20}}
    sides = {"x": "initializer.gain=0.8:2.6", "y": "bias.std=0.1:0.5", "points": "7x3", "refine": "1"}
    found = map_of(map_by_rule(settings, deep(5.0), **sides))
    fit = found.multiples["correlation"]
    assert fit.lines == 3
    assert fit.value == pytest.approx(5.0, rel=0.2)
    assert found.contour("correlation", 5.0)


# The terminal


@pytest.mark.parametrize("width", [40, 80, 140])
def test_a_map_fits_the_terminal_with_its_contours_and_its_sentence(map_by_rule, width):
    run = map_by_rule(TANH, deep(5.0), **SIDES)
    text = printed(run, width)
    assert max(map(len, text.splitlines())) <= width
    rows = [line for line in text.splitlines() if "┤" in line or "│" in line]
    assert len(rows) == 16
    assert sum("●" in row for row in rows) > 4
    assert [row.split()[0] for row in rows if "┤" in row] == ["64", "32", "16", "8", "4"]
    assert "█" in rows[-1]
    assert "·" in rows[0]
    assert "fitted" in text
    coloured = printed(run, width, color_system="truecolor", force_terminal=True)
    assert "▀" in coloured
    assert "\x1b[" in coloured


def test_show_draws_the_map_and_asked_for_a_grid_the_grid(map_by_rule, monkeypatch, tmp_path):
    run = map_by_rule(TANH, deep(5.0), **SIDES)
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["show", str(run.path)])
    assert shown.exit_code == 0
    assert "correlation depths, fitted" in shown.stdout
    grid = CliRunner().invoke(app, ["show", str(run.path), "--rows", "depth", "--value", "test_accuracy"])
    assert "columns: model.initializer.gain" in grid.stdout


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.pop("cells"),
        lambda file: file["y"].update(values=[4]),
        lambda file: file["y"].update(values=[0, 4]),
        lambda file: file["cells"][3].update(bottom=-1.0),
        lambda file: file["cells"][3].update(left="wide"),
        lambda file: file["theory"]["x"].pop(),
    ],
)
def test_a_damaged_map_is_told_in_a_line(map_by_rule, change):
    run = map_by_rule(TANH, lambda config, seed: 0.9, **SIDES | {"points": "2"}, refine="0")
    file = json.loads((run.path / "map.json").read_text())
    change(file)
    (run.path / "map.json").write_text(json.dumps(file))
    with pytest.raises(Damaged) as refusal:
        map_of(run)
    assert "\n" not in str(refusal.value)


def test_all_that_a_map_leaves_is_known_as_its_own(map_by_rule):
    run = map_by_rule(TANH, lambda config, seed: 0.9, **SIDES | {"points": "2"}, refine="0")
    assert sort(run.path).others == []


def test_the_cost_is_told_by_depth():
    said = cost_of(load_map(TANH, options=SIDES))
    assert said.startswith("7 x 5 cells, 35 lanes in 5 programs, one for each depth: about 30 s of compiling")
    both = cost_of(load_map(TANH, options={"x": "learning_rate=0.1:1", "y": "initializer.gain=1:2", "points": 3}))
    assert both.startswith("3 x 3 cells, 9 lanes in 1 program: about 6 s")


# Trained

TRAINED = {"x": "initializer.gain=0.3:2.3", "y": "depth=2,6", "points": 2, "refine": 1, "threshold": 0.3}


def tables(run) -> list:
    keys = [("lane", "ascending"), ("step", "ascending")]
    return [run.metrics().sort_by(keys), run.lanes()]


@pytest.fixture(scope="module")
def asked():
    train = TANH["train"] | {"optimizer": {"name": "sgd", "learning_rate": 0.1}, "steps": 40}
    return load_map(TANH | {"data": "digits", "train": train}, options=TRAINED)


@pytest.fixture(scope="module")
def whole(asked, tmp_path_factory):
    return trainability_map(asked, runs=tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "stop", [1, pytest.param(2, marks=pytest.mark.slow), 3], ids=["first grid", "before refinement", "refinement"]
)
def test_a_map_that_was_cut_off_goes_on_to_the_same_bits(stop, asked, whole, tmp_path, monkeypatch):
    assert len(map_of(whole).cells) > 4, f"nothing was refined: {map_of(whole).accuracies}"
    assert len(whole.rounds) == 3
    end_round, ended = sweeping.Sweeping.end_round, []

    def end(self, number, step):
        end_round(self, number, step)
        ended.append(number)
        if len(ended) == stop:
            raise Interrupted(self.writer.path, "cut off")

    with monkeypatch.context() as patch:
        patch.setattr(sweeping.Sweeping, "end_round", end)
        with pytest.raises(Interrupted):
            trainability_map(asked, runs=tmp_path)
    run = trainability_map(asked, runs=tmp_path)
    assert all(a.equals(b) for a, b in zip(tables(run), tables(whole), strict=True))
    for name in ("map.json", "config.yaml"):
        assert (run.path / name).read_text() == (whole.path / name).read_text()


def test_the_same_map_again_trains_nothing(asked, whole):
    before = whole.meta["seconds"]
    assert trainability_map(asked, runs=whole.path.parent).meta["seconds"] == before


def test_the_command_draws_a_map_and_prints_it_as_one_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "small.yaml"
    config.write_text(json.dumps(TANH))
    words = ["map", str(config), *(word for name, value in TRAINED.items() for word in (f"--{name}", str(value)))]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert "4 lanes in 2 programs, one for each depth" in shown.stderr
    assert "next: " in shown.stderr
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["status"] == "done"
    assert {cell["model.depth"] for cell in found["map"]["cells"]} == {2, 6}
    assert all(cell["depth_over_correlation_depth"] > 0 for cell in found["map"]["cells"])
    planned = CliRunner().invoke(app, [*words, "--plan"])
    assert "0 to run" in planned.stdout
    with pytest.raises(RunError, match="began with another base config"):
        trainability_map(load_map(TANH | {"model": TANH["model"] | {"width": 9}}, options=TRAINED), runs="runs")
    refused = CliRunner().invoke(app, ["map", str(config), "--x", "activation=1:2", "--y", "depth=1:2"])
    assert isinstance(refused.exception, vgx.VgxError)
    assert refused.exception.exit_code == 2
