"""A trainability map: a sweep over two options, which grows where neighbours differ, with theory over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vgx.config.maps import axes_of
from vgx.config.sweep import Cell, Sweep
from vgx.devices import PerRun, Platform, find_devices
from vgx.results.map_cells import MapAxis, MapCell, first_cells, refined
from vgx.results.map_file import FILE, map_of
from vgx.results.store import Run
from vgx.results.words import counted, duration
from vgx.runner.map_theory import MapTheory, theory_over
from vgx.runner.plan import COMPILE_SECONDS, program_key
from vgx.runner.sweep import sweep
from vgx.runner.sweep_progress import Watch


class _Layout(NamedTuple):
    """The cells of a map so far, and the sweep that trains them."""

    sweep: Sweep
    cells: list[MapCell]


def cost_of(asked: Sweep) -> str:
    """Returns what the first grid of a map takes, and each round after it, in a line."""
    x, y = axes_of(asked)
    programs = len({program_key(cell.config) for cell in asked.cells})
    apart = [axis.name for axis in (x, y) if _is_compiled(asked, axis)]
    each = f", one for each {' and '.join(apart)}" if apart else ""
    lanes = counted(len(asked.cells) * len(asked.base.seed_list), "lane")
    again = "; a round of refinement compiles those that it adds to once more" if any(_rounds(asked)) else ""
    return (
        f"{len(x.values)} x {len(y.values)} cells, {lanes} in {counted(programs, 'program')}{each}: "
        f"about {duration(programs * COMPILE_SECONDS)} of compiling{again}"
    )


def _rounds(asked: Sweep) -> tuple[int, int]:
    return asked.map.rounds if asked.map else (0, 0)


def _is_compiled(asked: Sweep, axis: MapAxis) -> bool:
    """Whether each value of a side is a program of its own: of the first cells that differ in it alone."""
    other = next(path for path in asked.axes if path != axis.path)
    first = asked.axes[other][0]
    line = [cell for cell in asked.cells if cell.overlay[other] == first]
    return len({program_key(cell.config) for cell in line}) > 1


def trainability_map(
    asked: Sweep,
    *,
    runs: str | Path = "runs",
    overwrite: bool = False,
    retry_failed: bool = False,
    device: Platform | None = None,
    devices_per_run: PerRun = 1,
    memory: int | None = None,
    on: str | None = None,
    watch: Watch | None = None,
    say: Callable[[str], None] | None = None,
) -> Run:
    """Trains a map and returns its run, which is a sweep: the first grid, then cells between neighbours that differ.

    Which cells a round adds rests on the results of those before it alone, so a map that was cut off goes on to the
    same cells and the same bits; what is done is kept. More rounds than before, or another range, add to what is there.

    Args:
        asked: what `load_map` returns.
        say: called with a line before each round.

    The other arguments are those of `sweep`, and so is what is raised.
    """
    if on is None:
        find_devices(device, 2)  # before theory starts jax, which keeps the devices that it starts with
    x, y = axes_of(asked)
    theory, layout, number = MapTheory(), _Layout(asked, first_cells(x, y)), 0
    about = _about(asked, x, y, theory)
    while True:
        run = sweep(
            layout.sweep,
            runs=runs,
            overwrite=overwrite and number == 0,
            retry_failed=retry_failed,
            device=device,
            devices_per_run=devices_per_run,
            memory=memory,
            on=on,
            watch=watch,
            beside={FILE: json.dumps(about | {"round": number} | _cells(layout, theory, x, y)) + "\n"},
        )
        added = _added(run, number, x, y)
        if not added:
            return run
        number += 1
        if say:
            say(f"round {number} of refinement: {counted(len(added), 'cell')} between neighbours that differ")
        layout = _grown(layout, added, x, y)


def _about(asked: Sweep, x: MapAxis, y: MapAxis, theory: MapTheory) -> dict[str, Any]:
    """What `map.json` has that stays the same from round to round."""
    assert asked.map is not None
    return {
        "x": x._asdict() | {"values": list(x.values)},
        "y": y._asdict() | {"values": list(y.values)},
        "settings": {"refine": list(_rounds(asked)), "value": asked.map.value, "threshold": asked.map.threshold},
        "chance": 1 / asked.base.data.load().classes,
        "theory": theory_over(asked, x, y, theory),
    }


def _added(run: Run, number: int, x: MapAxis, y: MapAxis) -> list[MapCell]:
    """What the next round adds to a map after round `number`; nothing where none was asked for."""
    found = map_of(run)
    assert found is not None
    along_x, along_y = (number < rounds for rounds in found.file["settings"]["refine"])
    return refined(found.cells, found.accuracies, found.threshold, x, y, (along_x, along_y))


def _grown(layout: _Layout, added: Sequence[MapCell], x: MapAxis, y: MapAxis) -> _Layout:
    more = [{x.path: cell.x, y.path: cell.y} for cell in added]
    base = layout.sweep
    return _Layout(base.rebuilt(base.axes, [*base.explicit, *more]), [*layout.cells, *added])


def _cells(layout: _Layout, theory: MapTheory, x: MapAxis, y: MapAxis) -> dict[str, Any]:
    """What `map.json` has of the cells, and why theory is silent on some."""
    known: dict[tuple[Any, Any], Cell] = {(c.overlay.get(x.path), c.overlay.get(y.path)): c for c in layout.sweep.cells}
    rows, reasons = [], {}
    for cell in layout.cells:
        found = known[cell.x, cell.y]
        ratios = theory(found.config)
        rows.append(
            {"cell": found.key} | cell._asdict() | {name: getattr(ratios, name) for name in ("correlation", "gradient")}
        )
        for name in ("correlation", "gradient"):
            if getattr(ratios, name) is None:
                reasons.setdefault(name, ratios.reason)
    return {"cells": rows, "reasons": reasons}
