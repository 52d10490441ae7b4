"""Short names of options: the end of a path, wherever an option is named on the command line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.config.options import full_path, option_paths
from vgx.config.schema import Config
from vgx.config.sweep import load_either
from vgx.errors import ConfigError
from vgx.results.values import option_called
from vgx.theory.validate import axes_of


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("activation", "model.activation"),
        ("depth", "model.depth"),
        ("learning_rate", "train.optimizer.learning_rate"),
        ("optimizer.learning_rate", "train.optimizer.learning_rate"),
        ("schedule", "train.optimizer.schedule"),
        ("gain", "model.initializer.gain"),
        ("alpha", "model.activation.alpha"),  # of elu, which this config does not name
        ("batch_size", "train.batch_size"),
        ("seeds", "seeds"),
        ("data", "data"),
        ("model.depth", "model.depth"),
    ],
)
def test_the_end_of_a_path_names_an_option(word: str, path: str):
    assert full_path(word, Config, {"model": {"activation": "relu"}}) == path


def test_the_parts_that_a_config_names_decide_between_options_of_one_name():
    batch = {"model": {"normalization": "batch"}}
    assert full_path("momentum", Config, batch) == "model.normalization.momentum"
    momentum = {"train": {"optimizer": {"name": "momentum"}}}
    assert full_path("momentum", Config, momentum) == "train.optimizer.momentum"
    with pytest.raises(ValueError, match=r"^'momentum' may be .*train.optimizer.momentum.*; say which$"):
        full_path("momentum", Config, batch | momentum)


@pytest.mark.parametrize("path", option_paths(Config))
def test_a_whole_path_always_names_itself(path: str):
    assert full_path(path, Config, {}) == path


def test_a_word_that_names_none_or_several_is_refused_with_what_there_is():
    known = ["model.activation", "model.bias.std", "model.initializer.std"]
    for word, reason in {
        "activaton": "no swept option is called 'activaton'; did you mean 'activation'?",
        "x": "no swept option is called 'x'; there are: model.activation, model.bias.std, model.initializer.std",
        "std": "'std' may be model.bias.std or model.initializer.std; say which",
    }.items():
        with pytest.raises(ValueError, match=r".") as refused:
            option_called(word, known, "swept option")
        assert str(refused.value) == reason


def test_an_axis_may_be_short_and_is_the_same_sweep():
    short = vgx.load_sweep({}, axes=["activation=relu,tanh", "learning_rate=0.1,0.2"])
    whole = vgx.load_sweep({}, axes=["model.activation=relu,tanh", "train.optimizer.learning_rate=0.1,0.2"])
    assert (short.folder, [cell.key for cell in short.cells]) == (whole.folder, [cell.key for cell in whole.cells])
    replaced = vgx.load_sweep({"sweep": {"axes": {"model.activation": ["elu"]}}}, axes=["activation=tanh"])
    assert [cell.config.model.activation.name for cell in replaced.cells] == ["tanh"]
    assert [str(part) for part in axes_of(["activation=tanh"])[0]] == ["tanh"]
    assert [str(part) for part in axes_of(["model.activation=tanh"])[0]] == ["tanh"]


@pytest.mark.parametrize(
    ("axis", "reason"),
    [
        ("activaton=relu", "no option is called 'activaton'; did you mean 'activation'?"),
        ("std=1", "'std' may be model.initializer.std or model.bias.std; say which"),
        ("name=a", "name cannot be swept: a sweep has one name"),
        ("seeds=1,2", "seeds cannot be swept: seeds are crossed with every cell already; give them as `seeds`"),
    ],
)
def test_an_axis_that_names_none_or_several_is_refused(axis: str, reason: str):
    with pytest.raises(ConfigError) as refused:
        load_either({}, axes=[axis])
    assert refused.value.on_command_line == f"--axis {axis}: {reason}"


def test_a_file_names_its_axes_in_full_and_is_told_how():
    with pytest.raises(ConfigError, match=r"unknown key 'activation'; did you mean 'model.activation'"):
        vgx.load_sweep({"sweep": {"axes": {"activation": ["relu"]}}})


def test_predict_takes_short_axes(tmp_path):
    (tmp_path / "c.yaml").write_text("model: {depth: 3, width: 8}\n")
    result = CliRunner().invoke(app, ["predict", str(tmp_path / "c.yaml"), "--axis", "depth=2,3", "--json"])
    assert [cell["model.depth"] for cell in json.loads(result.stdout)["cells"]] == [2, 3]
