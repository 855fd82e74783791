"""The desk over a real database, one for each module; tests use names of their own in it."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from argon2 import PasswordHasher, profiles
from fastapi import FastAPI
from psycopg import sql
from sqlalchemy import Connection, Engine
from starlette.testclient import TestClient

from desk.access import accounts, passwords, tokens
from desk.access.passwords import hash_password
from desk.app import create_app
from desk.context import Desk
from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.desk_roles import DeskRole
from stream.settings import Settings, load_settings
from tests import shared

NOON = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
PASSWORD = "a horse of many colours"
QUICK = PasswordHasher.from_parameters(profiles.CHEAPEST)

_NUMBERS = itertools.count(1)


class SetClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> dt.datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += dt.timedelta(**by)


@pytest.fixture(scope="module")
def desk_database(server_database: DatabaseConnection) -> Iterator[DatabaseConnection]:
    """A database with all tables."""
    name = f"desk{shared.WORKER}{next(_NUMBERS)}"
    with server_database.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        found = DatabaseConnection(urlsplit(server_database.url)._replace(path=f"/{name}").geturl())
        migration.upgrade(found)
        yield found
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "HASHER", QUICK)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def settings() -> Settings:
    return load_settings()


@pytest.fixture
def app(desk_database: DatabaseConnection, settings: Settings, clock: SetClock) -> FastAPI:
    return create_app(settings, desk_database, clock)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def desk(app: FastAPI, client: TestClient) -> Desk:  # noqa: ARG001  the client starts and ends it
    found = app.state.desk
    assert isinstance(found, Desk)
    return found


@pytest.fixture
def new_token(desk: Desk) -> Callable[..., str]:
    """Makes a token of a role and returns the headers that carry it."""

    def make(role: DeskRole, products: list[str] | None = None, days: float = 30) -> str:
        with desk.transaction() as connection:
            _, text = tokens.create(
                connection, f"service of a {role}", role, products=products, days=days, by="tests", now=desk.clock()
            )
        return text

    return make


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def new_account(engine: Engine, role: DeskRole, name: str | None = None) -> str:
    """Make an account with `PASSWORD`; returns its name."""
    made = name or f"{role}{next(_NUMBERS)}"
    with engine.begin() as connection:
        accounts.create(
            connection, made, role, password_hash=hash_password(PASSWORD, made, QUICK), by="tests", now=NOON
        )
    return made


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A transaction of the module's `engine` that is rolled back."""
    with engine.connect() as found:
        yield found
