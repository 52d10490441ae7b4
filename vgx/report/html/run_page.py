"""The page: one HTML file with its style, scripts, figures and data in it, which asks nothing of any other place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any, NamedTuple

import yaml

from vgx.report.html.captions import COURSES, captions, course_of
from vgx.report.html.findings import members
from vgx.report.html.page_data import Contents
from vgx.report.palette import UNJUDGED, VERDICTS, theme
from vgx.report.words import describe_config
from vgx.results.columns import LAYERS
from vgx.results.safe_text import in_html, json_in_html, visible
from vgx.results.words import speed_of

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data:"
"""Vega compiles its expressions, so eval is allowed; nothing may be fetched."""


class Numbers(NamedTuple):
    """A table that the page fills in when it is opened."""

    of: str
    """layers, cells or course; of a comparison its figure."""
    columns: Sequence[str] = ()


def static(name: str) -> str:
    """Returns a file of the page's style or scripts."""
    return resources.files("vgx.report.html").joinpath("static", name).read_text(encoding="utf-8")


def shell(title: str, body: str, data: Mapping[str, Any], scripts: Sequence[str], no_script: str) -> str:
    """Returns a whole page.

    Args:
        title: of the window; any text.
        body: HTML, escaped already.
        data: what scripts draw and how, as plain values, by the name of its element.
        scripts: JavaScript, the libraries first.
        no_script: what to say where JavaScript is off; any text.
    """
    embedded = "\n".join(
        f'<script type="application/json" id="{name}">{json_in_html(value)}</script>'
        for name, value in {**data, "theme": theme()}.items()
    )
    code = "\n".join(
        f"<script>{script}</script>" for script in (text.replace("</script", r"<\/script") for text in scripts)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="vgx">
<link rel="icon" href="data:,">
<title>{in_html(title)}</title>
<style>
{static("report.css")}</style>
</head>
<body>
<a class="skip" href="#main">To the content</a>
{visible(body)}
<noscript><p class="note">{in_html(no_script)}</p></noscript>
{embedded}
{code}
</body>
</html>
"""


def figure(key: str, title: str, caption: str, numbers: Numbers | None = None, extra: str = "") -> str:
    """Returns a figure's place: heading, chart, what it shows, and its numbers to unfold."""
    table = numbers_table(numbers) if numbers else ""
    return f"""<figure id="figure-{key}">
<h3>{escape(title)}</h3>
{extra}<div class="chart" id="chart-{key}" role="img" aria-label="{escape(f"{title}. {caption}")}"></div>
<figcaption>{escape(caption)}</figcaption>
{table}</figure>
"""


def numbers_table(numbers: Numbers) -> str:
    """Returns a table to unfold, which is filled in then."""
    columns = f' data-columns="{",".join(numbers.columns)}"' if numbers.columns else ""
    return f"""<details><summary>Numbers</summary>
<div class="scroll" tabindex="0" role="region" aria-label="Numbers">
<table data-of="{numbers.of}"{columns}><thead></thead><tbody></tbody></table>
</div></details>
"""


def badge(word: str) -> str:
    """Returns a verdict with its colour and letter."""
    sign = VERDICTS.get(word, UNJUDGED)
    letter = f'<span class="letter" aria-hidden="true">{sign.letter}</span>'
    return f'<span class="badge" style="--verdict: {sign.colour}">{letter}{escape(word)}</span>'


def header(contents: Contents, status: str) -> str:
    """Returns the head of a page: the run's name, its net, how it went, and a button for dark and light."""
    name = str(contents.config["name"])
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in notes_on(contents))
    return f"""<header>
<div>
<h1>{escape(name)}</h1>
<p class="net">{escape(describe_config(contents.config, contents.options))}</p>
<p class="soft">{escape(status)}</p>
</div>
<button type="button" id="theme-toggle" aria-pressed="false">Dark / light</button>
</header>
{notes}"""


def notes_on(contents: Contents) -> list[str]:
    """Returns what a reader must know first: that the run has not ended, and what the page leaves out."""
    status, step = contents.meta["status"], contents.meta["step"]
    notes = []
    if status == "interrupted":
        notes.append(
            f"This run was interrupted at step {step:,} and can be resumed: what is here is what it had written."
        )
    elif status != "done":
        notes.append(f"This run is noted as {status}, at step {step:,}: what is here is what it had written.")
    thinned = thinning(contents)
    if thinned:
        notes.append(thinned)
    return notes


def thinning(contents: Contents) -> str:
    """Returns what was drawn together to keep the page small and quick, in a sentence; nothing if nothing was."""
    parts = []
    for axis in contents.axes:
        if axis.by_step.thin:
            parts.append(f"{len(axis.steps):,} recorded steps in {len(axis.by_step.starts)} groups")
        if axis.by_layer.thin:
            parts.append(f"{axis.layers:,} layers in {len(axis.by_layer.starts)} groups")
    first, last = contents.course_steps
    if (first != last).any():
        parts.append(f"the curves over {int(last[-1]):,} steps at {len(first)} points")
    if not parts:
        return ""
    kept = "each keeps its mean, lowest and highest; the first and last steps and layers stand alone"
    return (
        f"Thinned to be drawn: {', '.join(dict.fromkeys(parts))}; {kept}. Every number is in the run's Parquet files."
    )


def run_page(contents: Contents) -> str:
    """Returns the body of a run's page."""
    meta = contents.meta
    seeds = len(contents.lanes)
    status = f"{meta['status']} at step {meta['step']:,} after {meta['seconds']:.1f} s{speed_of(meta)}"
    status += f"; {seeds} seeds side by side" if seeds > 1 else ""
    verdicts = "\n".join(_verdict(contents, i) for i in range(min(seeds, 20)))
    return f"""{header(contents, status)}
<main id="main">
<ul class="verdicts" id="verdicts">
{verdicts}
</ul>
{lane_sections(contents, lane_menu(contents))}
{about(contents)}
</main>
{foot(contents)}"""


def _verdict(contents: Contents, i: int) -> str:
    row = contents.lanes[i]
    name = f"<b>{escape(contents.label(i))}</b>: " if len(contents.lanes) > 1 else ""
    held = f"<small>{escape(contents.held[i] or '')}</small>" if contents.held[i] else ""
    return f"<li>{badge(row.get('verdict') or row['status'])} {name}{escape(row.get('evidence') or '')}{held}</li>"


def lane_menu(contents: Contents) -> str:
    """Returns the menu of lanes; nothing if there is one."""
    if len(contents.lanes) < 2:
        return ""
    shown = members(contents)
    options = [f'<option value="all">median and range of {len(shown)} seeds</option>'] if len(shown) > 1 else []
    options += [f'<option value="{i}">{escape(contents.label(i))}</option>' for i in range(len(contents.lanes))]
    return f'<label>Seeds <select id="lane" autocomplete="off">{"".join(options)}</select></label>\n'


def lane_sections(contents: Contents, menus: str, lanes: Sequence[int] | None = None) -> str:
    """Returns the sections on a lane: its gradient, its layers, every statistic over the steps, its course.

    Args:
        contents: of the run.
        menus: HTML of the menus that choose a lane.
        lanes: those that are shown first, for the captions; all by default.
    """
    has, said = set(contents.statistics), captions(contents, members(contents, lanes))
    parts = [
        f"""<section id="curves" aria-label="Layers">
<div class="controls">
{menus}<label class="slide needs-layers">Step <input type="range" id="step" min="0" max="0" value="0" step="1"
 autocomplete="off"></label>
<output id="step-name" class="needs-layers" for="step"></output>
</div>
<p class="no-layers note" id="no-layers">{escape(said.get("no-layers", ""))}</p>
<div class="needs-layers">
"""
    ]
    if "delta_log10" in has:
        columns = ["delta_log10", "predicted", "predicted_low", "predicted_high"]
        parts.append(
            '<h2>Gradient at every layer</h2>\n<p id="gradient-now" aria-live="polite"></p>\n<div class="row">\n'
        )
        title = "Gradient of one example at the pre-activations"
        parts.append(figure("gradient", title, said.get("gradient", ""), Numbers("layers", columns)))
        if "weight_grad_log10" in has:
            weights = Numbers("layers", ["weight_grad_log10", "weight_grad_zero", "bias_grad_log10"])
            title = "Gradient of the weights, true and as the optimizer saw it"
            parts.append(figure("weights", title, said.get("weights", ""), weights))
        parts.append("</div>\n")
    small = _layer_figures(has)
    if small:
        parts.append(f'<h2>Layers at the same step</h2>\n<div class="row">\n{"".join(small)}</div>\n')
    if has:
        parts.append(_heat(contents))
    parts.append("</div>\n</section>\n")
    parts.append(_course(contents, said))
    return "".join(parts)


def _layer_figures(has: set[str]) -> list[str]:
    """The small figures over the layers."""
    figures = []
    if {"act_mean", "act_rms"} <= has:
        caption = (
            "Mean over examples and units of what each layer passes on; the band is one standard deviation around it."
        )
        figures.append(
            figure("activations", "Activations", caption, Numbers("layers", ["act_mean", "act_below", "act_above"]))
        )
    if "preact_std" in has:
        caption = "What each layer receives (h, before the activation) and what it passes on (x)."
        columns = ["preact_std", "act_rms", "predicted_preact_std", "predicted_act_rms"]
        figures.append(figure("sizes", "Spread and size of the signal", caption, Numbers("layers", columns)))
    if {"dead", "saturated"} & has:
        caption = (
            "Dead: no example of the batch moves the unit. Saturated: a slope below 5 % of the activation's steepest."
        )
        figures.append(
            figure(
                "shares",
                "Dead, saturated, unseen",
                caption,
                Numbers("layers", ["dead", "saturated", "weight_grad_zero"]),
            )
        )
    if "update_ratio" in has:
        caption = "Norm of the step that was just taken over the norm of the weights it changed."
        figures.append(figure("updates", "Update ratio", caption, Numbers("layers", ["update_ratio", "weight_norm"])))
    return figures


def _heat(contents: Contents) -> str:
    options = "".join(f'<option value="{name}">{escape(LAYERS[name].label)}</option>' for name in contents.statistics)
    menu = f'<p><label>Statistic <select id="statistic" autocomplete="off">{options}</select></label></p>\n'
    caption = (
        "Each cell is one layer at one step (or a group of them); the input is at the bottom, the readout at the top."
    )
    drawn = figure("heat", "A statistic over steps and layers", caption, Numbers("cells"), menu)
    return f'<h2>Every step, every layer</h2>\n{drawn}<p id="heat-odd" class="soft"></p>\n'


TITLES = {"loss": "Loss", "accuracy": "Accuracy", "learning_rate": "Learning rate"}


def _course(contents: Contents, said: Mapping[str, str]) -> str:
    figures = [
        figure(key, TITLES[key], said[key], Numbers("course", measured))
        for key, names in COURSES.items()
        if (measured := course_of(contents, names))
    ]
    inside = f'<div class="row three">\n{"".join(figures)}</div>' if figures else "<p>Nothing is written yet.</p>"
    return f'<section id="course" aria-label="Training">\n<h2>Training</h2>\n{inside}\n</section>\n'


def about(contents: Contents) -> str:
    """Returns the section on the config, the machine and the time."""
    meta = contents.meta
    facts = {
        "status": meta["status"],
        "steps": f"{meta['step']:,}",
        "started": meta.get("started"),
        "ended": meta.get("ended"),
        "seconds": f"{meta['seconds']:.1f}",
        "of it compiling": f"{meta['compile_seconds']:.1f} s" if meta.get("compile_seconds") is not None else None,
        "steps per second": f"{meta['steps_per_second']:,.1f}" if meta.get("steps_per_second") else None,
        "devices": ", ".join(meta.get("devices", [])),
        "host": ", ".join(f"{key} {value}" for key, value in meta.get("host", {}).items()),
        "precision": f"{meta.get('precision')}, matrix products {meta.get('matmul_precision')}",
        "versions": ", ".join(f"{key} {value}" for key, value in meta.get("versions", {}).items()),
        "git commit": meta.get("git_commit"),
        "programs": meta.get("programs"),
        "lanes": f"{len(contents.lanes):,}",
    }
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if value not in (None, "")
    )
    config = yaml.safe_dump(contents.config, sort_keys=False, allow_unicode=True)
    return f"""<section id="about" aria-label="Config, environment and timing">
<h2>Config, environment, timing</h2>
<div class="row">
<pre tabindex="0" role="region" aria-label="Config">{escape(config)}</pre>
<table class="facts"><tbody>
{rows}
</tbody></table>
</div>
</section>"""


def foot(contents: Contents) -> str:
    """Returns the foot of a page: where its numbers are."""
    where = f"{escape(str(contents.run.path))}, by <code>vgx report</code>."
    key = "Decades per layer count from the top down, so that vanishing is negative."
    return f"<footer><p>{where} {key}</p></footer>"
