"""The figures of a comparison, as Altair charts over named data that the page fills in; nets stand by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from vgx.report.html.charts import HEIGHT, OVERLAP, WHOLE, axis_of, expression, parameters, zoom
from vgx.report.palette import BROKEN, CATEGORIES, DASHES, GREY, NOTHING

SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
"""What each contender is drawn in: colour is never alone."""


class _Curves:
    """A curve and a band for each of so many contenders, over `x`; what has no place on the axis stands below."""

    def __init__(self, data: str, names: Sequence[str], x: alt.X, y: alt.Y):
        self.base, self.x, self.y, self.foot = alt.Chart(alt.NamedData(name=data)), x, y, expression("height")
        self.domain = list(names)

    def scale(self, kinds: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=self.domain, range=list(kinds[: len(self.domain)]))

    def layers(self, tooltip: Sequence[alt.Tooltip], size: int) -> list[alt.Chart]:
        legend = alt.Legend(symbolType="stroke", symbolSize=500, symbolOpacity=1, columns=3)
        colour = alt.Color("name:N", scale=self.scale(CATEGORIES), legend=legend)
        dash = alt.StrokeDash("name:N", scale=self.scale(DASHES), legend=legend)
        shape = alt.Shape("shape:N", scale=None, legend=None)
        low = alt.Y("low:Q", title=None, scale=self.y["scale"])
        tips = [alt.Tooltip("name:N", title="net"), *tooltip, alt.Tooltip("flag:N", title="not drawn")]
        odd = self.base.transform_filter("datum.flag != ''")
        return [
            self.base.mark_area(opacity=0.16, clip=True).encode(self.x, low, alt.Y2("high"), color=colour),
            self.base.mark_line(strokeWidth=1.8, clip=True).encode(self.x, self.y, color=colour, strokeDash=dash),
            self.base.transform_filter("datum.point")
            .mark_point(filled=True, size=size, opacity=1, clip=True)
            .encode(self.x, self.y, color=colour, shape=shape, tooltip=tips),
            odd.mark_point(filled=True, size=size, opacity=1).encode(
                self.x, y=alt.value(self.foot), color=colour, shape=shape, tooltip=tips
            ),
            odd.mark_text(fontWeight="bold", fontSize=11, color=BROKEN, align="left", dx=-2, dy=-11).encode(
                self.x, y=alt.value(self.foot), text="mark:N"
            ),
        ]


def _by_position(layers: int, channel: Any, field: str) -> Any:
    """An axis of layers, so many of them, or of relative depth."""
    if layers:
        domain, title, axis = [0.5, layers + 0.5], "layer, from the input to the top", alt.Axis(labelExpr=WHOLE)
    else:
        domain, title, axis = [0, 1], "relative depth, from the first hidden layer to the top", alt.Axis(format=".0%")
    return channel(f"{field}:Q", title=title, scale=alt.Scale(domain=domain, nice=False), axis=axis)


def curves(names: Sequence[str], layers: int, label: str, log10: bool) -> Any:
    """A statistic against the layer, or the relative depth where `layers` is 0, of these nets at a step."""
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=[expression("lo"), expression("hi")], nice=False, zero=False, padding=8),
        axis=alt.Axis(**axis_of(log10)),
    )
    tooltip = [
        alt.Tooltip("where:N", title="at"),
        alt.Tooltip("said:N", title="geometric mean" if log10 else "mean"),
        alt.Tooltip("spread:Q", title="spread over seeds" + ", decades" * log10, format=".3~g"),
        alt.Tooltip("seeds:Q", title="seeds"),
    ]
    drawn = _Curves("curves", names, _by_position(layers, alt.X, "x"), y)
    chart = alt.layer(*drawn.layers(tooltip, 30), height=300, width="container", title=label)
    return chart.add_params(*parameters("lo", "hi"), zoom())


def trajectory(name: str, names: Sequence[str], title: str, log: bool = False, share: bool = False) -> Any:
    """A column of the metrics table over the steps, of these nets; the data is called `name`."""
    kind = "log" if log else "linear"
    scale = alt.Scale(type=kind, nice=False, padding=8) if log else alt.Scale(type=kind, zero=False, nice=True)
    y = alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5, format="~%" if share else "~g"))
    x = alt.X("step:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(labelExpr=WHOLE))
    tooltip = [
        alt.Tooltip("step:Q", format=",d"),
        alt.Tooltip("value:Q", title="mean", format=".5~g"),
        alt.Tooltip("spread:Q", title="spread over seeds", format=".3~g"),
    ]
    drawn = _Curves(name, names, x, y)
    chart = alt.layer(*drawn.layers(tooltip, 26), height=HEIGHT, width="container", title=title)
    return chart.add_params(zoom())


def divergence(layers: int, log10: bool) -> Any:
    """How far a contender is from the first, over steps and depth: blue below it, orange above, grey not apart."""
    base = alt.Chart(alt.NamedData(name="cells"))
    ends = alt.Scale(domain=[expression("first"), expression("last")], nice=False, zero=False)
    x = alt.X("x:Q", title="step", scale=ends, axis=alt.Axis(labelExpr=WHOLE))
    y = _by_position(layers, alt.Y, "y")
    y["scale"] = alt.Scale(domain=[expression("bottom"), expression("top")], nice=False)
    y["title"] = None
    y["axis"]["grid"] = False
    legend = alt.Legend(gradientLength=220, gradientThickness=10, tickCount=5, format="+.3~g")
    scale = alt.Scale(scheme="blueorange", domain=[expression("lo"), expression("hi")], clamp=True)
    unit = "difference, decades" if log10 else "difference"
    tooltip = [
        alt.Tooltip("step:Q", format=",d"),
        alt.Tooltip("where:N", title="at"),
        alt.Tooltip("value:Q", title=unit, format="+.4~g"),
        alt.Tooltip("limit:Q", title="no accident beyond" + ", decades" * log10, format=".3~g"),
        alt.Tooltip("mark:N", title="no difference"),
    ]
    place: dict[str, Any] = {"x": x, "x2": alt.X2("x2"), "y": y, "y2": alt.Y2("y2"), "tooltip": tooltip}

    def cells(kind: str) -> alt.Chart:
        return base.transform_filter(f"datum.kind == '{kind}'")

    return alt.layer(
        cells("apart").mark_rect(**OVERLAP).encode(color=alt.Color("value:Q", scale=scale, legend=legend), **place),
        cells("level").mark_rect(color=GREY, opacity=0.22).encode(**place),
        cells("zero").mark_rect(color=NOTHING, **OVERLAP).encode(**place),
        cells("broken").mark_rect(color=BROKEN, **OVERLAP).encode(**place),
        height=260,
        width="container",
        title=f"{unit}; {'layer' if layers else 'relative depth'} over steps",
    ).add_params(
        *parameters("lo", "hi"), *(alt.param(name=name, value=0) for name in ("first", "last", "bottom", "top"))
    )
