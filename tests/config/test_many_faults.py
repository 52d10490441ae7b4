"""Configs with very many faults: some of them told, the rest counted, in time that grows with the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vgx.cli import app
from vgx.config import yaml_tree
from vgx.config.load import load_config, open_tree, override
from vgx.config.sweep import load_sweep
from vgx.errors import ConfigError
from vgx.reproduce.experiment import load_experiment

MANY = 500
CLAIM = "claim: {says: a, source: b, checks: [{says: c, statistic: accuracy, compare: COMPARE}]}\n".replace(
    "COMPARE", "{name: greater, arm: {model.activation: elu}, than: {model.activation: tanh}}"
)

TEXTS = {
    "a section again and again": ("model: {}\n" * (MANY + 1), "the key 'model' stands here twice"),
    "a key again and again": ("name: x\n" + "name: y\n" * MANY, "the key 'name' stands here twice"),
    "unknown keys": ("".join(f"k{i}: 1\n" for i in range(MANY)), "unknown key"),
    "keys that are no words": ("".join(f"{i}: 1\n" for i in range(MANY)), "a key is a word"),
    "numbers that are none": (f"seeds: [{'01, ' * MANY}1]\n", "a number with a leading zero"),
    "widths that are none": (f"model: {{width: [{'x, ' * MANY}1]}}\n", "expected a whole number"),
}


def lines_of(load: Any, *arguments: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(*arguments)
    return str(refused.value).splitlines()


@pytest.mark.parametrize(("text", "reason"), TEXTS.values(), ids=TEXTS)
def test_twenty_faults_are_told_in_their_order_and_the_rest_is_counted(text: str, reason: str, tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    *lines, rest = lines_of(load_config, path)
    assert len(lines) == 20
    assert all(reason in line for line in lines)
    assert rest == f"... and {MANY - 20:,} more"
    at = [tuple(map(int, line.removeprefix(f"{path}:").split(":")[:2])) for line in lines]
    assert at == sorted(at)


def test_twenty_faults_are_no_crowd(tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_text("".join(f"k{i}: 1\n" for i in range(20)))
    assert len(lines_of(load_config, path)) == 20


@pytest.mark.parametrize("section", ["axes", "cells"])
def test_the_faults_of_a_sweep_are_told_likewise(section: str):
    bad = {f"model.k{i}": [1] for i in range(MANY)} if section == "axes" else [{f"model.k{i}": 1} for i in range(MANY)]
    *lines, rest = lines_of(load_sweep, {"sweep": {section: bad}})
    assert len(lines) == 20
    counted = "and 480 more, " if section == "axes" else ""
    assert rest == f"... {counted}and no further cells were looked at"


def test_the_faults_of_an_experiment_are_told_likewise(tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_text("claim:\n  says: a\n  source: b\n  checks:\n" + "    - {says: 1}\n" * MANY)
    *lines, rest = lines_of(load_experiment, path)
    assert (len(lines), rest) == (20, f"... and {3 * MANY - 20:,} more")


def test_check_tells_some_faults_of_each_file(tmp_path: Path):
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text("".join(f"k{i}: 1\n" for i in range(MANY)))
    result = CliRunner().invoke(app, ["check", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 42


class Unscanned(dict[Any, Any]):
    """A table whose entries may be looked up, and not gone through."""

    def __iter__(self):
        raise AssertionError("every place was gone through")


def test_changing_a_value_goes_through_the_places_below_it_alone(tmp_path: Path):
    path = tmp_path / "wide.yaml"
    path.write_text("model: {width: [1, 2, 3], activation: {name: elu, alpha: 2.0}}\n")
    tree = open_tree(path)
    tree.values, tree.keys = Unscanned(tree.values), Unscanned(tree.keys)
    override(tree, "model.depth=3", 1)
    override(tree, "model.width=7", 2)
    override(tree, "model.activation=relu", 3)
    assert ("model", "width", 0) not in tree.values
    assert ("model", "activation", "alpha") not in tree.keys
    assert str(tree.place(("model", "width", 0))) == "--set model.width=7"
    assert tree.place(("model", "depth")).source == "--set model.depth=3"


def test_a_scale_s_changes_go_through_the_places_below_them_alone(monkeypatch, tmp_path: Path):
    read = yaml_tree.read

    def unscanned(text: str, source: str) -> yaml_tree.Tree:
        tree = read(text, source)
        tree.values, tree.keys = Unscanned(tree.values), Unscanned(tree.keys)
        return tree

    monkeypatch.setattr(yaml_tree, "read", unscanned)
    path = tmp_path / "experiment.yaml"
    changes = "scales:\n  cpu:\n    model: {depth: 2}\n    sweep: {axes: {model.activation: [elu, relux]}}\n"
    path.write_text(f"{CLAIM}sweep: {{axes: {{model.activation: [relu]}}}}\n{changes}")
    (line,) = lines_of(load_experiment, path)
    assert line.startswith(f"{path}:6:")
