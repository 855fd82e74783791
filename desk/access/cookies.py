"""Cookies of the desk: which flags they have, so that scripts and other sites do not get at them."""

from __future__ import annotations

from starlette.responses import Response

from desk.access.sessions import cookie_name
from desk.context import Desk

OIDC_COOKIE = "foreshock-sign-in"


def set_session(response: Response, desk: Desk, secret: str) -> None:
    """Give the browser the cookie of a new session."""
    response.set_cookie(
        cookie_name(secure=desk.secure),
        secret,
        max_age=round(desk.lifetime.most.total_seconds()),
        path="/",
        secure=desk.secure,
        httponly=True,
        samesite="lax",
    )


def drop_session(response: Response, desk: Desk) -> None:
    """Take the cookie of the session away."""
    response.delete_cookie(cookie_name(secure=desk.secure), path="/", secure=desk.secure, httponly=True, samesite="lax")


def set_sign_in(response: Response, desk: Desk, secret: str, seconds: int) -> None:
    """Mark the browser that was sent to the identity provider. Lax: it comes back from another site."""
    name = _sign_in_name(desk)
    response.set_cookie(name, secret, max_age=seconds, path="/", secure=desk.secure, httponly=True, samesite="lax")


def drop_sign_in(response: Response, desk: Desk) -> None:
    """Take that mark away."""
    response.delete_cookie(_sign_in_name(desk), path="/", secure=desk.secure, httponly=True, samesite="lax")


def sign_in_of(cookies: dict[str, str], desk: Desk) -> str | None:
    """The mark of a browser that comes back."""
    return cookies.get(_sign_in_name(desk))


def _sign_in_name(desk: Desk) -> str:
    return f"__Host-{OIDC_COOKIE}" if desk.secure else OIDC_COOKIE


def own_path(wanted: str | None, otherwise: str = "/") -> str:
    """A path of the desk to go on to after the sign-in; `otherwise` for what would lead elsewhere."""
    if not wanted or not wanted.startswith("/") or wanted.startswith(("//", "/\\")):
        return otherwise
    return otherwise if any(ord(letter) < 32 or letter == "\\" for letter in wanted) else wanted
