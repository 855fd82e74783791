"""The two addresses of the sign-in by an identity provider: where a browser leaves to it, and where it comes back."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from desk.access import cookies, oidc, sessions
from desk.access.dependencies import count_sign_in, open_to_all
from desk.access.oidc import IdentityProvider
from desk.context import Desk, desk_of

BEGIN = "/sign-in/oidc"

router = APIRouter(include_in_schema=False, dependencies=[open_to_all])


@router.get(BEGIN)
def begin(request: Request) -> Response:
    """Send the browser to the provider; it comes back to `next`, a path of the desk."""
    desk = desk_of(request)
    identity = _identity(desk)
    count_sign_in(request)
    go_on_to = cookies.own_path(request.query_params.get("next"))
    with desk.transaction() as connection:
        url, browser = identity.begin(connection, go_on_to, desk.clock())
    response = RedirectResponse(url, status_code=303)
    cookies.set_sign_in(response, desk, browser, oidc.MINUTES * 60)
    return response


@router.get(oidc.CALLBACK)
def come_back(request: Request) -> Response:
    """Sign in who comes back from the provider."""
    desk = desk_of(request)
    identity = _identity(desk)
    count_sign_in(request)
    browser = cookies.sign_in_of(request.cookies, desk)
    with desk.transaction() as connection:
        begun = identity.take(connection, browser)
    claims = identity.claims_of(begun, request.query_params, desk.clock())
    with desk.transaction() as connection:
        account = identity.account_of(connection, claims, desk.clock())
        secret = sessions.open_session(connection, account.name, desk.lifetime, desk.clock())
    response = RedirectResponse(begun.go_on_to if begun is not None else "/", status_code=303)
    cookies.drop_sign_in(response, desk)
    cookies.set_session(response, desk, secret)
    return response


def _identity(desk: Desk) -> IdentityProvider:
    if desk.identity is None:
        raise HTTPException(404)
    return desk.identity
