"""The hooks by which mkdocs gets generated pages, and links of the repository become links of the site."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # mkdocs loads this file by its path

from docs.make import commands, options, pages, parts  # noqa: E402

OUTSIDE = {
    "benchmarks/THEORY.md": "measured/theory.md",
    "benchmarks/RESIDUAL.md": "measured/residual.md",
    "benchmarks/CALIBRATION.md": "measured/calibration.md",
    "benchmarks/JACOBIANS.md": "measured/jacobians.md",
    "benchmarks/WATCH.md": "measured/watch.md",
    "benchmarks/RESULTS.md": "measured/results.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages of the repository that the site has, and where."""
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the generated pages."""
    made = {**options.pages(), **parts.pages(), **commands.pages(), **pages.pages()}
    made |= {there: (ROOT / here).read_text(encoding="utf-8") for here, there in OUTSIDE.items()}
    made["playground-page.html"] = playground()
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))


def playground() -> str:
    """Returns the page that `vgx playground` writes."""
    target = ROOT / "site-playground.html"
    try:
        subprocess.run([sys.executable, "-m", "vgx", "playground", "-o", str(target)], cwd=ROOT, check=True)
        return target.read_text(encoding="utf-8")
    finally:
        target.unlink(missing_ok=True)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Leads links that leave docs/ to where the site has their targets."""
    here = next((old for old, new in OUTSIDE.items() if new == page.file.src_uri), f"docs/{page.file.src_uri}")
    led = LINK.sub(lambda found: _led(found[1], here, page.file.src_uri) + (found[2] or ""), markdown)
    return pages.filled(led)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Takes the script by which search works from disk from the site, where the theme would fetch it from elsewhere."""
    return output.replace("https://unpkg.com/iframe-worker/shim", "../" * page.url.count("/") + "iframe-worker.js")


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """The same in the page for what is not found."""
    return output_content.replace("https://unpkg.com/iframe-worker/shim", "iframe-worker.js")


def _led(target: str, written_in: str, page: str) -> str:
    """A link's target for a page of the site, as it was written in a file of the repository."""
    full = (ROOT / written_in).parent.joinpath(target).resolve()
    if not full.is_relative_to(ROOT):
        return target
    path = full.relative_to(ROOT).as_posix()
    if path in OUTSIDE:
        path = OUTSIDE[path]
    elif path == "configs" or path.startswith("configs/"):
        path = "reference/configs.md"
    elif path.startswith("docs/"):
        path = path.removeprefix("docs/")
    else:
        return target
    return "../" * page.count("/") + path
