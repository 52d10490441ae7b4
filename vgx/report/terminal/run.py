"""Runs in the terminal: what `vgx show`, `vgx runs` and the end of `vgx train` print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from vgx.errors import RunError
from vgx.report.palette import VERDICT_INKS
from vgx.report.terminal.bars import MARK, picture, sparkline
from vgx.report.terminal.layer_rows import layer_table, left_out
from vgx.report.terminal.over_steps import heat_map, layer_over_steps
from vgx.report.terminal.spectrum import spectrum_table
from vgx.report.terminal.tables import plain_table, right
from vgx.report.words import describe_config, flat_note
from vgx.results.agreement import agreement_of
from vgx.results.columns import LAYERS, SHARPNESS, known_statistic, known_step
from vgx.results.layer_names import short_names
from vgx.results.nonfinite import first_not_finite
from vgx.results.prediction import GRADIENTS
from vgx.results.store import Run, config_of
from vgx.results.values import swept_options
from vgx.results.verdict import Places, thresholds
from vgx.results.words import counted, figure, plain, speed_of

if TYPE_CHECKING:
    from vgx.results.expectations import ExpectationResult

SHOWN_LANES = 20
"""Verdicts that are listed, a line each."""


def show(
    run: Run,
    step: int | None = None,
    lane: int = 0,
    width: int = 80,
    statistic: str | None = None,
    layer: int | None = None,
    over_steps: bool = False,
) -> RenderableType:
    """Returns a run's picture: its config, how it went, its layers at a step, and its verdict.

    Args:
        run: what to show.
        step: of the layers; the last recorded one by default.
        lane: of the run.
        width: columns.
        statistic: a column of the layer table, drawn instead of the gradient.
        layer: shown over the steps, instead of all layers at one.
        over_steps: whether the layers are drawn as a map of all steps besides.

    Raises RunError when that step, lane, statistic or layer was not recorded.
    """
    config, meta = run.config, run.meta
    header = Text.assemble((config["name"], "bold"), f"  {describe_config(config, swept_options(run))}\n")
    if run.is_sweep:
        header.append(f"lane {lane} of {meta['lanes']:,}: {_swept(run, lane)}", "dim")
    else:
        took = f"after {meta['seconds']:.1f} s{speed_of(meta)}{_devices(meta)}"
        header.append(f"{meta['status']} at step {meta['step']:,} {took}", "dim")
        header.append(f", {counted(len(run.paths), 'layer')} watched" if run.is_watched else "", "dim")
    parts: list[RenderableType] = [header, _loss_line(run, lane, width)]
    steps = run.recorded_steps([lane])
    if layer is not None:
        parts += [Text(), layer_over_steps(run, layer, lane, step, statistic, width)]
    elif len(steps):
        parts += _layers(run, steps, step, lane, width, statistic, over_steps)
        if statistic in (None, "delta_log10") and (found := agreement_of(run, lane)):
            parts += [Text(), Text(found.sentence, "" if found.holds else "yellow")]
        if statistic is None and (spectra := spectrum_table(run, lane)):
            parts.append(spectra)
    elif known := run.layers(["lane"], where=pc.field("layer") == 1)["lane"].to_pylist():
        raise RunError(f"{run.path}: has no lane {lane}: it has {max(known) + 1}, from 0")
    elif step is not None or statistic is not None:
        why = "" if run.is_watched else f" (log.statistics: {config['log']['statistics']})"
        raise RunError(f"{run.path}: no layers are recorded{why}")
    return Group(*parts, Text(), *_not_finite(run, lane), verdicts(run, lane if run.is_sweep else None))


def _devices(meta: Mapping[str, Any]) -> str:
    """What a run was on; of a watched one nobody knows."""
    devices = meta.get("devices")
    if not devices:
        return ""
    where = f" on {f'{len(devices)} x ' * (len(devices) > 1)}{devices[0]}"
    if (share := meta.get("devices_per_run", 1)) != 1:
        where += f", {share} for each run"
    if (together := meta.get("processes", 1)) > 1:
        where += f", in {together} processes"
    return where


def _not_finite(run: Run, lane: int) -> list[Text]:
    """Where NaN or infinity began in each lane that is told of, a sentence each."""
    ended = {row["lane"]: row for row in run.lanes().to_pylist()}
    lanes = [lane] if run.is_sweep or not ended else list(ended)[:SHOWN_LANES]
    sentences, places = [], Places(tuple(run.paths))
    for each in lanes:
        if found := first_not_finite(run, each):
            seed = f"seed {ended[each]['seed']}: " if len(lanes) > 1 else ""
            sentences.append(Text.assemble((seed, "dim"), (found.sentence(places), "yellow")))
    return sentences


def _layers(
    run: Run, steps: np.ndarray, step: int | None, lane: int, width: int, statistic: str | None, over_steps: bool
) -> list[RenderableType]:
    """The picture and the table of all layers at a step, and the map of all steps."""
    step = known_step(run, int(steps[-1]) if step is None else step, steps)
    rows = run.layers(where=(pc.field("step") == step) & (pc.field("lane") == lane))
    name = known_statistic(run, statistic, rows)
    column = LAYERS[name]
    marks, paths = _predicted(run, name, lane, rows), run.paths
    title = f"{column.title}, at step {step:,} by layer" + (
        "" if marks is None else f" ({MARK} predicted at the start)"
    )
    drawn, ends = (rows.filter(pc.field(name).is_valid()), None) if paths else (rows.slice(0, len(rows) - 1), None)
    if paths and len(drawn):
        names = short_names([paths[i - 1] for i in drawn["layer"].to_pylist()])
        ends = names[0], names[-1]
    form = column.axis_form
    parts = [
        Text(),
        picture(column.shown(drawn[name]), width, title=title, marks=marks, log=column.is_log, ends=ends, form=form),
        Text(),
        layer_table(rows, width, paths),
    ]
    flat = rows["saturated"].null_count < len(rows) and not run.is_watched
    if flat and (note := flat_note(run.config["model"]["activation"])):
        parts.append(Text(note, "dim"))
    if missing := left_out(len(rows), paths):
        which = "--layer PATH" if paths else "--layer N"
        parts.append(Text(f"{missing}; {which} shows another", "dim"))
    return [*parts, Text(), heat_map(run, lane, name, steps)] if over_steps else parts


def _predicted(run: Run, statistic: str, lane: int, rows: pa.Table) -> np.ndarray | None:
    """What theory says of a statistic at the start, [L]; of a gradient, by the output layer's at the step of `rows`."""
    mine = (pc.field("lane") == lane) & (pc.field("statistic") == statistic) & (pc.field("layer") < len(rows))
    predicted = run.prediction(["predicted"], where=mine)["predicted"].to_numpy()
    if not len(predicted):
        return None
    if statistic not in GRADIENTS:
        return predicted
    top = rows["delta_log10"].to_numpy()[-1]
    return predicted + top if np.isfinite(top) else None


def _swept(run: Run, lane: int) -> str:
    """What sets a lane of a sweep apart."""
    names = ["seed", *swept_options(run)]
    rows = run.lanes().filter(pc.field("lane") == lane).to_pylist()
    return ", ".join(f"{name} {value}" for name in names for row in rows if (value := row[name]) is not None)


def _loss_line(run: Run, lane: int, width: int) -> Text:
    """Loss over the steps, in a line; where it was measured the sharpness, in another."""
    metrics = run.metrics(["lane", "step", "train_loss", "test_accuracy", *SHARPNESS]).filter(pc.field("lane") == lane)
    if not len(metrics):
        return Text("nothing is written yet", "dim")
    loss, form = metrics["train_loss"].drop_null().to_numpy(), "{:.3g}"
    accuracy = metrics["test_accuracy"].drop_null()
    text = Text()
    if len(loss):
        text.append("loss ", "dim").append(f"{figure(loss[0], form)} ")
        text.append(sparkline(loss, max(10, width - 45)), "cyan").append(f" {figure(loss[-1], form)}")
    if len(accuracy):
        text.append(f"{'  ' * bool(text)}test accuracy ", "dim").append(figure(accuracy[-1].as_py()))
    sharpness, stability = (metrics[name].drop_null().to_numpy() for name in SHARPNESS)
    if len(sharpness):
        text.append("\nsharpness ", "dim").append(f"{figure(sharpness[0], form)} ")
        text.append(sparkline(sharpness, max(10, width - 60)), "cyan").append(f" {figure(sharpness[-1], form)}")
        text.append("  learning rate x sharpness / 2 ", "dim").append(figure(stability[-1], "{:.2f}"))
    return text


def verdicts(run: Run, lane: int | None = None) -> Text:
    """Returns each lane's verdict (or one's) and its evidence, a line each; the last line tells where the run is."""
    text = Text()
    lanes = run.lanes().to_pylist()
    if lane is not None:
        return Text.assemble(*(_verdict(row) for row in lanes if row["lane"] == lane), _thresholds(), str(run.path))
    for row in lanes[:SHOWN_LANES]:
        seed = f"seed {row['seed']}: " if len(lanes) > 1 else ""
        text.append(seed, "dim").append_text(_verdict(row, with_accuracy=len(lanes) > 1))
    if len(lanes) > SHOWN_LANES:
        more = counted(len(lanes) - SHOWN_LANES, "more lane")
        text.append(f"... and {more} in {run.path / 'lanes.parquet'}\n", "dim")
    return text.append_text(_thresholds() if lanes else Text()).append_text(last_line(run))


def _thresholds() -> Text:
    return Text(f"{thresholds()}\n", "dim")


def _verdict(row: dict[str, Any], with_accuracy: bool = False) -> Text:
    word = row["verdict"] or row["status"]
    known = with_accuracy and row["test_accuracy"] is not None
    accuracy = f"test accuracy {figure(row['test_accuracy'])}, " if known else ""
    return Text.assemble((word, f"bold {VERDICT_INKS.get(word, '')}"), f": {accuracy}{row['evidence']}\n")


def expectations(results: Sequence[ExpectationResult]) -> Table:
    """Returns what was expected of each lane, what was found, and whether it held."""
    many = any(one.lane for one in results)
    table = plain_table(*([right("lane", no_wrap=False)] if many else []), "expected", "", "found", "")
    for one in results:
        found = one.found if isinstance(one.found, str) else figure(one.found, "{:.4g}")
        mark = Text("held", "green") if one.holds else Text("did not hold", "bold red")
        table.add_row(*([str(one.lane)] if many else []), one.what, one.expected, found, mark)
    return table


def last_line(run: Run) -> Text:
    """Returns the verdict, or several, and where the run is."""
    words = sorted({lane["verdict"] or lane["status"] for lane in run.lanes().to_pylist()}) or [run.status]
    return Text.assemble(
        (", ".join(words), f"bold {VERDICT_INKS.get(words[0], '') if len(words) == 1 else ''}"), f"  {run.path}"
    )


def summary(run: Run) -> dict[str, Any]:
    """Returns what `vgx train --json` and `vgx sweep --json` print."""
    table = run.lanes()
    left_out = ("cell", "evidence", "diverged_step", "diverged_layer", "train_accuracy", "error")
    names = [name for name in table.column_names if name not in left_out and not name.startswith("validation_")]
    lanes = [{name: plain(lane[name]) for name in names} for lane in table.to_pylist()]
    return {"run": str(run.path), "status": run.status, "lanes": lanes}


def summary_json(run: Run) -> dict[str, Any]:
    """Returns the same, with all that was expected of the run beside it."""
    held = [one._asdict() | {"found": plain(one.found)} for one in run.expectations]
    return summary(run) | ({"expect": held} if held else {})


def runs_table(runs: Sequence[Run]) -> RenderableType:
    """Returns the runs as a table: name, net, status, verdict and test accuracy (the mean over lanes).

    A damaged one is listed as that, with the reason below the table.
    """
    name, status, verdict = (Column(head, no_wrap=True) for head in ("run", "status", "verdict"))
    table = plain_table(name, status, right("step", no_wrap=False), verdict, right("slope"), right("test"))
    reasons = []
    for run in runs:
        try:
            table.add_row(*_run_row(run))
        except RunError as error:
            table.add_row(run.path.name, Text("damaged", "red"))
            reasons.append(Text(error.on_command_line, "dim"))
    return Group(table, *([Text(), *reasons] if reasons else []))


def _run_row(run: Run) -> tuple[str | Text, ...]:
    meta, lanes = run.meta, run.lanes().to_pylist()
    words = ", ".join(sorted({lane["verdict"] for lane in lanes if lane["verdict"]}))
    return (
        run.path.name,
        meta["status"],
        f"{meta['lanes_done']:,}/{counted(meta['lanes'], 'lane')}" if run.is_sweep else f"{meta['step']:,}",
        Text(words, VERDICT_INKS.get(words, "")),
        figure(_mean([lane["slope"] for lane in lanes]), "{:+.3f}"),
        figure(_mean([lane["test_accuracy"] for lane in lanes])),
    )


def runs_json(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns what `vgx runs --json` prints: the table's figures, and how many lanes came to which verdict.

    Of a damaged run it has the reason alone.
    """
    found: list[dict[str, Any]] = []
    for run in runs:
        try:
            lanes, meta = run.lanes().to_pylist(), run.meta
        except RunError as error:
            found.append({"run": str(run.path), "status": "damaged", "reason": error.on_command_line})
            continue
        words = [lane["verdict"] or lane["status"] for lane in lanes]
        means = {name: _mean([lane[name] for lane in lanes]) for name in ("slope", "test_accuracy")}
        found.append(
            {"run": str(run.path), "name": config_of(run.path.name), "status": meta["status"], "step": meta["step"]}
            | {"sweep": run.is_sweep, "lanes": len(lanes), "verdicts": dict(Counter(words))}
            | {name: plain(mean) for name, mean in means.items()}
        )
    return {"runs": found}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
