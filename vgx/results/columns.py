"""The columns of a run's tables, each described once: what it is called, what it means, when it is recorded, how it is
shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from vgx.errors import RunError, did_you_mean
from vgx.results.spectrum import SPECTRUM

if TYPE_CHECKING:
    from vgx.results.store import Run

Scale = Literal["log10", "log", "signed", "share", "linear"]
"""log10: it is a logarithm already; log: drawn as one; signed: centred on 0; share: from 0 to 1."""


class Column(NamedTuple):
    """A column of the layer table."""

    label: str
    scale: Scale
    tier: Literal["lite", "standard", "full"]
    """The least of `log.statistics` that records it."""
    definition: str
    heading: str
    """Over a narrow column."""
    form: str
    """In which a value is written there."""
    unit: str = ""
    symbol: str = ""
    """What the label names, as a formula; on a logarithmic axis it stands for the label."""

    @property
    def is_log(self) -> bool:
        """Whether it is shown as a logarithm, of which a decade is the least that matters."""
        return self.scale in ("log10", "log")

    @property
    def axis_label(self) -> str:
        """The label of `shown` values."""
        return f"log10 {self.symbol or self.label}" if self.is_log else self.label

    @property
    def axis_form(self) -> str:
        """The form in which an axis says values that are no logarithms."""
        return "{:.0%}" if self.scale == "share" else "{:.3g}"

    @property
    def title(self) -> str:
        """The title of a picture whose axis says the values themselves, not their logarithms."""
        return f"{self.symbol or self.label}{', log scale' * self.is_log}"

    def shown(self, values: Any) -> np.ndarray:
        """Returns values, an array or a column of Arrow's, as they are drawn: on a logarithmic scale their log10.

        A null is NaN.
        """
        values = np.asarray(values, np.float64)
        if self.scale != "log":
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log10(values)


LAYERS = {
    "delta_log10": Column(
        "gradient |dloss/dh|",
        "log10",
        "lite",
        "log10 of the root mean square over examples of the norm of one example's gradient at the pre-activations h",
        "delta",
        "{:.2f}",
        symbol="|dloss/dh|",
    ),
    "weight_grad_log10": Column(
        "gradient |dloss/dW|",
        "log10",
        "lite",
        "log10 of the norm of the batch-mean loss's gradient with respect to the weights, of any size",
        "dW",
        "{:.2f}",
        symbol="|dloss/dW|",
    ),
    "bias_grad_log10": Column(
        "gradient |dloss/db|",
        "log10",
        "lite",
        "log10 of the norm of the batch-mean loss's gradient with respect to the biases, of any size",
        "db",
        "{:.2f}",
        symbol="|dloss/db|",
    ),
    "weight_grad_zero": Column(
        "share of zeros in dloss/dW",
        "share",
        "lite",
        "fraction of the entries of the weights' gradient that are exactly 0 in what the optimizer sees",
        "zeros",
        "{:.0%}",
    ),
    "stream_grad_log10": Column(
        "stream's gradient |dloss/ds|",
        "log10",
        "lite",
        "as the gradient at h, at the stream that the layer adds to; a layer without a skip connection has its own",
        "stream",
        "{:.2f}",
        symbol="|dloss/ds|",
    ),
    "weight_norm": Column("norm of W", "linear", "standard", "2-norm of the weights", "|W|", "{:.2g}"),
    "update_ratio": Column(
        "update ratio |step| / |W|",
        "log",
        "standard",
        "norm of the weights' change in this step over the norm of the weights",
        "update",
        "{:.0e}",
        symbol="|step| / |W|",
    ),
    "preact_mean": Column(
        "pre-activation mean",
        "signed",
        "standard",
        "mean over examples and units of what the activation receives",
        "mean h",
        "{:.2g}",
    ),
    "preact_std": Column(
        "pre-activation std",
        "linear",
        "standard",
        "standard deviation over examples and units of what the activation receives",
        "std h",
        "{:.2g}",
    ),
    "act_mean": Column(
        "activation mean",
        "signed",
        "standard",
        "mean over examples and units of what the layer passes on",
        "mean x",
        "{:.2g}",
    ),
    "act_rms": Column(
        "activation rms",
        "linear",
        "standard",
        "root mean square over examples and units of what the layer passes on",
        "rms x",
        "{:.2g}",
    ),
    "branch_ratio": Column(
        "branch over stream",
        "log",
        "standard",
        "norm of what the layer adds to the stream over the norm of the stream before",
        "branch",
        "{:.2g}",
    ),
    "dead": Column(
        "share of dead units",
        "share",
        "standard",
        "fraction of units whose slope is 0 for every example of the batch",
        "dead",
        "{:.0%}",
    ),
    "saturated": Column(
        "share of saturated entries",
        "share",
        "standard",
        "fraction of entries where the activation is flat: its slope is below 5 % of its steepest",
        "flat",
        "{:.0%}",
    ),
    "cosine": Column(
        "cosine between examples",
        "signed",
        "full",
        "mean cosine between the activations of different examples",
        "cosine",
        "{:.2f}",
    ),
    "participation": Column(
        "effective dimension",
        "linear",
        "full",
        "(tr C)^2 / tr C^2 of the activations' covariance C over examples",
        "dim",
        "{:.1f}",
    ),
    "coherence": Column(
        "cosine between gradients",
        "signed",
        "full",
        "mean cosine between the gradients of different examples at the pre-activations h",
        "coher.",
        "{:.2f}",
    ),
    "noise_scale": Column(
        "gradient noise scale",
        "log",
        "full",
        "batch size at which the noise of the gradient equals its signal",
        "noise",
        "{:.0f}",
        unit="examples",
    ),
}
"""The layer table's statistics, in their order on disk."""
OF_STREAMS = ("stream_grad_log10", "branch_ratio")
"""Those of nets with skip connections; the tables of others have no such columns."""
METRICS = {
    "epoch": "epoch",
    "learning_rate": "learning rate",
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "gradient_log10": "gradient of all parameters",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "validation_loss": "validation loss",
    "validation_accuracy": "validation accuracy",
    "sharpness": "sharpness",
    "stability": "stability ratio",
    "logits_square_log10": "logits, mean square log10",
    "logits_spread": "logits, spread",
    "logits_isometry_gap": "logits, isometry gap",
    "hidden_square_log10": "hidden, mean square log10",
    "hidden_spread": "hidden, spread",
    "hidden_isometry_gap": "hidden, isometry gap",
}
"""The columns of the metrics table, in their order on disk, and their labels."""
SHARPNESS = ("sharpness", "stability")
"""Columns of the metrics table, of runs with `log.sharpness` alone: at each evaluation the largest eigenvalue of the
training loss's Hessian, and that over 2 / learning rate: above 1, gradient descent on a quadratic is unstable."""
ON_REQUEST = (*SHARPNESS, *SPECTRUM)
"""Columns of the metrics table that only those runs have whose config asks for them."""
SMALL_BATCH = 32
"""Examples in a batch below which a unit that is off for all of them may well be on for others."""
DEAD_UNITS = "dead_units"
"""A column of the metrics table, of runs in batches under SMALL_BATCH alone: at each evaluation, for each hidden layer
the share of its units whose slope is 0 for every one of a fixed set of training examples."""
FINAL = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "validation_loss", "validation_accuracy")
"""The metrics whose last figures `lanes.parquet` has."""


def swept_columns(columns: Iterable[str]) -> list[str]:
    """Returns which of the columns of `lanes.parquet` are swept options; none of a single run."""
    names = list(columns)
    return names[names.index("seed") + 1 : names.index("status")]


def known_step(run: Run, step: int, steps: np.ndarray) -> int:
    """Returns a step. Raises RunError, with the nearest one, when it is none of the recorded `steps`."""
    if step not in steps:
        near = f"; the nearest is {steps[np.argmin(np.abs(steps - step))]}" if len(steps) else ""
        raise RunError(f"{run.path}: has no layers at step {step}{near}")
    return step


def known_statistic(run: Run, name: str | None, rows: Any = None) -> str:
    """Returns the name of a statistic, by default the gradient's: of a net with skip connections, the stream's.

    Raises RunError when there is none of that name, or when `rows`, a table of layers, have nothing of it.
    """
    if name is None:
        measured = LAYERS if rows is None else [known for known in LAYERS if rows[known].null_count < len(rows)]
        if rows is not None and "stream_grad_log10" in measured:
            return "stream_grad_log10"
        return next(iter(measured), "delta_log10")  # in a watched run the gradient itself may be missing
    if name not in LAYERS:
        near = did_you_mean(name, list(LAYERS)) or f"; there are: {', '.join(LAYERS)}"
        raise RunError(f"{run.path}: no statistic is called '{name}'{near}")
    if rows is not None and rows[name].null_count == len(rows):
        measured = ", ".join(known for known in LAYERS if rows[known].null_count < len(rows))
        raise RunError(f"{run.path}: '{name}' was not measured; there are: {measured or 'none'}")
    return name
