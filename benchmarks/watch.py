"""Measures what watching a net costs, and prints a table: `python -m benchmarks.watch`.

The models are those of docs/watch. Of each the plain loop, the one that is watched at every step or at every tenth, its
records read as `watch.Log` does, and one that brings the norm of every gradient to the host at each step, as
`jax.tree.map(norm, grads)` does.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.run import REPEATS, alternated
from vgx import watch

FOLDER = Path(__file__).parent.parent / "docs" / "watch"
EVERY = (1, 10)


def loops(name: str, batch: int, steps: int) -> dict[str, Callable[[], float]]:
    """Returns, by what is measured, functions that train a model for some steps and return seconds per step."""
    module = importlib.import_module(name)
    aux = name == "flax_cnn"
    plain = nnx.value_and_grad(module.loss_fn, has_aux=aux)
    watched = watch.value_and_grad(module.loss_fn, has_aux=aux)

    def step_of(gradient: Callable[..., Any]) -> Callable[..., Any]:
        @nnx.jit
        def step(model: Any, optimizer: nnx.Optimizer, *given: Any) -> Any:
            _, grads, *record = gradient(model, *given)
            optimizer.update(model, grads)
            return record

        return step

    def with_norms(model: Any, *given: Any) -> Any:
        value, grads = plain(model, *given)
        return value, grads, jax.tree.map(jnp.linalg.norm, nnx.to_pure_dict(grads))

    def timed(model: Any, loop: Callable[[Any, nnx.Optimizer, int], Any]) -> Callable[[], float]:
        optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        loop(model, optimizer, 2 * max(EVERY))

        def run() -> float:
            began = time.perf_counter()
            loop(model, optimizer, steps)
            jax.block_until_ready(jax.tree.leaves(nnx.state(model, nnx.Param)))
            return (time.perf_counter() - began) / steps

        return run

    given = batches_of(name, module, batch)
    step, measured, normed = step_of(plain), step_of(watched), step_of(with_norms)

    def every(interval: int) -> Callable[[Any, nnx.Optimizer, int], Any]:
        unmeasured = step_of(watch.value_and_grad(module.loss_fn, has_aux=aux, measure=False))

        def loop(model: Any, optimizer: nnx.Optimizer, steps: int) -> None:
            waiting = None
            for at in range(steps):
                if at % interval:
                    unmeasured(model, optimizer, *given(at))
                    continue
                (record,) = measured(model, optimizer, *given(at))
                if waiting is not None:
                    waiting.rows()  # of the record before, as `watch.Log` reads them
                waiting = record

        return loop

    def bare(model: Any, optimizer: nnx.Optimizer, steps: int) -> None:
        for at in range(steps):
            step(model, optimizer, *given(at))

    def norms(model: Any, optimizer: nnx.Optimizer, steps: int) -> None:
        for at in range(steps):
            jax.device_get(normed(model, optimizer, *given(at)))

    found = {"nothing": timed(make(module), bare)}
    found |= {f"watch, every = {of}": timed(watch.instrument(make(module)), every(of)) for of in EVERY}
    return found | {
        "norms of gradients to the host": timed(make(module), norms),
        "nothing, again": timed(make(module), bare),
    }


def make(module: ModuleType) -> Any:
    """Returns an example's model."""
    return getattr(module, "CNN" if hasattr(module, "CNN") else "Transformer")(rngs=nnx.Rngs(0))


def batches_of(name: str, module: ModuleType, batch: int) -> Callable[[int], tuple[Any, ...]]:
    """Returns a function from a step to what the example's loss takes besides the model."""
    data = importlib.import_module("real_data")
    if name == "flax_cnn":
        images, labels = data.digits()
        some = list(data.batches(len(labels), batch, 16))
        whole = [({"image": jnp.asarray(images[of, :, :, None]), "label": jnp.asarray(labels[of])},) for of in some]
    else:
        letters = data.text()
        some = list(data.batches(len(letters) - module.LENGTH, batch, 16))
        whole = [(jnp.asarray(letters[of[:, None] + np.arange(module.LENGTH + 1)]),) for of in some]
    return lambda step: whole[step % len(whole)]


def table(name: str, batch: int, steps: int, repeats: int) -> str:
    """Returns the times of an example's loops, and their ratios to the plain one, turn by turn."""
    times = alternated(loops(name, batch, steps), repeats)
    rows = [f"## {name}, batch {batch}", "", "| measured | ms per step | against nothing |", "|---|---|---|"]
    for what, mine in times.items():
        ratio = median(a / b for a, b in zip(mine, times["nothing"], strict=True))
        rows.append(f"| {what} | {1e3 * median(mine):.3f} | {ratio:.3f} |")
    return "\n".join(rows)


def main() -> None:
    """Prints a table for the convolutional net and one for the transformer."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--steps", type=int, default=100, help="in a turn; a multiple of 10")
    asked.add_argument("--repeats", type=int, default=REPEATS, help="turns, of which the median counts")
    asked.add_argument("--batch", type=int, nargs="*", default=[32, 128], help="examples in a batch of the CNN")
    asked.add_argument("--sequences", type=int, nargs="*", default=[8], help="sequences in a batch of the transformer")
    given = asked.parse_args()
    sys.path.insert(0, str(FOLDER))
    sizes = [("flax_cnn", batch) for batch in given.batch] + [("flax_transformer", batch) for batch in given.sequences]
    for number, (name, batch) in zip(count(), sizes, strict=False):
        print("\n" * bool(number) + table(name, batch, given.steps, given.repeats), flush=True)


if __name__ == "__main__":
    main()
