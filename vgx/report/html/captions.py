"""What a page says below its figures, for every choice of lanes that it offers: the page's script only shows these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vgx.report.html.findings import (
    FINDINGS,
    course_finding,
    gradient_finding,
    members,
    recorded_steps,
    signal_finding,
    unrecorded_finding,
    weights_finding,
)
from vgx.report.html.headline import headline
from vgx.report.html.page_data import Contents, cells_of
from vgx.results.columns import SHARPNESS
from vgx.results.spectrum import FIGURES

LOSSES = ("train_loss", "test_loss", "validation_loss")
ACCURACIES = ("train_accuracy", "test_accuracy", "validation_accuracy")
COURSES = (
    {"loss": LOSSES, "accuracy": ACCURACIES, "learning_rate": ("learning_rate",)}
    | {name: (name,) for name in SHARPNESS}
    | FIGURES
)
"""The figures over the steps, and which columns of the metrics table they may have."""


def course_of(contents: Contents, names: Sequence[str]) -> list[str]:
    """Returns those columns of the metrics table that were measured."""
    return [name for name in names if name in contents.course]


def groups(contents: Contents) -> list[list[int]]:
    """Returns the lanes that are chosen together: those of each cell of a sweep, or all of a run."""
    if contents.is_sweep:
        return [lanes for _, lanes in cells_of(contents)]
    return [list(range(len(contents.lanes)))]


DEFINITIONS = {
    "gradient": "The root mean square over examples of the norm of one example's gradient at the pre-activations h. "
    "Dashed: predicted before training by mean-field theory, in the band where 95 % of draws of the weights lie.",
    "strip": "The same gradient at every recorded step: dark is small, bright is large. Choose a step by clicking it.",
    "weights": "The norm of the batch-mean gradient of a layer's weights, true however small; "
    "the marks say what of it the optimizer saw. Zeros are also due to dead units and to inputs that are always 0.",
    "activations": "Mean over examples and units of what each layer passes on; the band is one standard deviation.",
    "sizes": "What each layer receives (h, before the activation) and what it passes on (x).",
    "shares": "Dead: no example of the batch moves the unit. Flat: a slope below 5 % of the activation's steepest.",
    "updates": "Norm of the step that was just taken over the norm of the weights it changed.",
    "heat": "Each cell is one layer at one step, or a group of them; the readout is at the top. The line is the step "
    "that is shown above; a click chooses another.",
    "tracks": "Chosen layers of the same statistic, step by step.",
    "loss": "Training: of each step's batch. Test: of the whole set, at each evaluation.",
    "accuracy": "Training: of each step's batch. Test: of the whole set, at each evaluation.",
    "learning_rate": "The learning rate of each step.",
    "sharpness": "The largest eigenvalue of the training loss's Hessian, at each evaluation.",
    "stability": "The learning rate times half the sharpness: above 1, gradient descent on a quadratic is unstable.",
    "square_log10": "log10 of the mean square of the singular values of a Jacobian, at single training examples: how "
    "much of a gradient gets through. Logits: from the logits to the input. Hidden: from the last hidden layer to the "
    "first.",
    "spread": "The variance of the squared singular values over the square of their mean: 0 where a gradient gets "
    "through alike in all directions.",
    "isometry_gap": "log10 of the arithmetic over the geometric mean of the squared singular values: 0 for an "
    "isometry, infinite where a direction is lost.",
}
"""What each figure draws, which a page shows on request."""
OF_NAMED = {
    "gradient": "The root mean square over examples of the norm of one example's gradient at what each layer leaves, "
    "the layers in the order of the forward pass.",
    "heat": "Each cell is one layer at one step, or a group of them, the first of the forward pass at the foot. The "
    "line is the step that is shown above; a click chooses another.",
}
"""The same of a watched run, where it is another thing."""


def captions(contents: Contents, lanes: Sequence[int]) -> dict[str, str]:
    """Returns a sentence for each figure that speaks of these lanes (of one depth), by its name.

    `headline` is what the verdict means; `no-layers` is what stands where the figures over the layers would be, if
    there are none.
    """
    said = {"headline": headline(contents, lanes)}
    said |= {
        key: course_finding(contents, lanes, names) for key, names in COURSES.items() if course_of(contents, names)
    }
    if not recorded_steps(contents, lanes):
        return said | {"no-layers": unrecorded_finding(contents, lanes)}
    if "delta_log10" in contents.statistics:
        said["gradient"] = gradient_finding(contents, lanes)
    if "weight_grad_log10" in contents.statistics:
        said["weights"] = weights_finding(contents, lanes)
    return said | {key: text for key in FINDINGS if (text := signal_finding(contents, lanes, key))}


def constant(contents: Contents, names: Sequence[str]) -> bool:
    """Returns whether these columns of the metrics table have one value each in every lane: no curve is to be seen."""
    at = [contents.course.index(name) for name in course_of(contents, names)]
    columns = [course.mean[:, i] for course in contents.courses for i in at]
    known = [column[np.isfinite(column)] for column in columns]
    return all(not len(column) or np.ptp(column) == 0 for column in known)


def choices(contents: Contents) -> list[list[int]]:
    """Returns the lanes that a page may show together: each alone, and each group."""
    together = [members(contents, some) for some in groups(contents)]
    return [[lane] for lane in range(len(contents.lanes))] + [some for some in together if len(some) > 1]
