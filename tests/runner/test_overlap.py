"""What goes on while the devices work: writing, compiling, theory. Held by making one side wait for the other."""

from __future__ import annotations

import os
import signal
from threading import Event, current_thread, main_thread

import pytest

import vgx
from vgx.results.writer import RunWriter
from vgx.runner import checkpoint, loop, preparation, rounds, sweeping
from vgx.runner.predictions import Predictions
from vgx.runner.stopping import Interrupted

SMALL = {
    "name": "small",
    "model": {"depth": 3, "width": 12},
    "train": {"batch_size": 16, "steps": 40, "evaluate_every": 40},
}
PATIENCE = 30.0
"""Seconds after which what should have gone on did not."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return vgx.train(vgx.load_config(SMALL), runs=tmp_path_factory.mktemp("whole"))


def short_chunks(monkeypatch) -> None:
    monkeypatch.setattr(loop, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)


def test_training_goes_on_while_a_part_is_written(whole, tmp_path, monkeypatch):
    short_chunks(monkeypatch)
    append, went_on, waited = RunWriter.append, Event(), []

    def slow(writer, *tables):
        if not waited:
            waited.append(went_on.wait(PATIENCE))
        append(writer, *tables)

    def watch(progress):
        if progress.step >= 20:
            went_on.set()

    monkeypatch.setattr(RunWriter, "append", slow)
    run = vgx.train(vgx.load_config(SMALL), runs=tmp_path, watch=watch)
    assert waited == [True]
    assert run.layers().equals(whole.layers())
    assert run.metrics().equals(whole.metrics())


def test_a_checkpoint_is_the_state_at_the_end_of_its_part_though_training_goes_on(whole, tmp_path, monkeypatch):
    """It is saved late, and then the run is stopped: from there it resumes to the same bits."""
    short_chunks(monkeypatch)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 1e9)  # with every part
    save, went_on, saved = checkpoint.save, Event(), []

    def late(folder, step, state):
        if not saved:
            went_on.wait(PATIENCE)
        save(folder, step, state)
        saved.append(step)

    def watch(progress):
        if progress.step >= 20 and not went_on.is_set():
            went_on.set()

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", late)
        # what comes after the first checkpoint is lost, as at a kill
        patch.setattr(loop, "_flush", _once(loop._flush))
        with pytest.raises(KeyError, match="killed"):
            vgx.train(vgx.load_config(SMALL), runs=tmp_path, watch=watch)
    assert saved
    assert saved[0] < 20
    resumed = vgx.train(vgx.load_config(SMALL), runs=tmp_path, resume=True)
    assert resumed.layers().equals(whole.layers())
    assert resumed.metrics().equals(whole.metrics())


def _once(flush):
    turns = []

    def flushing(*arguments, **options):
        turns.append(1)
        if len(turns) > 1:
            raise KeyError("killed")
        return flush(*arguments, **options)

    return flushing


def test_a_part_that_cannot_be_written_stops_the_training_soon(tmp_path, monkeypatch):
    short_chunks(monkeypatch)
    config = vgx.load_config(SMALL | {"train": SMALL["train"] | {"steps": 100_000, "evaluate_every": 100_000}})
    steps = []

    def broken(*_):
        raise KeyError("no")

    monkeypatch.setattr(RunWriter, "append", broken)
    with pytest.raises(KeyError, match="no"):
        vgx.train(config, runs=tmp_path, watch=lambda progress: steps.append(progress.step))
    assert steps[-1] < 50_000


def test_ctrl_c_waits_for_the_part_that_is_being_written(whole, tmp_path, monkeypatch):
    short_chunks(monkeypatch)
    append, turns = RunWriter.append, []

    def stopped(writer, *tables):
        turns.append(current_thread() is not main_thread())
        if len(turns) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        append(writer, *tables)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "append", stopped)
        with pytest.raises(Interrupted):
            vgx.train(vgx.load_config(SMALL), runs=tmp_path)
    assert all(turns)
    assert vgx.train(vgx.load_config(SMALL), runs=tmp_path, resume=True).layers().equals(whole.layers())


def test_the_next_program_and_theory_wait_until_the_devices_work(tmp_path, monkeypatch):
    moments = []

    def noting(owner, name, word):
        before = getattr(owner, name)

        def noted(*arguments, **options):
            moments.append(word(*arguments))
            return before(*arguments, **options)

        monkeypatch.setattr(owner, name, noted)

    noting(loop, "_dispatch", lambda *_: "step")
    noting(preparation, "_compiled", lambda shape, *_: f"compile {shape.program.config.model.activation.name}")
    noting(Predictions, "prepare", lambda *_: "theory")
    grid = SMALL | {"sweep": {"axes": {"model.activation": ["relu", "tanh", "elu"]}}}
    vgx.sweep(vgx.load_sweep(grid), runs=tmp_path)
    order = [moment for i, moment in enumerate(moments) if moment != "step" or moments[i - 1 : i] != ["step"]]
    first = [next(i for i, moment in enumerate(order) if moment == word) for word in ("step", "theory")]
    compiles = [moment for moment in moments if moment.startswith("compile")]
    assert compiles == ["compile relu", "compile tanh", "compile elu"]
    assert order[0] == "compile relu"
    assert order.index("compile tanh") > first[0]
    assert first[1] > first[0]
    assert moments.index("compile elu") < len(moments) - 1 - moments[::-1].index("step")


def test_a_sweep_keeps_the_newest_programs_alone(tmp_path, monkeypatch):
    sizes = []
    begin = sweeping.begin_compiling

    def noted(group, mesh, cache):
        compiling = begin(group, mesh, cache)
        sizes.append(len(cache.programs))
        return compiling

    monkeypatch.setattr(sweeping, "begin_compiling", noted)
    grid = SMALL | {"sweep": {"axes": {"model.activation": ["relu", "tanh", "elu", "logistic"]}}}
    assert vgx.sweep(vgx.load_sweep(grid), runs=tmp_path).status == "done"
    assert max(sizes) == 2


def test_the_table_of_lanes_is_rewritten_as_often_as_its_length_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "LANES_SHARE", 1e-9)
    write, turns = RunWriter.write_lanes, []

    def noted(writer, lanes):
        turns.append(lanes["status"].to_pylist())
        write(writer, lanes)

    monkeypatch.setattr(RunWriter, "write_lanes", noted)
    grid = SMALL | {"sweep": {"axes": {"model.activation": ["relu", "tanh", "elu"]}}}
    run = vgx.sweep(vgx.load_sweep(grid), runs=tmp_path)
    assert turns == [["pending"] * 3, ["done"] * 3]
    assert run.lanes()["status"].to_pylist() == ["done"] * 3


def test_a_sweep_that_is_stopped_begins_nothing_more_in_its_thread(tmp_path, monkeypatch):
    compiled, asked, threads = preparation._compiled, [], []
    blocked, stopped, release = Event(), Event(), Event()

    def slow(shape, data, held_out, thread, lowered):
        if shape.program.config.model.activation.name == "tanh":
            threads.append(thread)
            blocked.set()
            release.wait(PATIENCE)
        return compiled(shape, data, held_out, thread, lowered)

    def stop(progress):
        if blocked.is_set() and not stopped.is_set():
            stopped.set()
            os.kill(os.getpid(), signal.SIGINT)

    short_chunks(monkeypatch)
    monkeypatch.setattr(Predictions, "prepare", lambda *_: asked.append(1))
    monkeypatch.setattr(preparation, "_compiled", slow)
    long = SMALL | {"train": SMALL["train"] | {"steps": 100_000, "evaluate_every": 100_000}}
    grid = long | {"sweep": {"axes": {"model.activation": ["relu", "tanh"]}}}
    try:
        with pytest.raises(Interrupted):
            vgx.sweep(vgx.load_sweep(grid), runs=tmp_path, watch=stop)
    finally:
        release.set()
    threads[0].shutdown()
    assert asked == []
