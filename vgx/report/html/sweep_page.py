"""What a sweep's page says in its HTML: its grid, its cells side by side, and the curves of any one of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vgx.report.html.chart_rows import Rows
from vgx.report.html.encode import seeds_menu
from vgx.report.html.findings import members
from vgx.report.html.page_data import Contents
from vgx.report.html.run_page import lane_figures
from vgx.report.html.sweep_charts import SHOWN
from vgx.report.html.sweep_summary import first_cell, grid_options
from vgx.results.agreement import lanes_that_hold
from vgx.results.words import counted, signed, speed_of


def sweep_page(contents: Contents, summaries: Rows, ranked: Rows, score: str) -> dict[str, Any]:
    """Returns what the template of a sweep's page names."""
    meta, all_lanes = contents.meta, counted(len(contents.lanes), "lane")
    lanes = f"{meta['lanes_done']:,} of {counted(meta['lanes'], 'lane')}"
    counts = Counter(map(contents.verdict, range(len(contents.lanes))))
    held, known = lanes_that_hold(contents.run)
    theory = f"Theory held at the first step of {held:,} of {counted(known, 'lane')}, in every layer."
    shown = summaries[first_cell(ranked)]
    return lane_figures(contents, members(contents, shown["lanes"])) | {
        "status": f"{meta['status']}: {lanes} in {meta['seconds']:.0f} s{speed_of(meta, 'run-steps')}",
        "counts": [(word, f"{count:,} of {all_lanes}") for word, count in counts.most_common()],
        "held": theory if known else "",
        "rows": [(option, option) for option in grid_options(contents)],
        "score": score,
        "legend": grid_legends(score)["score"],
        "ranking": _ranking(ranked),
        "slopes": _slopes(summaries, score),
        "multiples": _multiples(len(summaries)),
        "shown": shown["label"],
        "lanes": seeds_menu(contents, shown["lanes"]),
        "cells": [(row["cell"], row["label"]) for row in summaries],
    }


def grid_legends(score: str) -> dict[str, str]:
    """Returns what stands in the squares of a grid, for each figure that it may show."""
    over = "mean over seeds ± one standard deviation between them"
    return {
        "score": f"{score[0].upper()}{score[1:]}: {over}.",
        "slope": f"Slope of the gradient in decades per layer, from the top down: {over}.",
        "verdict": "The most frequent verdict over the seeds, and how many have it if not all do.",
    }


def _ranking(ranked: Rows) -> str:
    if not ranked:
        return ""
    best, worst = ranked[0], ranked[-1]
    caption = f"From {best['label']} ({best['score']:.2g}) to {worst['label']} ({worst['score']:.2g})"
    rivals = [row for row in ranked[1:] if row["score_high"] >= best["score_low"]]
    if best["score_seeds"] > 1:
        caption += f"; the 95 % intervals of {len(rivals)} of {len(ranked) - 1} others overlap that of the best"
    caption += "."
    if len(ranked) > SHOWN:
        caption += f" Drawn are the best {SHOWN} of {len(ranked):,}."
    return caption


def _slopes(summaries: Rows, score: str) -> list[tuple[str, str, str]]:
    """Name, title and caption of the figures of the score against a slope, as far as both are known."""
    figures = []
    for field, title in (("predicted", "predicted slope"), ("measured", "measured slope")):
        known = [row for row in summaries if row[field] is not None and row["score"] is not None]
        if known:
            least, most = (pick(row[field] for row in known) for pick in (min, max))
            best = max(known, key=lambda row: row["score"])
            when = "before training, by theory" if field == "predicted" else "at the first recorded step"
            caption = f"Slopes {when} lie between {signed(least, 2)} and {signed(most, 2)} decades per layer;"
            caption += f" the best cell has {signed(best[field], 2)}."
            figures.append((field, f"{score[0].upper()}{score[1:]} against the {title}", caption))
    return figures


def _multiples(cells: int) -> str:
    caption = "One chart per cell, one line per seed, all on one scale; the input is at the left."
    return caption + (f" Drawn are the first {SHOWN} of {cells:,} cells." if cells > SHOWN else "")
