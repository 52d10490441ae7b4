"""The tables of the playground: those that ship are theory's, and interpolate it as well as the page says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.polynomial import chebyshev

import vgx
from vgx.parts import INITIALIZERS
from vgx.parts.initializers import VarianceScaling, Zeros
from vgx.parts.normalizations import BatchNorm
from vgx.report.html.playground_page import shipped_tables
from vgx.theory.layer_response import Net, Signal, response_of
from vgx.theory.moments import gaussian, gaussian_pair, sphere
from vgx.theory.predict import default_activations, source_of
from vgx.theory.tables import ANGLES, AXES, BATCHES, FIRST_SHARES, Axis, choices, fan_of

DECADE = 1e-3 * 2 * math.log2(10)
"""A thousandth of a decade of the gradient's norm, as log2 of its square."""
SHIPPED = shipped_tables()


@pytest.fixture(scope="module")
def source():
    data = vgx.load_config({"data": "digits"}).data
    return source_of(data.load(), data.input)


def at(table: np.ndarray, axis: Axis, x: float) -> np.ndarray:
    """The columns of a table [columns, pieces, nodes, ...] at x."""
    place = (x - axis.start) / axis.piece
    piece = min(int(place), axis.pieces - 1)
    return (
        np.moveaxis(table[:, piece], 1, -1)
        @ chebyshev.chebvander(np.array([2 * (place - piece) - 1]), axis.nodes - 1)[0]
    )


def test_every_activation_with_default_options_ships_with_all_tables():
    assert set(SHIPPED) == {part.name for part in default_activations()}
    assert all(set(tables) == set(AXES) for tables in SHIPPED.values())


@pytest.mark.parametrize("activation", default_activations(), ids=str)
def test_what_ships_are_the_moments_of_one_normal_to_seven_digits(activation):
    x = np.array([-20.3, -3.1, -0.4, 0.6, 2.2, 4.7])
    f, table = gaussian(activation, 0.0, 2.0**x), SHIPPED[activation.name]["line"]
    found = np.array([at(table, AXES["line"], one) for one in x]).T
    expected = [np.log2(f.square) - 2 * x, np.log2(f.variance) - 2 * x, np.log2(f.slope_square)]
    np.testing.assert_allclose(found, expected, atol=5e-6)
    mean = [at(SHIPPED[activation.name]["mean"], AXES["mean"], one)[0] for one in x]
    np.testing.assert_allclose(mean, f.mean / np.sqrt(f.square), atol=5e-6)


@pytest.mark.parametrize("activation", default_activations(), ids=str)
def test_what_ships_are_the_correlations_of_two_to_three_digits(activation):
    for x in (-5.3, 0.2, 1.7):
        c = np.array([-0.5, 0.0, 0.6, 0.95, 0.999])
        pair, one = gaussian_pair(activation, 0.0, 2.0**x, c), gaussian(activation, 0.0, 2.0**x)
        of_angles = chebyshev.chebvander(2 / np.pi * np.arccos(c) - 1, ANGLES - 1).T
        angle = at(SHIPPED[activation.name]["plane"][None], AXES["plane"], x)[0] @ of_angles
        np.testing.assert_allclose(np.cos(angle), pair.covariance / one.variance, atol=5e-4)


@pytest.mark.parametrize("activation", default_activations(), ids=str)
def test_what_ships_of_batches_normalized_before_is_theirs(activation):
    for batch in (8, 128):
        for x in (-2.4, -1e-4):
            f = sphere(activation, 2.0**x, batch)
            found = at(SHIPPED[activation.name]["sphere"][BATCHES.index(batch)], AXES["sphere"], x)
            expected = [f.square, (f.own + f.others) / batch, f.own / batch]
            np.testing.assert_allclose(found[[0, 2, 3]], np.log2(expected), atol=DECADE)
            assert found[1] == pytest.approx(f.product / f.square, abs=1e-3)
            assert found[4] == pytest.approx(f.mean / f.square**0.5, abs=1e-4)


@pytest.mark.parametrize("activation", default_activations(), ids=str)
def test_what_ships_of_batches_normalized_after_is_theirs(activation, source):
    # Where a first layer has kinks, theory's own quadrature over small batches is good to a tenth of a decade.
    norm, cosine = BatchNorm(placement="after"), source.signal.cross / source.signal.square
    for batch in (16, 256):
        net = Net((1, 1, 1), activation, VarianceScaling(scale=1.0), Zeros(), norm, 0.0, batch)
        for name, x, c in (("batch", 0.3, -1 / (batch - 1)), ("first", -1.2, cosine)):
            response = response_of(net, Signal(4.0**x, 4.0**x * c, 0.0), 1, 1)
            found = at(SHIPPED[activation.name][name][BATCHES.index(batch)], AXES[name], x)
            rough = name == "first" and batch == 16 and activation.kinks
            expected = np.log2([response.gain, response.top_gain]) + 2 * x
            np.testing.assert_allclose(found[:2], expected, atol=150 * DECADE if rough else DECADE)


@pytest.mark.parametrize("activation", default_activations(), ids=str)
def test_what_ships_of_streams_normalized_after_is_theirs(activation, source):
    batch, norm = 128, BatchNorm(placement="after")
    net = Net((1, 1, 1), activation, VarianceScaling(scale=1.0), Zeros(), norm, 0.0, batch)
    first, rest = source.signal.cross / source.signal.square, -1 / (batch - 1)
    for share, table in zip(FIRST_SHARES, SHIPPED[activation.name]["between"][BATCHES.index(batch)], strict=True):
        for x in (-1.2, 0.3):
            response = response_of(net, Signal(4.0**x, 4.0**x * (share * first + (1 - share) * rest), 0.0), 1, 1)
            expected = np.log2([response.gain * 4.0**x, response.top_gain * 4.0**x, response.signal.square])
            np.testing.assert_allclose(at(table, AXES["between"], x), expected, atol=2 * DECADE)


def test_the_weights_of_every_initializer_but_constant_are_offered_with_their_variance(source):
    rows = {row["name"]: row for row in choices(source)["initializers"]}
    assert set(rows) == {part.name for part in INITIALIZERS} - {"constant"}
    for name, row in rows.items():
        option = row["option"]
        part = INITIALIZERS.parse({"name": name} | ({option: 0.3} if option else {}))
        for shape in ((64, 128), (128, 10), (50, 50)):
            number = 0.3 if option else 1.0
            assert row["coefficient"] * number**2 / fan_of(row["fan"], *shape) == pytest.approx(part.variance(*shape))
