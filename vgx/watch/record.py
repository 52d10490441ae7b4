"""What one step of a watched model reports: figures on the device, and a table of them on the host."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vgx.errors import WatchError
from vgx.training.probes import LOG10_2, log2_norm
from vgx.watch.sums import COUNT, SCALES, SUMS

EMBEDDINGS = ("Embed", "Embedding")
"""Types whose output is passed on as it is: it has no pre-activation."""


class Watched(NamedTuple):
    """A layer that is watched."""

    path: str
    """Names of the model's parts, joined by dots, with a stack's index among them: `blocks.3.mlp.up`."""
    type: str
    """Of the module: `Linear`, `Conv`; `tap` for an explicit one."""
    shape: tuple[int, ...]
    """Of the weights; of what is tapped where there are none."""


class Row(NamedTuple):
    """A row of a record, and where in the model it comes from."""

    watched: Watched
    site: int
    at: tuple[int, ...]
    """In the stack."""


class Weights(NamedTuple):
    """Where a row's figures of the weights and the units stand, behind those of its tap."""

    kernel_log2: int = COUNT
    """log2 of the norm of the gradient of the weights, before the loss's scale is divided off."""
    zero: int = COUNT + 1
    """The fraction of its entries that are 0 in what the optimizer sees."""
    bias_log2: int = COUNT + 2
    norm_log2: int = COUNT + 3
    """log2 of the norm of the weights."""
    dead: int = COUNT + 4
    """The fraction of the layer's units that are dead, where units are counted."""


WEIGHTS = Weights()


@partial(
    jax.tree_util.register_dataclass, data_fields=["figures"], meta_fields=["static", "examples", "loss_scale_log2"]
)
@dataclass(frozen=True, repr=False)
class Record:
    """One step's measurements, a pytree: `jit` may return it. `layers` are in the order of the forward pass."""

    figures: Any
    """[layers, 25]: a tap's SUMS, then WEIGHTS."""
    static: tuple[tuple[Row, Any, Any], ...]
    """For each layer its row, and where its weights and bias stand among the parameters."""
    examples: int
    loss_scale_log2: int

    @property
    def layers(self) -> tuple[Watched, ...]:
        """The watched layers that the function called, in the order in which it did."""
        return tuple(row.watched for row, _, _ in self.static)

    def __repr__(self) -> str:
        return f"Record({', '.join(layer.path for layer in self.layers)})"

    def rows(self) -> dict[str, dict[str, float]]:
        """Returns, by path, the columns of the layer table that were measured, and whether all was finite.

        `delta_log10` and the gradients' norms are those of the loss as it is, whatever it was multiplied by;
        `weight_grad_zero` is of what the optimizer sees. Waits for the device.
        """
        figures = np.asarray(self.figures, np.float64)
        if figures.ndim != 2:
            raise WatchError(
                f"record: of {figures.shape[:-2]} steps or lanes at once; take one, "
                "as jax.tree.map(lambda figures: figures[0], record) does"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                row.watched.path: self._row(row.watched.type, kernel is not None, bias is not None, of)
                for (row, kernel, bias), of in zip(self.static, figures, strict=True)
            }

    def _row(self, type: str, has_kernel: bool, has_bias: bool, of: np.ndarray) -> dict[str, float]:
        gradient = _log2(of[SUMS.gradient])
        per_example = 0.5 * (gradient + math.log2(self.examples)) - self.loss_scale_log2
        row = {"delta_log10": LOG10_2 * per_example}
        if has_kernel:
            row["weight_grad_log10"] = LOG10_2 * (of[WEIGHTS.kernel_log2] - self.loss_scale_log2)
        if has_bias:
            row["bias_grad_log10"] = LOG10_2 * (of[WEIGHTS.bias_log2] - self.loss_scale_log2)
        if has_kernel:
            row |= {"weight_grad_zero": of[WEIGHTS.zero], "weight_norm": np.exp2(of[WEIGHTS.norm_log2])}
        mean, entries = of[SUMS.total] / of[SUMS.entries], of[SUMS.entries]
        within, means = (np.exp2(_log2(of[where]) - np.log2(entries)) for where in (SUMS.within, SUMS.means))
        between = 0.0 if of[SUMS.calls] == 1 else np.maximum(means - mean**2, 0)
        if type in EMBEDDINGS:
            row |= {"act_mean": mean, "act_rms": np.sqrt(within + means)}
        else:
            row |= {"preact_mean": mean, "preact_std": np.sqrt(within + between)} | _of_activation(of)
        finite = {
            "forward_finite": of[SUMS.not_finite] == 0,
            "gradient_finite": bool(np.isfinite(gradient) or gradient < 0),
        }
        return {name: float(value) for name, value in row.items()} | {name: bool(is_) for name, is_ in finite.items()}

    def update_ratio(self, updates: Any) -> dict[str, float]:
        """Returns, by path, the norm of the weights' update over the norm of the weights before it.

        Args:
            updates: what optax's `update` returns: a tree like the gradients. A layer that it lacks is left out.
        """
        from vgx.watch.sites import leaves_by_path

        leaves = leaves_by_path(updates)
        places = sorted({(kernel, len(row.at)) for row, kernel, _ in self.static if kernel in leaves})
        norms = jax.device_get(_norms([leaves[kernel] for kernel, _ in places], tuple(depth for _, depth in places)))
        norms = dict(zip((kernel for kernel, _ in places), norms, strict=True))
        figures = np.asarray(self.figures, np.float64)
        found = {}
        for (row, kernel, _), of in zip(self.static, figures, strict=True):
            if kernel in norms:
                with np.errstate(over="ignore", invalid="ignore"):
                    found[row.watched.path] = float(np.exp2(norms[kernel][row.at] - of[WEIGHTS.norm_log2]))
        return found


def _of_activation(of: np.ndarray) -> dict[str, float]:
    """The columns of the activation behind a layer, as far as it is known."""
    entries, judged = of[SUMS.activated], of[SUMS.judged]
    if not entries:
        return {}
    rms = np.exp2(0.5 * (_log2(of[SUMS.act_squares]) - np.log2(entries)))
    row = {"act_mean": of[SUMS.act_total] / entries, "act_rms": rms}
    row |= {} if np.isnan(of[WEIGHTS.dead]) else {"dead": of[WEIGHTS.dead]}
    return row | ({"saturated": of[SUMS.flat] / judged} if judged else {})


def norms_of(leaf: Array, stack: int) -> Array:
    """Returns log2 of the norm of each in a stack with `stack` leading axes, of which the result has the shape.

    One pass where no square that counts has left the range of float32, in any of them.
    """
    wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    info, axes = jnp.finfo(wide.dtype), tuple(range(stack, leaf.ndim))
    plain = jnp.sum(jnp.square(wide), axes)
    in_range = (plain > 2.0 ** (info.minexp // 2)) & (plain < 2.0 ** (info.maxexp - 8))

    def scaled() -> Array:
        each = wide.reshape(-1, *leaf.shape[stack:])
        return jax.vmap(log2_norm)(each).reshape(leaf.shape[:stack])

    return jax.lax.cond(jnp.all(in_range), lambda: 0.5 * jnp.log2(plain), scaled)


def zeros_of(leaf: Array, stack: int, dtype: Any) -> Array:
    """Returns the fraction of entries that are 0, of each in a stack. Two bytes an entry are enough for a 0 or a 1."""
    axes = tuple(range(stack, leaf.ndim))
    count = jnp.sum((leaf == 0).astype(jnp.bfloat16), axes, dtype=dtype)
    return count / (leaf.size // math.prod(leaf.shape[:stack]))


@partial(jax.jit, static_argnums=1)
def _norms(leaves: list[Array], stacks: tuple[int, ...]) -> list[Array]:
    return [norms_of(leaf, stack) for leaf, stack in zip(leaves, stacks, strict=True)]


def _log2(sums: np.ndarray) -> float:
    """Returns log2 of a sum of squares that was taken at each of SCALES: where it is largest and still finite."""
    for value, scale in zip(sums, SCALES, strict=True):
        if np.isfinite(value):
            return np.log2(value) - scale
    return np.log2(sums[-1])
