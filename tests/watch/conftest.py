"""The examples of docs/watch, and their models."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import vgx

FOLDER = Path(vgx.__file__).parent.parent / "docs" / "watch"
EXAMPLES = sorted(path.stem.removesuffix("_watched") for path in FOLDER.glob("*_watched.py"))
QUICK = ("flax_cnn", "plain_mlp")
"""Those that compile in seconds."""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch):
    """A function that imports an example, or its watched version, by name."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def imported(name: str, layers: int | None = None) -> ModuleType:
        """`layers`: fewer than a transformer's twelve, for what takes long to compile."""
        module = importlib.import_module(name)
        if layers and "transformer" in name:
            monkeypatch.setattr(module, "LAYERS", layers)
        return module

    return imported


def make(module: ModuleType, key: int = 0, **options: Any) -> Any:
    """An example's model, or its parameters."""
    if hasattr(module, "init"):
        return module.init(jax.random.key(key))
    if "nnx" in vars(module):
        kind = module.CNN if hasattr(module, "CNN") else module.Transformer
        return kind(rngs=nnx.Rngs(key), **options)
    return module.CNN(jax.random.key(key))


def arrays(model: Any) -> list[jax.Array]:
    """A model's arrays, in an order of its own."""
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param) if isinstance(model, nnx.Module) else model)
    return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]


def in_float64(model: Any) -> Any:
    """A copy of a model whose parameters are float64."""

    def cast(leaf: Any) -> Any:
        floating = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(jnp.float64) if floating else leaf

    if isinstance(model, nnx.Module):
        graph, state = nnx.split(model)
        copy = nnx.merge(graph, jax.tree.map(cast, state))
        for _, module in nnx.iter_modules(copy):
            if getattr(module, "dtype", None) == jnp.float32:  # as nnx.Embed keeps it
                module.dtype = jnp.float64
        return copy
    return jax.tree.map(cast, model)


def batch_of(name: str) -> tuple[Any, ...]:
    """What an example's loss takes besides the model: five random examples, in float64 where jax is set to it."""
    image, label = jax.random.uniform(jax.random.key(1), (5, 8, 8)), jnp.arange(5)
    return {
        "flax_cnn": ({"image": image[..., None], "label": label},),
        "flax_transformer": (jax.random.randint(jax.random.key(2), (5, 9), 0, 256),),
        "equinox_cnn": (image[:, None], label),
        "plain_mlp": (image.reshape(5, 64), label),
    }[name]


def jitted(function: Any, model: Any) -> Any:
    """A function of a model, compiled as the model's library does it."""
    return nnx.jit(function) if isinstance(model, nnx.Module) else eqx.filter_jit(function)
