"""What each webhook is still to be told, as rows of the database: added, claimed, settled, told again, cleared away.

Whoever adds rows commits its offsets afterwards, and a row that is there stays as it is: nothing is lost and nothing
doubled. Processes share the work by claims:

| it stops | what the table says | what follows |
| --- | --- | --- |
| before a claim | pending, due | any process claims it |
| between claim and answer | pending, due when the lease ends | it is sent again, with the same id |
| after the answer, before it is settled | the same | it is sent again, with the same id |
| after it is settled | delivered, dead, or due later | nothing, or the next try |

Of one user, only the earliest message that is pending is ever claimed: the next one waits until that is settled.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
from psycopg.rows import class_row, dict_row

from stream.database.connection import Connection, DatabaseConnection
from stream.database.errors import DatabaseUnavailable, translated
from stream.database.staging import without_nul
from stream.webhooks import receivers
from stream.webhooks.messages import Message
from stream.webhooks.receivers import APPLICATION, Webhook
from stream.webhooks.schedule import Answer, Outcome, delivery_pause_s, receiver_pause_s

Result = TypeVar("Result")

PRUNED_AT_ONCE = 10_000

_ADD = """
INSERT INTO webhook_deliveries (webhook, message_id, user_id, type, occurred_at, body) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (webhook, message_id) DO NOTHING
"""
# What is still pending keeps its place before later messages, and what is under way is not sent twice at once. What was
# settled gets a new number: those that are told again come in the order in which the topic has them.
_ADD_AGAIN = """
INSERT INTO webhook_deliveries AS d (webhook, message_id, user_id, type, occurred_at, body)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (webhook, message_id) DO UPDATE SET
    number = CASE d.state WHEN 'pending' THEN d.number ELSE EXCLUDED.number END, state = 'pending', attempts = 0,
    due_at = CASE WHEN d.claim IS NULL THEN now() ELSE d.due_at END, settled_at = NULL
"""
# At a place before all that is told afterwards, whoever added it first.
_ADD_BEFORE = """
INSERT INTO webhook_deliveries AS d (webhook, message_id, user_id, type, occurred_at, body, number)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (webhook, message_id) DO UPDATE SET number = LEAST(d.number, EXCLUDED.number)
"""
_CLAIM = """
UPDATE webhook_deliveries AS d SET attempts = d.attempts + 1, claim = %(claim)s,
    due_at = now() + make_interval(secs => %(lease_s)s)
FROM (
    SELECT webhook, message_id FROM webhook_deliveries AS one
    WHERE webhook = %(webhook)s AND state = 'pending' AND due_at <= now() AND NOT EXISTS (
        SELECT FROM webhook_deliveries AS earlier
        WHERE earlier.webhook = one.webhook AND earlier.user_id = one.user_id AND earlier.state = 'pending'
            AND earlier.number < one.number
    )
    ORDER BY due_at, number LIMIT %(most)s FOR UPDATE SKIP LOCKED
) AS head
WHERE d.webhook = head.webhook AND d.message_id = head.message_id
RETURNING d.webhook, d.message_id, d.type, d.body, d.attempts, d.claim, d.created_at
"""
_SETTLE = """
UPDATE webhook_deliveries SET state = %s, settled_at = now(), claim = NULL, last_status = %s, last_error = %s
WHERE webhook = %s AND message_id = %s AND claim = %s AND state = 'pending'
"""
_AGAIN_LATER = """
UPDATE webhook_deliveries SET due_at = now() + make_interval(secs => %s), claim = NULL, last_status = %s,
    last_error = %s
WHERE webhook = %s AND message_id = %s AND claim = %s AND state = 'pending'
"""
_UNDO_CLAIM = """
UPDATE webhook_deliveries SET due_at = now(), claim = NULL, attempts = attempts - 1
WHERE webhook = %s AND message_id = %s AND claim = %s AND state = 'pending'
"""
# While it pauses nothing is begun: what succeeds then was begun before, and says nothing of the pause.
_IS_WELL = """
UPDATE webhooks AS w SET failures = 0, paused_until = CASE WHEN paused_until > now() THEN paused_until END,
    last_error = %(error)s
FROM (SELECT name, failures FROM webhooks WHERE name = %(name)s FOR UPDATE) AS before
WHERE w.name = before.name AND (w.failures > 0 OR w.last_error IS DISTINCT FROM %(error)s)
RETURNING before.failures
"""
# What failed because the receiver was not at work is tried at once when it is.
_BRING_FORWARD = """
UPDATE webhook_deliveries SET due_at = now()
WHERE webhook = %s AND state = 'pending' AND claim IS NULL AND due_at > now() AND attempts > 0
    AND (last_status IS NULL OR last_status >= 500 OR last_status IN (408, 425, 429))
"""
_IS_UNWELL = "UPDATE webhooks SET failures = failures + 1, last_error = %s WHERE name = %s RETURNING failures"
_PAUSE = "UPDATE webhooks SET paused_until = now() + make_interval(secs => %s) WHERE name = %s"
_DISABLE = "UPDATE webhooks SET state = 'disabled', last_error = %s WHERE name = %s"
_PRODUCTS = "SELECT user_id, contract_id, product FROM contract_products WHERE user_id = ANY(%s)"
_PRUNE = """
DELETE FROM webhook_deliveries WHERE (webhook, message_id) IN (
    SELECT webhook, message_id FROM webhook_deliveries
    WHERE state <> 'pending' AND settled_at < now() - make_interval(secs => %s) LIMIT %s
)
"""
# Each part by an index of what is pending or dead alone: of what was delivered there is far more.
_STANDINGS = """
SELECT name, pending, oldest_s, (
    SELECT count(*) FROM webhook_deliveries WHERE webhook = name AND state = 'dead'
) AS dead
FROM webhooks, LATERAL (
    SELECT count(*) AS pending, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s
    FROM webhook_deliveries WHERE webhook = name AND state = 'pending'
) AS waiting
ORDER BY name
"""
_LIST = """
SELECT webhook, message_id, type, user_id, state, attempts, occurred_at, due_at, settled_at, last_status, last_error
FROM webhook_deliveries
WHERE (%(webhook)s::text IS NULL OR webhook = %(webhook)s) AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY number DESC LIMIT %(most)s
"""
_REPLAY = """
UPDATE webhook_deliveries SET state = 'pending', attempts = 0, settled_at = NULL,
    due_at = CASE WHEN claim IS NULL THEN now() ELSE due_at END
WHERE webhook = %(webhook)s AND (message_id = ANY(%(ids)s) OR %(dead)s AND state = 'dead')
"""


@dataclass(frozen=True)
class Told:
    """A message, and the webhooks that want it."""

    message: Message
    webhooks: tuple[str, ...]


@dataclass(frozen=True)
class Claimed:
    """A delivery that this process is to try. `attempts` counts this try."""

    webhook: str
    message_id: str
    type: str
    body: bytes = field(repr=False)
    attempts: int
    claim: uuid.UUID
    created_at: dt.datetime


@dataclass(frozen=True)
class Waiting:
    """What is pending and dead of one webhook; `oldest_s` is the age of the oldest that is pending."""

    name: str
    pending: int
    dead: int
    oldest_s: float


@dataclass(frozen=True)
class Delivery:
    """A delivery as the list shows it, without what it says."""

    webhook: str
    message_id: str
    type: str
    user_id: str
    state: str
    attempts: int
    occurred_at: dt.datetime
    due_at: dt.datetime
    settled_at: dt.datetime | None
    last_status: int | None
    last_error: str | None


class DeliveryTable:
    """The table over one connection, which is opened when it is needed and again after an outage; for any thread.

    All methods raise `DatabaseUnavailable` and the like.
    """

    def __init__(self, database: DatabaseConnection) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._open: Connection | None = None

    def close(self) -> None:
        """A later call opens another connection."""
        with self._lock:
            self._drop()

    def webhooks(self) -> list[Webhook]:
        """Every webhook, by name."""
        return self._do(receivers.all_of)

    def add(
        self,
        choose: Callable[[Sequence[Webhook], Connection], Iterable[Told]],
        forgotten: Collection[str] = (),
        *,
        again: bool = False,
    ) -> int:
        """Add what `choose` finds for the webhooks as they are now, in its order; returns how many rows.

        Rows of users who are `forgotten` are deleted first. With `again`, what is there is to be told again.
        """

        def write(connection: Connection) -> int:
            with connection.transaction():
                if forgotten:
                    connection.execute(
                        "DELETE FROM webhook_deliveries WHERE user_id = ANY(%s)", (list(map(without_nul, forgotten)),)
                    )
                rows = _rows(choose(receivers.all_of(connection), connection))
                if rows:
                    with connection.cursor() as cursor:
                        cursor.executemany(_ADD_AGAIN if again else _ADD, rows)
                return len(rows)

        return self._do(write)

    def add_before(
        self, choose: Callable[[Sequence[Webhook], Connection], Iterable[Told]], numbers: Mapping[str, int]
    ) -> int:
        """As `add`, at places that are given by the messages' ids, to be below 0: before all that `add` ever adds. For
        a webhook to which nothing is sent yet."""

        def write(connection: Connection) -> int:
            with connection.transaction():
                found = _rows(choose(receivers.all_of(connection), connection))
                rows = [(*row, numbers[row[1]]) for row in found]
                if rows:
                    with connection.cursor() as cursor:
                        cursor.executemany(_ADD_BEFORE, rows)
                return len(rows)

        return self._do(write)

    def claim(self, webhook: str, most: int, lease_s: float) -> list[Claimed]:
        """Deliveries that are due, for this process alone until the lease ends."""

        def take(connection: Connection) -> list[Claimed]:
            values = {"webhook": webhook, "most": most, "lease_s": lease_s, "claim": uuid.uuid4()}
            with connection.cursor(row_factory=class_row(Claimed)) as cursor:
                return cursor.execute(_CLAIM, values).fetchall()

        return self._do(take)

    def settle(self, claimed: Claimed, answer: Answer, most_attempts: int, chance: float) -> Outcome | None:
        """Note what came of a try: delivered, dead after `most_attempts`, or to be tried again.

        Returns the outcome; None where the claim was lost meanwhile, and nothing noted.
        """

        def note(connection: Connection) -> Outcome | None:
            outcome = answer.outcome
            with connection.transaction():
                if _note_try(connection, claimed, answer, most_attempts, chance) == 0:
                    return None
                _note_receiver(connection, claimed.webhook, answer, chance)
            return outcome

        return self._do(note)

    def release(self, claimed: Claimed) -> None:
        """Give back a delivery that was not tried."""
        self._do(lambda connection: connection.execute(_UNDO_CLAIM, _key(claimed)))

    def standings(self) -> list[Waiting]:
        """What waits, by webhook."""

        def count(connection: Connection) -> list[Waiting]:
            with connection.cursor(row_factory=class_row(Waiting)) as cursor:
                return cursor.execute(_STANDINGS).fetchall()

        return self._do(count)

    def listed(self, webhook: str | None, state: str | None, most: int) -> list[Delivery]:
        """The newest deliveries."""

        def find(connection: Connection) -> list[Delivery]:
            with connection.cursor(row_factory=class_row(Delivery)) as cursor:
                return cursor.execute(_LIST, {"webhook": webhook, "state": state, "most": most}).fetchall()

        return self._do(find)

    def replay(self, webhook: str, message_ids: Sequence[str], *, dead: bool = False) -> int:
        """Have messages told again that the table has, by their ids, or all that are dead; returns how many."""
        values = {"webhook": webhook, "ids": list(message_ids), "dead": dead}
        return self._do(lambda connection: connection.execute(_REPLAY, values).rowcount)

    def prune(self, keep_days: float) -> int:
        """Delete what was settled longer ago; returns how many rows, at most `PRUNED_AT_ONCE`."""
        values = (keep_days * 86_400, PRUNED_AT_ONCE)
        return self._do(lambda connection: connection.execute(_PRUNE, values).rowcount)

    def _do(self, work: Callable[[Connection], Result]) -> Result:
        with self._lock, translated(self._database.address):
            try:
                if self._open is None or self._open.closed:
                    self._open = self._database.connect(APPLICATION)
                return work(self._open)
            except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnavailable):
                self._drop()
                raise

    def _drop(self) -> None:
        if self._open is not None:
            with suppress(psycopg.Error):
                self._open.close()
        self._open = None


def _rows(told: Iterable[Told]) -> list[tuple[Any, ...]]:
    return [
        (name, one.message.message_id, without_nul(one.message.user_id), without_nul(one.message.type),
         one.message.occurred_at, one.message.body)
        for one in told
        for name in one.webhooks
    ]  # fmt: skip


def products_of(connection: Connection, users: Collection[str]) -> dict[str, dict[str, str | None]]:
    """Products by user and contract, as far as they are known."""
    found: dict[str, dict[str, str | None]] = {}
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(_PRODUCTS, (list(users),)):
            found.setdefault(row["user_id"], {})[row["contract_id"]] = row["product"]
    return found


def chosen(
    messages: Sequence[tuple[Message, Mapping[str, Any]]],
    webhooks: Sequence[Webhook],
    connection: Connection,
    begins: Callable[[Webhook, Mapping[str, Any]], bool],
) -> list[Told]:
    """Which webhooks want which of the messages. `begins` says whether a webhook is told of what stands at a place."""
    by_product = any(webhook.wants.products is not None for webhook in webhooks)
    users = {without_nul(message.user_id) for message, _ in messages}
    products = products_of(connection, users) if by_product and users else {}
    found = []
    for message, place in messages:
        own = products.get(without_nul(message.user_id), {})
        names = tuple(
            webhook.name for webhook in webhooks if begins(webhook, place) and webhook.wants.wants(message, own)
        )
        if names:
            found.append(Told(message, names))
    return found


def _key(claimed: Claimed) -> tuple[str, str, uuid.UUID]:
    return claimed.webhook, claimed.message_id, claimed.claim


def _note_try(connection: Connection, claimed: Claimed, answer: Answer, most_attempts: int, chance: float) -> int:
    outcome, said = answer.outcome, (answer.status, answer.words)
    if outcome is Outcome.DELIVERED:
        return connection.execute(_SETTLE, ("delivered", answer.status, None, *_key(claimed))).rowcount
    if claimed.attempts >= most_attempts and outcome is not Outcome.GONE:
        return connection.execute(_SETTLE, ("dead", *said, *_key(claimed))).rowcount
    pause_s = delivery_pause_s(claimed.attempts, chance, answer.wait_s)
    return connection.execute(_AGAIN_LATER, (pause_s, *said, *_key(claimed))).rowcount


def _note_receiver(connection: Connection, webhook: str, answer: Answer, chance: float) -> None:
    outcome = answer.outcome
    if outcome is Outcome.GONE:
        connection.execute(_DISABLE, (answer.words, webhook))
    elif outcome is Outcome.UNAVAILABLE:
        row = connection.execute(_IS_UNWELL, (answer.words, webhook)).fetchone()
        failures = 0 if row is None else int(str(row[0]))
        if (pause_s := receiver_pause_s(failures, chance, answer.wait_s)) > 0:
            connection.execute(_PAUSE, (pause_s, webhook))
    else:
        error = None if outcome is Outcome.DELIVERED else answer.words
        row = connection.execute(_IS_WELL, {"name": webhook, "error": error}).fetchone()
        if row is not None and int(str(row[0])) > 0:
            connection.execute(_BRING_FORWARD, (webhook,))
