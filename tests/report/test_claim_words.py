"""Findings in words: figures, intervals and bounds."""

from __future__ import annotations

import math

import pytest

from vgx.report.claim_words import COLOURS, interval, ours
from vgx.reproduce.findings import ClaimVerdict, Finding


def finding(mean: float, low: float, high: float, bound: str = "") -> Finding:
    return Finding("a / b", "> 1", mean, low, high, "supported", 5, None, bound=bound)


@pytest.mark.parametrize(
    ("bound", "figure", "ends"),
    [("", "6.04", "[5.14, 7.10]"), (">", "> 6.04", "[5.14, ∞)"), ("<", "< 6.04", "(-∞, 7.10]"), ("?", "-", "-")],
)
def test_a_bound_is_said_to_be_one(bound, figure, ends):
    found = finding(6.04, 5.14, 7.10, bound)
    assert (ours(found), interval(found)) == (figure, ends)


def test_what_has_no_interval_shows_none():
    assert interval(finding(1.0, -math.inf, math.inf)) == "-"


def test_every_verdict_has_a_colour():
    assert COLOURS.keys() == set(ClaimVerdict)
