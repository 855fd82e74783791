"""Records in the output topics that Foreshock cannot have written: each is skipped and named, the rest is stored."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stream.database import migration
from stream.database.connection import DatabaseConnection
from stream.database.refusals import Placed, write_what_fits
from stream.database.writer import DatabaseWriter
from stream.kafka.record import RawRecord
from stream.outputs import HEADER_PREFIX, Alert, BorrowerContracts, DeadLetter, ForeignRecord, OutputDecoder, Score
from stream.topics import sink_group

Deploy = Callable[..., Any]

TYPES: dict[str, type[Any]] = {
    "scores": Score,
    "alerts": Alert,
    "contracts": BorrowerContracts,
    "dead-letters": DeadLetter,
}

Headers = list[tuple[str, bytes | None]]

GOOD: dict[str, dict[str, Any]] = {
    "scores": {
        "score_id": "transactions:0:1", "event_id": "e", "user_id": "u", "occurred_at": "2024-05-01T00:00:00Z",
        "sequence": 1, "score": 0.5, "horizons": {"90": 0.5}, "level": "LOW", "baseline": 0.1, "delta": 0.4,
        "days_past_due": None, "source_topic": "transactions", "source_partition": 0, "source_offset": 1, "model": "m",
    },
    "alerts": {
        "transition_id": "t", "alert_id": "a", "user_id": "u", "kind": "opened", "occurred_at": "2024-05-01T00:00:00Z",
        "opened_at": "2024-05-01T00:00:00Z", "level_from": "LOW", "level_to": "HIGH", "score": 0.5, "baseline": 0.1,
        "delta": 0.4, "reference_pd": None, "days_past_due": None, "triggers": ["level"],
        "reasons": [{"code": "c", "text": "t", "contribution": 1.0}],
        "weighed_most": [
            {"topic": "t", "partition": 0, "offset": 0, "occurred_at": "2024-05-01T00:00:00Z", "weight": 1}
        ],
        "sequence": 1, "source_topic": "transactions", "source_partition": 0, "source_offset": 1, "policy": "p",
        "model": "m",
    },
    "contracts": {
        "user_id": "u", "sequence": 1, "occurred_at": "2024-05-01T00:00:00Z", "source_partition": 0,
        "contracts": [
            {
                "contract_id": "t", "status": "performing", "days_past_due": 0.0, "amount_overdue": 0.0,
                "exposure": None, "currency": None,
            }
        ],
    },
    "dead-letters": {
        "dead_letter_id": "d", "reason": "not_json", "message": "m", "topic": "t", "partition": 0, "offset": 0,
        "timestamp_ms": 0, "key_base64": None, "value_base64": None,
    },
}  # fmt: skip
"""That of `dead-letters` is JSON as release 0.1 wrote it."""

LETTER_TEXTS = {
    "version": "1", "id": "d", "application.id": "", "reason": "not_json", "message": "m", "topic": "t",
    "partition": "0", "offset": "0", "timestamp": "0", "key": "kept", "value": "kept", "headers": "kept",
}  # fmt: skip


def letter_headers(**texts: str) -> Headers:
    """Those of a dead letter, with other texts; `_` stands for a full stop."""
    changed = LETTER_TEXTS | {name.replace("_", "."): text for name, text in texts.items()}
    return [(f"{HEADER_PREFIX}{name}", text.encode()) for name, text in changed.items()]


def good(topic: str, number: int) -> tuple[bytes | None, Headers]:
    """Value and headers of one that is to be stored; every other dead letter is of release 0.1."""
    if topic == "dead-letters" and number % 2:
        return b"\xff", letter_headers(id=f"good-{number}")
    own: dict[str, dict[str, Any]] = {
        "scores": {"score_id": f"good:{number}", "user_id": f"user-{number}"},
        "alerts": {"transition_id": f"good-{number}", "alert_id": f"good-{number}"},
        "contracts": {"user_id": f"user-{number}"},
        "dead-letters": {"dead_letter_id": f"good-{number}"},
    }
    return json.dumps(GOOD[topic] | own[topic]).encode(), []


def with_value(topic: str, name: str, raw: str) -> bytes:
    """A record whose field `name` is the JSON text `raw`."""
    return json.dumps(GOOD[topic] | {name: "@"}).replace('"@"', raw).encode()


def random_text(size: int) -> str:
    """Text that no compression makes short: PostgreSQL compresses long keys."""
    return "".join(random.Random(size).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=size))


def foreign_letters() -> Iterator[tuple[str, Headers]]:
    """What is wrong, and headers with it."""
    for name in ("id", "topic"):
        yield f"NUL in header {name}", letter_headers(**{name: "a\x00"})
        yield f"header {name} too long for its index", letter_headers(**{name: random_text(20_000)})
    for name, number in (("partition", -1), ("partition", 2**31), ("offset", 2**63), ("timestamp", 2**63)):
        yield f"header {name} {number}", letter_headers(**{name: str(number)})
    yield "another version", letter_headers(version="2")
    yield "no version", letter_headers()[1:]
    yield "an escape in a header", letter_headers(reason="\x1b[31m\n")
    yield "another header of ours", letter_headers(mood="good")
    yield "null, but with a value", letter_headers(value="null")


def foreign() -> Iterator[tuple[str, str, bytes | None]]:
    """Topic, what is wrong, value."""
    for topic, sample in GOOD.items():
        yield topic, "tombstone", None
        yield topic, "empty", b""
        yield topic, "not UTF-8", b'{"score_id":"\xff"}'
        yield (
            topic,
            "not UTF-8 in a field",
            json.dumps(sample).encode().replace(b'"t"', b'"\xfft"', 1)[:-1] + b',"\xff":1',
        )
        yield topic, "deep", b"[" * 20_000 + b"]" * 20_000
        yield topic, "deep in a field", b'{"zzz":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
        yield topic, "of another topic", b'{"hello": "world"}'
        yield topic, "NaN", json.dumps(sample)[:-1].encode() + b', "more": NaN}'
        for name, value in sample.items():
            if isinstance(value, str) and name not in ("reason", "kind", "level", "level_from", "level_to"):
                yield topic, f"lone surrogate in {name}", with_value(topic, name, r'"\ud800"')
            if isinstance(value, int):
                yield topic, f"{name} beyond bigint", with_value(topic, name, "9" * 30)
            if isinstance(value, int | float):
                yield topic, f"{name} infinite", with_value(topic, name, "1e999")
                yield topic, f"{name} of 400 digits", with_value(topic, name, "9" * 400)
    for topic in ("scores", "alerts", "contracts"):
        for number in ("0", "-1", str(2**63)):
            yield topic, f"sequence {number}", with_value(topic, "sequence", number)
        for moment in ("2024-05-01T00:00:00", "10000-01-01T00:00:00Z"):
            yield topic, f"occurred at {moment}", with_value(topic, "occurred_at", f'"{moment}"')
    for topic in ("scores", "alerts"):
        for number in ("1.5", "-0.1", "1e300"):
            yield topic, f"score {number}", with_value(topic, "score", number)
        for number in ("-1", str(2**31)):
            yield topic, f"partition {number}", with_value(topic, "source_partition", number)
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999-12-31T00:00:00Z"):
        yield "scores", f"occurred at {moment}", with_value("scores", "occurred_at", f'"{moment}"')
    for topic, name in (
        ("scores", "score_id"), ("scores", "model"), ("alerts", "transition_id"), ("alerts", "alert_id"),
        ("alerts", "policy"), ("dead-letters", "dead_letter_id"), ("dead-letters", "topic"),
    ):  # fmt: skip
        yield topic, f"NUL in {name}", with_value(topic, name, r'"a\u0000"')
    yield (
        "alerts",
        "NUL in a reason",
        with_value("alerts", "reasons", r'[{"code":"a\u0000","text":"","contribution":0}]'),
    )
    yield "scores", "NUL in horizons", with_value("scores", "horizons", r'{"a\u0000": 1}')
    for topic, name in (
        ("scores", "score_id"), ("scores", "user_id"), ("scores", "model"), ("alerts", "transition_id"),
        ("alerts", "alert_id"), ("alerts", "user_id"), ("dead-letters", "dead_letter_id"), ("dead-letters", "topic"),
    ):  # fmt: skip
        yield topic, f"{name} too long for its index", with_value(topic, name, f'"{random_text(20_000)}"')
    yield "contracts", "no contract", with_value("contracts", "contracts", "[]")
    yield "contracts", "another status", with_value("contracts", "contracts", '[{"status": "fine"}]')
    yield "contracts", "user_id too long for its index", with_value("contracts", "user_id", f'"{random_text(20_000)}"')
    for name in ("key_base64", "value_base64"):
        for text in ("abc", "ü", "YQ=a"):
            yield "dead-letters", f"{name} {text}", with_value("dead-letters", name, f'"{text}"')
    for number in ("-1", str(2**31)):
        yield "dead-letters", f"partition {number}", with_value("dead-letters", "partition", number)


FOREIGN: list[tuple[str, str, bytes | None, Headers]] = [
    *((*each, []) for each in foreign()),
    *(("dead-letters", what, b"x", headers) for what, headers in foreign_letters()),
]


@pytest.fixture
def upgraded(database: DatabaseConnection) -> DatabaseConnection:
    migration.upgrade(database)
    return database


def counts(database: DatabaseConnection) -> dict[str, int]:
    tables = ("score_history", "user_scores", "alert_events", "alerts", "contracts", "dead_letters")
    found: dict[str, int] = {}
    with database.connect() as connection:
        for table in tables:
            row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[call-overload]
            found[table] = row[0]
    return found


def store(
    database: DatabaseConnection, records: list[tuple[str, bytes | None, Headers]]
) -> tuple[list[int], dict[int, Exception]]:
    """Numbers of the records that the decoder refuses, and of those that the database does."""
    decoders = {topic: OutputDecoder(kind) for topic, kind in TYPES.items()}
    undecodable, batch = [], []
    for number, (topic, value, headers) in enumerate(records):
        try:
            if topic == "dead-letters":
                output = DeadLetter.from_record(RawRecord(topic, 0, number, 0, b"u", value, headers))
            else:
                output = decoders[topic](value)
            batch.append(Placed(str(number), output))
        except ForeignRecord:
            undecodable.append(number)
    refused: dict[int, Exception] = {}
    with DatabaseWriter(database) as writer:
        write_what_fits(writer, batch, lambda placed, error: refused.update({int(placed.place): error}))
    return undecodable, refused


def test_each_is_skipped_and_what_stands_beside_it_is_stored(upgraded: DatabaseConnection) -> None:
    records: list[tuple[str, bytes | None, Headers]] = []
    expected: set[int] = set()
    for number, (topic, _, value, headers) in enumerate(FOREIGN):
        records += [(each, *good(each, number)) for each in GOOD]
        expected.add(len(records))
        records.append((topic, value, headers))
    undecodable, refused = store(upgraded, records)
    kept = [FOREIGN[number // (1 + len(GOOD))][:2] for number in sorted(expected - {*undecodable, *refused})]
    assert kept == []
    assert {*undecodable, *refused} == expected
    assert len(refused) > 20
    assert set(counts(upgraded).values()) == {len(FOREIGN)}


def test_a_sink_goes_on_and_names_what_it_skips(deploy: Deploy, upgraded: DatabaseConnection) -> None:
    deployment = deploy(database_url=upgraded.url)
    outputs = deployment.topics.stored
    for topic in GOOD:
        others = [(b"u", value, headers) for of_topic, _, value, headers in FOREIGN if of_topic == topic]
        deployment.send_raw(topic, [(b"u", *good(topic, 0)), *others, (b"u", *good(topic, 1))])
    group = sink_group(deployment.settings.application_id)
    with deployment.running("sink") as sink:
        deployment.wait(lambda: deployment.committed(group, outputs) == deployment.size(*outputs), "storing", sink)
        log = sink.log_tail(10_000)
    assert set(counts(upgraded).values()) == {2}
    named = [line for line in log.splitlines() if "is none of ours and is skipped" in line]
    assert len(named) == len(FOREIGN)
    assert all(f" {deployment.topics.prefix}{topic}:0:1 is none of ours" in log for topic in GOOD)
    assert max(map(len, named)) < 500
    assert all(line.partition(" ERROR ")[2].isprintable() for line in named)
