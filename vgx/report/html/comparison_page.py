"""`vgx compare --html`: nets side by side as one page that works offline, under the shell of every other."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from vgx.errors import RunError
from vgx.report.html import comparison_charts as figures
from vgx.report.html import run_page
from vgx.report.html.write import bundle, refuse_others
from vgx.report.palette import ink_on
from vgx.report.words import LETTERS, apart_in_words, describe_config, has_layers, outcome_rows
from vgx.results.columns import LAYERS
from vgx.results.comparison import RunComparison
from vgx.results.curves import evenly
from vgx.results.divergence import Divergence, Trajectory
from vgx.results.files import drafted, explained
from vgx.results.words import counted

CELLS = 12_000
"""How many cells the maps of a page have together, about; more open slowly."""
NO_SCRIPT = "The figures are drawn by JavaScript, which is off; the tables and sentences are whole without it."


def write_comparison(compared: RunComparison, target: Path, step: int | None = None) -> None:
    """Writes contenders side by side as a page.

    Args:
        compared: what to show.
        target: the page's path; an older page is replaced.
        step: at which the curves are drawn at first; the last one by default.

    Raises RunError for a step that was not recorded, and when something else than a page of vgx is there;
    EnvironmentFault when the disk refuses.
    """
    refuse_others(target)
    html = comparison_page(compared, step)
    with explained(target), drafted(target) as draft:
        draft.write_text(html, encoding="utf-8")


def comparison_page(compared: RunComparison, step: int | None = None) -> str:
    """Returns contenders side by side as HTML; raises RunError for a step that was not recorded."""
    names = [one.name for one in compared.groups]
    data = {"data": packed(compared, step), "specs": specs(compared)}
    scripts = [bundle(), run_page.static("page.js"), run_page.static("comparison.js")]
    return run_page.shell(f"{' / '.join(names)} - vgx", _body(compared), data, scripts, NO_SCRIPT)


def specs(compared: RunComparison) -> dict[str, Any]:
    """Returns the figures, as far as what they draw was measured."""
    count, look = len(compared.groups), LAYERS[compared.statistic]
    layers = len(compared.positions) if has_layers(compared) else 0
    charts: dict[str, Any] = {}
    if compared.trajectories:
        charts["curves"] = figures.curves(count, layers, look.label, look.scale == "log10")
    if any(len(trajectory.steps) for trajectory in compared.losses):
        charts["loss"] = figures.trajectory("loss", count, "training loss", log=_spans_decades(compared.losses))
    if any(len(trajectory.steps) for trajectory in compared.accuracies):
        charts["accuracy"] = figures.trajectory("accuracy", count, "test accuracy", share=True)
    if any(len(divergence.steps) for divergence in compared.divergences):
        charts["parting"] = figures.divergence(layers, look.scale == "log10")
    return {key: chart.to_dict() for key, chart in charts.items()}


def _spans_decades(trajectories: Sequence[Trajectory]) -> bool:
    """Whether curves and their bands are positive and so far apart that a linear axis would show but the largest."""
    low = np.concatenate([(trajectory.mean - np.nan_to_num(trajectory.spread)).ravel() for trajectory in trajectories])
    low = low[np.isfinite(low)]
    return len(low) > 0 and low.min() > 0 and low.max() > 100 * low.min()


def packed(compared: RunComparison, step: int | None = None) -> dict[str, Any]:
    """Returns the page's data as plain values, arrays as little-endian float64 or int32 in base64, row after row.

    Raises RunError for a step that was not recorded.
    """
    known = (
        np.unique(np.concatenate([trajectory.steps for trajectory in compared.trajectories]))
        if compared.trajectories
        else np.ones(0)
    )
    if step is not None and len(known) and step not in known:
        raise RunError(f"step {step} is none that is compared; the nearest is {known[np.argmin(np.abs(known - step))]}")
    return {
        "label": LAYERS[compared.statistic].label,
        "log10": LAYERS[compared.statistic].scale == "log10",
        "layers": has_layers(compared),
        "positions": compared.positions.tolist(),
        "steps": known.tolist(),
        "step": len(known) - 1 if step is None else int(np.searchsorted(known, step)),
        "contenders": [
            {"letter": letter, "name": one.name, "shape": shape}
            for letter, shape, one in zip(LETTERS, figures.SHAPES, compared.groups, strict=False)
        ],
        "courses": [_course(trajectory) for trajectory in compared.trajectories],
        "loss": [_course(trajectory) for trajectory in compared.losses],
        "accuracy": [_course(trajectory) for trajectory in compared.accuracies],
        "partings": [_divergence(divergence, _drawn(compared, divergence)) for divergence in compared.divergences],
    }


def _course(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "steps": trajectory.steps.tolist(),
        "mean": _base64(trajectory.mean, "<f8"),
        "spread": _base64(trajectory.spread, "<f8"),
        "seeds": _base64(trajectory.seeds, "<i4"),
    }


def _divergence(divergence: Divergence, drawn: np.ndarray) -> dict[str, Any]:
    return {
        "steps": divergence.steps.tolist(),
        "drawn": drawn.tolist(),
        "difference": _base64(divergence.difference, "<f8"),
        "limit": _base64(divergence.limit, "<f8"),
        "apart": _base64(divergence.apart, "<i4"),
        "since": divergence.since.tolist(),
        "by": divergence.by,
    }


def _drawn(compared: RunComparison, divergence: Divergence) -> np.ndarray:
    """Which of a map's steps are drawn, evenly spread, the first and the last among them."""
    most = max(CELLS // (len(compared.divergences) * len(compared.positions)), 2)
    return evenly(np.arange(len(divergence.steps)), most)


def _base64(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode()


def _body(compared: RunComparison) -> str:
    first, *others = (one.name for one in compared.groups)
    label = LAYERS[compared.statistic].label
    nets = "\n".join(f"<li>{_net(compared, i)}</li>" for i in range(len(compared.groups)))
    apart = "\n".join(
        f"<p><b>{LETTERS[i]}</b> against <b>{LETTERS[0]}</b>: {escape(apart_in_words(compared, i))}.</p>"
        for i in range(1, len(compared.groups))
    )
    return f"""<header>
<div>
<h1>{escape(first)} against {escape(", ".join(others))}</h1>
<p class="soft">By the {escape(label)}, aligned by relative depth.</p>
</div>
<button type="button" id="theme-toggle" aria-pressed="false">Dark / light</button>
</header>
<main id="main">
<ul class="verdicts">
{nets}
</ul>
<section id="apart" aria-label="Where and when they diverge">
<h2>Where and when they diverge</h2>
{apart}
</section>
<section id="outcomes" aria-label="Outcomes">
<h2>Outcomes</h2>
{_outcomes(compared)}
</section>
<section id="differences" aria-label="Differences of the configs">
<h2>Differences of the configs</h2>
{_differences(compared)}
</section>
{_curves(compared, label)}
{_trajectories(compared)}
{_divergences(compared, label)}
</main>
<footer><p>By <code>vgx compare --html</code>. Means over seeds ± a standard deviation; slopes in decades of gradient
per layer from the top down, so that vanishing is negative.</p></footer>"""


def _letter(i: int) -> str:
    colour = figures.COLOURS[i]
    return f'<span class="letter" style="--verdict: {colour}; color: {ink_on(colour)}">{LETTERS[i]}</span>'


def _net(compared: RunComparison, i: int) -> str:
    one = compared.groups[i]
    seeds = counted(len(one.lanes), "seed")
    what = escape(f"{describe_config(one.config)}; {seeds}; {one.run.path}")
    return f'<span class="badge net-name">{_letter(i)}<span>{escape(one.name)}</span></span><small>{what}</small>'


def _table(label: str, compared: RunComparison, rows: dict[str, list[str]]) -> str:
    """A table with a column for each contender; the cells are HTML."""
    heads = "".join(
        f'<th scope="col"><span class="badge net-name">{_letter(i)}<span>{escape(one.name)}</span></span></th>'
        for i, one in enumerate(compared.groups)
    )
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in rows.items()
    )
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">
<table class="facts side"><thead><tr><td></td>{heads}</tr></thead><tbody>
{body}
</tbody></table>
</div>"""


def _outcomes(compared: RunComparison) -> str:
    verdicts = [
        "<br>".join(
            run_page.badge(word) + ("" if count == len(outcome.words) else f" {count} of {len(outcome.words)}")
            for word, count in Counter(outcome.words).most_common()
        )
        for outcome in compared.outcomes
    ]
    rows = {name: [escape(cell) for cell in cells] for name, cells in outcome_rows(compared).items()}
    return _table("Outcomes", compared, {"verdict": verdicts} | rows)


def _differences(compared: RunComparison) -> str:
    if not compared.differences:
        return "<p>None: they are of one config.</p>"
    rows = {path: [escape(value) for value in values] for path, values in compared.differences.items()}
    return _table("Differences of the configs", compared, rows)


def _key(compared: RunComparison) -> str:
    names = (f"{letter}: {one.name}" for letter, one in zip(LETTERS, compared.groups, strict=False))
    return "; ".join(names) + "."


def _curves(compared: RunComparison, label: str) -> str:
    if not compared.trajectories:
        return '<p class="note">One of them has no layer recorded: there are no curves over the depth.</p>'
    caption = "Means over seeds; the bands are one standard deviation."
    if LAYERS[compared.statistic].scale == "log10":
        caption = "Geometric means over seeds; the bands are one standard deviation of the logarithm."
    caption += f" {_key(compared)}"
    drawn = run_page.figure("curves", label, caption, run_page.Numbers("curves"))
    return f"""<section id="curves" aria-label="Layers">
<h2>At every depth</h2>
<div class="controls">
<label class="slide">Step <input type="range" id="step" min="0" max="0" value="0" step="1" autocomplete="off"></label>
<output id="step-name" for="step"></output>
</div>
<p id="curves-now" aria-live="polite"></p>
{drawn}</section>"""


def _trajectories(compared: RunComparison) -> str:
    caption = f"Means over seeds; the bands are one standard deviation. {_key(compared)}"
    drawn = [
        run_page.figure(key, title, f"{_ends(trajectories)} {caption}", run_page.Numbers(key))
        for key, title, trajectories in (
            ("loss", "Training loss", compared.losses),
            ("accuracy", "Test accuracy", compared.accuracies),
        )
        if any(len(trajectory.steps) for trajectory in trajectories)
    ]
    inside = f'<div class="row">\n{"".join(drawn)}</div>' if drawn else "<p>Nothing is written yet.</p>"
    return f'<section id="course" aria-label="Training">\n<h2>Training</h2>\n{inside}\n</section>'


def _ends(trajectories: Sequence[Trajectory]) -> str:
    """Where curves end: `A ends at 0.0512, B at 1.2.`"""
    ends = [
        f"{letter} at {trajectory.mean[-1, 0]:.4g}" if len(trajectory.steps) else f"{letter} was not measured"
        for letter, trajectory in zip(LETTERS, trajectories, strict=False)
    ]
    return f"Last: {', '.join(ends)}."


def _divergences(compared: RunComparison, label: str) -> str:
    drawn, decades = [], ", in decades" if LAYERS[compared.statistic].scale == "log10" else ""
    for i, divergence in enumerate(compared.divergences, start=1):
        if not len(divergence.steps):
            continue
        beyond = {"seeds": "what seeds alone may differ", "theory": "what theory lets one draw differ"}.get(
            divergence.by, f"{divergence.by} (one seed each)"
        )
        caption = (
            f"They diverge at {divergence.apart.mean():.0%} of all steps and places. Orange: above {LETTERS[0]}, blue:"
            f" below, by more than {beyond}. Grey: no significant difference. Pink: one of them is exactly 0."
            " Vermillion: one is NaN or infinite."
        )
        shown = len(_drawn(compared, divergence))
        if shown < len(divergence.steps):
            caption += f" Drawn are {shown} of {len(divergence.steps):,} steps; the numbers have all."
        title = f"{LETTERS[i]} - {LETTERS[0]}: {label}{decades}"
        drawn.append(run_page.figure(f"parting-{i}", title, caption, run_page.Numbers("parting", [str(i)])))
    if not drawn:
        return ""
    inside = f'<div class="row">\n{"".join(drawn)}</div>'
    return f'<section id="maps" aria-label="Maps">\n<h2>Every step, every depth</h2>\n{inside}</section>'
