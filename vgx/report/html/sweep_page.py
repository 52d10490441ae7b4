"""The body of a sweep's page: its grid, its cells side by side, and the curves of any one of them."""

from __future__ import annotations

from collections import Counter
from html import escape

from vgx.report.html.chart_rows import Rows
from vgx.report.html.page_data import Contents
from vgx.report.html.run_page import about, badge, figure, foot, header, lane_sections
from vgx.report.html.sweep_charts import SHOWN
from vgx.report.html.sweep_summary import first_cell
from vgx.results.agreement import lanes_that_hold
from vgx.results.words import counted, signed, speed_of


def sweep_page(contents: Contents, summaries: Rows, ranked: Rows, score: str) -> str:
    """Returns the body of a sweep's page."""
    meta = contents.meta
    lanes = f"{meta['lanes_done']:,} of {counted(meta['lanes'], 'lane')}"
    status = f"{meta['status']}: {lanes} in {meta['seconds']:.0f} s{speed_of(meta, 'run-steps')}"
    counts = Counter(lane.get("verdict") or lane["status"] for lane in contents.lanes)
    badges = "\n".join(
        f"<li>{badge(word)} {count:,} of {counted(len(contents.lanes), 'lane')}</li>"
        for word, count in counts.most_common()
    )
    held, known = lanes_that_hold(contents.run)
    if known:
        badges += f"\n<li>Theory held at the first step of {held:,} of {counted(known, 'lane')}, in every layer.</li>"
    shown = summaries[first_cell(ranked)]
    cells = "".join(f'<option value="{row["cell"]}">{escape(row["label"])}</option>' for row in summaries)
    menus = (
        f'<label>Cell <select id="cell" autocomplete="off">{cells}</select></label>\n'
        '<label>Seeds <select id="lane" autocomplete="off"></select></label>\n'
    )
    return f"""{header(contents, status)}
<main id="main">
<ul class="verdicts">
{badges}
</ul>
{_grid(contents, score)}
{_ranking(ranked, score)}
{_slopes(summaries, score)}
{_multiples(contents, summaries)}
<h2 id="curves-title" tabindex="-1">{escape(shown["label"])}</h2>
<ul class="verdicts" id="verdicts"></ul>
{lane_sections(contents, menus, shown["lanes"])}
{about(contents)}
</main>
{foot(contents)}"""


def _select(name: str, label: str, options: list[tuple[str, str]], chosen: str) -> str:
    made = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(text)}</option>'
        for value, text in options
    )
    return f'<label>{label} <select id="{name}" autocomplete="off">{made}</select></label>\n'


def _grid(contents: Contents, score: str) -> str:
    options = [(option, option) for option in contents.options]
    rows, columns = [*contents.options, "", ""][:2]
    menus = _select("grid-rows", "Rows", [*options, *([] if options else [("", "none")])], rows)
    menus += _select("grid-columns", "Columns", [*options, ("", "none")], columns)
    menus += _select("grid-value", "Show", [("score", score), ("slope", "slope"), ("verdict", "verdict")], "score")
    return f"""<section id="overview" aria-label="Grid">
<h2>Grid</h2>
<p class="menus">{menus}<span id="grid-fixed"></span></p>
<div class="scroll" tabindex="0" role="region" aria-label="Grid">
<table class="grid" id="grid"><thead></thead><tbody></tbody></table>
</div>
<p class="soft">Means over seeds ± a standard deviation; slopes in decades of gradient per layer from the top down.
A cell leads to its curves.</p>
</section>"""


def _ranking(ranked: Rows, score: str) -> str:
    if not ranked:
        return ""
    best, worst = ranked[0], ranked[-1]
    caption = f"Best: {best['label']}, {best['score']:.4f}"
    rivals = [row for row in ranked[1:] if row["score_high"] >= best["score_low"]]
    if best["score_seeds"] > 1:
        caption += (
            f" (95 % interval {best['score_low']:.4f} to {best['score_high']:.4f} over {best['score_seeds']} seeds)"
        )
        caption += f"; the intervals of {len(rivals)} of {len(ranked) - 1} others overlap it"
    caption += f". Last: {worst['label']}, {worst['score']:.4f}."
    if len(ranked) > SHOWN:
        caption += f" Drawn are the best {SHOWN} of {len(ranked):,}."
    drawn = figure("ranking", f"Cells by {score}", caption)
    return f'<section id="rank" aria-label="Ranking">\n<h2>Ranking</h2>\n{drawn}</section>'


def _slopes(summaries: Rows, score: str) -> str:
    figures = []
    for field, title in (("predicted", "Predicted slope"), ("measured", "Measured slope")):
        known = [row for row in summaries if row[field] is not None and row["score"] is not None]
        if known:
            least, most = (pick(row[field] for row in known) for pick in (min, max))
            best = max(known, key=lambda row: row["score"])
            when = "before training, by theory" if field == "predicted" else "at the first recorded step"
            caption = f"Slopes {when}, from {signed(least)} to {signed(most)} decades per layer;"
            caption += f" the best cell has {signed(best[field])}."
            figures.append(figure(field, f"{score[0].upper()}{score[1:]} against the {title.lower()}", caption))
    if not figures:
        return ""
    inside = f'<div class="row">\n{"".join(figures)}</div>'
    return f'<section aria-label="Slopes">\n<h2>Does the slope decide?</h2>\n{inside}\n</section>'


def _multiples(contents: Contents, summaries: Rows) -> str:
    if "delta_log10" not in contents.statistics:
        return ""
    caption = "One chart per cell, one line per seed, all on one scale; the input is at the left."
    if len(summaries) > SHOWN:
        caption += f" Drawn are the first {SHOWN} of {len(summaries):,} cells."
    menu = _select(
        "multiples-step", "At", [("first", "the first recorded step"), ("last", "the last recorded step")], "first"
    )
    drawn = figure("multiples", "Gradient against layer", caption, extra=f"<p>{menu}</p>\n")
    return f'<section id="small" aria-label="Small multiples">\n<h2>Every cell</h2>\n{drawn}</section>'
