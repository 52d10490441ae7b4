"""`vgx compare --html`: nets side by side as one page that works offline, under the shell of every other."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vgx.errors import RunError
from vgx.report.html import comparison_charts as figures
from vgx.report.html.chart_rows import ends
from vgx.report.html.layer_axis import with_names
from vgx.report.html.render import page
from vgx.report.html.write import bundle, refuse_others
from vgx.report.palette import BROKEN, CATEGORIES, DASHES, NAMES, NOTHING
from vgx.report.words import alone_in_words, describe_config, divergence_in_words, has_layers, outcome_rows
from vgx.results.columns import LAYERS
from vgx.results.comparison import RunComparison
from vgx.results.curves import evenly
from vgx.results.divergence import Divergence, Trajectory
from vgx.results.files import drafted, explained
from vgx.results.layer_names import short_names
from vgx.results.words import counted

CELLS = 12_000
"""How many cells the maps of a page have together, about; more open slowly."""


def write_comparison(compared: RunComparison, target: Path, step: int | None = None) -> None:
    """Writes contenders side by side as a page.

    Args:
        compared: what to show.
        target: the page's path; an older page is replaced.
        step: at which the curves are drawn at first; the first one by default.

    Raises RunError for a step that was not recorded, and when something else than a page of vgx is there;
    EnvironmentFault when the disk refuses.
    """
    refuse_others(target)
    html = comparison_page(compared, step)
    with explained(target), drafted(target) as draft:
        draft.write_text(html, encoding="utf-8")


def comparison_page(compared: RunComparison, step: int | None = None) -> str:
    """Returns contenders side by side as HTML; raises RunError for a step that was not recorded."""
    data = {"data": packed(compared, step), "specs": specs(compared)}
    return page("comparison.html", [bundle(), "page.js", "player.js", "comparison.js"], data, **_shown(compared))


def specs(compared: RunComparison) -> dict[str, Any]:
    """Returns the figures, as far as what they draw was measured."""
    names, look = [one.name for one in compared.groups], LAYERS[compared.statistic]
    layers = len(compared.positions) if has_layers(compared) else 0
    charts: dict[str, Any] = {}
    if compared.trajectories:
        charts["curves"] = figures.curves(names, layers, look.label, look.scale == "log10")
    if any(len(trajectory.steps) for trajectory in compared.losses):
        charts["loss"] = figures.trajectory("loss", names, "training loss", log=_spans_decades(compared.losses))
    if any(len(trajectory.steps) for trajectory in compared.accuracies):
        charts["accuracy"] = figures.trajectory("accuracy", names, "test accuracy", share=True)
    if any(len(divergence.steps) for divergence in compared.divergences):
        charts["parting"] = figures.divergence(layers, look.scale == "log10")
    of_layers = {"curves": "x", "parting": "y"}
    return {
        key: with_names(chart.to_dict(), compared.paths if key in of_layers else (), (of_layers.get(key, ""),))
        for key, chart in charts.items()
    }


def _spans_decades(trajectories: Sequence[Trajectory]) -> bool:
    """Whether curves and their bands are positive and so far apart that a linear axis would show but the largest."""
    low = np.concatenate([(trajectory.mean - np.nan_to_num(trajectory.spread)).ravel() for trajectory in trajectories])
    low = low[np.isfinite(low)]
    return len(low) > 0 and low.min() > 0 and low.max() > 100 * low.min()


def packed(compared: RunComparison, step: int | None = None) -> dict[str, Any]:
    """Returns the page's data as plain values, arrays as little-endian float64 or int32 in base64, row after row.

    Raises RunError for a step that was not recorded.
    """
    known = (
        np.unique(np.concatenate([trajectory.steps for trajectory in compared.trajectories]))
        if compared.trajectories
        else np.ones(0)
    )
    if step is not None and len(known) and step not in known:
        raise RunError(f"step {step} is none that is compared; the nearest is {known[np.argmin(np.abs(known - step))]}")
    return {
        "label": LAYERS[compared.statistic].label,
        "log10": LAYERS[compared.statistic].scale == "log10",
        "layers": has_layers(compared),
        "names": short_names(compared.paths),
        "positions": compared.positions.tolist(),
        "steps": known.tolist(),
        "step": 0 if step is None else int(np.searchsorted(known, step)),
        "contenders": [
            {"name": one.name, "shape": shape} for shape, one in zip(figures.SHAPES, compared.groups, strict=False)
        ],
        "ends": _axis_ends(compared),
        "courses": [_course(trajectory) for trajectory in compared.trajectories],
        "loss": [_course(trajectory) for trajectory in compared.losses],
        "accuracy": [_course(trajectory) for trajectory in compared.accuracies],
        "partings": [_divergence(divergence, _drawn(compared, divergence)) for divergence in compared.divergences],
    }


def _axis_ends(compared: RunComparison) -> tuple[float, float]:
    """The ends of the axis of the curves at every step, with room at the foot for what has no place on it."""
    bands = [
        trajectory.mean + sign * np.nan_to_num(trajectory.spread)
        for trajectory in compared.trajectories
        for sign in (-1, 1)
    ]
    low, high = ends(bands, 2.0 if LAYERS[compared.statistic].scale == "log10" else 0.0)
    odd = any(not np.isfinite(trajectory.mean).all() for trajectory in compared.trajectories)
    return (low - 0.1 * (high - low) if odd else low), high


def _course(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "steps": trajectory.steps.tolist(),
        "mean": _base64(trajectory.mean, "<f8"),
        "spread": _base64(trajectory.spread, "<f8"),
        "seeds": _base64(trajectory.seeds, "<i4"),
    }


def _divergence(divergence: Divergence, drawn: np.ndarray) -> dict[str, Any]:
    return {
        "steps": divergence.steps.tolist(),
        "drawn": drawn.tolist(),
        "difference": _base64(divergence.difference, "<f8"),
        "limit": _base64(divergence.limit, "<f8"),
        "apart": _base64(divergence.beyond, "<i4"),
        "since": divergence.since.tolist(),
        "by": divergence.by,
    }


def _drawn(compared: RunComparison, divergence: Divergence) -> np.ndarray:
    """Which of a map's steps are drawn, evenly spread, the first and the last among them."""
    most = max(CELLS // (len(compared.divergences) * len(compared.positions)), 2)
    return evenly(np.arange(len(divergence.steps)), most)


def _base64(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode()


def _shown(compared: RunComparison) -> dict[str, Any]:
    """What the template of the page names."""
    return {
        "title": " / ".join(one.name for one in compared.groups),
        "label": LAYERS[compared.statistic].label,
        "nets": [_net(compared, i) for i in range(len(compared.groups))],
        "verdicts": [_verdicts(outcome.words) for outcome in compared.outcomes],
        "outcomes": outcome_rows(compared),
        "differences": compared.differences,
        "bands": _bands(compared),
        "alone": alone_in_words(compared),
        "aligned_by": "path" if compared.paths else "relative depth",
        "courses": _trajectories(compared),
        "maps": _divergences(compared),
    }


def _net(compared: RunComparison, i: int) -> dict[str, str]:
    one = compared.groups[i]
    return {
        "colour": CATEGORIES[i],
        "dash": " ".join(map(str, DASHES[i])),
        "name": one.name,
        "what": f"{describe_config(one.config)}; {counted(len(one.lanes), 'seed')}; {one.run.path}",
        "apart": divergence_in_words(compared, i) if i else "",
    }


def _verdicts(words: Sequence[str]) -> list[tuple[str, str]]:
    """Each verdict and how many seeds have it, if not all do."""
    return [
        (word, "" if count == len(words) else f" {count} of {len(words)}")
        for word, count in Counter(words).most_common()
    ]


def _bands(compared: RunComparison) -> str:
    """What the curves over the depth are; nothing where there are none."""
    if not compared.trajectories:
        return ""
    if LAYERS[compared.statistic].scale == "log10":
        return "Geometric means over seeds; the bands are one standard deviation of the logarithm."
    return "Means over seeds; the bands are one standard deviation."


def _trajectories(compared: RunComparison) -> list[tuple[str, str, str]]:
    """Name, title and caption of the figures over the steps, as far as they were measured."""
    return [
        (key, title, _last(compared, trajectories))
        for key, title, trajectories in (
            ("loss", "Training loss", compared.losses),
            ("accuracy", "Test accuracy", compared.accuracies),
        )
        if any(len(trajectory.steps) for trajectory in trajectories)
    ]


def _last(compared: RunComparison, trajectories: Sequence[Trajectory]) -> str:
    """Where curves end: `At the end 0.051 (he-relu) and 1.2 (plain).`"""
    ends = [
        f"{trajectory.mean[-1, 0]:.2g} ({one.name})" if len(trajectory.steps) else f"not measured ({one.name})"
        for one, trajectory in zip(compared.groups, trajectories, strict=True)
    ]
    return f"At the end {', '.join(ends[:-1])} and {ends[-1]}."


def _divergences(compared: RunComparison) -> list[tuple[int, str, str, str]]:
    """Number, title, caption and definition of each map of where a net diverges from the first."""
    maps, look, first = [], LAYERS[compared.statistic], compared.groups[0].name
    decades = ", in decades" if look.scale == "log10" else ""
    for i, divergence in enumerate(compared.divergences, start=1):
        if not len(divergence.steps):
            continue
        beyond = {"seeds": "what seeds alone may differ", "theory": "what theory lets one draw differ"}.get(
            divergence.by, f"{divergence.by} (one seed each)"
        )
        caption = f"They diverge at {divergence.beyond.mean():.0%} of all steps and places, by more than {beyond}."
        about = (
            f"Orange: above {first}, blue: below. Grey: no significant difference. {NAMES[NOTHING]}: one of them is"
            f" exactly 0. {NAMES[BROKEN]}: one is NaN or infinite."
        )
        shown = len(_drawn(compared, divergence))
        if shown < len(divergence.steps):
            about += f" Drawn are {shown} of {len(divergence.steps):,} steps; the numbers have all."
        maps.append((i, f"{compared.groups[i].name} less {first}: {look.label}{decades}", caption, about))
    return maps
