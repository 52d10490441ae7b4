"""The machine underneath: which device, which precision, where compiled programs are kept, which versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import pooch
from jax.sharding import Mesh

from vgx.errors import EnvironmentFault, RunError, install

Platform = Literal["cpu", "gpu", "tpu"]
Device = Any
"""A `jax.Device`, which a type checker takes for a variable."""
PerRun = int | Literal["auto"]
"""How many devices share every batch of a run; auto: as many as are left when each run has one."""


def find_devices(kind: Platform | None = None, lanes: int = 1) -> list[Device]:
    """Returns the devices of a kind, or of jax's own choice; on a CPU one for each core if there are lanes for it.

    Raises EnvironmentFault when there is none.
    """
    if lanes > 1:
        _offer_every_core()
    try:
        return jax.devices(kind)
    except RuntimeError as error:
        have = ", ".join(sorted({device.platform for device in jax.devices()}))
        extra = {"gpu": "cuda", "tpu": "tpu"}.get(kind or "")
        mend = f"; on a machine that has one: {install(extra)}" if extra else ""
        raise EnvironmentFault(f"--device {kind}: jax finds no {kind} here, only {have}{mend}") from error


def own(mesh: Mesh) -> Device:
    """Returns the first of a mesh's devices that belongs to this process."""
    return mesh.local_devices[0]


def resolve_per_run(asked: PerRun, devices: int, lanes: int, batch_size: int) -> int:
    """Returns how many of so many devices share each batch of a run, of which there are `lanes` side by side.

    Raises EnvironmentFault when more are asked for than there are, and RunError when a batch cannot be dealt out to
    them evenly.
    """
    if asked == "auto":
        most = max(1, devices // lanes)
        return next(count for count in range(most, 0, -1) if batch_size % count == 0)
    if asked > devices:
        raise EnvironmentFault(f"--devices-per-run {asked}: jax finds {devices} here; ask for no more, or auto")
    if batch_size % asked:
        below = batch_size // asked * asked
        near = [size for size in (below, below + asked) if size]
        wanted = " or ".join(f"--set train.batch_size={size}" for size in near)
        raise RunError(f"--devices-per-run {asked}: a batch of {batch_size} cannot be dealt out evenly; {wanted}")
    return asked


def _offer_every_core() -> None:
    """Makes jax see each core as a device, unless it has started or the user has chosen."""
    chosen = jax.config.values["jax_num_cpu_devices"] != -1
    if not chosen and "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with suppress(RuntimeError):  # jax has started, and keeps the devices that it has
            jax.config.update("jax_num_cpu_devices", cores())


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_for_lanes(devices: Sequence[Device]) -> int:
    """Returns how many bytes lanes may take on these devices together: half of what is free."""
    stats = [device.memory_stats() for device in devices] if devices[0].platform != "cpu" else []
    if stats and all(stats):
        return sum(stat["bytes_limit"] - stat["bytes_in_use"] for stat in stats) // 2
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        free = next(
            line for line in meminfo.read_text(encoding="utf-8").splitlines() if line.startswith("MemAvailable")
        )
        return int(free.split()[1]) * 1024 // 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


@contextmanager
def numerics(precision: str, device: Device) -> Iterator[None]:
    """A context in which jax computes on `device` in `precision`: float32 products in full, not TF32."""
    matmul = jax.default_matmul_precision(matmul_precision(precision))
    with jax.enable_x64(precision == "float64"), matmul, jax.default_device(device):
        yield


def matmul_precision(precision: str) -> str:
    """Returns how to compute matrix products: in full for float32 and float64, which new GPUs would not do unasked."""
    return "default" if precision == "bfloat16" else "highest"


def programs_cache() -> Path:
    """Returns the folder in which compiled programs are kept."""
    return Path(jax.config.values["jax_compilation_cache_dir"] or Path(pooch.os_cache("vgx")) / "programs")


def keep_compiled_programs() -> None:
    """Makes jax keep compiled programs in the user's cache, for a fast second start. The user's own choice stands."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(programs_cache()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def describe(devices: Sequence[Device]) -> dict[str, Any]:
    """Returns what a run should remember of where it ran: versions, devices, host, git commit."""
    packages = ("vgx", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "devices": names_of(devices),
        "host": {"system": platform.platform(), "cores": os.cpu_count()},
        "git_commit": _git_commit(),
    }


def names_of(devices: Sequence[Device]) -> list[str]:
    """Returns how a run calls its devices: the platform and the kind of each."""
    return [f"{device.platform}: {device.device_kind}" for device in devices]


def _git_commit() -> str | None:
    """The commit checked out where the command runs, if any."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
