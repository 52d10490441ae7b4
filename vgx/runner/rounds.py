"""What a sweep has done and has still to do: a row per lane, and a file per round of lanes, each renamed into place.

    lanes.parquet        lane, cell, seed, the swept options, status, verdict, slope, final metrics, error
    rounds/0000.json     program, lanes, room, status (pending | running | interrupted | done | failed), step, seconds,
                         ran_on (the host and the devices, and from which step; another one where it went on elsewhere)
    checkpoint/0000/     of a round that is not done

A lane keeps its number for good: a sweep that grows adds lanes behind those that are there.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from vgx.errors import Damaged
from vgx.results.files import explained
from vgx.results.reading import read_table
from vgx.results.schemas import LaneResult
from vgx.results.store import Run
from vgx.results.values import column
from vgx.results.writer import RunWriter, lane_rows

LANES_SHARE = 0.05
"""The most of the time that rewriting the table of lanes takes: where it is long, not every round rewrites it."""
PENDING = ("pending", "running", "interrupted")
"""What a round or a lane is that has still to be run, or to the end."""


class SweepState:
    """The account of a sweep directory, to read and to write."""

    def __init__(self, writer: RunWriter):
        self.writer = writer
        self.rounds: dict[int, dict[str, Any]] = Run(writer.path).rounds
        self.lanes: list[dict[str, Any]] = self._known_lanes()
        self._written, self._cost = -math.inf, 0.0
        """When the table of lanes was last written, and the seconds that it took."""

    def _known_lanes(self) -> list[dict[str, Any]]:
        """The rows of `lanes.parquet`; those that it lost, made again from the rounds, are pending.

        Raises Damaged when a lane is in no round, or the round does not tell its cell.
        """
        path = self.writer.path / "lanes.parquet"
        rows: dict[int, dict[str, Any]] = {}
        with suppress(Damaged):
            rows = {row["lane"]: row for row in read_table(path, lane_rows([]).schema).to_pylist()}
        for state in self.rounds.values():
            if "cells" in state and "seeds" in state:
                for lane, cell, seed in zip(state["lanes"], state["cells"], state["seeds"], strict=False):
                    rows.setdefault(lane, {"lane": lane, "cell": cell, "seed": seed, "status": "pending"})
        known = {lane for state in self.rounds.values() for lane in state["lanes"]} | set(rows)
        for lane in range(max(known, default=-1) + 1):
            if lane not in rows or not isinstance(rows[lane].get("cell"), str):
                raise Damaged(path, f"is missing or has no lane {lane}")
        return [rows[lane] for lane in sorted(rows)]

    def lost_results(self) -> list[int]:
        """Returns the rounds that ended though the table of lanes says that a lane of theirs did not."""
        return [
            number
            for number, state in self.rounds.items()
            if state["status"] not in PENDING and any(self.lanes[lane]["status"] in PENDING for lane in state["lanes"])
        ]

    def add_lanes(self, wanted: Sequence[tuple[str, int]], options: Mapping[str, Mapping[str, Any]]) -> None:
        """Gives a number to each (cell, seed) that has none yet, and writes the table.

        `options` are the values of the swept options of each cell, by the cell's key.
        """
        known = {(lane["cell"], lane["seed"]) for lane in self.lanes}
        for cell, seed in wanted:
            if (cell, seed) not in known:
                self.lanes.append({"lane": len(self.lanes), "cell": cell, "seed": seed, "status": "pending"})
        self.options = options
        self.write_lanes()

    def write_lanes(self) -> None:
        """Replaces `lanes.parquet`."""
        began = time.monotonic()
        paths = list(dict.fromkeys(path for values in self.options.values() for path in values))
        figures = [name for name in LaneResult._fields if name not in ("lane", "seed", "status")]
        results = pa.Table.from_pylist(
            [{name: lane.get(name) for name in ("lane", "seed", "status", *figures)} for lane in self.lanes],
            schema=lane_rows([]).schema,
        )
        columns = {"lane": results["lane"], "cell": pa.array([lane["cell"] for lane in self.lanes], pa.string())}
        columns["seed"] = results["seed"]
        for path in paths:
            columns[path] = pa.array(column([self.options[lane["cell"]].get(path) for lane in self.lanes]))
        columns |= {name: results[name] for name in ("status", *figures)}
        columns["error"] = pa.array([lane.get("error") for lane in self.lanes], pa.string())
        self.writer.write_lanes(pa.table(columns))
        self._written = time.monotonic()
        self._cost = self._written - began

    def _keep_lanes(self) -> None:
        """Replaces `lanes.parquet` if it is time: what it does not tell yet, `lost_results` finds after a kill."""
        if time.monotonic() - self._written > self._cost / LANES_SHARE:
            self.write_lanes()

    def unplanned(self) -> list[int]:
        """Returns the lanes that have not ended, and are in no round."""
        planned = {lane for state in self.rounds.values() for lane in state["lanes"]}
        return [lane["lane"] for lane in self.lanes if lane["lane"] not in planned and lane["status"] in PENDING]

    def add_round(self, program: str, lanes: Sequence[int], capacity: int) -> int:
        """Plans a round of these lanes, in a program for `capacity` of them; returns its number."""
        number = max(self.rounds, default=-1) + 1
        self._write(
            number,
            {
                "program": program,
                "lanes": list(lanes),
                "cells": [self.lanes[lane]["cell"] for lane in lanes],
                "seeds": [self.lanes[lane]["seed"] for lane in lanes],
                "room": capacity,
                "status": "pending",
                "step": 0,
                "seconds": 0.0,
                "compile_seconds": 0.0,
                "steps_per_second": None,
            },
        )
        return number

    def _write(self, number: int, state: dict[str, Any]) -> None:
        self.rounds[number] = state
        with explained(self.writer.path, run=True):
            (self.writer.path / "rounds").mkdir(exist_ok=True)
        self.writer.write_json(f"rounds/{number:04d}.json", state)

    def update(self, number: int, values: Mapping[str, Any]) -> None:
        """Notes how far a round is."""
        self._write(number, {**self.rounds[number], **values})

    def checkpoint(self, number: int) -> str:
        """Returns the name of a round's checkpoint folder in the run directory."""
        return f"checkpoint/{number:04d}"

    def to_do(self) -> Iterator[int]:
        """Yields the rounds still to be run, those that are planned on the way too; programs one after the other."""
        while (number := self.next_round()) is not None:
            yield number

    def next_round(self, but: int | None = None) -> int | None:
        """Returns the next round to be run, other than `but`; None where none is left."""
        left = [number for number, state in self.rounds.items() if state["status"] in PENDING and number != but]
        return min(left, key=lambda number: (self._first_of_program(number), number), default=None)

    def _first_of_program(self, number: int) -> int:
        program = self.rounds[number]["program"]
        return next(other for other, state in self.rounds.items() if state["program"] == program)

    def finish(self, number: int, results: Sequence[LaneResult], step: int) -> None:
        """Notes how the lanes of a round ended."""
        for result in results:
            self.lanes[result.lane] |= result._asdict() | {"error": None}
        self._keep_lanes()
        self._write(number, self.rounds[number] | {"status": "done", "step": step})
        shutil.rmtree(self.writer.path / self.checkpoint(number), ignore_errors=True)

    def fail(self, number: int, error: str, details: str) -> None:
        """Notes that a round cannot be run; nothing of its lanes is kept."""
        state = self.rounds[number]
        self._clear(number)
        for lane in state["lanes"]:
            self.lanes[lane] |= {"status": "failed", "error": error}
        self._keep_lanes()
        self._write(number, state | {"status": "failed", "step": 0, "error": error, "details": details})

    def halve(self, number: int, devices: int) -> bool:
        """Makes two rounds of one, which begin anew; returns False when it cannot be made any smaller."""
        state = self.rounds[number]
        half = -(-len(state["lanes"]) // 2)
        capacity = -(-half // devices) * devices
        if capacity >= state["room"]:
            return False
        self._clear(number)
        rest = state["lanes"][half:]
        first = {key: state[key][:half] for key in ("lanes", "cells", "seeds") if key in state}
        self._write(number, state | first | {"room": capacity, "step": 0, "status": "pending"})
        if rest:
            self.add_round(state["program"], rest, capacity)
        return True

    def retry_failed(self) -> None:
        """Puts the rounds that failed back among those to do."""
        for number, state in list(self.rounds.items()):
            if state["status"] == "failed":
                for lane in state["lanes"]:
                    self.lanes[lane] |= {"status": "pending", "error": None}
                again = {key: value for key, value in state.items() if key not in ("error", "details")}
                self._write(number, again | {"status": "pending"})
        self.write_lanes()  # `lost_results` looks for lanes that are pending

    def _clear(self, number: int) -> None:
        """Removes what a round has written."""
        self.writer.drop_after(0, self.rounds[number]["lanes"])
        shutil.rmtree(self.writer.path / self.checkpoint(number), ignore_errors=True)
