"""Images and labels on the device, and the dtypes they are computed in."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vgx.config.schema import Config
from vgx.data import Dataset, Split


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
    return Images(*jax.device_put((split.images, split.labels, scale, mean, std), where))


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


def compute_dtype(config: Config) -> jnp.dtype:
    """Returns the type of the arithmetic; parameters are float64 with float64 and float32 otherwise."""
    return jnp.dtype(config.train.precision)


def master_dtype(config: Config) -> jnp.dtype:
    """Returns the type in which parameters, losses and inputs are kept."""
    return jnp.promote_types(compute_dtype(config), jnp.float32)
