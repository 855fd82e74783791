"""What the sink advances past. Writing into a real PostgreSQL is in `tests/integration/test_sink.py`."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace

import msgspec
import pytest
from faust.types import TP

from events.types import Profile, Repayment, encode_event
from stream.database.connection import DatabaseConnection
from stream.database.kept_events import KeptEvent
from stream.database.products import ContractProduct
from stream.kafka.connection import KafkaConnection
from stream.kafka.poll import Poll
from stream.kafka.record import RawRecord
from stream.outputs import Score, encode_output
from stream.settings import load_settings
from stream.sink import SinkApp

SCORE = Score(
    score_id="activity:3:1",
    event_id="e",
    user_id="u",
    occurred_at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    sequence=1,
    score=0.5,
    horizons={"90": 0.5},
    level="LOW",
    baseline=0.5,
    delta=0.0,
    days_past_due=None,
    source_topic="activity",
    source_partition=3,
    source_offset=1,
    model="0",
)


async def test_what_was_polled_before_partitions_were_given_up_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may follow on what was given up while the database was away, which would never be written then."""
    settings = load_settings()
    sink = SinkApp(
        settings,
        KafkaConnection.parse("127.0.0.1:1"),
        DatabaseConnection("postgresql://nobody@127.0.0.1:1/nothing"),
    )
    writes: list[object] = []
    advanced: list[dict[TP, int]] = []
    monkeypatch.setattr(sink, "_write_once", lambda batch, _: writes.append(batch))
    monkeypatch.setattr("stream.sink.consumer_of", lambda _: SimpleNamespace(advance=advanced.append))
    topic = settings.topics.scores

    def poll(offset: int, epoch: int) -> Poll:
        return Poll({TP(topic, 0): [RawRecord(topic, 0, offset, 0, b"u", b"{}")]}, epoch=epoch)

    async def polls() -> AsyncIterator[Poll]:
        yield poll(7, epoch=0)
        await sink.drain(1)
        yield poll(9, epoch=0)

    await sink._write(polls())
    assert len(writes) == 1
    assert advanced == [{TP(topic, 0): 8}]

    async def afterwards() -> AsyncIterator[Poll]:
        yield poll(8, epoch=1)

    await sink._write(afterwards())
    assert len(writes) == 2
    assert advanced[1:] == [{TP(topic, 0): 9}]


def test_what_stands_before_a_tombstone_is_left_out_and_its_user_forgotten_first() -> None:
    settings = load_settings()
    sink = SinkApp(
        settings,
        KafkaConnection.parse("127.0.0.1:1"),
        DatabaseConnection("postgresql://nobody@127.0.0.1:1/nothing"),
    )
    topics, told = settings.topics, [("foreshock.source", b"profiles:3:9")]

    def record(topic: str, offset: int, user: str, sequence: int | None) -> RawRecord:
        named = msgspec.structs.replace(SCORE, user_id=user, sequence=sequence or 1)
        value = None if sequence is None else encode_output(named)
        return RawRecord(topic, 3, offset, 0, user.encode(), value, () if value else told)

    at = TP(topics.scores, 3)
    given = [record(at.topic, 0, "u", 56), record(at.topic, 1, "v", 8), record(at.topic, 2, "u", None),
             record(at.topic, 3, "u", 1), RawRecord(at.topic, 3, 4, 0, b"v", None)]  # fmt: skip
    alerts = TP(topics.alerts, 3)
    of_contracts = TP(topics.contracts, 3)
    told_of = {one: [record(one.topic, 0, user, None)] for one, user in ((alerts, "w"), (of_contracts, "x"))}
    poll = Poll({at: given, **told_of})
    batch, forgotten = sink._decode(poll)
    kept = [placed.output for placed in batch]
    assert [(output.user_id, output.sequence) for output in kept if isinstance(output, Score)] == [("v", 8), ("u", 1)]
    assert forgotten == ({("u", 3)}, {("w", 3)}, {("x", 3)}, set(), {})
    assert sink.figures.skipped == 1, "a tombstone that tells of nobody is none of ours"


def test_of_profiles_the_products_are_kept_up_to_a_tombstone_and_what_workers_refuse_is_left_out() -> None:
    settings = load_settings(event_history=False)
    sink = SinkApp(
        settings,
        KafkaConnection.parse("127.0.0.1:1"),
        DatabaseConnection("postgresql://nobody@127.0.0.1:1/nothing"),
    )
    at = TP(settings.topics.of_kind("profiles"), 3)

    def profile(offset: int, user: str, product: str) -> RawRecord:
        moment = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
        event = Profile(event_id=f"p-{offset}", user_id=user, occurred_at=moment, product=product, contract_id="c")
        return RawRecord(at.topic, 3, offset, 0, user.encode(), encode_event(event))

    given = [profile(0, "u", "card"), profile(1, "v", "loan"), RawRecord(at.topic, 3, 2, 5_000, b"u", None),
             profile(3, "u", "loan"), RawRecord(at.topic, 3, 4, 0, b"v", b"{")]  # fmt: skip
    batch, forgotten = sink._decode(Poll({at: given}))
    assert [
        (placed.place, placed.output.user_id, placed.output.product)
        for placed in batch
        if isinstance(placed.output, ContractProduct)
    ] == [("profiles:3:1", "v", "loan"), ("profiles:3:3", "u", "loan")]
    assert len(batch) == 2
    assert forgotten == (set(), set(), set(), {("u", 3)}, {"u": dt.datetime(1970, 1, 1, 0, 0, 5, tzinfo=dt.UTC)})
    assert sink.figures.skipped == 0, "workers tell of what they refuse"


def test_every_event_that_workers_may_take_is_kept() -> None:
    settings = load_settings()
    sink = SinkApp(
        settings,
        KafkaConnection.parse("127.0.0.1:1"),
        DatabaseConnection("postgresql://nobody@127.0.0.1:1/nothing"),
    )
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    paid = Repayment(event_id="r", user_id="u", occurred_at=moment, kind="paid", amount_paid=5.0, contract_id="c")
    told = Profile(event_id="p", user_id="u", occurred_at=moment, product="a\x00b", contract_id="c")
    repayments, profiles = (TP(settings.topics.of_kind(kind), 3) for kind in ("repayments", "profiles"))

    def record(at: TP, offset: int, value: bytes | None, key: bytes = b"u") -> RawRecord:
        return RawRecord(at.topic, 3, offset, 0, key, value)

    poll = Poll({
        repayments: [record(repayments, 4, encode_event(paid)), record(repayments, 5, b"{"),
                     record(repayments, 6, encode_event(paid), b"v")],
        profiles: [record(profiles, 7, encode_event(told)), record(profiles, 8, None)],
    })  # fmt: skip
    batch, _ = sink._decode(poll)
    kept = [placed for placed in batch if isinstance(placed.output, KeptEvent)]
    assert [(one.place, one.output.event_id, one.output.kind, json.loads(one.output.payload)) for one in kept] == [
        ("repayments:3:4", "r", "repayments", {"kind": "paid", "amount_paid": 5.0, "contract_id": "c"}),
        ("profiles:3:7", "p", "profiles", {"product": "a\u2400b", "contract_id": "c"}),
    ]
