"""Bad input on a real broker: each ends in `dead-letters` with its original bytes, and the worker goes on."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from stream.outputs import DeadLetter, Score

Deploy = Callable[..., Any]


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
    records: list[tuple[bytes | None, bytes | None]] = [
        (b"u", event(event_id="first")),
        (b"u", large),
        (b"k" * 900_000, event(note="x" * 900_000)),
        (b"u", kept),
        (b"u", event(event_id="last")),
    ]
    deployment.send_raw("repayments", records, compression_type="gzip", max_request_size=16 * 1024 * 1024)
    with deployment.running("worker") as worker:
        deployment.wait_until_scored(worker)
    letters = {
        letter.offset: letter
        for record in deployment.records(deployment.topics.dead_letters)
        for letter in [msgspec.json.decode(record.value, type=DeadLetter)]
    }
    assert sorted(letters) == [1, 2, 3]
    assert (letters[1].value_base64, letters[1].value_bytes) == (None, len(large))
    assert letters[1].value_sha256 == hashlib.sha256(large).hexdigest()
    assert base64.b64decode(letters[1].key_base64 or "") == b"u"
    assert base64.b64decode(letters[3].value_base64 or "") == kept
    assert (letters[2].value_base64 is None) == (limit is not None)
    assert len(deployment.records(deployment.topics.scores)) == 2


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

    letters = [
        msgspec.json.decode(r.value, type=DeadLetter) for r in deployment.records(deployment.topics.dead_letters)
    ]
    letters.sort(key=lambda letter: letter.offset)
    assert [letter.reason for letter in letters] == [*(reason for reason, _, _ in BAD), "duplicate_event_id"]
    for letter, (_, key, value) in zip(letters, [*BAD, ("", b"u", good[3])], strict=True):
        assert records[letter.offset] == (key, value)
        assert (letter.topic, letter.partition) == (deployment.topics.of_kind("repayments"), 0)
        assert (letter.key_base64 is None) == (key is None)
        assert key is None or base64.b64decode(letter.key_base64 or "") == key
        assert (letter.value_base64 is None) == (value is None)
        assert value is None or base64.b64decode(letter.value_base64 or "") == value
    scores = [msgspec.json.decode(r.value, type=Score) for r in deployment.records(deployment.topics.scores)]
    scored = [score.event_id for score in scores]
    assert sorted(scored) == sorted(["t", *(f"good-{number}" for number in range(len(good)))])
    in_order = [score.event_id for score in sorted(scores, key=lambda s: s.sequence) if score.event_id != "t"]
    assert in_order == [f"good-{number}" for number in range(len(good))]
