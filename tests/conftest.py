"""What several test files need."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pytest

import vgx
from vgx.results.columns import FINAL
from vgx.results.store import Run
from vgx.results.writer import RunWriter, lane_rows, layer_rows, metrics_rows

jax.config.update("jax_num_cpu_devices", 2)  # so that lanes are spread, whatever the machine

# What is printed depends on the terminal, which xdist's workers, and commands that tests start, see through the test
# runner's own input and errors; and whether a command says that it is still at work, on how long it takes. So tests
# bring their own, from before the first fixture.
os.environ.update(COLUMNS="80", LINES="25", TERM="xterm", VGX_PATIENCE="inf")
# A shell gives what it starts in the background no Ctrl-C; the tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)


@pytest.fixture
def float64() -> Iterator[None]:
    """jax computes in float64 for the length of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def list_parts() -> Callable[[Run], None]:
    """A function that lists a run's parts anew, after a test has changed them by hand."""

    def listed(run: Run) -> None:
        (run.path / "parts.jsonl").unlink()
        RunWriter(run.path).close()

    return listed


@pytest.fixture
def map_by_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """A function that makes a map whose nets have the accuracies that a rule gives them, nobody having trained any."""

    def made(
        settings: dict[str, Any], rule: Callable[[Any, int], float | None], say: Any = None, **options: Any
    ) -> Run:
        """`rule` gives the accuracy of a config and a seed, None for one that fails."""
        from vgx.config.maps import load_map
        from vgx.runner import map as maps

        def write(sweep: Any, *, beside: dict[str, str], **rest: Any) -> Run:
            meta = {"status": "done", "step": 2, "devices": ["cpu: cpu"], "programs": 1, "seconds": 1.0}
            pairs = [(cell, seed) for cell in sweep.cells for seed in sweep.base.seed_list]
            meta |= {"compile_seconds": 0.5, "steps_per_second": 9.0, "lanes": len(pairs), "lanes_done": len(pairs)}
            writer = RunWriter.create(tmp_path / sweep.folder, sweep.to_yaml(), meta, overwrite=True)
            rows = []
            for lane, (cell, seed) in enumerate(pairs):
                accuracy = rule(cell.config, seed)
                ended = {"status": "failed" if accuracy is None else "done", "verdict": "healthy", "slope": -0.01}
                swept = {path: cell.overlay[path] for path in sweep.axes}
                row = {"lane": lane, "cell": cell.key, "seed": seed} | swept | ended
                rows.append(row | {"evidence": "written", "test_accuracy": accuracy, "error": ""})
            writer.write_lanes(pa.Table.from_pylist(rows))
            for name, text in beside.items():
                writer.write_text(name, text)
            writer.close()
            return Run(writer.path)

        monkeypatch.setattr(maps, "sweep", write)
        return maps.trainability_map(load_map(settings, options=options), say=say)

    return made


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Run]:
    """A function that writes a run with the numbers given, as if it had been trained."""

    def write(settings: dict[str, Any], layers: dict[str, Any], metrics: dict[str, Any], steps: Any = None) -> Run:
        """`layers` are [T, S, L + 1] for S seeds, `metrics` [T, S]; a masked entry is null."""
        config = vgx.load_config(settings | {"seeds": next(iter(metrics.values())).shape[1]})
        count, seeds = next(iter(metrics.values())).shape
        steps = np.arange(1, count + 1) if steps is None else np.asarray(steps)
        meta = {"status": "done", "step": int(steps[-1]), "devices": ["cpu: cpu"], "versions": {"vgx": "0"}}
        timing = {"seconds": 3.0 * seeds, "compile_seconds": 1.0 * seeds, "steps_per_second": 100.0}
        writer = RunWriter.create(tmp_path / f"{config.name}-{config.digest}", config.to_yaml(), meta | timing)
        lanes, keep = np.arange(seeds), np.ones((count, seeds), bool)
        depth = len(config.model.widths) + 1
        writer.append(
            metrics_rows("float32", lanes, steps, metrics, keep),
            layer_rows("float32", lanes, depth, steps, layers, keep),
        )
        final = {name: values[-1] for name, values in metrics.items() if name in FINAL}
        rows = [
            {"lane": lane, "seed": lane, "status": "done", "verdict": "healthy", "slope": -0.5, "evidence": "written"}
            | {name: float(values[lane]) for name, values in final.items()}
            for lane in range(seeds)
        ]
        writer.write_lanes(pa.Table.from_pylist(rows, schema=lane_rows([]).schema))
        writer.close()
        return Run(writer.path)

    return write
