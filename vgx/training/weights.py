"""The weights that a net begins with: a stack for each run of layers of equal shape."""

from __future__ import annotations

from functools import partial
from itertools import groupby, pairwise
from typing import NamedTuple

import jax
from jax import Array

from vgx.parts.initializers import Initializer


class InitialWeights(NamedTuple):
    """One stack's initial weights: [L_s, N_in, N] and [L_s, N]."""

    kernel: Array
    bias: Array


def stacks_of(
    widths: tuple[int, ...], features: int, classes: int, *, first_alone: bool = False
) -> list[tuple[tuple[int, int], int]]:
    """Returns each stack's kernel shape and how many layers it has, from the input up; the last is the readout.

    `first_alone` keeps the first layer apart, whatever its shape: it adds to no stream.
    """
    shapes = list(pairwise([features, *widths, classes]))
    hidden = shapes[first_alone:-1]
    first = [(shape, 1) for shape in shapes[:first_alone]]
    return [*first, *((shape, len(list(group))) for shape, group in groupby(hidden)), (shapes[-1], 1)]


def draw_weights(
    initializer: Initializer, bias: Initializer, stacks: list[tuple[tuple[int, int], int]], key: Array
) -> tuple[InitialWeights, ...]:
    """Returns the initial weights of a net whose stacks are `stacks_of(...)`: what no activation has a say in."""

    def draw(shape: tuple[int, int], key: Array) -> InitialWeights:
        of_kernel, of_bias = jax.random.split(key)
        return InitialWeights(initializer(of_kernel, shape), bias(of_bias, shape[1:]))

    keys = jax.random.split(key, sum(count for _, count in stacks))
    drawn, start = [], 0
    for shape, count in stacks:
        drawn.append(jax.vmap(partial(draw, shape))(keys[start : start + count]))
        start += count
    return tuple(drawn)
