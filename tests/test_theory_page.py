"""The snippets of docs/theory.md: that they run, and print the numbers shown, to the digits shown."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import vgx
import vgx.theory

TEXT = (Path(vgx.__file__).parent.parent / "docs" / "theory.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d*(?:e-?\d+)?")


class ToTheDigitsShown(doctest.OutputChecker):
    """Numbers agree within one unit of the last digit shown; numpy's names for them do not count."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, doctest.ELLIPSIS):
            return True
        got = re.sub(r"np\.float64\(([^)]*)\)", r"\1", got)
        words = ["".join(NUMBER.sub("#", text).split()) for text in (want, got)]
        if words[0] != words[1]:
            return False
        return all(
            abs(float(shown) - float(printed)) <= 10.0 ** -len(shown.partition(".")[2])
            for shown, printed in zip(NUMBER.findall(want), NUMBER.findall(got), strict=True)
        )


def test_the_page_prints_what_it_shows(capsys):
    session = doctest.DocTestParser().get_doctest("\n".join(BLOCKS), {}, "docs/theory.md", None, 0)
    assert len(session.examples) > 20
    doctest.DocTestRunner(checker=ToTheDigitsShown(), verbose=False).run(session)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "printed", ["Critical(q=0.5701)", "Critical(q=0.568)", "Other(q=0.57)", "Critical(q=0.57, c=1)"]
)
def test_the_comparison_tells_numbers_and_names_apart(printed):
    same = ToTheDigitsShown().check_output("Critical(q=0.570)\n", printed + "\n", 0)
    assert same == (printed == "Critical(q=0.5701)")


@pytest.mark.parametrize("name", vgx.theory.__all__)
def test_every_public_function_is_on_the_page_and_says_what_it_returns(name):
    assert f"| `{name}(" in TEXT
    assert (getattr(vgx.theory, name).__doc__ or "").startswith("Returns ")
