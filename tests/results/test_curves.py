"""A column of the layer table as arrays over steps and layers."""

from __future__ import annotations

import numpy as np
import pytest

from vgx.results.curves import evenly

STEPS = np.array([1, 3, 9])


def test_curves_are_what_was_written(write_run):
    written = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)
    settings = {"name": "curves", "model": {"depth": 4, "width": 8}}
    run = write_run(settings, {"delta_log10": written}, {"train_loss": np.ones((3, 2))}, STEPS)
    every = run.curves("delta_log10")
    assert list(every) == [0, 1]
    for lane, curves in every.items():
        np.testing.assert_array_equal(curves.steps, STEPS)
        np.testing.assert_array_equal(curves.values, written[:, lane])
        np.testing.assert_array_equal(curves.hidden, written[:, lane, :-1])
    some = run.curves("delta_log10", [1], steps=[3, 9])
    assert list(some) == [1]
    np.testing.assert_array_equal(some[1].values, written[1:, 1])
    assert run.curves("act_rms") == {}  # not measured
    assert run.curves("delta_log10", [7]) == {}
    np.testing.assert_array_equal(run.recorded_steps([1]), STEPS)


@pytest.mark.parametrize(
    ("count", "most", "picked"), [(5, 8, [0, 1, 2, 3, 4]), (100, 4, [0, 33, 66, 99]), (100, 1, [0])]
)
def test_what_is_picked_evenly_has_both_ends(count, most, picked):
    assert evenly(np.arange(count), most).tolist() == picked
