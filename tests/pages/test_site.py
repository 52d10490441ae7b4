"""The site that `make docs` builds: of everything there is, every link leading somewhere, nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import vgx

ROOT = Path(vgx.__file__).parent.parent
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}
"""What a browser fetches by itself."""
pytestmark = pytest.mark.docs


class Page(HTMLParser):
    """The addresses and anchors of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.addresses.append(("loaded" if (tag, name) in LOADED else "link", value))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("material", reason="pip install -e '.[docs]'")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def test_the_site_is_of_every_page(pages, site):
    assert (site / "index.html") in pages
    sources = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert [str(one) for one in sources if site / one.with_suffix(".html") not in pages] == []
    made = ("config", "experiments", "activations", "commands", "columns", "python", "configs")
    assert [name for name in made if site / "reference" / f"{name}.html" not in pages] == []


def test_every_link_leads_somewhere(pages, site):
    lost = []
    for path, page in pages.items():
        for _, address in page.addresses:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https"):
                assert re.fullmatch(r"[\w.-]+\.[a-z]+", parts.netloc), address
                continue
            if parts.scheme in ("data", "javascript", "mailto") or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].anchors if target in pages else set()
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in known and anchor != "__"):
                lost.append(f"{path.relative_to(site)}: {address}")
    assert lost == []


def test_nothing_is_fetched_from_elsewhere(pages, site):
    fetched = [address for page in pages.values() for kind, address in page.addresses if kind == "loaded"]
    assert [address for address in fetched if urlsplit(address).netloc] == []
    sheets = [path.read_text() for path in site.rglob("*.css")]
    assert sheets
    assert [found for text in sheets for found in re.findall(r"url\(['\"]?(?:https?:)?//[^)]*", text)] == []


def test_what_is_made_stands_in_the_pages(site):
    formulas = (site / "formulas.html").read_text()
    assert "Over the units of a layer, h = W x + b is Gaussian" in formulas  # the module's own words
    assert "1.4669" in formulas  # ReLU under batch norm, pi / (pi - 1)
    assert "<!-- made" not in formulas
    assert "of 1330" in formulas or "1,330" in formulas
    assert (site / "reference" / "activations.html").read_text().count('class="plot"') > 15
    python = (site / "reference" / "python.html").read_text()
    assert all(
        f">{name}<" in python or f"{name}(" in python for name in ("load_config", "open_run", "predict", "critical")
    )
