"""The tutorial from top to bottom, at its full length: its commands print what it shows, and what its text says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.pictures import FOLDER, PICTURE, README, TUTORIAL, draw_figures, run, shown
from vgx.results.verdict import WORDS

TEXT = TUTORIAL.read_text()
SHOWN = shown(TEXT)
NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
BY_THEORY = ("vgx new", "cat", "vgx predict", "vgx cure", "vgx reproduce")
"""Commands, by how they begin, whose output is the same on every machine, but for last digits. What hundreds of steps
of training lead to is not: there the verdicts are compared."""
TIMES = re.compile(r"training seconds.*|done at step.*|about .*(?:seconds|minutes).*|[\d,.]+ (?:s|ms|steps/s)\b")
SAID = {
    "−0.63 decades per layer": r"slope +-0\.63|slope +-0\.62[5-9]",
    "10⁻¹²·⁶": r"-12\.[56]",
    "10⁻¹⁵ of their size": r"1e-15",
    "√2 = 1.4142": r"initializer\.gain: 1\.4142",
    "causes": r"causes +weights \+0\.000, derivative -0\.62",
    "that of\nguessing": r"test accuracy 0\.1\d",
    "exit code 3": r"exit 3",
}
"""What the text says, and what is printed when it is so."""


def words(line: str) -> str:
    """A line without its numbers and how they are laid out."""
    return " ".join(NUMBER.sub("#", TIMES.sub("", line)).split())


def is_drawing(line: str) -> bool:
    return bool(re.search("[│┤└█▁▂▃▄▅▆▇●]", line))


def numbers(line: str) -> list[float]:
    return [float(text.replace(",", "")) for text in NUMBER.findall(TIMES.sub("", line))]


def assert_alike(want: str, got: str) -> None:
    """Fails where two outputs differ in a word, or in a number by more than 2 % or two of its last digits."""
    ours, theirs = ([line for line in text.splitlines() if not is_drawing(line)] for text in (want, got))
    assert [words(line) for line in ours] == [words(line) for line in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for a, b, text in zip(numbers(one), numbers(other), NUMBER.findall(TIMES.sub("", one)), strict=True):
            last = 10.0 ** -len(text.partition("e")[0].partition(".")[2])
            assert abs(a - b) <= max(0.02 * abs(a), 2 * last if "." in text else 0), f"{one}\n{other}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("student")


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What the commands have printed so far."""
    return []


@pytest.mark.docs
@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_command_prints_what_is_shown(command, output, folder, printed):
    got = run(command, folder)
    printed.append(got)
    if command.startswith(BY_THEORY):
        assert_alike(output, got)
    else:
        verdict = re.compile(rf"\b(?:{'|'.join(WORDS)})\b|exit \d+")
        assert verdict.findall(got) == verdict.findall(output)


@pytest.mark.docs
def test_the_figures_are_drawn_by_the_runs(folder, tmp_path):
    assert {path.name for path in draw_figures(TEXT, folder, tmp_path)} == {
        f"{name}.{figure}.svg" for name, figure in PICTURE.findall(TEXT)
    }


@pytest.mark.docs
@pytest.mark.parametrize("said", SAID)
def test_what_the_text_says_is_printed(said, printed):
    assert said in TEXT
    assert re.search(SAID[said], "".join(printed))


@pytest.mark.parametrize("said", SAID)
def test_what_the_text_says_is_shown(said):
    assert said in TEXT
    assert re.search(SAID[said], "".join(output for _, output in SHOWN))


def test_every_step_has_a_command_its_output_a_picture_and_a_reason():
    steps = re.split(r"^## \d\. ", TEXT, flags=re.MULTILINE)[1:]
    assert len(steps) == 6
    for step in steps:
        assert all(output for command, output in shown(step) if not command.startswith("cat"))
        assert shown(step)
        assert "**What to see.**" in step or step.startswith("Xavier")
    assert sum("**Why" in step for step in steps) == 5
    assert len(PICTURE.findall(TEXT)) == 5


def test_every_picture_that_is_shown_is_there_and_no_other():
    named = {f"{name}.{figure}.svg" for name, figure in PICTURE.findall(TEXT)}
    pages = TUTORIAL.with_name("how-to").glob("*.md")
    of_pages = {name for page in pages for name in re.findall(r"\(\.\./pictures/([\w.-]+)\)", page.read_text())}
    assert {path.name for path in FOLDER.iterdir()} == named | {f"{name}.svg" for name in README} | of_pages
    assert all(
        "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"|<!--.*?-->', "", path.read_text()) for path in FOLDER.iterdir()
    )


@pytest.mark.parametrize(
    ("got", "alike"),
    [
        ("slope -0.6276 decades\n", True),
        ("slope   -0.6277 decades\n", True),
        ("slope -0.6900 decades\n", False),
        ("slope -0.6276 layers\n", False),
        ("slope -0.6276 decades\nmore\n", False),
    ],
)
def test_the_comparison_tells_outputs_apart(got, alike):
    if alike:
        assert_alike("slope  -0.6276 decades\n", got)
    else:
        with pytest.raises(AssertionError):
            assert_alike("slope  -0.6276 decades\n", got)
