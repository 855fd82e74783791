"""The list of webhooks in the database: who is told of what, and with which secrets. Sends nothing.

Secrets are made here, told once to whoever asked for them, and kept encrypted (`stream.webhooks.sealing`).
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import errors as sql_errors
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from stream.database.connection import Connection, DatabaseConnection
from stream.database.errors import DatabaseError, translated
from stream.database.webhook_tables import WebhookState
from stream.webhooks.messages import Filter
from stream.webhooks.sealing import SealingKeys
from stream.webhooks.signing import SECRET_BYTES

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
APPLICATION = "foreshock-webhooks"

_SECRET, _FORMER = "secret", "former_secret"
_COLUMNS = """
name, url, state, levels, transitions, products, actions, starts, secret, former_secret, former_secret_until, failures,
paused_until, last_error, created_by, created_at, rotated_at
"""
_INSERT = """
INSERT INTO webhooks (name, url, state, levels, transitions, products, actions, starts, secret, created_by)
VALUES (%(name)s, %(url)s, %(state)s, %(levels)s, %(transitions)s, %(products)s, %(actions)s, %(starts)s, %(secret)s,
    %(created_by)s)
"""
_ROTATE = """
UPDATE webhooks SET former_secret = %s, former_secret_until = now() + make_interval(secs => %s), secret = %s,
    rotated_at = now()
WHERE name = %s
"""
_RESEAL = "UPDATE webhooks SET secret = %s, former_secret = %s WHERE name = %s"
_ENABLE = """
UPDATE webhooks SET state = %s, failures = 0, paused_until = NULL, last_error = NULL WHERE name = %s
"""


class WebhookError(DatabaseError):
    """Something about a webhook that cannot be done; the message says why, and what to do."""


@dataclass(frozen=True)
class Webhook:
    """A receiver as the list has it. Its address may hold a secret and is not in its `repr`."""

    name: str
    url: str = field(repr=False)
    state: WebhookState
    wants: Filter
    starts: Mapping[str, Sequence[int]]
    secret: bytes = field(repr=False)
    former_secret: bytes | None = field(repr=False)
    former_secret_until: dt.datetime | None
    failures: int
    paused_until: dt.datetime | None
    last_error: str | None
    created_by: str
    created_at: dt.datetime
    rotated_at: dt.datetime | None

    @classmethod
    def of(cls, row: DictRow) -> Webhook:
        """From a row of `webhooks`."""
        filters = ("levels", "transitions", "products", "actions")
        return cls(wants=Filter.of(row), **{name: value for name, value in row.items() if name not in filters})

    def secrets(self, keys: SealingKeys, now: dt.datetime) -> list[bytes]:
        """What messages are signed with at present: the secret, and the one that it replaces, for a while. Raises
        `SealError`."""
        found = [keys.open(self.secret, f"{self.name}/{_SECRET}")]
        if self.former_secret is not None and self.former_secret_until is not None and now < self.former_secret_until:
            found.append(keys.open(self.former_secret, f"{self.name}/{_FORMER}"))
        return found

    def begins(self, topic_id: str, partition: int) -> int:
        """The offset from which on it is told of what a partition holds: from the first one, where the topic or the
        partition is newer than the webhook."""
        offsets = self.starts.get(topic_id, ())
        return offsets[partition] if partition < len(offsets) else 0


def listed(database: DatabaseConnection) -> list[Webhook]:
    """Every webhook, by name. Raises `DatabaseUnavailable` and the like, as all functions here."""
    with _connected(database) as connection:
        return all_of(connection)


def all_of(connection: Connection) -> list[Webhook]:
    """As `listed`, over a connection that is open; holds them in the list until the end of the transaction."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(f"SELECT {_COLUMNS} FROM webhooks ORDER BY name FOR KEY SHARE".encode())
        return [Webhook.of(row) for row in cursor]


def find(database: DatabaseConnection, name: str) -> Webhook:
    """Raises `WebhookError` where there is none of this name."""
    return _of_name(listed(database), name)


def add(
    database: DatabaseConnection,
    keys: SealingKeys,
    name: str,
    target: str,
    wants: Filter,
    starts: Mapping[str, Sequence[int]],
    created_by: str,
    state: WebhookState = "active",
) -> bytes:
    """Add a webhook, whose address was checked; returns its secret. Raises `WebhookError`."""
    if NAME.fullmatch(name) is None:
        raise WebhookError(f"{name!r} is no name: expected up to 63 of a-z, 0-9, dot, dash and underscore")
    secret = os.urandom(SECRET_BYTES)
    filters = {kind: None if (kept := getattr(wants, kind)) is None else sorted(kept) for kind in vars(wants)}
    row: dict[str, Any] = filters | {
        "name": name,
        "url": target,
        "state": state,
        "starts": Jsonb({topic: list(offsets) for topic, offsets in starts.items()}),
        "secret": keys.seal(secret, f"{name}/{_SECRET}"),
        "created_by": created_by,
    }
    with _connected(database) as connection:
        try:
            connection.execute(_INSERT, row)
        except sql_errors.UniqueViolation:
            raise WebhookError(f"there is a webhook {name!r} already; remove it first, or take another name") from None
    return secret


def remove(database: DatabaseConnection, name: str) -> int:
    """Remove a webhook with all that it was told and is still to be told; returns how many were pending."""
    with _connected(database) as connection, connection.transaction():
        _of_name(all_of(connection), name)
        counted = connection.execute(
            "SELECT count(*) FROM webhook_deliveries WHERE webhook = %s AND state = 'pending'", (name,)
        ).fetchone()
        connection.execute("DELETE FROM webhooks WHERE name = %s", (name,))
    assert counted is not None
    return int(str(counted[0]))


def rotate(database: DatabaseConnection, keys: SealingKeys, name: str, overlap_s: float) -> bytes:
    """Give a webhook a new secret, which is returned; messages are signed with the former one, too, for `overlap_s`."""
    secret = os.urandom(SECRET_BYTES)
    with _connected(database) as connection, connection.transaction():
        connection.execute("SELECT 1 FROM webhooks WHERE name = %s FOR UPDATE", (name,))
        found = _of_name(all_of(connection), name)
        former = keys.seal(keys.open(found.secret, f"{name}/{_SECRET}"), f"{name}/{_FORMER}")
        connection.execute(_ROTATE, (former, overlap_s, keys.seal(secret, f"{name}/{_SECRET}"), name))
    return secret


def reseal(database: DatabaseConnection, keys: SealingKeys) -> int:
    """Encrypt every secret with the first key; returns how many webhooks were changed. Raises `SealError`."""
    changed = 0
    with _connected(database) as connection, connection.transaction():
        connection.execute("LOCK TABLE webhooks IN SHARE ROW EXCLUSIVE MODE")
        for found in all_of(connection):
            sealed = [
                None if kept is None else keys.seal(keys.open(kept, place := f"{found.name}/{column}"), place)
                for column, kept in ((_SECRET, found.secret), (_FORMER, found.former_secret))
            ]
            if not all(kept is None or keys.is_newest(kept) for kept in (found.secret, found.former_secret)):
                connection.execute(_RESEAL, (*sealed, found.name))
                changed += 1
    return changed


def set_state(database: DatabaseConnection, name: str, state: WebhookState) -> None:
    """Disable a webhook, which then keeps what it is to be told, or let it be told again."""
    with _connected(database) as connection, connection.transaction():
        _of_name(all_of(connection), name)
        connection.execute(_ENABLE, (state, name))


def _of_name(webhooks: Sequence[Webhook], name: str) -> Webhook:
    for webhook in webhooks:
        if webhook.name == name:
            return webhook
    raise WebhookError(f"there is no webhook {name!r}; `foreshock webhooks list` shows them")


@contextmanager
def _connected(database: DatabaseConnection) -> Iterator[Connection]:
    with translated(database.address), database.connect(APPLICATION) as connection:
        yield connection
