"""In batches of a few examples most units are off for all of them: whether they are dead, a fixed set tells."""

from __future__ import annotations

import jax
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import vgx
from vgx.config.schema import Config
from vgx.config.sweep import load_sweep
from vgx.results.columns import DEAD_UNITS
from vgx.results.lane_results import judge_lanes
from vgx.theory.predict import predict
from vgx.training.chunks import make_examine
from vgx.training.inputs import encode, to_device
from vgx.training.lanes import make_initial_states, make_lanes, spread_over
from vgx.training.program import Program, shared_config

STEPS, HIDDEN = 8, 3


@pytest.fixture
def judged(write_run):
    """The verdict on a run whose batches saw most units off, and whose evaluations, at steps 4 and 8, saw `shares`."""

    def verdict(*shares: list[float]):
        layers = {
            "delta_log10": np.zeros((STEPS, 1, HIDDEN + 1)),
            "weight_grad_zero": np.zeros((STEPS, 1, HIDDEN + 1)),
            "dead": np.full((STEPS, 1, HIDDEN + 1), 0.9),
        }
        metrics = {"train_loss": np.ones((STEPS, 1)), "gradient_log10": np.zeros((STEPS, 1))}
        if shares:
            lists = [None] * STEPS
            lists[3], lists[7] = shares
            metrics[DEAD_UNITS] = pa.array(lists, pa.list_(pa.float32()))
        settings = {"name": "small", "model": {"depth": HIDDEN, "width": 8}, "train": {"batch_size": 2, "steps": STEPS}}
        return judge_lanes(write_run(settings, layers, metrics), [0], [0], HIDDEN)[0].result

    return verdict


def test_units_that_are_off_for_a_small_batch_are_not_dead(judged):
    assert judged([0.1, 0.0, 0.1], [0.2, 0.1, 0.0]).verdict == "healthy"


def test_units_that_are_off_for_all_that_evaluations_look_at_are_dead(judged):
    found = judged([0.0, 0.0, 0.0], [0.1, 1.0, 0.0])
    assert (found.verdict, found.evidence.partition(";")[0]) == ("dead", "every unit of layer 2 is dead")


def test_a_net_that_was_dead_at_the_first_evaluation_is_called_by_how_it_began(judged):
    found = judged([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    assert found.verdict == "dead"
    assert found.evidence.startswith("at step 4, every unit of layers 1-3 is dead")


def test_a_run_from_before_evaluations_looked_is_judged_by_its_batches(judged):
    assert judged().verdict == "dead"


def test_what_evaluations_look_at_is_every_unit_on_the_same_examples():
    width, examples = 16, 40
    configs = [
        Config.model_validate(
            {
                "model": {"width": [width, width], "bias": {"name": "constant", "value": bias}},
                "train": {"batch_size": 1},
            }
        )
        for bias in (-0.3, -0.8)
    ]
    data = vgx.load_config({"data": {"name": "synthetic", "examples": examples, "features": 5}}).data.load()
    program, mesh = Program(shared_config(configs[0]), 5, 10), spread_over(jax.devices()[:1], 2)
    lane, images = make_lanes(configs, (0, 1), 1), to_device(data.train, data)
    state = make_initial_states(program, configs, mesh)(lane, images, 0)
    found = make_examine(program, mesh)(state, lane, images)
    x = np.asarray(encode(images, np.arange(examples), "unit", np.dtype("float32")))
    shares = []
    for i in range(2):
        h, dead = x, []
        kernels = [(stack.kernel[...], stack.bias[...]) for stack in state.model.stacks[:-1]]
        for kernel, bias in kernels:
            for layer in range(kernel.shape[0]):  # an axis of lanes stands behind that of layers
                h = np.maximum(h @ np.asarray(kernel)[layer, i] + np.asarray(bias)[layer, i], 0)
                dead.append(float(np.mean(~(h > 0).any(0))))
        shares.append(dead)
    assert 0 < np.mean(shares) < 1
    np.testing.assert_allclose(found, shares)


def test_in_batches_of_one_a_sound_net_is_healthy_and_one_whose_units_are_off_is_dead(tmp_path):
    base = {
        "name": "one",
        "model": {"depth": 3, "width": 16},
        "train": {
            "batch_size": 1,
            "steps": 12,
            "evaluate_every": 5,
            "optimizer": {"name": "sgd", "learning_rate": 0.001},
        },
        "log": {"every": 4},
    }
    axes = {"model.bias": ["zeros", {"name": "constant", "value": -30.0}]}  # numbers of one program
    run = vgx.sweep(load_sweep(base | {"sweep": {"axes": axes}}), runs=tmp_path)
    assert run.lanes()["verdict"].to_pylist() == ["healthy", "dead"]
    seen = run.dead_units(where=pa.compute.field("lane") >= 0)
    assert seen["step"].to_pylist() == [5, 5, 10, 10, 12, 12]
    assert {len(shares) for shares in seen[DEAD_UNITS].to_pylist()} == {3}
    # The column of the layer table keeps its meaning: of the batch, and so of a single example.
    healthy = run.layers(where=(pa.compute.field("lane") == 0) & (pa.compute.field("layer") <= 3))
    assert np.mean(healthy["dead"].to_numpy()) > 0.3
    # Every part has the column, so that other tools read them as one table.
    assert all(DEAD_UNITS in parquet.read_schema(path).names for path in run.files("metrics"))


def test_large_batches_leave_the_tables_that_they_left(write_run):
    metrics = {"train_loss": np.ones((2, 1))}
    run = write_run({"name": "large", "model": {"depth": 2}}, {"dead": np.zeros((2, 1, 3))}, metrics)
    assert all(DEAD_UNITS not in parquet.read_schema(path).names for path in run.files("metrics"))
    assert run.dead_units(where=pa.compute.field("lane") == 0).num_rows == 0


def test_a_small_batch_does_not_make_a_prediction_of_dead_units():
    model = {"depth": 4, "width": 64}
    for batch in (1, 4, 32):
        config = vgx.load_config({"model": model, "train": {"batch_size": batch}})
        assert predict(config).verdict.word == "healthy"
    off = {"bias": {"name": "constant", "value": -30.0}}
    assert predict(vgx.load_config({"model": model | off, "train": {"batch_size": 1}})).verdict.word == "dead"
