"""What theory says over the plane of a map: how deep each net is in its correlation depth and gradient depth."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from vgx.config.schema import Config
from vgx.config.sweep import Sweep
from vgx.data import Source
from vgx.errors import ConfigError
from vgx.results.map_cells import MapAxis, nice
from vgx.theory import streams
from vgx.theory.limits import Limit, limit
from vgx.theory.predict import FAULTS, InputStatistics, fault_in_words, net_of, source_of

FINER = 4
"""Points of theory's grid from one value of the first grid to the next, along x."""
MANY = 100
"""Nets from which theory's grid is half as fine, since each may take a tenth of a second."""
FARTHEST = 1e6
"""The largest ratio that is told: of a net in which the scale is next to no layer."""


class DepthRatios(NamedTuple):
    """A net's depth over two depths of theory's: 0 where the depth is infinite, None where unknown."""

    correlation: float | None
    gradient: float | None
    reason: str = ""
    """Why one is unknown."""


class MapTheory:
    """The depth ratios of configs, those of one net worked out once."""

    def __init__(self) -> None:
        self._sources: dict[Source, InputStatistics] = {}
        self._known: dict[Any, Limit | str] = {}

    def __call__(self, config: Config) -> DepthRatios:
        """Returns how deep a config's net is in theory's depths."""
        found = self._limit(config)
        if isinstance(found, str):
            return DepthRatios(None, None, found)
        depth = len(config.model.widths)
        correlation, gradient = (
            None if math.isnan(scale) else min(depth / scale, FARTHEST) if scale else FARTHEST
            for scale in (found.correlation_depth_scale, found.depth_scale)
        )
        normalization = config.model.normalization.name
        reason = (
            f"theory has no correlation depth for {normalization} norm"
            if normalization == "batch"
            else ("every correlation stays as it is")
        )
        return DepthRatios(correlation, gradient, "" if correlation is not None else reason)

    def _limit(self, config: Config) -> Limit | str:
        net = limit_key(config)
        if net not in self._known:
            data = config.data
            self._sources[data] = self._sources.get(data) or source_of(data.load(), data.input)
            source = self._sources[data]
            asked = net_of(shallowest(config), source)
            try:
                leads = streams.limit if config.model.residual.skips else limit
                self._known[net] = leads(asked, source.signal)
            except ConfigError as error:
                self._known[net] = str(error)
            except FAULTS as error:
                self._known[net] = fault_in_words(error)
        return self._known[net]


def shallowest(config: Config) -> Config:
    """Returns the config with two hidden layers where those lead to the limit that as many as it has lead to.

    That is so but for skip connections, whose scale may be of the depth, and for layers of several widths.
    """
    model = config.model
    if model.residual.skips or isinstance(model.width, tuple):
        return config
    return config.model_copy(update={"model": model.model_copy(update={"depth": 2})})


def limit_key(config: Config) -> Any:
    """Returns what a limit depends on."""
    return config.data, config.train.batch_size, config.train.loss, shallowest(config).model


def theory_over(sweep: Sweep, x: MapAxis, y: MapAxis, theory: MapTheory) -> dict[str, Any]:
    """Returns what `map.json` has of theory: both depth ratios over a grid finer than that of the sweep."""
    nets = len({limit_key(cell.config) for cell in sweep.cells})
    finer = FINER if nets * FINER < MANY else FINER // 2
    xs, ys = _between(x, finer), _between(y, FINER // 2)
    grid = replace(sweep, map=None).rebuilt({x.path: xs, y.path: ys}, [])
    found = iter([theory(cell.config) for cell in grid.cells])
    ratios = [[next(found) for _ in ys] for _ in xs]
    return {"x": xs, "y": ys} | {
        name: [[getattr(one, name) for one in column] for column in ratios] for name in ("correlation", "gradient")
    }


def _between(axis: MapAxis, parts: int) -> list[float]:
    """The values of an axis, and so many less one between each and the next."""
    found = set(axis.values)
    for a, b in pairwise(map(axis.at, axis.values)):
        found |= {nice(axis.value(a + i / parts * (b - a)), axis.whole) for i in range(1, parts)}
    return sorted(found)
