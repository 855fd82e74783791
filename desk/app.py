"""The application of the desk: puts together what the other modules are. Decides nothing itself."""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import FastAPI

from desk import errors
from desk.access import oidc_routes
from desk.access.expiry import remove_expired
from desk.access.limits import RequestLimits
from desk.access.oidc import IdentityProvider
from desk.api import alerts, health, portfolio, reference, scoring, users
from desk.api.portfolio import Forecasts
from desk.api.score_reads import ScoreReader, ScoreReads
from desk.cases.rules import CaseRules
from desk.clerk import Clerk
from desk.clock import Clock, system_clock
from desk.context import CONNECTIONS, STATEMENT_TIMEOUT_S, Desk
from desk.figures import ProcessFigures
from desk.measuring import Measured
from desk.model_in_use import ModelInUse
from desk.outbox import ActionProducer
from desk.pages import site
from desk.shield import Shield
from stream.database.connection import DatabaseConnection
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings

logger = logging.getLogger("foreshock.desk")

CLERK_END_S = 10.0
"""For so long the end waits for what the clerk has begun; what it does is done again by the next one."""

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def create_app(
    settings: Settings,
    database: DatabaseConnection,
    clock: Clock = system_clock,
    *,
    kafka: KafkaConnection | None = None,
    with_clerk: bool = False,
    figures: ProcessFigures | None = None,
) -> FastAPI:
    """The desk over a database. Opens no connection before it is started.

    `with_clerk`: does what happens by itself, too, and publishes actions where there is a `kafka`. `figures`: where to
    count, None for nowhere that somebody looks. Raises `SettingsError`.
    """
    engine = database.open_engine("foreshock-desk", kept=CONNECTIONS, statement_timeout_s=STATEMENT_TIMEOUT_S)
    identity = None if settings.desk_oidc_issuer is None else IdentityProvider(settings)
    desk = Desk(
        settings, database, engine, clock, RequestLimits(engine), ModelInUse(settings), identity,
        figures or ProcessFigures(), kafka,
    )  # fmt: skip

    reader = ScoreReader(desk)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = CONNECTIONS
        async with reader.open():
            with _clerk(desk, kafka) if with_clerk else nullcontext():
                yield
                desk.stopping.set()
        engine.dispose()

    app = FastAPI(
        title="Foreshock",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # an address that is not there is an error, also for who forgot what it is called
        telemetry={"tracing": False, "metrics": False, "logs": False},  # of addresses, which hold users' ids
        lifespan=lifespan,
    )
    app.state.desk = desk
    app.state.forecasts = Forecasts()
    for module in (users, scoring, alerts, portfolio, health, reference, oidc_routes):
        app.include_router(module.router)
    site.install(app)
    errors.install(app, site.error_page)
    app.add_middleware(ScoreReads, reader=reader)
    app.add_middleware(Shield, hosts=allowed_hosts(settings), secure=desk.secure)
    app.add_middleware(Measured, figures=desk.figures)
    return app


@contextmanager
def _clerk(desk: Desk, kafka: KafkaConnection | None) -> Iterator[None]:
    """A clerk in a thread of its own, with connections of its own, until the desk is stopping."""
    settings = desk.settings
    engine = desk.database.open_engine("foreshock-clerk", kept=2)
    clerk = Clerk(
        engine,
        CaseRules.from_settings(settings),
        None if kafka is None else ActionProducer(kafka, settings),
        desk.clock,
        tidy=lambda connection, now: remove_expired(connection, now, desk.lifetime.idle, settings.desk_audit_days),
        on_turn=lambda done: desk.figures.note_turn(done, desk.clock().timestamp()),
    )
    thread = threading.Thread(target=clerk.run, args=(desk.stopping,), name="clerk", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(CLERK_END_S)
        engine.dispose()


def allowed_hosts(settings: Settings) -> frozenset[str] | None:
    """Names under which the desk is asked for: its public one, the address it listens on, and this machine's own.

    A page elsewhere whose name is made to lead here (DNS rebinding) asks under its own name and gets nothing. None, any
    name, where the desk listens on all addresses and nobody said what it is called.
    """
    public = settings.desk_public_url
    names = {*_LOOPBACK_NAMES}
    if public is not None:
        host = urlsplit(public).hostname or ""
        names.add(f"[{host}]" if ":" in host else host)
    elif _is_unspecified(settings.desk_host) or settings.desk_behind_proxy:
        return None
    names.add(settings.desk_host.lower() if ":" not in settings.desk_host else f"[{settings.desk_host}]")
    return frozenset(names)


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
