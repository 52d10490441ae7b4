"""The house: imports only go down, and paper knows no jax.

The table below is the plan of the house, a floor for each module and package of `vgx`; a newcomer must be given one.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import vgx

ROOT = Path(vgx.__file__).parent

FLOORS = {
    "errors": 0,
    "disk": 1,
    "safe_text": 0,
    "sizes": 1,
    "documents": 1,
    "modules": 1,
    "bounds": 1,
    "manifest": 2,
    "run_files": 3,
    "words": 1,
    "doctor": 5,
    "inference": 1,
    "registry": 1,
    "quadrature": 1,
    "parts": 2,
    "data": 2,
    "probes": 2,
    "places": 2,
    "options": 3,
    "moments": 2,
    "theory": 2,
    "verdict": 2,
    "spread": 2,
    "attribution": 3,
    "batches": 2,
    "model": 3,
    "config": 3,
    "loading": 3,
    "cells": 3,
    "cell_configs": 4,
    "grid": 2,
    "comparisons": 2,
    "training": 4,
    "lanes": 4,
    "written": 2,
    "directories": 3,
    "run_directory": 4,
    "run_writer": 4,
    "checkpoint": 4,
    "stopping": 4,
    "outcome": 4,
    "comparison": 4,
    "exports": 4,
    "colours": 1,
    "parting": 1,
    "machine": 4,
    "ledger": 5,
    "experiment": 5,
    "planning": 5,
    "sweeping": 5,
    "loop": 5,
    "prediction": 5,
    "foretold": 5,
    "agreement": 5,
    "measurement": 5,
    "verification": 5,
    "cure": 5,
    "expectation": 5,
    "statistics": 5,
    "claims": 5,
    "reproduction": 5,
    "amend": 3,
    "shipped": 4,
    "extras": 1,
    "rows": 5,
    "report": 5,
    "face": 6,
    "doors": 6,
    "cli": 6,
}
OUTSIDE = {"vgx", "vgx.__main__"}
"""The doors: they open on every floor."""
NEIGHBOURS = {
    ("moments", "parts"),
    ("moments", "probes"),
    ("cure", "prediction"),
    ("verification", "prediction"),
    ("theory", "parts"),
    ("theory", "moments"),
    ("theory", "spread"),
    ("spread", "moments"),
    ("spread", "parts"),
    ("model", "config"),
    ("loading", "config"),
    ("loading", "options"),
    ("cells", "options"),
    ("cells", "config"),
    ("cells", "loading"),
    ("checkpoint", "run_directory"),
    ("run_writer", "run_directory"),
    ("cell_configs", "run_writer"),
    ("cell_configs", "run_directory"),
    ("lanes", "training"),
    ("outcome", "run_directory"),
    ("experiment", "foretold"),
    ("comparison", "run_directory"),
    ("exports", "run_directory"),
    ("experiment", "loop"),
    ("foretold", "agreement"),
    ("foretold", "prediction"),
    ("report", "agreement"),
    ("sweeping", "foretold"),
    ("loop", "rows"),
    ("planning", "loop"),
    ("sweeping", "experiment"),
    ("sweeping", "ledger"),
    ("sweeping", "loop"),
    ("sweeping", "planning"),
    ("claims", "statistics"),
    ("reproduction", "claims"),
    ("reproduction", "ledger"),
    ("reproduction", "prediction"),
    ("reproduction", "statistics"),
    ("reproduction", "sweeping"),
    ("doors", "face"),
}
"""Who may see whom on the same floor."""

PAPER = (
    "errors",
    "words",
    "safe_text",
    "sizes",
    "documents",
    "modules",
    "cell_configs",
    "registry",
    "places",
    "data",
    "grid",
    "verdict",
    "attribution",
    "batches",
    "manifest",
    "run_files",
    "disk",
    "written",
    "directories",
    "run_directory",
    "run_writer",
    "outcome",
    "agreement",
    "comparison",
    "parting",
    "colours",
    "exports",
    "inference",
    "statistics",
    "comparisons",
    "report",
    "face",
)
"""What knows files and no jax."""
BRIDGES = {"vgx.report.catalogue"}
"""What lists the parts, and so meets jax, though it stands on paper."""
JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "chex"}

NUMERICS = ("quadrature", "parts", "probes", "moments", "spread", "theory", "model", "training", "lanes")
"""What knows jax and no files."""
FILES = {"pathlib", "os", "io", "shutil", "tempfile", "json", "yaml", "pyarrow", "rich", "orbax", "pooch"}
PAPER_ONLY = {
    "places",
    "grid",
    "verdict",
    "disk",
    "written",
    "directories",
    "run_directory",
    "report",
    "checkpoint",
    "machine",
    "experiment",
    "cli",
}


class Import(NamedTuple):
    """One name that a module imports."""

    line: int
    target: str
    """The module imported: `jax.numpy`, `vgx.parts.activations`; or `vgx` for what the package itself offers."""
    at_once: bool
    """Whether importing the module runs it: not inside a function, not for type checkers alone."""
    typing: bool
    """Whether it is for type checkers alone."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    """Every import in a module, wherever it stands in it."""
    tree = ast.parse(MODULES[module].read_text())
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    found: list[Import] = []

    def visit(node: ast.AST, at_once: bool, typing: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(node.lineno, alias.name, at_once, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            inner = {f"{origin}.{alias.name}" for alias in node.names} & set(MODULES)  # from vgx import places
            whole = {origin} if len(inner) < len(node.names) else set()
            found.extend(Import(node.lineno, target, at_once, typing) for target in sorted(inner | whole))
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                visit(child, False, True)
            for child in node.orelse:
                visit(child, at_once, typing)
        else:
            inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                visit(child, at_once and not inside, typing)

    visit(tree, True, False)
    return tuple(found)


def room(module: str) -> str:
    """The entry of the table that a module falls under: `report` for `vgx.report.live`."""
    return module.split(".")[1]


def goes_down(module: str, step: Import) -> bool:
    """Whether an import inside `vgx` goes down, or stays in its room, or looks at a neighbour that may be seen."""
    here = room(module)
    if step.target in OUTSIDE:
        return here == "cli"  # the package offers `train`, which is on floor 5
    there = room(step.target)
    if here == there or (here, there) in NEIGHBOURS:
        return True
    # Type checkers may look sideways, where nothing is run; never up.
    return FLOORS[there] < FLOORS[here] + step.typing


def at_import_time(module: str) -> set[str]:
    """Every module that importing `module` imports: those of `vgx` all the way down, and the first step out of it."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current in reached:
            continue
        reached.add(current)
        if current in MODULES:
            packages = {current.rsplit(".", depth)[0] for depth in range(1, current.count(".") + 1)}
            waiting += [*packages, *(step.target for step in imports_of(current) if step.at_once)]
    return reached


INSIDE = [module for module in MODULES if module not in OUTSIDE]


def test_every_module_has_a_floor():
    assert sorted({room(module) for module in INSIDE} - set(FLOORS)) == []


@pytest.mark.parametrize("module", INSIDE)
def test_imports_only_go_down(module):
    inner = [step for step in imports_of(module) if step.target.split(".")[0] == "vgx"]
    assert [f"{module}:{step.line} imports {step.target}" for step in inner if not goes_down(module, step)] == []


@pytest.mark.parametrize("module", [module for module in INSIDE if room(module) in PAPER and module not in BRIDGES])
def test_paper_meets_no_jax_on_import(module):
    assert {name for name in at_import_time(module) if name.split(".")[0] in JAX} == set()
    # Nor later: what it does inside functions needs none either.
    assert [step for step in imports_of(module) if step.target.split(".")[0] in JAX] == []


@pytest.mark.parametrize("module", [module for module in INSIDE if room(module) in NUMERICS])
def test_numerics_touch_no_files(module):
    met = [step.target for step in imports_of(module) if not step.typing]
    assert [name for name in met if name.split(".")[0] in FILES] == []
    assert [name for name in met if name.startswith("vgx.") and room(name) in PAPER_ONLY] == []


@pytest.mark.parametrize("module", [module for module in INSIDE if room(module) == "report" and module not in BRIDGES])
def test_reports_know_config_parts_and_experiment_to_type_checkers_only(module):
    met = [step.target for step in imports_of(module) if step.target.startswith("vgx.") and not step.typing]
    assert [name for name in met if room(name) in ("config", "parts", "experiment")] == []


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh Python holds after a statement."""
    script = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_vgx_and_its_command_line_imports_nothing_heavy():
    loaded = loaded_after("import vgx, vgx.cli")
    assert "vgx" in loaded
    assert loaded & (JAX | {"pydantic", "pyarrow", "rich", "numpy", "yaml", "pooch"}) == set()


def test_importing_all_of_paper_loads_no_jax():
    paper = [module for module in INSIDE if room(module) in PAPER and module not in BRIDGES]
    assert loaded_after("import " + ", ".join(paper)) & JAX == set()


# What reads the imports is itself read: a reader that sees nothing would find nothing wrong.


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that reads the imports of a module with the text given, as if it were `vgx.report.sample`."""

    def read(text: str) -> list[Import]:
        path = tmp_path / "sample.py"
        path.write_text(text)
        monkeypatch.setitem(MODULES, "vgx.report.sample", path)
        imports_of.cache_clear()
        return list(imports_of("vgx.report.sample"))

    yield read
    imports_of.cache_clear()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import jax.numpy as jnp, os", [("jax.numpy", True, False), ("os", True, False)]),
        ("from vgx import places", [("vgx.places", True, False)]),
        ("from vgx import train", [("vgx", True, False)]),
        (
            "from vgx.parts import activations, ACTIVATIONS",
            [("vgx.parts", True, False), ("vgx.parts.activations", True, False)],
        ),
        ("from ..config import Config", [("vgx.config", True, False)]),
        ("from . import bars", [("vgx.report.bars", True, False)]),
        ("def f():\n    import jax", [("jax", False, False)]),
        ("class A:\n    def f(self):\n        from vgx.cli import app", [("vgx.cli", False, False)]),
        ("try:\n    import jax\nexcept ImportError:\n    import os", [("jax", True, False), ("os", True, False)]),
        (
            "if TYPE_CHECKING:\n    from vgx.config import Config\nelse:\n    import os",
            [("vgx.config", False, True), ("os", True, False)],
        ),
    ],
)
def test_the_reader_sees_every_kind_of_import(text, found, written):
    assert [(step.target, step.at_once, step.typing) for step in written(text)] == found


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("from vgx.run_directory import Run", True),
        ("from vgx.report.bars import sparkline", True),
        ("from vgx.cli import app", False),
        ("def f():\n    from vgx.cli import app", False),
        ("if TYPE_CHECKING:\n    from vgx.cli import app", False),
        ("from vgx.experiment import train", False),
        ("if TYPE_CHECKING:\n    from vgx.experiment import train", True),
        ("import vgx", False),
    ],
)
def test_the_reader_tells_down_from_up(text, allowed, written):
    assert [goes_down("vgx.report.sample", step) for step in written(text)] == [allowed]


def test_the_reader_follows_imports_through_the_house(written):
    written("from vgx.config import Config")
    assert "jax" in at_import_time("vgx.report.sample")  # by way of config and the parts
    written("def f():\n    from vgx.config import Config")
    assert "jax" not in at_import_time("vgx.report.sample")
