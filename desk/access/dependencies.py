"""What routes declare: which permission they need. It lets a request in, or raises one of `desk.access.refusals`.

    @router.get("/v1/users/{user_id}/score")
    def score(principal: Annotated[Principal, TokenMay(Permission.SEE_USERS)]): ...

    @router.get("/queue")
    def queue(session: Annotated[Session, SessionMay(Permission.SEE_USERS)]): ...

Each route declares exactly one of these, or `open_to_all`; a test walks all routes. Pages have sessions by cookie, and
each request of theirs that changes something must hold the session's token; the API has tokens alone, so that nobody
else's page can have a browser call it.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from desk.access import sessions, tokens
from desk.access.principals import Principal
from desk.access.refusals import Forbidden, ForeignForm, NotSignedIn
from desk.access.roles import Permission
from desk.access.sessions import Session
from desk.context import Desk, desk_of

CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"

SIGN_INS_A_MINUTE = 30
"""From one address."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

BEARER = HTTPBearer(
    auto_error=False, scheme_name="token", description="A token of `foreshock token create`, as `fsk_…`."
)


_Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]


class Declared:
    """What a route declares: the permission, None where it is open to all."""

    permission: Permission | None = None


class _Open(Declared):
    def __call__(self) -> None:
        return None


class _ByToken(Declared):
    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def __call__(self, request: Request, bearer: _Bearer) -> Principal:
        desk = desk_of(request)
        if bearer is None:
            raise NotSignedIn("there is no token; send one as `Authorization: Bearer fsk_…`")
        principal = _verified(desk, bearer.credentials)
        return _let_in(desk, principal, self.permission)


def _verified(desk: Desk, text: str) -> Principal:
    """Who a token stands for, remembered for `desk.api.score_reads`. Raises `NotSignedIn`."""
    now, offered = desk.clock(), tokens.offered_token(text)
    try:
        with desk.statements() as connection:
            principal = tokens.principal_of(connection, text, now)
    except NotSignedIn:
        if offered is not None:
            desk.remembered.forget(offered)
        raise
    if offered is not None:
        desk.remembered.remember(offered, principal, now)
    return principal


async def _offered_csrf(request: Request) -> str | None:
    """What a request offers as the token of its session: a header of our script, or a field of a form."""
    if request.method in SAFE_METHODS:
        return None
    if (header := request.headers.get(CSRF_HEADER)) is not None:
        return header
    if request.headers.get("content-type", "").startswith(_FORMS):
        field = (await request.form()).get(CSRF_FIELD)
        return field if isinstance(field, str) else None
    return None


_Offered = Annotated[str | None, Depends(_offered_csrf)]


class _BySession(Declared):
    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def __call__(self, request: Request, csrf: _Offered) -> Session:
        desk = desk_of(request)
        session = session_of(request)
        if session is None:
            raise NotSignedIn("sign in first")
        if request.method not in SAFE_METHODS:
            require_same_origin(request)
            if not sessions.is_own_form(session, csrf):
                raise ForeignForm("the form is not of this session; load the page again and send it once more")
        _let_in(desk, session.principal, self.permission)
        return session


def TokenMay(permission: Permission) -> Any:
    """Depends on a token whose role has the permission; gives the `Principal`."""
    return Depends(_ByToken(permission))


def SessionMay(permission: Permission) -> Any:
    """Depends on a session whose role has the permission; gives the `Session`. Other requests than reading ones must
    hold its token, in the field `csrf` of a form or the header `X-CSRF-Token`."""
    return Depends(_BySession(permission))


open_to_all = Depends(_Open())
"""For `dependencies=[open_to_all]`: of a route that anybody may ask, such as the sign-in."""


def session_of(request: Request) -> Session | None:
    """The session of a request's cookie, if it has a valid one."""
    desk = desk_of(request)
    cookie = request.cookies.get(sessions.cookie_name(secure=desk.secure))
    if not cookie:
        return None
    with desk.statements() as connection:
        return sessions.find_session(connection, cookie, desk.lifetime, desk.clock())


def require_same_origin(request: Request) -> None:
    """Raises `ForeignForm` where the browser says that a page of another site has it send this."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    foreign = site not in (None, "same-origin", "none")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host', '')}":
        foreign = True
    if foreign:
        raise ForeignForm("the form came from another site; open the desk itself and try again")


def count_sign_in(request: Request) -> None:
    """Count a try to sign in from the request's address. Raises `TooManyRequests`."""
    desk = desk_of(request)
    address = request.client.host if request.client is not None else "unknown"
    desk.limits.take(f"sign-in:{address}", SIGN_INS_A_MINUTE, desk.clock())


def _let_in(desk: Desk, principal: Principal, permission: Permission | None) -> Principal:
    desk.limits.take(principal.key, desk.settings.desk_requests_per_minute, desk.clock())
    if permission is not None and not principal.may(permission):
        raise Forbidden(principal.role, permission)
    return principal
