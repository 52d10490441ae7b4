"""The pages of the reference: that each says all that vgx has, and what it says is so."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from typer.main import get_command

import vgx
import vgx.theory
from docs.make import commands, options, pages, parts
from vgx.cli import app
from vgx.config.schema import Config
from vgx.results.columns import LAYERS, METRICS

REFERENCE = {**options.pages(), **parts.pages(), **commands.pages(), **pages.pages()}


def paths(schema, node, above="") -> set[str]:
    """Every path of a section in a JSON Schema."""
    found = set()
    for name, one in node["properties"].items():
        inner = schema["$defs"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        found |= {f"{above}{name}"} | (paths(schema, inner, f"{above}{name}.") if "properties" in inner else set())
    return found


def test_every_key_of_a_config_has_a_row_with_what_it_does():
    schema = Config.model_json_schema()
    rows = dict(re.findall(r"^\| `([\w.]+)` \|.*\| ([^|]+) \|$", REFERENCE["reference/config.md"], re.MULTILINE))
    assert paths(schema, schema) == rows.keys()
    assert all(effect.strip() for effect in rows.values())


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("model.dropout", "number ≥ 0, &lt; 1 | `0.0`"),
        ("model.activation", "[activation](activations.md#activations) | `relu`"),
        ("data", "[data set](datasets.md#data-sets) | `digits`"),
        ("log.statistics", "`none`, `lite`, `standard`, `full` | `standard`"),
        ("train.steps", "whole number ≥ 1 |  |"),
        ("train", "[section](#train)"),
    ],
)
def test_a_row_says_type_and_default(row, says):
    (line,) = (line for line in REFERENCE["reference/config.md"].splitlines() if line.startswith(f"| `{row}` |"))
    assert says in line


@pytest.mark.parametrize("page", options.PAGES)
def test_every_part_has_its_formula_options_and_paper(page):
    text = REFERENCE[f"reference/{page}.md"]
    for registry in options.PAGES[page]:
        for part in registry:
            section = text.partition(f"### {part.name}\n")[2].partition("\n### ")[0]
            assert part.summary() in section
            assert part.formula in section
            assert part.source() in section
            assert all(f"| `{name}` |" in section for name in part.model_fields)


def test_a_plot_is_of_f_and_its_derivative():
    text = parts.plot(parts.ACTIVATIONS.parse("logistic"))
    assert "\n" not in text
    svg = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    assert svg.tag.endswith("svg")
    assert "currentColor" in text  # legible on dark pages


def test_every_experiment_key_column_command_and_public_name_has_its_place():
    experiments = REFERENCE["reference/experiments.md"]
    assert all(f"`{key}`" in experiments for key in ("claim.says", "best_over", "tuning.over", "scales.cpu.seconds"))
    assert "[comparison]" in experiments
    assert all(f"| `{name}` |" in REFERENCE["reference/columns.md"] for name in [*LAYERS, *METRICS])
    assert all(f"## `vgx {name}`" in REFERENCE["reference/commands.md"] for name in get_command(app).commands)
    python = REFERENCE["reference/python.md"]
    assert all(
        re.search(rf"^::: vgx\.[\w.]+\.{name}$", python, re.MULTILINE) for name in vgx.__all__ if name != "open_run"
    )
    assert all(re.search(rf"^::: vgx\.[\w.]+\.{name}$", python, re.MULTILINE) for name in vgx.theory.__all__)


def test_no_cell_of_a_table_breaks_its_row():
    for path, text in REFERENCE.items():
        width = 0
        for line in text.splitlines():
            if line.startswith("|"):
                count = len(re.findall(r"(?<!\\)\|", line))
                assert count == (width or count), f"{path}: {line}"
                width = count
            else:
                width = 0


def test_the_table_of_moments_is_theorys():
    rows = {line.split("]")[0][3:]: line for line in pages.moments("").splitlines()[2:]}
    assert rows["relu"].endswith("| 0.3989 | 0.5000 | 0.5000 | 2.0000 | 1.0000 | 1.4669 |")
    assert rows["logistic"].endswith("| 0.1528 | 1.0336 |")
    assert rows.keys() == {part.name for part in parts.ACTIVATIONS}


def test_a_page_gets_what_is_made_for_it_in_its_place():
    assert pages.filled("a\n<!-- made: docstring vgx.theory.mean_field -->\nb").startswith(
        "a\n```text\nMean-field theory"
    )
