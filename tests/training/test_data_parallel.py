"""Several devices share a batch: the same numbers as on one, whatever the net."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pyarrow.compute as pc
import pytest
from rich.console import Console

import vgx
from tests.training.test_step import dataset
from vgx.config.schema import Config
from vgx.devices import resolve_per_run
from vgx.errors import EnvironmentFault, RunError
from vgx.parts import ACTIVATIONS
from vgx.report.terminal.run import show
from vgx.training.batches import Batches
from vgx.training.chunks import make_chunk, make_evaluate
from vgx.training.inputs import to_device
from vgx.training.lanes import lane_axes, make_initial_states, make_lanes, spread_over
from vgx.training.program import Program, shared_config

BATCH, SEEDS = 16, (3, 4)
NAMES = sorted(part.name for part in ACTIVATIONS)
NORMALIZATIONS: list[Any] = [
    "none",
    "batch",
    {"name": "batch", "placement": "after"},
    "layer",
    {"name": "rms", "placement": "after"},
]


def trained(settings: dict[str, Any], devices: int, steps: int, statistics: str = "full", lanes: int = 1):
    """Final state, every step's report and an evaluation of a small net, `devices` to each of its lanes."""
    config = Config.model_validate(
        {
            "seeds": list(SEEDS[:lanes]),
            "model": {"depth": 3, "width": 8} | settings.get("model", {}),
            "train": {"batch_size": BATCH, "steps": steps} | settings.get("train", {}),
            "log": {"statistics": statistics},
        }
    )
    data, program = dataset(), Program(shared_config(config), 12, 10)
    mesh = spread_over(jax.devices()[: devices * lanes], lanes, devices)
    configs, seeds = [config] * lanes, SEEDS[:lanes]
    lane, images = make_lanes(configs, seeds, steps), to_device(data.train, data)
    lane = lane._replace(order=np.zeros(lanes, np.int32))
    state = make_initial_states(program, configs, mesh)(lane, images, np.arange(8))
    batches = Batches((5,), 64, BATCH)
    indices = np.stack([batches.at(step) for step in range(steps)]).reshape(steps, 1, 1, BATCH)
    state, log = make_chunk(program, steps, mesh)(state, lane, images, indices, np.ones(steps, np.int32))
    held_out = make_evaluate(program, mesh)(state, to_device(data.test, data))
    return jax.tree.map(np.asarray, (state, log, held_out)), lane_axes(program)


def first_step_is_the_same(settings: dict[str, Any], devices: int) -> None:
    """Within 1e-5, in decades where a column is a logarithm, in float32."""
    (_, one, _), _ = trained(settings, 1, 1)
    (_, several, _), _ = trained(settings, devices, 1)
    for ours, theirs in zip(several.scalars, one.scalars, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(several.records.gradient_log10, one.records.gradient_log10, atol=1e-5)
    for name, theirs in one.records.layers._asdict().items():
        ours = getattr(several.records.layers, name)
        if theirs is None:
            assert ours is None
        elif name.endswith("log10"):
            # A norm over the batch makes a bias's gradient the rounding of a sum whose terms are as large as delta.
            heard = theirs > one.records.layers.delta_log10 - 5
            np.testing.assert_allclose(ours[heard], theirs[heard], atol=1e-5, err_msg=name)
        elif name == "noise_scale":
            # The signal is a difference: where it drowns in noise, so does what rounding leaves of it.
            finite = np.isfinite(theirs)
            np.testing.assert_array_equal(np.isfinite(ours), finite)
            np.testing.assert_allclose(
                ours[finite], theirs[finite], rtol=1e-5 * (1 + theirs[finite].max(initial=0) / BATCH)
            )
        else:
            layers = one.records.layers
            terms = {
                "preact_mean": layers.preact_std,
                "act_mean": layers.act_rms,
                "cosine": 1,
                "coherence": 1,
            }  # that may cancel
            close = np.abs(ours - theirs) <= 1e-5 * np.abs(theirs) + 1e-6 * terms.get(name, 0)
            assert np.all(close | (np.isnan(ours) & np.isnan(theirs))), (name, ours, theirs)


def twenty_steps_are_the_same(settings: dict[str, Any], devices: int, lanes: int = 1) -> None:
    """Within 1e-9 in float64: parameters, what batch norm keeps, losses, and what an evaluation finds."""
    settings = settings | {"train": settings.get("train", {}) | {"precision": "float64"}}
    with jax.enable_x64(True):
        (state, log, held_out), axes = trained(settings, 1, 20, "standard", 1)
        (several, their_log, their_held_out), _ = trained(settings, devices, 20, "standard", lanes)
    np.testing.assert_allclose(their_log.scalars.train_loss[..., 0], log.scalars.train_loss[..., 0], rtol=1e-9)
    np.testing.assert_allclose(their_held_out.loss[0], held_out.loss[0], rtol=1e-9)
    np.testing.assert_array_equal(their_held_out.accuracy[0], held_out.accuracy[0])
    for ours, theirs, axis in zip(*map(jax.tree.leaves, (several, state, axes)), strict=True):
        np.testing.assert_allclose(ours.take(0, axis), theirs.take(0, axis), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("activation", "normalization"),
    [
        pytest.param(activation, norm, marks=[] if activation in ("elu", "prelu") else pytest.mark.slow, id=name)
        for name, activation, norm in zip(
            ["elu", "rrelu batch", "tanh batch after", "prelu layer", "relu rms after"],
            ["elu", "rrelu", "tanh", "prelu", "relu"],
            NORMALIZATIONS,
            strict=True,
        )
    ],
)
def test_the_first_step_on_two_devices_is_that_on_one(activation, normalization):
    first_step_is_the_same({"model": {"activation": activation, "normalization": normalization}}, 2)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            {"model": {"activation": "rrelu", "normalization": "batch", "dropout": 0.2}, "train": {"clip": "norm"}},
            id="rrelu batch dropout clip",
        ),
        pytest.param(
            {"model": {"activation": "prelu", "initializer": "lsuv"}, "train": {"optimizer": "adam"}},
            marks=pytest.mark.slow,
            id="prelu lsuv adam",
        ),
    ],
)
def test_twenty_steps_on_two_devices_are_those_on_one(settings):
    twenty_steps_are_the_same(settings, 2)


LEARNED = {"name": "post_activation", "scale": {"learned": 0.5}}


@pytest.mark.parametrize("residual", ["pre_activation", pytest.param(LEARNED, marks=pytest.mark.slow)])
def test_the_first_step_of_a_residual_net_on_two_devices_is_that_on_one(residual):
    first_step_is_the_same({"model": {"activation": "elu", "normalization": "batch", "residual": residual}}, 2)


@pytest.mark.slow
def test_a_gradient_of_any_size_is_read_alike_on_two_devices():
    deep = {"model": {"depth": 400, "activation": "logistic"}}
    (_, one, _), _ = trained(deep, 1, 1, "standard")
    (_, two, _), _ = trained(deep, 2, 1, "standard")
    assert one.records.layers.delta_log10.min() < -200
    np.testing.assert_allclose(two.records.layers.delta_log10, one.records.layers.delta_log10, atol=1e-4)
    np.testing.assert_array_equal(two.records.layers.weight_grad_zero, one.records.layers.weight_grad_zero)


def test_each_device_works_on_its_part_of_the_batch_alone():
    config = Config.model_validate({"model": {"depth": 3, "width": 8}, "train": {"batch_size": BATCH, "steps": 1}})
    data, program, mesh = dataset(), Program(shared_config(config), 12, 10), spread_over(jax.devices()[:2], 1, 2)
    lane, images = make_lanes([config], (0,), 1), to_device(data.train, data)
    state = make_initial_states(program, [config], mesh)(lane, images, 0)
    indices = np.zeros((1, 1, 1, BATCH), np.int32)
    compiled = make_chunk(program, 1, mesh).lower(state, lane, images, indices, np.ones(1, np.int32)).compile()
    text = compiled.as_text()
    assert f"f32[{BATCH // 2},8]" in text
    assert f"f32[{BATCH},8]" not in text
    assert "all-gather" not in text


def test_a_batch_that_cannot_be_dealt_out_is_refused_with_the_nearest_that_can():
    with pytest.raises(RunError, match=r"train.batch_size=96 or .*train.batch_size=104"):
        resolve_per_run(8, 8, 1, 100)
    with pytest.raises(RunError, match=r"train.batch_size=4$"):
        resolve_per_run(4, 4, 1, 3)
    with pytest.raises(EnvironmentFault, match="finds 2"):
        resolve_per_run(4, 2, 1, 100)
    with pytest.raises(EnvironmentFault, match=r"devices_per_run 4"):  # as Python calls it
        resolve_per_run(4, 2, 1, 100)


@pytest.mark.parametrize(
    ("devices", "lanes", "batch", "share"),
    [(8, 1, 128, 8), (8, 2, 128, 4), (8, 3, 128, 2), (8, 16, 128, 1), (8, 1, 100, 5)],
)
def test_auto_is_what_lanes_leave_free_and_a_batch_divides_by(devices, lanes, batch, share):
    assert resolve_per_run("auto", devices, lanes, batch) == share


@pytest.mark.slow
def test_a_run_and_a_sweep_say_on_how_many_devices_each_net_was_and_measure_the_same(tmp_path):
    settings = {"name": "shared", "data": "digits", "model": {"depth": 3, "width": 8}, "train": {"steps": 4}}
    one = vgx.train(vgx.load_config(settings), runs=tmp_path / "one")
    two = vgx.train(vgx.load_config(settings), runs=tmp_path / "two", devices_per_run=2)
    assert (one.meta["devices_per_run"], len(one.meta["devices"])) == (1, 1)
    assert (two.meta["devices_per_run"], len(two.meta["devices"])) == (2, 2)
    shown = Console(width=100, record=True, file=io.StringIO())
    shown.print(show(two, width=100))
    assert "2 x cpu: cpu, 2 for each run" in shown.export_text()
    grid = settings | {"sweep": {"axes": {"model.activation": ["relu", "tanh"]}}}
    swept = vgx.sweep(vgx.load_sweep(grid), runs=tmp_path / "swept", devices_per_run="auto")
    assert swept.meta["devices_per_run"] == "auto"
    first = pc.field("step") == 1
    for run in (two, swept):
        for name, own in (("delta_log10", one), ("act_rms", one)):
            theirs = run.layers([name], where=first & (pc.field("lane") == 0))[name]
            np.testing.assert_allclose(theirs, own.layers([name], where=first)[name], rtol=1e-5, atol=1e-5)
    with pytest.raises(RunError, match=r"a batch of 33 cannot be dealt out evenly"):
        vgx.sweep(vgx.load_sweep(grid, ["train.batch_size=33"]), runs=tmp_path / "odd", devices_per_run=2)
    assert not list((tmp_path / "odd").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("activation", NAMES)
def test_every_normalization_on_two_four_and_eight_devices_is_that_on_one(activation):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    command = [sys.executable, "-m", "tests.training.test_data_parallel", json.dumps(activation)]
    done = subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def _whole_grid(activation: str) -> None:
    for i, normalization in enumerate(NORMALIZATIONS):
        settings = {"model": {"activation": activation, "normalization": normalization, "dropout": 0.1 * (i % 2)}}
        first_step_is_the_same(settings, (2, 4, 8)[i % 3])
    chosen = NORMALIZATIONS[NAMES.index(activation) % len(NORMALIZATIONS)]
    settings = {"model": {"activation": activation, "normalization": chosen, "dropout": 0.1}}
    twenty_steps_are_the_same(settings, 4, lanes=2)


if __name__ == "__main__":
    _whole_grid(json.loads(sys.argv[1]))
