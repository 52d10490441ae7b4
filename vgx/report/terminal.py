"""Runs in the terminal: what `vgx show`, `vgx runs` and the end of `vgx train` print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vgx.agreement import agreement_of
from vgx.errors import RunError
from vgx.report.bars import MARK, picture, sparkline
from vgx.report.courses import heat_map, layer_over_steps
from vgx.report.statistics import LOOKS, known_statistic, shown_values
from vgx.run_directory import Run

if TYPE_CHECKING:
    from vgx.expectation import Held

COLOURS = {
    "healthy": "green",
    "vanishing": "red",
    "exploding": "magenta",
    "saturated": "yellow",
    "dead": "red",
    "diverged": "red",
}
SHOWN_LAYERS = 12
"""Rows of a layer table; a deeper net is sampled evenly."""
COLUMNS = {
    "delta_log10": ("delta", "{:.2f}"),
    "weight_grad_log10": ("dW", "{:.2f}"),
    "weight_grad_zero": ("zeros", "{:.0%}"),
    "update_ratio": ("update", "{:.0e}"),
    "preact_std": ("std h", "{:.2g}"),
    "act_mean": ("mean x", "{:.2g}"),
    "act_rms": ("rms x", "{:.2g}"),
    "dead": ("dead", "{:.0%}"),
    "saturated": ("satur.", "{:.0%}"),
    "cosine": ("cosine", "{:.2f}"),
    "participation": ("dim", "{:.1f}"),
    "noise_scale": ("noise", "{:.0f}"),
}


def describe_config(config: dict[str, Any]) -> str:
    """Returns a config in a line: `20 x 128 relu, he_normal, no norm, sgd 0.1, mnist`."""
    model, train = config["model"], config["train"]
    width = model["width"]
    shape = "-".join(map(str, width)) if isinstance(width, list) else f"{model['depth']} x {width}"
    norm = model["normalization"]
    normalization = "no norm" if norm["name"] == "none" else f"{norm['name']} norm {norm.get('placement', '')}".strip()
    optimizer = f"{train['optimizer']['name']} {train['optimizer']['learning_rate']:g}"
    words = [f"{shape} {model['activation']['name']}", model["initializer"]["name"], normalization, optimizer]
    return ", ".join([*words, config["data"]["name"]])


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
        step: of the layers; the last recorded one unless told.
        lane: of the run.
        width: columns.
        statistic: a column of the layer table, drawn instead of the gradient.
        layer: shown over the steps, instead of all layers at one.
        over_steps: whether the layers are drawn as a map of all steps besides.

    Raises RunError when that step, lane, statistic or layer was not recorded.
    """
    config, meta = run.config, run.meta
    header = Text.assemble((config["name"], "bold"), f"  {describe_config(config)}\n")
    speed = f", {meta['steps_per_second']:,.0f} steps/s" if meta["steps_per_second"] else ""
    if run.is_sweep:
        header.append(f"lane {lane} of {meta['lanes']:,}: {_swept(run, lane)}", "dim")
    else:
        where = f"{len(meta['devices'])} x " * (len(meta["devices"]) > 1) + meta["devices"][0]
        took = f"after {meta['seconds']:.1f} s{speed} on {where}"
        header.append(f"{meta['status']} at step {meta['step']:,} {took}", "dim")
    parts: list[RenderableType] = [header, _course(run, lane, width)]
    steps = np.unique(
        run.layers(["step"], where=(pc.field("layer") == 1) & (pc.field("lane") == lane))["step"].to_numpy()
    )
    if layer is not None:
        parts += [Text(), layer_over_steps(run, layer, lane, step, statistic, width)]
    elif len(steps):
        parts += _layers(run, steps, step, lane, width, statistic, over_steps)
        if statistic in (None, "delta_log10") and (held := agreement_of(run, lane)):
            parts += [Text(), Text(held.sentence, "" if held.holds else "yellow")]
    elif known := run.layers(["lane"], where=pc.field("layer") == 1)["lane"].to_pylist():
        raise RunError(f"{run.path}: has no lane {lane}: it has {max(known) + 1}, from 0")
    elif step is not None or statistic is not None:
        raise RunError(f"{run.path}: no layers are recorded (log.statistics: {config['log']['statistics']})")
    return Group(*parts, Text(), verdicts(run, lane if run.is_sweep else None))


def _layers(
    run: Run, steps: np.ndarray, step: int | None, lane: int, width: int, statistic: str | None, over_steps: bool
) -> list[RenderableType]:
    """The picture and the table of all layers at a step, and the map of all steps."""
    step = int(steps[-1]) if step is None else step
    if step not in steps:
        near = steps[np.argmin(np.abs(steps - step))]
        raise RunError(f"{run.path}: has no layers at step {step}; the nearest is {near}")
    rows = run.layers(where=(pc.field("step") == step) & (pc.field("lane") == lane))
    name = known_statistic(run, statistic, rows)
    look, values = LOOKS[name], shown_values(name, rows[name])
    marks = _predicted(run, name, lane, values)
    title = f"{look.label} at step {step:,} by layer" + ("" if marks is None else f" ({MARK} predicted at the start)")
    parts = [Text(), picture(values[:-1], width, title=title, marks=marks, log=look.log), Text(), layer_table(rows)]
    return [*parts, Text(), heat_map(run, lane, name, steps, len(rows) - 1)] if over_steps else parts


def _predicted(run: Run, statistic: str, lane: int, values: np.ndarray) -> np.ndarray | None:
    """What theory says of a statistic at the start, [L]; of the gradient over the readout's, so on top of that."""
    mine = (pc.field("lane") == lane) & (pc.field("statistic") == statistic) & (pc.field("layer") < len(values))
    predicted = run.prediction(where=mine)["predicted"].to_numpy()
    if not len(predicted) or not np.isfinite(values[-1]):
        return None
    return predicted + values[-1] if statistic == "delta_log10" else predicted


def _swept(run: Run, lane: int) -> str:
    """What sets a lane of a sweep apart."""
    table = run.lanes()
    names = table.column_names[table.column_names.index("seed") : table.column_names.index("status")]
    rows = table.filter(pc.field("lane") == lane).to_pylist()
    return ", ".join(f"{name} {value}" for name in names for row in rows if (value := row[name]) is not None)


def _course(run: Run, lane: int, width: int) -> Text:
    """Loss over the steps, in a line."""
    metrics = run.metrics(["lane", "step", "train_loss", "test_accuracy"]).filter(pc.field("lane") == lane)
    if not len(metrics):
        return Text("nothing is written yet", "dim")
    loss = metrics["train_loss"].to_numpy()
    accuracy = metrics["test_accuracy"].drop_null()
    text = Text.assemble(
        ("loss ", "dim"), f"{loss[0]:.3g} ", (sparkline(loss, max(10, width - 45)), "cyan"), f" {loss[-1]:.3g}"
    )
    if len(accuracy):
        text.append("  test accuracy ", "dim").append(f"{accuracy[-1].as_py():.4f}")
    return text


def layer_table(rows: pa.Table) -> Table:
    """Returns one step's layers as a table of at most SHOWN_LAYERS rows, the readout last."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    table.add_column("layer", justify="right")
    measured = [name for name in COLUMNS if rows[name].null_count < len(rows)]
    for name in measured:
        table.add_column(COLUMNS[name][0], justify="right")
    picked = np.unique(np.linspace(0, len(rows) - 1, min(SHOWN_LAYERS, len(rows))).round().astype(int))
    for i in picked:
        row = rows.slice(int(i), 1).to_pylist()[0]
        layer = "out" if i == len(rows) - 1 else str(row["layer"])
        table.add_row(layer, *(_figure(row[name], COLUMNS[name][1]) for name in measured))
    return table


def _figure(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    return form.format(value) if math.isfinite(value) else {math.inf: "∞", -math.inf: "-∞"}.get(value, "NaN")


def verdicts(run: Run, lane: int | None = None) -> Text:
    """Returns each lane's verdict (or one's) and its evidence, a line each; the last line tells where the run is."""
    text = Text()
    lanes = run.lanes().to_pylist()
    if lane is not None:
        return Text.assemble(*(_verdict(row) for row in lanes if row["lane"] == lane), str(run.path))
    for row in lanes[:20]:
        seed = f"seed {row['seed']}: " if len(lanes) > 1 else ""
        text.append(seed, "dim").append_text(_verdict(row, with_accuracy=len(lanes) > 1))
    if len(lanes) > 20:
        text.append(f"... and {len(lanes) - 20} more lanes in {run.path / 'lanes.parquet'}\n", "dim")
    return text.append_text(last_line(run))


def _verdict(row: dict[str, Any], with_accuracy: bool = False) -> Text:
    word = row["verdict"] or row["status"]
    known = with_accuracy and row["test_accuracy"] is not None
    accuracy = f"test accuracy {row['test_accuracy']:.4f}, " if known else ""
    return Text.assemble((word, f"bold {COLOURS.get(word, '')}"), f": {accuracy}{row['evidence']}\n")


def expectations(held: Sequence[Held]) -> Table:
    """Returns what was expected of each lane, what was found, and whether it held."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    many = any(one.lane for one in held)
    for name in (*(["lane"] if many else []), "expected", "", "found", ""):
        table.add_column(name, justify="right" if name == "lane" else "left")
    for one in held:
        found = one.found if isinstance(one.found, str) else _figure(one.found, "{:.4g}")
        mark = Text("held", "green") if one.holds else Text("did not hold", "bold red")
        table.add_row(*([str(one.lane)] if many else []), one.what, one.expected, found, mark)
    return table


def last_line(run: Run) -> Text:
    """Returns the verdict, or several, and where the run is."""
    words = sorted({lane["verdict"] or lane["status"] for lane in run.lanes().to_pylist()}) or [run.status]
    return Text.assemble(
        (", ".join(words), f"bold {COLOURS.get(words[0], '') if len(words) == 1 else ''}"), f"  {run.path}"
    )


def summary(run: Run) -> dict[str, Any]:
    """Returns what `vgx train --json` and `vgx sweep --json` print."""
    table = run.lanes()
    left_out = ("cell", "evidence", "diverged_step", "diverged_layer", "train_accuracy", "error")
    names = [name for name in table.column_names if name not in left_out and not name.startswith("validation_")]
    lanes = [{name: plain(lane[name]) for name in names} for lane in table.to_pylist()]
    return {"run": str(run.path), "status": run.status, "lanes": lanes}


def plain(value: Any) -> Any:
    """Returns what JSON can say of a number: JSON has no NaN and no infinity, which become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def runs_table(runs: Sequence[Run]) -> Table:
    """Returns the runs as a table: name, net, status, verdict and test accuracy (the mean over lanes)."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    for name, justify in (
        ("run", "left"),
        ("status", "left"),
        ("step", "right"),
        ("verdict", "left"),
        ("slope", "right"),
        ("test", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=name == "run")  # type: ignore[arg-type]
    for run in runs:
        lanes = run.lanes().to_pylist()
        words = ", ".join(sorted({lane["verdict"] for lane in lanes if lane["verdict"]}))
        mean = {name: _mean([lane[name] for lane in lanes]) for name in ("slope", "test_accuracy")}
        table.add_row(
            run.path.name,
            run.status,
            f"{run.meta['lanes_done']:,}/{run.meta['lanes']:,} lanes" if run.is_sweep else f"{run.meta['step']:,}",
            Text(words, COLOURS.get(words, "")),
            _figure(mean["slope"], "{:+.3f}"),
            _figure(mean["test_accuracy"], "{:.4f}"),
        )
    return table


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
