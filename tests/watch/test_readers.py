"""What reads runs reads watched ones, by the names of their layers, and leaves out what was not measured."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import vgx.cli
from vgx.errors import RunError
from vgx.results.nonfinite import first_not_finite
from vgx.results.store import Run
from vgx.results.verdict import Places
from vgx.watch.log import Log

BLOCKS = 6
PATHS = ["embed", *(f"blocks.{i}.{role}" for i in range(BLOCKS) for role in ("attn", "mlp.up")), "head"]


def write(path: Path, slope: float = 0.0, paths=PATHS, column: str = "delta_log10", steps: int = 8, **config) -> Run:
    with Log(path, config) as log:
        for step in range(steps):
            rows = {name: {column: slope * (i - len(paths)) - step / 100} for i, name in enumerate(paths)}
            log.write(step, rows if step % 2 == 0 else None, loss=1 / (step + 1), learning_rate=0.1)
    return Run(path)


def printed(*words: str, code: int = 0, width: int = 100) -> str:
    done = CliRunner().invoke(vgx.cli.app, list(words), env={"COLUMNS": str(width)})
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("width", [80, 140])
def test_show_names_layers_block_by_block(tmp_path, width):
    write(tmp_path / "net", 0.4, layers=6, optimizer={"name": "adam", "rate": 0.1})
    text = printed("show", str(tmp_path / "net"), width=width)
    assert "net  layers 6, optimizer adam 0.1" in text
    assert "14 layers watched" in text
    assert re.search(r"^blocks\.0 *\n  attn +-5\.26 *\n  mlp\.up +-4\.86 *$", text, re.MULTILINE)
    assert re.search(r"^head +-0\.46", text, re.MULTILINE)
    assert "zeros" not in text  # was not measured
    assert "vanishing: the gradient shrinks on its way down; in all 2 block paths, most along blocks.*." in " ".join(
        text.split()
    )
    assert max(map(len, text.splitlines())) <= width


def test_show_takes_a_layer_by_its_path(tmp_path):
    write(tmp_path / "net")
    assert "blocks.3.mlp.up" in printed("show", str(tmp_path / "net"), "--layer", "3.mlp.up")
    assert "embed, steps 0 to 6" in printed("show", str(tmp_path / "net"), "--layer", "1")
    failed = CliRunner().invoke(vgx.cli.app, ["show", str(tmp_path / "net"), "--layer", "blocks.3.mlp.pu"])
    assert isinstance(failed.exception, RunError)
    assert "did you mean 'blocks.3.mlp.up'" in str(failed.exception)


def test_show_leaves_blocks_out_of_deep_nets(tmp_path):
    paths = [f"decoder.layers.{i}.{role}" for i in range(40) for role in ("q", "k", "v", "out")]
    write(tmp_path / "net", paths=paths)
    text = printed("show", str(tmp_path / "net"))
    assert re.findall(r"^layers\.(\d+) *$", text, re.MULTILINE) == ["0", "13", "26", "39"]
    assert "16 of 160 layers; --layer PATH shows another" in text


def test_a_net_of_one_layer_and_a_run_without_gradients_are_shown(tmp_path):
    write(tmp_path / "one", paths=["tap"])
    assert "tap" in printed("show", str(tmp_path / "one"))
    write(tmp_path / "other", column="act_rms")
    text = printed("show", str(tmp_path / "other"))
    assert "activation rms, at step 6 by layer" in text
    assert "no gradient was recorded" in text


def test_weights_gradients_stand_in_where_no_other_was_measured(tmp_path):
    write(tmp_path / "net", 0.5, column="weight_grad_log10")
    [row] = Run(tmp_path / "net").lanes().to_pylist()
    assert row["verdict"] == "vanishing"
    assert row["evidence"].startswith("by the weights' gradients, the gradient shrinks")


def test_a_run_that_goes_on_is_shown(tmp_path):
    log = Log(tmp_path / "net")
    assert "nothing is written yet" in printed("show", str(tmp_path / "net"))
    log.write(0, {"a": {"delta_log10": 0.0}}, test_loss=1.0)
    log.close()
    printed("report", str(tmp_path / "net"))


def test_runs_lists_a_watched_run(tmp_path):
    write(tmp_path / "net", 0.5)
    assert re.search(r"net +done +7 +vanishing +-1\.000", printed("runs", "--runs", str(tmp_path)))
    [run] = json.loads(printed("runs", "--json", "--runs", str(tmp_path)))["runs"]
    assert (run["name"], run["verdicts"]) == ("net", {"vanishing": 1})


def page_of(run: Path) -> tuple[str, dict]:
    html = (run / "report.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    return html, json.loads(found[1])


def test_the_page_has_names_and_nothing_of_theory(tmp_path):
    write(tmp_path / "net", 0.4)
    printed("report", str(tmp_path / "net"))
    html, data = page_of(tmp_path / "net")
    assert data["named"] is True
    assert [place["place"] for place in data["axes"][0]["layers"]] == PATHS
    assert "predicted, at initialization" not in html
    assert "the readout is at the top" not in html
    assert "matrix products None" not in html
    assert "passed on by a block" in html
    assert "blocks.0" in re.search(r'"labelExpr": ?"(\{.*?\})\[datum', html)[1]  # pyright: ignore[reportOptionalSubscript]


def test_the_page_of_a_run_without_gradients_is_drawn(tmp_path):
    write(tmp_path / "net", column="act_rms")
    printed("report", str(tmp_path / "net"))
    html, data = page_of(tmp_path / "net")
    assert list(data["statistics"]) == ["act_rms"]
    assert "standard deviation of h" not in html.split('id="specs"')[1].split("</script>")[0]


def test_the_index_has_watched_runs_and_vgx_s_own(tmp_path, write_run):
    steps = np.ones((2, 1))
    write_run({"name": "own", "train": {"steps": 2}}, {"delta_log10": np.ones((2, 1, 21))}, {"train_loss": steps})
    write(tmp_path / "net", layers=3)
    printed("report", "--all", "--runs", str(tmp_path), "-o", str(tmp_path / "index"))
    assert {"index.html", "net.html"} <= {path.name for path in (tmp_path / "index").iterdir()}


def test_compare_aligns_layers_by_path(tmp_path):
    write(tmp_path / "a", layers=6, rate=0.1)
    write(tmp_path / "b", 0.5, paths=[path for path in PATHS if path != "head"] + ["lm_head"], layers=6, rate=0.2)
    text = printed("compare", str(tmp_path / "a"), str(tmp_path / "b")).replace("\n", " ")
    assert re.search(r"rate +0\.1 +0\.2", text)
    assert "only a has head" in text
    assert "only b has lm_head" in text
    compared = json.loads(printed("compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"))
    assert compared["paths"] == PATHS[:-1]
    assert [one["alone"] for one in compared["contenders"]] == [["head"], ["lm_head"]]
    printed("compare", str(tmp_path / "a"), str(tmp_path / "b"), "--html", str(tmp_path / "both.html"))
    html = (tmp_path / "both.html").read_text()
    assert "aligned by path" in html
    assert "Only a has head." in html


def test_a_difference_in_a_layer_is_told_by_its_path(tmp_path):
    write(tmp_path / "a")
    with Log(tmp_path / "b") as log:
        for step in range(0, 8, 2):
            rows = {path: {"delta_log10": -step / 100} for path in reversed(PATHS)}
            rows["blocks.3.mlp.up"]["delta_log10"] -= 1.0
            log.write(step, rows, loss=1.0)
    text = printed("compare", str(tmp_path / "a"), str(tmp_path / "b"), width=200)
    assert "in blocks.3.mlp.up, from step 1; most in blocks.3.mlp.up (-1)" in text


def test_nets_of_other_paths_are_compared_by_depth(tmp_path, write_run):
    write(tmp_path / "a")
    write(tmp_path / "b", paths=["x", "y"])
    assert "no layer has the same path in all" in printed("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    own = write_run(
        {"name": "own", "train": {"steps": 2}}, {"delta_log10": np.ones((2, 1, 21))}, {"train_loss": np.ones((2, 1))}
    )
    assert "by relative depth" in printed("compare", str(tmp_path / "a"), str(own.path))


@pytest.mark.parametrize("to", ["csv", "npz", "tensorboard"])
def test_a_watched_run_is_exported_with_its_names(tmp_path, to):
    run = write(tmp_path / "net")
    where = Path(printed("export", str(run.path), "--to", to).strip())
    if to == "csv":
        rows = list(csv.DictReader((where / "layer_names.csv").read_text().splitlines()))
        assert [row["path"] for row in rows] == PATHS
    if to == "npz":
        assert np.load(where)["layers.path"].tolist() == PATHS


def test_curves_of_trackers_have_paths(tmp_path):
    from vgx.export.series import series_of

    run = write(tmp_path / "net")
    tags = [one.tag for one in series_of(run.metrics(), run.layers(), 3, run.paths)]
    assert [tag for tag in tags if tag.startswith("delta_log10")] == [
        "delta_log10/embed",
        "delta_log10/blocks.2.mlp.up",
        "delta_log10/blocks.5.mlp.up",
        "delta_log10/head",
    ]


def test_a_watched_config_is_no_config_to_train(tmp_path):
    run = write(tmp_path / "net")
    failed = CliRunner().invoke(vgx.cli.app, ["check", str(run.path / "config.yaml")])
    assert failed.exit_code != 0
    assert "Traceback" not in failed.output


def test_python_shows_a_watched_run(tmp_path):
    run = vgx.open_run(write(tmp_path / "net", 0.5).path)
    assert run.verdict == "vanishing"
    assert "net" in repr(run)
    assert "vanishing" in run._repr_html_()


def test_strange_paths_and_configs_are_shown_as_they_are(tmp_path):
    paths = ["a</script><b>", "it's.0.x", 'say "h".1', "[bold]x", "{name: y"]
    write(tmp_path / "net", paths=paths, text="two\nlines \x1b[31m", part="{name: [", end="[/bold]")
    text = printed("show", str(tmp_path / "net"))
    assert "[bold]x" in text
    assert "\x1b[31m" not in text
    printed("report", str(tmp_path / "net"))
    html, data = page_of(tmp_path / "net")
    assert [place["place"] for place in data["axes"][0]["layers"]] == paths
    assert "</script><b>" not in html


# Where NaN or infinity began, in both kinds of runs.


def test_show_and_page_say_where_nan_began_in_a_watched_run(tmp_path):
    with Log(tmp_path / "net") as log:
        for step in range(6):
            rows = {path: {"delta_log10": -1.0, "act_rms": 1.0} for path in PATHS}
            if step >= 4:
                rows["blocks.2.attn"]["act_rms"] = math.inf
            log.write(step, rows, loss=1.0)
    said = "First not finite: step 4, forward, blocks.2.attn."
    assert said in printed("show", str(tmp_path / "net"))
    printed("report", str(tmp_path / "net"))
    assert said in (tmp_path / "net" / "report.html").read_text()


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"act_rms": (2, 6, math.inf)}, (3, "forward", 7)),
        ({"preact_std": (2, 6, math.nan)}, (3, "forward", 7)),
        ({"delta_log10": (2, 6, math.inf)}, (3, "backward", 7)),
        ({"delta_log10": (2, 6, -math.inf)}, None),  # an honest 0
    ],
)
def test_vgx_s_own_runs_say_where_nan_began(write_run, columns, expected):
    layers = {name: np.ones((5, 1, 21)) for name in ("act_rms", "preact_std", "delta_log10")}
    for name, (step, layer, value) in columns.items():
        # Forward it spreads to the layers above, backward to those below.
        layers[name][step:, :, slice(layer, None) if name != "delta_log10" else slice(0, layer + 1)] = value
    loss = np.ones((5, 1))
    loss[2:] = math.nan if expected else 1.0
    run = write_run({"name": "own", "train": {"steps": 5}}, layers, {"train_loss": loss})
    found = first_not_finite(run)
    assert (found and found[:3]) == expected
    text = printed("show", str(run.path))
    if found:
        said = f"First not finite: step 3, {found.direction}, layer 7."
        assert said == found.sentence(Places())
        assert said in text
        printed("report", str(run.path))
        assert said in (run.path / "report.html").read_text()
    else:
        assert "First not finite" not in text


def test_a_loss_that_breaks_between_records_is_told_with_the_first_layers(write_run):
    layers, loss = np.ones((2, 1, 21)), np.ones((2, 1))
    layers[1] = math.nan
    run = write_run(
        {"name": "own", "train": {"steps": 20}},
        {"delta_log10": layers},
        {"train_loss": loss * [[1], [math.nan]]},
        [4, 12],
    )
    assert first_not_finite(run) == (12, "backward", 21, None, False)
