"""The first stage of an experiment: what it chooses, how a grid grows, what is trained and what is kept."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from test_experiment import BASE

from vgx.errors import ConfigError
from vgx.reproduce.evaluate import count, finished, reproduce
from vgx.reproduce.experiment import Experiment, load_experiment
from vgx.reproduce.stages import next_stage, representative
from vgx.reproduce.tuning import Tuning, choose, further, next_value
from vgx.results.store import Run
from vgx.runner.sweep import sweep_path

RATE = "train.optimizer.learning_rate"


def tuned(**changes: Any) -> dict[str, Any]:
    """The small experiment with a first stage of one seed and fewer steps."""
    tree = copy.deepcopy(BASE)
    tree["tuning"] = {"over": [RATE], "extend": 1, "seeds": 1, "train": {"steps": 3}} | changes
    return tree


def stage(tree: dict[str, Any], scale: str = "cpu") -> Tuning:
    tuning = load_experiment(tree, scale).tuning
    assert tuning is not None
    return tuning


def scores(tuning: Tuning, best: dict[str, float], sweep=None) -> dict[str, float]:
    """The nearer to an arm's best rate, the better."""
    cells = (sweep or tuning.sweep).cells
    return {
        cell.key: -abs(cell.overlay[RATE] - best[cell.overlay["model.initializer"]])
        for cell in cells
        if cell.overlay["model.initializer"] in best
    }


def test_a_first_stage_has_its_own_seeds_and_steps_and_the_same_grid():
    experiment = load_experiment(tuned())
    tuning = stage(tuned())
    assert [(cell.overlay) for cell in tuning.sweep.cells] == [cell.overlay for cell in experiment.sweep.cells]
    assert (tuning.sweep.base.seed_list, experiment.sweep.base.seed_list) == ((0,), (0, 1, 2))
    assert (tuning.sweep.base.train.steps, experiment.sweep.base.train.steps) == (3, 6)
    assert tuning.sweep.folder != experiment.sweep.folder
    assert tuning.sweep.base.name.startswith("small-tuning-cpu-")
    assert tuning.in_words() == "learning rate chosen for each arm on 1 seed of 3 steps"


def test_a_scale_changes_what_it_names_of_the_first_stage():
    tree = tuned()
    tree["scales"]["full"]["tuning"] = {"seeds": 2, "train": {"steps": 4}}
    small, full = stage(tree), stage(tree, "full")
    assert (full.options, small.options.over) == (small.options, (RATE,))
    assert (full.sweep.base.seed_list, full.sweep.base.train.steps) == ((0, 1), 4)
    assert (small.sweep.base.seed_list, small.sweep.base.train.steps) == ((0,), 3)


def test_more_seeds_are_for_the_second_stage_alone():
    experiment = load_experiment(tuned(), seeds=9)
    assert experiment.tuning is not None
    assert (len(experiment.sweep.base.seed_list), experiment.tuning.sweep.base.seed_list) == (9, (0,))


def test_each_arm_gets_what_is_best_for_it():
    tuning = stage(tuned())
    found = choose(tuning, tuning.sweep, scores(tuning, {"he_normal": 0.1, "glorot_normal": 0.12}))
    assert [choice.overlay[RATE] for choice in found.values()] == [0.1, 0.1]
    assert not any(choice.at_edge or choice.extended for choice in found.values())


def test_an_arm_of_which_nothing_came_is_left_out():
    tuning = stage(tuned())
    assert len(choose(tuning, tuning.sweep, scores(tuning, {"he_normal": 0.1}))) == 1


def test_a_rate_at_an_end_grows_the_grid_of_that_arm_at_that_end():
    tuning = stage(tuned())
    figures = scores(tuning, {"he_normal": 5.0, "glorot_normal": 0.1})
    more = further(tuning, tuning.sweep, figures)
    assert more == [{"model.initializer": "he_normal", RATE: 10.0}]
    grown = tuning.sweep.rebuilt(tuning.sweep.axes, more)
    assert grown.folder == tuning.sweep.folder
    found = choose(tuning, grown, scores(tuning, {"he_normal": 9.0, "glorot_normal": 0.1}, grown))
    assert [(choice.extended, choice.at_edge) for choice in found.values()] == [(False, False), (True, True)]
    assert further(tuning, tuning.sweep, scores(tuning, {"he_normal": 0.0, "glorot_normal": 0.1})) == [
        {"model.initializer": "he_normal", RATE: 0.001}
    ]


def test_a_net_that_learns_at_no_rate_does_not_grow_the_grid():
    tuning = stage(tuned())
    assert further(tuning, tuning.sweep, dict.fromkeys(scores(tuning, {"he_normal": 0.1}), 0.1)) == []


@pytest.mark.parametrize(
    ("values", "following"),
    [([1.0, 0.3, 0.1], 3.0), ([3.0, 1.0, 0.3], 10.0), ([0.01, 0.03, 0.1], 0.003), ([0.1, 0.2], 0.05), ([8, 4, 2], 16)],
)
def test_a_grid_goes_on_as_it_was(values, following):
    assert next_value(values) == pytest.approx(following)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"over": []}, "tuning.over: the list needs 1 or more"),
        ({"over": ["train.rate"]}, "tuning.over.0: train.rate is not swept; swept are model.initializer, "),
        ({"extend": -1}, "tuning.extend: must be at least 0"),
        ({"by": {"name": "accuracy", "split": "test"}}, "tuning.by: choose by validation data"),
        ({"stepz": 3}, "unknown key 'stepz'"),
        ({"train": {"stepz": 3}}, "train: unknown key 'stepz'; did you mean 'steps'?"),
        ({"over": ["model.initializer"]}, "best_over: `tuning` chooses model.initializer; name these, or none"),
        ({"data": "digits"}, "no examples are held out to choose by"),
    ],
)
def test_what_is_wrong_with_a_first_stage_gets_a_line(changes, line):
    with pytest.raises(ConfigError) as refusal:
        load_experiment(tuned(**changes))
    assert line in str(refusal.value)


def test_a_first_stage_is_a_mapping_and_alone_says_what_is_chosen_by():
    with pytest.raises(ConfigError, match="tuning: expected what to choose, as `over`, found the text 'rates'"):
        load_experiment(BASE | {"tuning": "rates"})
    tree = tuned()
    tree["claim"]["checks"][0]["best_by"] = "accuracy"
    with pytest.raises(ConfigError, match="best_by: `tuning` says what is chosen by; leave this out"):
        load_experiment(tree)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def result(folder):
    return reproduce(load_experiment(tuned()), runs=folder)


def test_only_what_was_chosen_and_what_is_compared_as_it_is_trains_in_full(result, folder):
    # two choices, and the two cells at rate .1 that the second check names; some may be the same
    lanes = result.run.lanes().to_pylist()
    cells = {(row["model.initializer"], row[RATE]) for row in lanes}
    assert {("glorot_normal", 0.1), ("he_normal", 0.1)} <= cells
    assert len(cells) <= 4
    assert {row["seed"] for row in lanes} == {0, 1, 2}
    assert {row["step"] for row in result.run.metrics(["step"]).to_pylist()} == set(range(1, 7))
    tuning = Run(sweep_path(stage(tuned()).sweep, folder))
    assert len(tuning.lanes()) >= 6
    assert max(row["step"] for row in tuning.metrics(["step"]).to_pylist()) == 3


def test_the_choice_is_the_best_of_the_first_stage(result, folder):
    rows = Run(sweep_path(stage(tuned()).sweep, folder)).lanes().to_pylist()
    experiment = next_stage(load_experiment(tuned()), folder)
    assert isinstance(experiment, Experiment)
    assert experiment.choices is not None
    for choice in experiment.choices.values():
        own = [row for row in rows if row["model.initializer"] == choice.overlay["model.initializer"]]
        best = max(own, key=lambda row: row["validation_accuracy"] or 0.0)
        chosen = next(row for row in own if row[RATE] == choice.overlay[RATE])
        assert chosen["validation_accuracy"] == best["validation_accuracy"]
    assert "learning_rate" in result.outcomes[0].findings[0].note
    assert result.notes == ("learning rate chosen for each arm on 1 seed of 3 steps",)


def test_a_finished_experiment_of_two_stages_trains_nothing_again(result, folder, monkeypatch):
    monkeypatch.setattr("vgx.reproduce.evaluate.sweep", None)
    experiment = load_experiment(tuned())
    assert finished(experiment, folder) is not None
    again = reproduce(experiment, runs=folder)
    assert again._replace(run=result.run) == result
    counted = count(experiment, folder)
    assert counted.lanes == counted.done > 0


@pytest.mark.slow
def test_where_no_check_finds_its_arms_there_is_a_run_that_says_so(tmp_path):
    tree = tuned(extend=0)
    tree["scales"]["smoke"]["sweep"] = {"axes": {"model.initializer": ["lecun_normal"]}}
    result = reproduce(load_experiment(tree, "smoke"), runs=tmp_path)
    assert all("left out" in outcome.note for outcome in result.outcomes)


def test_what_has_not_begun_is_counted_by_one_cell_of_each_arm(tmp_path):
    experiment = load_experiment(tuned())
    assert isinstance(next_stage(experiment, tmp_path), type(experiment.sweep))
    assert finished(experiment, tmp_path) is None
    assert len(representative(experiment).cells) == 4  # two at .1, and one for each initializer
    assert count(experiment, tmp_path)[1:] == (6 + 4 * 3, 0)


def test_an_interrupted_experiment_keeps_the_stage_it_has(result, folder, monkeypatch):
    more = load_experiment(tuned(), seeds=4)
    swept = []
    import vgx.reproduce.evaluate as module

    original = module.sweep
    monkeypatch.setattr(module, "sweep", lambda one, **how: swept.append(one.folder) or original(one, **how))
    assert reproduce(more, runs=folder).run.path == result.run.path
    assert swept == [result.run.path.name]  # the second stage alone, for the new seed


def test_beginning_anew_begins_with_the_first_stage(tmp_path, monkeypatch):
    import vgx.reproduce.evaluate as module

    experiment, begun = load_experiment(tuned(extend=0)), []
    reproduce(experiment, runs=tmp_path)
    original = module.sweep
    monkeypatch.setattr(
        module, "sweep", lambda one, **how: begun.append((one.base.name, how["overwrite"])) or original(one, **how)
    )
    reproduce(experiment, runs=tmp_path, overwrite=True)
    assert experiment.tuning is not None
    assert begun == [(experiment.tuning.sweep.base.name, True), (experiment.sweep.base.name, True)]
