"""What theory says of a run's lanes, written for them: `prediction.parquet`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Any

from vgx.config.schema import Config
from vgx.data import Dataset
from vgx.errors import ConfigError
from vgx.results.prediction import prediction_rows
from vgx.results.writer import RunWriter
from vgx.theory import mean_field
from vgx.theory.predict import FAULTS, InputStatistics, fault_in_words, net_of, source_of

Known = dict[Any, mean_field.Propagation | str | None]
"""What theory says of nets: a string is why it fails, None that it does not know the normalization."""


def _net(config: Config) -> Any:
    """What predictions depend on."""
    return config.data, config.train.batch_size, config.train.loss, config.model


class Predictions:
    """What theory says of configs, those of one net on one data set worked out once. Threads may share it."""

    def __init__(self, data: Callable[[Config], Dataset]):
        """`data` loads a config's."""
        self._data = data
        self._sources: dict[tuple[str, str], InputStatistics] = {}
        self._known: Known = {}
        self._lock = Lock()

    def prepare(self, configs: Iterable[Config]) -> None:
        """Works them out ahead of time."""
        for config in configs:
            self._of(config)

    def known(self, configs: Iterable[Config]) -> Known:
        """Returns what it says of these configs, worked out by now, for another process to `learn`."""
        return {net: self._of(config) for config in configs for net in [_net(config)]}

    def learn(self, known: Known) -> None:
        """Takes over what another process has worked out."""
        with self._lock:
            self._known |= known

    def write(self, writer: RunWriter, configs: Mapping[int, Config]) -> str:
        """Writes `prediction.parquet` for lanes.

        Of a net that theory does not know, or where it fails, there are no rows. Returns the first failure in a line,
        or nothing.
        """
        found = {lane: self._of(config) for lane, config in configs.items()}
        curves = ((lane, one) for lane, one in found.items() if isinstance(one, mean_field.Propagation))
        writer.write_prediction(prediction_rows(one, lane) for lane, one in curves)
        return next((one for one in found.values() if isinstance(one, str)), "")

    def _of(self, config: Config) -> mean_field.Propagation | str | None:
        """What theory says; why it fails; or None for a normalization of the user's own."""
        net = _net(config)
        with self._lock:
            if net not in self._known:
                self._known[net] = self._propagation(config)
            return self._known[net]

    def _propagation(self, config: Config) -> mean_field.Propagation | str | None:
        dataset = self._data(config)
        inputs = dataset.digest, config.data.input
        try:
            if inputs not in self._sources:
                self._sources[inputs] = source_of(dataset, config.data.input)
            return mean_field.propagate(net_of(config, self._sources[inputs]), self._sources[inputs].signal)
        except ConfigError:
            return None
        except FAULTS as error:
            return fault_in_words(error)
