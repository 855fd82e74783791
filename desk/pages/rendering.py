"""Pages of HTML from `desk/templates`: everything that a template prints is escaped, unless it is a chart.

A template that prints what nobody gave it is an error. Stylesheet, script and picture are named by their content, so
that browsers may keep them for good.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from desk.access.cookies import own_path
from desk.access.roles import Permission, may
from desk.access.sessions import Session
from desk.context import desk_of
from desk.pages.language import LANGUAGES, UNKNOWN, Language
from events.text import printable
from stream.desk_roles import DeskRole

NOTICE_COOKIE = "foreshock-notice"
MOST_TOLD = 8
"""Lines that a notice lists at most, since a cookie holds it."""

SECTIONS: dict[str, Permission] = {
    "queue": Permission.SEE_USERS,
    "portfolio": Permission.SEE_PORTFOLIO,
    "evidence": Permission.EXPORT,
    "operations": Permission.OPERATE,
}
"""The sections of the desk in order, and who sees them."""

Tone = Literal["done", "wrong", "care"]


@dataclass(frozen=True)
class Notice:
    """What stands above the next page: a sentence, and lines below it."""

    tone: Tone
    text: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Viewer:
    """Who looks at a page. `live`: whether there is something to be told of."""

    name: str
    display_name: str
    role: DeskRole
    csrf: str
    sections: tuple[str, ...]
    live: bool


@dataclass(frozen=True)
class Picture:
    """A chart in two widths: the stylesheet shows one."""

    broad: Any
    narrow: Any


def sections_of(role: DeskRole) -> tuple[str, ...]:
    """The sections that a role sees, in order."""
    return tuple(section for section, permission in SECTIONS.items() if may(role, permission))


def language_of(request: Request, session: Session | None) -> Language:
    """The account's language; while it has chosen none, the first one that the browser asks for and there is."""
    settings = desk_of(request).settings
    code = session.account.language if session else None
    if code not in LANGUAGES:
        asked = (part.partition(";")[0].strip()[:2].lower() for part in _accepted(request).split(","))
        code = next((one for one in asked if one in LANGUAGES), settings.desk_language)
    return Language(code, ZoneInfo(settings.lender_time_zone))


def _accepted(request: Request) -> str:
    return request.headers.get("accept-language", "")


def page(
    request: Request,
    session: Session | None,
    template: str,
    *,
    section: str = "",
    status: int = 200,
    notice: Notice | None = None,
    **values: Any,
) -> Response:
    """The page that a template makes of `values`, for the session's account. Without a `notice` it shows the one that
    `back_to` left, once."""
    desk = desk_of(request)
    say = language_of(request, session)
    left = _left_notice(request)
    viewer = None
    if session is not None:
        role = session.account.role
        viewer = Viewer(
            name=session.account.name,
            display_name=session.account.display_name,
            role=role,
            csrf=session.csrf_token,
            sections=sections_of(role),
            live=may(role, Permission.SEE_USERS),
        )
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    text = environment().get_template(f"{template}.html.j2").render(
        say=say, t=say.t, now=desk.clock(), viewer=viewer, here=here, section=section, languages=LANGUAGES,
        notice=notice or left, **values,
    )  # fmt: skip
    answer = HTMLResponse(text, status_code=status)
    if left is not None:
        answer.delete_cookie(NOTICE_COOKIE, path="/", httponly=True, samesite="lax", secure=desk.secure)
    return answer


def back_to(request: Request, where: str, notice: Notice | None = None) -> Response:
    """Have the browser open `where` next, which shows the notice."""
    answer = RedirectResponse(own_path(where), status_code=303)
    if notice is not None:
        kept = json.dumps([notice.tone, notice.text[:400], [line[:160] for line in notice.more[:MOST_TOLD]]])
        answer.set_cookie(
            NOTICE_COOKIE, kept.encode().hex(), max_age=60, path="/", httponly=True, samesite="lax",
            secure=desk_of(request).secure,
        )  # fmt: skip
    return answer


def _left_notice(request: Request) -> Notice | None:
    """The notice of the cookie. A cookie is anybody's to write: what is not one of ours is none, and all is escaped."""
    kept = request.cookies.get(NOTICE_COOKIE)
    if kept is None:
        return None
    try:
        tone, text, more = json.loads(bytes.fromhex(kept))
        lines = tuple(str(line) for line in more[:MOST_TOLD])
    except (ValueError, TypeError):
        return None
    return Notice(tone, str(text), lines) if tone in ("done", "wrong", "care") else None


@cache
def environment() -> Environment:
    """The templates."""
    made = Environment(
        loader=PackageLoader("desk"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals |= {"asset": asset_url, "shown": shown, "shown_text": shown_text, "unknown": UNKNOWN}
    return made


def shown(text: str | None) -> str:
    """An id or a name as it may be shown: what is not printable as an escape."""
    return "" if text is None else printable(text)


def shown_text(text: str) -> str:
    """What somebody wrote, with its lines."""
    return printable(text, keep="\n")


ASSETS: dict[str, str] = {
    "desk.css": "text/css; charset=utf-8",
    "desk.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files that pages name, with their types."""


@cache
def asset(name: str) -> tuple[bytes, str]:
    """The bytes of a file and the beginning of their hash. Raises `KeyError` for one that there is not."""
    if name not in ASSETS:
        raise KeyError(name)
    content = (resources.files("desk") / "static" / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:16]


def asset_url(name: str) -> str:
    """The address of a file, which changes with its content."""
    return f"/static/{name}?v={asset(name)[1]}"


def local_day(moment: dt.datetime, say: Language) -> dt.date:
    """The day that it is for the lender."""
    return moment.astimezone(say.zone).date()


def choices(say: Language, family: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Names with their words, for a list to choose from."""
    return [(name, say.t(f"{family}.{name}")) for name in names]
