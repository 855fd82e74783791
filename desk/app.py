"""The application of the desk: puts together what the other modules are. Decides nothing itself."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response

from desk import errors
from desk.access import oidc_routes
from desk.access.limits import RequestLimits
from desk.access.oidc import IdentityProvider
from desk.api import health, portfolio, reference, scoring, users
from desk.api.portfolio import Forecasts
from desk.clock import Clock, system_clock
from desk.context import CONNECTIONS, STATEMENT_TIMEOUT_S, Desk
from desk.model_in_use import ModelInUse
from desk.shield import Shield
from stream.database.connection import DatabaseConnection
from stream.settings import Settings

logger = logging.getLogger("foreshock.desk")

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def create_app(settings: Settings, database: DatabaseConnection, clock: Clock = system_clock) -> FastAPI:
    """The desk over a database. Opens no connection before the first request. Raises `SettingsError`."""
    engine = database.open_engine("foreshock-desk", kept=CONNECTIONS, statement_timeout_s=STATEMENT_TIMEOUT_S)
    identity = None if settings.desk_oidc_issuer is None else IdentityProvider(settings)
    desk = Desk(settings, database, engine, clock, RequestLimits(engine), ModelInUse(settings), identity)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = CONNECTIONS
        yield
        desk.stopping.set()
        engine.dispose()

    app = FastAPI(
        title="Foreshock",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # an address that is not there is an error, also for who forgot what it is called
        lifespan=lifespan,
    )
    app.state.desk = desk
    app.state.forecasts = Forecasts()
    for module in (users, scoring, portfolio, health, reference, oidc_routes):
        app.include_router(module.router)
    errors.install(app, _error_page)
    app.add_middleware(Shield, hosts=allowed_hosts(settings), secure=desk.secure)
    return app


def _error_page(request: Request, status: int, detail: str) -> Response:  # noqa: ARG001
    return PlainTextResponse(detail, status)


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
