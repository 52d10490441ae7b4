"""The figure of a trainability map: accuracy over the plane of two options, under theory's contours."""

from __future__ import annotations

from typing import Any

import altair as alt

from vgx.report.html.chart_rows import Rows
from vgx.report.html.page_data import Contents
from vgx.report.map_words import boundary_in_words, contours_of, map_state
from vgx.report.palette import GREY, PURPLE, VERMILLION
from vgx.results.map_cells import MapAxis
from vgx.results.map_file import TrainabilityMap
from vgx.results.map_fit import joined

COLOURS = {"correlation": VERMILLION, "gradient": PURPLE}


def words_of(found: TrainabilityMap) -> dict[str, Any]:
    """Returns what the page says of a map: title, caption, what the figure draws, and where the boundary is."""
    return {
        "title": f"{found.value.replace('_', ' ').capitalize()} over {found.x.name} and {found.y.name}",
        "caption": map_state(found).replace("\n", "; ") + ". A click on a cell shows its curves below.",
        "about": (
            f"Each rectangle is a net, or the mean over its seeds, around the {found.x.name} and {found.y.name} that "
            "it was trained with; smaller ones were added where neighbours differ. Lines are where theory says that "
            f"nets are so many correlation depths, or gradient depths, deep; grey is a net that has not ended. "
        ),
        "sentences": boundary_in_words(found),
    }


def rows_of(found: TrainabilityMap, contents: Contents, summaries: Rows) -> dict[str, Rows]:
    """Returns the data of the figure: `map`, a row per cell, and `contours`, a row per point of a line."""
    numbers = {contents.lanes[row["lanes"][0]]["cell"]: row["cell"] for row in summaries}
    cells = [
        {
            "cell": numbers.get(key),
            "label": f"{found.x.name} {cell.x:g}, {found.y.name} {cell.y:g}",
            "accuracy": found.accuracies.get(cell[:2]),
        }
        | {name: getattr(cell, name) for name in ("left", "right", "bottom", "top")}
        | {name: ratios[cell[:2]] for name, ratios in found.ratios.items()}
        for key, cell in sorted(zip(found.keys, found.cells, strict=True), key=lambda pair: pair[1].round)
    ]
    points = [
        {"contour": one.words, "line": f"{one.words} {number}", "order": order, "x": x, "y": y}
        for one in contours_of(found, usual=True)
        for number, line in enumerate(joined(found.contour(one.depth, one.multiple)))
        for order, (x, y) in enumerate(line)
    ]
    return {"map": cells, "contours": points}


def _scale(axis: MapAxis) -> alt.Scale:
    ends = axis.ends()
    domain = [ends[0][0], ends[-1][1]]
    return (
        alt.Scale(type="log", domain=domain, nice=False)
        if axis.log
        else alt.Scale(domain=domain, nice=False, zero=False)
    )


def _axis(**more: Any) -> alt.Axis:
    return alt.Axis(grid=False, labelOverlap="greedy", labelSeparation=6, format="~g", **more)


def plane(found: TrainabilityMap) -> Any:
    """Returns the chart of a map, of the data that `rows_of` returns."""
    labels = {"values": list(found.y.values)} if len(found.y.values) <= 12 else {}
    x = alt.X("left:Q", title=found.x.path, scale=_scale(found.x), axis=_axis(tickCount=8))
    y = alt.Y("bottom:Q", title=found.y.path, scale=_scale(found.y), axis=_axis(**labels))
    known = [accuracy for accuracy in found.accuracies.values() if accuracy is not None]
    domain = [min(known, default=0.0), max(known, default=1.0)]
    legend = alt.Legend(
        title=found.value.replace("_", " "), format="~%", gradientLength=160, orient="right", direction="vertical"
    )
    base = alt.Chart(alt.NamedData(name="map"))
    corners = {"x": x, "x2": alt.X2("right"), "y": y, "y2": alt.Y2("top")}
    colour = alt.Color("accuracy:Q", scale=alt.Scale(scheme="viridis", domain=domain), legend=legend)
    tooltip = [
        alt.Tooltip("label:N", title="net"),
        alt.Tooltip("accuracy:Q", title=found.value.replace("_", " "), format=".4f"),
        alt.Tooltip("correlation:Q", title="correlation depths deep", format=".3~g"),
        alt.Tooltip("gradient:Q", title="gradient depths deep", format=".3~g"),
    ]
    unknown = base.transform_filter("datum.accuracy == null").mark_rect(color=GREY, clip=True).encode(**corners)
    cells = base.transform_filter("datum.accuracy != null").mark_rect(cursor="pointer", clip=True)
    chosen = base.transform_filter("datum.cell === chosen")
    frames = [  # seen on dark cells and on bright ones
        chosen.mark_rect(filled=False, stroke=ink, strokeWidth=width, clip=True).encode(**corners)
        for ink, width in (("white", 4), ("black", 1.5))
    ]
    return (
        alt.layer(
            unknown,
            cells.encode(color=colour, tooltip=tooltip, **corners),
            *frames,
            *_lines(found),
            height=340,
            width="container",
        )
        .resolve_scale(color="independent", strokeDash="independent")
        .add_params(alt.param(name="chosen", value=-1))
    )


def _lines(found: TrainabilityMap) -> list[Any]:
    """The contours, on a light ground of their own, so that they are seen on dark and on bright cells."""
    drawn = contours_of(found, usual=True)
    if not drawn:
        return []
    words = [one.words for one in drawn]
    base = alt.Chart(alt.NamedData(name="contours"))
    place = {"x": alt.X("x:Q", scale=_scale(found.x)), "y": alt.Y("y:Q", scale=_scale(found.y))}
    line = {"detail": "line:N", "order": "order:Q"}
    colours = alt.Scale(domain=words, range=[COLOURS[one.depth] for one in drawn])
    legend = alt.Legend(title=None, direction="vertical")  # in a line they would not fit a phone
    dashes = alt.Scale(domain=words, range=[[1, 0] if "fitted" in one.words else [6, 4] for one in drawn])
    return [
        base.mark_line(color="white", opacity=0.75, strokeWidth=5, clip=True).encode(**place, **line),
        base.mark_line(strokeWidth=2.5, clip=True).encode(
            **place,
            **line,
            color=alt.Color("contour:N", scale=colours, legend=legend),
            strokeDash=alt.StrokeDash("contour:N", scale=dashes, legend=legend),
        ),
    ]
