"""Joins a Ray cluster, or starts one on this machine, and says in a line why it cannot."""

# Ray is an extra: it may not be here.
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax

from vgx.errors import EnvironmentFault, VgxError, install

ADDRESS = re.compile(r"ray://(?P<host>\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):(?P<port>[0-9]{1,5})")
ANSWER_SECONDS = 5.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""What a cluster that is started here is told, where the user said nothing: no statistics to Ray's makers; no device
for who asks for none, and no warning of it."""


@contextmanager
def connected(on: str) -> Iterator[None]:
    """A connection of this process to the cluster `on`: the one that it has already, or one of its own.

    For the rest of its life the process uses no accelerator: those of the head belong to the workers.

    Raises VgxError where `on` names no cluster, and EnvironmentFault where there is none, or no Ray.
    """
    check_address(on)
    if on.startswith("ray://") and (Path.home() / ".ray" / "auth_token").exists():
        # Ray by itself sends the token that it keeps there to a cluster of this machine alone; read on import.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError:
        raise EnvironmentFault(f"--on {on}: Ray is not installed: {install('ray')}") from None
    jax.config.update("jax_platforms", "cpu")
    if ray.is_initialized():
        yield
        return
    try:
        with _signals_kept():
            _join(on)
        yield
    finally:
        with suppress(Exception):  # the cluster may be gone
            ray.shutdown()


def check_address(on: str) -> re.Match[str] | None:
    """Returns the host and the port in an address; None for `ray` and `auto`. Raises VgxError for anything else."""
    if on in ("ray", "auto"):
        return None
    match = ADDRESS.fullmatch(on)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise VgxError(f"--on {on[:60]}: names no cluster; write ray, auto or ray://HOST:PORT (Ray's port is 10001)")
    return match


def _join(on: str) -> None:
    import ray

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    quiet = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    said = on if check_address(on) else os.environ.get("RAY_ADDRESS", "")
    try:
        if place := re.fullmatch(r"(ray://)?(?P<host>[^/\s]+):(?P<port>[0-9]{1,5})", said):
            # Ray would try for a minute, and say so many times.
            socket.create_connection((place["host"].strip("[]"), int(place["port"])), ANSWER_SECONDS).close()
        if said.startswith("ray://"):
            with warnings.catch_warnings(action="ignore"):  # what went wrong is raised, too
                ray.init(said, **quiet)
            return
        try:
            ray.init("auto", **quiet)
        except ConnectionError:
            if on == "auto" or said:
                raise
            ray.init("local", include_dashboard=False, **quiet)
    except (OSError, RuntimeError, ValueError, ImportError) as error:  # a ConnectionError is an OSError
        raise EnvironmentFault(f"--on {on}: {_why(error, on)}") from None


def _why(error: Exception, on: str) -> str:
    said = " ".join(str(getattr(error, "strerror", None) or error).split())[:200].rstrip(".")
    if "ersion mismatch" in str(error):
        return f"the cluster has another Ray or Python: {' '.join(str(error).split())[:300]}; install the same"
    if on == "auto" and not os.environ.get("RAY_ADDRESS"):
        return "no Ray cluster runs on this machine; start one (ray start --head), or write --on ray"
    where = "" if on.startswith("ray:") else f" at RAY_ADDRESS={os.environ.get('RAY_ADDRESS', '')}"
    return f"no Ray cluster answers{where}: {said}; is it up (ray status), its port open, its token here?"


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keeps our handlers of Ctrl-C and SIGTERM, which `ray.init` would replace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
