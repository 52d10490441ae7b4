"""Nets side by side: that they part where and when they were made to, and nowhere else."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console
from scipy.stats import ttest_ind

import vgx
from vgx.cli import app
from vgx.config.schema import NO_NUMBERS
from vgx.errors import RunError
from vgx.report.terminal.comparison import comparison, to_json
from vgx.report.terminal.curves import curve_picture, divergence_map
from vgx.results.comparison import LEFT_OUT, MAX_GROUPS, compare, groups_of

STEPS = 40


def settings(name: str, depth: int = 10, **model) -> dict:
    return {"name": name, "model": {"depth": depth, "width": 8, **model}, "train": {"steps": STEPS}}


def noise(seeds: int, depth: int, draw: int, size: float = 0.1) -> np.ndarray:
    """A draw for each seed and layer, the same at all steps: what seeds of one net differ in, [STEPS, S, L + 1]."""
    return np.tile(size * np.random.default_rng(draw).normal(size=(1, seeds, depth + 1)), (STEPS, 1, 1))


def figures(seeds: int, loss: float = 1.0, accuracy: float = 0.9) -> dict[str, np.ndarray]:
    of_seed = np.linspace(0.9, 1.1, seeds)
    trajectory = np.ma.array(np.tile(accuracy * np.linspace(0.5, 1, STEPS)[:, None], (1, seeds)), mask=True)
    trajectory.mask[9::10] = False
    return {"train_loss": np.tile(loss * of_seed, (STEPS, 1)), "test_accuracy": trajectory}


def plain(renderable, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.fixture
def pair(write_run):
    """Two nets of 10 layers, 3 seeds each: the second falls by 3 decades in layers 1 to 4, from step 21 on."""
    delta = noise(3, 10, 1)
    fallen = noise(3, 10, 2)
    fallen[20:, :, :4] -= 3
    first = write_run(settings("level"), {"delta_log10": delta}, figures(3))
    second = write_run(settings("falls", activation="tanh"), {"delta_log10": fallen}, figures(3, 1.01, 0.6))
    return first, second


def test_curves_part_where_and_when_they_were_made_to(pair):
    compared = compare([one for run in pair for one in groups_of(run)])
    divergence = compared.divergences[0]
    assert divergence.by == "seeds"
    assert divergence.since.tolist() == [21] * 4 + [0] * 6
    assert divergence.difference[-1, :4] == pytest.approx(-3, abs=0.3)
    assert compared.loss_divergences[0].since.tolist() == [0]


def test_the_limit_is_students(pair):
    compared = compare([one for run in pair for one in groups_of(run)])
    divergence = compared.divergences[0]
    first, second = (run.layers()["delta_log10"].to_numpy().reshape(STEPS, 3, 11)[..., :10] for run in pair)
    p = ttest_ind(first, second, axis=1).pvalue
    np.testing.assert_array_equal(divergence.beyond, p < 0.05)


def test_seeds_alone_bring_equal_nets_apart_one_time_in_twenty(write_run):
    draw = np.random.default_rng(5)
    runs = [
        write_run(settings(name, 100), {"delta_log10": draw.normal(size=(STEPS, 3, 101))}, figures(3, loss))
        for name, loss in (("a", 1.0), ("b", 1.01))
    ]
    compared = compare([one for run in runs for one in groups_of(run)])
    assert compared.divergences[0].beyond.mean() == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / (STEPS * 100)))
    assert not compared.divergences[0].since.any()
    assert "no lasting difference" in plain(comparison(compared))


def test_layers_are_aligned_by_relative_depth(write_run):
    """Nets of 11 and 101 layers that fall by the same decades over their whole depth are the same curve."""
    runs = [
        write_run(
            settings(f"deep{depth}", depth),
            {"delta_log10": np.tile(np.append(np.linspace(-7, 0, depth), 0), (STEPS, 2, 1)) + noise(2, 0, 3)},
            figures(2),
        )
        for depth in (11, 101)
    ]
    compared = compare([one for run in runs for one in groups_of(run)])
    assert len(compared.positions) == 100
    np.testing.assert_allclose(compared.trajectories[0].mean, compared.trajectories[1].mean, atol=1e-6)
    assert not compared.divergences[0].beyond.any()
    assert "relative depth" in plain(comparison(compared))


def test_a_gradient_of_0_is_apart_from_any_other_and_from_none_of_its_kind(write_run):
    zero = noise(2, 4, 1)
    zero[:, :, 0] = -np.inf
    broken = zero.copy()
    broken[30:, :, 1] = np.nan
    runs = [
        write_run(settings(name, 4), {"delta_log10": delta}, figures(2))
        for name, delta in (("level", noise(2, 4, 1)), ("zero", zero), ("broken", broken))
    ]
    ones = [one for run in runs for one in groups_of(run)]
    assert compare(ones).divergences[0].since.tolist() == [1, 0, 0, 0]
    assert compare(ones).divergences[1].since.tolist() == [1, 31, 0, 0]
    assert compare(ones[1:]).divergences[0].since.tolist() == [0, 31, 0, 0]
    text = plain(comparison(compare(ones)))
    assert "        0 ┤B" in text
    assert "        ? ┤" in text
    said = json.dumps(to_json(compare(ones)), allow_nan=False)
    assert json.loads(said)["contenders"][2]["apart"] == {"since": [1, 31, 0, 0], "by": "seeds"}


def test_single_seeds_are_held_against_what_theory_knows_else_against_a_factor(write_run):
    curves = [np.zeros((STEPS, 1, 5)), np.full((STEPS, 1, 5), -0.5)]
    runs = [
        write_run(settings(f"one{i}", 4), {"delta_log10": curve}, figures(1, 1 + i)) for i, curve in enumerate(curves)
    ]
    ones = [one for run in runs for one in groups_of(run)]
    divergence = compare(ones).divergences[0]
    assert (divergence.by, divergence.since.tolist()) == ("a factor of 2", [1] * 4)
    assert divergence.limit[0, 0] == pytest.approx(math.log10(2))
    for run in runs:
        rows = {
            "lane": [0] * 5,
            "layer": range(1, 6),
            "statistic": ["delta_log10"] * 5,
            "band": [0.4, 0.3, 0.1, 0.05, 0],
        }
        schema = pa.schema({"lane": pa.int32(), "layer": pa.int32(), "statistic": pa.string(), "band": pa.float64()})
        parquet.write_table(pa.table(rows, schema=schema), run.path / "prediction.parquet")
    divergence = compare(ones).divergences[0]
    assert (divergence.by, divergence.since.tolist()) == (
        "theory",
        [0, 0, 1, 1],
    )  # 0.5 / (0.3 sqrt 2) is 1.18, less than 1.96


def test_the_configs_differ_in_what_was_changed_and_nothing_else(write_run):
    leaky = {"name": "leaky_relu", "negative_slope": 0.2}
    runs = [
        write_run(one, {"delta_log10": noise(2, 10, 1)}, figures(2))
        for one in (
            settings("a", initializer={"name": "he_normal", "gain": 2.0}),
            settings("b", activation=leaky, initializer={"name": "he_normal", "gain": 1.0}) | {"log": {"every": 2}},
        )
    ]
    compared = compare([one for run in runs for one in groups_of(run)])
    assert compared.differences == {
        "model.activation": ("relu", "{name: leaky_relu, negative_slope: 0.2}"),
        "model.initializer.gain": ("2", "1"),
    }


def test_what_leaves_a_run_the_same_is_no_difference():
    for section, options in NO_NUMBERS.items():
        paths = ["import" if section == "modules" else section]
        paths += [] if options is True else [f"{section}.{option}" for option in options]
        assert set(paths) & set(LEFT_OUT)


def test_accuracy_and_cost_stand_beside_it(pair):
    compared = compare([one for run in pair for one in groups_of(run)])
    assert compared.accuracy == pytest.approx(0.6)
    good, bad = compared.outcomes
    assert (good.reached, bad.reached) == (20, 40)  # 0.9 (0.5 + 0.5 t) is 0.6 at a third of the way, evaluated every 10
    assert good.seconds == 6.0
    assert good.test_accuracy.mean == pytest.approx(0.9)
    assert good.train_loss.spread == pytest.approx(0.1)


def test_the_terminal_says_all_of_it_in_80_columns(pair):
    text = plain(comparison(compare([one for run in pair for one in groups_of(run)])))
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert "B against A: diverge beyond the seeds' spread in layers 1-4 of 10, from step 21; most in layer" in words
    assert "model.activation relu tanh" in words
    assert "steps to 0.6000 20 40" in words
    assert "input ┤" + "·" * 20 + "-" * 20 in text
    assert "  top ┤" + "·" * 40 in text


def test_a_step_of_the_past_is_drawn_when_asked(pair):
    compared = compare([one for run in pair for one in groups_of(run)])
    assert "step 1; dots" in plain(comparison(compared, step=1))
    assert plain(comparison(compared, step=1)) != plain(comparison(compared))
    with pytest.raises(RunError, match="step 77 is none that is compared; the nearest is 40"):
        comparison(compared, step=77)


def test_the_picture_draws_letters_at_their_height():
    rows = curve_picture([(np.linspace(0, 10, 11), np.full(11, np.nan)), (np.full(11, 5.0), np.ones(11))], height=11)
    lines = [line[11:] for line in rows.plain.splitlines()[:11]]
    assert lines[0].rstrip().endswith("A")
    assert lines[10].startswith("A")
    assert lines[5].startswith("BB")
    assert lines[4].startswith("··")


def test_the_map_tells_above_from_below():
    apart = np.zeros((10, 4), bool)
    apart[5:, 0] = apart[:5, 3] = True
    difference = np.where(np.arange(4) == 3, 1.0, -1.0) * np.ones((10, 4))
    lines = [line[11:] for line in divergence_map(difference, apart, "1", "10").plain.splitlines()[:4]]
    assert lines == ["+++++·····", "··········", "··········", "·····-----"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--statistic", "delta"], "no statistic is called 'delta'; did you mean"),
        (["--statistic", "cosine"], "'cosine' was not measured (log.statistics: standard)"),
        (["--step", "70"], "step 70 is none that is compared; the nearest is 40"),
        (["--where", "activation=tanh"], "none of these runs is a sweep; leave it out"),
        (["nothing"], "nothing: does not exist"),
    ],
)
def test_a_comparison_that_cannot_be_made_gets_one_line(pair, arguments, line):
    command = ["compare", *[str(run.path) for run in pair], *arguments]
    with pytest.raises(vgx.VgxError) as caught:
        app(command, standalone_mode=False)
    assert line in str(caught.value)
    assert caught.value.exit_code == 2


def test_one_run_twice_and_more_than_can_be_drawn_are_refused(pair):
    ones = [one for run in pair for one in groups_of(run)]
    with pytest.raises(RunError, match="given twice"):
        compare([*ones, ones[0]])
    with pytest.raises(RunError, match=f"{MAX_GROUPS} are the most"):
        compare(ones * 5)


def test_without_layers_the_outcomes_are_compared(write_run, list_parts):
    runs = [
        write_run(settings(name) | {"log": {"statistics": "none"}}, {}, figures(2, loss))
        for name, loss in (("a", 1.0), ("b", 4.0))
    ]
    for run in runs:
        for part in (run.path / "layers").iterdir():
            part.unlink()
        list_parts(run)
    compared = compare([one for run in runs for one in groups_of(run)])
    assert (compared.trajectories, compared.divergences) == ((), ())
    assert "no layer is recorded; the training losses diverge at step 1" in " ".join(
        plain(comparison(compared)).split()
    )
