"""Dead letters hold what was refused, and fit into their topic whatever that was."""

from __future__ import annotations

import datetime as dt
import hashlib
import random

import msgspec
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.record import Header, RawRecord
from stream.outputs import SENT_BACK_HEADER, DeadLetter
from stream.scoring.dead_letters import LETTER_ROOM_BYTES, DeadLetters
from stream.scoring.intake import Intake, Taken
from stream.topics import DEAD_LETTER_MAX_BYTES

NOW_MS = int(dt.datetime(2025, 6, 1, tzinfo=dt.UTC).timestamp() * 1000)
SIZES = (0, 1_000, 300_000, 900_000, 3_000_000, 10_000_000)


def refused(record: RawRecord, limit: int = DEAD_LETTER_MAX_BYTES) -> DeadLetter:
    """The dead letter of a record that is no repayment."""
    letter = Intake("repayments", DeadLetters("risk", limit)).take(record, NOW_MS)
    assert isinstance(letter, DeadLetter)
    return letter


def batch_bytes(letter: DeadLetter) -> int:
    """What the broker holds against `max.message.bytes`: the record batch of this record alone."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, 1, 1, 1, 1)
    builder.append(0, 1, letter.key, letter.value, letter.record_headers())
    return len(builder.build())


def total(headers: list[Header]) -> bytes:
    return b"".join(name.encode() + (content or b"") for name, content in headers)


@pytest.mark.parametrize("limit", [20_000, 1_048_588, DEAD_LETTER_MAX_BYTES])
@pytest.mark.parametrize("value_size", SIZES)
@pytest.mark.parametrize("key_size", SIZES[:-1])
@pytest.mark.parametrize("header_size", [0, 1_000, 3_000_000])
def test_a_dead_letter_fits_whatever_the_size_of_the_original(
    limit: int, value_size: int, key_size: int, header_size: int
) -> None:
    value, key, headers = b" " * value_size, b"\x00" * key_size, [("own", b"h" * header_size), ("empty", None)]
    letter = refused(RawRecord("repayments", 3, 42, 0, key, value, headers), limit)
    assert batch_bytes(letter) < limit
    for name, part, kept in (
        ("key", key, letter.key or b""),
        ("value", value, letter.value or b""),
        ("headers", total(headers), total(list(letter.headers))),
    ):
        if name in letter.left_out:
            left_out = letter.left_out[name]
            assert kept == b""
            assert (left_out.size, left_out.sha256) == (len(part), hashlib.sha256(part).hexdigest())
            assert f"the {name} of {left_out.size} bytes, SHA-256 {left_out.sha256}" in letter.message
        else:
            assert kept == part
    room = limit - LETTER_ROOM_BYTES
    sizes = {"key": key_size, "value": value_size, "headers": header_size + 28}
    while sum(sizes.values()) > room:
        del sizes[max(sizes, key=lambda name: sizes[name])]
    assert set(letter.left_out) == {"key", "value", "headers"} - set(sizes), "the largest go, and no more than must"
    assert DeadLetter.from_record(RawRecord("", 0, 0, 0, letter.key, letter.value, letter.record_headers())) == letter


def test_many_small_headers_count_with_what_each_costs() -> None:
    headers: list[Header] = [("", b"")] * 50_000
    letter = refused(RawRecord("repayments", 3, 42, 0, b"u1", b"x", headers), 100_000)
    assert (letter.headers, letter.left_out["headers"].size) == ((), 0)
    assert batch_bytes(letter) < 100_000


@pytest.mark.parametrize("character", ["x", "\x01", "\N{SNOWMAN}", "\N{GRINNING FACE}", '"'])
def test_a_long_text_in_the_decoders_error_does_not_make_a_long_message(character: str) -> None:
    value = msgspec.json.encode(
        {"event_id": "e", "user_id": "u", "occurred_at": "2025-05-01T00:00:00Z", "kind": ""}
        | {"kind": character * (60_000 // len(msgspec.json.encode(character)))}
    )
    letter = refused(RawRecord("r" * 249, 3, 42, 0, b"u", value))
    assert letter.reason == "unknown_kind"
    assert len(letter.message) < 1_010
    assert "[…]" in letter.message
    assert letter.message.endswith("`$.kind`")
    assert batch_bytes(refused(RawRecord("r" * 249, 3, 42, 0, b"u", value), 20_000)) < 20_000


def test_bytes_at_random_fit_too() -> None:
    letter = refused(RawRecord("repayments", 3, 42, 0, None, random.Random(1).randbytes(2_000_000)), 1_048_588)
    assert letter.reason == "null_key"
    assert letter.left_out["value"].size == 2_000_000
    assert (letter.key, letter.value, list(letter.left_out)) == (None, None, ["value"])


HEADERS = st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=5)


@given(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=200), HEADERS, st.integers(-1, 2**60))
def test_what_is_published_says_what_came(
    key: bytes | None, value: bytes | None, headers: list[Header], timestamp_ms: int
) -> None:
    record = RawRecord("repayments", 3, 42, timestamp_ms, key, value, headers)
    letter = DeadLetters("risk").of(record, "not_json", "why")
    published = RawRecord("dead-letters", 3, 7, 1, letter.key, letter.value, letter.record_headers())
    found = DeadLetter.from_record(published)
    assert found == letter
    assert (found.key, found.value, list(found.headers)) == (key, value, headers)
    assert (found.topic, found.partition, found.offset, found.timestamp_ms) == ("repayments", 3, 42, timestamp_ms)
    assert (found.reason, found.message, found.application_id) == ("not_json", "why", "risk")


def test_a_dead_letter_that_was_sent_back_and_refused_again_tells_of_the_second_time_alone() -> None:
    first = refused(RawRecord("repayments", 3, 42, 0, b"u1", b"{", [("trace", b"1")]))
    again = refused(RawRecord("repayments", 3, 77, 9, first.key, first.value, first.record_headers()))
    assert again.offset == 77
    assert again.headers == (("trace", b"1"),)
    names = [name for name, _ in again.record_headers()]
    assert len(names) == len(set(names)) == len(first.record_headers())


def test_a_dead_letter_that_is_good_by_now_is_taken_as_it_is() -> None:
    value = b'{"event_id":"e1","user_id":"u1","occurred_at":"2025-06-05T00:00:00Z","kind":"due","amount_due":1}'
    letter = refused(RawRecord("repayments", 3, 42, 0, b"u1", value))
    assert letter.reason == "in_the_future"
    sent_back = RawRecord("repayments", 3, 43, 1, letter.key, letter.value, letter.record_headers())
    assert isinstance(Intake("repayments").take(sent_back, NOW_MS + 7 * 86_400_000), Taken)


def test_a_record_that_was_sent_back_and_is_refused_again_says_how_often() -> None:
    marked = RawRecord("repayments", 0, 9, 0, b"u", b"{", [(SENT_BACK_HEADER, b"2"), ("own", b"1")])
    letter = refused(marked)
    assert (letter.sent_back, letter.headers) == (2, (("own", b"1"),))
    assert refused(RawRecord("repayments", 0, 9, 0, b"u", b"{", [("own", b"1")])).sent_back == 0
