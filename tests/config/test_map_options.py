"""What a map asks for: ranges and their values, which are refused with a line, and the sweep that a map is."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

import vgx
from vgx.config import yaml_tree
from vgx.config.map_options import axis_of
from vgx.config.maps import axes_of, load_map
from vgx.config.schema import json_schema
from vgx.errors import ConfigError

BASE = {"name": "small", "model": {"width": 8}}
SIDES = {"x": "initializer.gain=0.5:2.5", "y": "depth=10:300"}


@pytest.mark.parametrize(
    ("text", "whole", "count", "values"),
    [
        ("0.5:2.5", False, 5, (0.5, 1.0, 1.5, 2.0, 2.5)),
        ("1e-3:10:log", False, 5, (0.001, 0.01, 0.1, 1.0, 10.0)),
        ("-1:1", False, 3, (-1.0, 0.0, 1.0)),
        ("10:160", True, 5, (10, 20, 40, 80, 160)),  # whole numbers are spaced by ratios
        ("10:50:linear", True, 5, (10, 20, 30, 40, 50)),
        ("0:4", True, 3, (0, 2, 4)),  # which 0 has none of
        ("1:4", True, 12, (1, 2, 3, 4)),  # and each stands once
        ("30,10,20,10", True, 5, (10, 20, 30)),
        ("0.5, 1", False, 5, (0.5, 1.0)),
    ],
)
def test_a_range_has_these_values(text, whole, count, values):
    found = axis_of("path", text, whole, count)
    assert found.values == values
    assert {type(value) for value in found.values} == {int if whole else float}


@pytest.mark.parametrize(
    ("text", "log"),
    [("0.5:2.5", False), ("1:2:log", True), ("0.001,0.01,0.1", True), ("1.0,2.0", False), ("-1.0,5.0", False)],
)
def test_what_is_spaced_by_ratios_is_drawn_so(text, log):
    assert axis_of("path", text, False, 4).log is log


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"x": "every=0:1"}, "--x every=0:1: log.every"),
        ({"x": "initializer.gian=0:1"}, "map.x: no option is called 'initializer.gian'"),
        ({"x": "activation=1:2"}, "map.x: model.activation is the text 'relu' here, and no number"),
        ({"x": "stop_when_diverged=0:1"}, "train.stop_when_diverged is true here, and no number"),
        ({"x": "bias.std=0.1:1"}, "map.x: model.bias.std has no number here; a map is over two numbers"),
        ({"x": "initializer.gain"}, "--x initializer.gain: map.x: give it as option=from:to"),
        ({"x": "initializer.gain=2:1"}, "a range goes up, and 2 is not less than 1"),
        ({"x": "initializer.gain=1:1"}, "a range goes up, and 1 is not less than 1"),
        ({"x": "initializer.gain=0:1:log"}, "a range with :log begins above 0, and 0 is not"),
        ({"x": "initializer.gain=0:1:square"}, "a range is spaced log or linear, not 'square'"),
        ({"x": "initializer.gain=0:nan"}, "'nan' is not a number"),
        ({"x": "initializer.gain=0:1:log:2"}, "expected a range such as"),
        ({"x": "initializer.gain=1,x"}, "'x' is not a number"),
        ({"x": "initializer.gain=0:1e300"}, "1e300 is more than a map can have on a side"),
        ({"y": "depth=1:inf"}, "'inf' is not a number"),
        ({"x": "initializer.gain=1,"}, "'' is not a number"),
        ({"x": "initializer.gain=1,1"}, "a map needs two values or more on each side"),
        ({"y": "depth=1.5:3"}, "--y depth=1.5:3: map.y: model.depth: takes whole numbers, and 1.5 is none"),
        ({"y": "initializer.gain=1:2"}, "map.y: model.initializer.gain is across already; name another option"),
        ({"y": "depth=0:3"}, "--y depth=0:3: model.depth: must be at least 1, and is 0"),
        ({"y": "seeds=1:3"}, "seeds cannot be swept"),
        ({"points": "1"}, "--points 1: map.points: expected a whole number from 2 to 200, or two for x and y"),
        ({"points": "3x"}, "map.points: expected a whole number from 2 to 200"),
        ({"refine": "7"}, "--refine 7: map.refine: expected a whole number from 0 to 6"),
        ({"threshold": 1.5}, "--threshold 1.5: map.threshold: must be less than 1, and is 1.5"),
        ({"value": "loss"}, "--value loss: map.value: expected 'test_accuracy', 'validation_accuracy' or"),
    ],
)
def test_a_map_that_cannot_be_drawn_is_refused_with_a_line(options, line):
    with pytest.raises(ConfigError) as refusal:
        load_map(BASE, options=SIDES | options)
    assert line in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_map_without_sides_says_how_to_name_them():
    with pytest.raises(ConfigError, match=r"no map: say what is on its two sides, --x initializer\.gain=0\.5:2\.5"):
        load_map(BASE)
    with pytest.raises(ConfigError, match="this needs 'y'"):
        load_map(BASE, options={"x": SIDES["x"]})


def test_a_map_is_a_sweep_over_its_sides_with_a_directory_of_its_own():
    mapped = load_map(BASE, options=SIDES | {"points": "4x3"})
    assert mapped.axes == {"model.initializer.gain": [0.5, 1.16667, 1.83333, 2.5], "model.depth": [10, 55, 300]}
    sweep = vgx.load_sweep(BASE | {"sweep": {"axes": mapped.axes}})
    assert [cell.key for cell in mapped.cells] == [cell.key for cell in sweep.cells]
    assert mapped.folder != sweep.folder
    assert load_map(BASE, options=SIDES | {"points": "2"}).folder == mapped.folder


def test_the_command_line_goes_before_the_file_and_defaults_keep_programs_few():
    section = {"x": "learning_rate=0.01:1:log", "y": "depth=2:300", "refine": "2x1"}
    mapped = load_map(BASE | {"map": section}, options={"refine": "0", "x": None})
    assert mapped.map.rounds == (0, 0)
    assert [len(axis.values) for axis in axes_of(mapped)] == [12, 6]
    assert load_map(BASE | {"map": section}).map.rounds == (2, 1)


def test_what_a_map_leaves_loads_as_the_same_map_and_grows(tmp_path):
    mapped = load_map(BASE, options=SIDES | {"points": 3}, seeds=2)
    more = [{"model.initializer.gain": 1.0, "model.depth": 17}]
    grown = mapped.rebuilt(mapped.axes, more)
    path = tmp_path / "config.yaml"
    path.write_text(grown.to_yaml())
    again = vgx.load_sweep(path)
    assert again == grown
    assert [cell.key for cell in load_map(path).cells] == [cell.key for cell in grown.cells]
    assert len(again.cells) == 10
    assert again.folder == mapped.folder


def test_a_map_is_no_sweep_and_has_no_other_axes():
    with pytest.raises(ConfigError, match="`vgx map` runs it"):
        vgx.load_sweep(BASE | {"map": SIDES})
    with pytest.raises(ConfigError, match="stand in its `map` section"):
        load_map(BASE | {"map": SIDES, "sweep": {"axes": {"model.depth": [1, 2]}}})


MAPS = sorted((Path(__file__).parents[2] / "configs/maps").glob("*.yaml"))


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_a_shipped_map_loads_and_fits_the_schema(path):
    mapped = load_map(path)
    assert mapped.base.name == path.stem
    assert vgx.check(path) == f"{mapped.folder}, a map of {len(mapped.cells)} cells"
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.validate(yaml_tree.read_file(path).value)
    assert not validator.is_valid({"map": SIDES | {"points": "12y"}})
    assert not validator.is_valid({"map": SIDES | {"colour": "red"}})
