"""How each lane of a run ended, from the run's tables alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vgx.results.columns import DEAD_UNITS, FINAL
from vgx.results.curves import curves_of, rows_by_lane
from vgx.results.layer_names import chains_of
from vgx.results.nonfinite import BACKWARD, FORWARD, broken, first_not_finite, place_in
from vgx.results.schemas import LaneResult
from vgx.results.store import Run
from vgx.results.verdict import Fit, LayerCurves, Places, Verdict, divergence_in_words, judge, slope_of

WINDOW = 0.25
"""The last share of the recorded steps, on which a verdict rests."""
LEAST_STEPS = 3
"""Recorded steps on which it rests at the least, where there are as many: of fewer, a single one could decide."""
MAX_ROWS = 4_000_000
"""Rows of the layer table that are looked at in one go."""


class LayerFigures(NamedTuple):
    """What may be expected of a lane's hidden layers besides its row in the lane table; None where not measured."""

    dead: float | None = None
    """The mean share of dead units, at the last recorded step."""
    saturated: float | None = None
    """The share of saturated entries of the median layer, there."""
    zeros: float | None = None
    """The largest share of a layer's weights whose gradient is 0 for the optimizer, there."""
    first_slope: float | None = None
    """At the first recorded step: what theory predicts."""


class JudgedLane(NamedTuple):
    """What is known of a lane when it has ended, from one reading of its tables."""

    result: LaneResult
    figures: LayerFigures


def judge_lanes(run: Run, lanes: Sequence[int], seeds: Sequence[int], hidden: int) -> list[JudgedLane]:
    """Returns how these lanes of a run with `hidden` layers ended, and notes the seed of each.

    Of a watched run `hidden` is one less than its layers: the last one's gradient is where a verdict begins.
    """
    bad, finals = _ends(run, lanes)
    noted = first_not_finite(run) if run.is_watched else None
    if run.is_watched:  # a loop may leave out a step that is not finite, and go on
        bad = {lane: noted.step for lane in lanes if noted and not noted.recovered}
    examined, paths = _examined(run, lanes), run.paths
    nothing = "no layer was recorded (log.statistics: none)" if not run.is_watched else "no gradient was recorded"
    results = []
    for lane, seed, read in zip(lanes, seeds, _layers_of(run, lanes, hidden, bad), strict=True):
        layer = noted.layer if noted else (place_in(read.at_bad) or (None, None))[1]
        diverged = (bad[lane], layer) if lane in bad else None
        verdict = _verdict(read, hidden, diverged, examined.get(lane), finals[lane].get("train_accuracy"), paths)
        result = LaneResult(
            lane=lane,
            seed=seed,
            status="diverged" if diverged else "done",
            verdict=verdict.word if verdict else None,
            slope=verdict.slope if verdict and math.isfinite(verdict.slope) else None,
            evidence=verdict.evidence if verdict else nothing,
            diverged_step=diverged[0] if diverged else None,
            diverged_layer=diverged[1] if diverged else None,
            **{name: finals[lane].get(name) for name in FINAL},
        )
        results.append(JudgedLane(result, _figures(read.layers, hidden)))
    return results


def layer_figures(run: Run, lanes: Sequence[int], hidden: int) -> dict[int, LayerFigures]:
    """Returns, for lanes that were judged before, what else may be expected of their `hidden` layers."""
    read = zip(lanes, _layers_of(run, lanes, hidden, {}), strict=True)
    return {lane: _figures(rows.layers, hidden) for lane, rows in read}


def _figures(layers: pa.Table, hidden: int) -> LayerFigures:
    """Of one lane's layers at the first recorded step and at the last ones; of a single one, no hidden ones."""
    if not len(layers) or not hidden:
        return LayerFigures()

    def over(summary: Callable[[np.ndarray], Any], rows: pa.Table, name: str) -> float | None:
        return None if rows[name].null_count else float(summary(rows[name].to_numpy()[:-1]))

    first, last = layers.slice(0, hidden + 1), layers.slice(len(layers) - hidden - 1)
    return LayerFigures(
        dead=over(np.mean, last, "dead"),
        saturated=over(np.median, last, "saturated"),
        zeros=over(np.max, last, "weight_grad_zero"),
        first_slope=float(slope_of(gradients_of(first)[0, :-1])) if not first["delta_log10"].null_count else None,
    )


def _ends(run: Run, lanes: Sequence[int]) -> tuple[dict[int, int], dict[int, dict[str, float]]]:
    """Each lane's first bad step, if any, and the last figures that were measured; a part of the table at a time."""
    bad: dict[int, int] = {}
    finals: dict[int, dict[str, float]] = {lane: {} for lane in lanes}
    columns = ["lane", "step", "gradient_log10", *FINAL]
    for part in run.batches("metrics", columns, where=pc.field("lane").isin(list(lanes))):
        for lane, step in first_bad_steps(part).items():
            bad.setdefault(lane, step)
        for name in FINAL:
            known = part.filter(pc.field(name).is_valid())
            # In order of step, so that the last one stands.
            _, from_end = np.unique(known["lane"].to_numpy()[::-1], return_index=True)
            for row in known.select(["lane", name]).take(len(known) - 1 - from_end).to_pylist():
                finals[row["lane"]][name] = row[name]
    return bad, finals


class _Examined(NamedTuple):
    """What evaluations saw of a lane's dead units, where its batches were too small to tell."""

    steps: np.ndarray
    """[E]"""
    dead: np.ndarray
    """[E, L]"""


def _examined(run: Run, lanes: Sequence[int]) -> dict[int, _Examined]:
    table = run.dead_units(where=pc.field("lane").isin(list(lanes)))
    found = {}
    for lane, rows in rows_by_lane(table).items():
        mine = table.take(rows)
        shares = mine[DEAD_UNITS].combine_chunks().flatten().to_numpy()
        found[lane] = _Examined(mine["step"].to_numpy(), shares.reshape(len(mine), -1))
    return found


def first_bad_steps(metrics: pa.Table) -> dict[int, int]:
    """Returns, for each lane that diverged, the first step at which its loss or gradient was NaN or infinite."""
    loss = metrics["train_loss"]
    bad = loss.is_valid().to_numpy() & ~np.isfinite(loss.to_numpy()) | broken(metrics["gradient_log10"])
    lane, step = metrics["lane"].to_numpy()[bad], metrics["step"].to_numpy()[bad]
    return {int(number): int(step[lane == number].min()) for number in np.unique(lane)}


class _Layers(NamedTuple):
    """What a verdict on a lane rests on: all its layers, at some steps."""

    layers: pa.Table
    """At the first recorded step, and at the last WINDOW of them."""
    before_bad: pa.Table
    """At the last recorded step before its bad one, or at the first recorded one if that is bad; else empty."""
    at_bad: pa.Table
    """At its bad step, if that was recorded."""


def _layers_of(run: Run, lanes: Sequence[int], hidden: int, bad: Mapping[int, int]) -> Iterator[_Layers]:
    """Yields what a verdict on each lane rests on. Read for many lanes at a time."""
    columns = list(dict.fromkeys(["lane", "step", "layer", *FORWARD, *BACKWARD, *LayerCurves._fields]))
    lane, step, layer = (pc.field(name) for name in ("lane", "step", "layer"))
    recorded = run.layers(["lane", "step"], where=lane.isin(list(lanes)) & (layer == 1))
    steps = {one: recorded["step"].to_numpy()[rows] for one, rows in rows_by_lane(recorded).items()}
    since = {one: x[len(x) - _window(len(x))] for one, x in steps.items()}
    before = {one: int(x[max(int(np.sum(x < bad[one])) - 1, 0)]) for one, x in steps.items() if one in bad}
    longest = _window(max(map(len, steps.values()), default=0))
    together = max(1, MAX_ROWS // max(1, longest * (hidden + 1)))
    for start in range(0, len(lanes), together):
        some = list(lanes[start : start + together])
        apart = {int(steps[one][0]) for one in some if one in steps}
        apart |= {x[one] for x in (bad, before) for one in some if one in x}
        late = min((int(since[one]) for one in some if one in since), default=0)
        wanted = (step >= late) | step.isin(sorted(apart))
        table = run.layers(columns, where=lane.isin(some) & wanted)
        rows = rows_by_lane(table)
        for one in some:
            mine = table.take(rows[one]) if one in rows else table.slice(0, 0)
            at = mine["step"].to_numpy()
            kept = (at >= since[one]) | (at == steps[one][0]) if one in steps else at >= 0
            yield _Layers(
                mine.filter(pa.array(kept)),
                mine.filter(step == before.get(one, -1)),
                mine.filter(step == bad.get(one, -1)),
            )


def _window(recorded: int) -> int:
    """How many of the recorded steps are the last ones, on which a verdict rests."""
    return min(recorded, max(math.ceil(WINDOW * recorded), LEAST_STEPS))


def _verdict(
    read: _Layers,
    hidden: int,
    diverged: tuple[int, int | None] | None,
    examined: _Examined | None,
    train_accuracy: float | None,
    paths: Sequence[str] = (),
) -> Verdict | None:
    """The verdict on a lane: on how it ended if that is not healthy, else on how it began.

    A net that began ill and recovered is still called by how it began: an initializer is chosen by that, and theory
    predicts it. Of dead units in small batches only evaluations tell: the first of them how it began. A net whose
    gradient explodes from the first step on, and then becomes NaN or infinite, explodes.
    """
    layers, say = read.layers, partial(judge, paths=paths)
    steps = layers["step"].to_numpy()[:: hidden + 1]
    if len(steps) == 0:
        return judge(LayerCurves(np.full(max(hidden, 1), np.nan)), diverged) if diverged else None
    judged = slice(None) if paths else slice(-1)
    curves = {
        name: None if layers[name].null_count == len(layers) else curves_of(layers, name).values[:, judged]
        for name in LayerCurves._fields
    }
    gradient = gradients_of(layers)
    if paths and curves["delta_log10"] is None:
        if curves["weight_grad_log10"] is None:
            return judge(LayerCurves(np.full(len(paths), np.nan)), diverged, paths=paths) if diverged else None
        gradient, say = curves_of(layers, "weight_grad_log10").values, partial(_by_weights, paths)
    curves["delta_log10"] = gradient[:, judged]

    def over(window: slice, evaluations: slice, fit: Fit | None = None) -> Verdict:
        """On each layer's median over these recorded steps, and these evaluations."""
        medians: Any = {name: None if x is None else _median(x[window]) for name, x in curves.items()}
        if examined:
            medians["dead"] = _median(examined.dead[evaluations])
        return say(LayerCurves(**medians), diverged, fit)

    if diverged:
        before = gradients_of(read.before_bad)[:, judged]
        began = say(LayerCurves(gradient[0, judged]))
        if began.word == "exploding" and len(before) and say(LayerCurves(before[-1])).word == "exploding":
            where = divergence_in_words(*diverged, Places(tuple(paths)))
            return began._replace(evidence=f"{began.evidence}; then {where}")
    first = 1 if len(steps) > 1 else 0  # the first recorded step is further back than WINDOW
    late = int(np.sum(examined.steps >= steps[first])) if examined else 0
    fit = None if train_accuracy is None else Fit(train_accuracy, float(_median(gradient[first:, -1:])[0]))
    end = over(slice(first, None), slice(-max(late, 1), None), fit)
    if end.word != "healthy" or len(steps) == 1:
        return end
    start = over(slice(0, 1), slice(0, 1))
    if start.word == "healthy":
        fitted = fit is not None and fit.perfect
        return start._replace(evidence=f"{end.evidence}; at step {steps[0]}, {start.evidence}") if fitted else start
    begun = examined.steps[0] if examined and start.word == "dead" else steps[0]
    unit = "block" if chains_of(paths) else "layer"
    now = f"it {end.evidence}" if math.isnan(end.slope) else f"{end.slope:+.3f} decades per {unit}"
    return start._replace(evidence=f"at step {begun}, {start.evidence}; by step {steps[-1]} {now}")


def _by_weights(paths: Sequence[str], *figures: Any) -> Verdict:
    """A verdict on a watched run whose loop logged no gradients but those of the weights."""
    verdict = judge(*figures, paths=paths)
    return verdict._replace(evidence=f"by the weights' gradients, {verdict.evidence}")


def gradients_of(layers: pa.Table) -> np.ndarray:
    """Returns the gradient that a verdict rests on, of rows of one lane: [T, L + 1], the readout's last.

    In a net with skip connections that is the stream's, since a branch has only a part of it.
    """
    delta = curves_of(layers, "delta_log10").values
    if layers["stream_grad_log10"].null_count == len(layers):
        return delta
    return np.concatenate([curves_of(layers, "stream_grad_log10").hidden, delta[:, -1:]], 1)


def _median(curves: np.ndarray) -> np.ndarray:
    """The middle one over steps of [T, L]; the upper of two."""
    return np.sort(curves, axis=0)[len(curves) // 2]
