"""One user's rows in PostgreSQL: to hand out, and to delete. Reads no topic.

Dead letters are found by their key, and by the `user_id` of a value that is JSON; what else their bytes hold, nobody
can tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from psycopg import sql
from psycopg.rows import dict_row, tuple_row

from stream.database.connection import Connection, DatabaseConnection
from stream.database.errors import translated
from stream.database.staging import without_nul
from stream.database.writer import ALERT_TABLES, CONTRACT_TABLES, EVENT_TABLES, PRODUCT_TABLES, SCORE_TABLES

FORGOTTEN = "forgotten"
"""What stands in `replay_runs.users` in the place of a forgotten user, where an empty list would mean all users, and in
`personal_data_reads`."""

_OWN = (*SCORE_TABLES, *ALERT_TABLES, *CONTRACT_TABLES, *PRODUCT_TABLES, *EVENT_TABLES, "webhook_deliveries")

_OF_ALERTS = ("cases", "case_actions", "promises")
"""Tables whose rows go with the alert that they are about, by a trigger."""


_DELETE_LETTERS = "DELETE FROM dead_letters WHERE dead_letter_id = ANY(%s)"
_HIDE_IN_RUNS = "UPDATE replay_runs SET users = array_replace(users, %s, %s) WHERE %s = ANY(users)"
_READS = "SELECT read_at, kind, what FROM personal_data_reads WHERE user_id = %s ORDER BY number"
"""When what was read; by whom is the affair of the lender and of those people."""
_HIDE_IN_READS = "UPDATE personal_data_reads SET user_id = %s WHERE user_id = %s"
_DELETE_ANSWERS = "DELETE FROM idempotent_requests WHERE user_id = %s"


class _OfUser(msgspec.Struct):
    user_id: str


def rows_of(database: DatabaseConnection, user_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row about a user, with its table. Raises `DatabaseError`."""
    with _connected(database) as connection, connection.transaction():
        for table in (*_OWN, *_OF_ALERTS):
            query = sql.SQL("SELECT * FROM {} WHERE user_id = %s").format(sql.Identifier(table))
            with connection.cursor(f"of_{table}", row_factory=dict_row) as cursor:
                cursor.execute(query, (without_nul(user_id),))
                yield from ((table, row) for row in cursor)
        ids = _letters_of(connection, user_id)
        letters = connection.cursor(row_factory=dict_row)
        letters.execute("SELECT * FROM dead_letters WHERE dead_letter_id = ANY(%s)", (ids,))
        yield from (("dead_letters", row) for row in letters)
        reads = connection.cursor(row_factory=dict_row)
        reads.execute(_READS, (without_nul(user_id),))
        yield from (("personal_data_reads", row) for row in reads)
        runs = connection.cursor(row_factory=dict_row)
        runs.execute("SELECT name, from_at, to_at, model FROM replay_runs WHERE %s = ANY(users)", (user_id,))
        yield from (("replay_runs", row) for row in runs)


def count(database: DatabaseConnection, user_id: str) -> Counter[str]:
    """How many rows there are about a user, by table. Raises `DatabaseError`."""
    return Counter(table for table, _ in rows_of(database, user_id))


def forget(database: DatabaseConnection, user_id: str) -> dict[str, int]:
    """Delete every row about a user in one transaction; returns how many, by table. Raises `DatabaseError`.

    In `replay_runs` and `personal_data_reads` only the id is replaced: what was replayed, and who read something when,
    stays on record.
    """
    deleted: dict[str, int] = {}
    with _connected(database) as connection, connection.transaction():
        for table in _OF_ALERTS:
            query = sql.SQL("SELECT count(*) FROM {} WHERE user_id = %s").format(sql.Identifier(table))
            found = connection.execute(query, (without_nul(user_id),)).fetchone()
            deleted[table] = 0 if found is None else int(str(found[0]))
        for table in _OWN:
            query = sql.SQL("DELETE FROM {} WHERE user_id = %s").format(sql.Identifier(table))
            deleted[table] = connection.execute(query, (without_nul(user_id),)).rowcount
        ids = _letters_of(connection, user_id)
        deleted["dead_letters"] = connection.execute(_DELETE_LETTERS, (ids,)).rowcount
        deleted["idempotent_requests"] = connection.execute(_DELETE_ANSWERS, (without_nul(user_id),)).rowcount
        hidden = connection.execute(_HIDE_IN_READS, (FORGOTTEN, without_nul(user_id)))
        deleted["personal_data_reads"] = hidden.rowcount
        deleted["replay_runs"] = connection.execute(_HIDE_IN_RUNS, (user_id, FORGOTTEN, user_id)).rowcount
    return deleted


def _letters_of(connection: Connection, user_id: str) -> list[str]:
    """Ids of the dead letters about a user. Reads the whole table: it has no index on what was refused."""
    name = user_id.encode()
    found: list[str] = []
    with connection.cursor("letters", row_factory=tuple_row) as cursor:
        cursor.execute(
            "SELECT dead_letter_id, key, value FROM dead_letters WHERE key = %s OR position(%s in value) > 0",
            (name, name),
        )
        for dead_letter_id, key, value in cursor:
            if key == name or is_about(value, user_id):
                found.append(dead_letter_id)
    return found


def is_about(value: bytes | None, user_id: str) -> bool:
    """Whether a refused value is JSON with this `user_id`."""
    try:
        return value is not None and msgspec.json.decode(value, type=_OfUser).user_id == user_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


@contextmanager
def _connected(database: DatabaseConnection) -> Iterator[Connection]:
    connection = database.connect("foreshock-person")
    try:
        with translated(database.address):
            yield connection
    finally:
        connection.close()
