"""Events as the sink keeps them in `user_events`: what the desk shows of a borrower, and sees promises kept by. Pure.

An event's own words, without what stands in columns. Decoding records is the sink's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import msgspec

from events.types import EVENT_TYPES, Event, Kind

_IN_COLUMNS = frozenset({"event_id", "user_id", "occurred_at"})
_FIELDS: dict[Kind, tuple[str, ...]] = {
    kind: tuple(name for name in of_kind.__struct_fields__ if name not in _IN_COLUMNS)
    for kind, of_kind in EVENT_TYPES.items()
}

_encode = msgspec.json.Encoder().encode


class KeptEvent(msgspec.Struct, frozen=True, gc=False):
    """A row of `user_events`. `payload` is JSON: the fields that the event states, beside those in columns."""

    source_topic: str
    source_partition: int
    source_offset: int
    occurred_at: dt.datetime
    user_id: str
    event_id: str
    kind: Kind
    payload: bytes


def kept_event(event: Event, topic: str, partition: int, offset: int) -> KeptEvent:
    """The row of an event by the place of its record."""
    kind = event.KIND
    said = {name: value for name in _FIELDS[kind] if (value := getattr(event, name)) is not None}
    payload = _encode(said)
    if b"\\u0000" in payload:
        # PostgreSQL's text has no U+0000; shown as `stream.database.staging.without_nul` shows it.
        payload = _encode(
            {name: value.replace("\x00", "\u2400") if isinstance(value, str) else value for name, value in said.items()}
        )
    return KeptEvent(topic, partition, offset, event.occurred_at, event.user_id, event.event_id, kind, payload)


def event_of(row: Mapping[Any, Any]) -> Event | None:
    """The event of a row of `user_events`, as it was before it was kept; None where this release does not know it."""
    of_kind = EVENT_TYPES.get(row["kind"])
    if of_kind is None:
        return None
    in_columns = {name: row[name] for name in _IN_COLUMNS} | {"occurred_at": row["occurred_at"].astimezone(dt.UTC)}
    try:
        return msgspec.convert({**row["payload"], **in_columns}, of_kind)
    except msgspec.ValidationError:
        return None
