"""A sweep on a Ray cluster: the tables of one machine alone, whatever happens to workers, nodes and the driver."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import vgx
from vgx.config.sweep import Sweep
from vgx.errors import EnvironmentFault, RunError, VgxError
from vgx.results import directories
from vgx.results.store import Run
from vgx.runner import loop
from vgx.runner.plan import rounds_each

ray = pytest.importorskip("ray", reason="make test-cluster installs Ray")

from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = [
    pytest.mark.cluster,
    # Ray's own: a worker that we kill leaves its sockets to the garbage collector, and psutil is asked the old way.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]
PATIENCE = 240.0
"""Seconds. Nothing here takes a quarter of that on an idle machine."""
BASE = {
    "name": "spread",
    "model": {"depth": 3, "width": 12},
    "train": {"batch_size": 16, "steps": 60, "evaluate_every": 20},
}
AXES = {"model.activation": ["relu", "tanh"], "model.initializer": ["he_normal", "glorot_uniform"]}
SLOWLY = '''
"""Rounds that take some seconds and save often, however fast the machine is."""
import time
from vgx.runner import loop

loop.FLUSH_SECONDS, loop.CHECKPOINT_SHARE, loop.CHUNK_SECONDS = 0.2, 1e9, 0.0
if loop._keep.__module__ == "vgx.runner.loop":
    keep = loop._keep

    def slowly(*about):
        time.sleep(0.05)
        return keep(*about)

    loop._keep = slowly
'''


def grid(**train: Any) -> dict[str, Any]:
    return BASE | {"train": BASE["train"] | train, "sweep": {"axes": AXES}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes of one core each, the first of them the head, which this process is connected to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # 15 by default: on a busy machine the tests would take for ever
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        ray.init(address=made.address, logging_level="CRITICAL", log_to_driver=False)
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A grid whose rounds take some seconds on workers, and save often; `import` sends the module that sees to it."""
    for name in ("FLUSH_SECONDS", "CHECKPOINT_SHARE", "CHUNK_SECONDS", "_keep"):
        monkeypatch.setattr(loop, name, getattr(loop, name))
    (tmp_path / "slowly_here.py").write_text(SLOWLY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "slowly_here", raising=False)
    settings = grid(steps=400, evaluate_every=100)
    return settings | {"log": {"every": 10}, "import": ["slowly_here"]}


def alone(settings: dict[str, Any], folder: Path) -> Run:
    """Returns the sweep as `vgx sweep` makes it on one device of this machine."""
    return Run(command(settings, folder, "alone").path)


class Command:
    """`vgx sweep` in a process of its own."""

    def __init__(self, settings: dict[str, Any], folder: Path, runs: str, *options: str, **env: str):
        self.sweep = vgx.load_sweep(settings)
        config = folder / f"{runs}.yaml"
        config.write_text(json.dumps(settings))
        known = os.environ | {"JAX_NUM_CPU_DEVICES": "1"} | env
        argv = [sys.executable, "-m", "vgx", "sweep", str(config), "--runs", str(folder / runs), "--quiet", *options]
        self.path = folder / runs / self.sweep.folder
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(argv, env=known, cwd=folder, start_new_session=True, **pipes)

    def end(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out + err


def command(settings: dict[str, Any], folder: Path, runs: str, *options: str, **env: str) -> Command:
    """A sweep in a process of its own, that has come to its end."""
    one = Command(settings, folder, runs, *options, **env)
    code, said = one.end()
    assert code == 0, said
    return one


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits until a condition holds, and returns what it says."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        with suppress(VgxError, FileNotFoundError):  # of a run that is only being made
            if found := condition():
                return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain: {what}")


def same_tables(a: Run, b: Run) -> None:
    for table, keys in (("metrics", ["lane", "step"]), ("layers", ["lane", "step", "layer"]), ("lanes", ["lane"])):
        order = [(key, "ascending") for key in keys]
        one, other = (getattr(run, table)().sort_by(order) for run in (a, b))
        assert one.num_rows
        assert one.equals(other), table
    assert (a.path / "prediction.parquet").read_bytes() == (b.path / "prediction.parquet").read_bytes()


def workers() -> list[int]:
    """The processes of workers of vgx on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(folder.name))
    return found


# What comes out


def test_a_sweep_on_two_nodes_has_the_tables_of_one_machine_alone_and_says_where_each_round_ran(cluster, tmp_path):
    told = []
    run = vgx.sweep(vgx.load_sweep(grid()), runs=tmp_path / "spread", on="ray", watch=told.append)
    same_tables(run, alone(grid(), tmp_path))
    assert run.status == "done"
    for state in run.rounds.values():
        assert state["ran_on"] == [{"host": os.uname().nodename, "devices": ["cpu: cpu"], "from_step": 0}]
    assert max(one.nodes for one in told) == max(one.devices for one in told) == 2
    assert max(one.rounds_running for one in told) == 2
    assert run.meta["cluster"]["table_bytes"] > 0
    assert workers() == []


def test_a_worker_killed_ten_times_at_random_costs_no_bit(cluster, slowly, tmp_path, watched):
    settings = slowly | {"train": slowly["train"] | {"steps": 1500}}
    dice, kills, seen = random.Random(7), [], set()

    def kill(path: Path) -> None:
        """Kills a worker, whichever, each time that more was saved."""
        saved = {str(folder) for folder in path.glob("checkpoint/*/[0-9]*") if folder.name.isdigit()}
        if saved - seen and len(kills) < 10 and (alive := workers()):
            seen.update(saved)
            kills.append(dice.choice(alive))
            with suppress(ProcessLookupError):
                os.kill(kills[-1], signal.SIGKILL)

    run, notes = watched(settings, kill)
    assert len(kills) == 10
    assert any(re.fullmatch(r"round \d: its worker on .* was lost; it goes on from step \d+", note) for note in notes)
    same_tables(run, alone(settings, tmp_path))


def test_a_node_that_is_lost_costs_no_bit_and_one_that_joins_takes_part(cluster, slowly, tmp_path, watched):
    second = cluster.add_node(num_cpus=1)
    events = []

    def change(path: Path) -> None:
        saved = [folder for folder in path.glob("checkpoint/*/[0-9]*") if folder.name.isdigit()]
        if len(saved) >= 2 and not events:
            cluster.remove_node(second, allow_graceful=False)
            events.append(cluster.add_node(num_cpus=1))

    settings = slowly | {"seeds": 2}
    run, notes = watched(settings, change, nodes=3)
    assert events
    assert any("was lost" in note for note in notes)
    same_tables(run, alone(settings, tmp_path))
    cluster.remove_node(events[0])


@pytest.fixture
def watched(tmp_path: Path) -> Callable[..., tuple[Run, list[str]]]:
    """A function that runs a sweep on the cluster, and does something to it whenever it tells of itself."""

    def run(settings: dict[str, Any], does: Callable[[Path], None], nodes: int = 2) -> tuple[Run, list[str]]:
        sweep, notes = vgx.load_sweep(settings), []
        path = tmp_path / "spread" / sweep.folder

        def watch(progress: Any) -> None:
            notes.append(progress.note)
            if progress.nodes <= nodes:
                does(path)

        return vgx.sweep(sweep, runs=tmp_path / "spread", on="ray", watch=watch), [note for note in notes if note]

    return run


@pytest.mark.parametrize("first", ["cluster", "alone"])
def test_ctrl_c_leaves_a_sweep_that_the_other_place_finishes_to_the_same_bits(first, cluster, slowly, tmp_path):
    there = {"RAY_ADDRESS": cluster.address}
    on, off = (("--on", "auto"), ()) if first == "cluster" else ((), ("--on", "auto"))
    begun = Command(slowly, tmp_path, "spread", *on, **there)
    until(lambda: any(state["step"] for state in Run(begun.path).rounds.values()), "a part of a round")
    begun.process.send_signal(signal.SIGINT)
    code, said = begun.end()
    assert code == 130, said
    assert "saved; the same command goes on" in said
    assert Run(begun.path).status == "interrupted"
    assert any(state["step"] and state["status"] != "done" for state in Run(begun.path).rounds.values())
    until(lambda: not workers(), "the end of all workers")
    ended = command(slowly, tmp_path, "spread", *off, **there)
    same_tables(Run(ended.path), alone(slowly, tmp_path))


def test_a_driver_that_is_killed_leaves_a_sweep_that_goes_on_and_no_worker(cluster, slowly, tmp_path):
    there = {"RAY_ADDRESS": cluster.address}
    begun = Command(slowly, tmp_path, "spread", "--on", "auto", **there)
    until(lambda: any(state["step"] for state in Run(begun.path).rounds.values()), "a part of a round")
    begun.process.kill()
    begun.end()
    until(lambda: not workers(), "the end of all workers")
    ended = command(slowly, tmp_path, "spread", "--on", "auto", **there)
    same_tables(Run(ended.path), alone(slowly, tmp_path))


def test_the_driver_starts_no_device_of_its_own(cluster, tmp_path):
    script = """
import sys, vgx
from jax._src import xla_bridge
begun = []
sweep = vgx.load_sweep(sys.argv[1])
watch = lambda progress: begun.append(xla_bridge.backends_are_initialized())
run = vgx.sweep(sweep, runs=sys.argv[2], on="auto", watch=watch)
print(run.status, any(begun[:-1]), sorted(xla_bridge._backends))
"""
    config = tmp_path / "grid.yaml"
    config.write_text(json.dumps(grid()))
    argv = [sys.executable, "-c", script, config, tmp_path]
    env = os.environ | {"RAY_ADDRESS": cluster.address, "JAX_PLATFORMS": ""}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    status, begun, backends = done.stdout.split(maxsplit=2)
    assert (status, begun) == ("done", "False")
    assert eval(backends) in ([], ["cpu"])


# What would come out


def test_a_plan_says_what_would_go_where(cluster, tmp_path):
    plan = vgx.plan(vgx.load_sweep(grid()), runs=tmp_path, on="ray")
    assert [(place.devices, place.lanes, len(place.rounds)) for place in plan.places] == [(["cpu: cpu"], 2, 1)] * 2
    assert plan.rounds == 2
    assert plan.seconds > 0
    assert list(tmp_path.iterdir()) == []
    from vgx.report.terminal.sweep import show_plan

    shown = show_plan(plan).plain
    assert re.search(r"^where +\S+ \(1 x cpu: cpu\): round [01]: 2 lanes, about \d+ s$", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("programs", "workers", "parts"), [(1, 2, 2), (5, 2, 2), (6, 2, 1), (10, 3, 2), (1, 64, 64), (7, 1, 1)]
)
def test_programs_are_parted_where_workers_would_idle(programs, workers, parts):
    assert rounds_each(programs, workers) == parts


# GPUs: their number is declared here, as on a machine that has them


def test_each_worker_has_a_gpu_to_itself_and_states_how_many_it_wants():
    from vgx.runner.cluster.pool import Share, kind_in, shares_of

    node = {"Resources": {"CPU": 16.0, "GPU": 2.0}}
    assert kind_in([{"Resources": {"CPU": 4.0}}, node]) == "gpu"
    assert shares_of(node["Resources"], "gpu") == [Share(1, 1, {})] * 2
    assert shares_of(node["Resources"], "cpu") == [Share(16, 0, {}, 16)]
    assert shares_of({"CPU": 8.0, "TPU": 4.0}, "tpu") == [Share(1, 0, {"TPU": 1})] * 4
    assert all(
        {"num_cpus", "num_gpus"} <= set(share.options("0" * 56)) for share in shares_of(node["Resources"], "gpu")
    )


def test_two_workers_on_a_node_see_different_gpus_and_a_node_without_the_device_is_refused(cluster):
    from vgx.runner.cluster.pool import shares_of

    node = cluster.add_node(num_cpus=2, num_gpus=2)

    class Seen:
        def gpu(self) -> str | None:
            return os.environ.get("CUDA_VISIBLE_DEVICES")

    found = next(one for one in ray.nodes() if one["Resources"].get("GPU") == 2)
    shares = shares_of(found["Resources"], "gpu")
    actors = [ray.remote(Seen).options(**share.options(found["NodeID"])).remote() for share in shares]
    assert sorted(ray.get([actor.gpu.remote() for actor in actors])) == ["0", "1"]
    for actor in actors:
        ray.kill(actor)
    with pytest.raises(EnvironmentFault, match="jax finds no gpu here"):
        vgx.plan(vgx.load_sweep(grid()), on="ray")  # there is no such thing in this machine
    cluster.remove_node(node)


# What cannot be


def refused(settings: dict[str, Any], folder: Path, on: str, **env: str) -> tuple[int, str]:
    code, said = Command(settings, folder, "refused", "--on", on, **env).end()
    assert len(said.splitlines()) == 1, said
    return code, said


@pytest.mark.parametrize(
    ("on", "code", "line"),
    [
        ("slurm", 2, "--on slurm: names no cluster; write ray, auto or ray://HOST:PORT"),
        ("ray://head", 2, "--on ray://head: names no cluster"),
        ("ray://127.0.0.1:9", 4, "--on ray://127.0.0.1:9: no Ray cluster answers: Connection refused; is it up"),
    ],
)
def test_no_cluster_is_said_in_a_line(on, code, line, tmp_path):
    found, said = refused(grid(), tmp_path, on)
    assert (found, said.startswith(line)) == (code, True), said


def test_no_ray_is_said_in_a_line_with_what_installs_it(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('not here')\n")
    found, said = refused(grid(), tmp_path, "ray", PYTHONPATH=f"{tmp_path}:{Path(vgx.__file__).parents[1]}")
    assert found == 4
    assert re.match(r"--on ray: Ray is not installed: .*-m pip install '?ray", said), said


def test_a_node_with_another_vgx_or_jax_is_refused_and_both_are_named(cluster, tmp_path):
    other = tmp_path / "other"
    for name, number in (("vgx", "9.9"), ("jax", "0.1")):
        info = other / f"{name}-{number}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    node = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": f"{other}:{os.environ.get('PYTHONPATH', '')}"})
    notes = []
    run = vgx.sweep(vgx.load_sweep(grid()), runs=tmp_path, on="ray", watch=lambda progress: notes.append(progress.note))
    cluster.remove_node(node)
    from importlib.metadata import version

    here = f"this is vgx {version('vgx')} and jax {version('jax')}"
    assert [note for note in notes if f"has vgx 9.9 and jax 0.1, and {here}: not used; install the same" in note]
    assert run.status == "done"


def test_a_second_driver_on_a_directory_is_refused(cluster, tmp_path):
    sweep = vgx.load_sweep(grid())
    path = vgx.sweep(sweep, runs=tmp_path, on="ray").path
    held = directories.lock(path)
    try:
        with pytest.raises(RunError, match="another vgx is writing this run"):
            vgx.sweep(sweep, runs=tmp_path, on="ray")
    finally:
        os.close(held)


def test_a_full_disk_at_the_driver_is_said_in_a_line_and_nothing_is_lost(cluster, slowly, tmp_path):
    there = {"RAY_ADDRESS": cluster.address}
    runs = tmp_path / "spread"
    runs.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", runs], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no mount here")
    try:
        code, said = Command(slowly, tmp_path, "spread", "--on", "auto", **there).end()
        assert code == 4, said
        assert re.search("No space left on device; make room", said), said
        assert len(said.splitlines()) == 1
        until(lambda: not workers(), "the end of all workers")
        subprocess.run(["mount", "-o", "remount,size=64m", runs], check=True)
        ended = command(slowly, tmp_path, "spread", "--on", "auto", **there)
        same_tables(Run(ended.path), alone(slowly, tmp_path))
    finally:
        subprocess.run(["umount", "--lazy", runs], check=True)


def test_a_part_of_the_user_s_own_reaches_the_workers(cluster, tmp_path, monkeypatch):
    package = tmp_path / "elsewhere" / "their_parts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from their_parts.own import Own\n")
    (package / "own.py").write_text(
        "from vgx.parts import ACTIVATIONS\n"
        "from vgx.parts.activations import Activation\n"
        "@ACTIVATIONS.register('their_own')\n"
        "class Own(Activation):\n"
        "    '''h / sqrt(1 + h^2): of the test.'''\n"
        "    def __call__(self, h):\n"
        "        return h / (1 + h * h) ** 0.5\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))  # where no worker looks
    settings = grid() | {"import": ["their_parts"]}
    settings["sweep"] = {"axes": {"model.activation": ["relu", "their_own"]}}
    sweep: Sweep = vgx.load_sweep(settings)
    run = vgx.sweep(sweep, runs=tmp_path, on="ray")
    assert run.lanes()["status"].to_pylist() == ["done"] * 2
