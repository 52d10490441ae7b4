"""What configs expect of lanes that have been trained, judged: the slope that theory predicts is worked out here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vgx.config.schema import Config
from vgx.results.expectations import ExpectationResult, evaluate, facts_of
from vgx.results.store import Run
from vgx.theory.predict import FAULTS, fault_in_words, predict


def with_expectations(run: Run, groups: Iterable[tuple[Config, Sequence[int]]]) -> Run:
    """Returns the run with what each config expects of its lanes, and whether it holds; `groups` are such pairs."""
    asking = [(config, lanes) for config, lanes in groups if config.expect.asks]
    facts = {fact["lane"]: fact for fact in facts_of(run)} if asking else {}
    results: list[ExpectationResult] = []
    for config, lanes in asking:
        mine = [facts[lane] for lane in lanes]
        results += evaluate(config.expect.model_dump(mode="json"), mine, _predicted_slope(config))
    return Run(run.path, results)


def _predicted_slope(config: Config) -> tuple[float, float] | str | None:
    """The predicted slope and its tolerance, if the config expects that; why there is none, if there is none."""
    if config.expect.slope is None or "predicted" not in config.expect.slope:
        return None
    try:
        prediction = predict(config)
    except FAULTS as error:
        return fault_in_words(error)
    return prediction.reasons.get("slope") or (prediction.slope, prediction.slope_tolerance)
