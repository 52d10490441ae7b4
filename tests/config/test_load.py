"""What may be asked, and what is said to who asks for something else."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vgx.config.load import load_config, starter
from vgx.config.schema import Config
from vgx.config.sweep import load_sweep
from vgx.data import DATASETS
from vgx.errors import ConfigError, VgxError
from vgx.parts import (
    ACTIVATIONS,
    BIASES,
    CLIPS,
    INITIALIZERS,
    NORMALIZATIONS,
    OPTIMIZERS,
    RESIDUALS,
    SCHEDULES,
    Schedule,
)
from vgx.registry import Part, Registry, temporary

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

NAME = "at most 100 letters, digits, '.', '_' and '-', with a letter or digit first"

BAD = {
    # keys
    "model: {detph: 3}": "1:9: model: unknown key 'detph'; did you mean 'depth'?",
    "modle: {depth: 3}": "1:1: unknown key 'modle'; did you mean 'model'?",
    "depth: 3": "1:1: unknown key 'depth'; did you mean 'model.depth'?",
    "train:\n  learning_rate: 1": "2:3: train: unknown key 'learning_rate'; "
    "did you mean 'train.optimizer.learning_rate'?",
    "log:\n  xyz: 1": "2:3: log: unknown key 'xyz'; known: every, statistics, sharpness, spectrum, tensorboard",
    "'a\\nb': 1": "1:1: unknown key 'a\\\\nb'; known: name, seeds, data, model, train, log, expect, import",
    '"a\\nb": 1': "1:1: unknown key 'a\\nb'; known: name, seeds, data, model, train, log, expect, import",
    "sweep: {axes: {}}": "1:1: sweep: this is a sweep, of many configs; `vgx sweep` runs it",
    "map: {x: depth=1:2}": "1:1: map: this is a map, of many configs; `vgx map` runs it",
    "model: {sweep: 1}": "1:9: model: unknown key 'sweep'; known: depth, width, activation, initializer, bias, "
    "normalization, residual, dropout",
    # kinds
    "model: 3": "1:8: model: expected a mapping of keys to values, found 3",
    "model: [a]": "1:8: model: expected a mapping of keys to values, found a list",
    "log:": "1:5: log: expected a mapping of keys to values, found nothing",
    "name: 3": "1:7: name: expected text, found 3; put it in quotes",
    "name: true": "1:7: name: expected text, found true; put it in quotes",
    "name: my run": f"1:7: name: {NAME}; try 'my-run'",
    "name: ../up": f"1:7: name: {NAME}; try 'up'",
    'name: "a\\n"': f"1:7: name: {NAME}; try 'a-'",
    "train: {batch_size: abc}": "1:21: train.batch_size: expected a whole number or full, found the text 'abc'",
    "train: {batch_size: '64'}": "1:21: train.batch_size: expected a whole number or full, found the text '64'; "
    "write 64",
    "train: {batch_size: true}": "1:21: train.batch_size: expected a whole number or full, found true",
    "train: {batch_size: 1.5}": "1:21: train.batch_size: expected a whole number or full, found 1.5",
    "train: {batch_size: {a: 1}}": "1:21: train.batch_size: expected a whole number or full, found a mapping",
    "train: {batch_size: []}": "1:21: train.batch_size: expected a whole number or full, found an empty list",
    "train: {steps: 1e3}": "1:16: train.steps: expected a whole number, found 1000.0; write 1000",
    "train: {steps: 10_000}": "1:16: train.steps: expected a whole number, found the text '10_000'; write 10000",
    "train: {steps: 1:30}": "1:16: train.steps: expected a whole number, found the text '1:30'",
    "train: {steps: 0100}": "1:16: train.steps: a number with a leading zero is read as octal by some; "
    "write 100 or 0o100",
    "train: {stop_when_diverged: no}": "1:29: train.stop_when_diverged: 'no' is text here; write false",
    "train: {stop_when_diverged: Yes}": "1:29: train.stop_when_diverged: 'Yes' is text here; write true",
    "train: {stop_when_diverged: 'true'}": "1:29: train.stop_when_diverged: 'true' is text here; write true",
    "train: {stop_when_diverged: 1}": "1:29: train.stop_when_diverged: expected true or false, found 1",
    "train: {stop_when_diverged: maybe}": "1:29: train.stop_when_diverged: expected true or false, "
    "found the text 'maybe'",
    "train: {precision: float16}": "1:20: train.precision: expected 'float32', 'bfloat16' or 'float64', "
    "found the text 'float16'; did you mean 'bfloat16'?",
    "log: {statistics: ~}": "1:19: log.statistics: expected 'none', 'lite', 'standard' or 'full', found nothing; "
    "did you mean 'none'?",
    "model: {dropout: half}": "1:18: model.dropout: expected a number, found the text 'half'",
    "model: {dropout: 1/2}": "1:18: model.dropout: expected a number, found the text '1/2'",
    # numbers
    "model: {depth: 0}": "1:16: model.depth: must be at least 1, and is 0",
    "model: {depth: 100001}": "1:16: model.depth: must be at most 100000, and is 100001",
    "model: {width: -1}": "1:16: model.width: must be at least 1, and is -1",
    "model: {dropout: 1}": "1:18: model.dropout: must be less than 1, and is 1",
    "model: {dropout: .nan}": "1:18: model.dropout: must be finite, and is .nan",
    "train: {optimizer: {name: sgd, learning_rate: 0}}": "1:47: train.optimizer.learning_rate: "
    "must be more than 0, and is 0",
    "train: {optimizer: {name: sgd, learning_rate: -.inf}}": "1:47: train.optimizer.learning_rate: "
    "must be finite, and is -.inf",
    "train: {optimizer: {name: sgd, learning_rate: 1e999}}": "1:47: train.optimizer.learning_rate: "
    "must be finite, and is .inf",
    "train: {optimizer: {name: sgd, learning_rate: '1e-3'}}": "1:47: train.optimizer.learning_rate: "
    "expected a number, found the text '1e-3'; write 0.001",
    f"train: {{steps: {'9' * 100}}}": "1:16: train.steps: must be at most 2147483647, and is a number too long to show",
    # a number or a list
    "model: {width: wide}": "1:16: model.width: expected a whole number or a list of them, found the text 'wide'",
    "model: {width: }": "1:15: model.width: expected a whole number or a list of them, found nothing",
    "model: {width: [3, 0, x]}": (
        "1:20: model.width.1: must be at least 1, and is 0",
        "1:23: model.width.2: expected a whole number, found the text 'x'",
    ),
    "model: {width: []}": "1:16: model.width: the list needs 1 or more, and has 0",
    "seeds: 0": "1:8: seeds: must be at least 1, and is 0",
    "seeds: [1, -2]": "1:12: seeds.1: must be at least 0, and is -2",
    "seeds: [1, 2, 1]": "1:8: seeds: seed 1 is listed twice",
    "seeds: 1, 2": "1:8: seeds: expected a whole number or a list of them, found the text '1, 2'",
    # parts
    "model:\n  activation: leaky_rely": "2:15: model.activation: no activation is called 'leaky_rely'; "
    "did you mean 'leaky_relu'?",
    "model:\n  activation: {negative_slope: 1, name: leaky_rely}": "2:41: model.activation: no activation is called "
    "'leaky_rely'; did you mean 'leaky_relu'?",
    "train: {clip: zzz}": "1:15: train.clip: no clip is called 'zzz'; known: none, value, norm",
    "model: {bias: orthogonal}": "1:15: model.bias: no bias is called 'orthogonal'; known: normal, constant, zeros",
    "train: {clip: }": "1:14: train.clip: expected the name of a clip, or {name: none, ...} with its options, "
    "found nothing; did you mean 'none'?",
    "model: {normalization: false}": "1:24: model.normalization: expected the name of a normalization, "
    "or {name: none, ...} with its options, found false; did you mean 'none'?",
    "model: {activation: 3}": "1:21: model.activation: expected the name of an activation, or {name: identity, ...} "
    "with its options, found 3",
    "model: {activation: {elu: {alpha: 1}}}": "1:21: model.activation: expected the name of an activation, "
    "or {name: elu, ...} with its options, found no name",
    "model: {activation: {name: 3}}": "1:21: model.activation: expected the name of an activation, "
    "or {name: identity, ...} with its options, found the name 3",
    "model: {activation: {name: leaky_relu, slope: 1}}": "1:40: model.activation: leaky_relu has no option 'slope'; "
    "it has negative_slope",
    "model: {activation: {name: elu, alhpa: 1}}": "1:33: model.activation: elu has no option 'alhpa'; it has alpha; "
    "did you mean 'alpha'?",
    "model: {activation: {name: relu, alpha: 1}}": "1:34: model.activation: relu has no option 'alpha'; it has none",
    "model: {activation: {name: elu, alpha: x}}": "1:40: model.activation.alpha: expected a number, found the text 'x'",
    "model: {initializer: constant}": "1:22: model.initializer: constant needs 'value', which has no default",
    "model: {bias: {name: constant}}": "1:15: model.bias: constant needs 'value', which has no default",
    "model: {normalization: {name: batch, placement: befor}}": "1:49: model.normalization.placement: "
    "expected 'before' or 'after', found the text 'befor'; did you mean 'before'?",
    "train:\n  optimizer:\n    name: sgd\n    schedule: cosin": "4:15: train.optimizer.schedule: no schedule is called "
    "'cosin'; did you mean 'cosine'?",
    "train:\n  optimizer:\n    name: sgd\n    schedule: {name: cosine, final: 2}": "4:37: "
    "train.optimizer.schedule.final: must be at most 1, and is 2",
    "data: {name: digits, validation: {exmaples: 3, examples: 4}}": "1:35: data.validation: unknown key 'exmaples'; "
    "did you mean 'examples'?",
    "data: {name: digits, validation: -1}": "1:34: data.validation: give a count of examples, 0 or more, "
    "or {examples: 5000, from: first}",
    "data: npz": "1:7: data: npz needs 'path', which has no default",
    "data: {name: digits, classes: 3}": "1:31: data.classes: expected a list, found 3",
    "data: {name: digits, classes: [3, x]}": "1:35: data.classes.1: expected a whole number, found the text 'x'",
    # what does not go together
    "train: {steps: 3, epochs: 4}": "1:19: train.epochs: steps and epochs are two answers to one question; "
    "leave one of the two out",
    "model: {depth: 2, width: [3, 4]}": "1:9: model.depth: a list of widths says the depth already; "
    "leave one of the two out",
    "model: {normalization: batch}\ntrain: {batch_size: 1}": "2:9: train.batch_size: batch norm needs at least 2: "
    "one example has no variance",
    "model: {activation: {name: rrelu, lower: 0.5}}": "1:21: model.activation: lower must be less than upper, "
    "and 0.5 is not less than 0.333333",
    "train: {steps: 9, optimizer: {name: adam, schedule: {name: cosine, warmup: 10}}}": "1:68: "
    "train.optimizer.schedule.warmup: a warm-up of 10 steps in a run of 9",
    # YAML
    "": "1:1: there is nothing in it; `vgx new NAME` writes a config to start from",
    "# nothing\n": "1:1: there is nothing in it; `vgx new NAME` writes a config to start from",
    "---\n": "2:1: there is nothing in it; `vgx new NAME` writes a config to start from",
    "- model": "1:1: a config is a mapping of keys to values, and this is a list",
    "just words": "1:1: a config is a mapping of keys to values, and this is the text 'just words'",
    "model: {depth: 1}\nmodel: {depth: 2}": "2:1: the key 'model' stands here twice; the first is in line 1",
    "model: {depth: 1": "1:8: the '{' that starts here is not closed, or lacks a ','",
    "model: !!python/name:os.system {}": "1:8: the tag '!!python/name:os.system' is not supported; leave it out",
    "model: &m {activation: *m}": "1:8: an alias stands inside what it stands for",
}


def faults(source, overrides=()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    return caught.value.on_command_line.split("\n")


@pytest.mark.parametrize(("text", "lines"), BAD.items(), ids=lambda text: repr(text)[:60])
def test_a_bad_config_is_refused_in_plain_words_at_its_place(text, lines, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert faults(path) == [f"{path}:{line}" for line in ([lines] if isinstance(lines, str) else lines)]


def test_all_faults_are_told_at_once_in_the_order_of_their_places(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "seeds: none\nlog: {evry: 2}\nmodel:\n  depth: 012\n  activation: rellu\n  depth: 3\n"
        "train:\n  optimizer: {name: sgd, momentum: 0.9}\n  steps: 0\ncolour: red\n"
    )
    assert faults(path, ["model.dropout=2", "oops", "name=a b"]) == [
        f"{path}:1:8: seeds: expected a whole number or a list of them, found the text 'none'",
        f"{path}:2:7: log: unknown key 'evry'; did you mean 'every'?",
        f"{path}:4:10: model.depth: a number with a leading zero is read as octal by some; write 12 or 0o12",
        f"{path}:5:15: model.activation: no activation is called 'rellu'; did you mean 'relu'?",
        f"{path}:6:3: model: the key 'depth' stands here twice; the first is in line 4",
        f"{path}:8:26: train.optimizer: sgd has no option 'momentum'; it has learning_rate, weight_decay, schedule",
        f"{path}:9:10: train.steps: must be at least 1, and is 0",
        f"{path}:10:1: unknown key 'colour'; known: name, seeds, data, model, train, log, expect, import",
        "--set model.dropout=2: model.dropout: must be less than 1, and is 2",
        "--set 'oops': give it as path=value",
        f"--set name=a b: name: {NAME}; try 'a-b'",
    ]


def test_the_example_of_the_house_style_reads_exactly_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/mnist.yaml").write_text("name: mnist\n\n\n\n\nmodel: { activation:\n         leaky_rely}\n")
    assert faults("configs/mnist.yaml") == [
        "configs/mnist.yaml:7:10: model.activation: no activation is called 'leaky_rely'; did you mean 'leaky_relu'?"
    ]


def test_a_fault_in_a_python_mapping_is_placed_by_its_path_alone():
    assert faults({"model": {"depth": "abc", 3: 4}, "train": {"steps": 10**5000}}) == [
        "model: a key is a word, and this one is 3",
        "model.depth: expected a whole number, found the text 'abc'",
        "train.steps: must be at most 2147483647, and is a number too long to show",
    ]


def test_python_makes_the_same_config_and_hears_pydantic_when_it_is_wrong():
    tree = {"model": {"depth": 3, "activation": {"name": "elu", "alpha": 0.5}}, "seeds": [4, 7]}
    assert Config.model_validate(tree) == load_config(tree)
    with pytest.raises(ValidationError):
        Config.model_validate({"model": {"depth": 0}})
    with pytest.raises(ValidationError, match="two answers to one question"):
        Config.model_validate({"train": {"steps": 1, "epochs": 1}})


def test_a_mapping_is_not_changed_by_loading_it():
    tree = {"model": {"activation": "leaky_relu"}, "train": {"steps": 3}}
    load_config(tree, ["model.activation.negative_slope=0.5", "train.epochs=2"])
    assert tree == {"model": {"activation": "leaky_relu"}, "train": {"steps": 3}}


@pytest.mark.parametrize(
    ("stem", "name"),
    [("mnist", "mnist"), ("my run (2)", "my-run-2-"), (".hidden", "hidden"), ("---", "run"), ("x" * 200, "x" * 100)],
)
def test_a_config_without_a_name_is_called_after_its_file(stem, name, tmp_path):
    path = tmp_path / f"{stem}.yaml"
    path.write_text("seeds: 2\n")
    assert load_config(path).name == name
    assert load_config(str(path), ["name=other"]).name == "other"


def test_a_config_from_a_mapping_or_standard_input_is_called_run(monkeypatch):
    assert load_config({}).name == "run"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"seeds: 3\n")))
    assert load_config("-") == Config(seeds=3)


# Overrides


@pytest.mark.parametrize(
    ("tree", "overrides", "same_as"),
    [
        ({}, ["model.depth=64"], {"model": {"depth": 64}}),
        ({"model": {"depth": 3}}, ["model.depth=4", "model.depth=5"], {"model": {"depth": 5}}),
        ({}, [" model.depth = 64 "], {"model": {"depth": 64}}),
        ({}, ["train.optimizer={name: adam, learning_rate: 1e-3}"], {"train": {"optimizer": "adam"}}),
        ({}, ["seeds=[3, 4]"], {"seeds": [3, 4]}),
        ({}, ["name='007'"], {"name": "007"}),
        ({"model": {"depth": 3}}, ["model.depth="], {}),
        ({"model": {"depth": 3}}, ["model={}"], {}),
        ({"model": None}, ["model.depth=3"], {"model": {"depth": 3}}),
        (
            {"model": {"activation": "leaky_relu"}},
            ["model.activation.negative_slope=0.2"],
            {"model": {"activation": {"name": "leaky_relu", "negative_slope": 0.2}}},
        ),
        (
            {"model": {"activation": {"name": "leaky_relu", "negative_slope": 0.2}}},
            ["model.activation=tanh"],
            {"model": {"activation": "tanh"}},
        ),
        (
            {"model": {"activation": {"name": "leaky_relu", "negative_slope": 0.2}}},
            ["model.activation.negative_slope=0.3"],
            {"model": {"activation": {"name": "leaky_relu", "negative_slope": 0.3}}},
        ),
        (
            {},
            ["train.optimizer.learning_rate=0.5", "train.optimizer.schedule.warmup=5"],
            {
                "train": {
                    "optimizer": {"name": "sgd", "learning_rate": 0.5, "schedule": {"name": "constant", "warmup": 5}}
                }
            },
        ),
        ({}, ["data.validation=100"], {"data": {"name": "digits", "validation": 100}}),
        ({"train": {"steps": 5}}, ["train.epochs=2"], {"train": {"epochs": 2}}),
        ({"train": {"epochs": 2}}, ["train.steps=5"], {"train": {"steps": 5}}),
        ({"train": {"steps": 5}}, ["train.epochs=null"], {"train": {"steps": 5}}),
        ({"model": {"depth": 5}}, ["model.width=[30, 10]"], {"model": {"width": [30, 10]}}),
        ({"model": {"depth": 5}}, ["model.width=30"], {"model": {"depth": 5, "width": 30}}),
    ],
)
def test_an_override_says_what_the_config_could_have_said(tree, overrides, same_as):
    assert load_config(tree, overrides) == load_config(same_as)


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (["model.depth"], ["--set 'model.depth': give it as path=value"]),
        (["=3"], ["--set '=3': give it as path=value"]),
        (["model..depth=3"], ["--set 'model..depth=3': give it as path=value"]),
        (["a." * 100_000 + "a=3"], [f"--set '{'a.' * 100_000}a=3': give it as path=value"]),
        (["model.depth=abc"], ["--set model.depth=abc: model.depth: expected a whole number, found the text 'abc'"]),
        (
            ["model.depth=1\n2"],
            ["--set 'model.depth=1\\n2': model.depth: expected a whole number, found the text '1 2'"],
        ),
        (["modle.depth=3"], ["--set modle.depth=3: unknown key 'modle'; did you mean 'model'?"]),
        (["model.detph=3"], ["--set model.detph=3: model: unknown key 'detph'; did you mean 'depth'?"]),
        (["sweep.axes={}"], ["--set sweep.axes={}: sweep: this is a sweep, of many configs; `vgx sweep` runs it"]),
        (["seeds.first=3"], ["--set seeds.first=3: seeds is 1, which has no keys; set it as a whole"]),
        (["model.width.0=3"], ["--set model.width.0=3: model.width is a list, which has no keys; set it as a whole"]),
        (["name.first=3"], ["--set name.first=3: name: expected text, found a mapping"]),
        (
            ["model.activation.slope=3"],
            ["--set model.activation.slope=3: model.activation: relu has no option 'slope'; it has none"],
        ),
        (
            ["model.bias={name: normal, std: x}"],
            ["--set model.bias={name: normal, std: x}: model.bias.std: expected a number, found the text 'x'"],
        ),
        (["log.every=["], ["--set log.every=[: log.every: a value is missing here"]),
        (
            ["log.every=010"],
            ["--set log.every=010: log.every: a number with a leading zero is read as octal by some; write 10 or 0o10"],
        ),
        (["log={every: 1, every: 2}"], ["--set log={every: 1, every: 2}: log: the key 'every' stands here twice"]),
        (["log=!!set {}"], ["--set log=!!set {}: log: the tag '!!set' is not supported; leave it out"]),
        (
            ["model.width=[3]", "model.depth=2"],
            ["--set model.depth=2: model.depth: a list of widths says the depth already; leave one of the two out"],
        ),
        (
            ["train.stop_when_diverged=no"],
            ["--set train.stop_when_diverged=no: train.stop_when_diverged: 'no' is text here; write false"],
        ),
        (
            ["model.depth=0", "seeds=0"],
            [
                "--set model.depth=0: model.depth: must be at least 1, and is 0",
                "--set seeds=0: seeds: must be at least 1, and is 0",
            ],
        ),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_bad_override_is_refused_in_plain_words(overrides, lines):
    assert faults({"seeds": 1, "model": {"width": [3]}}, overrides) == lines


# What a run leaves


def _least(part: type[Part]) -> dict[str, object]:
    """A mapping that asks for the part: its name, and whatever has no default."""
    required = {name: field.annotation for name, field in part.model_fields.items() if field.is_required()}
    return {"name": part.name} | {name: {float: 0.5, str: "a.npz", int: 3}[kind] for name, kind in required.items()}


ASKED: dict[str, Registry] = {
    "data": DATASETS,
    "model.activation": ACTIVATIONS,
    "model.initializer": INITIALIZERS,
    "model.bias": BIASES,
    "model.normalization": NORMALIZATIONS,
    "model.residual": RESIDUALS,
    "train.optimizer": OPTIMIZERS,
    "train.optimizer.schedule": SCHEDULES,
    "train.clip": CLIPS,
}
PARTS = [(path, part) for path, registry in ASKED.items() for part in registry]


def everything(tree: object, path: str = "") -> dict[str, object]:
    """The leaves of a tree by their dotted paths."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {at: leaf for key, inner in tree.items() for at, leaf in everything(inner, f"{path}.{key}").items()}


@pytest.mark.parametrize(("path", "part"), PARTS, ids=lambda value: value if isinstance(value, str) else value.name)
def test_the_resolved_config_loads_to_an_equal_one_and_says_every_default(path, part, tmp_path):
    words = [part.name, *part.aliases]
    configs = [
        load_config({}, [f"{path}={yaml.safe_dump(_least(part) | {'name': word}, default_flow_style=True)}"])
        for word in words
    ]
    text = configs[0].to_yaml()
    assert {config.to_yaml() for config in configs} == {text}  # an alias is no other part
    resolved = tmp_path / "config.yaml"
    resolved.write_text(text)
    assert load_config(resolved) == configs[0]
    assert load_config(resolved).digest == configs[0].digest
    assert yaml.safe_load(text) == configs[0].model_dump(mode="json", exclude_none=True)  # whoever reads YAML 1.1
    assert {f".{path}.{option}" for option in ("name", *part.model_fields)} <= everything(
        yaml.safe_load(text)
    ).keys() | {
        f".{path}.schedule"  # a part in a part
    }
    assert {".seeds", ".model.depth", ".model.width", ".train.steps", ".log.every"} <= everything(
        yaml.safe_load(text)
    ).keys()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_that_ships_loads_and_loads_again_from_what_its_run_leaves(path, tmp_path):
    config = load_config(path)
    assert config.name == path.stem
    resolved = tmp_path / "config.yaml"
    resolved.write_text(config.to_yaml())
    assert load_config(resolved) == config


def test_configs_ship():
    assert CONFIGS


@pytest.mark.parametrize(
    "name", ["1e3", "007", "08", "0o12", "1.5", "1e-3", "null", "true", "no", "2001-01-01", "0x1F"]
)
def test_a_name_that_looks_like_something_else_is_a_name_again_after_a_run(name, tmp_path):
    resolved = tmp_path / "config.yaml"
    resolved.write_text(Config(name=name).to_yaml())
    assert load_config(resolved) == Config(name=name)


def test_the_resolved_config_of_epochs_or_widths_leaves_steps_and_depth_to_them():
    leaves = everything(yaml.safe_load(load_config({"train": {"epochs": 2}, "model": {"width": [3, 4]}}).to_yaml()))
    assert leaves[".train.epochs"] == 2
    assert leaves[".model.width"] == [3, 4]
    assert not {".train.steps", ".model.depth"} & leaves.keys()


def test_equal_configs_have_equal_digests_and_others_have_others():
    assert load_config({"model": {"depth": 20}}).digest == Config().digest
    assert load_config({"model": {"depth": 21}}).digest != Config().digest


def test_a_starter_loads_without_a_change_and_says_the_defaults(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text(starter("1e3"))
    assert load_config(path) == Config(name="1e3")
    assert all(len(line) <= 120 for line in starter("mine").splitlines())
    for section in ("data", "model", "train", "log"):
        assert f"\n{section}:\n" in starter("mine")


def test_a_starter_for_what_cannot_be_a_name_is_refused():
    with pytest.raises(ConfigError, match="'my run' cannot name a config; try 'my-run'"):
        starter("my run")


# Nothing else escapes

FRAGMENTS = st.text(max_size=5) | st.sampled_from(
    ["", "\n", "\t", "  ", ": ", "- ", "{", "}", "[", "]", "&a ", "*a", "!!int ", "'", '"', "|\n", "? ", "# ", "---\n",
     "<<: ", "012", "1e999", ".nan", "null", "no", "9" * 5000, "\0", "é", "\x85", "{name: elu}", "model:\n", "\\", "%",
     "@", "9999999999"]
)  # fmt: skip


@st.composite
def nearly_good(draw) -> str:
    text = starter("x")
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(FRAGMENTS) + text[start + draw(st.integers(0, 12)) :]
    return text


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "any.yaml"


def load_or_be_told(source, overrides=()) -> None:
    place = "--set " if overrides else f"{source}:" if isinstance(source, Path) else ""
    try:
        config, lines = load_config(source, overrides), []
    except VgxError as error:
        config, lines = None, error.on_command_line.split("\n")
    assert isinstance(config, Config) or lines
    assert all(line.startswith(place) and line.isprintable() for line in lines)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")) | nearly_good().map(str.encode))
@settings(max_examples=250, deadline=None)
def test_no_file_makes_loading_fail_in_any_other_way(scratch, content):
    scratch.write_bytes(content)
    load_or_be_told(scratch)


KEYS = ["name", "seeds", "data", "model", "train", "log", "depth", "width", "activation", "initializer", "optimizer",
        "schedule", "warmup", "validation", "examples", "steps", "epochs", "classes", "sweep", "0", ""]  # fmt: skip


@given(
    st.lists(
        st.text()
        | st.builds(
            lambda keys, value: f"{'.'.join(keys)}={value}",
            st.lists(st.sampled_from(KEYS), max_size=4),
            FRAGMENTS | st.text(),
        ),
        min_size=1,
        max_size=4,
    )
)
@example(["model.activation.name.x=3"])
@example(["data={}", "data.name.x=1"])
@example(["model=3", "model.depth=3"])
@example(["=", ".=", "a.=1"])
@settings(max_examples=300, deadline=None)
def test_no_override_makes_loading_fail_in_any_other_way(overrides):
    load_or_be_told({}, overrides)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
ODD = st.sampled_from([10**400, "relu", "batch", "constant", "elu", "\ud800", (1, 2), frozenset({3}), object])
VALUES = st.recursive(
    LEAVES | ODD,
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.integers(0, 3), inside, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
@settings(max_examples=300, deadline=None)
def test_no_mapping_makes_loading_fail_in_any_other_way(tree):
    load_or_be_told(tree)


def test_a_part_registered_by_a_user_is_asked_for_like_any_other():
    part = type("Mine", (Schedule,), {"__doc__": "Mine.", "formula": "1", "__module__": __name__})
    with temporary():
        SCHEDULES.register("mine", "own")(part)
        assert load_config({}, ["train.optimizer.schedule=own"]).train.optimizer.schedule == part()
        assert faults({"train": {"optimizer": {"name": "sgd", "schedule": "mien"}}}) == [
            "train.optimizer.schedule: no schedule is called 'mien'; did you mean 'mine'?"
        ]


def test_a_config_is_a_key_whatever_lists_it_was_made_of():
    written = {"seeds": [3, 5], "model": {"width": [9, 7]}, "expect": {"verdict": ["healthy", "dead"]}}
    config, other = load_config(written), load_config(written)
    assert {config: "found"}[other] == "found"
    assert hash(config) != hash(load_config(written | {"seeds": [5, 3]}))
    assert load_config(yaml.safe_load(config.to_yaml())) == config


def test_cells_share_what_they_have_in_common_and_no_value_passes_for_another():
    base = {"sweep": {"axes": {"model.dropout": [0.5, 0.25], "log.every": [1, 2]}}}
    cells = [cell.config for cell in load_sweep(base).cells]
    assert all(cell.train is cells[0].train for cell in cells)
    assert [cell.model is cells[0].model for cell in cells] == [True, True, False, False]
    assert [cell.log is cells[0].log for cell in cells] == [True, False, True, False]
    with pytest.raises(ConfigError, match=r"log\.every: expected a whole number, found true"):
        load_sweep(base | {"sweep": {"axes": {"model.dropout": [0.5], "log.every": [1, True]}}})
