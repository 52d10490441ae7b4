"""Statistics that a claim can name: one number for each lane, read from a run's tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from vgx.registry import Part, Registry
from vgx.results.columns import LAYERS
from vgx.results.curves import Curves, rows_by_lane
from vgx.results.spectrum import FIGURES, MAPS, figures_of
from vgx.results.store import Run
from vgx.results.verdict import slope_of

Split = Literal["train", "validation", "test"]
if TYPE_CHECKING:
    from vgx.theory.predict import Prediction

    ColumnName = FigureName = MapName = str
else:
    ColumnName, FigureName, MapName = Literal[tuple(LAYERS)], Literal[tuple(FIGURES)], Literal[tuple(MAPS)]
PREDICTED = ("delta_log10", "act_rms", "preact_std", "cosine")
"""Columns of the layer table that theory predicts."""
PREDICTED_FIGURES = ("square_log10", "spread")
"""Figures of singular values that it predicts."""


class LaneOutcome(NamedTuple):
    """A lane as a statistic sees it."""

    lane: int
    diverged: bool


class Metric(Part):
    """A number for each lane of a run."""

    less_is_better: ClassVar[bool] = False
    """Whether a choice by this statistic takes the smallest."""

    @property
    def limits(self) -> tuple[float, float] | None:
        """Between which the numbers must lie; None where they may be anything."""
        return None

    def read(self, run: Run, lanes: Sequence[LaneOutcome]) -> np.ndarray:
        """Returns the number of each lane: [R], float64; NaN where it was not measured."""
        raise NotImplementedError

    def beyond(self, run: Run, lanes: Sequence[LaneOutcome]) -> np.ndarray:
        """Returns for each lane whether its number is a bound, the true one being larger: [R], bool."""
        return np.zeros(len(lanes), bool)

    @property
    def is_predicted(self) -> bool:
        """Whether theory predicts it."""
        return False

    def predicted(self, prediction: Prediction) -> float:
        """Returns what theory predicts; NaN for layers that there are not."""
        raise NotImplementedError


STATISTICS: Registry[Metric] = Registry("statistic")


@STATISTICS.register("accuracy")
class Accuracy(Metric):
    """The share of examples that a lane gets right; 0 for one that diverged.

    As vgx's metrics table has it.
    """

    formula = "accuracy on a split, after an epoch or at the end"

    split: Split = "test"
    """Whose examples; `train` is the last batch."""
    epoch: Annotated[float, Field(gt=0)] | None = None
    """How many epochs are looked at; all by default."""
    which: Literal["last", "best", "worst"] = "last"
    """Which of the evaluations."""

    @property
    def limits(self) -> tuple[float, float]:
        return 0.0, 1.0

    def read(self, run: Run, lanes: Sequence[LaneOutcome]) -> np.ndarray:
        column = f"{self.split}_accuracy"
        rows = _measured(run, lanes, ["epoch", column])
        return np.array([self._of_lane(rows[lane.lane], column, lane.diverged) for lane in lanes])

    def _of_lane(self, rows: dict[str, np.ndarray], column: str, diverged: bool) -> float:
        epochs, accuracy = rows["epoch"], rows[column]
        if self.epoch is not None:
            accuracy = accuracy[epochs <= self.epoch + 1e-6]
        if diverged:
            accuracy = np.append(accuracy, 0.0)
        elif not len(accuracy) or epochs[-1] < (self.epoch or 0) - 1e-6:
            return math.nan
        return float({"last": accuracy[-1], "best": accuracy.max(), "worst": accuracy.min()}[self.which])


@STATISTICS.register("steps_to")
class StepsTo(Metric):
    """The steps until an evaluation first reaches an accuracy; where none does, the length of the run, as a bound.

    As vgx's metrics table has it; known to `train.evaluate_every` steps.
    """

    formula = "min {step: accuracy >= limit}"
    less_is_better = True

    accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    """The accuracy to reach; none where a check says `as_accurate_as` what."""
    split: Split = "test"
    """Whose examples."""

    def read(self, run: Run, lanes: Sequence[LaneOutcome]) -> np.ndarray:
        return self.reached(run, lanes, self._limits(lanes))[0]

    def beyond(self, run: Run, lanes: Sequence[LaneOutcome]) -> np.ndarray:
        return self.reached(run, lanes, self._limits(lanes))[1]

    def reached(self, run: Run, lanes: Sequence[LaneOutcome], accuracies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the steps to each lane's own accuracy, and whether they are a bound: [R] each.

        `accuracies` are those to reach, [R]; where one is NaN, so are the steps.
        """
        column = f"{self.split}_accuracy"
        rows = _measured(run, lanes, ["step", column])
        longest = max((float(own["step"].max(initial=0)) for own in rows.values()), default=math.nan)
        steps, beyond = np.full(len(lanes), longest), np.ones(len(lanes), bool)
        for i, (lane, accuracy) in enumerate(zip(lanes, accuracies, strict=True)):
            reached = rows[lane.lane]["step"][rows[lane.lane][column] >= accuracy]
            if len(reached):
                steps[i], beyond[i] = reached[0], False
            elif math.isnan(accuracy):
                steps[i], beyond[i] = math.nan, False
        return steps, beyond

    def _limits(self, lanes: Sequence[LaneOutcome]) -> np.ndarray:
        return np.full(len(lanes), math.nan if self.accuracy is None else self.accuracy)


@STATISTICS.register("layer")
class LayerMetric(Metric):
    """A column of the layer table, summed up over layers and steps.

    As vgx's layer table has it.
    """

    formula = "over steps of (over layers of column)"

    column: ColumnName
    """Of the layer table."""
    layers: tuple[int, int] = Field(default=(1, -1), strict=False)
    """The first and the last layer that count, from 1; -1 is the top hidden one."""
    over_layers: Literal["mean", "median", "min", "max", "slope", "span", "factor"] = "mean"
    """slope: decades per layer from the top down, of a log10. span: the lowest layer's minus the highest's. factor: the
    growth of the square per layer, in the direction of travel: gradients down, signals up."""
    steps: Literal["first", "last", "all"] = "last"
    """Which recorded steps count."""
    over_steps: Literal["mean", "median", "min", "max", "sum"] = "mean"
    """What is done with several."""

    @property
    def limits(self) -> tuple[float, float] | None:
        within = self.over_layers in ("mean", "median", "min", "max") and self.over_steps != "sum"
        return (0.0, 1.0) if LAYERS[self.column].scale == "share" and within else None

    def read(self, run: Run, lanes: Sequence[LaneOutcome]) -> np.ndarray:
        steps = [1] if self.steps == "first" else None  # the first step is always recorded
        curves = run.curves(self.column, [lane.lane for lane in lanes], steps=steps)
        return np.array([self._of_lane(curves.get(lane.lane)) for lane in lanes])

    @property
    def is_predicted(self) -> bool:
        return self.column in PREDICTED and self.steps == "first"

    def predicted(self, prediction: Prediction) -> float:
        return self.over(np.asarray(getattr(prediction.curves, self.column))[:-1])

    def _of_lane(self, found: Curves | None) -> float:
        if found is None:
            return math.nan
        curves = found.hidden.astype(np.float64)
        by_step = [self.over(curve) for curve in (curves[-1:] if self.steps == "last" else curves)]
        return float(getattr(np, self.over_steps)(by_step))

    def over(self, curve: np.ndarray) -> float:
        """Returns the figure of a curve over the hidden layers [L], at one step; NaN where it has no such layers."""
        first, last = ((layer - 1 if layer > 0 else len(curve) + layer) for layer in self.layers)
        if not 0 <= first <= last < len(curve):
            return math.nan
        some = curve[first : last + 1]
        match self.over_layers:
            case "slope":
                return slope_of(some)
            case "span":
                return float(some[0] - some[-1])
            case "factor":
                log10 = some if self.column.endswith("_log10") else np.log10(some)
                down = 1 if self.column.endswith("_log10") else -1
                return float(10 ** (2 * down * (log10[0] - log10[-1]) / (len(some) - 1)))
        return float(getattr(np, self.over_layers)(some))


@STATISTICS.register("spectrum")
class SpectrumMetric(Metric):
    """What the singular values s of a Jacobian come to, the mean over the examples of `log.spectrum`.

    As vgx's spectrum table has them. Pennington, Schoenholz and Ganguli 2017, arXiv:1711.04735.
    """

    formula = "spread: Var s^2 / (E s^2)^2"

    figure: FigureName = "spread"
    """spread: the variance of s^2 over the square of its mean. square_log10: log10 of the mean of s^2. isometry_gap:
    log10 of the arithmetic over the geometric mean of s^2."""
    map: MapName = "hidden"
    """From the first hidden layer to the last, or from the input to the logits."""
    steps: Literal["first", "last"] = "last"
    """Before the first step, or when they were measured last."""

    @property
    def is_predicted(self) -> bool:
        return self.figure in PREDICTED_FIGURES and self.steps == "first"

    def predicted(self, prediction: Prediction) -> float:
        found = prediction.spectra.get(self.map)
        return math.nan if found is None else getattr(found, self.figure)

    def read(self, run: Run, lanes: Sequence[LaneOutcome]) -> np.ndarray:
        where = (pc.field("map") == self.map) & pc.field("lane").isin([lane.lane for lane in lanes])
        if self.steps == "first":
            where &= pc.field("step") == 0
        rows = _by_lane(run.spectrum(["lane", "step", "example", "log10"], where=where), lanes)
        return np.array([self._of_lane(rows[lane.lane]) for lane in lanes])

    def _of_lane(self, rows: dict[str, np.ndarray]) -> float:
        if not len(rows["step"]):
            return math.nan
        then = rows["step"] == rows["step"].max()
        examples = len(np.unique(rows["example"][then]))
        return float(getattr(figures_of(rows["log10"][then].reshape(examples, -1)), self.figure).mean())


def _measured(run: Run, lanes: Sequence[LaneOutcome], columns: list[str]) -> dict[int, dict[str, np.ndarray]]:
    """Each lane's rows of the metrics table in which the last column was measured."""
    where = pc.field("lane").isin([lane.lane for lane in lanes]) & pc.field(columns[-1]).is_valid()
    return _by_lane(run.metrics(["lane", *columns], where=where), lanes)


def _by_lane(table: pa.Table, lanes: Sequence[LaneOutcome]) -> dict[int, dict[str, np.ndarray]]:
    """The columns of each lane, in order of step; float64, NaN for null."""
    rows, none = rows_by_lane(table), np.zeros(0, int)
    columns = {name: table[name].to_numpy().astype(np.float64) for name in table.column_names}
    return {lane.lane: {name: values[rows.get(lane.lane, none)] for name, values in columns.items()} for lane in lanes}
