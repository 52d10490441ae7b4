"""Several processes that train one run together: what they must agree on, and which of them writes.

`jax.distributed` joins them, each with its own devices, and each then runs the same programs in the same order. What
depends on a clock, a signal or a disk is therefore decided by one for all. The first process alone writes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, NoReturn, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from vgx.config.schema import Config
from vgx.data import Dataset
from vgx.devices import Device
from vgx.errors import EnvironmentFault, RunError, VgxError

T = TypeVar("T")
_LOST = re.compile("gloo|nccl|coordination|unavailable|deadline|connection|heartbeat", re.IGNORECASE)
"""What the libraries that carry sums between processes say when one is gone."""

JOIN_SECONDS = 120
"""How long a process waits for the others to join."""
SILENCE_SECONDS = 30
"""How long a process may be silent before the others take it for dead."""
WRITING_SECONDS = 3600
"""How long those that have nothing left to do wait for the one that writes."""


class ProcessLost(EnvironmentFault):
    """Another process of the run is gone: what was saved is whole."""


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Makes this process one of several that share their devices, before jax has looked for any.

    Slurm, Open MPI, Kubernetes and TPU pods say by themselves who takes part.

    Args:
        coordinator: HOST:PORT, where the first process listens.
        processes: how many there are.
        process: which this is, from 0.

    Raises EnvironmentFault when nobody says so, or the others do not come within JOIN_SECONDS.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    alone = threading.Timer(JOIN_SECONDS, _give_up)
    alone.daemon = True
    alone.start()
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=2 * JOIN_SECONDS,  # where it expires, jax kills the process with a stack trace
            heartbeat_timeout_seconds=SILENCE_SECONDS,
            shutdown_timeout_seconds=WRITING_SECONDS,
        )
    except ValueError as error:
        mend = "start it by srun, mpirun or on a TPU pod, or give --coordinator HOST:PORT --processes N --process I"
        raise EnvironmentFault(f"--distributed: {_first_line(error)}; {mend}") from None
    except (RuntimeError, jax.errors.JaxRuntimeError) as error:
        raise EnvironmentFault(f"--distributed: the processes did not come together: {_first_line(error)}") from None
    finally:
        alone.cancel()


def _give_up() -> NoReturn:
    """Ends the process, whose main thread waits in a library, in one line."""
    os.write(2, f"--distributed: the other processes did not come within {JOIN_SECONDS} s; nothing is lost\n".encode())
    os._exit(EnvironmentFault.exit_code)


def several() -> bool:
    """Returns whether other processes take part."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def count() -> int:
    """Returns how many processes take part."""
    return jax.process_count() if several() else 1


def is_first() -> bool:
    """Returns whether this process is the one that writes."""
    return jax.process_index() == 0


def from_first(work: Callable[[], T]) -> T:
    """Returns what `work` returns in the first process, in all of them; it is called there alone.

    Raises in all of them the fault that it raises there.
    """
    if not several():
        return work()
    outcome: tuple[T | None, VgxError | None] = None, None
    if is_first():
        try:
            outcome = work(), None
        except VgxError as fault:
            outcome = None, fault
    value, fault = _exchanged(outcome)[0]
    if fault is not None:
        raise fault
    return cast(T, value)


def agreed(value: T, choose: Callable[[list[T]], T]) -> T:
    """Returns what `choose` makes of the values of all processes, in order: the same in each."""
    return choose(_exchanged(value)) if several() else value


def check_alike(config: Config, dataset: Dataset) -> None:
    """Raises RunError, in all processes, unless they have the same config, data and versions."""
    packages = {name: version(name) for name in ("vgx", "jax", "jaxlib")}
    mine = {"config": config.digest, "data": f"{dataset.name} {dataset.digest}"} | packages
    first, *others = _exchanged(mine) if several() else [mine]
    for process, theirs in enumerate(others, 1):
        if other := [f"{what} {theirs[what]} and not {first[what]}" for what in mine if theirs[what] != first[what]]:
            raise RunError(f"process {process} has {', '.join(other)}; all must have what the first one has")


def check_use(mesh: Mesh, devices: Sequence[Device]) -> None:
    """Raises RunError, in all processes, when a mesh leaves one of them without a device."""
    idle = {device.process_index for device in devices} - {device.process_index for device in mesh.devices.flat}
    if idle:
        raise RunError(
            f"{mesh.size} of {len(devices)} devices would work, and process {min(idle)} has none of them; "
            "--devices-per-run auto takes all that a batch can be dealt out to"
        )


def on_host(tree: Any) -> Any:
    """Returns the tree's arrays as NumPy's, whole, in every process: a copy."""

    def whole(leaf: jax.Array) -> Any:
        if leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.array(leaf)
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(whole, tree)


def _exchanged(value: T) -> list[T]:
    """The values of all processes, in order. They come together as bytes, so that no bit of them changes."""
    mine = np.frombuffer(pickle.dumps(value), np.uint8)
    with losses_told():
        sizes = multihost_utils.process_allgather(np.int32(len(mine)))
        padded = np.zeros(int(sizes.max()), np.uint8)
        padded[: len(mine)] = mine
        everyone = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(everyone, sizes, strict=True)]


@contextlib.contextmanager
def losses_told() -> Iterator[None]:
    """Says in one line that another process has ended, where a program that it took part in fails.

    Raises ProcessLost.
    """
    try:
        yield
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        if not several() or not _LOST.search(str(error)):
            raise
        raise ProcessLost("another process of this run has ended or cannot be reached; --resume goes on") from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200].rstrip(".")
