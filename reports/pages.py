"""Pages of HTML from the templates beside this module. What a template prints is escaped, unless it is `Markup`.

A page is one file: stylesheet and charts are inside, there is no script, and nothing is fetched. So it can be mailed.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

UNKNOWN = "–"


def percent(share: float) -> str:
    """A share (0–1) in percent with one decimal."""
    return f"{share:.1%}"


def whole(number: int) -> str:
    """A count with separators of thousands."""
    return f"{number:,}"


def decimal(value: float | None, digits: int) -> str:
    """A number with so many decimals, a dash where it is not known."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def date(moment: dt.datetime) -> str:
    """The day of a moment in UTC."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d}"


def minute(moment: dt.datetime) -> str:
    """Day and time of a moment in UTC."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M}"


_ENVIRONMENT = Environment(
    loader=PackageLoader("reports"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= {each.__name__: each for each in (percent, whole, decimal, date, minute)}


def render(template: str, **values: Any) -> str:
    """The page that `templates/TEMPLATE.html.j2` makes of `values`. Charts are given as `markupsafe.Markup`."""
    return _ENVIRONMENT.get_template(f"{template}.html.j2").render(**values)
