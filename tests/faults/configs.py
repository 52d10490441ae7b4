"""Configs that nobody means: the shipped ones with something changed, and some that never were configs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from vgx.registry import Registry

FOLDER = Path(__file__).parent.parent.parent / "configs"

WORDS = [
    *("0", "-1", "1e999", "-.inf", ".nan", "1e-400", "9" * 400, "0x7fffffffffffffff", "18446744073709551616", "012"),
    *("1_000", "1,000", "-0", "+.5", "1.", "1e5", "true", "yes", "No", "~", "null", "''", '""', "[]", "{}", "[[]]"),
    *("[1, 2, 3]", "{a: b}", "{name: relu}", "{name: 3}", "{name: [relu]}", "{names: relu}", "relu relu", "*a", "&a b"),
    *("!!python/object:os.system x", "!!binary AAAA", "<<: {a: 1}", "? a", "- a", "| ", "> ", "%YAML 9.9", "@x", "`x`"),
    *(
        "../../etc/passwd",
        "/dev/zero",
        "~root",
        "a/b",
        ".",
        "..",
        "CON",
        "x" * 300,
        "é" * 60,
        "名前",
        "\U0001f9e8",
        "a b",
    ),
    *("'\\x1b[31m'", '"\\e[31m red"', '"\\x07"', '"\\0"', '"\\u202eevil"', '"\\ud800"', '"\\N\\L\\P"', '"\\UFFFFFFFF"'),
    *("\x1b[2J", "\x07", "\x00", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffe", "\u202e", "\udcff", "\t", "\r", "\xa0"),
    *("2001-01-01", "12:30:45", "0o17", "0b1", "1e3_0", "(True,)", "__class__", "{{}}", "${HOME}", "%s%n", "{0!r}"),
]
"""What is put where something else belongs."""
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 10**30, -(10**30), 0.5, -0.5, 1e-300, 1e300, float("inf"), float("nan"), ""),
    *("none", "relu", "tanh", "normal", "batch", "x" * 2000, "\x1b[31m", "\u202e", "\ufffe", "名", "1e3", "yes", "[a"),
    *([], {}, [[]], [None], [1, 1], [1, "a"], {"name": "relu"}, {"name": None}, {"": 1}, {"name": "elu", "alpha": 9}),
    *([{}] * 3, {"a": {"b": {"c": {}}}}, list(range(50)), {str(i): i for i in range(40)}),
]


@cache
def shipped() -> list[str]:
    """The texts of the configs in this repository; those of experiments take longest, and stand once."""
    plain = [
        path.read_text()
        for path in sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("sweeps/*.yaml"), *FOLDER.glob("maps/*.yaml")])
    ]
    return plain * 6 + [path.read_text() for path in sorted(FOLDER.glob("reproduce/*.yaml"))]


def generate(random: Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Yields `count` configs, and how each was made."""
    for _ in range(count):
        make = random.choices(list(MAKERS), weights=list(MAKERS.values()))[0]
        content = make(random)
        yield make.__name__, content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")


def other_word(random: Random) -> str:
    """One to three words replaced."""
    text = random.choice(shipped())
    for _ in range(random.randint(1, 3)):
        words = text.split(" ")
        words[random.randrange(len(words))] = random.choice(WORDS)
        text = " ".join(words)
    return text


def other_value(random: Random) -> str:
    """One to three values of the tree replaced, removed, wrapped, or put elsewhere."""
    tree = copy.deepcopy(_tree(random.choice(shipped())))
    for _ in range(random.randint(1, 3)):
        holder, key = random.choice(list(_places(tree)))
        match random.randrange(6):
            case 0:
                del holder[key]
            case 1:
                holder[key] = [holder[key]]
            case 2:
                holder[key] = {"name": holder[key]}
            case 3:
                holder[key] = copy.deepcopy(random.choice([v[k] for v, k in _places(tree)] or [None]))
            case 4 if isinstance(holder, dict):
                holder[random.choice(["", "x" * 90, "nam", "\x1b", "é", "seeds", "depth", "<<", key])] = holder.pop(key)
            case _:
                holder[key] = copy.deepcopy(random.choice(VALUES))
        if not tree:
            break
    return yaml.safe_dump(tree, allow_unicode=random.random() < 0.5, sort_keys=False)


def other_part(random: Random) -> str:
    """A part that there is, its options at random: many of these are right."""
    tree = copy.deepcopy(_tree(random.choice(shipped()[: len(shipped()) // 7])))
    kinds = {
        "activation": "ACTIVATIONS",
        "initializer": "INITIALIZERS",
        "bias": "BIASES",
        "normalization": "NORMALIZATIONS",
        "residual": "RESIDUALS",
    }
    where, registry = random.choice([*kinds.items(), ("optimizer", "OPTIMIZERS"), ("clip", "CLIPS")])
    section = tree.setdefault("train" if where in ("optimizer", "clip") else "model", {})
    section[where] = _part(random, registry)
    return yaml.safe_dump(tree, sort_keys=False)


def _part(random: Random, registry: str) -> Any:
    import vgx.parts

    known: Registry[Any] = getattr(vgx.parts, registry)
    part = random.choice(list(known))
    options = list(part.model_fields)
    numbers = [0, 1, 2, 5, 0.1, 0.5, 0.9, 1.0, 1.5, 1e-3, 1e-8, 100, -1, -0.5, True, "auto", None]
    chosen = random.sample(options, random.randint(0, min(3, len(options))))
    return {"name": part.name} | {option: random.choice(numbers) for option in chosen}


def other_bytes(random: Random) -> bytes:
    """Bytes changed, put in, left out, doubled."""
    content = bytearray(random.choice(shipped()).encode())
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(content))
        match random.randrange(5):
            case 0:
                content[at] ^= 1 << random.randrange(8)
            case 1:
                content.insert(at, random.choice(b"\t\n :-{}[],&*#?|>'\"%@`\\\x00\x1b\x7f\x80\xc3\xff"))
            case 2:
                del content[at : at + random.randint(1, 9)]
            case 3:
                content[at:at] = content[at : at + random.randint(1, 40)]
            case _:
                content[at] = random.randrange(256)
        if not content:
            break
    return bytes(content)


def other_lines(random: Random) -> str:
    """Lines left out, doubled, moved, or indented otherwise."""
    lines = random.choice(shipped()).splitlines()
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(lines))
        match random.randrange(5):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[at])
            case 2:
                lines.insert(random.randrange(len(lines)), lines.pop(at))
            case 3:
                lines[at] = random.choice([" ", "  ", "\t", "- ", "? ", "---\n", "...\n"]) + lines[at]
            case _:
                lines[at] = lines[at].strip()
        if not lines:
            break
    return random.choice(["\n", "\n", "\n", "\r\n", "\r"]).join(lines)


def cut_off(random: Random) -> bytes:
    """The beginning of a config, or its end."""
    content = random.choice(shipped()).encode()
    at = random.randrange(len(content))
    return content[:at] if random.random() < 0.8 else content[at:]


def anchors(random: Random) -> str:
    """Aliases of aliases, sometimes of themselves."""
    rows = random.randint(2, 30)
    wide = random.randint(1, 10)
    text = "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{random.choice([i - 1, i - 1, i])}'] * wide)}]\n" for i in range(1, rows)
    )
    return random.choice(
        [text, f"model: &m\n  depth: *m\n{text}", f"{random.choice(shipped())}\n{text}", text.replace("\n", "", 1)]
    )


def many(random: Random) -> str:
    """One thing so many times, or so deep, or so long, that whoever goes over it twice is late."""
    n = random.choice([500, 5_000, 40_000])
    key = random.choice(["seeds: 1", "model: {}", "x: 1", "model: {depth: 3}", "data: digits", "name: a"])
    return random.choice(
        [
            f"{key}\n" * n,
            "".join(f"k{i}: {i}\n" for i in range(n)),
            "model:\n" + "  depth: 3\n" * n,
            f"seeds: [{', '.join(['1'] * n)}]",
            f"seeds: [{', '.join(map(str, range(n)))}]",
            f"model: {{width: [{', '.join(['-1'] * n)}]}}",
            f"model: {{width: [{', '.join(['8'] * n)}]}}",
            f"name: {'n' * n}",
            f"{'k' * n}: 1",
            "a: " + "[" * n + "]" * n,
            "a: " + "{a: " * n + "}" * n,
            "\n".join("  " * i + "a:" for i in range(n // 50)),
            "x: '" + "\\" * n + "'",
            "sweep: {axes: {model.depth: [" + ", ".join(map(str, range(1, n))) + "]}}",
            "sweep: {axes: {model.width: [" + ", ".join(["x"] * n) + "]}}",
            "sweep: {cells: [" + ", ".join(["{model.depth: 0}"] * n) + "]}",
            "expect: {verdict: [" + ", ".join(["healthy"] * n) + "]}",
            "#" * n + "\nname: a",
            "\n" * n + "name: a\n",
        ]
    )


def noise(random: Random) -> bytes:
    """Bytes that were never a config."""
    content = random.randbytes(random.choice([0, 1, 2, 16, 300]))
    return random.choice([content, b"\xef\xbb\xbf" + content, b"\xff\xfe" + content, b"name: " + content, b"\x00" * 9])


MAKERS: dict[Callable[[Random], str | bytes], float] = {
    other_word: 26,
    other_value: 26,
    other_part: 16,
    other_bytes: 14,
    other_lines: 8,
    cut_off: 3,
    anchors: 3,
    noise: 3,
    many: 1,
}
"""Ways to make a config, and how often each is taken, in hundredths."""


@cache
def _tree(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yields every list or mapping in a tree with each of its keys."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])
