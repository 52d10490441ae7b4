"""`expect:`: what may be said, what it is held against, and how `vgx train` exits."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.results import bounds
from vgx.results.columns import FINAL
from vgx.results.expectations import evaluate, facts_of
from vgx.results.lane_results import layer_figures


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        (">= 0.95", 0.95, 0.9499),
        ("> 1", 1.01, 1.0),
        ("<=1e-3", 0.001, 0.0011),
        ("< -2", -3.0, -2.0),
        ("== 0", 0.0, 1e-9),
        ("0.5 +- 0.1", 0.59, 0.61),
        ("-.5", -0.5, -0.6),
    ],
)
def test_a_bound_holds_where_it_says(text, yes, no):
    bound = bounds.parse(text)
    assert bound.holds(yes)
    assert not bound.holds(no)
    assert not bound.holds(math.nan)
    assert not bound.holds(None)


@pytest.mark.parametrize("text", ["0.95 or so", ">= ", "=> 1", "predicted - 1", ""])
def test_what_says_nothing_is_refused(text):
    with pytest.raises(ValueError, match="expected a bound"):
        bounds.parse(text)


FACTS = dict.fromkeys(FINAL) | {"lane": 0, "verdict": "healthy", "slope": 0.02, "first_slope": -0.01}
FACTS |= {"test_accuracy": 0.9, "dead": 0.1, "saturated": None, "zeros": 0.0}


@pytest.mark.parametrize(
    ("expect", "holds"),
    [
        ({"verdict": "healthy"}, True),
        ({"verdict": ["vanishing", "dead"]}, False),
        ({"test_accuracy": ">= 0.9"}, True),
        ({"validation_accuracy": ">= 0"}, False),  # nothing was measured
        ({"saturated": "<= 1"}, False),
        ({"slope": "0 +- 0.03"}, True),
        ({"slope": "predicted"}, True),  # of the first step: -0.01 against 0.01 within 0.03
        ({"slope": "predicted +- 0.01"}, False),
        ({"zeros": None}, None),
    ],
)
def test_expectations_are_held_against_the_facts(expect, holds):
    held = evaluate(expect, [FACTS], predicted=(0.01, 0.03))
    assert [one.holds for one in held] == ([] if holds is None else [holds])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("test_accuracy", 0.95, "in quotes"),
        ("test_accuracy", "0.95 or so", "expected a bound"),
        ("test_accuracy", "predicted", "only the slope is predicted"),
        ("verdict", "healty", "did you mean 'healthy'?"),
        ("test_acuracy", ">= 1", "did you mean 'test_accuracy'?"),
    ],
)
def test_a_wrong_expectation_is_one_line_with_a_way_out(key, value, words):
    with pytest.raises(vgx.VgxError) as error:
        vgx.load_config({"expect": {key: value}})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_expectation_makes_no_other_run():
    plain, expecting = ({"name": "x"} | extra for extra in ({}, {"expect": {"verdict": "healthy"}}))
    assert vgx.load_config(plain).digest == vgx.load_config(expecting).digest


def test_training_exits_3_and_says_what_did_not_hold(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(
        "seeds: 2\nmodel: {depth: 3, width: 16}\ntrain: {steps: 3}\n"
        "expect: {slope: predicted, verdict: healthy, dead: '<= 0.5', test_accuracy: '>= 0.999'}\n"
    )
    arguments = ["train", str(path), "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 3
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stdout.count("did not hold") == 2  # the accuracy, of both seeds
    said = CliRunner().invoke(app, [*arguments, "--resume", "--json"])
    assert said.exit_code == 3
    held = json.loads(said.stdout)["expect"]
    assert {one["what"] for one in held if not one["holds"]} == {"test_accuracy"}
    run = vgx.open_run(next((tmp_path / "runs").iterdir()))
    figures = layer_figures(run, [0, 1], 3)
    facts = [facts_of(row, figures[row["lane"]]) for row in run.lanes().to_pylist()]
    assert [fact["lane"] for fact in facts] == [0, 1]
    rows = run.layers().to_pylist()
    assert facts[0]["zeros"] == max(
        row["weight_grad_zero"] for row in rows if (row["lane"], row["step"]) == (0, 3) and row["layer"] <= 3
    )
    eased = CliRunner().invoke(app, [*arguments, "--resume", "--set", "expect.test_accuracy='>= 0'"])
    assert eased.exit_code == 0
