"""Writes batches of scores, alerts, contracts, their products, events and dead letters into PostgreSQL; writing a batch
again changes nothing.

A batch is one transaction and rows have primary keys, so a caller that commits its Kafka offsets after `write` returns
loses no row and duplicates none:

1. partitions of months not seen before are made, each in a transaction of its own;
2. the batch is copied into temporary tables and merged from there into the real ones;
3. the transaction commits; only now may the offsets be committed.

| it stops | what the tables hold | writing the batch again |
| --- | --- | --- |
| before 3 | nothing of the batch | writes it |
| during 3, answer lost | all or nothing of it | writes what is missing: nothing or all |
| after 3 | all of it | changes nothing |

Scores of replays are not written here.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg.types.json import Jsonb

from stream.database import staging
from stream.database.connection import Connection, DatabaseConnection
from stream.database.errors import translated
from stream.database.kept_events import KeptEvent
from stream.database.partitions import LOCK_TIMEOUT_MS, ByMonth, ensure_months, month_of
from stream.database.products import ContractProduct
from stream.outputs import Alert, BorrowerContracts, DeadLetter, Score

Result = TypeVar("Result")

PARTITION_RETRY_S = 60.0
"""Pause before a month is tried again whose partition could not be made because of a long reader."""


def _casting(names: Sequence[str], levels: Sequence[str]) -> str:
    return ", ".join(f"{name}::risk_level" if name in levels else f'"{name}"' for name in names)


_SCORE_NAMES = staging.SCORES.names[:-1]
_SCORE_LIST = ", ".join(_SCORE_NAMES)
_SCORE_SELECT = f"SELECT {_casting(_SCORE_NAMES, ('level',))} FROM {staging.SCORES.name}"

_INSERT_HISTORY = f"""
INSERT INTO score_history ({_SCORE_LIST}) {_SCORE_SELECT} ON CONFLICT (score_id, occurred_at) DO NOTHING
"""

# Ordered, so that two sinks that overlap during a rebalance lock rows in the same order.
_UPSERT_USERS = f"""
INSERT INTO user_scores ({_SCORE_LIST}) {_SCORE_SELECT} WHERE is_latest ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE
SET {", ".join(f"{name} = EXCLUDED.{name}" for name in _SCORE_NAMES if name != "user_id")}, updated_at = now()
WHERE user_scores.sequence < EXCLUDED.sequence
"""

_INSERT_TRANSITIONS = f"""
INSERT INTO alert_events ({", ".join(staging.ALERTS.names)})
SELECT {_casting(staging.ALERTS.names, ("level_from", "level_to"))} FROM {staging.ALERTS.name}
ON CONFLICT (transition_id) DO NOTHING
"""

_LATEST = (
    "alert_id", "user_id", "transition_id", "kind", "occurred_at", "score", "baseline", "delta", "reference_pd",
    "days_past_due", "sequence", "policy", "model", "status", "exposure", "amount_overdue", "expected_loss",
    "contracts",
)  # fmt: skip
_RAISED = ("triggers", "reasons", "weighed_most")
_SPAN = ("opened_at", "highest_level", "escalated_at", "cleared_at")
_ALERT_NAMES = (*_LATEST, "level", *_RAISED, *_SPAN)

# The state is read off the history, not off the batch: whatever order transitions come in and however often, the same
# set of them gives the same row. The guard on `sequence` only matters to a sink whose view of the history is behind.
_UPSERT_ALERTS = f"""
WITH history AS (SELECT * FROM alert_events WHERE alert_id = ANY(%s)),
latest AS (SELECT DISTINCT ON (alert_id) * FROM history ORDER BY alert_id, sequence DESC, transition_id),
raised AS (
    SELECT DISTINCT ON (alert_id) * FROM history ORDER BY alert_id, kind = 'cleared', sequence DESC, transition_id
),
span AS (
    SELECT alert_id, min(opened_at) AS opened_at, max(greatest(level_from, level_to)) AS highest_level,
        max(occurred_at) FILTER (WHERE kind = 'escalated') AS escalated_at,
        max(occurred_at) FILTER (WHERE kind = 'cleared') AS cleared_at
    FROM history GROUP BY alert_id
)
INSERT INTO alerts ({", ".join(_ALERT_NAMES)})
SELECT {", ".join(f"latest.{name}" for name in _LATEST)}, latest.level_to,
    {", ".join(f"raised.{name}" for name in _RAISED)}, {", ".join(f"span.{name}" for name in _SPAN)}
FROM latest JOIN raised USING (alert_id) JOIN span USING (alert_id) ORDER BY latest.alert_id
ON CONFLICT (alert_id) DO UPDATE
SET {", ".join(f"{name} = EXCLUDED.{name}" for name in _ALERT_NAMES if name != "alert_id")}, updated_at = now()
WHERE alerts.sequence <= EXCLUDED.sequence
AND ({", ".join(f"alerts.{name}" for name in _ALERT_NAMES)})
    IS DISTINCT FROM ({", ".join(f"EXCLUDED.{name}" for name in _ALERT_NAMES)})
"""

_CONTRACT_LIST = ", ".join(staging.CONTRACTS.names)
_UPSERT_CONTRACTS = f"""
INSERT INTO contracts ({_CONTRACT_LIST}) SELECT {_CONTRACT_LIST} FROM {staging.CONTRACTS.name}
ORDER BY user_id, contract_id
ON CONFLICT (user_id, contract_id) DO UPDATE
SET {", ".join(f"{name} = EXCLUDED.{name}" for name in staging.CONTRACTS.names[2:])}, updated_at = now()
WHERE contracts.sequence < EXCLUDED.sequence
"""
# A record names all contracts of its user. So those of a lower sequence than any are no longer kept, or are of a record
# that came late.
_DELETE_FORMER_CONTRACTS = """
DELETE FROM contracts USING (
    SELECT user_id, max(sequence) AS sequence FROM contracts WHERE user_id = ANY(%s) GROUP BY user_id
) AS newest
WHERE contracts.user_id = newest.user_id AND contracts.sequence < newest.sequence
"""

_PRODUCT_LIST = ", ".join(staging.PRODUCTS.names)
_UPSERT_PRODUCTS = f"""
INSERT INTO contract_products ({_PRODUCT_LIST}) SELECT {_PRODUCT_LIST} FROM {staging.PRODUCTS.name}
ORDER BY user_id, contract_id
ON CONFLICT (user_id, contract_id) DO UPDATE
SET {", ".join(f"{name} = EXCLUDED.{name}" for name in staging.PRODUCTS.names[2:])}, updated_at = now()
WHERE (contract_products.occurred_at, contract_products.source_offset) < (EXCLUDED.occurred_at, EXCLUDED.source_offset)
"""

_LETTER_LIST = ", ".join(f'"{name}"' for name in staging.DEAD_LETTERS.names)
_INSERT_LETTERS = f"""
INSERT INTO dead_letters ({_LETTER_LIST}) SELECT {_LETTER_LIST} FROM {staging.DEAD_LETTERS.name}
ON CONFLICT (dead_letter_id) DO NOTHING
"""

# What came before a user was forgotten is not kept, in whatever order the sink reads topics: an event by its own time.
_EVENT_LIST = ", ".join(staging.EVENTS.names)
_INSERT_EVENTS = f"""
INSERT INTO user_events ({_EVENT_LIST}) SELECT {_EVENT_LIST} FROM {staging.EVENTS.name} AS staged
WHERE NOT EXISTS (
    SELECT FROM forgotten_users AS forgotten
    WHERE forgotten.user_sha256 = sha256(convert_to(staged.user_id, 'UTF8')) AND staged.occurred_at <= forgotten_at
)
ON CONFLICT (source_topic, source_partition, source_offset, occurred_at) DO NOTHING
"""
_FORGET_EVENTS = (
    """
    INSERT INTO forgotten_users (user_sha256, forgotten_at)
    SELECT sha256(convert_to(id, 'UTF8')), max(until) FROM unnest(%s::text[], %s::timestamptz[]) AS told (id, until)
    GROUP BY id ORDER BY 1
    ON CONFLICT (user_sha256) DO UPDATE SET forgotten_at = greatest(forgotten_users.forgotten_at, EXCLUDED.forgotten_at)
    """,
    """
    DELETE FROM user_events USING unnest(%s::text[], %s::timestamptz[]) AS told (id, until)
    WHERE user_id = id AND occurred_at <= until
    """,
)

# With `off` a commit is answered before it is on disk, and a crash of the server then loses rows whose offsets are
# committed. Other settings, such as waiting for a standby, are the operator's.
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""

_FORGOTTEN = "unnest(%s::text[], %s::int[]) AS forgotten (id, part)"
_DELETE_SCORES = tuple(
    f"DELETE FROM {table} USING {_FORGOTTEN} WHERE user_id = id AND split_part(score_id, ':', 2) = part::text"
    for table in ("user_scores", "score_history")
)
_DELETE_ALERTS = (
    f"DELETE FROM alert_events USING {_FORGOTTEN} WHERE user_id = id AND source_partition = part",
    f"DELETE FROM alerts USING {_FORGOTTEN} WHERE user_id = id AND part IS NOT NULL "
    "AND NOT EXISTS (SELECT FROM alert_events WHERE alert_events.alert_id = alerts.alert_id)",
)

_DELETE_CONTRACTS, _DELETE_PRODUCTS = (
    (f"DELETE FROM {table} USING {_FORGOTTEN} WHERE user_id = id AND source_partition = part",)
    for table in ("contracts", "contract_products")
)

_INSERT_MODELS = """
INSERT INTO model_versions (fingerprint) SELECT unnest(%s::text[]) ON CONFLICT (fingerprint) DO NOTHING
"""
_REGISTER_MODEL = """
INSERT INTO model_versions (fingerprint, manifest) VALUES (%s, %s)
ON CONFLICT (fingerprint) DO UPDATE SET manifest = EXCLUDED.manifest WHERE model_versions.manifest IS NULL
"""


SCORE_TABLES, ALERT_TABLES = ("user_scores", "score_history"), ("alerts", "alert_events")
CONTRACT_TABLES, PRODUCT_TABLES, EVENT_TABLES = ("contracts",), ("contract_products",), ("user_events",)
"""The tables with a `user_id`, by the topic that they are a copy of."""


UserPlace = tuple[str, int]
"""A user and the partition that their events are on."""


def _forget(
    connection: Connection, places_told: Sequence[Collection[UserPlace]], events_until: Mapping[str, dt.datetime]
) -> None:
    with connection.transaction():
        deletions = (_DELETE_SCORES, _DELETE_ALERTS, _DELETE_CONTRACTS, _DELETE_PRODUCTS)
        for statements, places in zip(deletions, places_told, strict=True):
            # In order, as the upserts lock them.
            users = sorted((staging.without_nul(user_id), partition) for user_id, partition in places)
            asked = ([user_id for user_id, _ in users], [partition for _, partition in users])
            for statement in statements if users else ():
                connection.execute(statement, asked)
        if events_until:
            until = ([staging.without_nul(user_id) for user_id in events_until], list(events_until.values()))
            for statement in _FORGET_EVENTS:
                connection.execute(statement, until)


@dataclass(frozen=True)
class Written:
    """How many rows a batch added or changed; all zero when it had been written before.

    `users` are rows of `user_scores` that moved on, `scores` those added to `score_history` (always 0 without history),
    `contracts` and `products` rows of `contracts` and `contract_products` that are new or moved on, `events` those
    added to `user_events`.
    """

    scores: int = 0
    users: int = 0
    transitions: int = 0
    dead_letters: int = 0
    contracts: int = 0
    products: int = 0
    events: int = 0


class DatabaseWriter:
    """Writes the sink's batches. Connects when first used and again after an outage; one caller at a time.

    `score_history=False` keeps only each user's latest score. Every method raises `DatabaseUnavailable` when the same
    call may succeed later, `DatabaseOutdated` when the schema is missing or too old, and `psycopg.Error` for data that
    the tables refuse, after which nothing of the batch is written.
    """

    def __init__(
        self,
        database: DatabaseConnection,
        *,
        score_history: bool = True,
        partition_lock_timeout_ms: int = LOCK_TIMEOUT_MS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._address = database.address
        self._score_history = score_history
        self._partition_lock_timeout_ms = partition_lock_timeout_ms
        self._clock = clock
        self._connection: Connection | None = None
        self._months: set[tuple[ByMonth, dt.date]] = set()
        self._months_blocked_until: dict[tuple[ByMonth, dt.date], float] = {}
        self._models: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        connection, self._connection = self._connection, None
        # Another sink may have dropped, or a restore undone, what an earlier connection knew to be there.
        self._months.clear()
        self._months_blocked_until.clear()
        self._models.clear()
        if connection is not None:
            connection.close()

    def write_scores(self, scores: Sequence[Score]) -> Written:
        """`write` for scores alone."""
        return self.write(scores=scores)

    def write_alerts(self, alerts: Sequence[Alert]) -> Written:
        """`write` for alerts alone."""
        return self.write(alerts=alerts)

    def write_contracts(self, contracts: Sequence[BorrowerContracts]) -> Written:
        """`write` for contracts alone."""
        return self.write(contracts=contracts)

    def write_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> Written:
        """`write` for dead letters alone."""
        return self.write(dead_letters=dead_letters)

    def write(
        self,
        scores: Sequence[Score] = (),
        alerts: Sequence[Alert] = (),
        dead_letters: Sequence[DeadLetter] = (),
        contracts: Sequence[BorrowerContracts] = (),
        products: Sequence[ContractProduct] = (),
        events: Sequence[KeptEvent] = (),
    ) -> Written:
        """Write a whole batch in one transaction. Repeats and any order of batches leave the tables the same."""
        if not (scores or alerts or dead_letters or contracts or products or events):
            return Written()
        return self._run(
            lambda connection: self._write(connection, scores, alerts, dead_letters, contracts, products, events)
        )

    def forget(
        self,
        of_scores: Collection[UserPlace],
        of_alerts: Collection[UserPlace],
        of_contracts: Collection[UserPlace] = (),
        of_products: Collection[UserPlace] = (),
        events_until: Mapping[str, dt.datetime] | None = None,
    ) -> None:
        """Delete the scores, the alerts, the contracts and the contracts' products of some users each, and the events
        of others up to some time, in one transaction; what is not there is no error.

        The topics of scores, of alerts, of contracts and of profiles each tell of it, and each partition in order with
        its own records. So the rows that came of another partition stay. Events go by their time, whatever their topic:
        those that are written later are left out by `forgotten_users`.
        """
        told = (of_scores, of_alerts, of_contracts, of_products)
        if any(told) or events_until:
            self._run(lambda connection: _forget(connection, told, events_until or {}))

    def register_model(self, fingerprint: str, manifest: Mapping[str, Any]) -> None:
        """Keep a model's manifest. A fingerprint is the hash of its manifest, so one that is there stays as it is."""
        self._run(lambda connection: connection.execute(_REGISTER_MODEL, (fingerprint, Jsonb(dict(manifest)))))

    def _run(self, work: Callable[[Connection], Result]) -> Result:
        with translated(self._address):
            try:
                return work(self._connected())
            except psycopg.Error:
                # Also forgets what it knew to be there, which may be what is wrong.
                self.close()
                raise

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self.close()
            connection = self._database.connect("foreshock-sink")
            try:
                connection.execute(_DURABLE)
                for table in staging.ALL:
                    table.create(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _write(
        self,
        connection: Connection,
        scores: Sequence[Score],
        alerts: Sequence[Alert],
        dead_letters: Sequence[DeadLetter],
        contracts: Sequence[BorrowerContracts],
        products: Sequence[ContractProduct],
        events: Sequence[KeptEvent],
    ) -> Written:
        if scores and self._score_history:
            self._make_partitions(connection, "score_history", {month_of(score.occurred_at) for score in scores})
        if events:
            self._make_partitions(connection, "user_events", {month_of(event.occurred_at) for event in events})
        models = ({score.model for score in scores} | {alert.model for alert in alerts}) - self._models
        with connection.transaction():
            if models:
                connection.execute(_INSERT_MODELS, (sorted(models),))
            added_scores, moved_users = self._merge_scores(connection, scores) if scores else (0, 0)
            # Before the alerts, whose cases say the product.
            moved_products = self._merge_products(connection, products) if products else 0
            transitions = self._merge_alerts(connection, alerts) if alerts else 0
            letters = self._merge_dead_letters(connection, dead_letters) if dead_letters else 0
            moved_contracts = self._merge_contracts(connection, contracts) if contracts else 0
            added_events = self._merge_events(connection, events) if events else 0
        self._models |= models
        return Written(added_scores, moved_users, transitions, letters, moved_contracts, moved_products, added_events)

    def _merge_scores(self, connection: Connection, scores: Sequence[Score]) -> tuple[int, int]:
        staging.SCORES.fill(connection, staging.score_rows(scores))
        added = connection.execute(_INSERT_HISTORY).rowcount if self._score_history else 0
        return added, connection.execute(_UPSERT_USERS).rowcount

    @staticmethod
    def _merge_alerts(connection: Connection, alerts: Sequence[Alert]) -> int:
        staging.ALERTS.fill(connection, map(staging.alert_row, alerts))
        added = connection.execute(_INSERT_TRANSITIONS).rowcount
        connection.execute(_UPSERT_ALERTS, (sorted({alert.alert_id for alert in alerts}),))
        return added

    @staticmethod
    def _merge_contracts(connection: Connection, contracts: Sequence[BorrowerContracts]) -> int:
        rows = staging.contract_rows(contracts)
        staging.CONTRACTS.fill(connection, rows)
        moved = connection.execute(_UPSERT_CONTRACTS).rowcount
        connection.execute(_DELETE_FORMER_CONTRACTS, (sorted({row[0] for row in rows}),))
        return moved

    @staticmethod
    def _merge_products(connection: Connection, products: Sequence[ContractProduct]) -> int:
        staging.PRODUCTS.fill(connection, staging.product_rows(products))
        return connection.execute(_UPSERT_PRODUCTS).rowcount

    @staticmethod
    def _merge_events(connection: Connection, events: Sequence[KeptEvent]) -> int:
        staging.EVENTS.fill(connection, map(staging.event_row, events))
        return connection.execute(_INSERT_EVENTS).rowcount

    @staticmethod
    def _merge_dead_letters(connection: Connection, dead_letters: Sequence[DeadLetter]) -> int:
        staging.DEAD_LETTERS.fill(connection, map(staging.dead_letter_row, dead_letters))
        return connection.execute(_INSERT_LETTERS).rowcount

    def _make_partitions(self, connection: Connection, table: ByMonth, months: set[dt.date]) -> None:
        now = self._clock()
        wanted = {
            month
            for month in months
            if (table, month) not in self._months and self._months_blocked_until.get((table, month), now) <= now
        }
        if not wanted:
            return
        ready = ensure_months(connection, table, wanted, lock_timeout_ms=self._partition_lock_timeout_ms)
        self._months |= {(table, month) for month in ready}
        for month in wanted - ready:
            self._months_blocked_until[table, month] = now + PARTITION_RETRY_S
