"""What a page says below its figures, for every choice of lanes that it offers: the page's script only shows these."""

from __future__ import annotations

from collections.abc import Sequence

from vgx.report.html.findings import (
    course_finding,
    gradient_finding,
    members,
    recorded_steps,
    unrecorded_finding,
    weights_finding,
)
from vgx.report.html.page_data import Contents, cells_of

LOSSES = ("train_loss", "test_loss", "validation_loss")
ACCURACIES = ("train_accuracy", "test_accuracy", "validation_accuracy")
COURSES = {"loss": LOSSES, "accuracy": ACCURACIES, "learning_rate": ("learning_rate",)}
"""The figures over the steps, and which columns of the metrics table they may have."""


def course_of(contents: Contents, names: Sequence[str]) -> list[str]:
    """Returns those columns of the metrics table that were measured."""
    return [name for name in names if name in contents.course]


def groups(contents: Contents) -> list[list[int]]:
    """Returns the lanes that are chosen together: those of each cell of a sweep, or all of a run."""
    if contents.is_sweep:
        return [lanes for _, lanes in cells_of(contents)]
    return [list(range(len(contents.lanes)))]


def captions(contents: Contents, lanes: Sequence[int]) -> dict[str, str]:
    """Returns a sentence or several for each figure that speaks of these lanes (of one depth), by its name.

    `no-layers` is what stands where the figures over the layers would be, if there are none.
    """
    said = {key: course_finding(contents, lanes, names) for key, names in COURSES.items() if course_of(contents, names)}
    if not recorded_steps(contents, lanes):
        return said | {"no-layers": unrecorded_finding(contents, lanes)}
    if "delta_log10" in contents.statistics:
        said["gradient"] = gradient_finding(contents, lanes)
        if contents.forecasts[lanes[0]]:
            said["gradient"] += " Dashed: predicted before training, and where 95 % of draws of the weights lie."
    if "weight_grad_log10" in contents.statistics:
        zeros = "Zeros are also due to dead units and to inputs that are always 0."
        said["weights"] = f"{weights_finding(contents, lanes)} {zeros}".strip()
    return said


def choices(contents: Contents) -> list[list[int]]:
    """Returns the lanes that a page may show together: each alone, and each group."""
    together = [members(contents, some) for some in groups(contents)]
    return [[lane] for lane in range(len(contents.lanes))] + [some for some in together if len(some) > 1]
