"""Every route against every role: each declares one permission, and lets in who has it and nobody else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from desk.access import sessions, tokens
from desk.access.dependencies import SAFE_METHODS, Declared, _ByToken
from desk.access.roles import GRANTED, OF_USERS, Permission, may, roles_with, strongest
from desk.app import create_app
from desk.context import Desk
from desk.pages import live
from stream.database.connection import DatabaseConnection
from stream.desk_roles import DESK_ROLES, DeskRole
from stream.settings import load_settings
from tests.integration.desk.conftest import NOON, bearer, new_account

OPEN = {
    "/", "/livez", "/readyz", "/openapi.json", "/docs/api", "/docs/api.css", "/sign-in", "/sign-in/oidc",
    "/sign-in/oidc/callback", "/static/{name}",
}  # fmt: skip
"""What anybody may ask. A route that is new and open must be named here."""


class Route(NamedTuple):
    method: str
    path: str
    declared: list[Declared]

    @property
    def address(self) -> str:
        return re.sub(r"{[^}]*}", "x", self.path)


def declared_in(dependant: Dependant) -> Iterator[Declared]:
    if isinstance(dependant.call, Declared):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from declared_in(inner)


def routes_of(app: FastAPI) -> list[Route]:
    found = []
    for context in iter_route_contexts(app.routes):
        dependant: Any = getattr(context, "dependant", None) or getattr(context.route, "dependant", None)
        for method in sorted(context.methods or ()):
            if method != "HEAD":
                declared = [] if dependant is None else list(dict.fromkeys(declared_in(dependant)))
                found.append(Route(method, context.path_format or context.path or "", declared))
    return found


ROUTES = routes_of(create_app(load_settings(), DatabaseConnection("postgresql://nobody@127.0.0.1:1/none")))


def test_there_are_routes() -> None:
    assert {("GET", "/v1/users/{user_id}/score"), ("POST", "/v1/score")} <= {(one.method, one.path) for one in ROUTES}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_declares_one_permission(route: Route) -> None:
    assert len(route.declared) == 1, "a route depends on TokenMay, SessionMay or open_to_all, on one of them"
    assert (route.declared[0].permission is None) == (route.path in OPEN)


HeadersOf = Callable[[DeskRole], dict[str, str]]


@pytest.fixture(scope="module")
def site(desk_database: DatabaseConnection) -> Iterator[tuple[TestClient, HeadersOf, HeadersOf]]:
    """A client, and what gives by role the headers of a token and of a session: a new one, since routes may end it."""
    app = create_app(load_settings(), desk_database, lambda: NOON)
    by_token: dict[DeskRole, dict[str, str]] = {}
    names: dict[DeskRole, str] = {}
    with (
        pytest.MonkeyPatch.context() as patch,
        TestClient(app, base_url="http://localhost", follow_redirects=False, raise_server_exceptions=False) as client,
    ):
        patch.setattr(live, "stream", partial(live.stream, stream_s=0.0))  # the client waits for the end of an answer
        desk: Desk = app.state.desk
        for role in DESK_ROLES:
            names[role] = new_account(desk.engine, role)
            with desk.transaction() as connection:
                _, text = tokens.create(connection, role, role, products=None, days=1, by="tests", now=NOON)
            by_token[role] = bearer(text)

        def by_session(role: DeskRole) -> dict[str, str]:
            with desk.transaction() as connection:
                cookie = sessions.open_session(connection, names[role], desk.lifetime, NOON)
                session = sessions.find_session(connection, cookie, desk.lifetime, NOON)
            assert session is not None
            return {"Cookie": f"{sessions.LOOPBACK_COOKIE}={cookie}", "X-CSRF-Token": session.csrf_token}

        yield client, by_token.__getitem__, by_session


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_it_lets_in_who_has_it_and_nobody_else(site: tuple[TestClient, HeadersOf, HeadersOf], route: Route) -> None:
    client, by_token, by_session = site
    (declared,) = route.declared
    if declared.permission is None:
        assert client.request(route.method, route.address).status_code != 403
        return
    needs_token = isinstance(declared, _ByToken)
    own, other = (by_token, by_session) if needs_token else (by_session, by_token)
    for role in DESK_ROLES:
        answer = client.request(route.method, route.address, headers=own(role))
        assert (answer.status_code == 403) == (not may(role, declared.permission)), (role, answer.text)
        assert refused(answer) == (route.path == "/sign-out"), role  # which leads there
        assert refused(client.request(route.method, route.address, headers=other(role))), "of the other kind"
        if not needs_token and route.method not in SAFE_METHODS:
            without = {name: value for name, value in own(role).items() if name != "X-CSRF-Token"}
            assert client.request(route.method, route.address, headers=without).status_code == 403
            foreign = own(role) | {"Sec-Fetch-Site": "cross-site"}
            assert client.request(route.method, route.address, headers=foreign).status_code == 403
            elsewhere = own(role) | {"Origin": "http://elsewhere"}
            assert client.request(route.method, route.address, headers=elsewhere).status_code == 403
    assert refused(client.request(route.method, route.address)), "nobody"


def refused(answer: Any) -> bool:
    """Whether somebody is told to sign in, or to send a token."""
    return answer.status_code == 401 or (
        answer.status_code == 303 and str(answer.headers["location"]).startswith("/sign-in")
    )


def test_the_matrix_of_roles() -> None:
    assert GRANTED["reader"] < GRANTED["collector"] < GRANTED["lead"]
    assert not GRANTED["operator"] & OF_USERS, "who looks after the machinery sees no borrower"
    assert set(Permission) == {permission for granted in GRANTED.values() for permission in granted}
    assert roles_with(Permission.WORK_CASES) == ("collector", "lead")
    assert roles_with(Permission.OPERATE) == ("operator",)
    assert strongest(frozenset({"reader", "lead"})) == "lead"
    assert strongest(frozenset({"operator"})) == "operator"
    assert strongest(frozenset({"operator", "lead"})) is None
    assert strongest(frozenset()) is None
