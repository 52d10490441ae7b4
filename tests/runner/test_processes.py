"""Several processes train one run: its tables are those of one, whoever is stopped or killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import vgx
from vgx.results.store import Run

pytestmark = pytest.mark.cluster

CONFIG = """
name: together
data: digits
model: {depth: 4, width: 16, activation: rrelu, normalization: batch, dropout: 0.1}
train: {batch_size: 32, steps: %d, evaluate_every: 50, precision: float64}
"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Together:
    """Processes that train one config, each in a folder of its own."""

    def __init__(self, folder: Path, steps: int, count: int = 2, *options: str, configs: dict[int, str] | None = None):
        port = free_port()
        self.runs = folder / "runs"
        self.processes = []
        for i in range(count):
            config = folder / f"{i}.yaml"
            config.write_text((configs or {}).get(i, CONFIG % steps))
            where = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(count), "--process", str(i)]
            runs = self.runs if i == 0 else folder / f"nothing-{i}"
            command = [sys.executable, "-m", "vgx", "train", str(config), "--runs", str(runs), *where, "-q", *options]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            # One device to each: with two, jax would count four.
            self.processes.append(subprocess.Popen(command, env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"}, **pipes))

    def ended(self) -> list[tuple[int, str, str]]:
        """The exit code and what was printed, of each."""
        told = [process.communicate(timeout=240) for process in self.processes]
        return [(process.returncode, *words) for process, words in zip(self.processes, told, strict=True)]

    def wait_for_step(self, step: int) -> None:
        while not any(Run(path).meta["step"] >= step for path in self.runs.glob("together-*")):
            assert all(process.poll() is None for process in self.processes), [p.communicate() for p in self.processes]
            time.sleep(0.05)

    @property
    def run(self) -> Run:
        return Run(next(self.runs.glob("together-*")))


def alone(tmp_path: Path, steps: int) -> Run:
    path = tmp_path / "alone.yaml"
    path.write_text(CONFIG % steps)
    return vgx.train(vgx.load_config(str(path)), runs=tmp_path / "alone")


def assert_same_tables(ours: Run, theirs: Run) -> None:
    for name in ("metrics", "layers"):
        a, b = getattr(ours, name)(), getattr(theirs, name)()
        assert a.column_names == b.column_names
        for column in a.column_names:
            if column == "bias_grad_log10":  # batch norm leaves only the rounding of a sum
                continue
            one, other = (table[column].to_numpy(zero_copy_only=False).astype(float) for table in (a, b))
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9, err_msg=column)


def test_two_processes_train_what_one_does_and_the_first_alone_writes(tmp_path):
    together = Together(tmp_path, 60)
    first, second = together.ended()
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert first[1].split() == ["healthy", str(together.run.path)]
    assert second[1] == ""
    assert not (tmp_path / "nothing-1").exists()
    assert (together.run.meta["devices_per_run"], together.run.meta["processes"]) == (2, 2)
    assert_same_tables(together.run, alone(tmp_path, 60))


def test_a_signal_to_either_stops_both_at_one_step_and_one_process_goes_on(tmp_path):
    together = Together(tmp_path, 3000)
    together.wait_for_step(1)
    together.processes[1].send_signal(signal.SIGTERM)
    first, second = together.ended()
    assert (first[0], second[0]) == (130, 130), (first, second)
    step = together.run.meta["step"]
    assert f"stopped at step {step} of 3000" in first[2]
    assert f"stopped at step {step} of 3000" in second[2]
    config = tmp_path / "0.yaml"
    config.write_text(CONFIG % 3000)
    run = vgx.train(vgx.load_config(str(config)), runs=together.runs, resume=True)
    assert run.meta["step"] == 3000
    assert run.meta["devices_per_run"] == 1
    assert len(run.metrics()) == 3000


@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_dies_the_other_ends_in_one_line_and_both_go_on(tmp_path, killed):
    together = Together(tmp_path, 1500)
    together.wait_for_step(1)
    together.processes[killed].kill()
    began = time.monotonic()
    code, _, told = together.ended()[1 - killed]
    assert time.monotonic() - began < 60
    assert code == 4, told
    assert "another process of this run has ended" in told.splitlines()[-1]
    assert "Traceback" not in told
    again = Together(tmp_path, 1500, 2, "--resume")
    first, second = again.ended()
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert again.run.meta["step"] == 1500


def test_processes_with_other_configs_are_refused_in_all_with_what_differs(tmp_path):
    other = CONFIG.replace("width: 16", "width: 8") % 60
    for code, _, told in Together(tmp_path, 60, configs={1: other}).ended():
        assert code == 2
        assert "process 1 has config" in told.splitlines()[-1]


def test_a_run_that_is_there_is_refused_in_all(tmp_path):
    first = Together(tmp_path, 20)
    assert [code for code, *_ in first.ended()] == [0, 0]
    for code, _, told in Together(tmp_path, 20).ended():
        assert code == 2
        assert "this config has been run" in told.splitlines()[-1]
