"""The table of replays: name, range, users, model, rules, status and counts of each, and what its comparison with the
live outputs found. Runs no replay."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from stream.database.connection import DatabaseConnection
from stream.database.errors import translated

_START = """
INSERT INTO replay_runs (name, from_at, to_at, users, model, rules, status)
VALUES (%s, %s, %s, %s, %s, %s, 'running')
ON CONFLICT (name) DO UPDATE SET from_at = EXCLUDED.from_at, to_at = EXCLUDED.to_at, users = EXCLUDED.users,
    model = EXCLUDED.model, rules = EXCLUDED.rules, status = 'running', started_at = now(), finished_at = NULL,
    counts = EXCLUDED.counts, compared_at = NULL, diff = NULL
"""
_FINISH = "UPDATE replay_runs SET status = %s, finished_at = now(), counts = counts || %s WHERE name = %s"
_COMPARED = "UPDATE replay_runs SET compared_at = now(), diff = %s WHERE name = %s"
_FIND = "SELECT from_at, to_at, users, model, rules, status, counts FROM replay_runs WHERE name = %s"


@dataclass(frozen=True)
class RecordedRun:
    """A row of `replay_runs`. Empty `users` means all; `rules` name the alert policy and the rules of counting it goes
    by, None where that is not on record."""

    from_at: dt.datetime
    to_at: dt.datetime
    users: list[str]
    model: str
    rules: str | None
    status: Literal["running", "finished", "failed"]
    counts: dict[str, int]

    def differences(
        self, from_at: dt.datetime, to_at: dt.datetime, users: Sequence[str], model: str, rules: str
    ) -> Iterator[str]:
        """What of another run is not the same, so that it would not go on with this one."""
        if (from_at, to_at) != (self.from_at, self.to_at):
            yield "range"
        if sorted(users) != sorted(self.users):
            yield "users"
        if model != self.model:
            yield "model"
        if rules != self.rules:
            yield "policy"


def record_start(
    database: DatabaseConnection,
    name: str,
    from_at: dt.datetime,
    to_at: dt.datetime,
    model: str,
    users: Sequence[str] = (),
    rules: str | None = None,
) -> None:
    """Record that replay `name` runs; a name used before starts over. Raises `DatabaseUnavailable`."""
    with translated(database.address), database.connect("foreshock-replay") as connection:
        connection.execute(_START, (name, from_at, to_at, list(users), model, rules))


def find(database: DatabaseConnection, name: str) -> RecordedRun | None:
    """The run of that name, or None. Raises `DatabaseUnavailable`."""
    with (
        translated(database.address),
        database.connect("foreshock-replay") as connection,
        connection.cursor(row_factory=class_row(RecordedRun)) as cursor,
    ):
        return cursor.execute(_FIND, (name,)).fetchone()


def record_end(
    database: DatabaseConnection, name: str, status: Literal["finished", "failed"], counts: Mapping[str, int]
) -> None:
    """Record how replay `name` ended. Raises `KeyError` when it was never started, `DatabaseUnavailable`."""
    with translated(database.address), database.connect("foreshock-replay") as connection:
        if connection.execute(_FINISH, (status, Jsonb(dict(counts)), name)).rowcount == 0:
            raise KeyError(f"replay_runs has no run named {name!r}; record_start comes first")


def record_diff(database: DatabaseConnection, name: str, figures: Mapping[str, Any]) -> None:
    """Record what the comparison of replay `name` with the live outputs found, in the place of what was found before.

    `figures` are JSON's kinds of values, and name no borrower. Raises `KeyError` when it was never started,
    `DatabaseUnavailable`.
    """
    kept = Jsonb(figures, dumps=msgspec.json.encode)
    with translated(database.address), database.connect("foreshock-replay") as connection:
        if connection.execute(_COMPARED, (kept, name)).rowcount == 0:
            raise KeyError(f"replay_runs has no run named {name!r}; record_start comes first")
