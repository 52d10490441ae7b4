"""What `vgx show` draws: that what stands there is what was measured."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

from vgx.cli import app
from vgx.errors import RunError
from vgx.parts.activations import ACTIVATIONS
from vgx.report.terminal.bars import MARK, decades, picture, sparkline
from vgx.report.terminal.heatmap import HeatMap
from vgx.report.terminal.layer_rows import layer_table
from vgx.report.terminal.run import runs_table, show
from vgx.report.words import flat_share
from vgx.results.prediction import prediction_schema
from vgx.training.probes import SATURATED

STEPS = 12


def printed(renderable, width: int = 80, **console) -> str:
    drawn = Console(width=width, **({"color_system": None} | console))
    with drawn.capture() as capture:
        drawn.print(renderable)
    return capture.get()


def curves(depth: int, fall: float = 0.5) -> dict[str, np.ndarray]:
    """A gradient that falls by `fall` a layer, [STEPS, 1, L + 1]; units die from the bottom up, one layer a step."""
    delta = np.tile(np.arange(-depth, 1) * fall, (STEPS, 1, 1))
    dead = (np.arange(depth + 1) < np.arange(STEPS)[:, None]).astype(float)[:, None]
    return {
        "delta_log10": delta,
        "dead": dead,
        "update_ratio": 10.0 ** np.maximum(delta, -30),
        "act_rms": 1 + 0 * delta,
    }


def written(write_run, depth: int, **layers):
    settings = {"name": f"deep{depth}", "model": {"depth": depth, "width": 8}, "train": {"steps": STEPS}}
    return write_run(settings, curves(depth) | layers, {"train_loss": np.linspace(2, 1, STEPS)[:, None]})


@pytest.mark.parametrize("depth", [1, 20, 1000])
def test_any_depth_fits_80_columns(write_run, depth):
    text = printed(show(written(write_run, depth), over_steps=True))
    assert max(map(len, text.splitlines())) <= 80
    assert "|dloss/dh|, log scale, by layer and step" in text
    assert f"{depth if depth > 1 else 1:>9} ┤" in text
    assert len(text.splitlines()) < 50


def test_the_map_has_the_top_layer_above_and_time_to_the_right():
    values = np.array([[0, 1, 2, 3], [0, 1, 2, 9]])
    text = printed(HeatMap(values, "1234", ("step 1", "2"), log=False))
    assert [line[11:] for line in text.splitlines()[:4]] == ["░░░░████", "░░░░░░░░", "········", "········"]
    assert text.splitlines()[0].startswith("        4 ┤")
    assert text.splitlines()[3].startswith("        1 ┤")
    assert "0 ·░▒▓█ 9" in text


def test_what_is_no_number_has_its_own_mark_and_is_explained():
    values = np.array([[-np.inf, np.nan, np.inf, -3.0]])
    text = printed(HeatMap(values, "1234", ("step 1", ""), log=True))
    assert [line[11] for line in text.splitlines()[:4]] == ["█", "∞", "?", "0"]
    assert {"0 is 0", "∞ is infinite", "? is NaN, or not measured"} <= set(text.splitlines()[-1].split("   "))


def test_layers_that_share_a_line_show_the_lowest_of_logarithms_and_the_mean_of_others():
    values = np.tile(np.array([0.0, -9.0] * 8 + [0.0] * 16), (1, 1))
    log = printed(HeatMap(values, [str(i) for i in range(32)], ("", ""), log=True)).splitlines()
    mean = printed(HeatMap(values, [str(i) for i in range(32)], ("", ""), log=False)).splitlines()
    assert (log[0][11], log[7][11]) == ("█", "·")
    assert "-9 " in log[-1]
    assert "-4.5 " in mean[-1]


def test_colours_put_two_layers_on_a_line_and_NO_COLOR_has_shades(monkeypatch):
    values = np.arange(8.0).reshape(2, 4)
    drawn = HeatMap(values, "1234", ("step 1", "2"), log=False)
    coloured = printed(drawn, color_system="truecolor", force_terminal=True)
    assert coloured.count("▀") == 16  # 2 lines, 2 steps, 4 columns each
    assert "\x1b[38;2;253;231;37;" in coloured  # the highest is viridis's yellow
    monkeypatch.setenv("NO_COLOR", "1")
    grey = printed(drawn, color_system="truecolor", force_terminal=True)
    assert "▀" not in grey
    assert "█" in grey


def test_a_statistic_is_drawn_instead_of_the_gradient(write_run):
    run = written(write_run, 5)
    text = printed(show(run, statistic="dead", step=4, over_steps=True))
    assert "share of dead units, at step 4 by layer" in text
    bars = text.splitlines()[text.splitlines().index("share of dead units, at step 4 by layer") + 1]
    assert bars == "     100% ┤" + "█████ " * 3 + " " * 12  # at step 4 three layers are dead
    logs = printed(show(run, statistic="update_ratio"))
    assert "|step| / |W|, log scale, at step 12 by layer" in logs
    assert "-2.5" in logs


def test_a_layer_is_shown_over_the_steps(write_run):
    text = printed(show(written(write_run, 5), layer=3))
    dead = next(line for line in text.splitlines() if line.startswith("share of dead units"))
    assert dead.split() == ["share", "of", "dead", "units", "0", "▁▁▁█████████", "1", "0", "1"]
    assert "norm of W" not in text  # not measured
    at = printed(show(written(write_run, 4), layer=2, step=2))
    assert "step 2" in at
    one = printed(show(written(write_run, 3), layer=4, statistic="delta_log10"))
    assert "|dloss/dh|, log scale, of layer 4, steps 1 to 12" in one
    assert "1 at step 1, 1 at step 12" in one


def test_the_prediction_stands_over_the_gradient_from_the_readout_down(write_run):
    run = written(write_run, 4)
    rows = {"lane": [0] * 5, "layer": range(1, 6), "statistic": ["delta_log10"] * 5, "predicted": [-8.0, -6, -4, -2, 0]}
    rows |= {"band": [0.1] * 5}
    assert MARK not in printed(show(run, over_steps=True))
    parquet.write_table(pa.table(rows, schema=prediction_schema()), run.path / "prediction.parquet")
    lines = printed(show(run, over_steps=True)).splitlines()
    start = next(i for i, line in enumerate(lines) if "predicted at the start" in line)
    assert lines[start + 7].startswith("     1e-8 ┤" + MARK)  # the axis goes down to what theory says, not to -2


def test_bars_of_what_is_no_logarithm_stand_on_0():
    lines = picture(np.array([2.0, 4.0]), height=4, title="mean", log=False).plain.splitlines()
    assert [line[:14] for line in lines[1:5]] == [
        "        4 ┤   ",
        "          │   ",
        "          │███",
        "        0 ┤███",
    ]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--statistic", "ded"], "no statistic is called 'ded'; did you mean 'dead'?"),
        (["--statistic", "x"], "no statistic is called 'x'; there are: delta_log10, "),
        (["--statistic", "cosine"], "'cosine' was not measured; there are: delta_log10, update_ratio, act_rms, dead"),
        (["--layer", "9"], "has no layer 9; its layers are 1 to 3, and 4 is the readout"),
        (["--layer", "0"], "has no layer 0; its layers"),
        (["--layer", "1", "--statistic", "cosine"], "'cosine' was not measured"),
        (["--layer", "1", "--step", "40"], "has no layers at step 40; the nearest is 12"),
        (["--step", "40"], "has no layers at step 40; the nearest is 12"),
        (["--lane", "1"], "has no lane 1: it has 1, from 0"),
        (["--lane", "1", "--layer", "1"], "has no lane 1: it has 1, from 0"),
        (["--rows", "activation"], "--best-over are for the grid of a sweep alone"),
    ],
)
def test_what_is_not_there_gets_one_line(write_run, options, line):
    run = written(write_run, 3)
    with pytest.raises(RunError) as caught:
        app(["show", str(run.path), *options], standalone_mode=False)
    assert line in str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_long_name_in_the_list_of_runs_takes_no_letter_of_a_verdict(monkeypatch):
    row = ("batch-norm-elu-smoke-2de94ec0-4f53cda1", "done", "9/9 lanes", "vanishing", "-0.627", "0.1015")
    monkeypatch.setattr("vgx.report.terminal.run._run_row", lambda run: row)
    listed = printed(runs_table([None]))
    assert [word for word in row if word != "9/9 lanes" and word not in listed] == []


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_no_figure_of_the_layer_table_is_cut_however_narrow_the_terminal(write_run, width):
    ones = np.ones((1, 1, 4))
    layers = {name: -1.5 * ones for name in ("delta_log10", "weight_grad_log10", "preact_mean", "act_mean")}
    layers |= {name: 0.25 * ones for name in ("dead", "saturated", "cosine", "weight_grad_zero")}
    layers |= {name: 1e-5 * ones for name in ("update_ratio", "preact_std", "act_rms")}
    metrics = {"train_loss": np.ones((1, 1)), "test_accuracy": np.ones((1, 1))}
    run = write_run({"name": "wide", "model": {"depth": 3, "width": 4}}, layers, metrics)
    text = printed(layer_table(run.layers(), width), width)
    assert "…" not in text
    assert text.count("-1.50") == 2 * 4
    assert text.count("25%") == 3 * 4
    assert text.count("1e-05") == 3 * 4
    assert max(map(len, text.splitlines())) <= width
    assert [line.split()[0] for line in text.splitlines() if line.strip()].count("out") == text.count("layer")


def test_a_level_gradient_is_drawn_level_and_the_axis_says_its_values():
    noise = -1.3 + np.random.default_rng(0).uniform(-0.1, 0.1, 40)
    lines = picture(noise, 80, title="|dloss/dh|").plain.splitlines()[1:8]
    assert lines[0].startswith("      0.1 ┤")
    assert lines[-1].startswith("    0.001 ┤")
    full = [{char for char in line[11:51]} for line in lines]
    assert full[2:] == [{"█"}] * 5
    vanishing = picture(np.linspace(-12.6, -0.6, 40), 80).plain.splitlines()
    assert (vanishing[1][:9].strip(), vanishing[7][:9].strip()) == ("1", "1e-13")


def test_an_axis_that_is_drawn_again_grows_and_never_jumps_back():
    reach = None
    axes = []
    for top in (-0.5, -3.2, -4.9, -0.5):
        reach = decades(np.array([top - 0.3, top]), reach)
        axes.append(reach)
    assert axes == [(-2, 0), (-4, 0), (-6, 0), (-6, 0)]
    assert "1e-6" in picture(np.array([-0.3, -0.5]), reach=reach).plain


@pytest.mark.parametrize("log", [True, False])
def test_a_line_of_bars_of_what_hardly_changes_is_level_and_of_what_falls_is_not(log):
    assert len(set(sparkline(np.linspace(2.39, 2.31, 30), 10, log))) == 1
    assert sparkline(np.linspace(9.0, 0.1, 30), 3, log)[::2] == "█▁"


def test_the_share_of_flat_entries_that_is_called_normal_is_that_of_standard_normal_numbers():
    z = np.linspace(-8, 8, 4001)
    weight = np.exp(-z * z / 2)
    for kind in ACTIVATIONS:
        activation = kind()
        parameters = activation.parameters(1)

        def passes(h, activation=activation, parameters=parameters):
            return activation.evaluate(h[None, None], parameters)[0, 0]

        slope = np.abs(np.asarray(jax.vmap(jax.grad(passes))(jnp.array(z, jnp.float32))))
        share = float(weight[slope < SATURATED * activation.steepest].sum() / weight.sum())
        name = activation.model_dump()["name"]
        told = flat_share(activation.model_dump())
        assert told == pytest.approx(share, abs=0.01) if told else share < 0.05, name
    assert flat_share({"name": "leaky_relu", "negative_slope": 0.2}) == 0


def test_half_of_a_relu_layer_flat_is_said_to_be_normal(write_run):
    run = written(write_run, 3, saturated=np.full((STEPS, 1, 4), 0.57))
    assert "flat: next to no slope; about half of the entries is normal for relu" in printed(show(run))
    assert "satur" not in printed(layer_table(run.layers(), 80))
