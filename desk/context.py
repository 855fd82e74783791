"""What every request of the desk needs: settings, the database, the clock. One per process, made by `desk.app`."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine
from starlette.requests import HTTPConnection

from desk.access.limits import RequestLimits
from desk.access.oidc import IdentityProvider
from desk.access.remembered import RememberedTokens
from desk.access.sessions import Lifetime
from desk.clock import Clock
from desk.figures import ProcessFigures
from desk.model_in_use import ModelInUse
from stream.database.connection import DatabaseConnection
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings

CONNECTIONS = 20
"""Connections to the database that a process keeps at most, and requests that it works on at once."""

STATEMENT_TIMEOUT_S = 20.0
"""A statement that takes longer ends: whoever asked is gone by then."""


@dataclass(frozen=True)
class Desk:
    """One process of the desk.

    `identity` is where people may sign in, None for local accounts alone. `figures` is what it counts,
    `kafka` the brokers, None where it was given none. `stopping` is set when it ends: what waits for news must end,
    too.
    """

    settings: Settings
    database: DatabaseConnection
    engine: Engine
    clock: Clock
    limits: RequestLimits
    model: ModelInUse
    identity: IdentityProvider | None = None
    figures: ProcessFigures = field(default_factory=ProcessFigures)
    kafka: KafkaConnection | None = None
    remembered: RememberedTokens = field(default_factory=RememberedTokens)
    stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction, committed at its end: open it for as long as a request reads and writes, no longer."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def statements(self) -> Iterator[Connection]:
        """A connection on which each statement is a transaction of its own: one way to the database and back for each,
        where `transaction` takes three for the first."""
        with self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def secure(self) -> bool:
        """Whether browsers reach the desk by HTTPS."""
        public = self.settings.desk_public_url
        return (
            self.settings.desk_tls_certfile is not None
            or self.settings.desk_behind_proxy
            or (public is not None and urlsplit(public).scheme == "https")
        )

    @property
    def lifetime(self) -> Lifetime:
        """How long sessions last."""
        return Lifetime(
            dt.timedelta(hours=self.settings.desk_session_hours),
            dt.timedelta(minutes=self.settings.desk_session_idle_minutes),
        )


def desk_of(connection: HTTPConnection) -> Desk:
    """The desk that a request came to."""
    return cast(Desk, connection.app.state.desk)
