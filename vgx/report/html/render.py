"""Pages from their templates, where every text is escaped and steers nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vgx.report.palette import UNJUDGED, VERDICTS, ink_on, theme
from vgx.results.safe_text import json_in_html, visible


def page(template: str, scripts: list[str], data: dict[str, Any], **shown: Any) -> str:
    """Returns a whole page, which asks nothing of any other place.

    Args:
        template: by its name.
        scripts: JavaScript of libraries, and the names of our own files of it, in order.
        data: what scripts draw and how, as plain values, by the name of its element.
        shown: what the template names, as plain values; any text.
    """
    code = [static(script) if script.endswith(".js") else script for script in scripts]
    return fragment(template, scripts=code, data=data | {"theme": theme()}, **shown)


def fragment(template: str, **shown: Any) -> str:
    """Returns a template of HTML, filled in."""
    return _environment().get_template(template).render(shown)


def static(name: str) -> str:
    """Returns a file of the page's style or scripts."""
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]


@cache
def _environment() -> Environment:
    folders = [PackageLoader("vgx.report.html", folder) for folder in ("templates", "static")]
    environment = Environment(
        loader=ChoiceLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else visible(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = lambda value: Markup(json_in_html(value))
    environment.filters["inline_script"] = lambda text: Markup(text.replace("</script", r"<\/script"))
    environment.globals["sign_of"] = lambda word: VERDICTS.get(word, UNJUDGED)
    environment.globals["ink_on"] = ink_on
    return environment
