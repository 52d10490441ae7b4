"""A run in a line, and as the small table that a notebook shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from vgx.errors import RunError
from vgx.report.html.render import fragment
from vgx.report.palette import UNJUDGED, VERDICTS
from vgx.report.words import describe_config
from vgx.results.curves import rows_by_lane
from vgx.results.safe_text import one_line
from vgx.results.store import Run
from vgx.results.values import swept_options
from vgx.results.words import counted, figure, power_of_ten

WIDTH, HEIGHT = 260, 90
"""Of the picture, in pixels."""
LINES = 60
"""Lanes that it draws at the most."""


def verdict_of(run: Run) -> str | None:
    """Returns the word for all lanes, or the different words in the order of the alphabet; None before any ended."""
    words = {lane["verdict"] or lane["status"] for lane in run.lanes().to_pylist()}
    return ", ".join(sorted(words)) or None


def in_words(run: Run) -> str:
    """Returns a run in a line: `Run 'he-relu' (done, healthy, 30 x 128 relu, ..., runs/he-relu-1234abcd)`."""
    try:
        words = [_status(run), verdict_of(run), _net(run), str(run.path)]
        return one_line(f"Run '{run.config['name']}' ({', '.join(filter(None, words))})")
    except RunError as error:
        return one_line(f"Run ({error})")


def _net(run: Run) -> str:
    return describe_config(run.config, swept_options(run) if run.is_sweep else ())


def _status(run: Run) -> str:
    meta = run.meta
    if run.is_sweep:
        return f"{meta['status']}, {meta['lanes_done']:,} of {counted(meta['lanes'], 'lane')}"
    return meta["status"] if meta["status"] == "done" else f"{meta['status']} at step {meta['step']:,}"


def as_html(run: Run) -> str:
    """Returns a run as a table of HTML that needs nothing besides: what it is, how it went, and its gradient."""
    try:
        lanes = run.lanes().to_pylist()
        known = [lane["test_accuracy"] for lane in lanes if lane["test_accuracy"] is not None]
        facts = {
            "net": _net(run),
            "status": _status(run),
            "verdict": verdict_of(run) or "-",
            "test accuracy": figure(float(np.mean(known))) if known else "-",
            "directory": str(run.path),
        }
        return fragment("notebook.html", title=run.config["name"], facts=facts, **_picture(run))
    except RunError as error:
        return fragment("notebook.html", error=str(error))


def _picture(run: Run) -> dict[str, Any]:
    """The gradient of each lane over its hidden layers at its last recorded step, as lines; none without any."""
    curves = _curves(run)
    heights = np.concatenate([curve for _, curve in curves]) if curves else np.zeros(0)
    heights = heights[np.isfinite(heights)]
    if not len(heights):
        return {"lines": []}
    low, high = float(heights.min()), float(heights.max())
    middle, span = (low + high) / 2, max(high - low, 1.0)  # a decade at the least, as everywhere
    return {
        "lines": [(_points(curve, middle, span), VERDICTS.get(word, UNJUDGED).colour) for word, curve in curves],
        "said": f"from {power_of_ten(low)} to {power_of_ten(high)}",
        "width": WIDTH,
        "height": HEIGHT,
    }


def _points(curve: np.ndarray, middle: float, span: float) -> str:
    across = np.linspace(4, WIDTH - 4, len(curve)) if len(curve) > 1 else np.array([WIDTH / 2])
    down = HEIGHT / 2 - (curve - middle) / span * (HEIGHT - 12)
    known = np.isfinite(curve)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across[known], down[known], strict=True))


def _curves(run: Run) -> Sequence[tuple[str, np.ndarray]]:
    """The verdict and the log10 gradient [L] of each of the first lanes."""
    words = {lane["lane"]: lane["verdict"] for lane in run.lanes().to_pylist()}
    recorded = run.layers(["lane", "step"], where=(pc.field("layer") == 1) & (pc.field("lane") < LINES))
    last = {lane: int(recorded["step"].to_numpy()[rows].max()) for lane, rows in rows_by_lane(recorded).items()}
    curves = run.curves("delta_log10", last, steps=set(last.values()))
    return [(words.get(lane) or "", own.hidden[-1].astype(np.float64)) for lane, own in curves.items()]
