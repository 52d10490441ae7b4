"""What configs expect of lanes that have been trained, judged: the slope that theory predicts is worked out here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vgx.config.schema import Config
from vgx.results.expectations import ExpectationResult, evaluate, facts_of
from vgx.results.lane_results import LayerFigures, layer_figures
from vgx.results.store import Run
from vgx.theory.predict import FAULTS, fault_in_words, predict


def with_expectations(
    run: Run, groups: Iterable[tuple[Config, Sequence[int]]], known: Mapping[int, LayerFigures]
) -> Run:
    """Returns the run with what each config expects of its lanes, and whether it holds.

    Args:
        run: whose lanes have ended.
        groups: configs, and the lanes of each.
        known: what was found of lanes as they ended; of others the tables are read.
    """
    asking = [(config, list(lanes)) for config, lanes in groups if config.expect.asks]
    rows = {row["lane"]: row for row in run.lanes().to_pylist()} if asking else {}
    results: list[ExpectationResult] = []
    for config, lanes in asking:
        unknown = [lane for lane in lanes if lane not in known]
        figures = {**known, **(layer_figures(run, unknown, len(config.model.widths)) if unknown else {})}
        facts = [facts_of(rows[lane], figures[lane]) for lane in lanes]
        results += evaluate(config.expect.model_dump(mode="json"), facts, _predicted_slope(config))
    run.expectations = tuple(results)
    return run


def _predicted_slope(config: Config) -> tuple[float, float] | str | None:
    """The predicted slope and its tolerance, if the config expects that; why there is none, if there is none."""
    if config.expect.slope is None or "predicted" not in config.expect.slope:
        return None
    try:
        prediction = predict(config)
    except FAULTS as error:
        return fault_in_words(error)
    return prediction.reasons.get("slope") or (prediction.slope, prediction.slope_tolerance)
