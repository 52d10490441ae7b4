"""Measures how large pages are, how long they take to write and how soon they open: `make bench-reports`."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
from playwright.sync_api import Browser, sync_playwright

import vgx
from vgx.results.store import Run
from vgx.results.writer import RunWriter, layer_rows, metrics_rows

RESULTS = Path(__file__).with_name("REPORTS.md")
COLUMNS = ("delta_log10", "weight_grad_log10", "bias_grad_log10", "weight_grad_zero", "weight_norm", "update_ratio")
COLUMNS += ("preact_mean", "preact_std", "act_mean", "act_rms", "dead", "saturated")
OPENINGS = 5


def made_up(path: Path, lanes: int, steps: int, layers: int) -> Run:
    """Returns a run of so many lanes, steps and hidden layers with tables of noise: only their size matters here."""
    settings = {"seeds": lanes, "model": {"depth": layers, "width": 8}, "train": {"steps": steps}}
    meta = {"status": "done", "step": steps, "seconds": 1.0, "compile_seconds": 0.5, "steps_per_second": None}
    meta["devices"] = ["cpu: cpu"]
    writer = RunWriter.create(path, vgx.load_config(settings).to_yaml(), meta)
    rng = np.random.default_rng(0)
    for start in range(0, steps, 100):
        some = np.arange(start + 1, min(start + 100, steps) + 1)
        keep = np.ones((len(some), lanes), bool)
        curves = {name: rng.uniform(size=keep.shape) for name in ("train_loss", "train_accuracy", "test_accuracy")}
        columns = {name: rng.uniform(size=(*keep.shape, layers + 1)) for name in COLUMNS}
        writer.append(
            metrics_rows("float32", np.arange(lanes), some, curves, keep),
            layer_rows("float32", np.arange(lanes), layers + 1, some, columns, keep),
        )
    ended = [{"lane": lane, "seed": lane, "status": "done", "evidence": "made up"} for lane in range(lanes)]
    writer.write_lanes(pa.Table.from_pylist(ended))
    writer.close()
    return Run(path)


def opening(browser: Browser, page: Path) -> float:
    """Returns the seconds from asking for a page to all its figures drawn."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    tab = context.new_page()
    began = time.perf_counter()
    tab.goto(page.absolute().as_uri())
    tab.wait_for_selector("html[data-ready]", timeout=120_000)
    took = time.perf_counter() - began
    context.close()
    return took


def main() -> None:
    """Prints the table, and writes it with the load that other work put on the machine."""
    load = os.getloadavg()[0]
    sizes = ["data={name: synthetic, features: 64, examples: 1000}", "model.width=32", "train.evaluate_every=200"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        runs = {
            "1 lane, 1000 steps, 20 layers": made_up(root / "a", 1, 1000, 20),
            "1 lane, 200 steps, 1000 layers": made_up(root / "b", 1, 200, 1000),
            "20 lanes, 1000 steps, 100 layers": made_up(root / "c", 20, 1000, 100),
            "a sweep: 90 lanes, 200 steps, 20 layers": vgx.sweep(
                vgx.load_sweep("configs/sweeps/activation-initializer.yaml", sizes), runs=root
            ),
        }
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        rows = ["| run | page, MB | `vgx report`, s | opens in, s |", "|---|---|---|---|"]
        for name, run in runs.items():
            command = [sys.executable, "-m", "vgx", "report", str(run.path)]
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            wrote, page = time.perf_counter() - began, run.path / "report.html"
            opens = median(opening(browser, page) for _ in range(OPENINGS))
            rows.append(f"| {name} | {page.stat().st_size / 1e6:.1f} | {wrote:.1f} | {opens:.2f} |")
            print(rows[-1], flush=True)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {load:.1f} before"
    when = f"`make bench-reports`, {datetime.now(UTC):%Y-%m-%d}, {machine}, Chromium {browser.version}"
    told = "Writing is the whole command; opening is from disk, with the network off, until every figure is drawn."
    RESULTS.write_text(f"# Pages\n\n{when}. {told} Median of {OPENINGS} openings.\n\n" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
