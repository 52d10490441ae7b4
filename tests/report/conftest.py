"""Pages in a browser, for the tests that look at them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser_pages import BASE, CHROMIUM, DESKTOP, INTERRUPTED, RUNS, SWEEP

import vgx
from vgx.report.html.write import write_report
from vgx.results.store import Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def pages(tmp_path_factory) -> dict[str, Path]:
    """The page of every run that is to be looked at, by name."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {name: vgx.train(vgx.load_config(BASE | {"name": name} | more), runs=folder) for name, more in RUNS.items()}
    runs["sweep"] = vgx.sweep(vgx.load_sweep(BASE | SWEEP), runs=folder)
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(folder)], stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(folder.glob("interrupted-*/layers/0*")):
        time.sleep(0.05)
    process.terminate()
    process.wait(60)
    runs["interrupted"] = Run(next(folder.glob("interrupted-*")))
    return {name: write_report(run)[0] for name, run in runs.items()}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """A function that opens a page with the network off; what it complained of or asked for fails the test."""
    contexts, complaints, requests = [], [], []

    def open_page(path: Path, viewport: dict | None = None, scheme: str = "light", address: str = "") -> Page:
        context = browser.new_context(viewport=viewport or DESKTOP, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.absolute().as_uri() + address)
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
