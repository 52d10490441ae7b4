"""The one gate for what is read from a run directory: checked here once, so that what is damaged gives one line.

A run may come from a stranger, from another version, or from a disk that lost half of it. Whoever reads one gets values
of the types below, or `Damaged`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypeVar, cast

import pyarrow as pa
import yaml
from pyarrow import parquet
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from vgx.errors import Damaged, RunError
from vgx.results.manifest import open_regular, text_of, unreadable

FORMAT = 2
"""Of the run directories that this version writes: 2 lists the parts of its tables. It stands in `meta.json`; where
there is none, it is 1."""

_OPEN = with_config(ConfigDict(extra="allow"))
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@_OPEN
class _State(TypedDict):
    """How far a run is."""

    format: NotRequired[_Count]
    status: Literal["running", "done", "interrupted", "failed"]
    step: _Count
    seconds: _Seconds
    compile_seconds: _Seconds
    steps_per_second: _Seconds | None
    versions: NotRequired[dict[str, str]]
    host: NotRequired[dict[str, Any]]
    data_digest: NotRequired[str]
    started: NotRequired[str]
    lanes: NotRequired[_Count]
    lanes_done: NotRequired[_Count]
    programs: NotRequired[_Count]
    rounds: NotRequired[_Count]
    rounds_done: NotRequired[_Count]


@_OPEN
class Meta(_State):
    """`meta.json`."""

    devices: Annotated[list[str], Field(min_length=1)]


@_OPEN
class _FirstNotFinite(TypedDict):
    step: _Count
    direction: Literal["forward", "backward", "loss"]
    layer: Annotated[int, Field(ge=1)] | None
    loss_step: _Count | None
    recovered: bool


@_OPEN
class WatchedMeta(_State):
    """`meta.json` of a watched run, whose devices are not vgx's to know."""

    watched: Literal[True]
    first_not_finite: NotRequired[_FirstNotFinite]


@_OPEN
class Round(TypedDict):
    """`rounds/0000.json` of a sweep."""

    program: str
    lanes: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
    room: _Count
    status: Literal["pending", "running", "interrupted", "done", "failed"]
    step: _Count
    seconds: _Seconds
    compile_seconds: _Seconds
    steps_per_second: _Seconds | None
    cells: NotRequired[list[str]]
    """Of its lanes, and `seeds` theirs: `lanes.parquet` can be made again from these."""
    seeds: NotRequired[list[int]]
    error: NotRequired[str]


@_OPEN
class _Part(TypedDict):
    name: str


@_OPEN
class _Normalization(TypedDict):
    name: str
    placement: NotRequired[str]


@_OPEN
class _Optimizer(TypedDict):
    name: str
    learning_rate: float


@_OPEN
class _Data(TypedDict):
    name: str
    input: NotRequired[str]


@_OPEN
class _Model(TypedDict):
    depth: NotRequired[Annotated[int, Field(ge=1)] | None]
    width: Annotated[int, Field(ge=1)] | Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    activation: _Part
    initializer: _Part
    bias: _Part
    normalization: _Normalization


@_OPEN
class _Train(TypedDict):
    batch_size: Annotated[int, Field(ge=1)] | Literal["full"]
    optimizer: _Optimizer
    precision: Literal["float32", "bfloat16", "float64"]


@_OPEN
class _Log(TypedDict):
    every: Annotated[int, Field(ge=1)]
    statistics: Literal["none", "lite", "standard", "full"]


@_OPEN
class _Sweep(TypedDict):
    axes: dict[str, list[Any]]
    cells: list[dict[str, Any]]


@_OPEN
class RunConfig(TypedDict):
    """`config.yaml`: what readers of a run rest on; its parts may be a stranger's, and are not looked up."""

    name: str
    seeds: Annotated[int, Field(ge=1, le=10_000)] | Annotated[list[int], Field(min_length=1)]
    data: _Data
    model: _Model
    train: _Train
    log: _Log
    sweep: NotRequired[_Sweep]


@_OPEN
class WatchedConfig(TypedDict):
    """`config.yaml` of a watched run."""

    name: str
    seeds: Annotated[list[int], Field(min_length=1, max_length=1)]
    watched: dict[str, Any]
    """The config that its loop handed over, whatever stands in it."""


T = TypeVar("T")


def read_json(path: Path, kind: type[T]) -> T:
    """Returns what a JSON file holds. Raises Damaged when it is not there, or not of this kind."""
    text = _text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Damaged(path, "is no JSON") from None
    if kind is Meta and isinstance(value, dict) and isinstance(number := value.get("format"), int) and number > FORMAT:
        raise RunError(
            f"{path}: format {number} is newer than this vgx, which reads up to {FORMAT}; install a newer vgx"
        )
    if kind is Meta and isinstance(value, dict) and "watched" in value:
        return cast(T, valid(path, WatchedMeta, value))
    return valid(path, kind, value)


def read_yaml(path: Path, kind: type[T]) -> T:
    """Returns what a YAML file holds. Raises Damaged when it is not there, or not of this kind."""
    text = _text(path)
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError):
        raise Damaged(path, "is no YAML that vgx writes") from None
    if kind is RunConfig and isinstance(value, dict) and "watched" in value:
        return cast(T, valid(path, WatchedConfig, value))
    return valid(path, kind, value)


class _Loader(yaml.SafeLoader):
    """Reads plain values; aliases, which vgx never writes, could make a small file endless."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def read_table(path: Path, schema: pa.Schema, where: Any = None) -> pa.Table:
    """Returns a Parquet file that has the columns of `schema`, and perhaps more behind them.

    A column that older versions did not write is null throughout. Raises Damaged when the file cannot be read, or a
    column is of another type, or a key is null.
    """
    try:
        with _open_table(path) as file:
            table = parquet.read_table(file, filters=where)
    except FileNotFoundError:
        raise Damaged(path, "is missing") from None
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise unreadable(path, error) from None
    for field in schema:
        if field.name not in table.column_names:
            if not field.nullable:
                raise Damaged(path, f"has no column '{field.name}'")
            table = table.append_column(field, pa.nulls(len(table), field.type))
            continue
        try:
            column = table[field.name].cast(field.type)
        except pa.ArrowException:
            found = table[field.name].type
            raise Damaged(path, f"has a column '{field.name}' of {found}, not {field.type}") from None
        table = table.set_column(table.column_names.index(field.name), field, column)
        if not field.nullable and column.null_count:
            raise Damaged(path, f"has nulls in its column '{field.name}'")
    return table


def _open_table(path: Path) -> pa.NativeFile:
    """Opens a Parquet file: Python's own errors say why it cannot be, and Arrow reads it.

    Arrow's threads may hold a file a moment longer than its reader. One of Python's, let go as Python exits, would
    abort the process.
    """
    with open_regular(path):
        return pa.OSFile(os.fsencode(path))


def table_files(folder: Path) -> list[Path]:
    """Returns the parts in a table's folder, in order; none of a spectrum that there is not.

    Raises Damaged when it cannot be looked into.
    """
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        if folder.name == "spectrum":
            return []
        raise Damaged(folder, "is missing") from None
    except OSError as error:
        raise unreadable(folder, error) from None
    return [folder / name for name in names if re.fullmatch(r"[0-9]+\.parquet", name)]


def check_schema(files: Sequence[Path], schema: pa.Schema) -> None:
    """Raises Damaged for the first part that is no Parquet file, or has not the keys and types of a table."""
    for path in files:
        try:
            with _open_table(path) as file:
                found = parquet.read_schema(file)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise unreadable(path, error) from None
        for field in schema:
            place = found.get_field_index(field.name)
            if place < 0 and not field.nullable:
                raise Damaged(path, f"has no column '{field.name}'")
            if place >= 0 and found.field(place).type != field.type:
                raise Damaged(path, f"has a column '{field.name}' of {found.field(place).type}, not {field.type}")


def _text(path: Path) -> str:
    text = text_of(path)
    if text is None:
        raise Damaged(path, "is missing")
    return text


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def valid(path: Path, kind: type[T], value: Any) -> T:
    """Returns a value that was read from `path`. Raises Damaged when it is not of this kind."""
    try:
        _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))[:80]
        raise Damaged(path, f"{where}: {first['msg']}" if where else first["msg"]) from None
    return value
