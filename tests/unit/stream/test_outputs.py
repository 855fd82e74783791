"""What is a dead letter of ours, and what is not, whatever its bytes."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.record import Header, RawRecord
from stream.outputs import (
    HEADER_PREFIX,
    LETTER_HEADERS,
    SENT_BACK_HEADER,
    DeadLetter,
    ForeignRecord,
    LeftOut,
    OutputDecoder,
    Score,
    caused_id,
    times_sent_back,
)

LEFT_OUT = LeftOut(5, "0" * 64)
LETTER = DeadLetter(
    dead_letter_id="d",
    reason="not_json",
    message="cut off",
    topic="activity",
    partition=3,
    offset=42,
    timestamp_ms=-1,
    application_id="risk",
    key=b"u",
    value=b"{",
    headers=(("trace", b"1"), ("trace", b"2"), ("none", None)),
)
JSON = {
    "dead_letter_id": "d", "reason": "not_json", "message": "cut off", "topic": "activity", "partition": 3,
    "offset": 42, "timestamp_ms": -1, "key_base64": "dQ==", "value_base64": "ew==",
}  # fmt: skip


def record(
    letter: DeadLetter = LETTER, changes: dict[str, bytes | None] | None = None, without: str = "", **fields: Any
) -> RawRecord:
    """The record of a letter, with headers changed, added or left out, or with other fields."""
    headers = {name: content for name, content in letter.record_headers() if name.startswith(HEADER_PREFIX)}
    headers |= {f"{HEADER_PREFIX}{name}": content for name, content in (changes or {}).items()}
    headers.pop(f"{HEADER_PREFIX}{without}", None)
    kept = {"key": letter.key, "value": letter.value, "headers": [*headers.items(), *letter.headers], **fields}
    return RawRecord("dead-letters", 3, 0, 0, **kept)


@pytest.mark.parametrize("key", [None, b"", b"u"])
@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff"])
@pytest.mark.parametrize("left_out", [[], ["key"], ["value"], ["headers"], ["key", "value", "headers"]])
def test_a_dead_letter_is_read_as_it_was_written(key: bytes | None, value: bytes | None, left_out: list[str]) -> None:
    fields: dict[str, Any] = {"key": key, "value": value, "headers": LETTER.headers}
    fields |= {name: () if name == "headers" else None for name in left_out}
    letter = msgspec.structs.replace(LETTER, **fields, left_out=dict.fromkeys(left_out, LEFT_OUT))
    found = DeadLetter.from_record(record(letter))
    assert found == letter
    assert found.record_headers() == letter.record_headers()


@given(st.text(), st.lists(st.text(), max_size=3))
def test_ids_are_uuids_of_their_cause(noun: str, cause: list[str]) -> None:
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "urn:foreshock")
    assert caused_id(noun, *cause) == str(uuid.uuid5(namespace, "\x1f".join((noun, *cause))))


def test_null_and_empty_are_told_apart_by_headers_alone() -> None:
    def said(letter: DeadLetter) -> bytes | None:
        return dict(letter.record_headers())["foreshock.value"]

    assert said(msgspec.structs.replace(LETTER, value=b"")) == b"kept"
    assert said(msgspec.structs.replace(LETTER, value=None)) == b"null"
    assert said(msgspec.structs.replace(LETTER, value=None, left_out={"value": LEFT_OUT})) == b"left_out"


def test_every_header_is_described_and_every_description_has_its_header() -> None:
    all_out = msgspec.structs.replace(
        LETTER,
        key=None,
        value=None,
        headers=(),
        left_out=dict.fromkeys(("key", "value", "headers"), LEFT_OUT),
        sent_back=1,
    )
    assert [name for name, _ in all_out.record_headers()] == list(LETTER_HEADERS)


def test_how_often_it_was_sent_back_is_told_only_where_it_was() -> None:
    assert SENT_BACK_HEADER not in dict(LETTER.record_headers())
    again = msgspec.structs.replace(LETTER, sent_back=12)
    assert dict(again.record_headers())[SENT_BACK_HEADER] == b"12"
    assert DeadLetter.from_record(record(again)) == again


@pytest.mark.parametrize("content", [None, b"", b"x", b"-1", b"\xff", b"1" * 10, "٣".encode()])
def test_a_mark_of_others_counts_for_nothing(content: bytes | None) -> None:
    assert times_sent_back([("trace", b"7"), (SENT_BACK_HEADER, content)]) == 0
    assert times_sent_back([(SENT_BACK_HEADER, b"7")]) == 7
    assert times_sent_back(None) == 0


FOREIGN: dict[str, RawRecord] = {
    "sent back no times": record(changes={"sent-back": b"0"}),
    "tombstone": RawRecord("dead-letters", 0, 0, 0, None, None),
    "other bytes": RawRecord("dead-letters", 0, 0, 0, b"k", b"\xff\xfe"),
    "headers of others alone": RawRecord("dead-letters", 0, 0, 0, b"k", b"{", [("trace", b"1")]),
    "another version": record(changes={"version": b"2"}),
    "a header twice": record(headers=[*LETTER.record_headers(), ("foreshock.topic", b"x")]),
    "an unknown header": record(changes={"mood": b"good"}),
    "an unknown reason": record(changes={"reason": b"boredom"}),
    "not UTF-8": record(changes={"message": b"\xff"}),
    "a header without value": record(changes={"topic": None}),
    "a size without leaving out": record(changes={"value.bytes": b"5"}),
    "left out without size": record(changes={"value": b"left_out"}, value=None),
    "left out but there": record(
        changes={"value": b"left_out", "value.bytes": b"5", "value.sha256": b"0" * 64}, value=b"{"
    ),
    "null but there": record(changes={"value": b"null"}),
    "there but null": record(value=None),
    "null headers": record(changes={"headers": b"null"}),
    "no hash": record(changes={"key": b"left_out", "key.bytes": b"5", "key.sha256": b"5"}, key=None),
    "a size below zero": record(changes={"key": b"left_out", "key.bytes": b"-5", "key.sha256": b"0" * 64}, key=None),
    "partition beyond int": record(changes={"partition": b"2147483648"}),
    "partition below zero": record(changes={"partition": b"-1"}),
    "offset beyond bigint": record(changes={"offset": b"9223372036854775808"}),
    "timestamp beyond bigint": record(changes={"timestamp": b"9223372036854775808"}),
    **{
        f"number {text!r}": record(changes={"offset": text})
        for text in (
            b"",
            b"x",
            b"1.0",
            b"+1",
            b" 1",
            b"01",
            b"1_0",
            b"-0",
            b"1e3",
            b"9" * 5_000,
            "١".encode(),
            b"\x1b[31m",
        )
    },
    **{f"without {name}": record(without=name) for name in ("id", "reason", "topic", "offset", "timestamp", "value")},
    "JSON with bad base64": RawRecord("", 0, 0, 0, None, json.dumps(JSON | {"key_base64": "YQ=a"}).encode()),
    "JSON with a field missing": RawRecord("", 0, 0, 0, None, json.dumps(JSON).encode().replace(b"offset", b"o")),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_none_of_ours_is_refused_with_a_word(case: str) -> None:
    with pytest.raises(ForeignRecord) as caught:
        DeadLetter.from_record(FOREIGN[case])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_000


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*LETTER_HEADERS, "trace"]) | st.text(max_size=5),
            st.none() | st.binary(max_size=5) | st.sampled_from([b"1", b"kept", b"null", b"left_out", b"not_json"]),
        )
    ),
    st.none() | st.binary(max_size=20),
)
def test_any_headers_get_an_answer(headers: list[Header], value: bytes | None) -> None:
    for mixed in (headers, [*LETTER.record_headers(), *headers]):
        with suppress(ForeignRecord):
            assert DeadLetter.from_record(RawRecord("", 0, 0, 0, LETTER.key, value, mixed)).value == value


def test_the_json_of_release_0_1_is_read() -> None:
    found = DeadLetter.from_record(RawRecord("", 0, 0, 0, None, json.dumps(JSON).encode()))
    assert found == msgspec.structs.replace(LETTER, application_id="", headers=())


def test_what_a_foreign_record_holds_cannot_reach_a_terminal() -> None:
    value = json.dumps({"level": "x"}).replace("x", "\x1b[31m\n").encode()
    with pytest.raises(ForeignRecord) as caught:
        OutputDecoder(Score)(value)
    assert str(caught.value).isprintable()
