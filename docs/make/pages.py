"""Further pages that are made from vgx: columns, shipped configs, Python."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import vgx
import vgx.theory
import vgx.watch
from vgx.config.modeline import without
from vgx.config.shipped import CONFIGS
from vgx.parts import ACTIVATIONS
from vgx.results.columns import LAYERS, METRICS

TIERS = {"lite": "lite, standard, full", "standard": "standard, full", "full": "full"}


def pages() -> dict[str, str]:
    """Returns the pages by their paths in docs/."""
    return {
        "reference/columns.md": columns(),
        "reference/configs.md": configs(),
        "reference/python.md": python(),
    }


def columns() -> str:
    """Returns the page of the columns of a run's tables."""
    lines = [
        "# Columns",
        "",
        "## layers/",
        "",
        "A row per recorded step, lane and layer; layer 1 is at the input, the one after the last hidden layer is the",
        "readout. All are float32. Null: not measured at this step. NaN: NaN was measured.",
        "",
        "| column | in the terminal | is | recorded with `log.statistics` |",
        "|---|---|---|---|",
    ]
    for name, column in LAYERS.items():
        definition = column.definition.replace("|", "\\|")
        unit = f", in {column.unit}" if column.unit else ""
        heading = column.heading.replace("|", "\\|")
        lines.append(f"| `{name}` | {heading} | {definition}{unit} | {TIERS[column.tier]} |")
    lines += [
        "",
        "## metrics/",
        "",
        "A row per step and lane, with `lane`, `step` and",
        "",
        "| column | is |",
        "|---|---|",
        *(
            f"| `{name}` | {label}{' (log10 of its norm)' if name == 'gradient_log10' else ''} |"
            for name, label in METRICS.items()
        ),
        "",
        "Test and validation figures are measured every `train.evaluate_every` steps, and null at the others; so are",
        "`sharpness`, the largest eigenvalue of the training loss's Hessian, and `stability`, learning_rate x",
        "sharpness / 2, in runs with `log.sharpness` alone. What begins with `logits` or `hidden` stands in runs with",
        "`log.spectrum` alone, at its steps: [Jacobians](../how-to/spectrum.md).",
    ]
    return "\n".join(lines) + "\n"


def configs() -> str:
    """Returns the page of every config that ships."""
    kinds = (
        ("", "Configs", "train"),
        ("sweeps", "Sweeps", "sweep"),
        ("maps", "Maps", "map"),
        ("reproduce", "Experiments", "reproduce"),
    )
    lines = [
        "# Shipped configs",
        "",
        "`vgx new --list` lists configs, sweeps and maps, `vgx new mine --from he-relu` writes one under your name;",
        "`vgx reproduce` lists the experiments.",
    ]
    for folder, title, command in kinds:
        lines += ["", f"## {title}", ""]
        for path in sorted((CONFIGS / folder).glob("*.yaml")):
            text = without(path.read_text(encoding="utf-8")).rstrip()
            run = path.stem if command == "reproduce" else f"configs/{folder}/{path.name}".replace("//", "/")
            lines += [f"### {path.stem}", "", f"`vgx {command} {run}`", "", "```yaml", text, "```", ""]
    return "\n".join(lines)


def python() -> str:
    """Returns the page of the Python API, for mkdocstrings to fill in."""
    lines = [
        "# Python",
        "",
        "`import vgx` is cheap: what is heavy is imported when it is first used. The command line is a thin caller of",
        "exactly these. [Notebooks and Python](../how-to/notebooks.md) shows them at work, and",
        "[Theory from Python](../theory.md) the functions of `vgx.theory`.",
        "",
        "## vgx",
        "",
    ]
    for name in vgx.__all__:
        if name != "open_run":  # another name of Run
            lines += _entry(getattr(vgx, name))
    lines += ["`vgx.open_run(path)` is `vgx.Run(path)`.", "", "## vgx.theory", ""]
    for name in vgx.theory.__all__:
        lines += _entry(getattr(vgx.theory, name))
    lines += ["## vgx.watch", "", "[Log any training loop](../how-to/watch-log.md) shows it at work.", ""]
    for name in vgx.watch.__all__:
        lines += _entry(getattr(vgx.watch, name))
    return "\n".join(lines) + "\n"


def _entry(one: Any) -> list[str]:
    home = inspect.unwrap(one)
    inherited = ["    options:", "      inherited_members: true"] if one is vgx.Run else []
    return [f"::: {home.__module__}.{home.__qualname__}", *inherited, ""]


MADE = re.compile(r"^<!-- made: (\w+) ?(\S*) -->$", re.MULTILINE)
"""Where a page wants something that is made."""


def filled(markdown: str) -> str:
    """Returns a page with what is made for it in its places."""
    return MADE.sub(
        lambda found: {"docstring": docstring, "moments": moments, "verified": verified}[found[1]](found[2]), markdown
    )


def docstring(module: str) -> str:
    """Returns what a module says of itself, as it stands there."""
    text = inspect.cleandoc(importlib.import_module(module).__doc__ or "")
    return f"```text\n{text}\n```\n\n`{module}`"


def moments(_: str) -> str:
    """Returns a table of every activation's moments at q = 1, and its factors without and with a normalization."""
    lines = [
        "| f at q = 1 | E f | E f² | E f'² | level at weight variance 1 / E f'² | layer, RMS norm | batch norm |",
        "|---|---|---|---|---|---|---|",
    ]
    for part in ACTIVATIONS:
        found = vgx.theory.gaussian_moments(part.name, 1.0)
        figures = (
            found.mean,
            found.square,
            found.slope_square,
            1 / found.slope_square,
            found.slope_square / found.square,
            found.slope_square / found.variance,
        )
        row = " | ".join(f"{float(figure):.4f}" for figure in figures)
        lines.append(f"| [{part.name}](reference/activations.md#{part.name}) | {row} |")
    return "\n".join(lines)


def verified(_: str) -> str:
    """Returns what benchmarks/THEORY.md says in sum."""
    text = (Path(vgx.__file__).parents[1] / "benchmarks" / "THEORY.md").read_text(encoding="utf-8")
    return text.partition("\n\n")[2].partition("\n\nHow many nets")[0]
