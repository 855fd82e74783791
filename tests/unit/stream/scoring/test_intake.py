"""Each kind of bad input is refused with its own code, and valid input is taken as it is."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

import stream.kafka.consumer_thread  # noqa: F401  # which tells aiokafka what to make of a record
from events.types import KINDS, Forgetting, Kind, Repayment
from stream.kafka.record import RawRecord
from stream.outputs import DeadLetter
from stream.scoring.intake import Intake, Taken

NOW_MS = int(dt.datetime(2025, 6, 1, tzinfo=dt.UTC).timestamp() * 1000)
GOOD = {
    "repayments": b'{"event_id":"e1","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z","kind":"paid","amount_paid":10}',  # noqa: E501
    "transactions": b'{"event_id":"e1","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z","amount":-5.5}',
    "activity": b'{"event_id":"e1","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z","kind":"session"}',
    "profiles": b'{"event_id":"e1","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z"}',
}


def take(value: bytes | None, key: bytes | None = b"u1", kind: Kind = "repayments") -> Taken | DeadLetter:
    return Intake(kind).take(RawRecord(kind, 3, 42, 1_700_000_000_000, key, value), NOW_MS)


def edited(**fields: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(GOOD["repayments"]), **fields})


@pytest.mark.parametrize("kind", KINDS)
def test_good_events_are_taken(kind: Kind) -> None:
    taken = take(GOOD[kind], kind=kind)
    assert isinstance(taken, Taken)
    assert (taken.kind, taken.partition, taken.offset, taken.key) == (kind, 3, 42, b"u1")
    assert taken.occurred_ms == int(dt.datetime(2025, 5, 1, tzinfo=dt.UTC).timestamp() * 1000)


BAD: dict[str, tuple[bytes | None, bytes | None, str]] = {
    "not JSON": (b"hello", b"u1", "not_json"),
    "truncated JSON": (GOOD["repayments"][:-7], b"u1", "not_json"),
    "not UTF-8": (b'{"event_id":"\xff"}', b"u1", "not_json"),
    "NaN": (GOOD["repayments"].replace(b"10", b"NaN"), b"u1", "not_json"),
    "Infinity": (GOOD["repayments"].replace(b"10", b"Infinity"), b"u1", "not_json"),
    "too large a number": (GOOD["repayments"].replace(b"10", b"1e999"), b"u1", "out_of_range"),
    "an array": (b"[1]", b"u1", "wrong_type"),
    "wrong type": (edited(amount_paid="ten"), b"u1", "wrong_type"),
    "no time zone": (edited(occurred_at="2025-05-01T00:00:00"), b"u1", "wrong_type"),
    "missing field": (b'{"event_id":"e1","user_id":"u1","occurred_at":"2025-05-01T00:00:00Z"}', b"u1", "missing_field"),
    "unknown kind": (edited(kind="forgiven"), b"u1", "unknown_kind"),
    "amount above 1e12": (edited(amount_paid=1.1e12), b"u1", "out_of_range"),
    "amount below zero": (edited(amount_paid=-1), b"u1", "out_of_range"),
    "balance below -1e12": (edited(balance=-1.1e12), b"u1", "out_of_range"),
    "empty event_id": (edited(event_id=""), b"u1", "out_of_range"),
    "long event_id": (edited(event_id="x" * 129), b"u1", "out_of_range"),
    "1 MB string": (edited(user_id="x" * 1_000_000), b"u1", "too_large"),
    "null key": (GOOD["repayments"], None, "null_key"),
    "key not UTF-8": (GOOD["repayments"], b"\xff\xfe", "key_not_utf8"),
    "key of another user": (GOOD["repayments"], b"u2", "key_mismatch"),
    "null value": (None, b"u1", "null_value"),
    "before 1970": (edited(occurred_at="1969-12-31T23:59:59Z"), b"u1", "before_1970"),
    "two days ahead": (edited(occurred_at="2025-06-03T00:00:00Z"), b"u1", "in_the_future"),
    "year 1": (edited(occurred_at="0001-01-01T00:00:00+14:00"), b"u1", "before_1970"),
    "year 9999": (edited(occurred_at="9999-12-31T23:59:59-12:00"), b"u1", "in_the_future"),
    "due in the year 1": (edited(due_date="0001-01-01"), b"u1", "out_of_range"),
    "due in 1900": (edited(due_date="1900-01-01"), b"u1", "out_of_range"),
    "due a day before 1970": (edited(due_date="1969-12-31"), b"u1", "out_of_range"),
    "due a day after the calendar": (edited(due_date="2149-06-07"), b"u1", "out_of_range"),
    "due in 9999": (edited(due_date="9999-12-31"), b"u1", "out_of_range"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_its_code(case: str) -> None:
    value, key, code = BAD[case]
    letter = take(value, key)
    assert isinstance(letter, DeadLetter)
    assert letter.reason == code, letter.message
    assert (letter.topic, letter.partition, letter.offset) == ("repayments", 3, 42)
    assert (letter.key, letter.value, letter.left_out) == (key, value, {})
    assert letter == take(value, key)
    assert Intake("repayments").take_all([RawRecord("repayments", 3, 42, 1_700_000_000_000, key, value)], NOW_MS) == (
        [],
        [letter],
    )


@pytest.mark.parametrize("due_date", ["1970-01-01", "2025-06-30", "2149-06-06", None])
def test_due_dates_up_to_the_bounds_are_taken(due_date: str | None) -> None:
    assert isinstance(take(edited(due_date=due_date)), Taken)


def test_within_a_day_ahead_is_taken() -> None:
    assert isinstance(take(edited(occurred_at="2025-06-01T23:00:00Z")), Taken)


@given(st.binary(max_size=200), st.none() | st.binary(max_size=20))
def test_any_bytes_get_an_answer(value: bytes, key: bytes | None) -> None:
    assert isinstance(take(value, key), Taken | DeadLetter)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)))
def test_any_value_in_a_field_gets_an_answer(value: object) -> None:
    outcome = take(msgspec.json.encode({**msgspec.json.decode(GOOD["repayments"]), "days_past_due": value}))
    if isinstance(outcome, Taken):
        assert isinstance(outcome.event, Repayment)
        assert outcome.event.days_past_due is None or abs(outcome.event.days_past_due) <= 36_500


def test_deep_nesting_is_refused() -> None:
    letter = take(GOOD["repayments"][:-1] + b',"extra":' + b"[" * 30_000)
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "not_json"


def test_the_consumer_makes_records_of_what_is_read_of_them() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000)
    builder.append(0, 1_700_000_000_000, b"u1", b"{}", [])
    builder.append(1, 1_700_000_000_001, None, None, [("trace", b"x")])
    records = PartitionRecords(
        TopicPartition("activity", 3), MemoryRecords(bytes(builder.build())), [], 0, None, None, True, 0
    )
    assert list(records) == [
        RawRecord("activity", 3, 0, 1_700_000_000_000, b"u1", b"{}"),
        RawRecord("activity", 3, 1, 1_700_000_000_001, None, None, [("trace", b"x")]),
    ]


def test_a_tombstone_in_profiles_asks_to_forget_its_user() -> None:
    taken = take(None, kind="profiles")
    assert isinstance(taken, Taken)
    assert taken.event == Forgetting(
        event_id="profiles:3:42", user_id="u1", occurred_at=dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC)
    )
    assert (taken.key, taken.partition, taken.offset, taken.occurred_ms) == (b"u1", 3, 42, 1_700_000_000_000)


@pytest.mark.parametrize(("timestamp", "expected"), [(-1, 0), (NOW_MS + 10**12, NOW_MS)])
def test_a_tombstone_is_taken_whatever_its_time(timestamp: int, expected: int) -> None:
    taken = Intake("profiles").take(RawRecord("profiles", 0, 0, timestamp, b"u1", None), NOW_MS)
    assert isinstance(taken, Taken)
    assert taken.occurred_ms == expected


@pytest.mark.parametrize(("key", "code"), [(None, "null_key"), (b"\xff", "key_not_utf8")])
def test_a_tombstone_of_nobody_is_refused(key: bytes | None, code: str) -> None:
    letter = take(None, key=key, kind="profiles")
    assert isinstance(letter, DeadLetter)
    assert letter.reason == code
