"""YAML as vgx reads it."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vgx.config import yaml_tree
from vgx.errors import ConfigError

WORDS = {
    "1": 1,
    "-3": -3,
    "+7": 7,
    "0": 0,
    "0o12": 10,
    "0x1F": 31,
    "1.5": 1.5,
    "1.": 1.0,
    ".5": 0.5,
    "1e-3": 1e-3,
    "1E5": 1e5,
    "2.5e+2": 250.0,
    "-1e-3": -1e-3,
    "true": True,
    "false": False,
    "null": None,
    "~": None,
    "": None,
    ".inf": math.inf,
    "-.inf": -math.inf,
    "no": "no",
    "off": "off",
    "yes": "yes",
    "on": "on",
    "True": "True",
    "NULL": "NULL",
    "1_000": "1_000",
    "1:30": "1:30",
    "0b11": "0b11",
    "2001-01-01": "2001-01-01",
    "inf": "inf",
    "nan": "nan",
    "1e": "1e",
    "e3": "e3",
    "-": "-",
    ".": ".",
    "１２": "１２",  # full-width digits are not digits of YAML
}


@pytest.mark.parametrize(("word", "meaning"), WORDS.items())
def test_an_unquoted_word_means_what_yaml_1_2_says(word, meaning):
    assert yaml_tree.plain(word) == meaning
    assert type(yaml_tree.plain(word)) is type(meaning)


def test_dot_nan_is_not_a_number():
    assert math.isnan(yaml_tree.plain(".nan"))


@pytest.mark.parametrize(
    ("word", "advice"),
    [("012", "12 or 0o12"), ("-012", "-12 or -0o12"), ("08", "8"), ("00", "0"), ("+007", "7"), ("0012", "12 or 0o12")],
)
def test_a_number_with_a_leading_zero_is_refused(word, advice):
    reason = f"a number with a leading zero is read as octal by some; write {advice}"
    with pytest.raises(ValueError, match=f"^{reason}$"):
        yaml_tree.plain(word)


def test_a_number_longer_than_python_converts_is_refused():
    with pytest.raises(ValueError, match="a number of 5000 digits is more than any option takes"):
        yaml_tree.plain("1" * 5000)


def test_every_key_and_value_has_its_place():
    tree = yaml_tree.read("# é\na: 1\nb:\n  - x\n  - {c: 'é', d: [2]}\ne:\n", "f.yaml")
    assert tree.value == {"a": 1, "b": ["x", {"c": "é", "d": [2]}], "e": None}
    assert tree.faults == []
    at = {keys: (place.line, place.column) for keys, place in tree.values.items()}
    assert at == {
        (): (2, 1),
        ("a",): (2, 4),
        ("b",): (4, 3),
        ("b", 0): (4, 5),
        ("b", 1): (5, 5),
        ("b", 1, "c"): (5, 9),
        ("b", 1, "d"): (5, 17),
        ("b", 1, "d", 0): (5, 18),
        ("e",): (6, 3),
    }
    at = {keys: (place.line, place.column) for keys, place in tree.keys.items()}
    assert at == {("a",): (2, 1), ("b",): (3, 1), ("b", 1, "c"): (5, 6), ("b", 1, "d"): (5, 14), ("e",): (6, 1)}
    assert str(tree.place(("b", 1, "c", "deeper"))) == "f.yaml:5:9"
    assert str(tree.key_place(("b", 7))) == "f.yaml:4:3"


def test_quotes_and_blocks_make_text_of_anything():
    tree = yaml_tree.read("a: '1'\nb: \"true\"\nc: |\n  null\n", "f")
    assert tree.value == {"a": "1", "b": "true", "c": "null\n"}


def test_an_alias_stands_for_a_copy_of_its_anchor_and_points_at_its_text():
    tree = yaml_tree.read("a: &x {k: 1}\nb: *x\nc: [*x, *x]\n", "f")
    assert tree.value == {"a": {"k": 1}, "b": {"k": 1}, "c": [{"k": 1}, {"k": 1}]}
    assert tree.value["a"] is not tree.value["b"]
    assert str(tree.place(("b", "k"))) == "f:1:11"


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: x\r\n")
    tree = yaml_tree.read_file(path)
    assert tree.value == {"a": 1, "b": "x"}
    assert tree.place(("b",))[1:3] == (2, 4)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
LADDER = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(2000))

REFUSED = {
    "a: 1\na: 2\n": "2:1: the key 'a' stands here twice; the first is in line 1",
    "a: {b: 1, c: 2, b: 3}": "1:17: a: the key 'b' stands here twice",
    "<<: {a: 1}": "1:1: merge keys (<<) are not supported; write the keys out",
    "a: !!python/object/new:os.x []": "1:4: the tag '!!python/object/new:os.x' is not supported; leave it out",
    "a: !!str 12": "1:4: the tag '!!str' is not supported; leave it out",
    "!mine {a: 1}": "1:1: the tag '!mine' is not supported; leave it out",
    "1: x": "1:1: a key is a word, and this one is 1",
    "true: x": "1:1: a key is a word, and this one is true",
    "~: x": "1:1: a key is a word, and this one is nothing",
    "? [a, b]\n: x": "1:3: a key is a word, and this one is a list or a mapping",
    "a: 012": "1:4: a: a number with a leading zero is read as octal by some; write 12 or 0o12",
    "a: 1\n---\nb: 2\n": "2:1: another document begins here, and a config is one",
    "a:\n\tb: 1\n": "2:1: a tab as indentation; YAML indents with spaces",
    "a:\n  \tb: 1\n": "2:3: a tab as indentation; YAML indents with spaces",
    "a:\t1": "1:3: a tab; YAML separates with spaces",
    "a: 1\n\nb: \0": "3:4: the control character U+0000 is not allowed",
    "a: \x1b[31m": "1:4: the control character U+001B is not allowed",
    "a: '\ud800'": "1:5: the control character U+D800 is not allowed",
    'a: "\\ud800"': "1:4: a: half a surrogate pair is no character",
    'a: "\\UFFFFFFFF"': "1:7: an escape or a directive with a number out of range",
    f"%YAML 1.{'9' * 5000}\n---\na: 1": "1:9: an escape or a directive with a number out of range",
    "a: &x [*x]": "1:4: an alias stands inside what it stands for",
    "a: &x {b: {c: *x}}": "1:4: an alias stands inside what it stands for",
    "a: *x": "1:4: no anchor before it has the name of this alias",
    "a: &x 1\nb: &x 2": "2:4: an anchor of this name stands above already",
    BOMB: "5:4: more than 100,000 values by its aliases",
    LADDER: "31:6: nested more than 32 deep by its aliases",
    "[" * 100_000: "1:33: nested more than 32 deep",
    "- " * 100_000: "1:65: nested more than 32 deep",
    "a: 'x\nb: 1\n": "1:4: the quoted text that starts here is not closed",
    "a: [1, 2\nb: 3\n": "1:4: the '[' that starts here is not closed, or lacks a ','",
    "a: {b: 1\nc: 3\n": "1:4: the '{' that starts here is not closed, or lacks a ','",
    "a: b: c": "1:5: a ':' does not fit here; indent the key like its neighbours, or quote the text",
    "m:\n  a:20\n  b: 3\n": "2:4: a ':' needs a space after it",
    "a:\n  b: 1\n c: 2\n": "3:2: this does not fit the lines above; indent it like its neighbours, or quote the text",
    "a: 1\nb\nc: 2\n": "2:1: a key that starts here lacks its ':'",
    "a: @x": "1:4: a value that starts with this character needs quotes",
    "a: %x": "1:4: a value that starts with this character needs quotes",
    "%YAML 3.0\n---\na: 1": "1:1: not YAML: found incompatible YAML document (version 1.* is required)",
}


@pytest.mark.parametrize(("text", "line"), REFUSED.items(), ids=lambda text: repr(text[:24]))
def test_what_is_no_plain_tree_is_refused_in_one_line_with_its_place(text, line):
    assert [str(fault) for fault in yaml_tree.read(text, "f").faults] == [f"f:{line}"]


def test_all_that_is_refused_in_a_well_formed_text_is_reported():
    faults = yaml_tree.read("a: 012\nb: 1\nb: 2\n3: x\nc: [08]\n", "f").faults
    assert [fault.place.line for fault in faults] == [1, 3, 4, 5]


FILES = {
    b"a: 1\nb: \xff\n": "{path}:2:4: byte 0xff is not UTF-8; save the file as UTF-8",
    "a: 1\n".encode("utf-16"): "{path}:1:1: byte 0xff is not UTF-8; save the file as UTF-8",
    b"\xef\xbb\xbfa: \xe9\n": "{path}:1:4: byte 0xe9 is not UTF-8; save the file as UTF-8",
    b"#" * (2**20 + 1): "{path}: longer than 1,048,576 bytes, so hardly a config",
}


@pytest.mark.parametrize(("content", "line"), FILES.items(), ids=lambda value: repr(value[:12]))
def test_a_file_that_is_no_text_is_refused(content, line, tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        yaml_tree.read_file(path)
    assert str(caught.value) == line.format(path=path)


def test_a_missing_file_is_refused_with_a_near_name(tmp_path):
    (tmp_path / "mnist.yaml").touch()
    with pytest.raises(ConfigError) as caught:
        yaml_tree.read_file(tmp_path / "minst.yaml")
    near = tmp_path / "mnist.yaml"
    assert str(caught.value) == f"{tmp_path / 'minst.yaml'}: there is no such file; did you mean '{near}'?"
    with pytest.raises(ConfigError, match=r"there is no such file$"):
        yaml_tree.read_file(tmp_path / "no" / "folder.yaml")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(ConfigError) as caught:
        yaml_tree.read_file(tmp_path)
    assert str(caught.value) == f"{tmp_path}: this is a directory; name a file in it"


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("f.yaml").touch()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")  # chmod does not stop root, who runs tests in containers

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ConfigError) as caught:
        yaml_tree.read_file("f.yaml")
    assert str(caught.value) == "f.yaml: cannot be read: permission denied"


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "\ud800"])
def test_a_path_that_no_system_takes_is_refused(name):
    with pytest.raises(ConfigError):
        yaml_tree.read_file(name)


def test_a_dash_reads_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a: 012\n")))
    assert str(yaml_tree.read_file("-").faults[0]).startswith("<stdin>:1:4: a: ")


def test_a_python_mapping_is_copied():
    given_value = {"a": {"b": [1, {"c": 2}]}}
    tree = yaml_tree.take(given_value)
    assert tree.value == given_value
    tree.value["a"]["b"][1]["c"] = 3
    assert given_value["a"]["b"][1] == {"c": 2}
    assert str(tree.place(("a",))) == ""


def test_a_python_mapping_that_is_no_tree_is_refused():
    endless: dict = {}
    endless["a"] = [endless]
    assert [str(fault) for fault in yaml_tree.take(endless).faults] == ["a list or mapping stands inside itself"]
    deep: list = []
    for _ in range(1000):
        deep = [deep]
    assert [str(fault) for fault in yaml_tree.take({"a": deep}).faults] == ["nested more than 32 deep"]
    assert [str(fault) for fault in yaml_tree.take({"a": {1: 2}}).faults] == ["a: a key is a word, and this one is 1"]


PLAIN = st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [*WORDS, "012", "08", "1" * 5000]
)
TREES = st.recursive(
    PLAIN | TEXT, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXT, inside, max_size=3), max_leaves=8
)


@given(TREES)
def test_what_is_written_is_read_back_by_yaml_1_2_and_by_yaml_1_1(value):
    text = yaml_tree.write(value)
    tree = yaml_tree.read(text, "f")
    assert tree.faults == []
    assert tree.value == value
    assert repr(tree.value) == repr(value)  # -0.0, and 1 is not 1.0 is not true
    assert repr(yaml.safe_load(text)) == repr(value)


@given(st.text() | st.text("[]{}:,-&*!|>'\"%@#? \n\tab01.e\\", max_size=40))
def test_no_text_breaks_the_reader(text):
    for fault in yaml_tree.read(text, "f").faults:
        assert str(fault).isprintable()
