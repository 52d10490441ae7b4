"""Pages in the user's browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path


def open_page(page: Path) -> bool:
    """Opens a page in a window of the browser, if there can be one; returns whether there is."""
    windowed = sys.platform in ("darwin", "win32") or any(
        map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    )
    # Without a display Python would take a browser of the terminal, which draws no figure and does not return.
    if not windowed:
        return False
    try:
        return webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False
