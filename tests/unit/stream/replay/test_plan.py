"""What a replay reads while live workers go on: all as it stood at one time, and none of it from later."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from events.types import KINDS
from stream.kafka.connection import KafkaConnection
from stream.replay import plan as plan_module
from stream.replay.plan import plan_replay
from stream.replay.range import ReplayRange
from stream.scoring.order_journal import OrderRecord
from stream.settings import load_settings

ORDER = "foreshock-order"
RANGE = ReplayRange("march", dt.datetime(2023, 3, 1, tzinfo=dt.UTC), dt.datetime(2023, 4, 1, tzinfo=dt.UTC), None)
NOTHING = np.empty(0, dtype=np.int64)


class Growing:
    """Topics of two partitions, into each of which an event comes before each look, and is taken by a live worker."""

    def __init__(self) -> None:
        self.ends = 5
        self.journal = [[self._record(0, 5)] for _ in range(2)]

    def _record(self, offset: int, end: int) -> Any:
        ends = (end,) * len(KINDS)
        value = OrderRecord(ends, ends, NOTHING, NOTHING, (NOTHING,) * len(KINDS)).encode()
        return SimpleNamespace(offset=offset, value=value)

    def _go_on(self) -> None:
        self.ends += 1
        for records in self.journal:
            # Ends of transactions take an offset each.
            records.append(self._record(records[-1].offset + 2, self.ends))

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def partitions(self, topic: str) -> int:  # noqa: ARG002
        return 2

    def exists(self, topic: str) -> bool:
        return topic == ORDER

    def span(self, topic: str, partition: int) -> tuple[int, int]:
        self._go_on()
        return 0, self.journal[partition][-1].offset + 2 if topic == ORDER else self.ends

    def last(self, topic: str, partition: int, before: int | None = None) -> Any:
        assert topic == ORDER
        self._go_on()
        return [record for record in self.journal[partition] if before is None or record.offset < before][-1]

    def each(self, topic: str, partition: int) -> Iterator[Any]:  # noqa: ARG002
        self._go_on()
        return iter(())


def test_what_live_workers_take_meanwhile_is_left_for_a_later_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = Growing()
    monkeypatch.setattr(plan_module, "open_source", lambda *_: topics)
    found = plan_replay(KafkaConnection.parse("nowhere:9092"), load_settings(application_id="foreshock"), RANGE)
    assert found.order_topic == ORDER
    for partition in range(2):
        told = [record for record in topics.journal[partition] if record.offset < found.journal[partition].end]
        assert found.taken_to[partition] == OrderRecord.decode(told[-1].value).ends
        spans = [spans[partition] for spans in found.inputs.values()]
        assert all(end <= span.end for end, span in zip(found.taken_to[partition], spans, strict=True))
    followed = {(ORDER, partition): span.end for partition, span in enumerate(found.journal)}
    read = {
        (topic, partition): end
        for partition, ends in enumerate(found.taken_to)
        for topic, end in zip(found.inputs, ends, strict=True)
    }
    assert found.is_done(followed)
    assert found.done(read) == found.offsets
