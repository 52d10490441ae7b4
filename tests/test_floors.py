"""The house: imports only go down its table of folders, and what reads runs knows no jax."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import vgx

ROOT = Path(vgx.__file__).parent

MAY_IMPORT = {
    "errors": "",
    "registry": "errors",
    "devices": "errors",
    "results": "errors",
    "parts": "registry errors",
    "data": "registry errors results",
    "export": "results",
    "config": "parts data results",
    "training": "config parts data",
    "theory": "training config results devices",
    "watch": "training results",
    "runner": "theory training config export results devices",
    "reproduce": "runner",
    "report": "results export registry parts data",
    "api": "report runner",
    "cli": "api reproduce report",
}
"""What each folder or module of `vgx` may import, besides what those may."""
FOR_TYPES = {"report": "reproduce"}
"""What a folder may import, besides, for type checkers alone."""
NO_JAX = ("errors", "registry", "results", "data", "export", "report")
NO_FILES = ("training", "parts")
BRIDGES = {"vgx.report.terminal.parts"}
"""What lists the parts, and so meets jax."""
JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "chex"}
FILES = {"pathlib", "os", "io", "shutil", "tempfile", "json", "yaml", "pyarrow", "rich", "orbax", "pooch"}


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
INSIDE = [module for module in MODULES if module not in ("vgx", "vgx.__main__")]


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
            inner = {f"{origin}.{alias.name}" for alias in node.names} & set(MODULES)  # from vgx.config import grid
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


def folder(module: str) -> str:
    """The entry of the table that a module falls under: `report` for `vgx.report.terminal.run`; empty for `vgx`."""
    return module.partition(".")[2].partition(".")[0]


@cache
def below(name: str) -> frozenset[str]:
    """All that a folder may import."""
    own = MAY_IMPORT[name].split()
    return frozenset(own).union(*(below(each) for each in own))


def goes_down(module: str, step: Import) -> bool:
    """Whether an import inside `vgx` stays in its folder or goes down; the package itself is for its outside."""
    here, there = folder(module), folder(step.target)
    allowed = {here, *below(here), *(FOR_TYPES.get(here, "").split() if step.typing else ())}
    allowed |= set().union(*(below(each) for each in FOR_TYPES.get(here, "").split())) if step.typing else set()
    return there in allowed or (not there and here == "cli")


def at_import_time(module: str, packages: bool = True) -> set[str]:
    """Every module that importing `module` imports: those of `vgx` all the way down, and the first step out of it.

    Args:
        module: of `vgx`.
        packages: whether the folders that a module stands in count: Python imports them first.
    """
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current in reached:
            continue
        reached.add(current)
        if current in MODULES:
            above = {current.rsplit(".", depth)[0] for depth in range(1, current.count(".") + 1) if packages}
            waiting += [*above, *(step.target for step in imports_of(current) if step.at_once)]
    return reached


def test_the_listing_is_the_table():
    assert {folder(module) for module in INSIDE} == set(MAY_IMPORT)
    entries = {path.name for path in ROOT.iterdir() if not path.name.startswith("__")} - {"py.typed"}
    assert len(entries) <= 16, entries


@pytest.mark.parametrize("module", INSIDE)
def test_imports_only_go_down(module):
    inner = [step for step in imports_of(module) if step.target.split(".")[0] == "vgx"]
    assert [f"{module}:{step.line} imports {step.target}" for step in inner if not goes_down(module, step)] == []


@pytest.mark.parametrize("module", INSIDE)
def test_no_module_imports_itself_in_a_circle(module):
    inner = [step.target for step in imports_of(module) if step.at_once and step.target in INSIDE]
    assert [target for target in inner if module in at_import_time(target, packages=False)] == []


@pytest.mark.parametrize("module", [module for module in INSIDE if folder(module) in NO_JAX and module not in BRIDGES])
def test_what_reads_runs_meets_no_jax(module):
    assert {name for name in at_import_time(module) if name.split(".")[0] in JAX} == set()
    # Nor later: what it does inside functions needs none either.
    assert [step for step in imports_of(module) if step.target.split(".")[0] in JAX] == []


@pytest.mark.parametrize("module", [module for module in INSIDE if folder(module) in NO_FILES])
def test_numerics_touch_no_files(module):
    met = [step.target for step in imports_of(module) if not step.typing]
    assert [name for name in met if name.split(".")[0] in FILES] == []


@pytest.mark.parametrize(("html", "terminal"), [("html", "terminal"), ("terminal", "html")])
def test_page_and_terminal_do_not_import_each_other(html, terminal):
    ours = [module for module in INSIDE if module.startswith(f"vgx.report.{html}")]
    met = {step.target for module in ours for step in imports_of(module)}
    assert [name for name in met if name.startswith(f"vgx.report.{terminal}")] == []


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh Python holds after a statement."""
    script = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_vgx_and_its_command_line_imports_nothing_heavy():
    loaded = loaded_after("import vgx, vgx.cli")
    assert "vgx" in loaded
    assert loaded & (JAX | {"pydantic", "pyarrow", "rich", "numpy", "yaml", "pooch"}) == set()


def test_reading_a_run_loads_no_jax(write_run):
    steps = np.ones((2, 1))
    settings = {"name": "paper", "model": {"depth": 2, "width": 4}, "train": {"steps": 2}}
    run = write_run(settings, {"delta_log10": np.ones((2, 1, 3))}, {"train_loss": steps, "test_accuracy": steps})
    statement = (
        f"import vgx; run = vgx.open_run({str(run.path)!r}); run.lanes(), run.metrics(), run.layers(), run.verdict"
    )
    assert loaded_after(statement) & JAX == set()


def test_importing_all_that_reads_runs_loads_no_jax():
    modules = [module for module in INSIDE if folder(module) in NO_JAX and module not in BRIDGES]
    assert loaded_after("import " + ", ".join(modules)) & JAX == set()


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
        ("from vgx.config import yaml_tree", [("vgx.config.yaml_tree", True, False)]),
        ("from vgx import train", [("vgx", True, False)]),
        (
            "from vgx.parts import activations, ACTIVATIONS",
            [("vgx.parts", True, False), ("vgx.parts.activations", True, False)],
        ),
        ("from ..config.schema import Config", [("vgx.config.schema", True, False)]),
        ("from . import words", [("vgx.report.words", True, False)]),
        ("def f():\n    import jax", [("jax", False, False)]),
        ("class A:\n    def f(self):\n        from vgx.cli import app", [("vgx.cli", False, False)]),
        ("try:\n    import jax\nexcept ImportError:\n    import os", [("jax", True, False), ("os", True, False)]),
        (
            "if TYPE_CHECKING:\n    from vgx.config.schema import Config\nelse:\n    import os",
            [("vgx.config.schema", False, True), ("os", True, False)],
        ),
    ],
)
def test_the_reader_sees_every_kind_of_import(text, found, written):
    assert [(step.target, step.at_once, step.typing) for step in written(text)] == found


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("from vgx.results.store import Run", True),
        ("from vgx.report.terminal.bars import sparkline", True),
        ("from vgx.cli import app", False),
        ("def f():\n    from vgx.cli import app", False),
        ("if TYPE_CHECKING:\n    from vgx.cli import app", False),
        ("from vgx.runner.train import train", False),
        ("if TYPE_CHECKING:\n    from vgx.runner.train import train", True),
        ("import vgx", False),
    ],
)
def test_the_reader_tells_down_from_up(text, allowed, written):
    assert [goes_down("vgx.report.sample", step) for step in written(text)] == [allowed]


def test_the_reader_follows_imports_through_the_house(written):
    written("from vgx.config.schema import Config")
    assert "jax" in at_import_time("vgx.report.sample")  # by way of config and the parts
    written("def f():\n    from vgx.config.schema import Config")
    assert "jax" not in at_import_time("vgx.report.sample")
