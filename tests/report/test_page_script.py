"""What a page's script says of numbers, without a browser: what Python says of them."""

from __future__ import annotations

import json
import math
import shutil
import subprocess

import numpy as np
import pytest

from vgx.report.html.render import static
from vgx.results.words import power_of_ten

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not here: apt-get install nodejs")


def computed(expression: str, values: list[float]) -> list[str]:
    """What page.js makes of values by an expression of `x`."""
    page = 'globalThis.document = {getElementById: () => ({textContent: "{}"})};\n' + static("page.js")
    script = f"{page}\nconsole.log(JSON.stringify({json.dumps(values)}.map(x => {expression})));"
    done = subprocess.run([str(NODE), "-"], input=script, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_a_power_of_ten_is_written_as_python_writes_it():
    exponents = [*np.linspace(-3.99, 3.99, 57).round(3), -628.24, -12.34, -4.0, 4.0, 17.06, -9.999999, 4.99]
    assert computed("power(x)", [float(x) for x in exponents]) == [power_of_ten(x) for x in exponents]


def test_a_number_is_written_in_full_however_small():
    exponents = [-628.25, -38.5, -4.2, -0.5, 0.0, 3.25, 8.125]
    for text, exponent in zip(computed("plain(x)", exponents), exponents, strict=True):
        mantissa, _, power = text.partition("e")
        assert math.log10(float(mantissa)) + int(power or 0) == pytest.approx(exponent, abs=1e-4)
    assert computed("plain(x)", [-628.0, -10 - 1e-12]) == ["1e-628", "1e-10"]
