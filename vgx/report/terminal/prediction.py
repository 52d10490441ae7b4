"""A prediction in the terminal: what `vgx predict` prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from vgx.report.palette import VERDICT_INKS
from vgx.report.terminal.bars import MARK, gradient_picture
from vgx.report.terminal.tables import plain_table, right
from vgx.report.words import describe_config
from vgx.results.agreement import agreement
from vgx.results.attribution import Causes, attribute
from vgx.results.columns import LAYERS
from vgx.results.spectrum import MAPS
from vgx.results.values import label
from vgx.results.verdict import slope_of, thresholds
from vgx.results.words import counted, figure, signed

if TYPE_CHECKING:
    from vgx.theory.predict import CellPrediction, Prediction
    from vgx.theory.validate import Validation

Parts = TypeVar("Parts", bound="CellPrediction | Validation")

PHASES = {
    "ordered": "the gradient falls, inputs become alike",
    "chaotic": "the gradient grows, inputs drift apart",
    "critical": "the gradient neither falls nor grows exponentially",
    "scale-invariant": "the size of a signal changes nothing",
}
UNDEFINED = {"slope": "slope", "delta_log10": "gradient", "cosine": "cosine"}
"""What figures that may not be defined are called here."""


def forecast(
    prediction: Prediction, config: dict[str, Any], width: int = 80, measured: np.ndarray | None = None
) -> RenderableType:
    """Returns the predicted gradient over the layers, its slope, where deeper layers lead, and the verdict.

    Args:
        prediction: what theory says.
        config: of the same net, as JSON.
        width: columns.
        measured: [L + 1], log10 of the gradient at the first step, to be drawn over the prediction.
    """
    header = Text.assemble((config["name"], "bold"), f"  {describe_config(config)}\n")
    header.append("predicted by mean-field theory, before any training\n", "dim")
    symbol = LAYERS["stream_grad_log10" if prediction.curves.has_stream else "delta_log10"].symbol
    label, marks = f"predicted {symbol} relative to the output layer", None
    if measured is not None:
        marks = measured[:-1] - measured[-1]
        label = f"{symbol} relative to the output layer, predicted (bars) and measured ({MARK}),"
    picture = gradient_picture(prediction.curves.stream_grad_log10[:-1], width, label=label, marks=marks)
    figures = _figures(prediction, spectra=bool(config["log"].get("spectrum")))
    parts: list[RenderableType] = [header, picture, Text(), figures]
    if measured is not None:
        parts += [Text(), _against(prediction, measured)]
    return Group(*parts, Text(), _verdict(prediction), Text(thresholds(), "dim"))


def _against(prediction: Prediction, measured: np.ndarray) -> Table:
    """What was measured, how far that is from the prediction, and the causes of the slope."""
    curves = prediction.curves
    found = agreement(curves.stream_grad_log10, curves.band, measured[None], np.ones(1, int))
    slope = slope_of(measured[:-1])
    lines = {"measured": f"{_decades(slope)}, at the first step"}
    lines["agreement"] = found.sentence
    causes = attribute(curves, measured)
    if math.isfinite(causes.slope):
        lines["causes"] = _shares(causes)
    lines["summary"] = causes.sentence
    return _named(lines)


def _shares(causes: Causes) -> str:
    shown = {name: value for name, value in causes._asdict().items() if name not in ("dropout", "skip") or value}
    return ", ".join(f"{name.replace('normalization', 'norm')} {signed(value, 3)}" for name, value in shown.items())


def _named(lines: dict[str, str]) -> Table:
    """Lines under their names; a long one goes on under its own beginning."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", min_width=12)
    table.add_column()
    for name, line in lines.items():
        table.add_row(name, line)
    return table


def grid_table(cells: Iterable[CellPrediction]) -> RenderableType:
    """Returns a grid of predicted slopes, in decades per layer: a table for each normalization."""
    cells = list(cells)
    parts = _by_parts(
        cells, lambda cell: Text(signed(cell.slope, 3), VERDICT_INKS[cell.verdict.word] if cell.verdict else "")
    )
    key = Text("decades of gradient norm per layer, from the top down; ")
    for word in ("healthy", "vanishing", "exploding"):
        key.append(word, VERDICT_INKS[word]).append(" ")
    why = dict.fromkeys(cell.reason for cell in cells if cell.reason)
    return Group(*parts, key, *(Text(f"-: {reason}") for reason in why))


def outlook_table(
    options: Sequence[dict[str, Any]], predictions: Sequence[Prediction | str], measured: Sequence[np.ndarray]
) -> RenderableType:
    """Returns a line for each cell of a sweep: its options by path, slope, how deep such nets train, and the verdict.

    Of a cell that theory fails at there is the reason alone. `measured` is each cell's gradient at the first step
    [L + 1], in log10; none, and that column is left out.
    """
    table = plain_table(
        *(Column(path.rpartition(".")[2], overflow="fold") for path in options[0]),
        *map(right, ("slope", *(["measured"] if measured else []), "trainable")),
        *(Column(name, no_wrap=True) for name in ("phase", "verdict")),
    )
    why: dict[str, None] = {}
    for i, (values, one) in enumerate(zip(options, predictions, strict=True)):
        found = [signed(slope_of(measured[i][:-1]), 4)] if measured else []
        if isinstance(one, str):
            table.add_row(*map(label, values.values()), "-", *found, "-", "-", "-")
            why[one] = None
            continue
        word = one.verdict.word
        table.add_row(
            *map(label, values.values()),
            signed(one.slope, 4),
            *found,
            _layers(one.trainable_depth, never="any").removesuffix("s").removesuffix(" layer"),
            one.limit.phase,
            Text(word, VERDICT_INKS[word]),
        )
        if "slope" in one.reasons:
            why[one.reasons.get("delta_log10", one.reasons["slope"])] = None
    key = Text("slope: decades of gradient norm per layer, from the top down; trainable: depth in layers, about", "dim")
    return Group(table, Text(), key, *(Text(f"-: {reason}") for reason in why))


def _figures(prediction: Prediction, *, spectra: bool) -> Table:
    limit, slope = prediction.limit, prediction.slope
    q, c, factor = (figure(None if math.isnan(value) else value, "{:.4g}") for value in limit.fixed_point)
    known = math.isfinite(prediction.curves.stream_grad_log10[0])
    lines = {"slope": f"{_decades(slope)}, from the top down"} if math.isfinite(slope) else {}
    reasons = prediction.reasons
    lines |= {label: f"-: {reasons[name]}" for name, label in UNDEFINED.items() if name in reasons}
    lines |= {
        "spread": f"± {prediction.curves.band[0]:.2g} decades at layer 1, a deviation over draws of weights"
        if known
        else "-",
        "phase": f"{limit.phase}: {PHASES[limit.phase]}",
        "fixed point": f"factor {factor}, E[h^2] {q}, correlation of two inputs {c}",
        "decay length": f"{_layers(limit.depth_scale)} (gradient),"
        f" {_layers(limit.correlation_depth_scale)} (correlation)",
        "trainable to": _layers(prediction.trainable_depth, about="about ", never="any depth, as far as theory knows"),
    }
    if spectra:
        for name, (square, spread) in prediction.spectra.items():
            says = f"mean squared singular value 1e{signed(square, 2)}, spread {figure(spread, '{:.3g}')}"
            lines[f"{name} s^2"] = f"{says}: {MAPS[name]}"
    if prediction.ends:
        lines["theory ends"] = "\n".join(end.sentence for end in prediction.ends)
    return _named(lines)


def _decades(slope: float) -> str:
    return f"{signed(slope, 4)} decades per layer ({signed(20 * slope, 2)} dB)" if math.isfinite(slope) else "-"


def _layers(count: float, about: str = "", never: str = "never") -> str:
    if math.isnan(count):
        return "-"
    return about + counted(count, "layer") if count < 1e6 else never


def _by_parts(rows: Sequence[Parts], cell: Callable[[Parts], Text]) -> list[RenderableType]:
    """A table for each normalization, of a row for each activation and a column for each initializer."""
    by_title: dict[str, list[Parts]] = {}
    for row in rows:
        by_title.setdefault(row.title, []).append(row)
    parts: list[RenderableType] = []
    for title, group in by_title.items():
        table = plain_table(Column(title, min_width=17))
        for initializer in dict.fromkeys(str(row.initializer) for row in group):
            table.add_column(initializer.removesuffix("_normal"), justify="right", min_width=9)
        for activation, line in groupby(group, key=lambda row: str(row.activation)):
            table.add_row(activation, *map(cell, line))
        parts += [table, Text()]
    return parts


def checks_table(checks: Sequence[Validation]) -> RenderableType:
    """Returns how far measured factors are from the predicted ones, and which leave their tolerance."""
    parts: list[RenderableType] = []
    for batch, group in groupby(checks, key=lambda check: check.batch):
        parts += [Text(f"batches of {batch}\n", "bold"), *_by_parts(list(group), _deviation)]
    off = [check for check in checks if not check.holds]
    for check in off:
        where = f"{check.activation}, {check.initializer}, {check.title}, batches of {check.batch}"
        figures = f"factor {check.measured:.4g} measured, {check.predicted:.4g} ± {check.tolerance:.1%} predicted"
        parts.append(Text(f"off: {where}: {figures}", "red"))
    widest = max((check.tolerance for check in checks), default=0.0)
    within = len(checks) - len(off)
    says = f"{within:,} of {len(checks):,} are within what theory allows, {widest:.1%} at the most"
    parts.append(Text(f"measured / predicted factor - 1; {says}"))
    return Group(*parts)


def _deviation(check: Validation) -> Text:
    return Text("-" if math.isnan(check.off) else f"{check.off:+.1%}", "green" if check.holds else "bold red")


def _verdict(prediction: Prediction) -> Text:
    word, evidence = prediction.verdict.word, prediction.verdict.evidence
    return Text.assemble((word, f"bold {VERDICT_INKS[word]}"), f" (predicted): {evidence}")
