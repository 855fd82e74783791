"""An id is one event of its user: repetitions come once, and an id for two events names both rows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.types import Event, Transaction
from model.datasets.dataset import DatasetError
from model.datasets.files import RANKS
from model.datasets.spooled_events import Origin, SpooledEvents
from model.datasets.table_files import Place

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def event(event_id: str, user_id: str = "a", hour: int = 0, amount: float = 1.0) -> Event:
    return Transaction(event_id=event_id, user_id=user_id, occurred_at=START + dt.timedelta(hours=hour), amount=amount)


def spooled(*events: Event) -> SpooledEvents:
    spool = SpooledEvents(RANKS)
    for number, each in enumerate(events, 2):
        spool.put(each, Origin(Path("m.csv"), Place("line", number), None))
    spool.check()
    return spool


def test_ids_are_per_user_and_repetitions_come_once() -> None:
    events = [event("1"), event("1", "b"), event("1"), event("2"), event("1")]
    spool = spooled(*events)
    assert list(spool) == [events[0], events[1], events[3]]
    assert list(spool) == list(spool)


@pytest.mark.parametrize("other", [event("1", amount=2.0), event("1", hour=1), event("1", hour=9_000)])
def test_an_id_for_two_events_of_a_user_is_an_error(other: Event) -> None:
    with pytest.raises(DatasetError, match=r"m.csv, line 4: event_id '1' of user 'a' .*m.csv, line 2.*join = "):
        spooled(event("1"), event("2"), other)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))))
def test_what_repeats_exactly_is_kept_once(pairs: list[tuple[str, str]]) -> None:
    events = [event(event_id, user_id, hour=ord(event_id)) for user_id, event_id in pairs]
    assert {(each.user_id, each.event_id) for each in spooled(*events)} == set(pairs)
    assert len(list(spooled(*events))) == len(set(pairs))
