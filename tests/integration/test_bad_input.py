"""Bad input on a real broker: each ends in `dead-letters` as it came, can be sent back, and the worker goes on."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from stream.kafka.clients import aiokafka_producer, started
from stream.kafka.record import MOST_UNPACKED_BYTES, unread_records
from stream.kafka.record_batches import send_records
from stream.outputs import DeadLetter, LeftOut, Score

Deploy = Callable[..., Any]


def dead_letters(deployment: Any) -> list[DeadLetter]:
    return [DeadLetter.from_record(record) for record in deployment.records(deployment.topics.dead_letters)]


def event(**fields: Any) -> bytes:
    base = {"event_id": "e", "user_id": "u", "occurred_at": "2024-05-01T00:00:00Z", "kind": "paid", "amount_paid": 5}
    return msgspec.json.encode({**base, **fields})


BAD: list[tuple[str, bytes | None, bytes | None]] = [
    ("not_json", b"u", b"hello"),
    ("not_json", b"u", event()[:-5]),
    ("not_json", b"u", event().replace(b":5", b":NaN")),
    ("not_json", b"u", event().replace(b":5", b":Infinity")),
    ("wrong_type", b"u", event(amount_paid="five")),
    ("wrong_type", b"u", b"[]"),
    ("missing_field", b"u", b'{"event_id":"e","user_id":"u","kind":"paid"}'),
    ("null_key", None, event()),
    ("key_not_utf8", b"\xff\xfe", event()),
    ("key_mismatch", b"v", event()),
    ("out_of_range", b"u", event(amount_paid=1e13)),
    ("out_of_range", b"u", event(balance=-1e13)),
    ("before_1970", b"u", event(occurred_at="1969-01-01T00:00:00Z")),
    ("in_the_future", b"u", event(occurred_at="2100-01-01T00:00:00Z")),
    ("too_large", b"u", event(note="x" * 1_000_000)),
    ("too_large", b"u", event(user_id="x" * 1_000_000)),
    ("unknown_kind", b"u", event(kind="forgiven")),
    ("null_value", b"u", None),
]


@pytest.mark.parametrize("limit", [None, 1_048_588])
def test_a_record_larger_than_its_dead_letter_may_be_does_not_end_the_worker(deploy: Deploy, limit: int | None) -> None:
    """Compressed, 10 MB pass the limit of the input topic; a topic of one's own may have the usual limit."""
    deployment = deploy(watchdog=False)
    if limit is not None:
        deployment.configure(deployment.topics.dead_letters, {"max.message.bytes": str(limit)})
    large = event(note="x" * 10_000_000)
    kept = event(note="x" * ((limit or 8 * 1024 * 1024) // 2))
    headers = [("trace", b"1"), ("large", b"h" * 9_000_000)]
    records: list[tuple[bytes | None, bytes | None, Any]] = [
        (b"u", event(event_id="first"), headers),
        (b"u", large, headers[:1]),
        (b"k" * 900_000, event(note="x" * 900_000), []),
        (b"u", kept, headers[:1]),
        (b"u", event(event_id="first"), headers),
        (b"u", event(event_id="last"), []),
    ]
    deployment.send_raw("repayments", records, compression_type="gzip", max_request_size=16 * 1024 * 1024)
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    letters = {letter.offset: letter for letter in dead_letters(deployment)}
    assert sorted(letters) == [1, 2, 3, 4]
    assert (letters[1].key, letters[1].value, letters[1].headers) == (b"u", None, (("trace", b"1"),))
    assert letters[1].left_out == {"value": LeftOut(len(large), hashlib.sha256(large).hexdigest())}
    assert (letters[3].value, letters[3].headers, letters[3].left_out) == (kept, (("trace", b"1"),), {})
    assert (letters[2].value is None) == (limit is not None)
    assert letters[4].reason == "duplicate_event_id"
    assert (letters[4].value, list(letters[4].left_out)) == (event(event_id="first"), ["headers"])
    assert len(deployment.records(deployment.topics.scores)) == 2


def test_a_batch_that_is_too_large_when_it_is_unpacked_ends_nobody(deploy: Deploy) -> None:
    deployment = deploy(watchdog=False)
    largest = MOST_UNPACKED_BYTES + 1_000_000
    for value in (event(event_id="first"), bytes(largest), event(event_id="last")):
        deployment.send_raw("repayments", [(b"u", value)], compression_type="gzip", max_request_size=2 * largest)
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    (letter,) = dead_letters(deployment)
    assert (letter.offset, letter.reason, letter.key, letter.value) == (1, "too_large", None, None)
    assert letter.message.startswith("1 records up to this offset are in a compressed batch")
    assert len(deployment.records(deployment.topics.scores)) == 2
    read = [unread_records(record) for record in deployment.records(deployment.topics.of_kind("repayments"))]
    assert read == [None, 1, None], "by those who replay as well"


def test_every_bad_record_is_kept_and_every_good_one_scored(deploy: Deploy) -> None:
    deployment = deploy(watchdog=False)
    good = [event(event_id=f"good-{number}") for number in range(len(BAD) + 1)]
    records: list[tuple[bytes | None, bytes | None]] = [(b"u", good[0])]
    for number, (_, key, value) in enumerate(BAD, start=1):
        records += [(key, value), (b"u", good[number])]
    records.append((b"u", good[3]))  # the same event again
    deployment.send_raw("repayments", records)
    unseen = {
        "event_id": "t", "user_id": "u", "occurred_at": "2024-05-01T00:00:00Z", "amount": -3, "category": "quidditch"
    }  # fmt: skip
    deployment.send_raw("transactions", [(b"u", msgspec.json.encode(unseen))])
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)

    letters = sorted(dead_letters(deployment), key=lambda letter: letter.offset)
    assert [letter.reason for letter in letters] == [*(reason for reason, _, _ in BAD), "duplicate_event_id"]
    for letter, (_, key, value) in zip(letters, [*BAD, ("", b"u", good[3])], strict=True):
        assert records[letter.offset] == (key, value)
        assert (letter.topic, letter.partition) == (deployment.topics.of_kind("repayments"), 0)
        assert (letter.key, letter.value, letter.left_out) == (key, value, {})
        assert letter.application_id == deployment.settings.application_id
    scores = [msgspec.json.decode(r.value, type=Score) for r in deployment.records(deployment.topics.scores)]
    scored = [score.event_id for score in scores]
    assert sorted(scored) == sorted(["t", *(f"good-{number}" for number in range(len(good)))])
    in_order = [score.event_id for score in sorted(scores, key=lambda s: s.sequence) if score.event_id != "t"]
    assert in_order == [f"good-{number}" for number in range(len(good))]


class Name(str):
    """A header's name that is not UTF-8, as clients in other languages may send it."""

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


async def send_nothing(deployment: Any) -> None:
    """A repayment without key and value, which kafka-python does not send."""
    producer = aiokafka_producer(deployment.kafka)
    async with started(producer, deployment.kafka):
        await asyncio.gather(*await send_records(producer, deployment.topics.of_kind("repayments"), 0, [(None, None)]))


def test_a_dead_letter_that_is_sent_back_is_scored_where_it_is_good(deploy: Deploy) -> None:
    """As a stock tool does: it copies key, value and headers. Good here is what had stood in the wrong topic."""
    deployment = deploy(watchdog=False)
    movement = {"event_id": "t", "user_id": "u", "occurred_at": "2024-05-01T00:00:00Z", "amount": -3}
    lost = (b"u", msgspec.json.encode(movement), [("trace", b"1")])
    deployment.send_raw("repayments", [(b"u", event()), lost, (b"u", b"", [("trace", b"2"), (Name(), b"3")])])
    asyncio.run(send_nothing(deployment))
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
        copies = [(r.key, r.value, r.headers) for r in deployment.records(deployment.topics.dead_letters)]
        assert [(key, value) for key, value, _ in copies] == [lost[:2], (b"u", b""), (None, None)]
        deployment.send_raw("transactions", copies[:1])
        deployment.send_raw("repayments", copies[1:2])
        deployment.wait_until_scored(worker)
    scores = [msgspec.json.decode(r.value, type=Score) for r in deployment.records(deployment.topics.scores)]
    assert [(score.event_id, score.source_topic) for score in scores] == [
        ("e", deployment.topics.of_kind("repayments")),
        ("t", deployment.topics.of_kind("transactions")),
    ]
    letters = dead_letters(deployment)
    assert [letter.offset for letter in letters] == [1, 2, 3, 4]
    assert [letter.reason for letter in letters] == ["out_of_range", "not_json", "null_key", "not_json"]
    odd = (("trace", b"2"), ("??", b"3"))
    assert [letter.headers for letter in letters] == [(("trace", b"1"),), odd, (), odd]
