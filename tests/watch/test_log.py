"""A log of a loop that is not vgx's is a run of vgx, whatever becomes of the loop."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
import signal
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import yaml

import vgx
from vgx.errors import Damaged, RunError
from vgx.results.directories import remove
from vgx.results.nonfinite import first_not_finite
from vgx.results.store import Run
from vgx.watch import log as log_module
from vgx.watch.log import Log

PATHS = [f"blocks.{i}.mlp.{role}" for i in range(4) for role in ("up", "down")]


def rows(delta: float = -2.0, **columns: float) -> dict[str, dict[str, float]]:
    return {path: {"delta_log10": delta, **columns} for path in PATHS}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my-net"


def write(path: Path, steps: int = 5, **options) -> Run:
    with Log(path, **options) as log:
        for step in range(1, steps + 1):
            log.write(step, rows(-step / 2), loss=1 / step, learning_rate=0.1)
    return vgx.open_run(path)


def test_what_was_handed_over_is_read_back(path):
    run = write(path, config={"layers": 4, "seed": 7})
    assert (run.status, run.meta["step"], run.is_watched, run.is_sweep) == ("done", 5, True, False)
    assert run.paths == PATHS
    assert run.config == {"name": "my-net", "seeds": [7], "watched": {"layers": 4, "seed": 7}}
    metrics, layers = run.metrics(), run.layers()
    np.testing.assert_allclose(metrics["train_loss"].to_numpy(), 1 / np.arange(1, 6), rtol=1e-6)
    assert metrics["test_loss"].null_count == 5
    assert layers["layer"].to_pylist() == [1, 2, 3, 4, 5, 6, 7, 8] * 5
    assert layers["delta_log10"].to_pylist()[::8] == [-0.5, -1, -1.5, -2, -2.5]
    assert layers["act_rms"].null_count == len(layers)
    assert [(row["lane"], row["seed"], row["status"]) for row in run.lanes().to_pylist()] == [(0, 7, "done")]


def test_steps_without_a_record_have_metrics_alone(path):
    with Log(path) as log:
        for step in range(6):
            log.write(step, rows() if step % 3 == 0 else None, loss=1.0)
    run = Run(path)
    assert run.recorded_steps().tolist() == [0, 3]
    assert run.metrics()["step"].to_pylist() == [0, 1, 2, 3, 4, 5]


def test_a_step_may_be_written_in_several_calls(path):
    with Log(path) as log:
        log.write(1, loss=2.0)
        log.write(1, rows(), test_accuracy=0.5)
        log.write(2, loss=1.0)
    table = Run(path).metrics(["step", "train_loss", "test_accuracy"])
    assert table.to_pylist() == [
        {"step": 1, "train_loss": 2.0, "test_accuracy": 0.5},
        {"step": 2, "train_loss": 1.0, "test_accuracy": None},
    ]
    assert Run(path).recorded_steps().tolist() == [1]


@pytest.mark.parametrize(
    "number",
    [1.5, np.float32(1.5), np.array([1.5]), jnp.float32(1.5), torch.tensor(1.5), torch.tensor(1.5, requires_grad=True)],
    ids=lambda value: type(value).__module__,
)
def test_numbers_may_be_of_any_library(path, number):
    with Log(path) as log:
        log.write(0, {"a": {"delta_log10": number}}, loss=number)
    run = Run(path)
    assert (run.metrics()["train_loss"][0].as_py(), run.layers()["delta_log10"][0].as_py()) == (1.5, 1.5)


def test_what_was_not_measured_is_null_and_a_nan_is_a_nan(path):
    with Log(path) as log:
        log.write(0, {"a": {"act_rms": math.nan, "dead": None}, "b": {}})
        log.write(1, {"b": {"act_rms": 2.0}})
    columns = Run(path).layers(["layer", "act_rms", "dead"])
    assert columns["act_rms"].is_valid().to_pylist() == [True, False, False, True]
    assert math.isnan(columns["act_rms"][0].as_py())
    assert columns["dead"].null_count == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"step": 1, "record": {"a": {"delta_lg10": 1}}}, r"step 1: a: no column is called 'delta_lg10'; did you mean"),
        ({"step": 1, "record": {"a": {"delta_log10": "x"}}}, r"a: delta_log10: expected a number, found 'x'"),
        ({"step": 1, "record": {"a": {"delta_log10": [1, 2]}}}, r"expected a number, found \[1, 2\]"),
        ({"step": 1, "record": {"a": {"delta_log10": np.ones(3)}}}, r"expected one number, found an array of 3"),
        ({"step": 1, "record": {"a": -3.0}}, r"a: expected columns and their numbers, found float"),
        ({"step": 1, "record": {3: {}}}, r"3 is no path of a layer"),
        ({"step": 1, "record": {"a\nb": {}}}, r"is no path of a layer"),
        ({"step": 1, "record": [1]}, r"expected a record of watch.value_and_grad, or a mapping .* found list"),
        ({"step": 1, "loss": 1.0, "train_loss": 1.0}, r"loss, train_loss: the same twice"),
        ({"step": 1, "los": 1.0}, r"no metric is called 'los'; did you mean 'loss'"),
        ({"step": 1, "loss": np.ones((2, 2))}, r"loss: expected one number, found an array of 2 x 2"),
        ({"step": -1}, r"step -1: expected a whole number, 0 or more"),
        ({"step": 1.5}, r"step 1.5: expected a whole number"),
        ({"step": math.nan}, r"step nan: expected a whole number"),
        ({"step": 1, "record": {"a": {}}, "updates": {}}, r"updates: a plain mapping cannot measure them"),
        ({"step": 1, "updates": {}}, r"updates: there is no record"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_line(path, given, said):
    with Log(path) as log, pytest.raises(RunError, match=said) as refused:
        log.write(**given)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"{path}: log.write")


def test_a_refused_step_leaves_the_log_as_it_was(path):
    with Log(path) as log:
        log.write(1, rows(), loss=1.0)
        with pytest.raises(RunError, match="steps only go up"):
            log.write(0, rows())
        with pytest.raises(RunError, match="train_loss: written already"):
            log.write(1, loss=2.0)
        with pytest.raises(RunError, match="its layers are written already"):
            log.write(1, rows())
        with pytest.raises(RunError, match=r"step 2: head: not among the 8 layers of the first record"):
            log.write(2, rows() | {"head": {}})
        log.write(2, rows(), loss=3.0)
    assert Run(path).metrics()["train_loss"].to_pylist() == [1.0, 3.0]


def test_a_closed_log_is_closed(path):
    log = Log(path)
    log.close()
    log.close()
    with pytest.raises(RunError, match="this log is closed"):
        log.write(0)
    assert Run(path).status == "done"


@pytest.mark.parametrize("config", ["layers", 3, [1]])
def test_a_config_is_a_mapping(path, config):
    with pytest.raises(RunError, match="config: expected a mapping"):
        Log(path, config)
    assert not path.exists()


class Size(enum.Enum):
    small = 1


@dataclasses.dataclass
class Options:
    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)


def test_a_config_of_any_objects_is_kept_as_plain_values(path):
    shared = [1, 2]
    given = {
        "options": Options(),
        "rate": np.float64(0.5),
        "flag": np.bool_(True),
        3: OrderedDict(a=1),
        "size": Size.small,
        "path": Path("x"),
        "twice": [shared, shared],
        "array": np.ones(3),
        "nan": math.inf,
        "none": None,
        "yes": "yes",
    }
    with Log(path, given) as log:
        log.write(0, loss=1.0)
    assert Run(path).config["watched"] == {
        "options": {"rate": 0.1, "sizes": [1, 2]},
        "rate": 0.5,
        "flag": True,
        "3": {"a": 1},
        "size": "Size.small",
        "path": "x",
        "twice": [[1, 2], [1, 2]],
        "array": "[1. 1. 1.]",
        "nan": math.inf,
        "none": None,
        "yes": "yes",
    }


def test_what_is_there_is_neither_replaced_nor_gone_on_with_unasked(path, tmp_path):
    write(path)
    with pytest.raises(RunError, match="is there already; overwrite=True replaces it, resume=True goes on with it"):
        Log(path)
    with pytest.raises(RunError, match="choose one"):
        Log(path, overwrite=True, resume=True)
    assert write(path, 2, overwrite=True).metrics()["step"].to_pylist() == [1, 2]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(RunError, match="is no run of vgx"):
        Log(other, overwrite=True)


@pytest.mark.parametrize("first", [1, 4, 6, 8])
def test_a_resumed_run_goes_back_to_where_its_loop_does(path, first, monkeypatch):
    monkeypatch.setattr(log_module, "SECONDS", -1.0)  # a part for each step
    write(path, config={"layers": 4})
    monkeypatch.setattr(log_module, "SECONDS", 5.0)
    with Log(path, {"layers": 4}, resume=True) as log:
        log.write(first, rows(-9.0), loss=9.0)
        log.write(first + 1, rows(-9.0), loss=9.0)
    run = Run(path)
    kept = list(range(1, min(first, 6)))
    assert run.metrics()["step"].to_pylist() == [*kept, first, first + 1]
    assert run.recorded_steps().tolist() == [*kept, first, first + 1]
    assert run.curves("delta_log10")[0].values[:, 0].tolist() == [-step / 2 for step in kept] + [-9.0, -9.0]
    assert run.status == "done"


@pytest.mark.parametrize("first", [0, 1, 3])
def test_a_part_that_reaches_over_the_resumed_step_keeps_its_beginning(path, first):
    with Log(path) as log:
        for step in range(6):
            log.write(step, rows(-step), loss=step)
    with Log(path, resume=True) as log:
        log.write(first, rows(-9.0), loss=9.0)
    run = Run(path)
    assert run.metrics()["step"].to_pylist() == list(range(first + 1))
    assert run.metrics()["train_loss"].to_pylist() == [*range(first), 9.0]


def test_to_resume_where_nothing_is_begins_a_run(path):
    assert write(path, resume=True).metrics()["step"].to_pylist() == [1, 2, 3, 4, 5]


def test_to_resume_with_another_config_is_refused(path):
    write(path, config={"layers": 4, "width": 3})
    with pytest.raises(RunError, match="config: width: not what the run has that is to go on"):
        Log(path, {"layers": 4, "width": 5}, resume=True)
    Log(path, resume=True).close()  # without any: it is the run's


def test_to_resume_a_run_of_vgx_is_refused(write_run):
    run = write_run(
        {"name": "own", "train": {"steps": 2}}, {"delta_log10": np.ones((2, 1, 21))}, {"train_loss": np.ones((2, 1))}
    )
    with pytest.raises(RunError, match="is a run of `vgx train`"):
        Log(run.path, resume=True)


def test_a_second_writer_is_refused(path):
    with Log(path), pytest.raises(RunError, match="another vgx is writing this run"):
        Log(path, resume=True)


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("too\nbad"), "failed"), (KeyboardInterrupt(), "interrupted"), (SystemExit(1), "interrupted")],
)
def test_how_a_loop_ended_is_noted(path, error, status):
    def loop() -> None:
        with Log(path) as log:
            log.write(1, rows(), loss=1.0)
            raise error

    with pytest.raises(type(error)):
        loop()
    run = Run(path)
    assert (run.status, run.meta["step"]) == (status, 1)
    assert run.meta.get("error") == ("ValueError: too bad" if status == "failed" else None)
    assert run.recorded_steps().tolist() == [1]


KILLED = """
import sys, time
from vgx.watch import log as log_module
log_module.SECONDS = -1.0
log = log_module.Log(sys.argv[1])
for step in range(1, 10**6):
    log.write(step, {"a": {"delta_log10": -1.0}, "b": {"delta_log10": -2.0}}, loss=1.0)
    print(step, flush=True)
"""


def test_a_kill_leaves_a_run_that_can_be_read_and_gone_on_with(path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    while int(process.stdout.readline()) < 20:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    run = Run(path)
    steps = run.metrics()["step"].to_pylist()
    assert run.status == "running"
    assert len(steps) >= 18
    assert steps == list(range(1, len(steps) + 1))
    assert len(run.layers()) in (2 * len(steps), 2 * len(steps) + 2)
    with Log(path, resume=True) as log:
        log.write(steps[-1] + 1, loss=2.0)
    assert Run(path).metrics()["step"].to_pylist() == [*steps, steps[-1] + 1]


def test_a_part_that_a_kill_left_out_of_the_list_goes(path):
    write(path)
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | {"status": "running"}))
    (path / "layers" / "000001.parquet").write_bytes((path / "layers" / "000000.parquet").read_bytes())
    Log(path, resume=True).close()
    assert Run(path).recorded_steps().tolist() == [1, 2, 3, 4, 5]
    assert len(list((path / "layers").iterdir())) == 1


def test_parts_are_written_while_the_loop_goes_on(path, monkeypatch):
    monkeypatch.setattr(log_module, "SECONDS", -1.0)
    log = Log(path)
    for step in range(4):
        log.write(step, rows(), loss=1.0)
    assert Run(path).metrics()["step"].to_pylist() == [0, 1, 2]  # the last step may get more yet
    assert (Run(path).status, Run(path).meta["step"]) == ("running", 2)
    log.close()
    assert Run(path).metrics()["step"].to_pylist() == [0, 1, 2, 3]


def test_a_damaged_list_of_layers_is_named(path):
    write(path)
    (path / "layers.parquet").write_bytes(b"no parquet")
    with pytest.raises(Damaged, match=r"layers\.parquet"):
        _ = Run(path).paths


def test_a_lost_list_of_layers_is_named(path):
    write(path)
    (path / "layers.parquet").unlink()
    with pytest.raises(Damaged, match=r"layers\.parquet: is missing"):
        _ = Run(path).paths


def test_a_damaged_meta_is_named(path):
    write(path)
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | {"first_not_finite": {"step": "x"}}))
    with pytest.raises(Damaged, match=r"meta.json: first_not_finite"):
        _ = Run(path).meta


def test_a_watched_run_is_removed_whole(path):
    write(path)
    assert remove(path) == []
    assert not path.exists()


def test_a_log_of_nothing_is_a_run(path):
    with Log(path):
        pass
    run = Run(path)
    assert (run.status, run.paths, len(run.metrics()), len(run.layers())) == ("done", [], 0, 0)
    assert run.lanes()["evidence"].to_pylist() == ["no gradient was recorded"]


def test_writing_a_log_loads_no_jax(path):
    script = (
        "import sys; from vgx import watch\n"
        f"with watch.Log({str(path)!r}) as log: log.write(1, {{'a': {{'delta_log10': -1}}}}, loss=1)\n"
        "assert not {'jax', 'flax', 'optax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Where NaN or infinity began.


def test_the_first_value_that_is_not_finite_is_named_by_step_layer_and_direction(tmp_path):
    generator = np.random.default_rng(0)
    for case in range(20):
        direction = ("forward", "backward")[case % 2]
        step, layer = int(generator.integers(0, 12)), int(generator.integers(0, len(PATHS)))
        with Log(tmp_path / f"case-{case}") as log:
            for t in range(15):
                measured = rows(forward_finite=True, gradient_finite=True)
                if t >= step:
                    # An overflow forward spreads upward and then to every gradient; one of a gradient spreads down.
                    for i, path in enumerate(PATHS):
                        measured[path]["forward_finite"] = not (direction == "forward" and (i >= layer or t > step))
                        measured[path]["gradient_finite"] = not (direction == "forward" or i <= layer or t > step)
                log.write(t, measured, loss=1.0)
        found = first_not_finite(Run(tmp_path / f"case-{case}"))
        assert found is not None
        assert (found.step, found.direction, found.layer) == (step, direction, layer + 1)
        assert not found.recovered
        [row] = Run(tmp_path / f"case-{case}").lanes().to_pylist()
        assert (row["status"], row["diverged_step"], row["diverged_layer"]) == ("diverged", step, layer + 1)
        assert f"NaN or infinity at step {step}, first in {PATHS[layer]}" in row["evidence"]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"act_rms": math.inf}, "forward"),
        ({"preact_std": math.nan}, "forward"),
        ({"delta_log10": math.inf}, "backward"),
        ({"weight_grad_log10": math.nan}, "backward"),
        ({"delta_log10": -math.inf}, None),
        ({"act_rms": 0.0}, None),
    ],
)
def test_without_flags_the_columns_tell(path, columns, found):
    with Log(path) as log:
        log.write(0, rows())
        log.write(1, rows() | {PATHS[3]: columns})
    noted = first_not_finite(Run(path))
    assert (noted and noted[:3]) == (found and (1, found, 4))


def test_a_step_that_is_left_out_does_not_make_a_run_diverge(path):
    with Log(path) as log:
        for t in range(10):
            log.write(t, rows(math.inf if t == 4 else -2.0), loss=math.inf if t == 4 else 1.0)
    noted = first_not_finite(Run(path))
    assert noted is not None
    assert noted.recovered
    assert (noted.step, noted.direction, noted.layer) == (4, "backward", 8)
    [row] = Run(path).lanes().to_pylist()
    assert (row["status"], row["verdict"]) == ("done", "healthy")


def test_a_loss_that_breaks_where_no_layer_is_recorded_is_told_apart(path):
    with Log(path) as log:
        for t in range(10):
            log.write(t, rows(-2.0 if t < 5 else math.nan) if t % 5 == 0 else None, loss=1.0 if t < 3 else math.nan)
    noted = first_not_finite(Run(path))
    assert noted is not None
    assert (noted.step, noted.direction, noted.layer, noted.loss_step) == (5, "backward", 8, 3)


def test_a_first_not_finite_step_is_on_the_disk_at_once(path):
    log = Log(path)
    log.write(0, rows(math.nan))
    log.write(1, rows(math.nan))
    assert json.loads((path / "meta.json").read_text())["first_not_finite"]["step"] == 0
    log.close()


def test_the_config_of_a_watched_run_is_plain_yaml(path):
    write(path, config={"layers": 4})
    assert yaml.safe_load((path / "config.yaml").read_text())["watched"] == {"layers": 4}


# Records of `watch.value_and_grad`.


@dataclasses.dataclass
class Watched:
    path: str
    type: str = "Linear"
    shape: tuple[int, ...] = (3, 4)


class Record:
    """As `vgx.watch.record` has it."""

    def __init__(self, value: float):
        self.layers = tuple(Watched(path) for path in PATHS)
        self.examples, self.value, self.read = 64, value, 0

    def rows(self):
        self.read += 1
        return {path: {"delta_log10": self.value, "forward_finite": True, "gradient_finite": True} for path in PATHS}

    def update_ratio(self, updates):
        return {PATHS[0]: updates}


def test_a_record_names_type_and_shape_and_is_read_when_the_next_step_comes(path):
    with Log(path) as log:
        first = Record(-1.0)
        log.write(1, first, loss=jnp.float32(2.0), updates=0.25)
        assert first.read == 0
        log.write(2, Record(-2.0))
        assert first.read == 1
    run = Run(path)
    assert run.named_layers[0] == (PATHS[0], "Linear", (3, 4))
    assert run.layers()["update_ratio"].to_pylist()[:2] == [0.25, None]
    assert run.layers()["delta_log10"].to_pylist()[::8] == [-1.0, -2.0]


def test_a_single_layer_is_no_hidden_one(tmp_path):
    with Log(tmp_path / "run") as log:
        for step in (1, 2):
            log.write(step, {"only": {"delta_log10": -1.0, "weight_grad_zero": 0.5, "dead": 0.2}}, loss=1.0)
    run = vgx.open_run(tmp_path / "run")
    assert (run.status, len(run.lanes())) == ("done", 1)
