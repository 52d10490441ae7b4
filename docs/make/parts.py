"""The pages of the parts that a config names, from their registries, each activation with a plot of f and f'."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import vl_convert

from docs.make.options import PAGES, catalogue, plural
from vgx.parts import ACTIVATIONS, Activation
from vgx.report.palette import BLUE, VERMILLION, theme

HEADS = {
    "activations": """\
The function f after each hidden layer's linear map: x = f(h), h = W x + b. The plots show f and its derivative f', by
which a gradient is multiplied on its way down. A slope below 0.05 of the steepest counts as
[saturated](../glossary.md#saturated).
""",
    "initializers": """\
How weights and biases are drawn. What matters to a gradient is the variance: fan_in is the number of a layer's inputs,
fan_out that of its outputs.
""",
    "normalizations": """\
What normalizes a hidden layer's values, and where: `before` the activation or `after` it.
""",
    "residuals": """\
Whether a hidden layer adds to what it receives, in place of replacing it: [skip connections](../how-to/residual.md).
Layers are counted from 1, h_l = W_l x_{l-1} + b_l, N is the normalization, s the scale.
""",
    "optimizers": """\
What turns a gradient into a step, the schedule of its learning rate, and bounds on the gradient.
""",
    "datasets": """\
Where the examples come from. [Your own data](../how-to/data.md) says how to bring some.
""",
}
RANGE = 4.0


def pages() -> dict[str, str]:
    """Returns the pages by their paths in docs/."""
    return {f"reference/{name}.md": _page(name) for name in HEADS}


def _page(name: str) -> str:
    registries = PAGES[name]
    title = plural(registries[0]).capitalize()
    lines = [f"# {title}", "", HEADS[name]]
    for registry in registries:
        section = catalogue(registry)
        if registry is ACTIVATIONS:
            for part in registry:
                at = section.index(f"### {part.name}") + 1
                section[at:at] = ["", plot(ACTIVATIONS.parse(part.name))]
        lines += section[2:] if registry is registries[0] else section  # the page's title is its heading
    return "\n".join(lines) + "\n"


def plot(part: Activation) -> str:
    """Returns a drawing of f and f' as SVG on one line, in the colours of the page it stands in."""
    h = np.linspace(-RANGE, RANGE, 321, dtype=np.float32)
    values, slopes = jax.jvp(part, (jnp.asarray(h),), (jnp.ones_like(h),))
    rows = [
        {"h": round(float(x), 3), "value": round(float(y), 4), "line": name}
        for name, curve in (("f", values), ("f'", slopes))
        for x, y in zip(h, curve, strict=True)
    ]
    spec = {
        "width": 300,
        "height": 150,
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {
            "x": {"field": "h", "type": "quantitative", "title": "h", "scale": {"nice": False}},
            "y": {"field": "value", "type": "quantitative", "title": None},
            "color": {
                "field": "line",
                "scale": {"domain": ["f", "f'"], "range": [BLUE, VERMILLION]},
                "legend": {"orient": "right"},
            },
            "strokeDash": {
                "field": "line",
                "scale": {"domain": ["f", "f'"], "range": [[1, 0], [5, 3]]},
                "legend": None,
            },
        },
    }
    svg = vl_convert.vegalite_to_svg(spec, config=theme())
    label = f"f and its derivative for {part.name}, from h = -{RANGE:g} to {RANGE:g}"
    return f'<div class="plot" role="img" aria-label="{label}">{" ".join(svg.split())}</div>'
