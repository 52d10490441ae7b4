"""The sharpness against the largest eigenvalue of a Hessian that is written out, in float64."""

from __future__ import annotations

import io
import os
import signal
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pyarrow import parquet

import vgx
from vgx.config.sweep import load_sweep
from vgx.errors import ConfigError
from vgx.results.columns import SHARPNESS
from vgx.runner.stopping import Interrupted
from vgx.training.chunks import make_sharpness
from vgx.training.inputs import to_device
from vgx.training.lanes import lane_axes, make_initial_states, make_lanes, spread_over
from vgx.training.program import Program, shared_config
from vgx.training.sharpness import MOST, largest_eigenvalue, sharpness

EXAMPLES, RATE = 20, 0.05
SETTINGS: dict[str, Any] = {
    "name": "sharp",
    "data": {"name": "synthetic", "examples": 40, "features": 5, "classes": 3},
    "model": {"width": [6, 6], "activation": "tanh", "bias": {"name": "normal", "std": 0.3}},
    "train": {
        "batch_size": 8,
        "steps": 9,
        "evaluate_every": 4,
        "precision": "float64",
        "optimizer": {"name": "sgd", "learning_rate": RATE, "schedule": {"name": "cosine"}},
    },
    "log": {"sharpness": {"examples": EXAMPLES}},
}


def config_of(loss: str = "cross_entropy", **model: Any) -> vgx.Config:
    return vgx.load_config(SETTINGS | {"model": SETTINGS["model"] | model, "train": SETTINGS["train"] | {"loss": loss}})


def start(config: vgx.Config) -> tuple[Program, Any, Any, Any]:
    """The program of one lane, its mesh, its initial state, and the data on the device."""
    dataset = config.data.load()
    program = Program(shared_config(config), dataset.train.images.shape[1], dataset.classes)
    mesh = spread_over(jax.devices()[:1], 1)
    data = to_device(dataset.train, dataset)
    return program, mesh, make_initial_states(program, [config], mesh)(make_lanes([config], [0], 1), data, 0), data


def written_out(config: vgx.Config, state: Any, data: Any, slope: float | None = None) -> float:
    """The largest eigenvalue of the whole Hessian; `slope` is that of a leaky activation, in place of tanh."""
    total = data.labels.shape[0]
    index = [i * total // EXAMPLES for i in range(EXAMPLES)]  # evenly spread
    x, labels = np.asarray(data.images)[index] / np.asarray(data.scale), np.asarray(data.labels)[index]
    stacks, normalized = state.model.stacks, config.model.normalization.name == "batch"
    parameters = []
    for stack in stacks:  # behind the axis of layers stands that of lanes
        for i in range(stack.kernel.shape[0]):
            layer = [np.asarray(stack.kernel[...])[i, 0], np.asarray(stack.bias[...])[i, 0]]
            if stack.affine is not None:
                layer += [np.asarray(one[...])[i, 0] for one in stack.affine]
            parameters.append(layer)
    flat, unravel = jax.flatten_util.ravel_pytree(parameters)

    def loss(flat: jax.Array) -> jax.Array:
        h, layers = jnp.asarray(x, jnp.float64), unravel(flat)
        for layer in layers[:-1]:
            h = h @ layer[0] + layer[1]
            if normalized:
                h = layer[2] * (h - h.mean(0)) / jnp.sqrt(h.var(0) + config.model.normalization.epsilon) + layer[3]
            h = jnp.tanh(h) if slope is None else jnp.where(h > 0, h, slope * h)
        logits = h @ layers[-1][0] + layers[-1][1]
        if config.train.loss == "mse":
            return jnp.square(logits - jnp.eye(3)[labels]).sum() / 2 / EXAMPLES
        return -jax.nn.log_softmax(logits)[np.arange(EXAMPLES), labels].mean()

    return float(np.linalg.eigvalsh(np.asarray(jax.hessian(loss)(flat)))[-1])


@pytest.mark.parametrize(
    ("loss", "normalization"),
    [
        ("cross_entropy", "batch"),
        ("mse", "none"),
        pytest.param("cross_entropy", "none", marks=pytest.mark.slow),
        pytest.param("mse", "batch", marks=pytest.mark.slow),
    ],
)
def test_it_is_the_largest_eigenvalue_of_the_hessian(loss, normalization, float64):
    config = config_of(loss, normalization=normalization)
    program, mesh, state, data = start(config)
    found = make_sharpness(program, mesh)(state, data)
    assert found.shape == (1,)
    assert float(found[0]) == pytest.approx(written_out(config, state, data), rel=0.01)


def test_nothing_is_dropped_and_random_slopes_are_at_their_mean(float64):
    config = config_of(dropout=0.4, activation={"name": "rrelu", "lower": 0.1, "upper": 0.3})
    program, mesh, state, data = start(config)
    found = float(make_sharpness(program, mesh)(state, data)[0])
    assert found == pytest.approx(written_out(config, state, data, slope=0.2), rel=0.01)


@pytest.mark.parametrize("residual", ["pre_activation", "post_activation"])
def test_nothing_is_dropped_where_layers_add_to_a_stream(residual, float64):
    def found(dropout: float) -> float:
        program, mesh, state, data = start(config_of(residual=residual, width=[5] * 3, dropout=dropout))
        return float(make_sharpness(program, mesh)(state, data)[0])

    assert found(0.4) == pytest.approx(found(0.0), rel=1e-9)


@pytest.mark.parametrize(
    "values",
    [np.linspace(-9, 1, 200), np.array([3.0, -1.0]), -np.arange(1.0, 60), np.zeros(5), np.geomspace(1e-9, 7, 300)],
)
def test_it_is_the_largest_and_not_the_one_of_largest_size(values, float64):
    random = np.random.default_rng(0)
    turned, _ = np.linalg.qr(random.normal(size=(len(values),) * 2))
    matrix, products = (turned * values) @ turned.T, []

    def product(v: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: products.append(1))
        return jnp.asarray(matrix) @ v

    found = float(largest_eigenvalue(product, jnp.asarray(random.normal(size=len(values)))))
    jax.effects_barrier()
    assert found == pytest.approx(values.max(), rel=0.01, abs=1e-12)
    assert len(products) <= min(MOST, len(values))


def test_a_matrix_that_is_not_finite_has_none():
    assert np.isnan(largest_eigenvalue(lambda v: v * jnp.nan, jnp.ones(4)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return vgx.train(config_of(), runs=tmp_path_factory.mktemp("runs"))


def test_evaluations_measure_it_and_its_share_of_two_over_the_learning_rate(run):
    rows = {row["step"]: row for row in run.metrics().to_pylist()}
    assert [step for step, row in rows.items() if row["sharpness"] is not None] == [4, 8, 9]
    for step in (4, 8):
        rate = RATE * (1 + np.cos(np.pi * (step - 1) / 9)) / 2  # of the step that has just been done
        assert rows[step]["learning_rate"] == pytest.approx(rate)
        assert rows[step]["stability"] == pytest.approx(rate * rows[step]["sharpness"] / 2)
    assert all(set(SHARPNESS) <= set(parquet.read_schema(path).names) for path in run.files("metrics"))


def test_measuring_it_changes_nothing_and_who_does_not_ask_has_no_columns_of_it(run, tmp_path):
    plain = vgx.train(vgx.load_config(SETTINGS | {"log": {}}), runs=tmp_path)
    for table in ("metrics", "layers"):
        ours, theirs = getattr(run, table)(), getattr(plain, table)()
        names = [name for name in ours.column_names if name not in SHARPNESS]
        assert ours.select(names).equals(theirs.select(names))
    assert not any(set(SHARPNESS) & set(parquet.read_schema(path).names) for path in plain.files("metrics"))
    assert plain.path.name != run.path.name
    assert "sharpness" not in vgx.load_config({"name": "net"}).to_yaml()


def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(run, tmp_path):
    def watch(progress: Any) -> None:
        if progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        vgx.train(config_of(), runs=tmp_path, watch=watch)
    resumed = vgx.train(config_of(), runs=tmp_path, resume=True)
    assert resumed.metrics().equals(run.metrics())


def test_lanes_have_each_their_own(run, tmp_path):
    axes = {"train.optimizer.learning_rate": [RATE, 0.3], "model.initializer": ["he_normal", "lecun_normal"]}
    sweep = vgx.sweep(load_sweep(SETTINGS | {"sweep": {"axes": axes}}), runs=tmp_path)
    of_lane = {lane: [] for lane in range(4)}
    for row in sweep.metrics().to_pylist():
        of_lane[row["lane"]] += [] if row["sharpness"] is None else [row["sharpness"]]
    alone = [row["sharpness"] for row in run.metrics().to_pylist() if row["sharpness"] is not None]
    assert sweep.meta["programs"] == 1
    # float64; a batched product may add in another order, and Lanczos stops at 1 %.
    assert of_lane[0] == pytest.approx(alone, rel=1e-6)
    assert len({values[-1] for values in of_lane.values()}) == 4


def test_it_is_shown(run, tmp_path):
    from rich.console import Console

    from vgx.report.html.write import write_report
    from vgx.report.terminal.run import show

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(show(run))
    last = run.metrics().to_pylist()[-1]
    line = next(line for line in console.export_text().splitlines() if line.startswith("sharpness "))
    assert line.endswith(f"learning rate x sharpness / 2 {last['stability']:.2f}")
    page = write_report(run, tmp_path / "page.html")[0].read_text()
    assert 'id="chart-sharpness"' in page
    assert 'id="chart-stability"' in page


@pytest.mark.slow
def test_lanes_that_are_mapped_find_what_each_finds_alone(float64):
    config = config_of(normalization="batch")
    program, mesh, _, data = start(config)
    state = make_initial_states(program, [config] * 3, mesh)(make_lanes([config] * 3, [0, 1, 2], 1), data, 0)
    together = jax.jit(jax.vmap(partial(sharpness, program), (lane_axes(program), None)))(state, data)
    alone = make_sharpness(program, mesh)(state, data)  # on a CPU one after the other
    assert len(set(np.asarray(alone).round(6))) == 3
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_what_cannot_be_measured_is_refused():
    settings = {"model": {"normalization": "batch"}, "log": {"sharpness": {"examples": 1}}}
    with pytest.raises(ConfigError, match=r"log\.sharpness\.examples: batch norm needs at least 2"):
        vgx.load_config(settings)
    with pytest.raises(ConfigError, match="expected a mapping of keys to values, found true"):
        vgx.load_config({"log": {"sharpness": True}})


def test_devices_that_share_a_net_find_what_one_finds(run, tmp_path):
    two = vgx.train(config_of(), runs=tmp_path, devices_per_run=2)
    ours, theirs = ([row["sharpness"] for row in one.metrics().to_pylist() if row["sharpness"]] for one in (run, two))
    assert theirs == pytest.approx(ours, rel=1e-6)  # sums in another order, in float64
