"""What templates print is escaped, an unknown name is an error, and a page needs nothing but itself."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from reports import pages
from reports.pages import date, decimal, minute, percent, render, whole

TEMPLATES = Path(pages.__file__).parent / "templates"


def test_values_are_escaped(nasty: str) -> None:
    text = render("base", title=nasty)
    assert "<script>" not in text
    assert text.count("&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; [red]&#39;quoted&#39;[/red]") == 2


def test_a_value_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render("base")


def test_the_stylesheet_is_inside_as_it_is() -> None:
    assert (TEMPLATES / "style.css").read_text() in render("base", title="")


@pytest.mark.parametrize("path", sorted(TEMPLATES.iterdir()), ids=lambda path: path.name)
def test_no_template_fetches_anything_or_turns_escaping_off(path: Path) -> None:
    assert not re.search(r"<script|<link|<img|@import|url\(|https?:|src=|href=|\|\s*safe|autoescape", path.read_text())


def test_every_template_is_part_of_the_package() -> None:
    names = {path.name for path in TEMPLATES.iterdir()}
    assert {"base.html.j2", "drift.html.j2", "explanation.html.j2", "replay.html.j2", "style.css"} == names


def test_figures_and_moments_in_words() -> None:
    moment = dt.datetime(2024, 1, 2, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert (date(moment), minute(moment)) == ("2024-01-01", "2024-01-01 22:30")
    assert (percent(0.1234), whole(1_234_567)) == ("12.3%", "1,234,567")
    assert (decimal(1_234.567, 1), decimal(None, 2)) == ("1,234.6", "–")
