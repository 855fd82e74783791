"""Temporary tables that a batch is copied into, and the conversion of outputs to their rows.

Uses binary COPY: it took 4 µs per score, text COPY 10, and JSON parameters 11 to 15. Decides nothing; that is `writer`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from psycopg.types.json import Jsonb

from stream.database.connection import Connection
from stream.database.kept_events import KeptEvent
from stream.database.products import ContractProduct
from stream.outputs import Alert, BorrowerContracts, DeadLetter, Score

Row = tuple[Any, ...]

_encode = msgspec.json.Encoder().encode
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Staging:
    """A temporary table of this connection, empty at the start of every transaction."""

    name: str
    columns: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(sql_type for _, sql_type in self.columns)

    def create(self, connection: Connection) -> None:
        columns = ", ".join(f'"{name}" {sql_type}' for name, sql_type in self.columns)
        connection.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.name} ({columns}) ON COMMIT DELETE ROWS")

    def fill(self, connection: Connection, rows: Iterable[Row]) -> None:
        """COPY `rows`, each in the order of `columns`. Must run inside a transaction."""
        with connection.cursor() as cursor, cursor.copy(f"COPY {self.name} FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(self.types)
            for row in rows:
                copy.write_row(row)


SCORES = Staging(
    "staged_scores",
    (
        ("score_id", "text"),
        ("event_id", "text"),
        ("user_id", "text"),
        ("occurred_at", "timestamptz"),
        ("sequence", "int8"),
        ("score", "float8"),
        ("horizons", "jsonb"),
        ("level", "text"),
        ("baseline", "float8"),
        ("delta", "float8"),
        ("days_past_due", "float8"),
        ("model", "text"),
        ("status", "text"),
        ("contracts", "int4"),
        ("exposure", "float8"),
        ("amount_overdue", "float8"),
        ("expected_loss", "float8"),
        ("is_latest", "bool"),
    ),
)

ALERTS = Staging(
    "staged_alerts",
    (
        ("transition_id", "text"),
        ("alert_id", "text"),
        ("user_id", "text"),
        ("kind", "text"),
        ("occurred_at", "timestamptz"),
        ("opened_at", "timestamptz"),
        ("level_from", "text"),
        ("level_to", "text"),
        ("score", "float8"),
        ("baseline", "float8"),
        ("delta", "float8"),
        ("reference_pd", "float8"),
        ("days_past_due", "float8"),
        ("triggers", "text[]"),
        ("reasons", "jsonb"),
        ("weighed_most", "jsonb"),
        ("sequence", "int8"),
        ("source_topic", "text"),
        ("source_partition", "int4"),
        ("source_offset", "int8"),
        ("policy", "text"),
        ("model", "text"),
        ("status", "text"),
        ("exposure", "float8"),
        ("amount_overdue", "float8"),
        ("expected_loss", "float8"),
        ("contracts", "jsonb"),
    ),
)

CONTRACTS = Staging(
    "staged_contracts",
    (
        ("user_id", "text"),
        ("contract_id", "text"),
        ("status", "text"),
        ("days_past_due", "float8"),
        ("amount_overdue", "float8"),
        ("exposure", "float8"),
        ("credit_limit", "float8"),
        ("currency", "text"),
        ("occurred_at", "timestamptz"),
        ("sequence", "int8"),
        ("source_partition", "int4"),
    ),
)

PRODUCTS = Staging(
    "staged_contract_products",
    (
        ("user_id", "text"),
        ("contract_id", "text"),
        ("product", "text"),
        ("occurred_at", "timestamptz"),
        ("source_partition", "int4"),
        ("source_offset", "int8"),
    ),
)

DEAD_LETTERS = Staging(
    "staged_dead_letters",
    (
        ("dead_letter_id", "text"),
        ("reason", "text"),
        ("message", "text"),
        ("topic", "text"),
        ("partition", "int4"),
        ("offset", "int8"),
        ("recorded_at", "timestamptz"),
        ("key", "bytea"),
        ("value", "bytea"),
    ),
)

EVENTS = Staging(
    "staged_user_events",
    (
        ("source_topic", "text"),
        ("source_partition", "int4"),
        ("source_offset", "int8"),
        ("occurred_at", "timestamptz"),
        ("user_id", "text"),
        ("event_id", "text"),
        ("kind", "text"),
        ("payload", "jsonb"),
    ),
)

ALL: tuple[Staging, ...] = (SCORES, ALERTS, CONTRACTS, PRODUCTS, DEAD_LETTERS, EVENTS)


def without_nul(text: str) -> str:
    """`text` with U+0000, which PostgreSQL cannot hold, shown as U+2400 (␀): one such id must not stop a sink."""
    return text.replace("\x00", "\u2400") if "\x00" in text else text


def score_rows(scores: Sequence[Score]) -> list[Row]:
    """Rows of `SCORES`; `is_latest` marks each user's score of the highest sequence, the first of equals."""
    users = [without_nul(score.user_id) for score in scores]
    latest: dict[str, int] = {}
    for position, (user_id, score) in enumerate(zip(users, scores, strict=True)):
        known = latest.setdefault(user_id, position)
        if score.sequence > scores[known].sequence:
            latest[user_id] = position
    return [
        (
            score.score_id,
            without_nul(score.event_id),
            user_id,
            score.occurred_at,
            score.sequence,
            score.score,
            Jsonb(score.horizons, dumps=_encode),
            score.level,
            score.baseline,
            score.delta,
            score.days_past_due,
            score.model,
            score.status,
            score.contracts,
            score.exposure,
            score.amount_overdue,
            score.expected_loss,
            latest[user_id] == position,
        )
        for position, (user_id, score) in enumerate(zip(users, scores, strict=True))
    ]


def alert_row(alert: Alert) -> Row:
    """Row of `ALERTS`."""
    return (
        alert.transition_id,
        alert.alert_id,
        without_nul(alert.user_id),
        alert.kind,
        alert.occurred_at,
        alert.opened_at,
        alert.level_from,
        alert.level_to,
        alert.score,
        alert.baseline,
        alert.delta,
        alert.reference_pd,
        alert.days_past_due,
        list(alert.triggers),
        Jsonb(alert.reasons, dumps=_encode_without_nul),
        Jsonb(alert.weighed_most, dumps=_encode),
        alert.sequence,
        alert.source_topic,
        alert.source_partition,
        alert.source_offset,
        alert.policy,
        alert.model,
        alert.status,
        alert.exposure,
        alert.amount_overdue,
        alert.expected_loss,
        Jsonb(alert.contracts, dumps=_encode),
    )


def contract_rows(borrowers: Sequence[BorrowerContracts]) -> list[Row]:
    """Rows of `CONTRACTS`: of each user, the contracts of the record of the highest sequence, each once."""
    latest: dict[str, BorrowerContracts] = {}
    for borrower in borrowers:
        user_id = without_nul(borrower.user_id)
        if user_id not in latest or borrower.sequence > latest[user_id].sequence:
            latest[user_id] = borrower
    rows: dict[tuple[str, str], Row] = {}
    for user_id, borrower in latest.items():
        for contract in borrower.contracts:
            contract_id = without_nul(contract.contract_id or "")
            rows.setdefault(
                (user_id, contract_id),
                (
                    user_id,
                    contract_id,
                    contract.status,
                    contract.days_past_due,
                    contract.amount_overdue,
                    contract.exposure,
                    contract.credit_limit,
                    contract.currency,
                    borrower.occurred_at,
                    borrower.sequence,
                    borrower.source_partition,
                ),
            )
    return list(rows.values())


def product_rows(products: Sequence[ContractProduct]) -> list[Row]:
    """Rows of `PRODUCTS`: of each contract, what its latest profile says."""
    rows: dict[tuple[str, str], Row] = {}
    for stated in sorted(products, key=lambda each: (each.occurred_at, each.source_offset)):
        user_id, contract_id = without_nul(stated.user_id), stated.contract_id or ""
        rows[user_id, contract_id] = (
            user_id,
            contract_id,
            None if stated.product is None else without_nul(stated.product),
            stated.occurred_at,
            stated.source_partition,
            stated.source_offset,
        )
    return list(rows.values())


def event_row(event: KeptEvent) -> Row:
    """Row of `EVENTS`."""
    return (
        event.source_topic,
        event.source_partition,
        event.source_offset,
        event.occurred_at,
        without_nul(event.user_id),
        without_nul(event.event_id),
        event.kind,
        Jsonb(event.payload, dumps=_as_it_is),
    )


def dead_letter_row(letter: DeadLetter) -> Row:
    """Row of `DEAD_LETTERS`. Whatever the refused record held, this must not fail on it."""
    return (
        letter.dead_letter_id,
        letter.reason,
        without_nul(letter.message),
        letter.topic,
        letter.partition,
        letter.offset,
        record_time(letter.timestamp_ms),
        letter.key,
        letter.value,
    )


def record_time(timestamp_ms: int) -> dt.datetime | None:
    """Time of a Kafka record; None for -1 (no timestamp) and for what lies outside the calendar, years 1970 to 9999."""
    if timestamp_ms < 0:
        return None
    try:
        return _EPOCH + dt.timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        return None


def _as_it_is(payload: bytes) -> bytes:
    return payload


def _encode_without_nul(reasons: Any) -> bytes:
    return _encode([msgspec.structs.replace(reason, text=without_nul(reason.text)) for reason in reasons])
