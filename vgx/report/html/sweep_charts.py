"""The figures of a sweep, as Altair charts over named data: a row per cell, or for `curves` one per lane and layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from vgx.report.palette import GREY, UNJUDGED, VERDICTS, power_label

SHOWN = 60
"""Cells of the ranking and of the small multiples; more could not be read."""


def _verdict(words: Sequence[str]) -> dict[str, Any]:
    """Colour and shape by verdict, of those that there are."""
    known = [word for word in (*VERDICTS, "pending", "running", "interrupted", "failed") if word in words]
    domain = [*known, *sorted(set(words) - set(known))]  # a legend without an entry has no size
    signs = [VERDICTS.get(word, UNJUDGED) for word in domain]
    colours = alt.Scale(domain=domain, range=[sign.colour for sign in signs])
    shapes = alt.Scale(domain=domain, range=[sign.shape for sign in signs])
    return {
        "color": alt.Color("verdict:N", scale=colours, title=None),
        "shape": alt.Shape("verdict:N", scale=shapes, title=None),
    }


def _tooltip(score: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("label:N", title="cell"),
        alt.Tooltip("score:Q", title=score, format=".4f"),
        alt.Tooltip("score_low:Q", title="from", format=".4f"),
        alt.Tooltip("score_high:Q", title="to", format=".4f"),
        alt.Tooltip("predicted:Q", title="predicted slope", format="+.4f"),
        alt.Tooltip("measured:Q", title="measured slope", format="+.4f"),
        alt.Tooltip("verdicts:N", title="verdict"),
    ]


def _ring(base: alt.Chart, x: alt.X, y: alt.Y) -> alt.Chart:
    """Around the point of the cell whose curves the page shows."""
    ring = base.transform_filter("datum.cell === chosen").mark_point(size=230, strokeWidth=2, filled=False, opacity=1)
    return ring.encode(x, y, color=alt.value("currentColor"))


def _chosen() -> Any:
    return alt.param(name="chosen", value=-1)


def _fitting(low: float, high: float) -> list[float]:
    """An axis that holds these, with some room."""
    room = 0.06 * (high - low) or 0.05
    return [low - room, high + room]


def slopes(field: str, title: str, score: str, words: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Any:
    """The score against a slope: a point per cell, its interval over seeds; the axes fit these rows."""
    known = [row for row in rows if row[field] is not None and row["score"] is not None]
    across = [row[field] for row in known]
    up = [row[end] for row in known for end in ("score_low", "score_high") if row[end] is not None]
    base = alt.Chart(alt.NamedData(name="summaries")).transform_filter(f"datum.{field} != null && datum.score != null")
    x = alt.X(
        f"{field}:Q",
        title=f"{title} slope, decades per layer",
        scale=alt.Scale(domain=_fitting(min(across), max(across)), nice=False, zero=False),
        axis=alt.Axis(format="+~g", tickCount=6),
    )
    scale = alt.Scale(domain=_fitting(min(up), max(up)), nice=False, zero=False)
    y = alt.Y("score:Q", title=None, scale=scale, axis=alt.Axis(format="~%", tickCount=5))
    at = alt.Chart(alt.InlineData(values=[{"at": 0}]))
    level = at.mark_rule(color=GREY, strokeDash=[3, 3], clip=True).encode(x="at:Q")
    return alt.layer(
        level,
        base.mark_rule(opacity=0.8).encode(
            x, alt.Y("score_low:Q", title=None), alt.Y2("score_high"), color=_verdict(words)["color"]
        ),
        _ring(base, x, y),
        base.mark_point(filled=True, size=70, opacity=0.9, cursor="pointer").encode(
            x, y, tooltip=_tooltip(score), **_verdict(words)
        ),
        height=280,
        width="container",
        title=score,
    ).add_params(_chosen())


def ranks(score: str, words: Sequence[str], count: int) -> Any:
    """The cells in order of their score, with 95 % intervals over seeds."""
    base = alt.Chart(alt.NamedData(name="ranking"))
    y = alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=230, labelOverlap=False, domain=False))
    scale = alt.Scale(zero=False, nice=True)
    x = alt.X("score:Q", title=f"{score}, mean over seeds and 95 % interval", scale=scale, axis=alt.Axis(format="~%"))
    return alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.8).encode(
            y, alt.X("score_low:Q", scale=scale), alt.X2("score_high"), color=_verdict(words)["color"]
        ),
        _ring(base, x, y),
        base.mark_point(filled=True, size=60, opacity=1, cursor="pointer").encode(
            y, x, tooltip=_tooltip(score), **_verdict(words)
        ),
        height=19 * count,
        width="container",
    ).add_params(_chosen())


def multiples(words: Sequence[str], labels: Sequence[str], columns: int = 5, width: int = 150) -> Any:
    """The gradient against the layer, a small chart per cell and a line per seed; one scale for all."""
    base = alt.Chart(alt.NamedData(name="curves")).mark_line()
    x = alt.X("layer:Q", title=None, axis=alt.Axis(tickCount=3, format="d"), scale=alt.Scale(nice=False))
    y = alt.Y(
        "value:Q",
        title=None,
        axis=alt.Axis(tickCount=4, tickMinStep=1, labelExpr=power_label()),
        scale=alt.Scale(zero=False),
    )
    thick = alt.condition("datum.cell === chosen", alt.value(3.5), alt.value(1.5))
    drawn = base.encode(x, y, detail="seed:N", color=_verdict(words)["color"], strokeWidth=thick)
    drawn = drawn.properties(width=width, height=90)
    lines = "split(datum.label, ', ')"  # one for each option
    header = alt.Header(title=None, labelLimit=width, labelAnchor="start", labelFontSize=11, labelExpr=lines)
    figure = drawn.facet(alt.Facet("label:N", sort=list(labels), header=header), columns=columns)
    return figure.properties(title="|dloss/dh| of one example, by layer").add_params(_chosen())


def grid(field: str, title: str, rows: Sequence[str], columns: Sequence[str]) -> Any:
    """Every cell over two axes, for stills; the page has a table. Data `grid` has the texts and colours."""
    base = alt.Chart(alt.NamedData(name="grid"))
    top = alt.Axis(orient="top", labelAngle=0, labelLimit=120, domain=False, ticks=False)
    left = alt.Axis(labelLimit=240, domain=False, ticks=False)
    place: dict[str, Any] = {
        "x": alt.X("column:N", sort=list(columns), title=None, axis=top),
        "y": alt.Y("row:N", sort=list(rows), title=None, axis=left),
    }
    return alt.layer(
        base.mark_rect(cornerRadius=3, stroke="white", strokeWidth=2).encode(
            color=alt.Color(f"{field}_colour:N", scale=None), **place
        ),
        base.mark_text(fontSize=12).encode(
            text=f"{field}_text:N", color=alt.Color(f"{field}_ink:N", scale=None), **place
        ),
        width=alt.Step(100),
        height=alt.Step(34),
        title=title,
    )
