"""Changes to a few values of a YAML text that leave all else as it stands: comments, order, blank lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from vgx.config import yaml_tree


def amend(text: str, changes: Mapping[str, Any]) -> str:
    """Returns `text` with each value at a path, as `model.initializer`, replaced, or put in where there was none."""
    for path, value in changes.items():
        text = _amend(text, path.split("."), yaml_tree.write_inline(value))
    return text


def _amend(text: str, keys: list[str], value: str) -> str:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        return text + _lines(keys, value, "")
    for depth, key in enumerate(keys):
        assert isinstance(node, yaml.MappingNode)
        name, inner = next((pair for pair in node.value if pair[0].value == key), (None, None))
        if name is None or inner is None:
            return _insert(text, node, keys[depth:], value)
        if depth == len(keys) - 1 or not isinstance(inner, yaml.MappingNode):
            # Where a mapping must be there may be nothing, or a part's bare name.
            return _replace(text, name, inner, _flow(keys[depth + 1 :], value))
        node = inner
    return text


def _replace(text: str, name: yaml.Node, node: yaml.Node, value: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        # What a block holds goes, up to its last value; what stands beside the key, and below the block, stays.
        colon = text.index(":", name.end_mark.index) + 1
        last = max((leaf.end_mark.index for leaf in _leaves(node)), default=start)
        return f"{text[:colon]} {value}{text[colon:start].rstrip()}{text[last:]}"
    gap = " " if text[start - 1 : start] == ":" else ""
    return f"{text[:start]}{gap}{value}{text[end:]}"


def _leaves(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        return [leaf for pair in node.value for inner in pair for leaf in _leaves(inner)]
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return [leaf for inner in node.value for leaf in _leaves(inner)]
    return [node]


def _insert(text: str, node: yaml.MappingNode, keys: list[str], value: str) -> str:
    """Puts a key after the last one of a mapping."""
    if node.flow_style:
        end = node.end_mark.index - 1
        comma = ", " if node.value else ""
        return f"{text[:end].rstrip()}{comma}{keys[0]}: {_flow(keys[1:], value)}{text[end:]}"
    indent = " " * node.value[0][0].start_mark.column
    last = max(leaf.end_mark.index for leaf in _leaves(node))
    line_end = text.find("\n", last)
    if line_end < 0:
        return f"{text}\n{_lines(keys, value, indent)}"
    return f"{text[: line_end + 1]}{_lines(keys, value, indent)}{text[line_end + 1 :]}"


def _flow(keys: list[str], value: str) -> str:
    return value if not keys else f"{{{keys[0]}: {_flow(keys[1:], value)}}}"


def _lines(keys: list[str], value: str, indent: str) -> str:
    return f"{indent}{keys[0]}: {_flow(keys[1:], value)}\n"
