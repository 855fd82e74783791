"""Cursors of lists: where a page ended, opaque to callers and checked when they come back. Pure.

A cursor holds a place in an order and no right: what may be seen is decided anew for each page.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from typing import TypeVar

import msgspec

LONGEST = 1_000

Where = TypeVar("Where")


class ForeignCursor(ValueError):
    """A cursor that no page of this list ended with."""


class AlertPlace(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last alert of a page."""

    opened_at: dt.datetime
    alert_id: str


class EventPlace(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last event of a page."""

    occurred_at: dt.datetime
    topic: str
    partition: int
    offset: int


def encode(place: msgspec.Struct) -> str:
    """A place as text for an address."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def decode(text: str, kind: type[Where]) -> Where:
    """Raises `ForeignCursor`."""
    try:
        if len(text) > LONGEST:
            raise ValueError(text[:20])
        raw = base64.b64decode(f"{text}{'=' * (-len(text) % 4)}".encode("ascii"), altchars=b"-_", validate=True)
        place = msgspec.json.decode(raw, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        raise ForeignCursor("the cursor is none that a page of this list gave; begin without one") from None
    if any(isinstance(value, dt.datetime) and value.tzinfo is None for value in msgspec.structs.astuple(place)):  # type: ignore[arg-type]
        raise ForeignCursor("the cursor is none that a page of this list gave; begin without one")
    return place
