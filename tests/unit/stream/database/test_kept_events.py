"""An event that is kept comes back as it was, with what stands in columns and what in the payload."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from events.types import EVENT_TYPES, KINDS, Activity, Event, Profile, Repayment, Transaction
from model.datasets.sources import open_dataset
from stream.database.kept_events import KeptEvent, event_of, kept_event

STOCKHOLM = dt.timezone(dt.timedelta(hours=2))
MOMENTS = st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=30)
AMOUNTS = st.floats(0, 1e9)
IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
SENT = {"event_id": IDS, "user_id": IDS, "occurred_at": MOMENTS}
EVENTS = st.one_of(
    st.builds(Transaction, **SENT, amount=AMOUNTS, category=TEXTS | st.none()),
    st.builds(Repayment, **SENT, kind=st.sampled_from(["due", "paid"]), amount_paid=AMOUNTS | st.none()),
    st.builds(Activity, **SENT, kind=st.just("session"), count=st.floats(1, 100)),
    st.builds(Profile, **SENT, product=TEXTS | st.none()),
)


def as_read(kept: KeptEvent, **changes: Any) -> dict[str, Any]:
    """The row as PostgreSQL gives it back: the payload as an object, the time in some zone."""
    found = msgspec.structs.asdict(kept)
    return {
        **found,
        "payload": json.loads(kept.payload),
        "occurred_at": kept.occurred_at.astimezone(STOCKHOLM),
        **changes,
    }


@given(EVENTS)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    assert event_of(as_read(kept_event(event, "t", 0, 1))) == event


def test_every_kind_comes_back() -> None:
    events = list(open_dataset("simulator", users=5, months=4, seed=7).events())
    assert {event.KIND for event in events} == set(KINDS) == set(EVENT_TYPES)
    assert [event_of(as_read(kept_event(event, event.KIND, 0, 1))) for event in events] == events


def test_an_event_that_this_release_does_not_know_is_none() -> None:
    kept = kept_event(Profile(event_id="e", user_id="u", occurred_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)), "t", 0, 1)
    assert event_of(as_read(kept, kind="dreams")) is None
    assert event_of(as_read(kept, payload={"income": "plenty"})) is None
