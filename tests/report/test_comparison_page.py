"""The page of a comparison: its numbers are the comparison's, it is valid, it fetches nothing, and any text is text."""

from __future__ import annotations

import base64
import json
import math
import re

import html5lib
import numpy as np
import pytest

from vgx.cli import app
from vgx.errors import RunError
from vgx.report.html import comparison_page as page
from vgx.report.html.comparison_charts import SHAPES
from vgx.report.palette import CATEGORIES, DASHES
from vgx.report.words import divergence_in_words, outcome_rows
from vgx.results.comparison import compare, groups_of

STEPS, SEEDS = 12, 3
EVIL = "<script>alert('x')</script>"


def settings(name: str, depth: int = 5, **model) -> dict:
    return {"name": name, "model": {"depth": depth, "width": 8, **model}, "train": {"steps": STEPS}}


def figures(accuracy: float = 0.9) -> dict[str, np.ndarray]:
    trajectory = np.ma.array(np.full((STEPS, SEEDS), accuracy), mask=True)
    trajectory.mask[3::4] = False
    return {"train_loss": np.tile(np.linspace(2, 1, STEPS)[:, None], (1, SEEDS)), "test_accuracy": trajectory}


@pytest.fixture
def pair(write_run):
    """Two nets of 5 layers; the second has a gradient of 0 in layer 1 from step 7 on and NaN in layer 2 at the last."""
    draw = np.random.default_rng(0)
    level, falls = draw.normal(size=(2, STEPS, SEEDS, 6))
    falls[:, :, :3] -= 9
    falls[6:, :, 0] = -np.inf
    falls[-1, :, 1] = np.nan
    runs = [
        write_run(settings(name, **more), {"delta_log10": delta}, figures(accuracy))
        for name, more, delta, accuracy in (("level", {}, level, 0.9), ("evil", {"activation": "tanh"}, falls, 0.6))
    ]
    config = runs[1].path / "config.yaml"
    config.write_text(config.read_text().replace("name: evil", f"name: {json.dumps(EVIL)}", 1))
    return runs


@pytest.fixture
def compared(pair):
    return compare([one for run in pair for one in groups_of(run)])


@pytest.fixture(autouse=True)
def no_bundle(monkeypatch):
    """Pages without Vega in them, which takes a second to bundle."""
    monkeypatch.setattr(page, "bundle", lambda: "")


def parsed(html: str):
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)


def embedded(html: str) -> dict:
    return json.loads(next(e.text for e in parsed(html).iter("script") if e.attrib.get("id") == "data"))


def numbers(text: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)


def test_the_numbers_of_the_page_are_the_comparisons_to_the_bit(compared):
    data = embedded(page.comparison_page(compared))
    assert np.isneginf(compared.trajectories[1].mean).sum() == 6
    assert np.isnan(compared.trajectories[1].mean).sum() == 1
    for key, trajectories in (
        ("courses", compared.trajectories),
        ("loss", compared.losses),
        ("accuracy", compared.accuracies),
    ):
        for packed, trajectory in zip(data[key], trajectories, strict=True):
            assert packed["steps"] == trajectory.steps.tolist()
            for name, kind in (("mean", "<f8"), ("spread", "<f8"), ("seeds", "<i4")):
                np.testing.assert_array_equal(
                    numbers(packed[name], kind, trajectory.mean.shape), getattr(trajectory, name)
                )
    for packed, divergence in zip(data["partings"], compared.divergences, strict=True):
        assert packed["since"] == divergence.since.tolist()
        for name, kind, values in zip(
            ("difference", "limit", "apart"), ("<f8", "<f8", "<i4"), divergence[1:4], strict=True
        ):
            np.testing.assert_array_equal(numbers(packed[name], kind, values.shape), values)


def test_the_courses_over_steps_are_those_of_the_tables(pair, compared):
    table = pair[0].metrics(["step", "train_loss", "test_accuracy"])
    loss = np.array(table["train_loss"].to_pylist()).reshape(STEPS, SEEDS)
    np.testing.assert_allclose(compared.losses[0].mean[:, 0], loss.mean(1))
    assert compared.accuracies[0].steps.tolist() == [4, 8, 12]
    assert compared.accuracies[1].mean[:, 0] == pytest.approx([0.6] * 3)


def test_the_page_says_what_the_terminal_says(compared):
    text = " ".join("".join(parsed(page.comparison_page(compared)).itertext()).split())
    assert f"Against level: {divergence_in_words(compared, 1)}." in text
    assert divergence_in_words(compared, 1).startswith("diverge beyond the seeds' spread in layers 1-")
    for name, cells in outcome_rows(compared).items():
        assert f"{name}{''.join(cells)}" in text
    assert "model.activationrelutanh" in text


def test_the_page_is_valid_and_asks_for_nothing(compared):
    html = page.comparison_page(compared)
    root = parsed(html)
    assert root.find(".//meta[@http-equiv]").attrib["content"].startswith("default-src 'none';")
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    charts = [element for element in root.iter("div") if element.attrib.get("class") == "chart"]
    assert [chart.attrib["id"] for chart in charts] == [
        f"chart-{key}" for key in ("curves", "loss", "accuracy", "parting-1")
    ]
    assert all(len(chart.attrib["aria-label"]) > 40 and chart.attrib["role"] == "img" for chart in charts)
    assert len(list(root.iter("details"))) == len(charts)
    loading = [
        value
        for element in root.iter()
        for name, value in element.attrib.items()
        if name in ("src", "srcset", "href", "data", "action", "poster") and element.tag != "a"
    ]
    assert loading == ["data:,"]
    addresses = set(re.findall(r"https?://[^\"'\s)]+", html))
    assert all(address.startswith("https://vega.github.io/schema/") for address in addresses)  # names, never fetched


def test_a_name_of_markup_is_text(compared):
    root = parsed(page.comparison_page(compared))
    assert root.find(".//h1").text == f"level against {EVIL}"
    assert root.find(".//title").text == f"level / {EVIL} - vgx"
    assert not [e for e in root.iter("script") if (e.text or "").startswith("alert")]
    assert len(list(root.iter("script"))) == 3 + 4


def test_a_page_names_the_nets_and_calls_none_by_a_letter(compared):
    html = page.comparison_page(compared)
    assert page.specs(compared)["curves"]["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["level", EVIL]
    text = "".join(parsed(html).find(".//main").itertext())
    assert not re.search(r"\b[AB]\b", text)


def test_contenders_are_told_apart_without_colour():
    assert len(set(CATEGORIES)) == len({tuple(dash) for dash in DASHES}) == len(set(SHAPES)) == 8


def test_a_map_of_many_cells_draws_some_steps_and_says_so(compared, monkeypatch):
    assert page.packed(compared)["partings"][0]["drawn"] == list(range(STEPS))
    monkeypatch.setattr(page, "CELLS", 20)
    html = page.comparison_page(compared)
    drawn = embedded(html)["partings"][0]["drawn"]
    assert len(drawn) == 4
    assert (drawn[0], drawn[-1]) == (0, STEPS - 1)
    assert f"Drawn are 4 of {STEPS} steps" in html


def test_a_step_is_chosen_and_the_first_one_unless_told(compared):
    assert page.packed(compared)["step"] == 0
    assert page.packed(compared, 3)["step"] == 2
    with pytest.raises(RunError, match="step 77 is none that is compared; the nearest is 12"):
        page.packed(compared, 77)


def test_without_layers_there_are_no_curves_over_the_depth(write_run, list_parts):
    runs = [write_run(settings(name) | {"log": {"statistics": "none"}}, {}, figures()) for name in ("a", "b")]
    for run in runs:
        for part in (run.path / "layers").iterdir():
            part.unlink()
        list_parts(run)
    html = page.comparison_page(compare([one for run in runs for one in groups_of(run)]))
    assert "One of them has no layer recorded" in html
    assert {e.attrib.get("id") for e in parsed(html).iter("figure")} == {"figure-loss", "figure-accuracy"}


def test_a_page_is_replaced_and_anything_else_is_left_alone(pair, tmp_path, capsys):
    names = [str(run.path) for run in pair]
    target = tmp_path / "new" / "page.html"
    for step in ("1", "2"):
        app(["compare", *names, "--html", str(target), "--step", step], standalone_mode=False)
        assert capsys.readouterr().out == f"{target}: written\n"
        assert embedded(target.read_text())["step"] == int(step) - 1
    assert [path.name for path in target.parent.iterdir()] == ["page.html"]
    notes = tmp_path / "notes.html"
    notes.write_text("mine")
    for place, line in ((notes, "exists, and is no page of vgx"), (tmp_path, "is a folder; name a file")):
        with pytest.raises(RunError, match=line):
            app(["compare", *names, "--html", str(place)], standalone_mode=False)
    assert notes.read_text() == "mine"
    with pytest.raises(RunError, match="--html, --json: choose one"):
        app(["compare", *names, "--html", str(target), "--json"], standalone_mode=False)


def test_losses_over_decades_are_drawn_by_their_logarithm_and_others_are_not(compared):
    def scale(compared) -> str:
        return page.specs(compared)["loss"]["layer"][1]["encoding"]["y"]["scale"]["type"]

    assert scale(compared) == "linear"
    first, second = compared.losses
    fallen = second._replace(mean=np.geomspace(1, 1e-6, STEPS)[:, None], spread=np.full((STEPS, 1), math.nan))
    assert scale(compared._replace(losses=(first, fallen))) == "log"
