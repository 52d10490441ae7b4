"""Text from outside made safe for where it goes: a terminal, SVG, HTML, CSV, other tools, file names.

Names, swept values and notes come from files that anyone may have written. A character that would steer what shows it
is written out instead, as Python and JSON write it: ESC becomes `\\u001b`. Text without any stays as it is.
"""

from __future__ import annotations

import json
import re
from typing import Any

_STEERING = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and line feed, DEL, C1: they move the cursor, set colours, ring
    "\u202a-\u202e\u2066-\u2069"  # they turn the direction of what follows (CVE-2021-42574)
    "\ud800-\udfff"  # halves of a pair: no file can hold them
    "\ufdd0-\ufdef\ufffe\uffff"  # no characters: XML and HTML forbid them
    + "".join(chr(0x10000 * plane + low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_FORMULA = tuple("=+-@\t\r\n")


def visible(text: str) -> str:
    """Returns text for a terminal, for XML and SVG: what would steer them, or is forbidden there, is written out.

    Tabs and ends of lines stay. What is JSON before is JSON after.
    """
    return text if text.isascii() and text.isprintable() else _STEERING.sub(_written, text)


def _written(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def one_line(text: str) -> str:
    """Returns text for a place that has one line, as a name has in other tools: line ends and tabs are written out."""
    return visible(text).replace("\n", r"\n").replace("\t", r"\t")


def everywhere(value: Any) -> Any:
    """Returns plain values with all their texts, keys too, made `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {everywhere(key): everywhere(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [everywhere(inner) for inner in value]
    return value


def json_in_html(value: Any) -> str:
    """Returns JSON that may stand in a script element, whatever texts are in it."""
    text = json.dumps(everywhere(value), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def csv_cell(text: str) -> str:
    """Returns text for a cell of CSV: what a spreadsheet would compute gets an apostrophe before it, a number not."""
    shown = visible(text)
    return f"'{shown}" if text.startswith(_FORMULA) and not _is_number(text) else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


def file_name(text: str) -> str:
    """Returns text for a part of a file's name: letters, digits, dots and lines of ASCII, `_` for anything else."""
    return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_")
