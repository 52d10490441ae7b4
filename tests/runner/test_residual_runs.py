"""Runs of nets with skip connections: their tables, as lanes of a sweep, stopped and resumed, on two devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

import vgx
from vgx.config.sweep import load_sweep
from vgx.results.columns import OF_STREAMS

BASE: dict[str, Any] = {
    "name": "skips",
    "data": {"name": "digits"},
    "model": {"depth": 4, "width": 12, "activation": "prelu"},
    "train": {"steps": 12, "batch_size": 32, "evaluate_every": 6, "precision": "float64"},
    "log": {"every": 3, "statistics": "full"},
}
KINDS = ["none", "pre_activation", {"name": "post_activation", "scale": {"learned": 0.5}}]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    sweep = load_sweep(BASE | {"sweep": {"axes": {"model.residual": KINDS}}})
    return sweep, vgx.sweep(sweep, runs=tmp_path_factory.mktemp("runs"))


def test_a_lane_of_each_kind_has_the_table_that_it_has_alone(run, tmp_path):
    sweep, together = run
    for lane, cell in enumerate(sweep.cells):
        alone = vgx.train(cell.config, runs=tmp_path)
        ours, theirs = together.layers(where=pc.field("lane") == lane), alone.layers()
        for name in set(ours.column_names) - {"lane"}:
            assert ours[name].is_null().equals(theirs[name].is_null()), name
            a, b = (table[name].drop_null().to_numpy() for table in (ours, theirs))
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=name)
        assert alone.lanes()["verdict"].to_pylist() == [together.lanes()["verdict"][lane].as_py()]


def test_null_is_what_has_no_stream_or_no_branch(run):
    _, together = run
    layers = together.layers()
    lane, layer = (layers[name].to_numpy() for name in ("lane", "layer"))
    stream, branch = (layers[name].is_valid().to_numpy() for name in OF_STREAMS)
    assert np.array_equal(stream, (lane > 0) & (layer <= 4))
    assert np.array_equal(branch, (lane > 0) & (layer > 1) & (layer <= 4))
    first = layers.filter((pc.field("lane") > 0) & (pc.field("layer") == 1))
    assert first["stream_grad_log10"].equals(first["delta_log10"])


def test_a_net_without_skips_has_no_such_columns_on_disk(tmp_path):
    plain = vgx.train(vgx.load_config(BASE), runs=tmp_path)
    assert not set(OF_STREAMS) & set(parquet.read_schema(plain.files("layers")[0]).names)


def test_theory_is_told_of_a_stream_that_a_branch_is_as_large_as(run):
    """With a scale of 1 under pre_activation both have the same gradient, and both are told of."""
    of_lane = (pc.field("lane") == 1) & (pc.field("statistic") == "stream_grad_log10")
    assert len(run[1].prediction(where=of_lane)) == 5
    assert len(run[1].prediction(where=(pc.field("lane") == 0) & (pc.field("statistic") == "stream_grad_log10"))) == 0


def test_theory_is_told_of_the_stream_and_holds(tmp_path):
    model = {"depth": 12, "width": 128, "residual": {"name": "pre_activation", "scale": "depth"}}
    config = vgx.load_config(BASE | {"model": model, "train": BASE["train"] | {"steps": 1}})
    skipping = vgx.train(config, runs=tmp_path)
    rows = skipping.prediction(where=pc.field("statistic") == "stream_grad_log10")
    off = (rows["measured"].to_numpy() - rows["predicted"].to_numpy())[:-1]
    assert len(off) == 12
    assert np.all(np.abs(off) < 0.1)
