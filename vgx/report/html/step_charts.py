"""The figures over the steps: a statistic as a map of steps and layers, chosen layers of it, and the metrics.

Data `cells` has a row per layer and step, `tracks` one per chosen layer and step, `course` one per step and curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from vgx.report.html.charts import (
    LEGEND,
    OVERLAP,
    WHOLE,
    axis_of,
    expression,
    parameters,
    zoom,
)
from vgx.report.palette import BLUE, BROKEN, CATEGORIES, DASHES, GREEN, GREY, NOTHING, VERMILLION, power_label
from vgx.results.columns import LAYERS, METRICS

COURSE_COLOURS = {"training": BLUE, "test": VERMILLION, "validation": GREEN, "logits,": VERMILLION, "hidden,": BLUE}
DECADE = (
    f"datum.value >= 1e-3 && datum.value < 1e5 ? format(datum.value, '~g') : {power_label('log(datum.value) / LN10')}"
)
"""Labels of a logarithmic axis of the values themselves."""
TRACKS = 6
"""Layers that are drawn over the steps together, at the most."""


def _cells(bare: bool) -> tuple[dict[str, Any], alt.Chart]:
    """Where rectangles stand, and their data."""
    hidden: dict[str, Any] = {"axis": None} if bare else {}
    shown: dict[str, Any] = {"axis": alt.Axis(labelExpr=WHOLE, grid=False)}
    x = alt.X(
        "x:Q",
        title=None if bare else "step",
        scale=alt.Scale(domain=[expression("first"), expression("last")], nice=False, zero=False),
        **(hidden or shown),
    )
    y = alt.Y(
        "y:Q",
        title=None,
        scale=alt.Scale(domain=[0.5, expression("top + 0.5")], nice=False),
        **(hidden or shown),
    )
    tooltip = [
        alt.Tooltip("steps:N", title="step"),
        alt.Tooltip("layers:N", title="layer"),
        alt.Tooltip("said:N", title="value"),
        alt.Tooltip("low_said:N", title="lowest"),
        alt.Tooltip("high_said:N", title="highest"),
    ]
    place = {"x": x, "x2": alt.X2("x2"), "y": y, "y2": alt.Y2("y2"), "tooltip": tooltip}
    return place, alt.Chart(alt.NamedData(name="cells"))


def heat(signed: bool = False, log10: bool = False, form: str = "~g", bare: bool = False) -> Any:
    """A statistic over steps and layers, as colour: viridis, or blue to orange around 0 where the sign matters.

    A line stands at the step that is shown, `now`. A bare one has neither axes nor legend, and nothing to zoom.
    """
    place, base = _cells(bare)
    legend = None if bare else alt.Legend(gradientLength=200, gradientThickness=10, **_ticks(log10, form))
    colour = alt.Color(
        "value:Q",
        scale=alt.Scale(
            scheme="blueorange" if signed else "viridis", domain=[expression("lo"), expression("hi")], clamp=True
        ),
        legend=legend,
    )
    kinds = {
        "datum.flag == ''": {"color": colour},
        "datum.flag == '0'": {"color": alt.value(NOTHING)},
        "datum.flag == 'NaN' || datum.flag == '∞'": {"color": alt.value(BROKEN)},
    }
    drawn = [
        base.transform_filter(which).mark_rect(clip=True, **OVERLAP).encode(**encoding, **place)
        for which, encoding in kinds.items()
    ]
    at = alt.Chart(alt.InlineData(values=[{}])).transform_calculate(now="now")
    lines = [
        at.mark_rule(color=ink, strokeWidth=width, clip=True).encode(
            alt.X("now:Q", title=None if bare else "step", axis=None if bare else place["x"]["axis"])
        )
        for ink, width in (("#000000", 3), ("#ffffff", 1.4))
    ]
    figure = alt.layer(*drawn, *lines, height=150 if bare else 280, width="container")
    figure = figure.properties(**({} if bare else {"title": "layer"}))
    names = ("first", "last", "now")
    set_by_page = [*parameters("lo", "hi", "top"), *(alt.param(name=name, value=0) for name in names)]
    return figure.add_params(*set_by_page, *([] if bare else [zoom()]))


def _ticks(log10: bool, form: str) -> dict[str, Any]:
    """Of a legend of colours: whole decades of a logarithm."""
    if not log10:
        return {"tickCount": 4, "format": form}
    return axis_of(log10=True, ends=("lo", "hi"), most=4)


def heats() -> dict[str, Any]:
    """The heat maps, one for each kind of scale."""
    return {
        "log10": heat(log10=True),
        "log": heat(log10=True),
        "signed": heat(signed=True),
        "share": heat(form=".0%"),
        "linear": heat(),
    }


def scale_of(statistic: str) -> str:
    """Returns which of the heat maps draws a statistic."""
    return LAYERS[statistic].scale


def tracks(log10: bool = False) -> Any:
    """A statistic of chosen layers over the steps."""
    base = alt.Chart(alt.NamedData(name="tracks"))
    x = alt.X("step:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(labelExpr=WHOLE))
    scale = alt.Scale(domain=[expression("lo"), expression("hi")], nice=False, zero=False, padding=8)
    y = alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(**axis_of(log10)))
    order = [f"chosen {i}" for i in range(TRACKS)]
    colour = alt.Color("slot:N", scale=alt.Scale(domain=order, range=list(CATEGORIES[:TRACKS])), legend=None)
    dash = alt.StrokeDash("slot:N", scale=alt.Scale(domain=order, range=list(DASHES[:TRACKS])), legend=None)
    tooltip = [
        alt.Tooltip("steps:N", title="step"),
        alt.Tooltip("layers:N", title="layer"),
        alt.Tooltip("said:N", title="value"),
    ]
    low = alt.Y("low:Q", title=None, scale=scale, axis=alt.Axis(**axis_of(log10)))
    flags = base.transform_filter("datum.mark != ''")
    figure = alt.layer(
        base.mark_area(opacity=0.14, clip=True).encode(x, low, alt.Y2("high"), color=colour),
        base.mark_line(strokeWidth=1.8, clip=True).encode(x, y, color=colour, strokeDash=dash),
        base.mark_point(filled=True, size=22, clip=True).encode(
            x, y, color=colour, tooltip=tooltip, opacity=alt.condition("datum.few", alt.value(1), alt.value(0))
        ),
        flags.mark_text(fontWeight="bold", fontSize=11, color=BROKEN, dy=-5, align="left", clip=True).encode(
            x, y=alt.value(expression("height")), text="mark:N"
        ),
        height=280,
        width="container",
        title=" ",
    )
    return figure.add_params(*parameters("lo", "hi"), zoom())


def course(names: Sequence[str], title: str, form: str = "~g", log: bool = False) -> Any:
    """Some columns of the metrics table over the steps; smoothed on request, with the curves themselves behind."""
    base = alt.Chart(alt.NamedData(name="course")).transform_filter(
        alt.FieldOneOfPredicate("name", [METRICS[name] for name in names])
    )
    domain = [METRICS[name] for name in names]
    colours = [COURSE_COLOURS.get(name.split()[0], GREY) for name in domain]
    legend = LEGEND if len(names) > 1 else None
    colour = alt.Color("name:N", scale=alt.Scale(domain=domain, range=colours), legend=legend)
    x = alt.X("step:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(labelExpr=WHOLE))
    scale = (
        alt.Scale(type="log", nice=False, padding=8)
        if log
        else alt.Scale(domain=[expression("lo"), expression("hi")], nice=False, zero=False)
    )
    label: dict[str, Any] = {"labelExpr": DECADE} if log else {"format": form}
    axis = alt.Axis(tickCount=5, **label)
    y = alt.Y("value:Q", title=None, scale=scale, axis=axis)
    tooltip = [
        alt.Tooltip("steps:N", title="step"),
        alt.Tooltip("name:N", title="curve"),
        alt.Tooltip("value:Q", title="value", format=".5~g"),
    ]
    few = base.transform_filter("datum.sparse").mark_point(filled=True, size=26, opacity=1, clip=True)
    smooth = base.transform_filter("datum.smooth != null").mark_line(strokeWidth=2, clip=True)
    faint = expression("smoothed ? 0.3 : 1")
    figure = alt.layer(
        base.mark_area(opacity=0.16, clip=True).encode(
            x, alt.Y("low:Q", scale=scale, title=None, axis=axis), alt.Y2("high"), color=colour
        ),
        base.mark_line(strokeWidth=1.6, opacity=faint, clip=True).encode(x, y, color=colour, tooltip=tooltip),
        smooth.encode(x, alt.Y("smooth:Q", scale=scale, title=None, axis=axis), color=colour),
        few.encode(x, y, color=colour, tooltip=tooltip),
        height=220,
        width="container",
        title=title,
    )
    ends = [] if log else parameters("lo", "hi")
    return figure.add_params(*ends, alt.param(name="smoothed", value=False), zoom())
