"""The examples of docs/watch: each changes a handful of lines of its original, and no bit of what it trains."""

from __future__ import annotations

import difflib
import re

import jax
import numpy as np
import pytest
from flax import nnx

from tests.watch.conftest import EXAMPLES, FOLDER, QUICK, arrays, batch_of, make
from vgx import watch

IMPORT = "from vgx import watch"


def lines(name: str) -> list[str]:
    text = (FOLDER / f"{name}.py").read_text()
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_there_are_four_examples():
    assert EXAMPLES == ["equinox_cnn", "flax_cnn", "flax_transformer", "plain_mlp"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_watching_changes_at_most_five_lines_besides_the_import(name):
    before, after = lines(name), lines(f"{name}_watched")
    assert after.count(IMPORT) == 1
    after.remove(IMPORT)
    changes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    changed = sum(max(i2 - i1, j2 - j1) for what, i1, i2, j1, j2 in changes if what != "equal")
    assert 0 < changed <= 5


def test_the_page_shows_the_differences_as_they_are():
    page = (FOLDER.parent / "how-to" / "watch.md").read_text()
    shown = re.findall(r"^```diff\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    found = []
    for name in ("flax_transformer", "plain_mlp"):
        before, after = (lines(f"{name}{version}") for version in ("", "_watched"))
        differences = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
        found.append([line[0] + line[2:] for line in differences])
    assert [sorted(line[0] + line[1:].strip() for line in block.splitlines()) for block in shown] == list(
        map(sorted, found)
    )


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        pytest.param(name, steps, marks=[] if steps == 5 and name in QUICK else pytest.mark.slow)
        for name in EXAMPLES
        for steps in (5, 100)
    ],
)
def test_weights_are_the_same_bits_with_and_without(name, steps, example):
    layers = 2 if steps < 100 else None
    plain, watched = example(name, layers), example(f"{name}_watched", layers)
    records = []

    def write(step, record, **scalars):
        records.append(record)

    alone = plain.train(make(plain), lambda step, **scalars: None, steps)
    seen = watch.strip(watched.train(watch.instrument(make(watched)), write, steps))
    assert len(records) == steps
    for ours, theirs in zip(arrays(seen), arrays(alone), strict=True):
        assert np.array_equal(ours, theirs)
    for row in records[-1].rows().values():
        assert row["forward_finite"]
        assert row["gradient_finite"]
        assert all(np.isfinite(value) for value in row.values())


PATHS = {
    "equinox_cnn": "layers.0 layers.4 layers.6 layers.8",
    "flax_cnn": "conv1 conv2 linear1 linear2",
    "flax_transformer": "token position "
    + " ".join(
        f"blocks.{layer}.{part}"
        for layer in range(12)
        for part in ("attention.query", "attention.key", "attention.value", "attention.out", "up", "down")
    )
    + " readout",
    "plain_mlp": "first " + " ".join(f"hidden.{layer}" for layer in range(10)) + " last",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_layers_are_named_in_the_order_of_the_forward_pass(name, example):
    module = example(f"{name}_watched")
    model = watch.instrument(make(module))
    measured = watch.value_and_grad(module.loss_fn, has_aux=name == "flax_cnn")
    shapes = nnx.eval_shape if isinstance(model, nnx.Module) else jax.eval_shape
    record = shapes(lambda *batch: measured(model, *batch)[2], *batch_of(name))
    assert " ".join(layer.path for layer in record.layers) == PATHS[name]
