"""Singular values of Jacobians against dense ones in float64, closed forms, and determinants at any depth."""

from __future__ import annotations

import math
import os
import signal
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.compute as pc
import pytest

import vgx
from tests.training.test_probes import BATCH, FEATURES, config_of, examples, net, shaken
from tests.training.test_sharpness import start
from vgx.config.sweep import load_sweep
from vgx.errors import ConfigError, DataError
from vgx.results.spectrum import SPECTRUM, figures_of
from vgx.runner.stopping import Interrupted
from vgx.training.chunks import make_spectra
from vgx.training.lanes import lane_axes, make_initial_states, make_lanes
from vgx.training.model import MLP
from vgx.training.spectrum import identity, log10_singular_values, multiply, spectra, spectra_at

KEPT = 11
"""Decades below the largest singular value that a dense factorization in float64 still has."""


slow = partial(pytest.param, marks=pytest.mark.slow)


def drawn(kind: str, depth: int, n: int, seed: int = 0) -> list[np.ndarray]:
    """Matrices of a product, the first to be applied first."""
    random = np.random.default_rng(seed)
    sizes = [n, *[n - 2, n - 2, n] * depth][: depth + 1] if kind == "uneven" else [n] * (depth + 1)
    found = [random.normal(size=(b, a)) / math.sqrt(a) for a, b in pairwise(sizes)]
    if kind == "orthogonal":
        found = [np.linalg.qr(one)[0] for one in found]
    if kind == "switched off":
        found = [(random.random(n) < 0.95)[:, None] * one for one in found]
    return found


def measured(matrices: list[np.ndarray], dtype: Any) -> np.ndarray:
    product = identity(matrices[0].shape[1], dtype)
    step = jax.jit(lambda product, matrix: multiply(product, lambda rows: rows @ matrix.T))
    for matrix in matrices:
        product = step(product, jnp.asarray(matrix, dtype))
    return np.asarray(jax.jit(log10_singular_values)(product))


def assert_close(log10: np.ndarray, dense: np.ndarray, atol: float) -> None:
    """Of all singular values that the dense factorization has."""
    with np.errstate(divide="ignore"):
        expected = np.log10(np.linalg.svd(dense, compute_uv=False))
    assert log10.shape == expected.shape
    assert np.all(np.diff(log10[np.isfinite(log10)]) <= 0)
    kept = expected > expected[0] - KEPT
    np.testing.assert_allclose(log10[kept], expected[kept], atol=atol)


@pytest.mark.parametrize(("depth", "n"), [(20, 9), slow(5, 13), slow(50, 12)])
@pytest.mark.parametrize("kind", ["gaussian", "uneven", "switched off"])
def test_singular_values_of_a_product_are_those_of_the_dense_one(kind, depth, n, float64):
    matrices = drawn(kind, depth, n)
    dense = np.linalg.multi_dot(matrices[::-1])
    assert_close(measured(matrices, jnp.float64), dense, 1e-5)
    assert_close(measured(matrices, jnp.float32), dense, 1e-3)
    if kind == "switched off":
        rank = np.linalg.matrix_rank(dense, tol=1e-9 * np.linalg.norm(dense, 2)) if depth == 5 else None
        lost = np.isneginf(measured(matrices, jnp.float32)).sum()
        assert lost > 0
        assert rank is None or lost == n - rank


@pytest.mark.parametrize("gain", [1e-3, 1.0, 30.0])
def test_a_product_of_orthogonal_matrices_has_but_one_singular_value(gain):
    depth = 200
    log10 = measured([gain * one for one in drawn("orthogonal", depth, 8)], jnp.float32)
    np.testing.assert_allclose(log10, depth * math.log10(gain), atol=2e-4 * max(1, abs(math.log10(gain))))


def test_at_any_depth_the_logarithms_add_up_to_that_of_the_determinant(float64):
    matrices = [1e-3 * one for one in drawn("gaussian", 400, 16)]
    of_determinant = sum(np.linalg.slogdet(one)[1] for one in matrices) / math.log(10)
    log10 = measured(matrices, jnp.float64)
    assert log10[0] - log10[-1] > 300  # no float holds both
    assert log10.sum() == pytest.approx(of_determinant, abs=1e-9)
    assert measured(matrices, jnp.float32).sum() == pytest.approx(of_determinant, abs=1e-2)


def by_hand(config: vgx.Config, mlp: MLP, x: jax.Array, first: jax.Array | None = None, moments: list = ()) -> tuple:
    """Of one example, as a batch: logits, and what the first and the last hidden layer pass on; or the stream.

    `first` is put in the place of the former; `moments`, of each layer, are those of a batch norm.
    """
    residual, seen = config.model.residual, []
    layers = [
        jax.tree.map(lambda leaf, i=i: leaf[i], s)
        for s, c in zip(mlp.stacks, mlp.counts, strict=True)
        for i in range(c)
    ]
    stream = None
    for i, layer in enumerate(layers[:-1]):
        adds = config.model.branches[i]
        scale = layer.scale[...] if layer.scale is not None else layer.first_scale
        h = x @ layer.kernel[...] + layer.bias[...]
        if residual.name == "pre_activation":
            stream = h = stream + scale * h if adds else h
            if i == 0 and first is not None:
                stream = h = first
        running = moments[i] if moments else None
        z = layer.normalization.evaluate(h, layer._affine, running) if layer.normalization.before else h
        y = layer.activation.evaluate(z, layer._slope)
        y = layer.normalization.evaluate(y, layer._affine, running) if layer.normalization.after else y
        if residual.name == "post_activation" and adds:
            y = x + scale * y
        if i == 0 and first is not None and residual.name != "pre_activation":
            y = first
        x = y
        seen.append(stream if residual.name == "pre_activation" else y)
    return x @ layers[-1].kernel[...] + layers[-1].bias[...], seen[0], seen[-1]


NETS: dict[str, dict[str, Any]] = {
    "tanh": {"depth": 20, "width": 12, "activation": "tanh", "initializer": "orthogonal"},
    "as wide as its input": {"depth": 5, "width": FEATURES, "activation": "elu"},
    "prelu and layer norm": {"width": [7, 9, 9, 6], "activation": "prelu", "normalization": "layer"},
    "rms norm after": {
        "depth": 50,
        "width": 6,
        "activation": "gelu",
        "normalization": {"name": "rms", "placement": "after"},
    },
    "relu": {"depth": 5, "width": 12},
    "post-activation": {
        "width": [9, 9, 9, 6, 6],
        "activation": "tanh",
        "residual": {"name": "post_activation", "scale": {"learned": 0.6}},
    },
    "pre-activation": {
        "width": [9, 9, 9, 6, 6],
        "normalization": "layer",
        "activation": "elu",
        "residual": {"name": "pre_activation", "scale": "depth"},
    },
}


QUICK = ("tanh", "pre-activation")


@pytest.mark.parametrize(
    "model", [pytest.param(NETS[name], id=name) if name in QUICK else slow(NETS[name], id=name) for name in NETS]
)
def test_the_spectra_of_a_net_are_those_of_its_dense_jacobians(model, float64):
    config = config_of(model=model, train={"batch_size": BATCH, "precision": "float64"})
    mlp, x = shaken(net(config)), examples()[0][:1]
    found = jax.jit(spectra_at)(mlp, (None,) * len(mlp.stacks), x[0])
    _, first, _ = by_hand(config, mlp, x)
    of_logits = jax.jit(jax.jacrev(lambda x: by_hand(config, mlp, x)[0]))(x)
    of_hidden = jax.jit(jax.jacrev(lambda first: by_hand(config, mlp, x, first)[2]))(first)
    for log10, dense in ((found.logits, of_logits), (found.hidden, of_hidden)):
        assert_close(np.asarray(log10), np.asarray(dense)[0, :, 0], 1e-6)


def test_a_batch_norm_has_the_moments_of_a_batch_whatever_the_example(float64):
    settings = {
        "data": {"name": "synthetic", "examples": 40, "features": 5, "classes": 3},
        "model": {"width": [6, 7, 7], "activation": "tanh", "normalization": "batch"},
        "train": {"batch_size": 8, "precision": "float64"},
        "log": {"spectrum": {"examples": 2}},
    }
    config = vgx.load_config(settings)
    program, _, state, data = start(config)
    state = jax.tree.map(
        lambda axis, part: jax.tree.map(partial(jnp.take, indices=0, axis=axis), part), lane_axes(program), state
    )
    found = jax.jit(partial(spectra, program))(state, data)
    x = np.asarray(data.images, float) / np.asarray(data.scale)
    h, moments, mlp = jnp.asarray(x[::5]), [], state.model
    for stack, count in zip(mlp.stacks[:-1], mlp.counts, strict=False):
        for i in range(count):
            h = h @ stack.kernel[...][i] + stack.bias[...][i]
            moments.append(type(stack.normalization.initial(1))(h.mean(0), h.var(0) * 8 / 7))  # unbiased
            affine = jax.tree.map(lambda leaf, i=i: leaf[i], stack)._affine
            h = jnp.tanh(stack.normalization.train(h, affine)[0])
    for row, example in enumerate((0, 20)):
        one = jnp.asarray(x[example : example + 1])
        dense = jax.jacrev(lambda x: by_hand(config, mlp, x, moments=moments)[0])(one)
        assert_close(np.asarray(found.logits[row]), np.asarray(dense)[0, :, 0], 1e-9)


@pytest.mark.slow
def test_a_thousand_logistic_layers_lose_nothing(float64):
    """Products of slopes of a quarter: a float64 would hold none of them, and float32 keeps five digits."""
    model = {"depth": 1000, "width": 8, "activation": "logistic"}
    config = config_of(model=model, train={"batch_size": 4})
    mlp, x = net(config), examples()[0][0]
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), mlp)
    run = jax.jit(spectra_at)
    found, exact = (
        run(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), mlp), (None,) * 3, x.astype(jnp.float32)),
        run(wide, (None,) * 3, x),
    )
    assert np.all(np.isfinite(found.hidden))
    assert found.hidden.max() < -500
    np.testing.assert_allclose(found.hidden, exact.hidden, rtol=1e-5)
    np.testing.assert_allclose(found.logits, exact.logits, rtol=1e-5)
    h, of_determinant = x, 0.0
    layers = [
        (s.kernel[...][i], s.bias[...][i]) for s, c in zip(wide.stacks, wide.counts, strict=True) for i in range(c)
    ]
    for i, (kernel, bias) in enumerate(layers[:-1]):
        h = np.asarray(jax.nn.sigmoid(h @ kernel + bias))
        if i:
            of_determinant += np.linalg.slogdet(np.asarray(kernel))[1] + np.log(h * (1 - h)).sum()
    assert exact.hidden.sum() == pytest.approx(of_determinant / math.log(10), abs=1e-6)


def test_figures_are_those_of_the_squares():
    with np.errstate(divide="ignore"):
        log10 = np.log10([[3.0, 2.0, 1.0], [2.0, 2.0, 2.0], [1.0, 1.0, 0.0]])
    square = np.array([9.0, 4.0, 1.0])
    found = figures_of(log10 - 200)
    np.testing.assert_allclose(found.square_log10, np.log10([14 / 3, 4, 2 / 3]) - 400)
    np.testing.assert_allclose(found.spread, [square.var() / square.mean() ** 2, 0, 0.5], atol=1e-12)
    np.testing.assert_allclose(found.isometry_gap[:2], [math.log10(14 / 3) - np.log10(square).mean(), 0], atol=1e-12)
    assert found.isometry_gap[2] == math.inf


SETTINGS: dict[str, Any] = {
    "name": "spectral",
    "data": {"name": "synthetic", "examples": 40, "features": 5, "classes": 3},
    "model": {"width": [6, 6], "activation": "tanh"},
    "train": {"batch_size": 8, "steps": 9, "evaluate_every": 4, "precision": "float64"},
}


def asked(at: Any) -> vgx.Config:
    return vgx.load_config(SETTINGS | {"log": {"spectrum": {"examples": 3, "at": at}}})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return vgx.train(asked([0, 2, 4]), runs=tmp_path_factory.mktemp("runs"))


def steps_of(run: vgx.Run) -> list[int]:
    return sorted(set(run.spectrum()["step"].to_pylist()))


def test_the_table_has_a_row_for_each_singular_value_and_the_metrics_what_they_come_to(run):
    rows = run.spectrum().to_pandas()
    assert steps_of(run) == [0, 2, 4]
    counts = rows.groupby(["step", "example", "map"])["index"].agg(list)
    assert set(counts.index.get_level_values("example")) == {0, 13, 26}
    for (_, _, name), index in counts.items():
        assert index == list(range(1, {"logits": 3, "hidden": 6}[name] + 1))
    metrics = run.metrics().to_pandas().set_index("step")
    assert list(metrics.index[metrics.hidden_spread.notna()]) == [2, 4]
    one = rows[(rows.step == 4) & (rows["map"] == "hidden")]
    each = figures_of(one.log10.to_numpy().reshape(3, 6))
    np.testing.assert_allclose(metrics.loc[4, list(SPECTRUM[3:])].to_numpy(float), [part.mean() for part in each])


@pytest.mark.parametrize(("at", "steps"), [("evaluation", [4, 8, 9]), ("first", [0])])
def test_it_is_measured_when_it_was_asked_for(run, at, steps, tmp_path):
    other = vgx.train(asked(at), runs=tmp_path)
    assert steps_of(other) == steps
    both = pc.field("step").isin(sorted(set(steps) & {0, 2, 4}))
    assert run.spectrum(where=both).equals(other.spectrum(where=both))


def test_measuring_it_changes_nothing_and_who_does_not_ask_has_no_table_of_it(run, tmp_path):
    plain = vgx.train(vgx.load_config(SETTINGS), runs=tmp_path)
    for table in ("metrics", "layers"):
        ours, theirs = getattr(run, table)(), getattr(plain, table)()
        names = [name for name in ours.column_names if name not in SPECTRUM]
        assert ours.select(names).equals(theirs.select(names))
    assert not (plain.path / "spectrum").exists()
    assert not len(plain.spectrum())
    assert "spectrum" not in vgx.load_config({"name": "net"}).to_yaml()


@pytest.mark.parametrize("cut", [1, 3])
def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(run, tmp_path, cut):
    def watch(progress: Any) -> None:
        if progress.step >= cut:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        vgx.train(asked([0, 2, 4]), runs=tmp_path, watch=watch)
    resumed = vgx.train(asked([0, 2, 4]), runs=tmp_path, resume=True)
    assert resumed.metrics().equals(run.metrics())
    assert resumed.spectrum().equals(run.spectrum())


def test_lanes_have_each_their_own(run, tmp_path):
    settings = SETTINGS | {"log": {"spectrum": {"examples": 3, "at": [0, 4]}}}
    axes = {"model.initializer": ["he_normal", "orthogonal"]}
    sweep = vgx.sweep(load_sweep(settings | {"sweep": {"axes": axes}}), runs=tmp_path)
    rows, alone = sweep.spectrum().to_pandas(), run.spectrum().to_pandas().query("step in (0, 4)")
    assert sweep.meta["programs"] == 1
    np.testing.assert_allclose(rows[rows.lane == 0].log10, alone.log10, atol=1e-9)
    first = rows[(rows.lane == 1) & (rows.step == 0) & (rows["map"] == "hidden")]
    assert np.abs(first.log10).max() < 1  # orthogonal: slopes alone make them differ


@pytest.mark.slow
def test_lanes_that_are_mapped_find_what_each_finds_alone(float64):
    mapped = asked("first")
    program, mesh, _, data = start(mapped)
    state = make_initial_states(program, [mapped] * 2, mesh)(make_lanes([mapped] * 2, [0, 1], 1), data, 0)
    together = jax.jit(jax.vmap(partial(spectra, program), (lane_axes(program), None)))(state, data)
    for ours, theirs in zip(together, make_spectra(program, mesh)(state, data), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_what_cannot_be_measured_is_refused(tmp_path):
    for at, reason in (
        ("often", "at: "),
        ([3, 3], "step 3 is listed twice"),
        ([-1], "at"),
        ([10], "the run has 9 steps"),
    ):
        with pytest.raises(ConfigError, match=reason):
            asked(at)
    epochs = SETTINGS | {"train": {"batch_size": 8, "epochs": 1}, "log": {"spectrum": {"at": [99]}}}
    with pytest.raises(DataError, match="the run has 5 steps"):
        vgx.train(vgx.load_config(epochs), runs=tmp_path)
    wide = SETTINGS | {"model": {"width": [200_000, 200_000]}, "log": {"spectrum": {}}}
    with pytest.raises(ConfigError, match=r"log\.spectrum: the Jacobians of this net take about 3\.8 TB"):
        vgx.train(vgx.load_config(wide), runs=tmp_path)
    swept = {"sweep": {"axes": {"model.activation": ["relu", "tanh"]}}}
    with pytest.raises(ConfigError, match=r"log\.spectrum: the Jacobians of this net take about 3\.8 TB"):
        vgx.sweep(vgx.load_sweep(wide | swept), runs=tmp_path)
    assert not list(tmp_path.iterdir())
