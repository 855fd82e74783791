"""Signing in and out, the language of an account, the keys' help, and the files that pages name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import Response

from desk.access import accounts, cookies, sessions
from desk.access.cookies import own_path
from desk.access.dependencies import SessionMay, count_sign_in, open_to_all, require_same_origin, session_of
from desk.access.refusals import SignInRefused
from desk.access.roles import Permission
from desk.access.sessions import Session
from desk.context import Desk, desk_of
from desk.pages.language import LANGUAGES
from desk.pages.rendering import ASSETS, Notice, asset, back_to, language_of, page, sections_of

router = APIRouter(include_in_schema=False)

Own = Annotated[Session, SessionMay(Permission.OWN)]


@router.get("/", dependencies=[open_to_all])
def start(request: Request) -> Response:
    """The first section of whoever is signed in."""
    session = session_of(request)
    if session is None:
        return back_to(request, "/sign-in")
    return back_to(request, f"/{sections_of(session.account.role)[0]}")


@router.get("/sign-in", dependencies=[open_to_all])
def sign_in_page(request: Request, wanted: Annotated[str, Query(alias="next", max_length=2_000)] = "/") -> Response:
    """The form; whoever is signed in goes on to where they wanted to."""
    if session_of(request) is not None:
        return back_to(request, wanted)
    return _form(request, wanted)


@router.post("/sign-in", dependencies=[open_to_all])
def sign_in(
    request: Request,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1_000)] = "",
    back: Annotated[str, Form(max_length=2_000)] = "/",
) -> Response:
    """Sign in by name and password; each try counts, whether it succeeds or not."""
    desk = desk_of(request)
    require_same_origin(request)
    now = desk.clock()
    count_sign_in(request)
    try:
        account = accounts.sign_in(desk.engine, name.strip(), password, now)
    except SignInRefused:
        say = language_of(request, None)
        return _form(request, back, name=name, notice=Notice("wrong", say.t("sign_in.wrong")), status=401)
    return signed_in(request, desk, account.name, back)


def signed_in(request: Request, desk: Desk, account: str, back: str) -> Response:
    """Open a session and go on; a session that the browser had before ends."""
    cookie = sessions.cookie_name(secure=desk.secure)
    with desk.transaction() as connection:
        if before := request.cookies.get(cookie):
            sessions.close_session(connection, before)
        secret = sessions.open_session(connection, account, desk.lifetime, desk.clock())
    answer = back_to(request, back)
    cookies.set_session(answer, desk, secret)
    return answer


@router.post("/sign-out")
def sign_out(request: Request, session: Own) -> Response:
    """End the session of this browser."""
    desk = desk_of(request)
    cookie = sessions.cookie_name(secure=desk.secure)
    with desk.transaction() as connection:
        sessions.close_session(connection, request.cookies[cookie])
    say = language_of(request, session)
    answer = back_to(request, "/sign-in", Notice("done", say.t("sign_in.out")))
    cookies.drop_session(answer, desk)
    return answer


@router.post("/account/language")
def choose_language(
    request: Request,
    session: Own,
    language: Annotated[str, Form(max_length=10)] = "",
    back: Annotated[str, Form(max_length=2_000)] = "/",
) -> Response:
    """The language that the account sees from now on."""
    if language not in LANGUAGES:
        raise HTTPException(422, f"there is no language {language!r}; there are {', '.join(LANGUAGES)}")
    desk = desk_of(request)
    with desk.transaction() as connection:
        accounts.set_language(connection, session.account.name, language)
    return back_to(request, back)


@router.get("/help")
def show_help(request: Request, session: Own) -> Response:
    """The keys, for who has no script."""
    return page(request, session, "help")


@router.get("/static/{name}", dependencies=[open_to_all])
def static(name: str) -> Response:
    """A file that pages name, by its content: browsers keep it for good."""
    if name not in ASSETS:
        raise HTTPException(404)
    content, digest = asset(name)
    kept = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{digest}"'}
    return Response(content, media_type=ASSETS[name], headers=kept)


def _form(request: Request, back: str, *, name: str = "", notice: Notice | None = None, status: int = 200) -> Response:
    single = desk_of(request).settings.desk_oidc_issuer is not None
    return page(
        request, None, "sign_in", back=own_path(back), name=name, single_sign_on=single, notice=notice, status=status
    )
