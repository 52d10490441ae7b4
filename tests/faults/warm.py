"""A process that has imported vgx already and forks a child for each command, which saves the seconds of an import.

A child is a process of its own, with its own signals, limits, output and exit code, and ends as `vgx` would. Each line
of standard input asks for one, as JSON; for each, its number is answered as soon as it runs, and how it ended later.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

CHANGES = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate")
"""Audit events of what a process does to files; `open` counts when it is to write."""
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


def import_everything() -> None:
    """Imports all of vgx, and what it imports inside functions; nothing of it starts jax."""
    import vgx

    for module in pkgutil.walk_packages(vgx.__path__, "vgx."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("altair", "orbax.checkpoint", "rich.console", "rich.progress", "rich.table"):
        importlib.import_module(name)


def serve() -> dict[str, Any] | None:
    """Answers requests; returns None when there are no more, and in each child what it was asked for."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        began = time.monotonic()
        child = os.fork()
        if not child:
            answers.close()
            return json.loads(line)
        answers.write(f"{child}\n")
        answers.flush()
        _, status, usage = os.wait4(child, 0)
        ended = {"code": os.waitstatus_to_exitcode(status), "peak": usage.ru_maxrss * 1024}
        answers.write(json.dumps(ended | {"seconds": time.monotonic() - began}) + "\n")
        answers.flush()
    return None


def become(request: dict[str, Any]) -> None:
    """Makes this child what was asked for: its output, its folder, its limits, its powers, the moment of its death."""
    os.setpgid(0, 0)
    for number, (path, flags) in enumerate(
        [
            (request.get("stdin", os.devnull), os.O_RDONLY),
            (request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ]
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.update(request.get("env", {}))
    if request.get("plain_user"):
        respect_permissions()
    if request.get("watched"):
        watch_changes(Path(request["watched"]), request.get("die_at", 0), Path(request["err"] + ".changes"))
    for name, room in request.get("limits", {}).items():
        used = {"AS": _bytes_mapped, "NOFILE": _files_open}.get(name, lambda: 0)()
        kind = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(kind, (used + room, resource.getrlimit(kind)[1]))


def _bytes_mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _files_open() -> int:
    return max(int(name) for name in os.listdir("/proc/self/fd"))


def respect_permissions() -> None:
    """Gives up what lets root read and write files whose permissions forbid it."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low words, then high ones
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    sets[0] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def watch_changes(folder: Path, die_at: int, total: Path) -> None:
    """Counts what this process does to files below `folder`, and kills it before the change of number `die_at`.

    A process that comes to its end writes how many there were to `total`.
    """
    count = 0

    def on_event(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if event in CHANGES and _is_change_below(str(folder), event, args):
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
    atexit.register(lambda: total.write_text(str(count)))


def _is_change_below(folder: str, event: str, args: tuple[Any, ...]) -> bool:
    if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
        return False
    with contextlib.suppress(TypeError):  # a file number
        # rmtree names what it removes by its last name alone, beside the number of an open folder
        path = os.fsdecode(args[0])
        return path.startswith(folder) or (event in ("os.remove", "os.rmdir") and not os.path.isabs(path))
    return False


def run(request: dict[str, Any]) -> None:
    """Runs the command, or the function `call` (module:name) of the harness."""
    become(request)
    if "call" in request:
        module, _, name = request["call"].partition(":")
        getattr(importlib.import_module(module), name)(*request["argv"])
    else:
        from vgx.cli import main

        sys.argv = ["vgx", *request["argv"]]
        main()


def end(run: Callable[[], None]) -> NoReturn:
    """Runs to the end, and ends as Python does: but for tearing down its modules, which takes longer than most runs."""
    code: Any = 0
    try:
        run()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # closed, or taken away
            try:
                stream.flush()
            except OSError:
                code = 120
    os._exit(code or 0)


if __name__ == "__main__":
    import_everything()
    gc.collect()
    gc.freeze()  # a child that collects garbage would copy all of it
    if (asked := serve()) is not None:
        end(lambda: run(asked))
