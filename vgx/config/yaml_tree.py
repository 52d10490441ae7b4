"""YAML as vgx reads it: plain values by the rules of YAML 1.2, and the place of every key and value.

PyYAML finds the structure and the places. What a word means is decided here, since by PyYAML's YAML 1.1 `no` is false,
`012` is ten and `1e-3` is text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vgx.config.documents import document, position

MAX_VALUES = 100_000
DEEPEST = 32

Keys = tuple[str | int, ...]
"""The way to a value from the root: ("model", "width", 0)."""


class Place(NamedTuple):
    """Where something was written. Places sort as they are read: a file's lines, then overrides in turn."""

    turn: int = 0
    line: int = 0
    column: int = 0
    source: str = ""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


class Fault(NamedTuple):
    """One thing that is wrong, and where; its text is one line."""

    place: Place
    keys: Keys
    reason: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.place), dotted(self.keys), self.reason) if part)


@dataclass
class Tree:
    """Plain values, and where each was written."""

    value: Any = None
    values: dict[Keys, Place] = field(default_factory=dict)
    """The place of each value."""
    keys: dict[Keys, Place] = field(default_factory=dict)
    """The place of each value's key."""
    faults: list[Fault] = field(default_factory=list)
    """What was refused on the way."""

    def place(self, keys: Keys) -> Place:
        """Returns the place of the value at `keys`, or of the nearest one around it."""
        while keys and keys not in self.values:
            keys = keys[:-1]
        return self.values.get(keys, Place())

    def key_place(self, keys: Keys) -> Place:
        """Returns the place of the key that `keys` ends with, or of the nearest value around it."""
        return self.keys.get(keys) or self.place(keys)

    def forget(self, keys: Keys) -> None:
        """Drops the places at and below `keys`, as whoever is about to replace or remove the value there must."""
        value = self.value
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        for below in within(value, keys):
            self.values.pop(below, None)
            self.keys.pop(below, None)


def within(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Yields the way to a plain value, `keys`, and to every value inside it."""
    yield keys
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from within(one, (*keys, key))


def dotted(keys: Keys) -> str:
    """Returns `keys` as a message and `--set` write it: model.activation; a key that is no word is quoted."""
    return ".".join(str(key) if re.fullmatch(r"[\w-]{1,60}", str(key)) else repr(str(key)[:60]) for key in keys)


def shown(value: Any) -> str:
    """Returns how a message speaks of `value`, in a few words on one line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {value!r}" if len(value) <= 60 else f"the text {value[:60]!r}..."
        case int():
            return str(value) if value.bit_length() <= 128 else "a number too long to show"
        case float():
            return repr(value) if math.isfinite(value) else f"{value:f}".replace("inf", ".inf").replace("nan", ".nan")
        case list():
            return "a list" if value else "an empty list"
        case Mapping():
            return "a mapping" if value else "an empty mapping"
    return f"a {type(value).__name__}"


def plain(word: str) -> str | int | float | bool | None:
    """Returns what an unquoted word of YAML means: null, true, false, a number, or else its own text.

    YAML 1.2.2, section 10.3, but `True`, `NULL` and the like stay text. Raises ValueError for a number that other
    readers read as another.
    """
    if word in ("", "~", "null"):
        return None
    if word in ("true", "false"):
        return word == "true"
    if re.fullmatch(r"[-+]?0[0-9]+", word):
        sign, digits = ("-" if word[0] == "-" else ""), word.lstrip("+-0")[:20] or "0"
        octal = f" or {sign}0o{digits}" if re.fullmatch("[0-7]{2,}", digits) else ""
        raise ValueError(f"a number with a leading zero is read as octal by some; write {sign}{digits}{octal}")
    if re.fullmatch(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", word):
        if len(word) > 300:
            raise ValueError(f"a number of {len(word)} digits is more than any option takes")
        return int(word, 0)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", word):
        return float(word)
    if re.fullmatch(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", word):
        return float(word.replace(".", ""))
    return word


def read_file(source: str | Path) -> Tree:
    """Returns the tree in a YAML file, as `document` reads it. What is wrong in the text is among the tree's faults."""
    found = document(source)
    return read(found.text, found.source)


def read(text: str, source: str) -> Tree:
    """Returns the tree of a YAML text; an empty text is None. Whatever is refused is among the tree's faults."""
    builder = _Builder(source)
    try:
        node = _compose(text)
        if node is None:
            builder.tree.values[()] = Place(0, 1, 1, source)
        else:
            builder.tree.value = builder.build(node, ())
    except _Refusal as refusal:
        return Tree(faults=[Fault(Place(0, refusal.line, refusal.column, source), (), refusal.reason)])
    return builder.tree


def take(mapping: Mapping[Any, Any]) -> Tree:
    """Returns a tree that holds a copy of a Python mapping; its places say nothing."""
    tree = Tree()
    above: list[Any] = []

    def copy(value: Any, keys: Keys) -> Any:
        if not isinstance(value, list | Mapping):
            return value
        if len(above) == DEEPEST:
            raise _Refusal(f"nested more than {DEEPEST} deep")
        if any(value is other for other in above):
            raise _Refusal("a list or mapping stands inside itself")
        above.append(value)
        if isinstance(value, list):
            copied = [copy(item, (*keys, index)) for index, item in enumerate(value)]
        else:
            copied = {key: copy(item, (*keys, key)) for key, item in value.items() if isinstance(key, str)}
            others = [key for key in value if not isinstance(key, str)]
            tree.faults += [Fault(Place(), keys, f"a key is a word, and this one is {shown(key)}") for key in others]
        above.pop()
        return copied

    try:
        tree.value = copy(mapping, ())
    except _Refusal as refusal:
        return Tree(faults=[Fault(Place(), (), refusal.reason)])
    return tree


def write(value: Any) -> str:
    """Returns YAML that `read` reads back as the same value, and YAML 1.1 readers too."""
    return yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=math.inf)


def write_inline(value: Any) -> str:
    """Returns YAML for a value that stands within a line, as in `{name: elu, alpha: 0.5}`; else as `write`."""
    text = yaml.dump(
        value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=True
    )
    return text.removesuffix("...\n").strip()


class _Writer(yaml.SafeDumper):
    """Quotes what would not be text if it stood plain, such as 1e3: text in YAML 1.1, a number in YAML 1.2."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(writer: _Writer, text: str) -> yaml.ScalarNode:
    try:
        quote = None if isinstance(plain(text), str) else "'"
    except ValueError:
        quote = "'"
    if not text.isprintable():
        quote = '"'  # else PyYAML breaks the line at U+0085, and reads a space back
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=quote)


_Writer.add_representer(str, _represent_text)


class _Refusal(Exception):
    """Ends the reading: what is wrong, and the line and column (from 1) where."""

    def __init__(self, reason: str, line: int = 0, column: int = 0):
        self.reason, self.line, self.column = reason, line, column


def _refuse(reason: str, mark: Any) -> _Refusal:
    return _Refusal(reason, mark.line + 1, mark.column + 1)


class _Composer(yaml.BaseLoader):
    """Builds PyYAML's node tree, in which a scalar is only its text; bounded in depth and size."""

    depth = 0
    count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if tag := getattr(event, "tag", None):
            name = tag.replace("tag:yaml.org,2002:", "!!")
            raise _refuse(f"the tag {name[:60]!r} is not supported; leave it out", event.start_mark)
        if self.depth == DEEPEST:
            raise _refuse(f"nested more than {DEEPEST} deep", event.start_mark)
        self.count += 1
        if self.count > 2 * MAX_VALUES:  # keys count here too
            raise _refuse(f"more than {MAX_VALUES:,} values", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(text: str) -> yaml.Node | None:
    # PyYAML reads some tabs as the continuation of the line above, others as an error at another place.
    if tab := re.search(r"^ *(\t)[ \t]*[^\s#]", text, re.MULTILINE):
        raise _Refusal("a tab as indentation; YAML indents with spaces", *position(text, tab.start(1)))
    try:
        loader = _Composer(text)
    except yaml.reader.ReaderError as error:
        reason = f"the control character U+{error.character:04X} is not allowed"
        raise _Refusal(reason, *position(text, error.position)) from None
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text) from None
    except (ValueError, OverflowError):  # PyYAML trusts the digits of "\UFFFFFFFF" and of %YAML 1.2
        raise _refuse("an escape or a directive with a number out of range", loader.get_mark()) from None
    finally:
        loader.dispose()


_SYNTAX = {
    "'\\t'": "a tab; YAML separates with spaces",
    "another document": "another document begins here, and a config is one",
    "mapping values are not allowed": "a ':' does not fit here; indent the key like its neighbours, or quote the text",
    "expected <block end>": "this does not fit the lines above; indent it like its neighbours, or quote the text",
    "could not find expected ':'": "a key that starts here lacks its ':'",
    "expected ',' or ']'": "the '[' that starts here is not closed, or lacks a ','",
    "expected ',' or '}'": "the '{' that starts here is not closed, or lacks a ','",
    "unexpected end of stream": "the quoted text that starts here is not closed",
    "unexpected document separator": "the quoted text that starts here is not closed",
    "expected the node content": "a value is missing here",
    "undefined alias": "no anchor before it has the name of this alias",
    "second occurrence": "an anchor of this name stands above already",
    "cannot start any token": "a value that starts with this character needs quotes",
}
"""What PyYAML says, and what is meant."""


def _syntax(error: yaml.MarkedYAMLError, text: str) -> _Refusal:
    problem = " ".join((error.problem or "").split())
    line = error.problem_mark.line if error.problem_mark else 0
    if "mapping values" in problem and (glued := re.match(r" *[\w.-]+:(?=\S)", text.splitlines()[max(line - 1, 0)])):
        return _Refusal("a ':' needs a space after it", max(line, 1), glued.end())
    for part, reason in _SYNTAX.items():
        if part in problem:
            return _refuse(reason, error.context_mark if "starts here" in reason else error.problem_mark)
    return _refuse(f"not YAML: {problem}", error.problem_mark)


class _Builder:
    """Turns nodes into values, aliases written out, and notes every place."""

    def __init__(self, source: str):
        self.tree = Tree()
        self.source = source
        self.above: list[yaml.Node] = []

    def build(self, node: yaml.Node, keys: Keys) -> Any:
        if any(node is other for other in self.above):
            raise _refuse("an alias stands inside what it stands for", node.start_mark)
        if len(self.above) == DEEPEST:
            raise _refuse(f"nested more than {DEEPEST} deep by its aliases", self.above[1].start_mark)
        if len(self.tree.values) == MAX_VALUES:
            raise _refuse(f"more than {MAX_VALUES:,} values by its aliases", [*self.above, node][1].start_mark)
        self.tree.values[keys] = self.place(node)
        self.above.append(node)
        if isinstance(node, yaml.ScalarNode):
            value = self.scalar(node, keys)
        elif isinstance(node, yaml.SequenceNode):
            value = [self.build(item, (*keys, index)) for index, item in enumerate(node.value)]
        else:
            value = self.mapping(node, keys)
        self.above.pop()
        return value

    def mapping(self, node: yaml.Node, keys: Keys) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node, keys)
            if key in mapping:
                first, line = self.tree.keys[*keys, key].line, self.place(key_node).line
                where = f"; the first is in line {first}" if first != line else ""
                self.fault(key_node, keys, f"the key {key[:60]!r} stands here twice{where}")
            elif key is not None:
                self.tree.keys[*keys, key] = self.place(key_node)
                mapping[key] = self.build(value_node, (*keys, key))
        return mapping

    def key(self, node: yaml.Node, keys: Keys) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            return self.fault(node, keys, "a key is a word, and this one is a list or a mapping")
        key = self.scalar(node, keys)
        if not isinstance(key, str):
            return self.fault(node, keys, f"a key is a word, and this one is {shown(key)}")
        if key == "<<" and node.style is None:
            return self.fault(node, keys, "merge keys (<<) are not supported; write the keys out")
        return key

    def scalar(self, node: yaml.ScalarNode, keys: Keys) -> Any:
        """Returns the meaning of a scalar, or its text and a fault."""
        if re.search("[\ud800-\udfff]", node.value):
            self.fault(node, keys, "half a surrogate pair is no character")
            return "?"
        if node.style is not None:
            return node.value
        try:
            return plain(node.value)
        except ValueError as error:
            self.fault(node, keys, str(error))
            return node.value

    def fault(self, node: yaml.Node, keys: Keys, reason: str) -> None:
        self.tree.faults.append(Fault(self.place(node), keys, reason))

    def place(self, node: yaml.Node) -> Place:
        return Place(0, node.start_mark.line + 1, node.start_mark.column + 1, self.source)
