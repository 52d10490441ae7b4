"""What vgx stands on, looked at: versions, devices, numerics, memory, caches, folders, and what is wrong with them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from rich import filesize

from vgx.data import mirrors
from vgx.data.download import verify
from vgx.results.words import counted

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pyarrow", "pydantic", "rich")
EXTRAS = {
    "cuda": ("jax-cuda13-plugin", "jax-cuda12-plugin"),
    "tpu": ("libtpu",),
    "tensorboard": ("tensorboardX",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow-skinny", "mlflow"),
}
"""The distributions of which one makes an extra work."""
LEAST_SPACE = 10**9
"""Bytes that a folder of runs should have room for."""
EXACT = {"float32": 1e-5, "float64": 1e-12}
"""How far products of 512 numbers may be off, relatively; TF32's are off by a thousandth."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    value: str
    """What it is."""
    fault: str = ""
    """What is wrong with it, and how to mend it; nothing where all is well."""


def examine(runs: Path) -> Iterator[Finding]:
    """Yields what vgx stands on, one thing after the other; `runs` is the folder of the runs."""
    packages = ", ".join(f"{name} {_version(name) or 'missing'}" for name in PACKAGES)
    missing = [name for name in PACKAGES if not _version(name)]
    fault = f"{', '.join(missing)}: not installed; install vgx again, with what it needs" if missing else ""
    yield Finding("vgx", f"{_version('vgx') or 'not installed'}, Python {platform.python_version()}")
    yield Finding("packages", packages, fault)
    yield Finding("extras", ", ".join(f"{extra}: {_installed(names)}" for extra, names in EXTRAS.items()))
    yield Finding("machine", platform.platform())
    yield from _computing()
    yield from _data()
    yield _runs(runs)
    yield _encoding()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _installed(names: tuple[str, ...]) -> str:
    return next((found for name in names if (found := _version(name))), "no")


def _computing() -> Iterator[Finding]:
    """What jax computes on, how exactly, and where it keeps programs."""
    try:
        import jax

        from vgx.devices import cores, memory_for_lanes

        devices = jax.devices()
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        yield Finding("devices", "none", f"jax does not start: {reason}; install it again, or look at JAX_PLATFORMS")
        return
    kinds = [f"{device.platform}: {device.device_kind}" for device in devices]
    seen = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
    idle = Path("/dev/nvidia0").exists() and devices[0].platform == "cpu" and not os.environ.get("JAX_PLATFORMS")
    fault = "an NVIDIA GPU is here and jax does not see it; install vgx's extra `cuda`" if idle else ""
    yield Finding("devices", seen, fault)
    memory = f"{filesize.decimal(memory_for_lanes(devices))} for the lanes of a round, half of what is free"
    yield Finding("memory", f"{memory}; {counted(cores(), 'core')}")
    yield from (_products(precision) for precision in EXACT)
    yield _programs()


def _products(precision: str) -> Finding:
    """How far a matrix product is off in a precision, on the first device."""
    import jax
    import numpy as np

    from vgx.devices import matmul_precision, numerics

    a, b = np.random.default_rng(0).normal(size=(2, 512, 512))
    with numerics(precision, jax.devices()[0]):
        ours = np.asarray(jax.jit(lambda a, b: a @ b)(a.astype(precision), b.astype(precision)), np.float64)
    exact = a @ b
    off = float(np.linalg.norm(ours - exact) / np.linalg.norm(exact))
    bad = f"products are less exact than {precision}; look for what sets JAX_DEFAULT_MATMUL_PRECISION or XLA_FLAGS"
    said = f"matrix products in precision '{matmul_precision(precision)}', off by {off:.0e}"
    return Finding(precision, said, "" if off < EXACT[precision] else bad)


def _programs() -> Finding:
    """The cache of compiled programs."""
    from vgx.devices import programs_cache

    place = programs_cache()
    return Finding(
        "programs", _stored(place, [place]), _unwritable(place, "set JAX_COMPILATION_CACHE_DIR to one that is")
    )


def _data() -> Iterator[Finding]:
    """The published data sets, and where they are looked for."""
    if shared := os.environ.get("VGX_DATA_DIR"):
        there = Path(os.path.expanduser(shared)).is_dir()
        yield Finding(
            "VGX_DATA_DIR", shared, "" if there else "there is no such folder; make it, or unset the variable"
        )
    cached = [mirrors.places(name)[-1] for name in mirrors.PUBLISHED]
    yield Finding("downloads", _stored(cached[0].parent, cached))
    for name in mirrors.PUBLISHED:
        checks = verify(name)
        states = {check.state for check in checks}
        places = sorted({str(check.path.parent) for check in checks if check.path})
        if states == {"missing"}:
            yield Finding(name, f"not here; `vgx data get {name}` fetches it")
        elif states <= {"ok", "unchecked"}:
            yield Finding(name, f"ok, in {places[0]}")
        else:
            bad = ", ".join(
                f"{check.file}: {check.state}" for check in checks if check.state not in ("ok", "unchecked")
            )
            yield Finding(name, f"in {places[0]}", f"{bad}; `vgx data get {name}` fetches it anew")


def _runs(runs: Path) -> Finding:
    """The folder of the runs, or the one in which it would be made."""
    place = next(path for path in (runs.absolute(), *runs.absolute().parents) if os.path.isdir(path))
    free = shutil.disk_usage(place).free
    fault = _unwritable(place, "choose another with --runs")
    if not fault and free < LEAST_SPACE:
        fault = f"{filesize.decimal(free)} are left on its disk; make room, or choose another with --runs"
    return Finding("runs", f"{runs}, {filesize.decimal(free)} free", fault)


def _encoding() -> Finding:
    encoding = sys.stdout.encoding or "unknown"
    text = "bars ▁█, Greek λ and ± cannot be printed; set LC_ALL=C.UTF-8, or PYTHONIOENCODING=utf-8"
    return Finding("encoding", encoding, "" if _can("▁█λ±", encoding) else text.encode("ascii", "replace").decode())


def _can(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _unwritable(place: Path, mend: str) -> str:
    """Why nothing can be written in a folder, which is made if need be; nothing where it can."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        return f"{place} cannot be written to ({error.strerror}); {mend}"
    return ""


def _stored(place: Path, folders: Sequence[Path]) -> str:
    """How many files folders below a place have, and how much they hold."""
    sizes = [path.stat().st_size for folder in folders for path in folder.glob("*") if path.is_file()]
    return f"{counted(len(sizes), 'file')}, {filesize.decimal(sum(sizes))}, in {place}"
