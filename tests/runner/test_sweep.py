"""A sweep: its cells, its rounds, and that every lane is what `vgx train` makes of its config."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jsonschema
import numpy as np
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

import vgx
import vgx.config.grid
import vgx.config.schema
import vgx.config.sweep
import vgx.config.yaml_tree
import vgx.training.step
from vgx.cli import app
from vgx.errors import ConfigError, RunError
from vgx.parts import ACTIVATIONS
from vgx.parts.activations import Activation
from vgx.registry import temporary
from vgx.report.terminal.sweep import show_sweep
from vgx.results.cell_configs import cell_configs
from vgx.runner import preparation
from vgx.runner.plan import parse_memory, plan_rounds, program_key
from vgx.training.chunks import make_chunk, make_evaluate
from vgx.training.lanes import lane_bytes, make_lanes, spread_over, state_shapes
from vgx.training.program import Program, shared_config

SMALL = {
    "name": "small",
    "model": {"depth": 3, "width": 12, "activation": "elu"},
    "train": {"batch_size": 16, "steps": 20, "evaluate_every": 8},
}
GRID = {
    "model.activation": ["relu", {"name": "rrelu", "lower": 0.1, "upper": 0.3}],
    "model.initializer": ["he_normal", {"name": "lecun_uniform", "gain": 1.5}, "lsuv"],
}


def sweep_of(base: dict, axes: dict, cells: tuple = (), seeds: int = 1) -> vgx.config.sweep.Sweep:
    return vgx.load_sweep(base | {"seeds": seeds, "sweep": {"axes": axes, "cells": list(cells)}})


def plain(console_text) -> str:
    from rich.console import Console

    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(console_text)
    return capture.get()


# Cells


def test_cells_are_the_cross_of_the_axes_and_the_explicit_ones_each_once():
    axes = {"model.activation": ["relu", "sigmoid"], "train.optimizer.learning_rate": [0.1, 1e-2]}
    cells = ({"model.activation": "logistic"}, {"model": {"activation": "elu"}, "train.batch_size": 7})
    sweep = sweep_of(SMALL, axes, cells)
    found = [(c.config.model.activation.name, c.config.train.optimizer.learning_rate) for c in sweep.cells]
    # logistic with the base's learning rate 0.1 is sigmoid's first cell again
    assert found == [("relu", 0.1), ("relu", 0.01), ("logistic", 0.1), ("logistic", 0.01), ("elu", 0.1)]
    assert sweep.cells[-1].config.train.batch_size == 7
    assert sweep.cells[-1].config.model.depth == 3


def test_a_sweep_file_loads_back_as_the_same_sweep(tmp_path):
    sweep = sweep_of(SMALL, GRID, ({"model.width": [3, 4]},), seeds=2)
    path = tmp_path / "again.yaml"
    path.write_text(sweep.to_yaml())
    again = vgx.load_sweep(path)
    assert [cell.key for cell in again.cells] == [cell.key for cell in sweep.cells]
    assert (again.base, again.folder) == (sweep.base, sweep.folder)


def test_an_axis_from_the_command_line_replaces_that_of_the_file():
    source = SMALL | {"sweep": {"axes": {"model.activation": ["relu", "tanh"]}}}
    axes = ["model.activation=elu,{name: leaky_relu, negative_slope: 0.2}", "model.width=[4,5],7"]
    sweep = vgx.load_sweep(source, axes=axes, seeds=3)
    assert [(c.config.model.activation.name, c.config.model.widths) for c in sweep.cells] == [
        ("elu", (4, 5)),
        ("elu", (7, 7, 7)),
        ("leaky_relu", (4, 5)),
        ("leaky_relu", (7, 7, 7)),
    ]
    assert sweep.base.seed_list == (0, 1, 2)


BAD = {
    "axes: {model.activation: [relu, relux]}": "3:35: model.activation: no activation is called 'relux';"
    " did you mean 'relu'?",
    "axes: {model.activaton: [relu]}": "3:28: model: unknown key 'activaton'; did you mean 'activation'?",
    "axes: {train.batch_size: [1, 32], model.normalization: [batch]}": "3:29: train.batch_size: batch norm needs at"
    " least 2: one example has no variance (in the cell train.batch_size=1, model.normalization=batch)",
    "axes: {seeds: [1, 2]}": "3:10: sweep.axes.seeds: seeds cannot be swept: seeds are crossed with every cell already;"
    " give them as `seeds`",
    "axes: {model.depth: 3}": "3:10: sweep.axes.'model.depth': expected a list of values, found 3",
    "axes: {model.depth: []}": "3:10: sweep.axes.'model.depth': expected a list of values, found an empty list",
    "axes: [relu]": "3:3: sweep.axes: expected a list of values for each path, found a list",
    "cells: [relu]": "3:11: sweep.cells.0: a cell is a mapping such as {model.activation: relu}, found the text 'relu'",
    "grid: {}": "3:3: sweep.grid: unknown key 'grid'; known: axes, cells",
    "cells: [{model.depth: 0}]": "3:11: model.depth: must be at least 1, and is 0 (in the cell model.depth=0)",
}


@pytest.mark.parametrize(("text", "line"), BAD.items(), ids=list(BAD))
def test_a_bad_sweep_gets_a_line_that_names_the_place_and_the_cell(text, line, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(f"model: {{width: 8}}\nsweep:\n  {text}\n")
    with pytest.raises(ConfigError) as refusal:
        vgx.load_sweep(path)
    assert str(refusal.value) == f"{path}:{line}"


def test_a_config_without_axes_is_no_sweep_and_a_sweep_is_no_config():
    with pytest.raises(ConfigError, match="nothing to sweep"):
        vgx.load_sweep(SMALL)
    with pytest.raises(ConfigError, match="`vgx sweep` runs it"):
        vgx.load_config(SMALL | {"sweep": {"axes": {"model.depth": [1]}}})


SWEEPS = sorted((Path(__file__).parents[2] / "configs/sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_loads_and_fits_the_schema(path):
    sweep = vgx.load_sweep(path)
    assert sweep.base.name == path.stem
    schema = vgx.config.schema.json_schema()
    jsonschema.Draft202012Validator(schema).validate(vgx.config.yaml_tree.read_file(path).value)
    assert len(sweep.cells) == len(list(vgx.config.grid.overlays(sweep.axes, sweep.explicit)))


def test_the_articles_grid_is_five_programs():
    sweep = vgx.load_sweep(SWEEPS[0])
    assert len(sweep.cells) * len(sweep.base.seed_list) == 90
    assert len({program_key(cell.config) for cell in sweep.cells}) == 5


# Programs and rounds


def test_numbers_and_initializers_share_a_program_and_shapes_do_not():
    def programs(axes: dict) -> int:
        return len({program_key(cell.config) for cell in sweep_of(SMALL, axes).cells})

    data = {
        "model.initializer": ["he_normal", "orthogonal", {"name": "normal", "std": 0.3}, "lsuv"],
        "model.bias": ["zeros", {"name": "normal", "std": 0.1}],
        "train.optimizer.learning_rate": [0.1, 0.2],
    }
    assert programs(data) == 1
    momentum = {
        "train.optimizer": [
            {"name": "momentum", "momentum": m, "weight_decay": w} for m, w in ((0.5, 1e-3), (0.9, 1e-4))
        ]
    }
    assert programs(momentum) == 1
    # Without weight decay a term is missing from the compiled update.
    assert programs({"train.optimizer.weight_decay": [0.0, 1e-3]}) == 2
    assert programs({"model.activation": ["relu", "elu"], "model.depth": [2, 3]}) == 4
    assert programs({"train.clip": [{"name": "norm", "limit": 1.0}, {"name": "norm", "limit": 2.0}, "none"]}) == 2


def test_rounds_fit_into_memory_and_hold_every_lane_once():
    cells = sweep_of(SMALL, {"train.optimizer.learning_rate": [0.1 * (i + 1) for i in range(23)]}).cells
    lanes = [(i, cell.config) for i, cell in enumerate(cells)]
    dataset = cells[0].config.data.load()
    two = jax.devices()[:1] * 2
    each = plan_rounds(lanes, lambda config: dataset, two, 10**12)[0]
    assert (len(each.lanes), each.capacity) == (23, 24)
    memory = 7 * each.bytes // each.capacity
    rounds = plan_rounds(lanes, lambda config: dataset, two, memory)
    assert sorted(lane for planned in rounds for lane in planned.lanes) == list(range(23))
    assert {planned.capacity for planned in rounds} == {6}
    assert all(planned.bytes <= memory for planned in rounds)
    assert [planned.capacity for planned in plan_rounds(lanes[:1], lambda config: dataset, two, 1)] == [1]


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"depth": 4, "width": 16}},
        {"model": {"width": [64, 200]}, "train": {"batch_size": 64}},
        {
            "model": {"depth": 10, "width": 32, "activation": "gelu", "normalization": "batch"},
            "train": {"optimizer": "adam"},
        },
        {"model": {"depth": 10, "width": 32, "activation": "rrelu", "normalization": "layer", "dropout": 0.1}},
        {"model": {"depth": 6, "width": 64}, "log": {"statistics": "full"}},
    ],
    ids=["small", "uneven", "batch norm", "rrelu", "full"],
)
def test_the_memory_estimate_bounds_what_xla_says_it_takes(settings):
    config = vgx.load_config(settings)
    dataset = config.data.load()
    program = Program(shared_config(config), dataset.train.images.shape[1], dataset.classes)

    def bytes_of(lanes: int) -> tuple[int, int]:
        """What a chunk of steps, and an evaluation, take."""
        mesh, configs = spread_over(jax.devices()[:1], 1), [config] * lanes
        lane = make_lanes(configs, list(range(lanes)), 10)
        few = dataset.train._replace(images=dataset.train.images[:8], labels=dataset.train.labels[:8])
        data = vgx.training.inputs.to_device(few, dataset)
        state = state_shapes(program, lanes, mesh)
        batches = jax.ShapeDtypeStruct((1, 1, lanes, config.train.batch_size), np.int32)
        lengths = jax.ShapeDtypeStruct((1,), np.int32)
        whole = vgx.training.inputs.to_device(dataset.train, dataset)
        chunk = make_chunk(program, 1, mesh).lower(state, lane, data, batches, lengths)
        evaluation = make_evaluate(program, mesh).lower(state, whole)
        found = [each.compile().memory_analysis() for each in (chunk, evaluation)]
        return tuple(memory.temp_size_in_bytes + memory.argument_size_in_bytes for memory in found)

    measured = max((three - one) / 2 for one, three in zip(bytes_of(1), bytes_of(3), strict=True))
    assert measured <= lane_bytes(program, "cpu") <= 8 * measured


@pytest.mark.parametrize(("text", "size"), [("4GB", 4 * 10**9), ("512 MiB", 2**29), ("2e9", 2 * 10**9), ("1.5k", 1500)])
def test_memory_is_read_with_its_unit(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "many", "4 XB", "-1GB", "0", "nan", "inf"])
def test_a_memory_that_is_none_gets_a_line(text):
    with pytest.raises(vgx.VgxError, match="expected a size such as 4GB"):
        parse_memory(text)


# Lanes against single runs


def assert_equal_tables(ours, theirs, rtol: float, atol: float) -> None:
    assert ours.num_rows == theirs.num_rows
    for name in ours.column_names:
        if name == "lane":
            continue
        assert ours[name].is_null().equals(theirs[name].is_null()), name
        a, b = (table[name].drop_null().to_numpy() for table in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("precision", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_a_lane_has_the_table_that_train_gives_its_config(precision, tmp_path):
    base = SMALL | {"train": SMALL["train"] | {"precision": precision}, "log": {"statistics": "full"}}
    cells = ({"train.optimizer.learning_rate": 1e30, "model.activation": "relu"},)  # a neighbour that diverges
    sweep = sweep_of(base, GRID, cells, seeds=2)
    run = vgx.sweep(sweep, runs=tmp_path)
    lanes = run.lanes().to_pylist()
    assert len(lanes) == 2 * 7
    assert run.meta["programs"] == 2
    which = (2, 4, -1) if precision == "float64" else (0, -1)  # LSUV, RReLU's uniform weights, the one that diverges
    for cell in (sweep.cells[i] for i in which):
        alone = vgx.train(cell.config, runs=tmp_path / cell.key)
        for lane in (row["lane"] for row in lanes if row["cell"] == cell.key):
            seed = lanes[lane]["seed"]
            assert lanes[lane]["status"] == alone.lanes()["status"][seed].as_py()
            mine, theirs = pc.field("lane") == lane, pc.field("lane") == seed
            if precision == "float64":
                # 1e-9 over 20 steps; dead and saturated shares are counts, and a slope on the edge may fall either way
                assert_equal_tables(run.layers(where=mine), alone.layers(where=theirs), 1e-9, 1e-9)
                assert_equal_tables(run.metrics(where=mine), alone.metrics(where=theirs), 1e-9, 1e-12)
            else:
                first = pc.field("step") == 1
                # logarithms and shares near 0 need an absolute tolerance as well
                assert_equal_tables(run.layers(where=mine & first), alone.layers(where=theirs & first), 1e-5, 1e-5)
                assert_equal_tables(run.metrics(where=mine & first), alone.metrics(where=theirs & first), 1e-5, 1e-6)


def test_a_cell_that_diverges_ends_where_it_would_alone(tmp_path):
    sweep = sweep_of(SMALL, {"train.optimizer.learning_rate": [0.1, 1e30]}, seeds=2)
    run = vgx.sweep(sweep, runs=tmp_path)
    statuses = run.lanes()["status"].to_pylist()
    assert statuses == ["done", "done", "diverged", "diverged"]
    last = {lane: run.metrics(where=pc.field("lane") == lane)["step"].to_numpy().max() for lane in range(4)}
    assert last[0] == last[1] == 20
    assert last[2] == last[3] == max(run.lanes()["diverged_step"].to_pylist()[2:]) < 20


# The directory


def tables(run) -> list:
    sort = [("lane", "ascending"), ("step", "ascending")]
    return [
        run.metrics().sort_by(sort),
        run.layers().sort_by([*sort, ("layer", "ascending")]),
        run.lanes(),
    ]


def test_a_sweep_that_grows_keeps_what_is_done_and_adds_the_rest(tmp_path):
    first = vgx.sweep(sweep_of(SMALL, {"model.activation": ["relu", "tanh"]}), runs=tmp_path)
    before, lanes = first.metrics(), first.lanes()
    grown = sweep_of(SMALL, {"model.activation": ["elu", "relu"]}, seeds=2)
    run = vgx.sweep(grown, runs=tmp_path)
    assert isinstance(run, vgx.Run)
    assert (run.path, first.verdict) == (first.path, "healthy")
    found = [(row["lane"], row["seed"], row["model.activation"]) for row in run.lanes().to_pylist()]
    assert found[:2] == [(0, 0, "relu"), (1, 0, "tanh")]
    assert sorted(found[2:], key=str) == [(2, 0, "elu"), (3, 1, "elu"), (4, 1, "relu"), (5, 1, "tanh")]
    assert run.metrics(where=pc.field("lane") < 2).equals(before)
    assert run.lanes().slice(0, 2).equals(lanes)
    assert len(vgx.load_sweep(run.path / "config.yaml").cells) == 3
    again = vgx.sweep(grown, runs=tmp_path)
    assert again.meta["seconds"] == run.meta["seconds"]  # nothing was run


def test_another_base_is_refused_with_the_difference(tmp_path):
    axes = {"model.activation": ["relu"]}
    run = vgx.sweep(sweep_of(SMALL, axes), runs=tmp_path)
    other = SMALL | {"model": SMALL["model"] | {"depth": 4}}
    with pytest.raises(RunError, match=r"model\.depth: 3 there, 4 here"):
        vgx.sweep(sweep_of(other, axes), runs=tmp_path)
    with pytest.raises(RunError, match=r"model\.depth"):
        vgx.plan(sweep_of(other, axes), runs=tmp_path)
    assert vgx.open_run(run.path).config["model"]["depth"] == 3
    vgx.sweep(sweep_of(other, axes), runs=tmp_path, overwrite=True)
    assert vgx.open_run(run.path).config["model"]["depth"] == 4


def test_a_second_sweep_on_the_directory_is_refused_and_names_the_first(tmp_path):
    sweep = sweep_of(SMALL, {"model.activation": ["relu"]})

    def watch(progress) -> None:
        with pytest.raises(RunError, match=f"process {os.getpid()}"):
            vgx.sweep(sweep, runs=tmp_path)

    vgx.sweep(sweep, runs=tmp_path, watch=watch)


class Broken(Activation):
    """Raises while it is traced.

    This file.
    """

    steepest = 1.0

    def __call__(self, h):
        raise ZeroDivisionError("no such slope")


@pytest.fixture
def broken():
    """The part in the registry, where tests over the registry must not meet it."""
    with temporary():
        yield ACTIVATIONS.register("broken_in_a_test")(Broken)


@pytest.mark.slow
def test_a_round_that_fails_is_recorded_and_the_others_go_on(tmp_path, monkeypatch, broken):
    axes = {"model.activation": ["broken_in_a_test", "relu"]}
    run = vgx.sweep(sweep_of(SMALL, axes), runs=tmp_path)
    rows = run.lanes().to_pylist()
    assert [row["status"] for row in rows] == ["failed", "done"]
    assert rows[0]["error"] == "ZeroDivisionError: no such slope"
    assert "in __call__" in json.loads((run.path / "rounds/0000.json").read_text())["details"]
    again = vgx.sweep(sweep_of(SMALL, axes), runs=tmp_path)
    assert again.lanes()["status"].to_pylist() == ["failed", "done"]
    monkeypatch.setattr(Broken, "__call__", lambda self, h: h)
    mended = vgx.sweep(sweep_of(SMALL, axes), runs=tmp_path, retry_failed=True)
    assert mended.lanes()["status"].to_pylist() == ["done", "done"]
    assert mended.lanes()["error"].to_pylist() == [None, None]


@pytest.mark.slow
def test_a_round_that_is_out_of_memory_is_tried_with_half_the_lanes(tmp_path, monkeypatch):
    sweep = sweep_of(SMALL, {"train.optimizer.learning_rate": [0.1 * (i + 1) for i in range(7)]})
    whole = vgx.sweep(sweep, runs=tmp_path / "whole")
    monkeypatch.setattr(preparation.Prepared, "bytes", property(lambda self: 10**12 if len(self.lane_specs) > 2 else 1))
    notes = []
    run = vgx.sweep(sweep, runs=tmp_path, memory=10**9, watch=lambda progress: notes.append(progress.note))
    assert sum("trying half as many" in note for note in notes) == 3  # 7 to 4 and 3, and each of those again
    assert run.lanes()["status"].to_pylist() == ["done"] * 7
    for ours, theirs in zip(tables(run)[:2], tables(whole)[:2], strict=True):
        assert_equal_tables(ours.filter(pc.field("step") == 1), theirs.filter(pc.field("step") == 1), 1e-5, 1e-5)


def test_rounds_of_as_many_lanes_and_other_numbers_of_seeds_have_programs_of_their_own(tmp_path):
    # Two lanes to a round: the first has two seeds, the second one, and a lane for padding.
    sweep = sweep_of(SMALL, {"model.activation": ["elu"]}, seeds=3)
    each = lane_bytes(Program(shared_config(sweep.base), 64, 10), "cpu")
    run = vgx.sweep(sweep, runs=tmp_path, memory=max(2, jax.device_count()) * each + each // 2)
    assert [row["status"] for row in run.lanes().to_pylist()] == ["done"] * 3


def test_a_net_too_large_for_the_machine_fails_alone(tmp_path):
    axes = {"model.width": [8, [400_000, 400_000]]}  # 640 GB of weights
    run = vgx.sweep(sweep_of(SMALL, axes), runs=tmp_path)
    rows = run.lanes().to_pylist()
    assert [row["status"] for row in rows] == ["done", "failed"]
    assert rows[1]["error"]


KILLED = """
import json, sys, vgx, vgx.runner.loop
vgx.runner.loop.FLUSH_SECONDS, vgx.runner.loop.CHUNK_SECONDS = 0.0, 0.01
base, axes, seeds = json.loads(sys.argv[1])
vgx.sweep(vgx.load_sweep(base | {"seeds": seeds, "sweep": {"axes": axes}}), runs=sys.argv[2])
"""
CUT = SMALL | {
    "model": SMALL["model"] | {"normalization": "batch", "dropout": 0.1},
    "train": SMALL["train"] | {"steps": 60},
    "log": {"every": 3},
}


def start(tmp_path, axes: dict) -> subprocess.Popen:
    script = [sys.executable, "-c", KILLED, json.dumps([CUT, axes, 2]), str(tmp_path)]
    return subprocess.Popen(script, stderr=subprocess.DEVNULL)


def same_after(kills: int, tmp_path, axes: dict) -> None:
    """Kills a sweep at random moments, lets it end, and compares it with one left alone."""
    draw = random.Random(0)
    path = tmp_path / sweep_of(CUT, axes, seeds=2).folder
    for _ in range(kills):
        process = start(tmp_path, axes)
        while process.poll() is None and not list(path.glob("checkpoint/*/[0-9]*")):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        process.kill()
        process.wait(60)
    assert start(tmp_path, axes).wait(300) == 0
    run, whole = vgx.open_run(path), vgx.sweep(sweep_of(CUT, axes, seeds=2), runs=tmp_path / "whole")
    for ours, theirs in zip(tables(run), tables(whole), strict=True):
        assert ours.equals(theirs)
    assert not list(path.glob("checkpoint/*/[0-9]*"))


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_to_the_same_bits(tmp_path):
    same_after(1, tmp_path, {"train.optimizer.learning_rate": [0.1, 0.2, 0.3]})


@pytest.mark.slow
def test_a_sweep_that_was_killed_ten_times_goes_on_to_the_same_bits(tmp_path):
    same_after(10, tmp_path, GRID)


@pytest.mark.slow
def test_ctrl_c_saves_a_sweep_and_the_same_command_goes_on(tmp_path):
    axes = {"train.optimizer.learning_rate": [0.1, 0.2]}
    process = start(tmp_path, axes)
    path = tmp_path / sweep_of(CUT, axes, seeds=2).folder
    while process.poll() is None and not list(path.glob("checkpoint/*/[0-9]*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert vgx.open_run(path).status == "interrupted"
    assert vgx.sweep(sweep_of(CUT, axes, seeds=2), runs=tmp_path).status == "done"


# What is shown


@pytest.fixture(scope="module")
def shown_run(tmp_path_factory):
    base = SMALL | {"data": {"name": "digits", "validation": 100}, "log": {"tensorboard": True}}
    axes = {"model.activation": ["relu", "logistic"], "train.optimizer.learning_rate": [0.1, 1e-6]}
    return vgx.sweep(sweep_of(base, axes, seeds=2), runs=tmp_path_factory.mktemp("runs"))


def test_the_grid_shows_the_mean_and_the_deviation_over_seeds(shown_run):
    text = plain(show_sweep(shown_run))
    rows = [row for row in shown_run.lanes().to_pylist() if row["model.activation"] == "relu"]
    accuracy = [row["test_accuracy"] for row in rows if row["train.optimizer.learning_rate"] == 0.1]
    spread = f"{np.std(accuracy, ddof=1):.4f}".removeprefix("0")
    assert f"{np.mean(accuracy):.4f} ±{spread}" in text
    assert "columns: train.optimizer.learning_rate" in text
    swapped = plain(show_sweep(shown_run, rows="learning_rate", value="slope"))
    assert "columns: model.activation" in swapped
    assert max(map(len, text.splitlines())) <= 80


def test_the_best_of_an_axis_is_chosen_on_validation_data(shown_run):
    text = plain(show_sweep(shown_run, best_over="learning_rate"))
    lanes = shown_run.lanes().to_pylist()
    for activation in ("relu", "logistic"):
        mean = {
            rate: np.mean(
                [
                    r["validation_accuracy"]
                    for r in lanes
                    if r["model.activation"] == activation and r["train.optimizer.learning_rate"] == rate
                ]
            )
            for rate in (0.1, 1e-6)
        }
        best = max(mean, key=mean.__getitem__)
        accuracy = np.mean(
            [
                r["test_accuracy"]
                for r in lanes
                if r["model.activation"] == activation and r["train.optimizer.learning_rate"] == best
            ]
        )
        assert f"{accuracy:.4f}" in text
        assert f"learning_rate {best:g}" in text


def test_the_best_is_never_chosen_on_test_data(tmp_path):
    run = vgx.sweep(sweep_of(SMALL, {"train.optimizer.learning_rate": [0.1, 0.2]}), runs=tmp_path)
    with pytest.raises(RunError, match="holds no examples out"):
        show_sweep(run, best_over="learning_rate")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"rows": "activaton"}, "no swept option is called 'activaton'"),
        ({"value": "accuracy"}, "lanes have no 'accuracy'; did you mean 'test_accuracy'?"),
        ({"rows": "activation", "columns": "model.activation"}, "rows and columns are both model.activation"),
    ],
)
def test_a_grid_of_what_is_not_there_gets_a_line(shown_run, options, line):
    with pytest.raises(RunError, match=line.replace("?", r"\?")):
        show_sweep(shown_run, **options)


def test_a_sweep_keeps_the_resolved_config_of_each_cell(shown_run):
    cells = vgx.load_sweep(shown_run.path / "config.yaml").cells
    assert cell_configs(shown_run) == {cell.key: cell.config.model_dump(mode="json") for cell in cells}


def test_the_cells_of_a_sweep_are_compared(shown_run):
    command = ["compare", shown_run.path.name, "--runs", str(shown_run.path.parent), "--json"]
    said = json.loads(CliRunner().invoke(app, [*command, "--where", "learning_rate=0.1"]).stdout)
    relu, logistic = said["contenders"]
    assert [one["name"] for one in (relu, logistic)] == ["relu, 0.1", "logistic, 0.1"]
    assert [one["config"] for one in (relu, logistic)] == [
        {"model.activation": "relu"},
        {"model.activation": "logistic"},
    ]
    assert len(logistic["apart"]["since"]) == 3
    # What the lanes took side by side is shared among them.
    rounds = [json.loads(path.read_text()) for path in (shown_run.path / "rounds").glob("*.json")]
    training = sum(state["seconds"] - state["compile_seconds"] for state in rounds)
    every = json.loads(CliRunner().invoke(app, command).stdout)["contenders"]
    assert sum(one["seconds"] for one in every) == pytest.approx(training)


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (["learning_rate=0.1", "activation=relu"], "there is only one to compare"),
        (["learning_rate=7"], "no lane has ended where learning_rate=7"),
        (["rate=7"], "--where rate=7: no swept option is called 'rate'"),
    ],
)
def test_cells_that_are_not_there_get_a_line(shown_run, where, line):
    with pytest.raises(RunError, match=line):
        app(["compare", str(shown_run.path), *[x for one in where for x in ("--where", one)]], standalone_mode=False)


def test_a_statistic_of_a_sweep_is_a_line_for_each_cell(shown_run):
    runs = ["show", str(shown_run.path)]
    at_last = CliRunner().invoke(app, [*runs, "--statistic", "act_rms"]).stdout
    assert "activation rms, by depth at the last step" in at_last
    by_step = CliRunner().invoke(app, [*runs, "--layer", "3", "--statistic", "delta_log10"]).stdout
    assert "|dloss/dh|, log scale, of layer 3 by step" in by_step
    for text in (at_last, by_step):
        names = [line.split("┤")[0].strip() for line in text.splitlines() if "┤" in line]
        assert names == ["relu, 0.1", "relu, 1e-06", "logistic, 0.1", "logistic, 1e-06"]
    first = CliRunner().invoke(app, [*runs, "--step", "1"]).stdout
    # At the first step the learning rate has changed nothing yet; at the last it has.
    lines = [line.split("┤")[1] for line in first.splitlines() if "┤" in line]
    assert lines[0] == lines[1]
    assert lines[2] == lines[3]
    assert lines[0] != lines[2]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--step", "1", "--layer", "1"], "name one, or a --lane"),
        (["--step", "21"], "has no layers at step 21; the nearest is 20"),
        (["--layer", "9"], "no cell has a layer 9"),
        (["--statistic", "cosine"], "'cosine' was not measured; there are: delta_log10"),
        (["--statistic", "cosin"], "did you mean 'cosine'"),
        (["--lane", "0", "--rows", "activation"], "for the grid of a sweep alone"),
    ],
)
def test_a_map_of_a_sweep_that_cannot_be_drawn_gets_a_line(shown_run, options, line):
    with pytest.raises(RunError, match=line):
        app(["show", str(shown_run.path), *options], standalone_mode=False)


def test_a_sweep_has_event_files_for_each_lane_with_its_options(shown_run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    lanes = shown_run.lanes().to_pylist()
    folders = sorted((shown_run.path / "tensorboard").iterdir())
    assert len(folders) == len(lanes)
    assert folders[0].name == "lane-0000-seed-0-relu-0.1"
    for lane, folder in list(zip(lanes, folders, strict=True))[::3]:
        events = accumulator.EventAccumulator(str(folder)).Reload()
        metrics = shown_run.metrics(where=pc.field("lane") == lane["lane"])
        assert [event.value for event in events.Scalars("loss/train")] == metrics["train_loss"].to_pylist()
        (start,) = {
            content
            for name, content in events.PluginTagToContent("hparams").items()
            if name.endswith("session_start_info")
        }
        assert lane["model.activation"].encode() in start


def test_event_files_make_no_cell_another_one():
    sweep = sweep_of(SMALL, {"log.tensorboard": [True, False], "model.activation": ["relu", "elu"]})
    assert len(sweep.cells) == 2
