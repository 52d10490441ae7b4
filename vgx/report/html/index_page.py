"""`vgx report --all`: an index of runs, with the page of each beside it; two that are ticked are compared in it.

Comparisons are drawn from what the index holds of every run, about a kilobyte of curves each: pages for all pairs of
200 runs would be 19,900.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from vgx.errors import RunError
from vgx.report.html.page_data import gather
from vgx.report.html.render import page
from vgx.report.html.write import drawn, refuse_others
from vgx.report.palette import VERDICTS
from vgx.report.words import describe_config
from vgx.results.columns import swept_columns
from vgx.results.comparison import differences
from vgx.results.curves import evenly
from vgx.results.files import drafted, explained
from vgx.results.store import Run, config_of
from vgx.results.words import plain

CURVE, COURSE = 64, 48
"""Layers of a gradient's curve and steps of one over steps, at the most."""
MIXED = "mixed"
"""In place of a verdict, where lanes have different ones."""


def write_index(runs: Sequence[Run], folder: Path, say: Callable[[str, str], None] = lambda what, detail: None) -> Path:
    """Writes index.html, and a page of each run beside it; returns the index. Older pages of vgx are replaced.

    Args:
        runs: those of the index, in its order; a damaged one is listed with the reason.
        folder: of the pages.
        say: is told what is done, and how far it is.

    Raises RunError when there is no run, `folder` is a file, or something else than a page of vgx is in the way;
    EnvironmentFault when the disk refuses.
    """
    if not runs:
        raise RunError("there are no runs to list; `vgx train CONFIG` makes one")
    with explained(folder, "read"):
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder}: is a file; name a folder, which will hold index.html and the runs' pages")
    pages = [folder / f"{run.path.name}.html" for run in runs]
    for target in (folder / "index.html", *pages):
        refuse_others(target)
    rows = []
    for number, (run, target) in enumerate(zip(runs, pages, strict=True), start=1):
        say("drawing run", f"{number} of {len(runs)}")
        try:
            row, html = row_of(run), drawn(gather(run))[0]
        except RunError as error:
            rows.append({"name": run.path.name, "page": None, "word": "damaged", "reason": error.on_command_line})
            continue
        _write(target, html)
        rows.append(row | {"page": target.name})
    _with_differences(rows)
    say("drawing the index", "")
    _write(folder / "index.html", index_html(rows))
    return folder / "index.html"


def _write(target: Path, html: str) -> None:
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with drafted(target) as draft:
            draft.write_text(html, encoding="utf-8")


def index_html(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the index of such rows as HTML."""
    words = list(dict.fromkeys(row["word"] for row in rows))
    signs = {word: sign._asdict() for word, sign in VERDICTS.items()}
    return page(
        "index.html",
        ["page.js", "plots.js", "index.js"],
        {"rows": rows, "signs": signs},
        title="Runs",
        count=len(rows),
        words=words,
    )


def row_of(run: Run) -> dict[str, Any]:
    """Returns what the index holds of a run, as plain values. Raises Damaged where it cannot be read."""
    meta, lanes, config = run.meta, run.lanes().to_pylist(), run.config
    words = Counter(lane["verdict"] or lane["status"] for lane in lanes)
    swept = swept_columns(run.lanes().column_names) if run.is_sweep else []
    return {
        "name": run.path.name,
        "title": config_of(run.path.name),
        "net": describe_config(config, swept),
        "sweep": run.is_sweep,
        "status": meta["status"],
        "lanes": len(lanes),
        "word": (next(iter(words)) if len(words) == 1 else MIXED) if words else meta["status"],
        "words": dict(words),
        "step": meta["lanes_done"] if run.is_sweep else meta["step"],
        "slope": _mean(lanes, "slope"),
        "accuracy": _mean(lanes, "test_accuracy"),
        "loss": _mean(lanes, "train_loss"),
        "config": config,
        "swept": swept,
    } | ({} if run.is_sweep else _curves(run))


def _mean(lanes: Sequence[dict[str, Any]], name: str) -> float | None:
    known = [lane[name] for lane in lanes if lane[name] is not None]
    return plain(float(f"{sum(known) / len(known):.6g}")) if known else None


def _curves(run: Run) -> dict[str, Any]:
    """A single config's gradient by layer at its last step, relative to the readout's, and two metrics over steps."""
    found: dict[str, Any] = {"depth": None, "layers": [], "gradient": [], "last": None}
    steps = run.recorded_steps()
    curves = run.curves("delta_log10", steps=steps[-1:]) if len(steps) else {}
    if curves:
        values = np.array([one.values[-1] for one in curves.values()])
        with np.errstate(invalid="ignore"):
            mean = (values[:, :-1] - values[:, -1:]).mean(0)
        at = evenly(np.arange(len(mean)), CURVE)
        found = {
            "depth": len(mean),
            "layers": (at + 1).tolist(),
            "gradient": _rounded(mean[at]),
            "last": int(steps[-1]),
        }
    return found | {name: _over_steps(run, name) for name in ("test_accuracy", "train_loss")}


def _over_steps(run: Run, name: str) -> dict[str, Any]:
    """The mean over seeds of a metric: the steps and the values."""
    table = run.metrics(["step", name], where=pc.field(name).is_valid())
    means = table.group_by("step").aggregate([(name, "mean")]).sort_by("step")
    steps, values = means["step"].to_numpy(), means[f"{name}_mean"].to_numpy()
    at = evenly(np.arange(len(steps)), COURSE)
    return {"steps": steps[at].tolist(), "values": _rounded(values[at])}


def _rounded(values: np.ndarray) -> list[float | None]:
    return [plain(float(f"{value:.4g}")) for value in values]


def _with_differences(rows: Sequence[dict[str, Any]]) -> None:
    """Puts into each row, in place of its config, the options that not all runs agree in, and which are unusual."""
    known = [row for row in rows if "config" in row]
    found = differences([row["config"] for row in known]) if len(known) > 1 else {}
    usual = {path: Counter(values).most_common(1)[0] for path, values in found.items()}
    for i, row in enumerate(known):
        swept = row.pop("swept")
        del row["config"]
        row["options"] = {path: "swept" if path in swept else values[i] for path, values in found.items()}
        row["differs"] = [
            f"{path.rpartition('.')[2]}: {value}"
            for path, value in row["options"].items()
            if value != usual[path][0] or usual[path][1] * 2 <= len(known)
        ]
