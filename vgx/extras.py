"""What optional libraries are asked for, in words that work wherever vgx came from."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.metadata import requires


def install(extra: str) -> str:
    """Returns the command that installs what an extra of vgx needs into the Python that runs.

    It names the libraries, not vgx, which may be on no index and in no clone.
    """
    wanted = [one for one in requires("vgx") or [] if re.search(rf"extra == ['\"]{extra}['\"]", one)]
    libraries = [one.partition(";")[0].strip() for one in wanted]
    return shlex.join([sys.executable, "-m", "pip", "install", *libraries])
