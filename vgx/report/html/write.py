"""`vgx report`: the page of a run or of a sweep, and its figures as files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vgx.errors import RunError
from vgx.report.html import charts, map_charts, step_charts, sweep_charts
from vgx.report.html.binning import is_null
from vgx.report.html.captions import COURSES, constant, course_of
from vgx.report.html.chart_rows import OUTSIDE, Rows
from vgx.report.html.encode import packed, score_of
from vgx.report.html.images import figures_folder, lane_stills, sweep_stills, vegalite_version, vl_convert, write_stills
from vgx.report.html.layer_axis import with_names
from vgx.report.html.page_data import Contents, gather
from vgx.report.html.render import page
from vgx.report.html.run_page import run_page
from vgx.report.html.sweep_page import grid_legends, sweep_page
from vgx.report.html.sweep_summary import cell_summaries, first_cell, grid_options, ranking, squares
from vgx.report.palette import CATEGORIES
from vgx.results.columns import METRICS, SHARPNESS
from vgx.results.files import drafted, explained
from vgx.results.map_file import map_of
from vgx.results.recognition import is_page
from vgx.results.spectrum import FIGURES
from vgx.results.store import Run

FEW = 0.2
"""The share of a watched run's layers from which on a statistic has a figure over the layers."""


def refuse_others(target: Path) -> None:
    """Raises RunError when a page would replace something else than a page of vgx."""
    with explained(target, "read"):
        if target.is_dir():
            raise RunError(f"{target}: is a folder; name a file")
        if os.path.lexists(target) and not is_page(target):
            raise RunError(f"{target}: exists, and is no page of vgx; choose another file, or move it away")


def write_report(run: Run, output: Path | None = None) -> list[Path]:
    """Writes a run's page, and its figures to a folder of their own beside it; returns the files, the page first.

    Args:
        run: in whatever state.
        output: the page's path; `report.html` in the run directory by default. An older page is replaced.

    Raises RunError when something else than a page or a figure of vgx is there; EnvironmentFault when the disk
    refuses.
    """
    target = output or run.path / "report.html"
    refuse_others(target)
    folder = figures_folder(target, run.path)
    html, stills = drawn(gather(run), folder.name)
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        written = write_stills(list(stills), folder)
        with drafted(target) as draft:
            draft.write_text(html, encoding="utf-8")
    return [target, *written]


def drawn(contents: Contents, folder: str = "figures") -> tuple[str, Iterator[tuple[str, Any]]]:
    """Returns the page of a run or a sweep as HTML, and the name and spec of each figure that is to be a file.

    Args:
        contents: of the run.
        folder: the name of that of the figures, beside the page.
    """
    specs = lane_specs(contents)
    data: dict[str, Any] = {"data": packed(contents), "specs": specs}
    scripts = [bundle(), "page.js", "player.js", "rows.js", "tracks.js", "report.js"]
    if not contents.is_sweep:
        html = page("run.html", scripts, data, figures=specs, folder=folder, **run_page(contents))
        return html, lane_stills(contents, specs)
    score, summaries = score_of(contents).replace("_", " "), cell_summaries(contents)
    ranked = ranking(summaries)
    data["data"]["first"] = first_cell(ranked)
    specs |= sweep_specs(contents, summaries, ranked, score)
    if mapped := map_of(contents.run):
        specs["map"] = map_charts.plane(mapped).to_dict()
    data["sweep"] = {
        "cells": summaries,
        "ranking": ranked[: sweep_charts.SHOWN],
        "options": {
            option: {
                "name": option.rpartition(".")[2],
                "words": list(dict.fromkeys(row["words"][option] for row in summaries)),
            }
            for option in grid_options(contents)
        },
        "squares": squares(contents, summaries),
        "shown": sweep_charts.SHOWN,
        "legends": grid_legends(score),
        "map": map_charts.rows_of(mapped, contents, summaries) if mapped else None,
    }
    shown = sweep_page(contents, summaries, ranked, score) | {"mapped": mapped and map_charts.words_of(mapped)}
    html = page("sweep.html", [*scripts, "sweep.js"], data, figures=specs, folder=folder, **shown)
    return html, sweep_stills(contents, specs, summaries, ranked, score, data["sweep"]["map"])


def sweep_specs(contents: Contents, summaries: Rows, ranked: Rows, score: str) -> dict[str, Mapping[str, Any]]:
    """Returns the figures that show a sweep's cells side by side, as far as what they draw was measured."""
    words = sorted({row["verdict"] for row in summaries})
    specs: dict[str, Any] = {}
    if ranked:
        specs["ranking"] = sweep_charts.ranks(score, words, min(len(ranked), sweep_charts.SHOWN))
    for field in ("predicted", "measured"):
        if any(row[field] is not None and row["score"] is not None for row in summaries):
            specs[field] = sweep_charts.slopes(field, field, score, words, summaries)
    if "delta_log10" in contents.statistics:
        labels = [row["label"] for row in summaries[: sweep_charts.SHOWN]]
        specs["multiples"] = sweep_charts.multiples(words, labels)
    return {key: chart.to_dict() for key, chart in specs.items()}


@cache
def bundle() -> str:
    """Returns Vega, Vega-Lite and Vega-Embed as one script that works offline; bundling takes seconds, once."""
    return vl_convert().javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vegalite_version())


def lane_specs(contents: Contents) -> dict[str, Mapping[str, Any]]:
    """Returns the figures of a lane, as far as what they draw was measured."""
    has = {name for name in contents.statistics if not contents.paths or _in_many_layers(contents, name)}
    specs: dict[str, Any] = {}
    if "delta_log10" in has:
        few = 0 < len(contents.roles) < len(CATEGORIES)
        alone = charts.gradient(predicted=not contents.paths)
        specs["gradient"] = charts.gradient_by_role(contents.roles, OUTSIDE) if few else alone
    if "weight_grad_log10" in has:
        specs["weights"] = charts.weights()
    if {"act_mean", "act_rms"} <= has:
        specs["activations"] = charts.activations()
    if "preact_std" in has or ("act_rms" in has and contents.paths):
        specs["sizes"] = charts.sizes(any(contents.forecasts), has)
    if {"dead", "saturated"} & has and not _all_zero(contents, ("dead", "saturated", "weight_grad_zero")):
        specs["shares"] = charts.shares(has)
    if "update_ratio" in has:
        specs["updates"] = charts.updates()
    if has:
        needed = {step_charts.scale_of(name) for name in contents.statistics}
        specs |= {f"heat_{scale}": chart for scale, chart in step_charts.heats().items() if scale in needed}
        specs |= {"tracks_log10": step_charts.tracks(log10=True), "tracks": step_charts.tracks()}
    if "delta_log10" in has:
        specs["strip"] = step_charts.heat(log10=True, bare=True)
    drawn = {key: with_names(chart.to_dict(), contents.paths) for key, chart in specs.items()}
    return drawn | {key: chart.to_dict() for key, chart in course_charts(contents).items()}


def course_charts(contents: Contents) -> dict[str, Any]:
    """Returns the figures of the metrics table."""
    drawn = {key: had for key, names in COURSES.items() if (had := course_of(contents, names))}
    drawn = {key: had for key, had in drawn.items() if not constant(contents, had)}
    specs: dict[str, Any] = {}
    if losses := drawn.get("loss"):
        specs["loss"] = step_charts.course(losses, "loss", log=_spans_decades(contents, losses))
    if accuracies := drawn.get("accuracy"):
        specs["accuracy"] = step_charts.course(accuracies, "accuracy", form="~%")
    if "learning_rate" in drawn:
        specs["learning_rate"] = step_charts.course(["learning_rate"], "learning rate")
    for name in SHARPNESS:
        if name in drawn:
            specs[name] = step_charts.course([name], METRICS[name])
    for name in FIGURES:
        if name in drawn:
            specs[name] = step_charts.course(drawn[name], name.replace("_log10", ", log10").replace("_", " "))
    return specs


def _all_zero(contents: Contents, names: Sequence[str]) -> bool:
    """Whether these statistics are 0 in every layer of every lane: there is nothing to see."""
    import numpy as np

    return all(
        not np.any(np.nan_to_num(cube[name].high) > 0) for cube in contents.cubes for name in names if name in cube
    )


def _in_many_layers(contents: Contents, name: str) -> bool:
    """Whether a watched run measured a statistic in FEW of its layers at least."""
    import numpy as np

    known = [~is_null(cube[name].mean).all(0) for cube in contents.cubes if name in cube]
    return bool(known) and float(np.mean(known)) >= FEW


def _spans_decades(contents: Contents, names: list[str]) -> bool:
    """Whether curves are positive and so far apart that a linear axis would show but the largest."""
    import numpy as np

    values = np.concatenate(
        [course.mean[:, [contents.course.index(n) for n in names]].ravel() for course in contents.courses]
    )
    values = values[np.isfinite(values)]
    return len(values) > 0 and values.min() > 0 and values.max() > 100 * values.min()
