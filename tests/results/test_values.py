"""Values of options: what a text of the lane table means."""

from __future__ import annotations

import pytest

from vgx.results.values import scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-0.5", -0.5),
        (".1", 0.1),
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("true", True),
        ("null", None),
        ("relu", "relu"),
        ("inf", "inf"),
        ("nan", "nan"),
        ("{name: elu, alpha: 0.5}", {"name": "elu", "alpha": 0.5}),
        ("a: [", "a: ["),
    ],
)
def test_a_text_means_what_yaml_says_and_nothing_else_that_python_would_read(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)
