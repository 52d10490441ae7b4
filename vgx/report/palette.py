"""How figures look: colours that everyone tells apart and labels of powers of ten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vgx.results.verdict import WORDS

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
"""Okabe and Ito 2008, Color universal design."""
GREY = "#8a8a8a"
NOTHING, BROKEN = PURPLE, VERMILLION
"""Of an exact 0 on a log scale, and of NaN or infinity."""
NAMES = {NOTHING: "Pink", BROKEN: "Vermillion"}
"""What a legend in words calls them."""


WINE = "#882255"
"""Tol's: Okabe and Ito have only so many that are seen on black and on white."""
CATEGORIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, WINE, GREY)
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [4, 2], [12, 4], [2, 5], [6, 2, 2, 2, 2, 2])
"""Of curves side by side: colour is never alone."""


class Sign(NamedTuple):
    """What stands for a verdict: colour is never alone."""

    colour: str
    shape: str
    """As Vega names it."""
    letter: str


_SIGNS = (
    Sign(GREEN, "circle", "H"),
    Sign(BLUE, "triangle-down", "V"),
    Sign(VERMILLION, "triangle-up", "X"),
    Sign(ORANGE, "square", "S"),
    Sign(PURPLE, "cross", "D"),
    Sign(WINE, "diamond", "N"),
)
VERDICTS: dict[str, Sign] = dict(zip(WORDS, _SIGNS, strict=True))
VERDICT_INKS: dict[str, str] = dict(zip(WORDS, ("green", "red", "magenta", "yellow", "red", "red"), strict=True))
"""In a terminal, by rich's names."""
SEEN = {"no zeros": (BLUE, "circle"), "some zeros": (ORANGE, "diamond"), "only zeros": (VERMILLION, "cross")}
"""What the optimizer saw of a layer's gradient, in the precision of the run."""
UNJUDGED = Sign(GREY, "circle", "–")

VIRIDIS = [f"#{rgb}" for rgb in ("440154", "414487", "2a788e", "22a884", "7ad151", "fde725")]
BLUE_ORANGE = [f"#{rgb}" for rgb in ("134b85", "5da2cb", "d2e5ef", "f2f0eb", "fce0ba", "e8932f", "994a07")]
"""Even stops of Vega's schemes of these names, for the cells of grids."""


def colour_at(stops: Sequence[str], place: float) -> str:
    """Returns the colour at a place from 0 to 1 between stops, mixed in sRGB as the page mixes it."""
    at = min(max(place, 0.0), 1.0) * (len(stops) - 1)
    i = min(int(at), len(stops) - 2)
    pairs = zip(_channels(stops[i]), _channels(stops[i + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (at - i)):02x}" for a, b in pairs)


def ink_on(colour: str) -> str:
    """Returns black or white, whichever is read better on a colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in _channels(colour))]
    return "#000000" if sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)) > 0.18 else "#ffffff"


def _channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def power_label(number: str = "datum.value") -> str:
    """Returns a Vega expression that writes the exponent `number` as a power of ten: 10⁻⁶²⁸."""
    text = f"format({number}, '~g')"
    for plain, raised in zip("-−0123456789.", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹·", strict=True):
        text = f"replace({text}, regexp('[{plain}]', 'g'), '{raised}')"
    return f"'10' + {text}"


def theme(ink: str = "currentColor", faint: str = "currentColor") -> dict[str, Any]:
    """Returns the Vega-Lite config of every figure.

    On the page lines and text have the page's own ink, so that dark, light and print need no other figure.
    """
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "background": "transparent" if ink == "currentColor" else "white",
        "font": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif",
        "aria": False,  # the page describes each figure in words; a mark at a time would be noise
        "view": {"stroke": None},
        "axis": {
            **text,
            "gridColor": faint,
            "gridOpacity": 0.13,
            "domainColor": faint,
            "domainOpacity": 0.5,
            "tickColor": faint,
            "tickOpacity": 0.5,
            "labelOverlap": True,
        },
        "axisX": {"grid": False, "titlePadding": 8},
        "legend": {
            **text,
            "orient": "top",
            "direction": "horizontal",
            "title": None,
            "symbolStrokeWidth": 2,
            "symbolOpacity": 1,
            "labelLimit": 320,
            "offset": 6,
        },
        "header": text,
        "title": {
            "color": ink,
            "fontSize": 12,
            "fontWeight": "normal",
            "anchor": "start",
            "frame": "bounds",
            "offset": 6,
        },
        "line": {"strokeWidth": 2},
    }
