"""What is installed on a node. Sent there as it stands, so it works with any vgx there, or none: it imports none."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("vgx", "jax")
"""What must be the same on every node for a lane to come out the same."""


def installed() -> tuple[str, dict[str, str]]:
    """Returns the machine's name and the version of each package there, `none` where it is not installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return platform.node(), found
