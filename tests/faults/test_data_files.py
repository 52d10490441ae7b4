"""Whatever a data file holds, it is a valid data set or refused in a line that names it, in bounded memory and time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from faults.commands import Outcome, Warm, none, troubles
from faults.data_files import idx_sources, npz_sources, special_sources
from vgx.results.safe_text import one_line

pytestmark = pytest.mark.faults

CHUNKS, FILES = 8, 36
MOST_MEMORY = 400 * 2**20
"""Bytes that a small file, or one that is refused, may take; a bomb unpacks to 3 GiB."""
SECONDS = 10


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("make", [idx_sources, npz_sources])
def test_a_damaged_data_file_is_refused_in_a_line_or_still_right(
    make, chunk, random: Random, warm: Warm, tmp_path: Path, tally: Callable
):
    sources = list(make(random, tmp_path, FILES // 2))
    judge([(str(number), source) for number, source in enumerate(sources)], warm, tally)


def test_what_is_no_file_or_too_large_is_refused_before_it_is_read(
    random: Random, warm: Warm, tmp_path: Path, tally: Callable
):
    judge(list(special_sources(tmp_path, random)), warm, tally, refused=True)


def judge(sources: list[tuple[str, dict[str, Any]]], warm: Warm, tally: Callable, refused: bool = False) -> None:
    """Loads each, and fails for those that did not end as they should."""
    least = loaded(warm, {"name": "digits"}).peak
    found, counts = [], {"refused": 0, "accepted": 0, "tracebacks": 0}
    for name, source in sources:
        outcome = loaded(warm, source)
        found += [f"{name}: {one}" for one in wrongs(outcome, source, least, refused)]
        counts["tracebacks"] += "Traceback" in outcome.err
        for word in ("refused", "accepted"):
            counts[word] += outcome.out.startswith(f'{{"{word}"')
    tally("data files", all=len(sources), **counts, failed=len(found))
    none(found)


def loaded(warm: Warm, source: dict[str, Any]) -> Outcome:
    how: dict[str, Any] = {"call": "faults.data_files:load", "limits": {"AS": 8 * 2**30, "CPU": SECONDS}}
    return warm(json.dumps(source), timeout=2 * SECONDS, **how)


def wrongs(outcome: Outcome, source: dict[str, Any], least: int, refused: bool) -> list[str]:
    """Returns what is wrong with how a data set was loaded."""
    if found := troubles(outcome, 0):
        return found
    said = json.loads(outcome.out)
    if outcome.peak > least + MOST_MEMORY:
        found.append(f"took {(outcome.peak - least) / 2**20:,.0f} MiB")
    if "refused" in said:
        paths = [value for key, value in source.items() if key != "name"]
        if not any(one_line(path) in said["refused"] or len(path) > 999 for path in paths):
            found.append("no mention of the file")
        if "\n" in said["refused"] or len(said["refused"]) > 1000 + max(map(len, paths)):
            found.append("not one line")
        if not said["refused"].isprintable():
            found.append("raw control characters")
    elif refused:
        found.append("accepted")
    return [f"{'; '.join(found)}:\n{outcome}"] if found else []
