"""What the sink advances past. Writing into a real PostgreSQL is in `tests/integration/test_sink.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from faust.types import TP

from stream.database.connection import DatabaseConnection
from stream.kafka.connection import KafkaConnection
from stream.kafka.poll import Poll
from stream.kafka.record import RawRecord
from stream.settings import load_settings
from stream.sink import SinkApp


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
