"""The figures of one lane, as Altair charts over named data that the page, or a still, fills in.

Data `layers` has a row per layer at one step. A value comes with `_low` and `_high` where neighbours are drawn as one,
and with a `_flag` where it is no number to draw.
`_said` is the value in words, for a page's tooltips: a gradient whose logarithm is drawn is said as a gradient.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import altair as alt

from vgx.report.palette import (
    BLUE,
    BROKEN,
    CATEGORIES,
    DASHES,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SEEN,
    SKY,
    VERMILLION,
    power_label,
)
from vgx.results.columns import LAYERS

HEIGHT = 250
FLOAT32 = -37.9298
"""log10 of the least normal float32: below it XLA reads 0."""
LEGEND = alt.Legend(symbolType="stroke", symbolOpacity=1, symbolSize=160)
WHOLE = "datum.value % 1 ? '' : format(datum.value, ',d')"
"""Labels of layers and steps: there are no halves."""
OVERLAP: dict[str, Any] = {"x2Offset": 0.7, "y2Offset": -0.7}
"""Of neighbouring cells, in pixels: no line of paper shines through."""
PREDICTED = "predicted, at initialization"


def expression(text: str) -> Any:
    return alt.ExprRef(text)


def parameters(*names: str) -> list[Any]:
    """What the page sets: the ends of an axis, and the number of the readout."""
    return [alt.param(name=name, value=value) for name, value in zip(names, (0, 1, 1), strict=False)]


def _x() -> alt.X:
    return alt.X(
        "layer:Q",
        title="layer, from the input to the readout",
        scale=alt.Scale(domain=[0.5, expression("top + 0.5")], nice=False),
        axis=alt.Axis(labelExpr=f"datum.value === top ? 'out' : {WHOLE}"),
    )


def axis_of(
    log10: bool = False, form: str = "~g", ends: tuple[str, str] = ("domain('y')[0]", "domain('y')[1]"), most: int = 7
) -> dict[str, Any]:
    """Returns the ticks and labels of an axis: of logarithms the whole decades, and parts of one that fills it.

    Args:
        log10: whether its numbers are logarithms.
        form: of its labels else.
        ends: of the axis, as expressions.
        most: how many ticks it has, about.
    """
    if not log10:
        return {"tickCount": 5, "format": form}
    low, high = ends
    span = f"({high} - {low})"
    share = f"({span} / {most})"
    power = f"pow(10, floor(log({share}) / LN10))"
    whole = f"({power} * ({share} > 5 * {power} ? 10 : {share} > 2 * {power} ? 5 : {share} > {power} ? 2 : 1))"
    each = f"({span} < 0.6 ? 0.1 : {span} < 1.5 ? 0.5 : max(1, {whole}))"
    values = expression(f"sequence(ceil({low} / {each} - 1e-6) * {each}, {high} + 1e-6, {each})")
    return {"labelExpr": power_label(), "values": values}


def zoom() -> Any:
    """Returns what lets a figure be moved by dragging it and zoomed by Ctrl and the wheel; a double click resets it.

    A finger scrolls the page, as does the wheel alone.
    """
    mouse = "[pointerdown[event.pointerType === 'mouse'], window:pointerup] > window:pointermove!"
    return alt.selection_interval(
        name="zoom", bind="scales", translate=mouse, zoom="wheel![event.ctrlKey || event.metaKey]"
    )


def _y(field: str, log10: bool = False, form: str = "~g", zero: bool = False) -> alt.Y:
    low = expression("lo" if zero else "lo - 0.04 * (hi - lo)")
    return alt.Y(
        f"{field}:Q",
        title=None,
        scale=alt.Scale(domain=[low, expression("hi + 0.04 * (hi - lo)")], nice=False, zero=False),
        axis=alt.Axis(**axis_of(log10, form)),
    )


class _ByLayer:
    """Lines over the layers that share a chart."""

    def __init__(
        self,
        title: str,
        colours: Mapping[str, str],
        log10: bool = False,
        form: str = "~g",
        hidden: bool = False,
        zero: bool = False,
    ):
        self.base = alt.Chart(alt.NamedData(name="layers"))
        if hidden:
            self.base = self.base.transform_filter("!datum.readout")
        self.title, self.log10, self.form, self.zero = title, log10, form, zero
        self.scale = alt.Scale(domain=list(colours), range=list(colours.values()))

    def y(self, field: str) -> alt.Y:
        return _y(field, self.log10, self.form, self.zero)

    def line(self, field: str, name: str, dash: Sequence[int] = (), points: bool = True) -> list[alt.Chart]:
        base = self.base.transform_calculate(curve=repr(name))
        colour = alt.Color("curve:N", scale=self.scale, legend=LEGEND)
        # What is drawn as a logarithm is said as it is, by the name of its axis.
        value = alt.Tooltip(f"{field}_said:N", title=self.title)
        if not self.log10:
            value = alt.Tooltip(f"{field}:Q", title=name, format=".5~g")
        tooltip = [alt.Tooltip("layers:N", title="layer"), value]
        drawn = base.mark_line(strokeDash=list(dash), clip=True).encode(_x(), self.y(field), color=colour)
        marks = [drawn]
        if points:
            marks.append(
                base.mark_point(filled=True, size=26, opacity=1, clip=True, cursor="pointer").encode(
                    _x(), self.y(field), color=colour, tooltip=tooltip
                )
            )
        return marks

    def band(self, low: str, high: str, colour: str, opacity: float = 0.2) -> alt.Chart:
        return self.base.mark_area(opacity=opacity, color=colour, clip=True).encode(_x(), self.y(low), alt.Y2(high))

    def flags(self, field: str) -> alt.Chart:
        """Where a value cannot stand on the axis: 0 on a log scale, NaN, infinity."""
        flag = f"{field}_flag"
        return (
            self.base.transform_filter(f"datum.{flag} != ''")
            .mark_text(fontWeight="bold", fontSize=11, color=BROKEN, dy=-5, clip=True)
            .encode(_x(), y=alt.value(expression("height")), text=f"{flag}:N")
        )

    def chart(self, *marks: alt.Chart, height: int = HEIGHT) -> Any:
        figure = alt.layer(*marks, height=height, width="container", title=self.title)
        return figure.add_params(*parameters("lo", "hi", "top"), zoom())


def gradient_by_role(roles: Sequence[str], outside: str) -> Any:
    """The gradient of a watched net, a line for each chain over its blocks; other layers are points."""
    by_layer = _ByLayer("|dloss/dh| of one example", {}, log10=True)
    kinds = [*roles, outside]
    legend = alt.Legend(symbolType="stroke", symbolOpacity=1, symbolSize=160, columns=2, labelLimit=260)
    colours, dashes = [*CATEGORIES[: len(roles)], GREY], [*DASHES[: len(roles)], [1, 0]]
    colour = alt.Color("role:N", scale=alt.Scale(domain=kinds, range=colours), legend=legend)
    dash = alt.StrokeDash("role:N", scale=alt.Scale(domain=kinds, range=dashes), legend=legend)
    x, y = _x(), by_layer.y("delta_log10")
    tooltip = [alt.Tooltip("layers:N", title="layer"), alt.Tooltip("delta_log10_said:N", title=by_layer.title)]
    return by_layer.chart(
        by_layer.base.mark_line(clip=True).encode(x, y, color=colour, strokeDash=dash, detail="chain:N"),
        by_layer.base.mark_point(filled=True, size=30, opacity=1, clip=True, cursor="pointer").encode(
            x, y, color=colour, tooltip=tooltip
        ),
        by_layer.flags("delta_log10"),
        height=HEIGHT + 50,
    )


def gradient(predicted: bool = True) -> Any:
    """The gradient against the layer, over what theory predicts of it, if it does."""
    colours = {"measured": BLUE} | ({PREDICTED: VERMILLION} if predicted else {})
    by_layer = _ByLayer("|dloss/dh| of one example", colours, log10=True)
    theory = [
        by_layer.band("predicted_low", "predicted_high", VERMILLION),
        *by_layer.line("predicted", PREDICTED, (6, 4), points=False),
    ]
    return by_layer.chart(
        *theory * predicted,
        by_layer.band("delta_log10_low", "delta_log10_high", BLUE),
        *by_layer.line("delta_log10", "measured"),
        by_layer.flags("delta_log10"),
        height=HEIGHT + 50,
    )


def weights() -> Any:
    """The weights' gradient as it is, and what of it the optimizer saw."""
    by_layer = _ByLayer("|dloss/dW|, by what the optimizer saw of it", {}, log10=True)
    base = by_layer.base
    colours = alt.Scale(domain=list(SEEN), range=[colour for colour, _ in SEEN.values()])
    shapes = alt.Scale(domain=list(SEEN), range=[shape for _, shape in SEEN.values()])
    tooltip = [
        alt.Tooltip("layers:N", title="layer"),
        alt.Tooltip("weight_grad_log10_said:N", title="|dloss/dW|"),
        alt.Tooltip("weight_grad_zero:Q", title="entries that were 0", format=".2%"),
    ]
    end = alt.Chart(alt.InlineData(values=[{"end": FLOAT32}])).transform_filter("lo < datum.end")
    return by_layer.chart(
        by_layer.band("weight_grad_log10_low", "weight_grad_log10_high", BLUE),
        end.mark_rule(strokeDash=[2, 3], color=GREY, clip=True).encode(by_layer.y("end")),
        end.mark_text(align="left", dy=-6, color=GREY, clip=True, text="below: 0 in float32").encode(
            by_layer.y("end"), x=alt.value(4)
        ),
        base.mark_line(color=BLUE, opacity=0.5, clip=True).encode(_x(), by_layer.y("weight_grad_log10")),
        base.mark_point(filled=True, size=38, opacity=1, clip=True).encode(
            _x(),
            by_layer.y("weight_grad_log10"),
            color=alt.Color("seen:N", scale=colours, sort=list(SEEN)),
            shape=alt.Shape("seen:N", scale=shapes, sort=list(SEEN)),
            tooltip=tooltip,
        ),
        by_layer.flags("weight_grad_log10"),
    )


def activations() -> Any:
    """The mean of the activations over examples and units, and their spread around it."""
    by_layer = _ByLayer("activations x", {"mean ± standard deviation": BLUE}, hidden=True)
    return by_layer.chart(
        by_layer.band("act_below", "act_above", BLUE),
        *by_layer.line("act_mean", "mean ± standard deviation"),
        by_layer.flags("act_mean"),
    )


SIZES = {"preact_std": "standard deviation of h", "act_rms": "root mean square of x"}
SHARES = {"dead": "dead units", "saturated": "flat entries", "weight_grad_zero": "zeros to the optimizer"}


def sizes(predicted: bool, fields: Collection[str] = tuple(SIZES)) -> Any:
    """How large what each layer receives and passes on is, as far as measured, and the prediction if there is one."""
    colours = dict(zip(SIZES.values(), (GREEN, PURPLE), strict=True))
    colours = {SIZES[field]: colours[SIZES[field]] for field in SIZES if field in fields}
    by_layer = _ByLayer("size", colours | ({"predicted": GREY} if predicted else {}), hidden=True, zero=True)
    marks = [
        by_layer.line("predicted_" + field, "predicted", (6, 4), points=False) for field in ("preact_std", "act_rms")
    ]
    return by_layer.chart(
        *(mark for pair in marks * predicted for mark in pair),
        *(mark for field, name in SIZES.items() if field in fields for mark in by_layer.line(field, name)),
        by_layer.flags("act_rms" if "act_rms" in fields else "preact_std"),
    )


def shares(fields: Collection[str] = tuple(SHARES)) -> Any:
    """Which share of each layer does not move, as far as measured."""
    looks = zip(SHARES, (VERMILLION, ORANGE, SKY), ((), (6, 3), (2, 2)), strict=True)
    drawn = [(field, colour, dash) for field, colour, dash in looks if field in fields]
    colours = {SHARES[field]: colour for field, colour, _ in drawn}
    by_layer = _ByLayer("share of units, or of entries", colours, form="~%", hidden=True, zero=True)
    lines = [by_layer.line(field, SHARES[field], dash) for field, _, dash in drawn]
    return by_layer.chart(*(mark for pair in lines for mark in pair))


def updates() -> Any:
    """How far a step moved each layer's weights, against their size."""
    by_layer = _ByLayer(LAYERS["update_ratio"].symbol, {"update ratio": GREEN}, log10=True)
    return by_layer.chart(
        by_layer.band("update_ratio_low", "update_ratio_high", GREEN),
        *by_layer.line("update_ratio", "update ratio"),
        by_layer.flags("update_ratio"),
    )
