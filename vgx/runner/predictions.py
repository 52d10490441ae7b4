"""What theory says of a run's lanes, written for them: `prediction.parquet`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from vgx.config.schema import Config
from vgx.data import Dataset
from vgx.errors import ConfigError
from vgx.results.prediction import prediction_rows
from vgx.results.writer import RunWriter
from vgx.theory import mean_field
from vgx.theory.predict import FAULTS, InputStatistics, fault_in_words, net_of, source_of


def write_predictions(writer: RunWriter, configs: Mapping[int, Config], data: Callable[[Config], Dataset]) -> str:
    """Writes `prediction.parquet` for lanes, those of one net on one data set worked out once; `data` loads them.

    Of a net that theory does not know, or where it fails, there are no rows. Returns the first failure in a line, or
    nothing.
    """
    sources: dict[tuple[str, str], InputStatistics] = {}
    known: dict[Any, mean_field.Propagation | str | None] = {}

    def propagation(config: Config) -> mean_field.Propagation | str | None:
        """What theory says; why it fails; or None for a normalization of the user's own."""
        dataset = data(config)
        inputs = dataset.digest, config.data.input
        try:
            if inputs not in sources:
                sources[inputs] = source_of(dataset, config.data.input)
            return mean_field.propagate(net_of(config, sources[inputs]), sources[inputs].signal)
        except ConfigError:
            return None
        except FAULTS as error:
            return fault_in_words(error)

    def parts() -> Iterator[pa.Table]:
        for lane, config in configs.items():
            net = config.data, config.train.batch_size, config.model
            if net not in known:
                known[net] = propagation(config)
            if isinstance(found := known[net], mean_field.Propagation):
                yield prediction_rows(found, lane)

    writer.write_prediction(parts())
    return next((found for found in known.values() if isinstance(found, str)), "")
