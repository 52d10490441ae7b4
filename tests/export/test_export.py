"""A run in other tools' formats, read back by those tools."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import sys
import zlib

import numpy as np
import pyarrow.compute as pc
import pytest
from pyarrow import csv, parquet
from typer.testing import CliRunner

import vgx
from vgx.cli import app
from vgx.errors import EnvironmentFault, RunError, install
from vgx.export import LAYERS, MARK, export
from vgx.export.colormap import NONFINITE, viridis
from vgx.export.series import by_step, series_of
from vgx.results.verdict import slope_of
from vgx.runner import loop

STEPS = 12


@pytest.fixture
def odd_run(write_run):
    """Two seeds, 3 layers; a gradient of 0 in layer 1, a NaN in layer 2 at the end, a test loss at every third step."""
    draw = np.random.default_rng(1)
    delta = draw.normal(size=(STEPS, 2, 4))
    delta[:, :, 0] = -np.inf
    delta[-1, :, 1] = np.nan
    test = np.ma.array(draw.uniform(size=(STEPS, 2)), mask=True)
    test.mask[2::3] = False
    settings = {"name": "odd", "model": {"depth": 3, "width": 8}, "train": {"steps": STEPS}}
    return write_run(settings, {"delta_log10": delta}, {"train_loss": draw.uniform(size=(STEPS, 2)), "test_loss": test})


def events_of(folder):
    """What TensorBoard itself reads of a folder."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    # 0 keeps every event; by default TensorBoard draws a sample.
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return events.Reload()


def scalar(events, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in events.Scalars(tag)}


def test_tensorboard_reads_every_number_and_finds_nothing_where_nothing_was_measured(odd_run, tmp_path):
    path = export(odd_run, "tensorboard", tmp_path / "tb")
    assert sorted(x.name for x in path.iterdir()) == [MARK, "lane-0000-seed-0", "lane-0001-seed-1"]
    events = events_of(path / "lane-0001-seed-1")
    mine = pc.field("lane") == 1
    metrics, layers = odd_run.metrics(where=mine), odd_run.layers(where=mine)
    assert scalar(events, "loss/train") == dict(enumerate(metrics["train_loss"].to_pylist(), 1))
    assert list(scalar(events, "loss/test")) == [3, 6, 9, 12]
    for layer, name in ((1, "layer_1"), (2, "layer_2"), (4, "readout")):
        found = list(scalar(events, f"delta_log10/{name}").values())
        np.testing.assert_array_equal(found, layers.filter(pc.field("layer") == layer)["delta_log10"].to_numpy())
    assert set(scalar(events, "delta_log10/layer_1").values()) == {-math.inf}
    assert math.isnan(scalar(events, "delta_log10/layer_2")[12])
    assert "dead/layer_1" not in events.Tags()["scalars"]


def test_the_picture_is_a_png_of_the_gradient_with_the_top_layer_above(odd_run, tmp_path):
    events = events_of(export(odd_run, "tensorboard", tmp_path / "tb") / "lane-0000-seed-0")
    (image,) = events.Images("gradient/delta_log10")
    assert image.step == 12
    data = image.encoded_image_string
    width, height = struct.unpack(">II", data[16:24])
    body = data[data.index(b"IDAT") + 4 :]
    rows = (
        np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + 3 * width)[:, 1:].reshape(height, width, 3)
    )
    delta = odd_run.layers(where=pc.field("lane") == 0)["delta_log10"].to_numpy().reshape(STEPS, 4)[:, :3]
    finite = delta[np.isfinite(delta)]
    colours = viridis(delta, finite.min(), finite.max())
    np.testing.assert_array_equal(rows[0, 0], colours[0, 2])
    np.testing.assert_array_equal(rows[-1, 0], NONFINITE["0"])
    np.testing.assert_array_equal(rows[height // 2, -1], NONFINITE["?"])


def test_a_thousand_layers_are_a_few_curves_unless_asked(write_run, tmp_path):
    settings = {"name": "deep", "model": {"depth": 1000, "width": 2}, "train": {"steps": 2}}
    fall = np.tile(np.arange(-1000, 1) * 0.5, (2, 1, 1))
    run = write_run(settings, {"delta_log10": fall}, {"train_loss": np.ones((2, 1))})
    events = events_of(export(run, "tensorboard", tmp_path / "few") / "lane-0000-seed-0")
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("delta_log10/")]
    assert len(tags) == LAYERS + 1
    assert {"delta_log10/layer_0001", "delta_log10/layer_1000", "delta_log10/readout"} <= set(tags)
    assert scalar(events, "gradient/slope") == pytest.approx({1: -0.5, 2: -0.5})
    more = events_of(export(run, "tensorboard", tmp_path / "more", layers=20) / "lane-0000-seed-0")
    assert len([tag for tag in more.Tags()["scalars"] if tag.startswith("delta_log10/")]) == 21


def test_the_slope_is_the_verdicts(odd_run):
    mine = pc.field("lane") == 0
    (slope,) = (
        one for one in series_of(odd_run.metrics(where=mine), odd_run.layers(where=mine), 8) if "slope" in one.tag
    )
    delta = odd_run.layers(where=mine)["delta_log10"].to_numpy().reshape(STEPS, 4)[:, :3]
    expected = [slope_of(row) for row in delta]
    np.testing.assert_allclose(slope.values, expected[:-1])  # at the last step one layer is finite: no slope
    assert list(dict(by_step([slope]))) == list(range(1, STEPS))


def test_csv_keeps_nan_infinity_and_null_apart(odd_run, tmp_path):
    path = export(odd_run, "csv", tmp_path / "csv")
    # pandas takes an empty field and `nan` for the same; pyarrow can be told not to.
    for name, table in (("layers", odd_run.layers()), ("metrics", odd_run.metrics())):
        types = {field.name: field.type for field in table.schema}
        again = csv.read_csv(
            path / f"{name}.csv", convert_options=csv.ConvertOptions(null_values=[""], column_types=types)
        )
        for column in table.column_names:
            assert again[column].is_null().equals(table[column].is_null())
            np.testing.assert_array_equal(again[column].to_numpy(), table[column].to_numpy())
    lanes = csv.read_csv(path / "lanes.csv").to_pylist()
    assert [(lane["seed"], lane["verdict"]) for lane in lanes] == [(0, "healthy"), (1, "healthy")]
    assert (path / "config.yaml").read_text() == (odd_run.path / "config.yaml").read_text()


def test_npz_has_the_tables_as_arrays(odd_run, tmp_path):
    arrays = np.load(export(odd_run, "npz", tmp_path / "run.npz"))
    delta = odd_run.layers()["delta_log10"].to_numpy().reshape(STEPS, 2, 4).swapaxes(0, 1)
    np.testing.assert_array_equal(arrays["layers.delta_log10"], delta)
    assert "null.layers.delta_log10" not in arrays  # the NaN in it was measured
    unknown = arrays["null.metrics.test_loss"]
    assert unknown.shape == (2, STEPS)
    assert not unknown[:, 2::3].any()
    assert unknown.sum() == 2 * 8
    assert np.isnan(arrays["metrics.test_loss"][unknown]).all()
    assert "layers.dead" not in arrays
    assert arrays["lanes.verdict"].tolist() == ["healthy", "healthy"]
    assert json.loads(str(arrays["config"]))["model"]["depth"] == 3


def test_npz_pads_lanes_that_ended_early(write_run, list_parts, tmp_path):
    run = write_run(
        {"name": "short", "model": {"depth": 2, "width": 8}},
        {"delta_log10": np.zeros((4, 2, 3))},
        {"train_loss": np.ones((4, 2))},
    )
    part = run.path / "metrics" / "000000.parquet"
    table = run.metrics(where=(pc.field("lane") == 0) | (pc.field("step") < 3))
    parquet.write_table(table, part)
    list_parts(run)
    arrays = np.load(export(run, "npz"))
    assert arrays["null.metrics.train_loss"].tolist() == [[False] * 4, [False, False, True, True]]


def test_an_export_is_replaced_only_when_told_and_only_if_it_is_one(odd_run, tmp_path):
    path = export(odd_run, "csv")
    assert path == odd_run.path / "exports" / "csv"
    with pytest.raises(RunError, match="is there already; overwrite=True replaces it"):
        export(odd_run, "csv")
    (path / "metrics.csv").write_text("")
    export(odd_run, "csv", overwrite=True)
    assert (path / "metrics.csv").stat().st_size > 0
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    for to, output in (("csv", mine), ("npz", mine / "letter.txt"), ("npz", mine)):
        with pytest.raises(RunError, match="is there, and no export of vgx; choose another output"):
            export(odd_run, to, output, overwrite=True)
    assert (mine / "letter.txt").read_text() == "dear"
    assert [x.name for x in (odd_run.path / "exports").iterdir()] == ["csv"]  # no draft is left


def test_an_export_that_fails_leaves_nothing(odd_run, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "savez_compressed", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(EnvironmentFault, match="No space left"):
        export(odd_run, "npz", tmp_path / "out" / "run.npz")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("to", "module"), [("tensorboard", "tensorboardX"), ("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_missing_library_is_named_with_what_to_install(odd_run, to, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(EnvironmentFault) as caught:
        app(["export", str(odd_run.path), "--to", to], standalone_mode=False)
    assert str(caught.value) == f"{module} is not installed: {install(to)}"
    assert caught.value.exit_code == 4
    assert not (odd_run.path / "exports" / to).exists()


def test_layers_are_not_asked_of_a_format_that_has_them_all(odd_run):
    with pytest.raises(RunError, match="layers: csv has every layer; leave it out"):
        app(["export", str(odd_run.path), "--to", "csv", "--layers", "3"], standalone_mode=False)


LIVE = {
    "name": "live",
    "model": {"depth": 2, "width": 8},
    "train": {"batch_size": 16, "steps": 24, "evaluate_every": 20},
    "log": {"every": 2, "tensorboard": True},
}


def test_events_are_written_while_it_trains_and_a_resumed_run_has_each_once(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    monkeypatch.setattr(loop, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1e-6)
    config = vgx.load_config(LIVE)
    path = tmp_path / f"{config.name}-{config.digest}"
    seen = []

    def watch(progress) -> None:
        if progress.phase == "training" and path.exists() and not seen:
            events = events_of(path / "tensorboard" / "lane-0000-seed-0")
            if "loss/train" in events.Tags()["scalars"]:
                seen.append(max(scalar(events, "loss/train")))
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(loop.Interrupted):
        vgx.train(config, runs=tmp_path, watch=watch)
    assert 0 < seen[0] < 24
    monkeypatch.undo()
    run = vgx.train(config, runs=tmp_path, resume=True)
    events = events_of(path / "tensorboard" / "lane-0000-seed-0")
    exported = events_of(export(run, "tensorboard") / "lane-0000-seed-0")
    assert events.Tags()["scalars"] == exported.Tags()["scalars"]
    for tag in exported.Tags()["scalars"]:
        assert [(e.step, e.value) for e in events.Scalars(tag)] == [(e.step, e.value) for e in exported.Scalars(tag)], (
            tag
        )
    assert len(events.Scalars("loss/train")) == 24
    assert len(events.Scalars("delta_log10/layer_1")) == 12
    assert [image.step for image in events.Images("gradient/delta_log10")] == [23]


def test_event_files_are_no_other_run():
    plain = vgx.load_config(LIVE, ["log.tensorboard=false"])
    assert vgx.load_config(LIVE).digest == plain.digest
    assert vgx.load_config(LIVE, ["log.every=3"]).digest != plain.digest


def test_events_that_cannot_be_written_are_refused_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(EnvironmentFault, match=r"is not installed: .* -m pip install .*'tensorboardx>=2.6'"):
        vgx.train(vgx.load_config(LIVE), runs=tmp_path)
    with pytest.raises(EnvironmentFault, match="tensorboardX is not installed"):
        vgx.sweep(vgx.load_sweep(LIVE | {"sweep": {"axes": {"model.depth": [1, 2]}}}), runs=tmp_path)
    assert list(tmp_path.iterdir()) == []


def wandb_records(path):
    """The records of an offline run: a LevelDB log of protocol buffers, after 7 bytes of header."""
    record = pytest.importorskip("wandb.proto.wandb_internal_pb2").Record
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record.FromString(whole)
            whole = b""


@pytest.mark.slow
def test_wandb_offline_runs_hold_every_number(odd_run, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install -e '.[exports]'")
    path = export(odd_run, "wandb", tmp_path / "wandb")
    files = sorted(path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    records = list(wandb_records(files[1]))
    history = [
        {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    mine = pc.field("lane") == 1
    assert [row["loss/train"] for row in history] == odd_run.metrics(where=mine)["train_loss"].to_pylist()
    assert [row["_step"] for row in history if "loss/test" in row] == [3, 6, 9, 12]
    assert {str(row["delta_log10/layer_1"]) for row in history} <= {"-inf", "-Infinity"}
    assert str(history[-1]["delta_log10/layer_2"]).lower() == "nan"
    (begun,) = (record.run for record in records if record.HasField("run"))
    assert (begun.run_group, begun.display_name) == (odd_run.path.name, "odd lane-0001-seed-1")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own making
def test_mlflow_holds_every_number_an_infinity_as_the_largest_double(odd_run, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: pip install -e '.[exports]'")
    path = export(odd_run, "mlflow", tmp_path / "mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(odd_run.path.name)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    one = runs["lane-0001-seed-1"]

    def values(tag: str) -> dict[int, float]:
        return {metric.step: metric.value for metric in client.get_metric_history(one.info.run_id, tag)}

    mine = pc.field("lane") == 1
    assert values("loss/train") == dict(enumerate(odd_run.metrics(where=mine)["train_loss"].to_pylist(), 1))
    assert list(values("loss/test")) == [3, 6, 9, 12]
    assert set(values("delta_log10/layer_1").values()) == {-sys.float_info.max}
    assert math.isnan(values("delta_log10/layer_2")[12])
    assert (one.data.params["model.depth"], one.data.params["seed"]) == ("3", "1")
    assert one.data.tags["vgx.results.verdict"] == "healthy"


def test_the_command_prints_where_it_wrote(odd_run, tmp_path):
    done = CliRunner().invoke(app, ["export", str(odd_run.path), "--to", "npz", "--output", str(tmp_path / "x.npz")])
    assert done.stdout.split() == [str(tmp_path / "x.npz")]
