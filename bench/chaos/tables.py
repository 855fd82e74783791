"""What the database must hold of a run: every row, column by column, from the committed records of the output topics.

Comparing writes nothing. What a row is made of stands here once more, apart from the writer's own code.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from events.types import Event, Profile
from stream.database.connection import DatabaseConnection
from stream.kafka.record import Record
from stream.outputs import LEVELS, Alert, BorrowerContracts, DeadLetter, Score

Row = dict[str, Any]

SET_BY_SERVER = ("updated_at", "received_at")
"""Columns that no topic tells."""

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Outputs(NamedTuple):
    """Committed outputs in the order of each partition."""

    scores: Sequence[Score]
    alerts: Sequence[Alert]
    dead_letters: Sequence[DeadLetter]
    contracts: Sequence[BorrowerContracts] = ()
    """The last record of each borrower."""
    profiles: Sequence[tuple[Record, Profile]] = ()
    """Valid profiles, with their records."""
    events: Sequence[tuple[Record, Event]] = ()
    """Valid events of every kind, with their records."""


def wrong_rows(database: DatabaseConnection, outputs: Outputs) -> dict[str, int]:
    """By table: how many rows are missing, in excess, there twice, or other in some column than the topics have it."""
    with database.connect("chaos") as connection:
        found = {}
        for table, expected in tables_of(outputs).items():
            cursor = connection.execute(f"SELECT * FROM {table}".encode())
            names = [column.name for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
            found[table] = differing(rows, expected)
        return found


def tables_of(outputs: Outputs) -> dict[str, list[Row]]:
    """The rows of every table that the sink fills, in any order."""
    scores = [_score_row(score) for score in outputs.scores]
    latest: dict[str, Row] = {}
    for row in scores:
        if row["user_id"] not in latest or row["sequence"] > latest[row["user_id"]]["sequence"]:
            latest[row["user_id"]] = row
    return {
        "score_history": scores,
        "user_scores": list(latest.values()),
        "alert_events": [_plain(alert) for alert in outputs.alerts],
        "alerts": list(_alerts(outputs.alerts)),
        "dead_letters": [_letter_row(letter) for letter in outputs.dead_letters],
        "contracts": [row for borrower in outputs.contracts for row in _contract_rows(borrower)],
        "contract_products": list(_product_rows(outputs.profiles)),
        "user_events": [_event_row(record, event) for record, event in outputs.events],
    }


def _event_row(record: Record, event: Event) -> Row:
    said = msgspec.to_builtins(event)
    return {
        "source_topic": record.topic,
        "source_partition": record.partition,
        "source_offset": record.offset,
        "occurred_at": event.occurred_at,
        "user_id": _shown(event.user_id),
        "event_id": _shown(event.event_id),
        "kind": event.KIND,
        "payload": {
            name: _shown(value)
            for name, value in said.items()
            if name not in ("event_id", "user_id", "occurred_at") and value is not None
        },
    }


def differing(found: Iterable[Row], expected: Iterable[Row]) -> int:
    """How many rows are on one side only."""
    rest = [_comparable(row) for row in expected]
    counted: dict[Any, int] = {}
    for row in rest:
        counted[row] = counted.get(row, 0) + 1
    for row in map(_comparable, found):
        counted[row] = counted.get(row, 0) - 1
    # A row that is other than it must be is one in excess and one missing: it counts once.
    missing, excess = (sum(max(sign * number, 0) for number in counted.values()) for sign in (1, -1))
    return max(missing, excess)


def _comparable(row: Row) -> tuple[Any, ...]:
    kept = sorted((name, value) for name, value in row.items() if name not in SET_BY_SERVER)
    return tuple((name, _frozen(value)) for name, value in kept)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict | list):
        return msgspec.json.encode(value, order="sorted")
    return bytes(value) if isinstance(value, memoryview) else value


def _plain(output: Score | Alert) -> Row:
    """An output's fields, with JSON as the database gives it and U+0000 as it is shown."""
    row = {name: getattr(output, name) for name in output.__struct_fields__}
    for name in ("reasons", "weighed_most"):
        if name in row:
            row[name] = [
                {key: _shown(value) for key, value in entry.items()} for entry in msgspec.to_builtins(row[name])
            ]
    return {name: _shown(value) for name, value in row.items()}


def _shown(value: Any) -> Any:
    return value.replace("\x00", "\u2400") if isinstance(value, str) else value


def _score_row(score: Score) -> Row:
    row = _plain(score)
    for name in ("source_topic", "source_partition", "source_offset"):
        del row[name]
    return row


def _alerts(transitions: Sequence[Alert]) -> Iterator[Row]:
    """Each alert as it stands after all of its transitions."""
    by_alert: dict[str, list[Alert]] = {}
    for transition in transitions:
        by_alert.setdefault(transition.alert_id, []).append(transition)
    for history in by_alert.values():
        history.sort(key=lambda transition: transition.sequence)
        raised = [transition for transition in history if transition.kind != "cleared"] or history
        row = _plain(history[-1])
        for name in ("level_from", "level_to", "source_topic", "source_partition", "source_offset"):
            del row[name]
        row |= {name: _plain(raised[-1])[name] for name in ("triggers", "reasons", "weighed_most")}
        levels = [level for transition in history for level in (transition.level_from, transition.level_to)]
        yield row | {
            "level": history[-1].level_to,
            "opened_at": min(transition.opened_at for transition in history),
            "highest_level": max(levels, key=LEVELS.index),
            "escalated_at": _latest(history, "escalated"),
            "cleared_at": _latest(history, "cleared"),
        }


def _contract_rows(borrower: BorrowerContracts) -> Iterator[Row]:
    for contract in borrower.contracts:
        yield {
            **{name: getattr(contract, name) for name in contract.__struct_fields__},
            "contract_id": contract.contract_id or "",
            "user_id": _shown(borrower.user_id),
            "occurred_at": borrower.occurred_at,
            "sequence": borrower.sequence,
            "source_partition": borrower.source_partition,
        }


def _product_rows(profiles: Sequence[tuple[Record, Profile]]) -> Iterator[Row]:
    """What the latest profile of each contract says, of equal times the last."""
    latest: dict[tuple[str, str], tuple[Record, Profile]] = {}
    for record, profile in sorted(profiles, key=lambda each: (each[1].occurred_at, each[0].offset)):
        latest[profile.user_id, profile.contract_id or ""] = record, profile
    for (user_id, contract_id), (record, profile) in latest.items():
        yield {
            "user_id": _shown(user_id),
            "contract_id": contract_id,
            "product": _shown(profile.product),
            "occurred_at": profile.occurred_at,
            "source_partition": record.partition,
            "source_offset": record.offset,
        }


def _latest(history: Sequence[Alert], kind: str) -> dt.datetime | None:
    return max((transition.occurred_at for transition in history if transition.kind == kind), default=None)


def _letter_row(letter: DeadLetter) -> Row:
    return {
        "dead_letter_id": letter.dead_letter_id,
        "reason": letter.reason,
        "message": _shown(letter.message),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "recorded_at": None if letter.timestamp_ms < 0 else EPOCH + dt.timedelta(milliseconds=letter.timestamp_ms),
        "key": letter.key,
        "value": letter.value,
    }
