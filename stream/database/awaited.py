"""Statements that an event loop waits for, over a few connections that it keeps: what is asked for so often that a
thread for each request would cost more than the statement.

One statement is one transaction. Tries nothing again: whoever asks decides what follows an outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_loads

from stream.database.connection import CONNECT_TIMEOUT_S, AsyncConnection, DatabaseConnection
from stream.database.errors import DatabaseUnavailable, translated


class AwaitedStatements:
    """For one event loop; opens connections as they are needed, `most` of them."""

    def __init__(
        self, database: DatabaseConnection, application_name: str, most: int, statement_timeout_s: float
    ) -> None:
        """A statement that takes longer than `statement_timeout_s` ends."""
        self._database, self._application_name = database, application_name
        self._statement_timeout_s = statement_timeout_s
        self._room = asyncio.Semaphore(most)
        self._idle: list[AsyncConnection] = []

    async def first(self, statement: bytes, values: Mapping[str, Any]) -> DictRow | None:
        """The first row of a statement by the names of its columns, None where it has none.

        Raises `DatabaseUnavailable` and the like, and `psycopg.Error`.
        """
        await self._enter()
        try:
            with translated(self._database.address):
                connection = self._idle.pop() if self._idle else await self._opened()
                try:
                    cursor = connection.cursor(row_factory=dict_row)
                    # Prepared at once: these statements come again and again.
                    await cursor.execute(statement, values, prepare=True)
                    row = await cursor.fetchone()
                except BaseException as error:
                    await _closed(connection)
                    if isinstance(error, psycopg.OperationalError):
                        await self.close()  # of a server that has gone away, the others are dead, too
                    raise
                self._idle.append(connection)
                return row
        finally:
            self._room.release()

    async def _enter(self) -> None:
        if not self._room.locked():
            await self._room.acquire()
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._room.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"database {self._database.address} has answered none of our statements for {CONNECT_TIMEOUT_S} s"
            ) from None

    async def close(self) -> None:
        """Close what is not in use; a later statement opens anew."""
        while self._idle:
            await _closed(self._idle.pop())

    async def _opened(self) -> AsyncConnection:
        connection = await self._database.connect_async(self._application_name)
        try:
            set_json_loads(msgspec.json.decode, connection)
            await connection.execute(f"SET statement_timeout = {round(self._statement_timeout_s * 1000)}".encode())
        except BaseException:
            await _closed(connection)
            raise
        return connection


async def _closed(connection: AsyncConnection) -> None:
    with suppress(psycopg.Error):
        await connection.close()
