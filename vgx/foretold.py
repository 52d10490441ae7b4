"""What theory says of a run's lanes, kept beside what their first steps showed: `prediction.parquet`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vgx import theory
from vgx.agreement import prediction_rows
from vgx.config import Config
from vgx.data import Dataset
from vgx.errors import ConfigError
from vgx.outcome import MOST_ROWS, rows_by_lane
from vgx.prediction import Source, net_of, source_of
from vgx.run_directory import Run, RunWriter


def foretell(writer: RunWriter, configs: Mapping[int, Config], data: Callable[[Config], Dataset]) -> None:
    """Writes the predictions of lanes, given their configs, and what their first steps showed if these are written.

    Lanes of one net on one data set share a prediction. Of a net that theory does not know there are no rows.
    """
    sources: dict[str, Source] = {}
    known: dict[str, theory.Curves | None] = {}

    def curves_of(config: Config) -> theory.Curves | None:
        dataset = data(config)
        inputs = f"{dataset.digest} {config.data.input}"
        net = f"{inputs} {config.train.batch_size} {config.model.model_dump_json()}"
        if net not in known:
            if inputs not in sources:
                sources[inputs] = source_of(dataset, config.data.input)
            known[net] = _curves(config, sources[inputs])
        return known[net]

    def parts() -> Iterator[pa.Table]:
        lanes = list(configs)
        deepest = max((len(config.model.widths) for config in configs.values()), default=0) + 1
        together = max(1, MOST_ROWS // deepest)
        for some in (lanes[start : start + together] for start in range(0, len(lanes), together)):
            first = Run(writer.path).layers(where=(pc.field("step") == 1) & pc.field("lane").isin(some))
            rows = rows_by_lane(first)
            for lane in some:
                curves = curves_of(configs[lane])
                if curves is not None:
                    yield prediction_rows(curves, lane, first.take(rows.get(lane, np.zeros(0, int))))

    writer.write_prediction(parts())


def _curves(config: Config, source: Source) -> theory.Curves | None:
    try:
        return theory.propagate(net_of(config, source), source.signal)
    except ConfigError:  # a normalization of the user's own
        return None
