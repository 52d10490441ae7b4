"""What theory says of a run's lanes, kept beside what their first steps showed: `prediction.parquet`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vgx.config.schema import Config
from vgx.data import Dataset
from vgx.errors import ConfigError
from vgx.results.agreement import prediction_rows
from vgx.results.curves import rows_by_lane
from vgx.results.lane_results import MAX_ROWS
from vgx.results.store import Run
from vgx.results.writer import RunWriter
from vgx.theory import mean_field
from vgx.theory.predict import FAULTS, InputStatistics, fault_in_words, net_of, source_of


class PredictionWriter:
    """Writes the predictions of lanes; those of one net on one data set share what is worked out.

    A run does without a prediction that fails: there are no rows of it.
    """

    def __init__(self, data: Callable[[Config], Dataset]):
        self.fault = ""
        """Why a prediction failed, in a line: the first that did."""
        self._data = data
        self._sources: dict[str, InputStatistics] = {}
        self._curves: dict[str, mean_field.Propagation | None] = {}

    def write(self, writer: RunWriter, configs: Mapping[int, Config]) -> None:
        """Writes `prediction.parquet` for these lanes, with what their first steps showed if that is written already.

        Of a net that theory does not know there are no rows.
        """
        writer.write_prediction(self._parts(Run(writer.path), configs))

    def _parts(self, run: Run, configs: Mapping[int, Config]) -> Iterator[pa.Table]:
        lanes = list(configs)
        deepest = max((len(config.model.widths) for config in configs.values()), default=0) + 1
        together = max(1, MAX_ROWS // deepest)
        for some in (lanes[start : start + together] for start in range(0, len(lanes), together)):
            first = run.layers(where=(pc.field("step") == 1) & pc.field("lane").isin(some))
            rows = rows_by_lane(first)
            for lane in some:
                curves = self._curves_of(configs[lane])
                if curves is not None:
                    yield prediction_rows(curves, lane, first.take(rows.get(lane, np.zeros(0, int))))

    def _curves_of(self, config: Config) -> mean_field.Propagation | None:
        dataset = self._data(config)
        inputs = f"{dataset.digest} {config.data.input}"
        net = f"{inputs} {config.train.batch_size} {config.model.model_dump_json()}"
        if net not in self._curves:
            self._curves[net] = self._foreseen(config, dataset, inputs)
        return self._curves[net]

    def _foreseen(self, config: Config, dataset: Dataset, inputs: str) -> mean_field.Propagation | None:
        try:
            if inputs not in self._sources:
                self._sources[inputs] = source_of(dataset, config.data.input)
            source = self._sources[inputs]
            return mean_field.propagate(net_of(config, source), source.signal)
        except ConfigError:  # a normalization of the user's own
            return None
        except FAULTS as error:
            self.fault = self.fault or fault_in_words(error)
            return None
