"""How each lane of a run ended, from the run's tables alone."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vgx.run_directory import FINAL, LaneResult, Run
from vgx.verdict import Curves, Verdict, judge

WINDOW = 0.25
"""The last share of the recorded steps, on which a verdict rests."""


def judge_run(run: Run, seeds: tuple[int, ...], hidden: int) -> list[LaneResult]:
    """Returns how each lane of a run with `hidden` layers ended."""
    metrics = run.metrics()
    bad = first_bad_steps(metrics)
    results = []
    for lane, seed in enumerate(seeds):
        rows = metrics.filter(pc.field("lane") == lane)
        diverged = (bad[lane], _first_bad_layer(run, lane, bad[lane])) if lane in bad else None
        verdict = _verdict(run, lane, hidden, diverged)
        results.append(
            LaneResult(
                lane=lane,
                seed=seed,
                status="diverged" if diverged else "done",
                verdict=verdict.word if verdict else None,
                slope=verdict.slope if verdict and math.isfinite(verdict.slope) else None,
                evidence=verdict.evidence if verdict else "no layer was recorded (log.statistics: none)",
                diverged_step=diverged[0] if diverged else None,
                diverged_layer=diverged[1] if diverged else None,
                **{name: _last(rows[name]) for name in FINAL},
            )
        )
    return results


def first_bad_steps(metrics: pa.Table) -> dict[int, int]:
    """Returns, for each lane that diverged, the first step at which its loss or gradient was NaN or infinite."""
    bad = ~np.isfinite(metrics["train_loss"].to_numpy()) | _broken(metrics["gradient_log10"])
    lane, step = metrics["lane"].to_numpy()[bad], metrics["step"].to_numpy()[bad]
    return {int(number): int(step[lane == number].min()) for number in np.unique(lane)}


def _first_bad_layer(run: Run, lane: int, step: int) -> int | None:
    """The layer where it began, if that step was recorded: forward it meets the lowest first, backward the highest."""
    layers = run.layers(where=(pc.field("lane") == lane) & (pc.field("step") == step))
    for column, pick in (("act_rms", 0), ("delta_log10", -1)):
        broken = _broken(layers[column])
        if broken.any():
            return int(layers["layer"].to_numpy()[broken][pick])
    return None


def _broken(column: pa.ChunkedArray) -> np.ndarray:
    """Where a column that was measured is NaN or infinity (minus infinity is the logarithm of an honest 0)."""
    return column.is_valid().to_numpy() & ~(column.to_numpy() < np.inf)


def _last(column: pa.ChunkedArray) -> float | None:
    known = column.drop_null()
    return known[-1].as_py() if len(known) else None


def _verdict(run: Run, lane: int, hidden: int, diverged: tuple[int, int | None] | None) -> Verdict | None:
    """The verdict on a lane: on how it ended if that is not healthy, else on how it began.

    A net that began ill and recovered is still called by how it began: an initializer is chosen by that, and theory
    predicts it.
    """
    of_lane = pc.field("lane") == lane
    steps = np.unique(run.layers(["step"], where=of_lane & (pc.field("layer") == 1))["step"].to_numpy())
    if len(steps) == 0:
        return judge(Curves(np.full(hidden, np.nan)), diverged) if diverged else None

    def between(first: int, last: int) -> Verdict:
        return judge(_curves(run, lane, hidden, int(first), int(last)), diverged)

    end = between(steps[-math.ceil(WINDOW * len(steps))], steps[-1])
    if end.word != "healthy" or len(steps) == 1:
        return end
    start = between(steps[0], steps[0])
    recovered = f"at step {steps[0]}, {start.evidence}; by step {steps[-1]} {end.slope:+.3f} decades per layer"
    return start if start.word == "healthy" else start._replace(evidence=recovered)


def _curves(run: Run, lane: int, hidden: int, first: int, last: int) -> Curves:
    """Each layer's median over the recorded steps from `first` to `last`."""
    of_lane = (pc.field("lane") == lane) & (pc.field("layer") <= hidden)
    window = run.layers(list(Curves._fields), where=of_lane & (pc.field("step") >= first) & (pc.field("step") <= last))

    def curve(name: str) -> np.ndarray | None:
        if window[name].null_count == len(window):
            return None
        values = np.sort(window[name].to_numpy().reshape(-1, hidden), axis=0)
        return values[len(values) // 2]

    delta = curve("delta_log10")
    assert delta is not None
    return Curves(delta, curve("weight_grad_zero"), curve("dead"), curve("saturated"))
