"""The latest score of a user, answered without the framework: what limit services ask for at every purchase.

Most requests for a score can be answered by one statement, which looks at the token, reads the score and notes in the
audit that it was read, all in one transaction. This middleware answers those, and only those. Whatever else there is to
say (of a token that it does not know, a limit that is used up, a user id that is none, a database that is away) it
passes on to the route `desk.api.users.score`, which decides by itself, and is what OpenAPI describes.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
from anyio import to_thread
from psycopg.rows import DictRow
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from desk.access.principals import Principal
from desk.access.refusals import TooManyRequests
from desk.access.roles import Permission
from desk.access.tokens import OfferedToken, offered_token
from desk.api.bodies import ScoreBody
from desk.api.users import LONGEST_USER_ID, scored, unknown
from desk.context import STATEMENT_TIMEOUT_S, Desk
from desk.measuring import ANSWERED_AS
from desk.problems import problem
from stream.database.awaited import AwaitedStatements
from stream.database.errors import DatabaseError
from stream.logs import told

CONNECTIONS = 4
"""Connections to the database for it: hundreds of reads a second, and others wait for their turn."""

PASSED_ON_S = 1.0
"""For so long after a failure of the database everything is passed on."""

_BEFORE, _AFTER = "/v1/users/", "/score"
ROUTE = f"GET {_BEFORE}{{user_id}}{_AFTER}"
"""In whose place it answers."""

logger = logging.getLogger("foreshock.desk")

READ = f"""
WITH token AS MATERIALIZED (
    SELECT products FROM access_tokens
    WHERE token_id = %(token_id)s AND secret_sha256 = %(secret_sha256)s AND role = %(role)s AND revoked_at IS NULL
        AND expires_at > %(now)s
), seen AS MATERIALIZED (
    SELECT {", ".join(ScoreBody.model_fields)} FROM user_scores
    WHERE user_id = %(user_id)s AND EXISTS (
        SELECT FROM token
        WHERE products IS NULL OR EXISTS (
            SELECT FROM contract_products AS stated
            WHERE stated.user_id = %(user_id)s AND stated.product = ANY (token.products)
        )
    )
), noted AS (
    INSERT INTO personal_data_reads (read_at, principal, kind, what, user_id)
    SELECT %(now)s, %(principal)s, 'token', 'score', user_id FROM seen
)
SELECT seen.* FROM token LEFT JOIN seen ON true
""".encode()
"""No row unless the token is valid still and has the role still. Else the user's score, with the note that it was read;
a row of nulls, and no note, where there is none that the token may see."""


class ScoreReader:
    """Answers requests for scores; while it is open, which is between the start and the end of the application."""

    def __init__(self, desk: Desk, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._desk, self._monotonic = desk, monotonic
        self._statements: AwaitedStatements | None = None
        self._passed_on_until_s = -PASSED_ON_S
        self._asking = asyncio.Lock()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """To be entered in the event loop that serves."""
        statements = AwaitedStatements(self._desk.database, "foreshock-desk", CONNECTIONS, STATEMENT_TIMEOUT_S)
        self._statements = statements
        try:
            yield
        finally:
            self._statements = None
            await statements.close()

    async def answer(self, scope: Scope) -> Response | None:
        """The answer to a request, or None for one that is to be passed on, of which then nothing is counted."""
        if scope["method"] != "GET" or (user_id := _user_of(scope["path"])) is None:
            return None
        statements, desk = self._statements, self._desk
        if statements is None or self._monotonic() < self._passed_on_until_s:
            return None
        headers = Headers(scope=scope)
        offered, now = _offered(headers), desk.clock()
        principal = None if offered is None else desk.remembered.find(offered, now)
        if offered is None or principal is None or not principal.may(Permission.SEE_USERS):
            return None
        if not await self._counted(principal, now):
            return None
        row = await self._read(statements, offered, principal, user_id, now)
        if row is None:
            desk.limits.give_back(principal.key, now)
            return None
        if row["user_id"] is None:
            error = unknown("score", user_id)
            return problem(error.status, error.kind, str(error))
        return scored(row, now, headers.get("if-none-match"))

    async def _counted(self, principal: Principal, now: dt.datetime) -> bool:
        """Count a request. False where that is to be passed on: the limit is used up, or the database is away."""
        limits, limit = self._desk.limits, self._desk.settings.desk_requests_per_minute
        if limits.take_at_hand(principal.key, now):
            return True
        async with self._asking:  # one asks for a share, and the others, who came meanwhile, have of it
            if limits.take_at_hand(principal.key, now):
                return True
            try:
                await to_thread.run_sync(limits.take, principal.key, limit, now)
            except (TooManyRequests, DatabaseError, SQLAlchemyError):
                return False
        return True

    async def _read(
        self, statements: AwaitedStatements, offered: OfferedToken, principal: Principal, user_id: str, now: dt.datetime
    ) -> DictRow | None:
        values = {
            **offered._asdict(), "role": principal.role, "now": now, "user_id": user_id, "principal": principal.key
        }  # fmt: skip
        try:
            return await statements.first(READ, values)
        except (DatabaseError, psycopg.Error) as error:
            logger.warning("scores are read the slower way for a while: %s", told(error))
            self._passed_on_until_s = self._monotonic() + PASSED_ON_S
            return None


class ScoreReads:
    """ASGI middleware that has a `ScoreReader` answer what it can."""

    def __init__(self, app: ASGIApp, *, reader: ScoreReader) -> None:
        self._app, self._reader = app, reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._reader.answer(scope) if scope["type"] == "http" else None
        if response is None:
            await self._app(scope, receive, send)
            return
        scope[ANSWERED_AS] = ROUTE
        await response(scope, receive, send)


def _user_of(path: str) -> str | None:
    """Whose score a path asks for, as the route of `desk.api.users` has it; None for another path, or no user id."""
    if not (path.startswith(_BEFORE) and path.endswith(_AFTER)):
        return None
    user_id = path[len(_BEFORE) : -len(_AFTER)]
    return user_id if 1 <= len(user_id) <= LONGEST_USER_ID and "\x00" not in user_id else None


def _offered(headers: Headers) -> OfferedToken | None:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    return offered_token(text) if scheme.lower() == "bearer" else None
