"""A sweep from its grid to its tables: what it would do, and doing it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from vgx.config.schema import Config
from vgx.config.sweep import Cell, Sweep, differences, load_sweep
from vgx.devices import PerRun, Platform, find_devices, memory_for_lanes, names_of, resolve_per_run
from vgx.errors import RunError
from vgx.results import directories
from vgx.results.cell_configs import write_cell_configs
from vgx.results.store import Run
from vgx.runner.expected import with_expectations
from vgx.runner.opening import existing_run, initial_meta, open_writer
from vgx.runner.plan import PlannedPlace, check_spectrum_fits, plan_rounds, seconds_for
from vgx.runner.rounds import PENDING
from vgx.runner.sweep_progress import Watch
from vgx.runner.sweeping import DataSets, Here, Place, Sweeping
from vgx.training.batches import batch_size_of


class Plan(NamedTuple):
    """What a sweep would do."""

    path: Path
    cells: int
    seeds: int
    lanes: int
    done: int
    """Lanes that are done already."""
    programs: int
    rounds: int
    capacity: int
    """Lanes of the largest round."""
    run_steps: float
    devices: list[str]
    bytes: int
    """About what the largest round takes, at the most."""
    seconds: float
    """About how long it takes."""
    places: list[PlannedPlace] | None = None
    """On a cluster, what would go where; None on this machine."""


def sweep_path(sweep: Sweep, runs: str | Path = "runs") -> Path:
    """Returns the directory of a sweep: one of the same name and axes has the same, whatever their values."""
    return Path(runs) / sweep.folder


def plan(
    sweep: Sweep,
    *,
    runs: str | Path = "runs",
    device: Platform | None = None,
    devices_per_run: PerRun = 1,
    memory: int | None = None,
    on: str | None = None,
) -> Plan:
    """Returns what `sweep` would do, without doing it. Raises as `sweep` does."""
    path = sweep_path(sweep, runs)
    done: set[tuple[str, int]] = set()
    directories.recover(path.parent, path.name)
    if path.exists():
        sweep = _grown(path, sweep)
        done = {(row["cell"], row["seed"]) for row in Run(path).lanes().to_pylist() if row["status"] not in PENDING}
    data, seeds = DataSets(sweep), sweep.base.seed_list
    left = [cell.config for cell in sweep.cells for seed in seeds if (cell.key, seed) not in done]
    lanes, places = list(enumerate(left)), None
    if on is None:
        devices = find_devices(device, 2)
        rounds = plan_rounds(lanes, data, devices, memory or memory_for_lanes(devices), devices_per_run)
        names, seconds = names_of(devices), seconds_for(rounds, devices) if rounds else 0.0
    else:
        from vgx.runner.cluster.planning import plan_on

        rounds, places = plan_on(on, device, devices_per_run, lanes, data, memory, sweep.base.modules)
        names = [name for place in places for name in place.devices]
        seconds = max((place.seconds for place in places), default=0.0)
    return Plan(
        path=path,
        cells=len(sweep.cells),
        seeds=len(seeds),
        lanes=len(left),
        done=len(sweep.cells) * len(seeds) - len(left),
        programs=len({planned.program for planned in rounds}),
        rounds=len(rounds),
        capacity=max((planned.capacity for planned in rounds), default=0),
        run_steps=float(sum(len(planned.lanes) * planned.steps for planned in rounds)),
        devices=names,
        bytes=max((planned.bytes for planned in rounds), default=0),
        seconds=seconds,
        places=places,
    )


def sweep(
    sweep: Sweep,
    *,
    runs: str | Path = "runs",
    overwrite: bool = False,
    retry_failed: bool = False,
    device: Platform | None = None,
    devices_per_run: PerRun = 1,
    memory: int | None = None,
    on: str | None = None,
    watch: Watch | None = None,
    beside: Mapping[str, str] | None = None,
) -> Run:
    """Runs every cell of a sweep once per seed, cells that share a program side by side, and returns the run.

    What the cells expect of their lanes is judged, in the run's `expectations`.

    A sweep whose directory exists goes on: what is done is kept, what was cut off resumes to the same bits, cells and
    seeds that are new are added.

    Args:
        sweep: what `load_sweep` returns.
        runs: the folder that the run directory is made in.
        overwrite: starts again from nothing.
        retry_failed: tries the lanes again that failed.
        device: cpu, gpu or tpu; jax's own choice when None. Lanes are spread over all devices of the kind.
        devices_per_run: how many devices share every batch of a lane, each with a copy of its parameters; `auto`: those
            that the lanes of a round leave free. A sweep that goes on may have others than it began with.
        memory: bytes that the lanes of a round may take, on all devices together; half of what is free when None.
        on: the machine here when None. `ray` joins the Ray cluster that runs here, or starts one of this machine;
            `auto` joins one and starts none; `ray://HOST:PORT` joins another's. Then this process computes on no device
            but the CPU, and as long as it lives; docs/cluster.md says what the cluster needs.
        watch: called with a `SweepProgress` whenever something happened.
        beside: texts of further files of its directory, by name, such as a map's.

    Raises:
        DataError: a data set is missing or broken, or smaller than a batch.
        RunError: the directory's base config is another, another process writes it, or a batch does not divide over
            the devices.
        EnvironmentFault: no such device, too few of them, the disk refuses, or a library is missing that a config
            asks for.
        Interrupted: Ctrl-C or SIGTERM came; everything is saved.
    """
    path, asked = sweep_path(sweep, runs), sweep.cells
    existing_run(path, (cell.config for cell in sweep.cells), overwrite)
    data, configs = DataSets(sweep), [cell.config for cell in sweep.cells]
    with _place(on, device, devices_per_run, memory, sweep) as place:
        _check_fit(configs, data, place, devices_per_run)
        counts = dict.fromkeys(("lanes", "lanes_done", "programs", "rounds", "rounds_done"), 0)
        writer = open_writer(
            path, sweep.to_yaml(), initial_meta(sweep.base, place.devices, devices_per_run) | counts, overwrite
        )
        with closing(writer):
            sweep = _grown(path, sweep)
            writer.write_text("config.yaml", sweep.to_yaml())
            write_cell_configs(writer, {cell.key: cell.config for cell in sweep.cells})
            for name, text in (beside or {}).items():
                writer.write_text(name, text)
            Sweeping(sweep, data, place, writer, watch).run(retry_failed)
    return _judged(Run(path), asked)


def _check_fit(configs: Sequence[Config], data: DataSets, place: Place, per_run: PerRun) -> None:
    """Raises where the devices of a place cannot share the batches of a config, or hold its Jacobians."""
    for config in configs:
        check_spectrum_fits(config, data(config), place.memory // len(place.devices))
    for batch_size in {batch_size_of(config, len(data(config).train.labels)) for config in configs}:
        resolve_per_run(per_run, len(place.devices), 1, batch_size)


def _judged(run: Run, cells: Sequence[Cell]) -> Run:
    """The run, with what these cells expect of their lanes judged."""
    lanes = defaultdict(list)
    for row in run.lanes().to_pylist():
        lanes[row["cell"]].append(row["lane"])
    return with_expectations(run, [(cell.config, lanes[cell.key]) for cell in cells], {})


def _place(
    on: str | None, device: Platform | None, per_run: PerRun, memory: int | None, sweep: Sweep
) -> AbstractContextManager[Place]:
    if on is None:
        return nullcontext(Here(device, per_run, memory))
    from vgx.runner.cluster.place import Cluster

    return Cluster(on, device, per_run, memory, sweep.base.modules)


def _grown(path: Path, sweep: Sweep) -> Sweep:
    """Returns the sweep with the cells and seeds that its directory has besides. Raises RunError for another base."""
    old = load_sweep(path / "config.yaml")
    if lines := differences(old.base, sweep.base):
        raise RunError(
            f"{path}: this sweep began with another base config:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\n--overwrite starts again; --set name=NEW keeps both"
        )
    here = {cell.key for cell in sweep.cells}
    others = tuple(cell for cell in old.cells if cell.key not in here)
    seeds = list(dict.fromkeys((*old.base.seed_list, *sweep.base.seed_list)))
    count = seeds == list(range(len(seeds)))
    modules = tuple(dict.fromkeys((*old.base.modules, *sweep.base.modules)))
    base = sweep.base.model_copy(update={"seeds": len(seeds) if count else seeds, "modules": modules})
    explicit = [*sweep.explicit, *(cell.overlay for cell in others)]
    return replace(sweep, base=base, explicit=explicit, cells=(*sweep.cells, *others))
