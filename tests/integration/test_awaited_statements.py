"""Statements that an event loop waits for, on a real server."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from stream.database import awaited
from stream.database.awaited import AwaitedStatements
from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseUnavailable

ASK = b"SELECT %(value)s::int AS value, pg_backend_pid() AS process, current_setting('TimeZone') AS zone"


async def test_statements_share_a_few_connections(database: DatabaseConnection) -> None:
    statements = AwaitedStatements(database, "tests", 2, statement_timeout_s=5)
    try:
        found = await asyncio.gather(*(statements.first(ASK, {"value": number}) for number in range(10)))
        rows = [row for row in found if row is not None]
        assert [row["value"] for row in rows] == list(range(10))
        assert len({row["process"] for row in rows}) == 2
        assert {row["zone"] for row in rows} == {"UTC"}
        assert await statements.first(b"SELECT 1 WHERE false", {}) is None
    finally:
        await statements.close()


async def test_what_fails_leaves_a_connection_that_works(database: DatabaseConnection) -> None:
    statements = AwaitedStatements(database, "tests", 1, statement_timeout_s=0.2)
    try:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await statements.first(b"SELECT 1 / 0", {})
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            await statements.first(b"SELECT pg_sleep(5)", {})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await statements.first(b"SELECT pg_sleep(0.15)", {})
        row = await statements.first(ASK, {"value": 7})
        assert row is not None
        assert row["value"] == 7
        with database.connect() as operator:
            operator.execute("SELECT pg_terminate_backend(%s)", (row["process"],))
        with pytest.raises(DatabaseUnavailable):
            await statements.first(ASK, {"value": 1})
        assert await statements.first(ASK, {"value": 1}) is not None
    finally:
        await statements.close()


async def test_who_gets_no_turn_is_told(database: DatabaseConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaited, "CONNECT_TIMEOUT_S", 0.1)
    statements = AwaitedStatements(database, "tests", 1, statement_timeout_s=5)
    try:
        holding = asyncio.create_task(statements.first(b"SELECT pg_sleep(0.5)", {}))
        await asyncio.sleep(0.05)
        with pytest.raises(DatabaseUnavailable, match="has answered none"):
            await statements.first(ASK, {"value": 1})
        await holding
        assert await statements.first(ASK, {"value": 1}) is not None
    finally:
        await statements.close()


async def test_a_database_that_is_away_is_unavailable() -> None:
    statements = AwaitedStatements(DatabaseConnection("postgresql://nobody@127.0.0.1:1/none"), "tests", 1, 5)
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            await statements.first(ASK, {"value": 1})
