"""Images and labels on the device, and the dtypes they are computed in."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec as P
from jax.sharding import Sharding

from vgx.config.schema import Config
from vgx.data import Dataset, Split

BATCH = "batch"
"""The axis of the mesh that the examples of a batch are spread over."""


class Images(NamedTuple):
    """A split on the device, and how its raw values become inputs."""

    images: Array
    """[n, D], as stored: uint8, or float32."""
    labels: Array
    """[n] int32."""
    scale: Array
    """The raw value that becomes 1, []."""
    mean: Array
    """Of each input over the training set, [D]."""
    std: Array
    """Of each input over the training set, [D]."""


def to_device(split: Split, dataset: Dataset, where: Any = None) -> Images:
    """Returns the split on a device or a sharding, or on jax's own choice, in the types it is stored in."""
    scale, mean, std = np.float32(dataset.scale), dataset.mean, dataset.std
    return Images(*place((split.images, split.labels, scale, mean, std), where))


def place(tree: Any, where: Any = None) -> Any:
    """Returns the tree's arrays on a device or a sharding, which other processes may have parts of: every process has
    the whole arrays, and they are the same."""
    if not isinstance(where, Sharding) or where.is_fully_addressable:
        return jax.device_put(tree, where)

    def parts(leaf: Any) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(parts(jax.random.key_data(leaf)))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, where, lambda index: whole[index])

    return jax.tree.map(parts, tree)


def encode(data: Images, index: Array, kind: str, dtype: jnp.dtype) -> Array:
    """Returns the inputs [B, D] of the examples `index` [B], encoded as `data.input` says."""
    unit = data.images[index].astype(dtype) / data.scale.astype(dtype)
    match kind:
        case "centered":
            return unit - 0.5
        case "standardized":
            return (unit - data.mean.astype(dtype)) / data.std.astype(dtype)
        case "binary":
            return (unit >= 0.5).astype(dtype)
        case _:
            return unit


def devices_per_batch() -> int:
    """Returns how many devices share a batch in the program that is being traced."""
    return jax.sharding.get_abstract_mesh().shape.get(BATCH, 1)


def shared(index: Array) -> Array:
    """Returns the examples `index` [B], an equal part of them on each of the devices that share a batch.

    All that follows from them is spread alike, and every sum over examples is one over all devices. Where they cannot
    be dealt out evenly, each device has them all.
    """
    devices = devices_per_batch()
    if devices == 1 or index.shape[0] % devices:
        return index
    return jax.lax.with_sharding_constraint(index, P(BATCH))


def compute_dtype(config: Config) -> jnp.dtype:
    """Returns the type of the arithmetic; parameters are float64 with float64 and float32 otherwise."""
    return jnp.dtype(config.train.precision)


def master_dtype(config: Config) -> jnp.dtype:
    """Returns the type in which parameters, losses and inputs are kept."""
    return jnp.promote_types(compute_dtype(config), jnp.float32)
