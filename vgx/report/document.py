"""`vgx report`: the page of a run or of a sweep, and its figures as files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vgx.disk import drafted, explained
from vgx.errors import RunError
from vgx.report import figures, page, sweep_figures
from vgx.report.captions import ACCURACIES, LOSSES, course_of
from vgx.report.contents import Contents, gather
from vgx.report.overview import cell_summaries, first_cell, ranking
from vgx.report.packing import packed, score_of
from vgx.report.palette import BLUE_ORANGE, VIRIDIS
from vgx.report.selection import Rows
from vgx.report.stills import figures_folder, lane_stills, sweep_stills, vegalite_version, vl_convert, write_stills
from vgx.report.sweep_page import sweep_page
from vgx.run_directory import Run
from vgx.written import is_page


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
        output: the page's path; `report.html` in the run directory unless told. An older page is replaced.

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
    scripts = [bundle(), page.static("page.js"), page.static("report.js")]
    title = f"{contents.config['name']} - vgx"
    no_script = f"The figures are drawn by JavaScript, which is off; the same are beside this page, in {folder}/."
    if not contents.is_sweep:
        return page.shell(title, page.run_page(contents), data, scripts, no_script), lane_stills(contents, specs)
    score, summaries = score_of(contents).replace("_", " "), cell_summaries(contents)
    ranked = ranking(summaries)
    data["data"]["first"] = first_cell(ranked)
    specs |= sweep_specs(contents, summaries, ranked, score)
    data["sweep"] = {
        "cells": summaries,
        "ranking": ranked[: sweep_figures.SHOWN],
        "options": contents.options,
        "score": score,
        "shown": sweep_figures.SHOWN,
        "colours": {"score": VIRIDIS, "slope": BLUE_ORANGE},
    }
    body = sweep_page(contents, summaries, ranked, score)
    html = page.shell(title, body, data, [*scripts, page.static("sweep.js")], no_script)
    return html, sweep_stills(contents, specs, summaries, ranked, score)


def sweep_specs(contents: Contents, summaries: Rows, ranked: Rows, score: str) -> dict[str, Mapping[str, Any]]:
    """Returns the figures that show a sweep's cells side by side, as far as what they draw was measured."""
    words = sorted({row["verdict"] for row in summaries})
    charts: dict[str, Any] = {}
    if ranked:
        charts["ranking"] = sweep_figures.ranks(score, words, min(len(ranked), sweep_figures.SHOWN))
    for field in ("predicted", "measured"):
        if any(row[field] is not None and row["score"] is not None for row in summaries):
            charts[field] = sweep_figures.slopes(field, field, score, words)
    if "delta_log10" in contents.statistics:
        labels = [row["label"] for row in summaries[: sweep_figures.SHOWN]]
        charts["multiples"] = sweep_figures.multiples(words, labels)
    return {key: chart.to_dict() for key, chart in charts.items()}


def bundle() -> str:
    """Returns Vega, Vega-Lite and Vega-Embed as one script that works offline."""
    return vl_convert().javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vegalite_version())


def lane_specs(contents: Contents) -> dict[str, Mapping[str, Any]]:
    """Returns the figures of a lane, as far as what they draw was measured."""
    has = set(contents.statistics)
    charts: dict[str, Any] = {}
    if "delta_log10" in has:
        charts["gradient"] = figures.gradient()
    if "weight_grad_log10" in has:
        charts["weights"] = figures.weights()
    if {"act_mean", "act_rms"} <= has:
        charts["activations"] = figures.activations()
    if "preact_std" in has:
        charts["sizes"] = figures.sizes(any(contents.forecasts))
    if {"dead", "saturated"} & has:
        charts["shares"] = figures.shares()
    if "update_ratio" in has:
        charts["updates"] = figures.updates()
    if has:
        needed = {figures.scale_of(name) for name in contents.statistics}
        charts |= {f"heat_{scale}": chart for scale, chart in figures.heats().items() if scale in needed}
    charts |= course_charts(contents)
    return {key: chart.to_dict() for key, chart in charts.items()}


def course_charts(contents: Contents) -> dict[str, Any]:
    """Returns the figures of the metrics table."""
    losses, accuracies = course_of(contents, LOSSES), course_of(contents, ACCURACIES)
    charts: dict[str, Any] = {}
    if losses:
        charts["loss"] = figures.course(losses, "loss", log=_spans_decades(contents, losses))
    if accuracies:
        charts["accuracy"] = figures.course(accuracies, "accuracy", form=".0%", share=True)
    if "learning_rate" in contents.course:
        charts["learning_rate"] = figures.course(["learning_rate"], "learning rate")
    return charts


def _spans_decades(contents: Contents, names: list[str]) -> bool:
    """Whether curves are positive and so far apart that a linear axis would show but the largest."""
    import numpy as np

    values = np.concatenate(
        [course.mean[:, [contents.course.index(n) for n in names]].ravel() for course in contents.courses]
    )
    values = values[np.isfinite(values)]
    return len(values) > 0 and values.min() > 0 and values.max() > 100 * values.min()
