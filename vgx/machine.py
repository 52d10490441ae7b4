"""The machine underneath: which device, which precision, where compiled programs are kept, which versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import pooch

from vgx.errors import EnvironmentFault

Platform = Literal["cpu", "gpu", "tpu"]
Device = Any
"""A `jax.Device`, which a type checker takes for a variable."""


def find_device(kind: Platform | None = None) -> Device:
    """Returns the first device of a kind, or jax's own choice. Raises EnvironmentFault when there is none."""
    try:
        return jax.devices(kind)[0]
    except RuntimeError as error:
        have = ", ".join(sorted({device.platform for device in jax.devices()}))
        extra = {"gpu": "cuda", "tpu": "tpu"}.get(kind or "")
        mend = f'; on a machine that has one, pip install "vgx[{extra}]"' if extra else ""
        raise EnvironmentFault(f"--device {kind}: jax finds no {kind} here, only {have}{mend}") from error


@contextmanager
def numerics(precision: str, device: Device) -> Iterator[None]:
    """A context in which jax computes on `device` in `precision`: float32 products in full, not TF32."""
    matmul = jax.default_matmul_precision(matmul_precision(precision))
    with jax.enable_x64(precision == "float64"), matmul, jax.default_device(device):
        yield


def matmul_precision(precision: str) -> str:
    """Returns how to compute matrix products: in full for float32 and float64, which new GPUs would not do unasked."""
    return "default" if precision == "bfloat16" else "highest"


def keep_compiled_programs() -> None:
    """Makes jax keep compiled programs in the user's cache, for a fast second start. The user's own choice stands."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(Path(pooch.os_cache("vgx")) / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def describe(device: Device) -> dict[str, Any]:
    """Returns what a run should remember of where it ran: versions, device, host, git commit."""
    packages = ("vgx", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "devices": [f"{device.platform}: {device.device_kind}"],
        "host": {"system": platform.platform(), "cores": os.cpu_count()},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit checked out where the command runs, if any."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
