"""What is left out where data are missing, and how long an experiment is said to take."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from test_experiment import BASE
from typer.testing import CliRunner

from vgx.cli import app
from vgx.config import yaml_tree
from vgx.config.sweep import value_at
from vgx.data import DATASETS
from vgx.reproduce.evaluate import count, expected_seconds, finished, reproduce
from vgx.reproduce.experiment import load_experiment
from vgx.reproduce.stages import available

DATA = {
    "name": "digits", "validation": 237, "limit": 64
}  # fmt: skip


def on_two_sets(**more: Any) -> dict[str, Any]:
    """The small experiment on the digits and on Fashion-MNIST."""
    tree = copy.deepcopy(BASE) | {"data": DATA} | more
    tree["sweep"]["axes"] = {"data.name": ["digits", "fashion_mnist"]} | tree["sweep"]["axes"]
    tree["claim"]["checks"] = [tree["claim"]["checks"][0] | {"for_each": ["data.name"]}]
    return tree


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine on which no data set has been fetched."""
    monkeypatch.setenv("VGX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


TUNED = {"tuning": {"over": ["train.optimizer.learning_rate"], "seeds": 1}}


@pytest.mark.parametrize("more", [{}, pytest.param(TUNED, marks=pytest.mark.slow)])
def test_a_data_set_whose_files_are_not_here_is_left_out_with_a_line(nowhere, more):
    experiment = load_experiment(on_two_sets(**more))
    assert len(experiment.sweep.cells) == 12
    here = available(experiment)
    assert {cell.config.data.name for cell in here.sweep.cells} == {"digits"}
    assert here.sweep.folder == experiment.sweep.folder  # where the files come later, it goes on there
    assert available(here) is here
    result = reproduce(experiment, runs=nowhere)
    assert [outcome.setting for outcome in result.outcomes] == ["digits"]
    assert "fashion_mnist left out: no files of it here (`vgx data get fashion_mnist` fetches them)" in result.notes
    assert finished(experiment, nowhere) is not None
    counted = count(experiment, nowhere)
    assert counted.lanes == counted.done


def test_what_is_here_stays_and_the_base_configs_own_data_are_not_left_out(nowhere, monkeypatch):
    tree = on_two_sets(data=DATA | {"name": "mnist"})
    tree["sweep"]["axes"]["data.name"] = ["mnist", "fashion_mnist"]
    experiment = load_experiment(tree)
    assert available(experiment).absent == ("fashion_mnist",)
    assert not DATASETS["fashion_mnist"]().is_here()
    monkeypatch.setattr(DATASETS["fashion_mnist"], "is_here", lambda self: True)
    assert available(experiment) is experiment


def test_the_name_of_a_part_is_an_option_like_others():
    cell = load_experiment(on_two_sets()).sweep.cells[0]
    assert value_at(cell.config, "data.name") == "digits"
    assert value_at(cell.config, "model.name") is None


def test_the_expected_time_is_that_of_what_is_left(nowhere):
    experiment = load_experiment(BASE)
    before = expected_seconds(experiment, nowhere)
    reproduce(experiment, runs=nowhere)
    assert before > 0
    assert expected_seconds(experiment, nowhere) == 0
    assert expected_seconds(experiment, nowhere, overwrite=True) > 0


def test_a_first_stage_takes_time_too(nowhere):
    tuned = copy.deepcopy(BASE) | {"tuning": {"over": ["train.optimizer.learning_rate"], "train": {"steps": 200_000}}}
    long = load_experiment(tuned)
    assert expected_seconds(long, nowhere) > 2 * expected_seconds(load_experiment(BASE), nowhere)


def test_evaluations_take_time(nowhere):
    tree = on_two_sets(train={"batch_size": 16, "steps": 10_000_000, "evaluate_every": 10_000_000})
    rare = expected_seconds(load_experiment(tree), nowhere)
    often = expected_seconds(load_experiment(tree | {"train": tree["train"] | {"evaluate_every": 1}}), nowhere)
    assert often > 3 * rare


def test_the_command_says_first_how_long_it_takes_and_nothing_where_all_is_done(nowhere):
    file = nowhere / "small.yaml"
    file.write_text(yaml_tree.write(BASE))
    first, again = (
        CliRunner().invoke(app, ["reproduce", str(file), "--runs", str(nowhere / "runs")]).output for _ in range(2)
    )
    assert "on this machine; Ctrl-C stops, and the same command goes on" in first
    assert first.index("on this machine") < first.index("He is better")
    assert "on this machine" not in again
