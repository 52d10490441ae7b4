"""The figures of a page as files: SVG, and PNG at twice its size, on white."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vgx.errors import RunError
from vgx.report.html import sweep_charts
from vgx.report.html.captions import COURSES
from vgx.report.html.chart_rows import (
    ACCURACY_LEAST,
    LEVEL,
    Rows,
    axis_ends,
    cell_rows,
    colour_ends,
    course_rows,
    ends,
    layer_rows,
    map_of,
    step_boxes,
)
from vgx.report.html.findings import members
from vgx.report.html.page_data import Contents
from vgx.report.html.sweep_summary import squares_of_two
from vgx.report.palette import theme
from vgx.results.columns import LAYERS
from vgx.results.files import drafted, try_to_open
from vgx.results.recognition import PNG_MARK, SVG_MARK, is_figure
from vgx.results.safe_text import everywhere

WIDTH = 560
FILES = 24
"""Files that drawing figures has open at once, at the most, and two for each core."""
INK = "#1b1f24"
FIELDS = ("score", "slope", "verdict")
"""Of a grid."""
BY_LAYER = ("gradient", "weights", "activations", "sizes", "shares", "updates")
"""The figures over the layers at a step."""
NONE = "#dddddd"
"""Of a cell without a value."""


def lane_stills(contents: Contents, specs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the name and the filled-in spec of each figure of a run: over its layers at the last step, and all steps.

    The gradient is drawn at the first step too, since that is what is predicted.
    """
    lanes = members(contents)
    number = contents.axis_of[lanes[0]]
    if number is not None:
        axis = contents.axes[number]
        last = len(axis.by_step.starts) - 1
        steps = [("gradient-first", "gradient", 0)] + [(key, key, last) for key in BY_LAYER]
        for file, key, step in steps:
            if key in specs:
                lo, hi = axis_ends(contents, lanes, slice(step, step + 1))[key]
                rows = layer_rows(contents, lanes, step)
                yield file, _filled(specs[key], "layers", rows, {"lo": lo, "hi": hi, "top": axis.layers})
        if "delta_log10" in contents.statistics:
            rows, boxes = cell_rows(contents, lanes, "delta_log10"), step_boxes(axis)
            lo, hi = colour_ends("delta_log10", map_of(contents, lanes, "delta_log10").mean)
            values = {"lo": lo, "hi": hi, "top": axis.layers, "first": boxes[0]["x"], "last": boxes[-1]["x2"]}
            values["now"] = boxes[0]["x"] - 1  # no step is chosen: the line is off the map
            spec = specs[f"heat_{LAYERS['delta_log10'].scale}"]
            yield "heat", _filled(spec, "cells", rows, values)
    rows = course_rows(contents, lanes)
    for key in COURSES:
        if key in specs:
            yield key, _filled(specs[key], "course", rows, course_ends(rows, key))


def course_ends(rows: Rows, key: str) -> dict[str, float]:
    """Returns the ends of an axis of values over the steps: it fits them, and draws level what is."""
    some = [row for row in rows if key.replace("_", " ") in row["name"]]
    values = np.array([row[field] for row in some for field in ("low", "high", "value") if row[field] is not None])
    share = key == "accuracy"
    low, high = ends([values], ACCURACY_LEAST if share else LEVEL * float(np.abs(values).max(initial=0.0)))
    return {"lo": low if (values < 0).any() else max(low, 0.0), "hi": min(high, 1.0) if share else high}


def sweep_stills(
    contents: Contents,
    specs: Mapping[str, Any],
    summaries: Rows,
    ranked: Rows,
    score: str,
    mapped: Mapping[str, Rows] | None = None,
) -> Iterator[tuple[str, Any]]:
    """Yields the name and the filled-in spec of each figure of a sweep; grids are over its first two axes.

    `mapped` are the rows of a map.
    """
    if mapped:
        yield "map", {**_filled(specs["map"], "map", mapped["map"]), "datasets": dict(mapped)}
    if contents.options:
        rows = _grid_rows(contents, summaries)
        labels, heads = (list(dict.fromkeys(row[side] for row in rows)) for side in ("row", "column"))
        for field, title in (("score", score), ("slope", "slope, decades per layer"), ("verdict", "verdict")):
            chart = sweep_charts.grid(field, title, labels, heads).to_dict()
            yield f"grid-{score.replace(' ', '-') if field == 'score' else field}", _filled(chart, "grid", rows)
    if "ranking" in specs:
        yield "ranking", _filled(specs["ranking"], "ranking", ranked[: sweep_charts.SHOWN])
    for key in ("predicted", "measured"):
        if key in specs:
            yield f"{key}-slope", _filled(specs[key], "summaries", summaries)
    if "multiples" in specs:
        yield "gradients", _filled(specs["multiples"], "curves", curve_rows(contents, summaries))


def _grid_rows(contents: Contents, summaries: Rows) -> Rows:
    """The grid over the first two options, with the text, colour and ink of each field in its places."""
    return [
        {"row": row, "column": column}
        | {f"{field}_text": square[field][0] for field in FIELDS}
        | {f"{field}_colour": square[field][2] or NONE for field in FIELDS}
        | {f"{field}_ink": square[field][3] or INK for field in FIELDS}
        for (row, column), square in squares_of_two(contents, summaries).items()
    ]


def curve_rows(contents: Contents, summaries: Rows) -> Rows:
    """Returns each lane's gradient against the layer at its first recorded step, for the first cells."""
    rows: Rows = []
    for cell in summaries[: sweep_charts.SHOWN]:
        for lane in cell["lanes"]:
            row = contents.lanes[lane]
            if contents.axis_of[lane] is not None:
                verdict = contents.verdict(lane)
                rows += [
                    {
                        "cell": cell["cell"],
                        "label": cell["label"],
                        "seed": row["seed"],
                        "verdict": verdict,
                        "layer": each["layer"],
                    }
                    | {"value": each["delta_log10"]}
                    for each in layer_rows(contents, [lane], 0)
                ]
    return rows


def _filled(spec: Mapping[str, Any], name: str, rows: Rows, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A figure with its data, and with what the page would set."""
    values = values or {}
    params = [p | {"value": values[p["name"]]} if p["name"] in values else p for p in spec.get("params", [])]
    width = {"width": WIDTH} if spec.get("width") == "container" else {}
    return {**spec, "datasets": {**spec.get("datasets", {}), name: rows}, "params": params, **width}


def figures_folder(page: Path, run: Path) -> Path:
    """Returns where a page's figures are: `figures/` for the run's own page, `NAME-figures/` beside NAME.html else."""
    if page.resolve() == (run / "report.html").resolve():
        return page.parent / "figures"
    return page.parent / f"{page.stem if page.suffix == '.html' else page.name}-figures"


def write_stills(stills: Sequence[tuple[str, Any]], folder: Path) -> list[Path]:
    """Writes each figure as `NAME.svg` and `NAME.png` and returns the files; those of an older page go.

    Raises RunError, with nothing written, when a file of such a name is no figure of vgx.
    """
    names = [f"{name}.{kind}" for name, _ in stills for kind in ("svg", "png")]
    for path in (folder / name for name in names):
        if path.exists() and not is_figure(path):
            raise RunError(f"{path}: exists, and is no figure of vgx; move it away, or choose another page")
    if names:
        folder.mkdir(parents=True, exist_ok=True)
    for name, spec in stills:
        svg = vl_convert().vegalite_to_svg(everywhere(spec), vl_version=vegalite_version(), config=theme(INK, INK))
        _write(folder / f"{name}.svg", svg.replace(">", f">{SVG_MARK}", 1).encode())
        _write(folder / f"{name}.png", _signed(vl_convert().svg_to_png(svg, scale=2)))
    for path in folder.glob("*"):
        if path.suffix in (".svg", ".png") and path.name not in names and is_figure(path):
            path.unlink()
    return [folder / name for name in names]


def vl_convert() -> Any:
    """Returns the module that draws figures. Raises OSError where it cannot open the files that it needs."""
    import vl_convert as module

    try_to_open(FILES + 2 * (os.cpu_count() or 1))  # it would panic
    return module


def _write(path: Path, content: bytes) -> None:
    with drafted(path) as draft:
        draft.write_bytes(content)


def _signed(png: bytes) -> bytes:
    """A PNG that says who made it, in a chunk of text after its header."""
    chunk = b"tEXt" + PNG_MARK
    return png[:33] + struct.pack(">I", len(PNG_MARK)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


def vegalite_version() -> str:
    """Returns the version of Vega-Lite that the installed Altair writes for, as vl-convert names it."""
    import altair

    major, minor, *_ = altair.SCHEMA_VERSION.removeprefix("v").split(".")
    return f"{major}.{minor}"
