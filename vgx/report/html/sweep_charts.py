"""The figures of a sweep, as Altair charts over named data: a row per cell, or for `curves` one per lane and layer."""

from __future__ import annotations

from collections.abc import Sequence
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


def slopes(field: str, title: str, score: str, words: Sequence[str]) -> Any:
    """The score against a slope: a point per cell, its interval over seeds."""
    base = alt.Chart(alt.NamedData(name="summaries")).transform_filter(f"datum.{field} != null && datum.score != null")
    x = alt.X(
        f"{field}:Q",
        title=f"{title} slope, decades per layer",
        scale=alt.Scale(padding=12, nice=False),
        axis=alt.Axis(format="+~g", tickCount=6),
    )
    y = alt.Y("score:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%", tickCount=5))
    level = alt.Chart(alt.InlineData(values=[{"at": 0}])).mark_rule(color=GREY, strokeDash=[3, 3]).encode(x="at:Q")
    return alt.layer(
        level,
        base.mark_rule(opacity=0.8).encode(
            x, alt.Y("score_low:Q", title=None), alt.Y2("score_high"), color=_verdict(words)["color"]
        ),
        base.mark_point(filled=True, size=70, opacity=0.9).encode(x, y, tooltip=_tooltip(score), **_verdict(words)),
        height=280,
        width="container",
        title=score,
    )


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
        base.mark_point(filled=True, size=60, opacity=1).encode(y, x, tooltip=_tooltip(score), **_verdict(words)),
        height=19 * count,
        width="container",
    )


def multiples(words: Sequence[str], labels: Sequence[str], columns: int = 5, width: int = 150) -> Any:
    """The gradient against the layer, a small chart per cell and a line per seed; one scale for all."""
    base = alt.Chart(alt.NamedData(name="curves")).mark_line(strokeWidth=1.5, point=alt.OverlayMarkDef(size=8))
    x = alt.X("layer:Q", title=None, axis=alt.Axis(tickCount=3, format="d"), scale=alt.Scale(nice=False))
    y = alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=4, labelExpr=power_label()), scale=alt.Scale(zero=False))
    drawn = base.encode(x, y, detail="seed:N", color=_verdict(words)["color"]).properties(width=width, height=90)
    header = alt.Header(title=None, labelLimit=width, labelAnchor="start", labelFontSize=11)
    return drawn.facet(alt.Facet("label:N", sort=list(labels), header=header), columns=columns).properties(
        title="|dloss/dh| of one example, by layer"
    )


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
