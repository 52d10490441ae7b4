"""Maps as numbers: what a cell covers, where a round adds cells, contours, and the multiple that is fitted."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from vgx.results.map_cells import MapAxis, MapCell, differ, first_cells, lines, neighbours, refined
from vgx.results.map_fit import contour, fitted_multiple, threshold_of

GAIN = MapAxis("model.initializer.gain", (1.0, 2.0, 3.0, 4.0), False, False)
DEPTH = MapAxis("model.depth", (10, 20, 40, 80), True, True)


def accuracies(cells, rule):
    return {cell[:2]: rule(*cell[:2]) for cell in cells}


def test_the_cells_of_the_first_grid_cover_the_plane_once():
    cells = first_cells(GAIN, DEPTH)
    assert [cell[:2] for cell in cells] == list(product(GAIN.values, DEPTH.values))
    area = sum((cell.right - cell.left) * math.log(cell.top / cell.bottom) for cell in cells)
    assert area == pytest.approx((4.5 - 0.5) * math.log((80 * 2**0.5) / (10 / 2**0.5)), rel=1e-12)
    assert all(cell.left < cell.x < cell.right and cell.bottom < cell.y < cell.top for cell in cells)


def test_neighbours_differ_by_the_threshold_or_by_a_fifth_and_never_from_what_is_unknown():
    assert differ(0.49, 0.51, 0.5)
    assert not differ(0.51, 0.70, 0.5)
    assert differ(0.51, 0.72, 0.5)
    assert not differ(None, 0.9, 0.5)


def test_a_round_adds_cells_midway_between_the_neighbours_that_differ_and_nowhere_else():
    cells = first_cells(GAIN, DEPTH)
    found = accuracies(cells, lambda x, y: 0.9 if x * 10 >= y else 0.1)  # from gain 1, 2, 4 and 8 on
    added = refined(cells, found, 0.5, GAIN, DEPTH, (True, False))
    assert [cell[:2] for cell in added] == [(1.5, 20), (3.5, 40)]
    assert added[0] == (1.5, 20, 1.25, 1.75, pytest.approx(20 / 2**0.5), pytest.approx(20 * 2**0.5), 1)
    upward = refined(cells, found, 0.5, GAIN, DEPTH, (False, True))
    assert [cell[:2] for cell in upward] == [(1.0, 14), (2.0, 28), (3.0, 28), (4.0, 57)]
    assert refined(cells, found, 0.5, GAIN, DEPTH, (True, True)) == added + upward


def test_rounds_halve_the_way_to_the_boundary():
    cells = first_cells(GAIN, DEPTH)
    for number in (1, 2, 3):
        found = accuracies(cells, lambda x, y: 0.9 if x >= 2.7 else 0.1)
        added = refined(cells, found, 0.5, GAIN, DEPTH, (True, False))
        assert [cell.x for cell in added] == [{1: 2.5, 2: 2.75, 3: 2.625}[number]] * 4
        assert {cell.round for cell in added} == {number}
        assert {cell.right - cell.left for cell in added} == {0.5 / 2 ** (number - 1)}
        cells += added


def test_whole_numbers_next_to_each_other_have_no_middle_and_gaps_no_neighbours():
    depths = MapAxis("model.depth", (1, 2, 3), True, True)
    cells = first_cells(GAIN, depths)
    found = accuracies(cells, lambda x, y: 0.9 if y < 2 else 0.1)
    assert refined(cells, found, 0.5, GAIN, depths, (False, True)) == []
    apart = [MapCell(1.0, 5, 0.9, 1.1, 4, 6, 1), MapCell(2.0, 5, 1.9, 2.1, 4, 6, 1)]
    assert list(neighbours(apart, across=True)) == []
    assert [len(line) for line in lines(apart, across=True)] == [2]


# Contours


def test_a_contour_over_depth_is_the_multiple_of_the_scale_at_every_point():
    xs, ys = [1.0, 2.0, 3.0], [10, 20, 40, 80]
    scales = [4.0, 9.0, 7.0]
    pieces = contour(xs, ys, [[y / scale for y in ys] for scale in scales], 5.0)
    ends = {(x, round(y, 9)) for piece in pieces for x, y in (piece[:2], piece[2:])}
    assert {(x, y) for x, y in ends if x in xs} == {(1.0, 20.0), (2.0, 45.0), (3.0, 35.0)}


def test_a_contour_goes_around_a_circle_and_past_what_is_unknown():
    xs = ys = list(np.linspace(-2, 2, 81))
    ratios = [[x * x + y * y for y in ys] for x in xs]
    pieces = contour(xs, ys, ratios, 1.0)
    assert sum(math.dist(piece[:2], piece[2:]) for piece in pieces) == pytest.approx(2 * math.pi, rel=1e-3)
    assert all(abs(math.hypot(*piece[:2]) - 1) < 1e-3 for piece in pieces)
    half = [[ratio if x >= 0 else None for ratio in column] for x, column in zip(xs, ratios, strict=True)]
    assert sum(math.dist(p[:2], p[2:]) for p in contour(xs, ys, half, 1.0)) == pytest.approx(math.pi, rel=1e-3)


# The fitted multiple


def scale(gain: float) -> float:
    """A correlation depth with a peak, as tanh has one at criticality."""
    return 2 + 30 * math.exp(-4 * (gain - 2) ** 2)


FINE_GAIN = MapAxis("model.initializer.gain", tuple(np.linspace(1, 3, 13).round(4)), False, False)
FINE_DEPTH = MapAxis("model.depth", (5, 10, 20, 40, 80, 160, 320), True, True)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("multiple", [3.0, 6.0])
def test_a_known_multiple_is_found_and_its_interval_covers_it(multiple, across):
    cells = first_cells(FINE_GAIN, FINE_DEPTH)
    ratios = {cell[:2]: cell.y / scale(cell.x) for cell in cells}
    rng, covered, trials = np.random.default_rng(0), 0, 40
    for _ in range(trials):
        # a depth that differs from gain to gain by a tenth, and accuracies that fall over a factor of two around it
        own = {x: multiple * math.exp(0.1 * rng.normal()) for x in FINE_GAIN.values}
        found = {(x, y): 0.1 + 0.8 / (1 + (ratio / own[x]) ** 4) for (x, y), ratio in ratios.items()}
        fit = fitted_multiple(cells, found, ratios, 0.5, across)
        assert fit is not None
        assert fit.value == pytest.approx(multiple, rel=0.2)
        covered += fit.low <= multiple <= fit.high
    if not across:  # columns are independent, and each crosses once
        assert covered >= 0.85 * trials
        assert fit.lines == len(FINE_GAIN.values)


def test_a_boundary_that_no_line_crosses_has_no_multiple():
    cells = first_cells(FINE_GAIN, FINE_DEPTH)
    ratios = {cell[:2]: cell.y / scale(cell.x) for cell in cells}
    assert fitted_multiple(cells, dict.fromkeys(ratios, 0.9), ratios, 0.5, False) is None
    shallow = {(x, y): 0.9 if y > 40 else 0.1 for x, y in ratios}  # the deeper ones train
    assert fitted_multiple(cells, shallow, ratios, 0.5, False) is None
    known = {(x, y): 0.9 if y < 40 else 0.1 for x, y in ratios}
    assert fitted_multiple(cells, known, dict.fromkeys(ratios), 0.5, False) is None
    assert fitted_multiple(cells, known, dict.fromkeys(ratios, 0.0), 0.5, False) is None
    one = {place: accuracy if place[0] == 1.0 else None for place, accuracy in known.items()}
    fit = fitted_multiple(cells, one, ratios, 0.5, False)
    assert (fit.lines, fit.low, fit.high) == (1, 0.0, math.inf)


def test_a_net_has_trained_from_midway_between_chance_and_the_best_but_well_above_chance():
    assert threshold_of([0.1, 0.9], 0.1) == pytest.approx(0.5)
    assert threshold_of([0.1, 0.12], 0.1) == pytest.approx(0.15)
    assert threshold_of([], 0.5) == pytest.approx(0.55)
