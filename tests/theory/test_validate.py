"""`vgx verify`: theory held against nets, and what leaves its band."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from vgx.cli import app
from vgx.errors import ConfigError
from vgx.parts import ACTIVATIONS, INITIALIZERS
from vgx.parts.activations import Activation
from vgx.parts.initializers import Initializer
from vgx.registry import temporary
from vgx.theory.validate import PLAIN, Ensemble, Validation, axes_of, drawn_curves, expected_curves, verify

SMALL = ["--width", "128", "--depth", "8", "--nets", "2", "--batch", "64"]


@pytest.fixture
def registered():
    """Registries that forget what a test registers."""
    with temporary():
        yield


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify", *arguments])
    return result.exit_code, result.stdout


@pytest.mark.slow
def test_theory_holds_for_a_part_of_a_users_own_and_for_lsuv(registered):
    @ACTIVATIONS.register("kinked")
    class Kinked(Activation):
        """Steeper above one."""

        kinks = (1.0,)

        def __call__(self, h):
            return jnp.where(h > 1, 2 * h - 1, h)

    axes = ["--axis", "activation=kinked", "--axis", "initializer=he_normal,lsuv", "--axis", "normalization=layer"]
    code, text = run(*axes, *SMALL, "--json")
    checks = json.loads(text)["checks"]
    assert (code, len(checks)) == (0, 2)
    assert all(check["holds"] for check in checks)
    assert {check["activation"]["name"] for check in checks} == {"kinked"}


def test_an_initializer_that_misstates_its_variance_is_found_out(registered):
    @INITIALIZERS.register("liar")
    class Liar(Initializer):
        """Says 1 / n_in and draws twice that."""

        def __call__(self, key, shape):
            return jnp.sqrt(2 / shape[0]) * jax.random.normal(key, shape)

        def variance(self, n_in, n_out):
            return 1 / n_in

    axes = ["--axis", "activation=relu", "--axis", "initializer=liar,lecun_normal", "--axis", "normalization=none"]
    code, text = run(*axes, *SMALL)
    assert code == 3
    assert "off: relu, liar, no norm" in text
    assert "1 of 2 are within" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_tolerance_is_three_deviations_of_a_mean_over_drawn_nets_and_a_percent():
    relu, he = ACTIVATIONS.parse("relu"), INITIALIZERS.parse("he_normal")
    none = axes_of(["normalization=none"])[2][0]
    ensemble = Ensemble(width=64, depth=12, nets=60, batch=16)
    _, curves = next(drawn_curves([relu], [he], [none], ensemble))
    growth = np.diff(curves[relu, none][:, [-2, 1]]) * 2 * np.log(10) / ensemble.interior
    [check] = verify([relu], [he], [none], ensemble=ensemble._replace(nets=4))
    assert check.tolerance == pytest.approx(3 * growth.std() / 2 + 0.01, rel=0.3)


@pytest.mark.slow
def test_each_batch_is_checked_and_small_ones_without_a_theory_are_refused():
    axes = ["--axis", "activation=relu", "--axis", "initializer=he_normal"]
    before, after = (f"normalization={{name: batch, placement: {side}}}" for side in ("before", "after"))
    _, text = run(*axes, "--axis", before, *SMALL[:-2], "--batch", "16", "--batch", "8", "--json")
    assert [check["batch"] for check in json.loads(text)["checks"]] == [16, 8]
    result = CliRunner().invoke(app, ["verify", *axes, "--axis", after, *SMALL[:-2], "--batch", "3"])
    assert "batch norm after holds from a batch of 4 on, and this one is of 3" in str(result.exception)


MEASURED = {
    "relu": {4: 3.562, 8: 1.998, 16: 1.688, 32: 1.563},
    "tanh": {4: 1.898, 8: 1.349, 16: 1.237, 32: 1.22},
    "elu": {4: 1.977, 8: 1.305, 16: 1.163},
}


@pytest.mark.parametrize(
    ("name", "batch", "measured"), [(name, *row) for name, rows in MEASURED.items() for row in rows.items()]
)
def test_batch_norm_after_the_activation_is_predicted_in_small_batches(name, batch, measured):
    after = axes_of(["normalization={name: batch, placement: after}"])[2][0]
    ensemble = Ensemble(512, 20, 4, batch)
    curves = expected_curves(ACTIVATIONS.parse(name), INITIALIZERS.parse("lecun_normal"), after, ensemble)
    factor = 10 ** (2 * (curves.delta_log10[1] - curves.delta_log10[-2]) / ensemble.interior)
    assert factor == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize(
    ("predicted", "measured", "holds"), [(1.0, 1.04, True), (1.0, 0.94, False), (0.0, 0.0, True), (0.0, 0.1, False)]
)
def test_a_check_holds_within_its_tolerance(predicted, measured, holds):
    relu, he = ACTIVATIONS.parse("relu"), INITIALIZERS.parse("he_normal")
    none = axes_of(["normalization=none"])[2][0]
    assert Validation(relu, he, none, PLAIN, 64, predicted, measured, 0.05).holds == holds


def test_axes_take_options_and_have_all_parts_unless_told():
    activations, initializers, normalizations, _ = axes_of(["model.activation={name: elu, alpha: 0.5},tanh"])
    assert [str(part) for part in activations] == ["elu (alpha: 0.5)", "tanh"]
    assert [part.name for part in initializers] == ["lecun_normal", "glorot_normal", "he_normal", "orthogonal", "lsuv"]
    assert len(normalizations) == 7


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("activaton=relu", "did you mean 'activation'?"),
        ("activation", "give it as"),
        ("activation=rely", "did you mean 'relu'?"),
        ("initializer={name: he_normal, gian: 2}", "gian"),
        ("activation=[", "axes activation=["),
    ],
)
def test_a_wrong_axis_is_one_line(axis, message):
    with pytest.raises(ConfigError) as error:
        axes_of([axis])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_nets_without_an_interior_are_refused():
    with pytest.raises(ConfigError, match="interior"):
        next(verify(*axes_of(["activation=relu"]), ensemble=Ensemble(width=8, depth=2)))
