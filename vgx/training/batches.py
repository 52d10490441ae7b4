"""What the host decides about time: which examples a step sees, and which steps are done in one go."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vgx.config.schema import Config


def batch_size_of(config: Config, examples: int | None = None) -> int:
    """Returns how many examples a step sees, where there are `examples` to train on: all of them with `full`.

    They may be left out for the config of a program, which says a number.
    """
    size = config.train.batch_size
    if size == "full":
        assert examples is not None, "a program's config has a number"
        return examples
    return size


class ChunkPlan(NamedTuple):
    """Some steps to do in one go: periods of a recorded step and plain ones, or plain ones alone."""

    recorded: bool
    lengths: tuple[int, ...]
    """Steps of each period."""

    @property
    def steps(self) -> int:
        return sum(self.lengths)


def next_chunk(done: int, stop: int, every: int, room: tuple[int, int], periods: int) -> ChunkPlan:
    """Returns what to do after step `done`, not beyond step `stop`.

    Where one piece ends and the next begins never depends on speed within a period, so it cannot change a bit.

    Args:
        done: steps done.
        stop: the step to stop at.
        every: steps from one recorded step to the next.
        room: the most periods in a piece, and the most steps of one period.
        periods: how many periods are wanted.
    """
    most, longest = room
    into = done % every
    if into:
        return ChunkPlan(False, (min(every - into, stop - done, longest),))
    lengths: list[int] = []
    while done < stop and len(lengths) < min(periods, most):
        lengths.append(min(every, stop - done, longest))
        done += lengths[-1]
        if lengths[-1] < every:
            break
    return ChunkPlan(True, tuple(lengths))


class Batches:
    """The examples of every step: each seed's own shuffle of each epoch, a function of seed and step alone.

    Not `shuffled` are batches of all examples: every step has them in their order.
    """

    def __init__(self, seeds: tuple[int, ...], examples: int, batch: int, *, shuffled: bool = True):
        self.seeds, self.examples, self.batch, self.shuffled = seeds, examples, batch, shuffled
        self.per_epoch = examples // batch
        self._shuffles: dict[tuple[int, int], np.ndarray] = {}

    def at(self, step: int) -> np.ndarray:
        """Returns the indices [R, B] of step `step`, counted from 0."""
        if not self.shuffled:
            return np.tile(np.arange(self.batch, dtype=np.int32), (len(self.seeds), 1))
        epoch, position = divmod(step, self.per_epoch)
        start = position * self.batch
        return np.stack([self._shuffle(seed, epoch)[start : start + self.batch] for seed in self.seeds])

    def _shuffle(self, seed: int, epoch: int) -> np.ndarray:
        if (seed, epoch) not in self._shuffles:
            self._shuffles = {key: order for key, order in self._shuffles.items() if key[1] == epoch}
            random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
            self._shuffles[seed, epoch] = random.permutation(self.examples).astype(np.int32)
        return self._shuffles[seed, epoch]


def batches_of(config: Config, seeds: tuple[int, ...], examples: int) -> Batches:
    """Returns the examples that the steps of these seeds see, of so many to train on."""
    return Batches(seeds, examples, batch_size_of(config, examples), shuffled=config.train.batch_size != "full")
