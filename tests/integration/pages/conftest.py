"""The desk as people meet it: a real browser, the desk on a port of this machine, a small portfolio in PostgreSQL.

One browser for the session. Playwright holds an event loop in the thread that starts it, which other tests of the
session must not meet: tests that ask for `visit` run in a thread of the browser's own.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import shutil
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from argon2 import PasswordHasher, profiles
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from psycopg import sql

from desk.access import accounts
from desk.access.passwords import hash_password
from desk.app import create_app
from stream.database.connection import DatabaseConnection
from stream.database.migration import upgrade
from stream.desk_roles import DeskRole
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings, load_settings
from tests.integration.pages import sample

QUICK = PasswordHasher.from_parameters(profiles.CHEAPEST)
PASSWORD = "a horse, a battery and a staple"
PEOPLE: dict[str, tuple[DeskRole, str]] = {
    "ann": ("collector", "Ann Weber"),
    "ben": ("collector", "Ben Okafor"),
    "lea": ("lead", "Lea Novak"),
    "lou": ("lead", "Lou Brandt"),
    "oki": ("operator", "Oki Tan"),
    "ops": ("operator", "Olga Petrova"),
    "rita": ("reader", "Rita Sen"),
}
CHROMIUM_OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NUMBERS = itertools.count(1)


class Clock:
    """The time of the desk, which a test moves."""

    def __init__(self, now: dt.datetime) -> None:
        self.now = now

    def __call__(self) -> dt.datetime:
        return self.now

    def pass_by(self, **length: float) -> None:
        self.now += dt.timedelta(**length)


@dataclass(frozen=True)
class Site:
    """A desk that answers at `url`, over a database of its own."""

    url: str
    database: DatabaseConnection
    clock: Clock
    settings: Settings

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self.database.connect() as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="session")
def portfolio(server_database: DatabaseConnection) -> tuple[str, dt.datetime]:
    """Name of a database with accounts and the portfolio, to be copied; and its latest event time."""
    name = f"desk_sample_{next(_NUMBERS)}"
    with server_database.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    database = _named(server_database, name)
    upgrade(database)
    last = sample.fill(database)
    engine = database.open_engine("foreshock-tests", kept=1, statement_timeout_s=20.0)
    with engine.begin() as connection:
        for account, (role, shown) in PEOPLE.items():
            hashed = hash_password(PASSWORD, account, QUICK)
            accounts.create(connection, account, role, password_hash=hashed, by="tests", now=last, display_name=shown)
    engine.dispose()
    return name, last


def _named(server: DatabaseConnection, name: str) -> DatabaseConnection:
    return DatabaseConnection(urlsplit(server.url)._replace(path=f"/{name}").geturl())


@pytest.fixture
def desk_database(
    server_database: DatabaseConnection, portfolio: tuple[str, dt.datetime]
) -> Iterator[DatabaseConnection]:
    """A copy of the portfolio's database, dropped afterwards."""
    name = f"desk_{next(_NUMBERS)}"
    with server_database.connect() as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(portfolio[0]))
        )
        yield _named(server_database, name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def desk_options() -> dict[str, Any]:
    """Settings of the desk beside the usual ones; a test's module may say others."""
    return {}


@pytest.fixture
def desk_kafka() -> KafkaConnection | None:
    """The brokers that the desk is given; a test's module may say some."""
    return None


@pytest.fixture
def site(
    desk_database: DatabaseConnection,
    portfolio: tuple[str, dt.datetime],
    desk_options: dict[str, Any],
    desk_kafka: KafkaConnection | None,
) -> Iterator[Site]:
    """The desk at work, five minutes after the latest event."""
    settings = load_settings(
        database_url=desk_database.url, lender_time_zone="Europe/Berlin", desk_four_eyes=True, **desk_options
    )
    clock = Clock(portfolio[1] + dt.timedelta(minutes=5))
    app = create_app(settings, desk_database, clock, kafka=desk_kafka)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run, name="desk")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.02)
        assert server.started, "the desk has not started"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Site(f"http://127.0.0.1:{port}", desk_database, clock, settings)
    finally:
        app.state.desk.stopping.set()
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def browser_thread() -> Iterator[ThreadPoolExecutor]:
    """The one thread in which the browser is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="browser") as thread:
        yield thread


@pytest.fixture(scope="session")
def browser(browser_thread: ThreadPoolExecutor) -> Iterator[Browser]:
    """The system's Chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "the tests of the desk need the browser Chromium: apt-get install chromium (CONTRIBUTING.md)"
    expect.set_options(timeout=20_000)
    driver = browser_thread.submit(lambda: sync_playwright().start()).result()
    started = browser_thread.submit(
        lambda: driver.chromium.launch(executable_path=found, args=CHROMIUM_OPTIONS)
    ).result()
    yield started
    browser_thread.submit(started.close).result()
    browser_thread.submit(driver.stop).result()


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, browser_thread: ThreadPoolExecutor, site: Site) -> Iterator[Visit]:
    """Signs somebody in, in a browser of their own: `visit("ann")`; options are those of a browser's context.

    Whatever a page complains of, or a browser refuses of it, fails the test.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def open_page(name: str | None = None, *, expect_errors: bool = False, **options: Any) -> Page:
        context = browser.new_context(base_url=site.url, **options)
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        if not expect_errors:
            page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto("/sign-in")
        if name is not None:
            page.get_by_label("Name", exact=True).fill(name)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_selector(".account")
        return page

    yield open_page
    for context in contexts:
        browser_thread.submit(context.close).result()
    assert wrong == []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Have a test that asks for `visit` run in the browser's thread."""
    if "visit" in pyfuncitem.fixturenames:
        thread: ThreadPoolExecutor = pyfuncitem._request.getfixturevalue("browser_thread")
        test = pyfuncitem.obj
        pyfuncitem.obj = lambda **values: thread.submit(test, **values).result()
        with contextlib.suppress(AttributeError):
            pyfuncitem.obj.__wrapped__ = test
    return (yield)
