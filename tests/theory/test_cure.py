"""Cures: what is found, what is written, and what stays as it stood."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.config.yaml_edit import amend
from vgx.results.store import find_run
from vgx.theory.cure import MAX_REMAINING_SLOPE, diagnose, written
from vgx.theory.predict import predict

SICK = {
    "logistic + LeCun": {"depth": 50, "activation": "logistic", "initializer": "lecun_normal"},
    "ReLU + Glorot": {"depth": 100, "activation": "relu", "initializer": "glorot_normal"},
    "tanh, gain 3": {"depth": 100, "activation": "tanh", "initializer": {"name": "lecun_normal", "gain": 3.0}},
    "SELU + He": {"depth": 100, "activation": "selu", "initializer": "he_normal"},
}


def config(**model) -> vgx.Config:
    return vgx.load_config({"name": "net", "model": model})


@pytest.mark.parametrize("name", SICK)
def test_a_cure_leaves_a_tenth_of_the_slope_and_changes_nothing_but_the_net(name):
    sick = config(**SICK[name])
    diagnosis = diagnose(sick)
    assert diagnosis.cures
    for cure in diagnosis.cures:
        assert abs(predict(cure.config).slope) <= MAX_REMAINING_SLOPE * abs(predict(sick).slope)
        assert cure.config.model_copy(update={"model": sick.model}) == sick
        assert (cure.config.model.widths, cure.config.model.activation) == (sick.model.widths, sick.model.activation)


def test_xavier_relu_is_cured_by_the_square_root_of_two():
    best = diagnose(config(depth=30, initializer="glorot_normal")).cures[0]
    assert best.changes["model.initializer.gain"] == pytest.approx(math.sqrt(2), rel=1e-4)
    # Where layers are many and narrow, by rotations of that gain.
    best = diagnose(config(**SICK["ReLU + Glorot"])).cures[0]
    assert best.changes == {"model.initializer": {"name": "orthogonal", "gain": pytest.approx(math.sqrt(2), rel=1e-4)}}


def test_a_gain_that_levels_by_saturating_is_no_cure():
    diagnosis = diagnose(config(**SICK["logistic + LeCun"]))
    assert diagnosis.cures[0].changes == {"model.normalization": {"name": "batch", "placement": "before"}}
    gain = next(cure for cure in diagnosis.rejected if cure.kind == "gain")
    assert abs(gain.effect.verdict.slope) < 1e-3
    assert "saturated" in (gain.fault or "")


def test_a_leak_is_solved_for():
    sick = config(
        depth=60,
        activation={"name": "leaky_relu", "negative_slope": 0.01},
        initializer={"name": "he_normal", "gain": 0.9},
    )
    leak = next(cure for cure in diagnose(sick).cures if cure.kind == "leak").changes["model.activation.negative_slope"]
    assert 0.81 * (1 + leak**2) == pytest.approx(1, abs=1e-3)


def test_a_healthy_net_has_nothing_to_cure():
    assert diagnose(config(depth=30)).healthy


@pytest.mark.slow
def test_where_no_change_helps_the_reasons_are_said():
    # All that normalizes costs more than a hundredth of a decade per layer, and plain nets lose far more.
    hopeless = diagnose(config(depth=20_000, activation="logistic", initializer={"name": "normal", "std": 0.1}))
    assert not hopeless.healthy
    for cure in hopeless.rejected:
        assert cure.fault


TEXT = """\
# A net that vanishes.
name: sick   # its name

model:
  depth: 30
  activation: relu     # as in the paper

  initializer: glorot_normal   # Xavier
# The training.
train: {steps: 10}
"""


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"model.initializer": "he_normal"}, {8: "  initializer: he_normal   # Xavier"}),
        ({"model.depth": 7}, {5: "  depth: 7"}),
        ({"train.batch_size": 9}, {10: "train: {steps: 10, batch_size: 9}"}),
    ],
)
def test_amending_changes_one_line_alone(changes, lines):
    before, after = TEXT.splitlines(), amend(TEXT, changes).splitlines()
    assert {number: new for number, (old, new) in enumerate(zip(before, after, strict=True), 1) if old != new} == lines


def test_amending_puts_a_new_key_below_its_neighbours():
    after = amend(TEXT, {"model.normalization": {"name": "layer", "placement": "before"}})
    assert after == TEXT.replace("# Xavier\n", "# Xavier\n  normalization: {name: layer, placement: before}\n")
    assert amend("name: x", {"model.depth": 3}) == "name: x\nmodel: {depth: 3}\n"
    assert amend("", {"model.depth": 3}) == "model: {depth: 3}\n"


BLOCK = """\
model:
  initializer:      # scaled
    name: he_normal # He
    gain: 3.0       # too much
  depth: 50
"""


def test_amending_a_block_keeps_what_stands_beside_it():
    assert amend(BLOCK, {"model.initializer.gain": 1.0}) == BLOCK.replace("3.0", "1.0")
    whole = "model:\n  initializer: lecun_normal      # scaled       # too much\n  depth: 50\n"
    assert amend(BLOCK, {"model.initializer": "lecun_normal"}) == whole


def test_the_file_that_is_written_is_the_cured_config_and_keeps_its_comments(tmp_path):
    path, cured = tmp_path / "sick.yaml", tmp_path / "cured.yaml"
    path.write_text(TEXT)
    result = CliRunner().invoke(app, ["cure", str(path), "--write", str(cured)])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80 or "written" in result.stdout
    text = cured.read_text()
    assert text == TEXT.replace("glorot_normal ", "{name: glorot_normal, gain: 1.4142} ")
    assert vgx.load_config(cured).model.initializer.gain == 1.4142


def test_overrides_are_written_too():
    sick = vgx.load_config({"name": "x", "model": {"depth": 31, "initializer": "glorot_normal"}})
    best = diagnose(sick).cures[0]
    text = written("name: x\nmodel: {initializer: glorot_normal}\n", best, ["model.depth=31"])
    assert text == "name: x\nmodel: {initializer: {name: glorot_normal, gain: 1.4142}, depth: 31}\n"


def test_nothing_is_written_where_there_is_nothing_to_cure(tmp_path):
    path = tmp_path / "well.yaml"
    path.write_text("model: {depth: 5}\n")
    result = CliRunner().invoke(app, ["cure", str(path), "--write", str(tmp_path / "out.yaml")])
    assert result.exit_code != 0
    assert not (tmp_path / "out.yaml").exists()


def test_json_says_what_the_terminal_says(tmp_path):
    path = tmp_path / "sick.yaml"
    path.write_text(TEXT)
    result = CliRunner().invoke(app, ["cure", str(path), "--json"])
    assert result.exit_code == 0, result.output
    found, diagnosis = json.loads(result.stdout), diagnose(vgx.load_config(path))
    assert found["healthy"] is False
    assert found["slope"] == diagnosis.effect.verdict.slope
    assert [cure["changes"] for cure in found["cures"]] == [cure.changes for cure in diagnosis.cures]
    assert [cure["fault"] for cure in found["vain"]] == [cure.fault for cure in diagnosis.rejected]
    path.write_text("model: {depth: 5}\n")
    well = json.loads(CliRunner().invoke(app, ["cure", str(path), "--json"]).stdout)
    assert (well["healthy"], well["cures"]) == (True, [])


@pytest.mark.slow
def test_json_holds_the_proof(tmp_path):
    path = tmp_path / "sick.yaml"
    path.write_text("model: {depth: 30, width: 16, initializer: glorot_normal}\ntrain: {steps: 2}\n")
    result = CliRunner().invoke(app, ["cure", str(path), "--prove", "--json", "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 0, result.output
    before, after = json.loads(result.stdout)["proof"]
    assert abs(after["measured"]) < abs(before["measured"]) / 2
    found = [str(find_run(name, tmp_path / "runs").path) for name in ("sick", "sick-cured")]
    assert found == [before["path"], after["path"]]  # the cured net does not answer to the sick one's name
    run = vgx.open_run(after["path"])
    assert run.lanes()["test_accuracy"][0].as_py() == after["accuracy"]


@pytest.mark.slow
def test_a_cured_net_that_is_lost_in_training_is_shown_with_smaller_steps(tmp_path):
    path = tmp_path / "sick.yaml"
    net = "model: {depth: 20, width: 16, initializer: glorot_normal}\n"
    path.write_text(net + "train: {steps: 20, batch_size: 64, optimizer: {name: sgd, learning_rate: 20.0}}\n")
    result = CliRunner().invoke(app, ["cure", str(path), "--prove", "--json", "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 0, result.output
    proofs = json.loads(result.stdout)["proof"]
    assert [proof["what"] for proof in proofs][:3] == ["before", "after", "after, learning rate 2"]
    for proof, rate in zip(proofs[1:], (20.0, 2.0, 0.2), strict=False):
        assert vgx.open_run(proof["path"]).config["train"]["optimizer"]["learning_rate"] == rate
        assert (proof["verdict"] != "healthy") == (proof is not proofs[-1])
