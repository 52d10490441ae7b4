"""`instrument` and `strip`: a watched copy of a model, and the original back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from vgx.errors import WatchError
from vgx.watch import flax_nnx, trees
from vgx.watch.activations import Activations, Given
from vgx.watch.taps import Probe


def instrument(
    model: Any,
    only: Callable[[str, Any], bool] | None = None,
    also: Mapping[type, int] | None = None,
    activation: Given | Mapping[str, Given | None] | None = None,
) -> Any:
    """Returns a copy of a model whose layers tap what they leave.

    Watched are NNX's Linear, LinearGeneral, Einsum, Conv, ConvTranspose and Embed and Equinox's Linear, Conv,
    ConvTranspose and Embedding, wherever they stand: the projections of attention, too. The copy computes the same
    numbers; each watched layer is of a subclass of its type and has one more variable, of zeros. Make optimizers of the
    copy. Parameters in plain containers get a `probe` in each dictionary that has weights of two axes or more; the
    function says where: `watch.tap(x @ layer["w"] + layer["b"], layer["probe"])`.

    Args:
        model: the model, which stays as it is.
        only: from a layer's path (`blocks.mlp.up`) and the layer to whether it is watched, e.g.
            `lambda path, layer: "attention" in path`.
        also: further types of modules whose output is tapped, each with the number of axes that its weights have
            where it is not stacked (0: it has none of its own).
        activation: what comes right behind the layers, which is measured, too: a name of `vgx parts`, such as "relu",
            or an elementwise function for all of them; or one for each pattern of paths, of which the first that
            matches counts: `{"readout": None, "blocks.*.up": nnx.gelu, "hidden.*": "relu"}`.

    Raises:
        WatchError: nothing in the model can be watched; no such activation, or no such layer.
    """
    activations = Activations(activation)
    if isinstance(model, nnx.Module):
        watched = flax_nnx.instrument(model, only, also or {}, activations)
        found = bool(jax.tree.leaves(nnx.state(watched, flax_nnx.LayerProbe)))
    elif trees.is_equinox(model):
        watched = trees.instrument(model, only, also or {}, activations)
        found = has_probes(watched)
    else:
        if also:
            raise WatchError(
                f"instrument: also: names types of modules, and there are none in a {type(model).__name__}"
            )
        if activation is not None:
            raise WatchError(
                "instrument: activation: names what follows modules; in a function say it where it is: "
                'watch.tap(h, probe, activation="relu")'
            )
        watched = trees.instrument_mappings(model, only)
        found = has_probes(watched)
    if not found:
        which = " that `only` accepts" if only else ""
        raise WatchError(
            f"instrument: {type(model).__name__} has no layer to watch{which}; name types of your own in `also`, "
            "or put watch.probe() beside the weights and watch.tap(h, probe) into the function"
        )
    activations.check()
    return watched


def strip(model: Any) -> Any:
    """Returns a watched model without its taps, with the weights that it has now: its types are the original's."""
    if isinstance(model, nnx.Module):
        return flax_nnx.strip(model)
    if trees.is_equinox(model):
        return trees.strip(model)
    return trees.strip_mappings(model)


def has_probes(model: Any) -> bool:
    """Whether a pytree has a probe in it."""
    return any(isinstance(node, Probe) for node in jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, Probe)))
