"""Experiments as data: what a file may say, at every scale, and what is refused."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

import vgx
from vgx.errors import ConfigError
from vgx.reproduce.evaluate import finished, reproduce
from vgx.reproduce.experiment import EXPERIMENTS, SCALES, check, experiment_called, find_experiments, load_experiment
from vgx.reproduce.metrics import STATISTICS, LaneOutcome
from vgx.results.spectrum import SPECTRUM
from vgx.results.store import Run

BASE: dict[str, Any] = {
    "name": "small",
    "seeds": 3,
    "data": {"name": "synthetic", "examples": 64, "features": 8, "classes": 4, "validation": 16},
    "model": {"depth": 3, "width": 8},
    "train": {"batch_size": 16, "steps": 6, "evaluate_every": 3},
    "sweep": {
        "axes": {"model.initializer": ["glorot_normal", "he_normal"], "train.optimizer.learning_rate": [0.01, 0.1, 1.0]}
    },
    "claim": {
        "says": "He is better",
        "source": "nobody",
        "checks": [
            {
                "says": "more accurate",
                "statistic": "accuracy",
                "best_over": ["train.optimizer.learning_rate"],
                "compare": {
                    "name": "greater",
                    "arm": {"model.initializer": "he_normal"},
                    "than": {"model.initializer": "glorot_normal"},
                },
            },
            {
                "says": "less loss of gradient",
                "statistic": {"name": "layer", "column": "delta_log10", "over_layers": "span", "steps": "first"},
                "where": {"train.optimizer.learning_rate": 0.1},
                "compare": {
                    "name": "number",
                    "of": {"model.initializer": "glorot_normal"},
                    "minus": {"model.initializer": "he_normal"},
                    "published": -0.301,
                    "tolerance": 0.05,
                },
            },
        ],
    },
    "scales": {
        "smoke": {"train": {"steps": 2}, "sweep": {"axes": {"model.initializer": ["he_normal"]}}, "judged": False},
        "full": {"seeds": 4, "seconds": 60},
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The small experiment with something else at a path."""
    tree = copy.deepcopy(BASE)
    *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    inner: Any = tree
    for key in way:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return tree


SHIPPED = find_experiments()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("path", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_experiment_loads_at_every_scale_and_is_called_after_its_file(path, scale):
    experiment = load_experiment(path, scale)
    assert experiment.name == path.stem
    assert experiment.claim.letter
    smoke = scale == "smoke"
    assert experiment.sweep.base.data.name == ("digits" if smoke else "mnist")
    assert len(experiment.sweep.base.seed_list) >= 2
    assert experiment.size.judged or smoke
    assert smoke or all(list(experiment.settings(one)) for one in experiment.claim.checks)


def test_every_letter_of_the_articles_claims_has_an_experiment():
    letters = {load_experiment(path).claim.letter for path in SHIPPED.values()}
    assert {letter[0] for letter in letters} >= set("1234abcdefghijkl")


def test_everything_at_cpu_scale_is_to_take_less_than_three_hours_on_two_cores():
    seconds = [load_experiment(path, "cpu").size.seconds for path in SHIPPED.values()]
    assert None not in seconds
    assert sum(x or 0 for x in seconds) < 3 * 3600


def test_nothing_at_cpu_scale_is_decided_by_one_seed_or_by_one_learning_rate():
    rate, tuned, untuned = "train.optimizer.learning_rate", set(), set()
    for path in SHIPPED.values():
        experiment = load_experiment(path, "cpu")
        assert len(experiment.sweep.base.seed_list) >= 3
        for one in experiment.claim.checks:
            if len(experiment.values(rate)) > 1 and one.statistic.name in ("accuracy", "steps_to"):
                at_best = rate in one.best_over or one.largest is not None or rate in one.where
                (tuned if at_best else untuned).add(experiment.name)
    assert untuned == {"collapse"}  # which is about the rates at which a net collapses
    assert {"ranking", "he-trains", "dying-relu", "batch-norm-steps"} <= tuned


def test_every_option_that_is_chosen_at_cpu_scale_is_chosen_in_a_first_stage_that_may_grow_the_grid():
    for path in SHIPPED.values():
        for scale in ("cpu", "full"):
            experiment = load_experiment(path, scale)
            over = {option for one in experiment.claim.checks for option in one.best_over}
            assert over == set(experiment.tuning.options.over if experiment.tuning else ())
            if experiment.tuning:
                assert experiment.tuning.options.extend >= 1
                assert len(experiment.tuning.sweep.base.seed_list) < len(experiment.sweep.base.seed_list)


def test_the_ranking_goes_past_the_start_on_both_data_sets_and_says_what_is_the_same():
    ranking = load_experiment(SHIPPED["ranking"])
    assert ranking.tuning is not None
    assert (ranking.sweep.base.train.steps, ranking.tuning.sweep.base.train.steps) == (4000, 1000)
    assert (len(ranking.sweep.base.seed_list), len(ranking.tuning.sweep.base.seed_list)) == (10, 2)
    assert ranking.values("model.depth") == [5, 20]
    assert ranking.values("data.name") == ["mnist", "fashion_mnist"]
    assert ranking.claim.checks[0].compare.model_dump()["margin"] == 0.005


def test_a_scale_changes_the_base_the_axes_and_the_seeds():
    cpu, smoke, full = (load_experiment(BASE, scale) for scale in ("cpu", "smoke", "full"))
    assert [len(one.sweep.cells) for one in (cpu, smoke, full)] == [6, 3, 6]
    assert [one.sweep.base.train.steps for one in (cpu, smoke, full)] == [6, 2, 6]
    assert [one.sweep.base.seed_list for one in (cpu, full)] == [(0, 1, 2), (0, 1, 2, 3)]
    assert [one.size.seconds for one in (cpu, full)] == [None, 60]
    assert [one.size.judged for one in (cpu, smoke)] == [True, False]


def test_a_scales_epochs_replace_steps():
    experiment = load_experiment(changed("scales/full", {"train": {"epochs": 2}}), "full")
    assert (experiment.sweep.base.train.steps, experiment.sweep.base.train.epochs) == (None, 2)


def test_more_seeds_go_on_in_the_same_directory_and_other_options_in_another():
    folder = load_experiment(BASE).sweep.folder
    assert load_experiment(BASE, seeds=9).sweep.folder == folder
    for same in ("log.tensorboard=true", "data.max_bytes=1GB", "expect.verdict=healthy"):
        assert load_experiment(BASE, overrides=[same]).sweep.folder == folder
    assert load_experiment(BASE, overrides=["train.batch_size=8"]).sweep.folder != folder
    assert load_experiment(BASE, "full").sweep.folder != folder
    assert folder.startswith("small-cpu-")


def test_one_more_activation_joins_the_ranking():
    ranking = SHIPPED["ranking"]
    before, after = load_experiment(ranking), load_experiment(ranking, activations=["mish", "{name: elu, alpha: 0.5}"])
    assert after.values("model.activation") == [
        *before.values("model.activation"), "mish", {"name": "elu", "alpha": 0.5}
    ]  # fmt: skip
    assert after.sweep.folder == before.sweep.folder


CHECK = "claim/checks/0"
BAD = {
    "claim": (None, "an experiment has a `claim`"),
    "claim/source": (None, "claim: this needs 'source', which has no default"),
    "claim/sayss": ("x", "claim: unknown key 'sayss'; did you mean 'says'?"),
    f"{CHECK}/bestover": (["x"], "claim.checks.0: unknown key 'bestover'; did you mean 'best_over'?"),
    f"{CHECK}/statistic": ("acuracy", "claim.checks.0.statistic: no statistic is called 'acuracy'; did you mean"),
    f"{CHECK}/statistic/": ({"name": "accuracy", "spilt": "test"}, ""),
    f"{CHECK}/compare": ({"name": "graeter"}, "no comparison is called 'graeter'; did you mean 'greater'?"),
    f"{CHECK}/compare/than": (
        {"model.initializer": "lecun_normal"},
        "claim.checks.0.compare: no cell of the sweep has {model.initializer: lecun_normal}",
    ),
    f"{CHECK}/compare/arm": ({"model.initialiser": "he_normal"}, "model.initialiser is not swept; did you mean"),
    f"{CHECK}/best_over": ([], "leaves train.optimizer.learning_rate open (0.01, 0.1, 1.0); add it to where"),
    f"{CHECK}/largest": ({"over": "train.optimizer.learning_rate"}, "claim.checks.0.largest: this needs 'at_least'"),
    "claim/checks": ([], "the list needs 1 or more, and has 0"),
    "scales/smok": ({}, "scales: unknown scale 'smok'; did you mean 'smoke'?"),
    "scales/full": ({"train": {"stepz": 3}}, "train: unknown key 'stepz'; did you mean 'steps'?"),
    "scales/full/judged": ("no", "scales.full.judged: 'no' is text here; write false"),
    "scales/full/seeds": (0, "seeds: must be at least 1, and is 0"),
    "model/detph": (3, "model: unknown key 'detph'; did you mean 'depth'?"),
    "sweep/axes/model.activation": (["relux"], "no activation is called 'relux'; did you mean 'relu'?"),
}


@pytest.mark.parametrize(("path", "wrong"), [(p, w) for p, w in BAD.items() if not p.endswith("/")])
def test_what_is_wrong_with_an_experiment_gets_a_line(path, wrong):
    value, line = wrong
    with pytest.raises(ConfigError) as refusal:
        load_experiment(changed(path, value), "full")
    assert line in str(refusal.value)


def test_a_fault_is_told_with_its_place_in_the_file(tmp_path):
    text = (EXPERIMENTS / "he-exact.yaml").read_text().replace("published: -4", "publisht: -4")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    line = text[: text.index("publisht")].count("\n") + 1
    with pytest.raises(ConfigError) as refusal:
        load_experiment(path)
    assert f"{path}:{line}:9: claim.checks.0.compare: number has no option 'publisht'" in str(refusal.value)
    assert "; did you mean 'published'?" in str(refusal.value)


def test_theory_predicts_the_first_step_alone():
    compare = {"name": "theory", "of": {"model.initializer": "he_normal"}, "tolerance": 0.1}
    where = {"train.optimizer.learning_rate": 0.1}
    of_spectra = [{"name": "spectrum"}, {"name": "spectrum", "figure": "isometry_gap", "steps": "first"}]
    for statistic in ("accuracy", {"name": "layer", "column": "dead", "steps": "first"}, *of_spectra):
        one = {"says": "x", "statistic": statistic, "where": where, "compare": compare}
        with pytest.raises(
            ConfigError, match="of the first step's layers, and square_log10 and spread of first spectra"
        ):
            load_experiment(changed("claim/checks", [one]))


@pytest.mark.parametrize(
    ("statistic", "other", "line"),
    [
        ("steps_to", {}, "steps_to needs an `accuracy`, or the check an arm that it is `as_accurate_as`"),
        ({"name": "steps_to", "accuracy": 0.5}, {"as_accurate_as": {"model.initializer": "he_normal"}}, "needs an"),
        ("accuracy", {"as_accurate_as": {"model.initializer": "he_normal"}}, "this is for steps_to"),
        ("steps_to", {"as_accurate_as": {"model.initialiser": "he_normal"}}, "model.initialiser is not swept"),
    ],
)
def test_steps_go_to_one_accuracy(statistic, other, line):
    one = BASE["claim"]["checks"][0] | {"statistic": statistic} | other
    with pytest.raises(ConfigError, match=line):
        load_experiment(changed("claim/checks", [one]))


def test_a_curve_goes_over_an_option_that_the_statistic_has():
    compare = {"name": "number", "over": "epok", "at": [1], "published": [1], "tolerance": 1}
    one = {"says": "x", "statistic": "accuracy", "best_over": list(BASE["sweep"]["axes"]), "compare": compare}
    with pytest.raises(ConfigError, match="accuracy has no option 'epok' to go over"):
        load_experiment(changed("claim/checks", [one]))


@pytest.mark.parametrize(
    ("log", "compare", "line"),
    [
        ({}, {}, "no singular values are measured; set log.spectrum"),
        ({"spectrum": {"at": "evaluation"}}, {}, "no singular values are measured before the first step"),
        ({"spectrum": {"at": [2]}}, {}, "no singular values are measured before the first step"),
        ({"spectrum": {"at": "first"}}, {"at": [[1, 2]]}, "spectrum has no option 'layers' to go over"),
    ],
)
def test_a_spectrum_is_measured_as_a_whole_and_when_the_log_says_so(log, compare, line):
    one = {
        "says": "x",
        "statistic": {"name": "spectrum", "steps": "first"},
        "where": {"train.optimizer.learning_rate": 0.1},
        "compare": {"name": "theory", "of": {"model.initializer": "he_normal"}, "tolerance": 0.1} | compare,
    }
    with pytest.raises(ConfigError, match=line):
        load_experiment(changed("claim/checks", [one]) | {"log": log})
    right = changed("claim/checks", [one | {"compare": one["compare"] | {"at": []}}])
    assert load_experiment(right | {"log": {"spectrum": {"at": [0, 3]}}})


def test_an_activation_needs_an_axis_to_join():
    with pytest.raises(ConfigError, match=r"^--activation mish: this experiment has no axis model.activation$"):
        load_experiment(BASE, activations=["mish"])


def test_an_experiment_is_found_by_name_or_by_file(tmp_path):
    assert experiment_called("ranking") == SHIPPED["ranking"]
    assert experiment_called("elsewhere/mine.yaml") == Path("elsewhere/mine.yaml")
    with pytest.raises(ConfigError, match="no experiment is called 'rankin'; did you mean 'ranking'"):
        experiment_called("rankin")
    with pytest.raises(ConfigError, match="no experiments here"):
        find_experiments(tmp_path)


def test_vgx_check_knows_experiments_and_vgx_train_and_sweep_say_what_runs_them():
    assert check(SHIPPED["he-exact"]).startswith("he-exact, an experiment of 2 cells at scale smoke")
    for load in (vgx.load_config, vgx.load_sweep):
        with pytest.raises(ConfigError, match="claim: this is an experiment; `vgx reproduce` runs it"):
            load(SHIPPED["he-exact"])
        with pytest.raises(ConfigError, match="tuning: this is an experiment; `vgx reproduce` runs it"):
            load(SHIPPED["ranking"])


# What runs say


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(folder) -> Run:
    return reproduce(load_experiment(BASE), runs=folder).run


def test_a_finished_experiment_is_judged_from_its_run_alone(run, folder, monkeypatch):
    monkeypatch.setattr("vgx.reproduce.evaluate.sweep", None)  # nothing may be run
    experiment = load_experiment(BASE)
    result = finished(experiment, folder)
    assert result is not None
    assert result.run.path == run.path
    again = reproduce(experiment, runs=folder)
    assert again._replace(run=result.run) == result
    assert finished(load_experiment(BASE, seeds=4), folder) is None


def test_a_choice_is_made_on_validation_data_and_reported_on_test_data(run, folder):
    result = finished(load_experiment(BASE), folder)
    assert result is not None
    lanes = run.lanes().to_pylist()
    means = {}
    for initializer in ("he_normal", "glorot_normal"):
        for rate in (0.01, 0.1, 1.0):
            some = [
                lane
                for lane in lanes
                if (lane["model.initializer"], lane["train.optimizer.learning_rate"]) == (initializer, rate)
            ]
            validation = np.mean([0.0 if x["status"] == "diverged" else x["validation_accuracy"] for x in some])
            test = np.array([0.0 if x["status"] == "diverged" else x["test_accuracy"] for x in some])
            means[initializer, rate] = validation, test
    best = {
        name: max((value for (key, _), value in means.items() if key == name), key=lambda pair: pair[0])[1]
        for name in ("he_normal", "glorot_normal")
    }
    (found,) = result.outcomes[0].findings
    assert found.ours == pytest.approx(float(np.mean(best["he_normal"] - best["glorot_normal"])))
    assert "learning_rate" in found.note


def test_layers_of_the_same_seed_are_compared(run, folder):
    result = finished(load_experiment(BASE), folder)
    assert result is not None
    (found,) = result.outcomes[1].findings
    # two layers lie between the first and the third, and a factor sqrt(2) in each: 2 log10 sqrt(2) = .301
    assert found.ours == pytest.approx(-0.301, abs=0.05)
    assert result.outcomes[1].verdict == "reproduced"
    assert not result.failed


def test_what_is_not_judged_is_undecided_and_what_is_left_out_says_so(folder):
    result = reproduce(load_experiment(BASE, "smoke"), runs=folder)
    assert set(result.verdicts) == {"undecided"}
    assert all("left out" in outcome.note for outcome in result.outcomes)


def test_a_number_off_its_tolerance_is_a_failure(run, folder):
    tree = changed("claim/checks/1/compare/published", 5.0)
    result = finished(load_experiment(tree), folder)
    assert result is not None
    assert result.failed


def test_a_check_may_be_made_for_each_value_over_a_spread_or_for_the_largest(run, folder):
    arm = {"model.initializer": "he_normal"}
    rate = "train.optimizer.learning_rate"
    positive = {"name": "bound", "of": arm, "holds": "> 0"}
    checks = [
        {"says": "each", "statistic": "accuracy", "for_each": [rate], "compare": positive},
        {"says": "spread", "statistic": "accuracy", "spread_over": rate, "compare": positive},
        {
            "says": "largest",
            "statistic": "accuracy",
            "largest": {"over": rate, "at_least": 0.0},
            "compare": {"name": "bound", "of": arm, "holds": "> 0.5"},
        },
    ]
    result = finished(load_experiment(changed("claim/checks", checks)), folder)
    assert result is not None
    assert [outcome.setting for outcome in result.outcomes] == [
        "learning_rate 0.01", "learning_rate 0.1", "learning_rate 1.0", "", ""
    ]  # fmt: skip
    each = [outcome.findings[0].ours for outcome in result.outcomes[:3]]
    assert result.outcomes[3].findings[0].ours >= max(each) - min(each)
    assert result.outcomes[4].findings[0].ours == 1.0


def test_theory_is_held_against_the_first_step_of_a_run(tmp_path):
    tree = changed("data/features", 64) | {"model": {"depth": 6, "width": 256}, "train": {"batch_size": 16, "steps": 1}}
    one = {
        "says": "as theory has it",
        "statistic": {"name": "layer", "column": "delta_log10", "over_layers": "factor", "steps": "first"},
        "for_each": ["model.initializer"],
        "where": {"train.optimizer.learning_rate": 0.1},
        "compare": {"name": "theory", "tolerance": 0.1},
    }
    tree["claim"] = tree["claim"] | {"checks": [one]}
    tree["sweep"] = {"axes": BASE["sweep"]["axes"] | {"train.optimizer.learning_rate": [0.1]}}
    result = reproduce(load_experiment(tree, seeds=6), runs=tmp_path)
    assert result.verdicts == ["supported", "supported"]
    claimed = [outcome.findings[0].claimed for outcome in result.outcomes]
    # At infinite width they are 1/2 and 1.
    assert [text.partition(" ")[2] for text in claimed] == ["± 10%"] * 2
    assert [float(text.partition(" ")[0]) for text in claimed] == pytest.approx([0.5, 1], rel=0.02)


# Statistics


def figures(run: Run, **options) -> np.ndarray:
    seats = [LaneOutcome(row["lane"], row["status"] == "diverged") for row in run.lanes().to_pylist()]
    return STATISTICS.parse(options).read(run, seats)


def test_accuracies_are_those_of_the_metrics_table(run):
    rows = [lane["validation_accuracy"] for lane in run.lanes().to_pylist() if lane["status"] == "done"]
    assert figures(run, name="accuracy", split="validation")[: len(rows)] == pytest.approx(rows)
    # 48 examples, 16 a batch: step 3 is epoch 1, and step 6 epoch 2
    first, last = (figures(run, name="accuracy", epoch=epoch) for epoch in (1, 2))
    assert last == pytest.approx(figures(run, name="accuracy"))
    assert figures(run, name="accuracy", which="best") == pytest.approx(np.maximum(first, last))
    assert figures(run, name="accuracy", which="worst") == pytest.approx(np.minimum(first, last))
    assert np.isnan(figures(run, name="accuracy", epoch=3)).all()


def test_steps_to_an_accuracy_end_with_the_run_as_a_bound(run):
    assert figures(run, name="steps_to", accuracy=1e-9).tolist() == [3.0] * 18
    steps = figures(run, name="steps_to", accuracy=1.0)
    assert steps.max() == 6.0
    lanes = [LaneOutcome(row["lane"], row["status"] == "diverged") for row in run.lanes().to_pylist()]
    beyond = STATISTICS.parse({"name": "steps_to", "accuracy": 1.0}).beyond(run, lanes)
    ends = figures(run, name="accuracy", which="best")
    assert beyond.tolist() == (ends < 1).tolist()
    assert not STATISTICS.parse({"name": "accuracy"}).beyond(run, lanes).any()


def test_steps_may_go_to_what_another_arm_comes_to_in_the_end(run, folder):
    arms = {"of": {"model.initializer": "glorot_normal"}, "to": {"model.initializer": "he_normal"}}
    check = {
        "says": "fewer steps",
        "statistic": "steps_to",
        "where": {"train.optimizer.learning_rate": 0.1},
        "as_accurate_as": arms["of"],
        "compare": {"name": "ratio", **arms},
    }
    result = finished(load_experiment(changed("claim/checks", [check])), folder)
    assert result is not None
    (outcome,) = result.outcomes
    rows = run.metrics(["lane", "step", "test_accuracy"]).to_pylist()
    lanes = {
        (row["model.initializer"], row["seed"]): row["lane"]
        for row in run.lanes().to_pylist()
        if row["train.optimizer.learning_rate"] == 0.1
    }
    logs, censored = [], False
    for seed in range(3):
        curves = [
            [(row["step"], row["test_accuracy"]) for row in rows if row["lane"] == lanes[name, seed]]
            for name in ("glorot_normal", "he_normal")
        ]
        curves = [[point for point in curve if point[1] is not None] for curve in curves]
        target = curves[0][-1][1]
        steps = [[step for step, accuracy in curve if accuracy >= target] for curve in curves]
        censored |= not steps[1]
        logs.append(math.log(steps[0][0] / (steps[1][0] if steps[1] else 6)))
    (found,) = outcome.findings
    assert found.ours == pytest.approx(math.exp(np.mean(logs)))
    assert found.bound == ("<" if censored else "")
    assert "steps are known to" in outcome.note


def test_shares_know_that_they_are_ones():
    limits = {
        "accuracy": (0.0, 1.0),
        "dead": (0.0, 1.0),
        "update_ratio": None,
    }
    for name, expected in limits.items():
        options = {"name": "accuracy"} if name == "accuracy" else {"name": "layer", "column": name}
        assert STATISTICS.parse(options).limits == expected
    assert STATISTICS.parse({"name": "layer", "column": "dead", "steps": "all", "over_steps": "sum"}).limits is None
    assert STATISTICS.parse({"name": "steps_to", "accuracy": 0.5}).limits is None


def test_layers_are_summed_up_as_asked(run):
    seats = [LaneOutcome(0, False)]

    def of(**options) -> float:
        return float(STATISTICS.parse({"name": "layer", "column": "act_rms"} | options).read(run, seats)[0])

    rows = [row["act_rms"] for row in run.layers().to_pylist() if row["lane"] == 0]
    table = np.array(rows).reshape(6, 4)[:, :3]  # six steps, three hidden layers and the readout
    assert of() == pytest.approx(table[-1].mean())
    assert of(steps="first", over_layers="max") == pytest.approx(table[0].max())
    assert of(steps="all", over_layers="median", over_steps="sum") == pytest.approx(np.median(table, 1).sum())
    assert of(layers=[2, 2]) == pytest.approx(table[-1, 1])
    assert of(layers=[-1, -1]) == pytest.approx(table[-1, 2])
    assert math.isnan(of(layers=[2, 4]))  # nets of other depths may have them
    assert of(over_layers="span") == pytest.approx(table[-1, 0] - table[-1, 2])
    # signals travel up: the growth of their square per layer
    assert of(over_layers="factor") == pytest.approx(table[-1, 2] / table[-1, 0])
    delta = np.array([row["delta_log10"] for row in run.layers().to_pylist() if row["lane"] == 0]).reshape(6, 4)
    slope = float(
        STATISTICS.parse({"name": "layer", "column": "delta_log10", "over_layers": "factor"}).read(run, seats)[0]
    )
    assert slope == pytest.approx(10 ** float(delta[-1, 0] - delta[-1, 2]))  # two layers: the square's root is the norm


def test_spectra_come_to_what_theory_says_before_training_and_to_what_the_metrics_say_after_it(run, tmp_path):
    tree = changed("data/features", 64) | {"model": {"depth": 4, "width": 64, "activation": "tanh"}}
    one = {
        "says": "as theory has it",
        "statistic": {"name": "spectrum", "steps": "first"},
        "where": {"train.optimizer.learning_rate": 0.1},
        "for_each": ["model.initializer"],
        "compare": {"name": "theory", "tolerance": 0.1},
    }
    tree |= {"claim": BASE["claim"] | {"checks": [one]}, "log": {"spectrum": {"examples": 4, "at": [0, 3, 6]}}}
    weights = ["lecun_normal", "orthogonal"]
    tree["sweep"] = {"axes": {"model.initializer": weights, "train.optimizer.learning_rate": [0.1]}}
    result = reproduce(load_experiment(tree, seeds=6), runs=tmp_path)
    assert result.verdicts == ["supported", "supported"]
    claimed = [float(outcome.findings[0].claimed.partition(" ")[0]) for outcome in result.outcomes]
    # Gaussian weights add 1 for each of the three matrices from the first layer to the last; the slopes are the same
    assert claimed[0] - claimed[1] == pytest.approx(3, rel=1e-3)  # of four digits each
    start = (pc.field("step") == 0) & (pc.field("map") == "hidden") & (pc.field("lane") == 0)
    square = 10 ** (2 * result.run.spectrum(["log10"], where=start)["log10"].to_numpy().astype(float).reshape(4, -1))
    first = figures(result.run, name="spectrum", steps="first")
    assert first[0] == pytest.approx(float((square.var(1) / square.mean(1) ** 2).mean()))
    last = result.run.metrics(where=pc.field("step") == 6)
    for name in SPECTRUM:
        of, _, figure = name.partition("_")
        found = figures(result.run, name="spectrum", map=of, figure=figure)
        assert found == pytest.approx(last[name].to_numpy().astype(float), rel=1e-6)
    assert np.isnan(figures(run, name="spectrum")).all()  # whose log has none


@pytest.mark.slow
def test_a_lane_that_diverged_is_right_about_nothing(tmp_path):
    tree = changed("sweep/axes/train.optimizer.learning_rate", [0.1, 1e30])
    tree["claim"]["checks"] = tree["claim"]["checks"][:1]
    result = reproduce(load_experiment(tree, seeds=2), runs=tmp_path)
    lost = [row["lane"] for row in result.run.lanes().to_pylist() if row["status"] == "diverged"]
    assert lost
    found = figures(result.run, name="accuracy")
    assert found[lost].tolist() == [0.0] * len(lost)
    assert math.isfinite(result.outcomes[0].findings[0].ours)
