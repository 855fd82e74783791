"""Reading to the end that a partition had at first, on a consumer that gives what it is told to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError

from stream.kafka import topic_reader
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import STALLED_POLLS, TopicReader, TopicUnreadable


class Consumer:
    """Holds offsets `first` to `last` of each topic's partition; a poll brings `per_poll` of them, then one more is
    appended, as a live producer does. Offsets in `holes` were compacted away."""

    def __init__(self, held: dict[str, range], per_poll: int = 2, holes: frozenset[int] = frozenset()) -> None:
        self.held = held
        self.per_poll = per_poll
        self.holes = holes
        self.positions: dict[TopicPartition, int] = {}
        self.polls = 0
        self.closed = False

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0} if topic in self.held else None

    def assign(self, tps: list[TopicPartition]) -> None:
        self.positions = dict.fromkeys(tps, 0)

    def seek_to_beginning(self, *tps: TopicPartition) -> None:
        self.positions = {tp: self.held[tp.topic].start for tp in tps}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.positions[tp] = offset

    def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        """The record at each offset has ten times the offset for its time."""
        found = {tp: range(self.held[tp.topic].start, self.held[tp.topic].stop) for tp in times}
        return {
            tp: next((SimpleNamespace(offset=offset) for offset in held if offset * 10 >= times[tp]), None)
            for tp, held in found.items()
        }

    def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self.held[tp.topic].stop for tp in tps}

    def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self.held[tp.topic].start for tp in tps}

    def position(self, tp: TopicPartition) -> int:
        return self.positions[tp]

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        assert timeout_ms > 0
        self.polls += 1
        found = {}
        for tp, position in self.positions.items():
            if position < self.held[tp.topic].start:
                raise OffsetOutOfRangeError({tp: position})
            until = min(position + self.per_poll, self.held[tp.topic].stop)
            offsets = [offset for offset in range(position, until) if offset not in self.holes]
            if offsets:
                found[tp] = [SimpleNamespace(offset=offset, value=b"%d" % offset) for offset in offsets]
            self.positions[tp] = until
            self.held[tp.topic] = range(self.held[tp.topic].start, self.held[tp.topic].stop + (self.per_poll > 0))
        return found

    def close(self) -> None:
        self.closed = True


def reader_of(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> TopicReader:
    monkeypatch.setattr(topic_reader, "open_consumer", lambda *_, **__: consumer)
    return TopicReader(KafkaConnection.parse("127.0.0.1:1"))


def test_what_is_appended_meanwhile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer({"scores": range(3, 10)}, per_poll=4)
    with reader_of(consumer, monkeypatch) as reader:
        assert list(reader.values("scores", 0)) == [b"%d" % offset for offset in range(3, 10)]
    assert consumer.closed


def test_topics_that_are_not_at_their_end_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of(Consumer({"short": range(2), "long": range(5)}), monkeypatch)
    found = [
        ({topic: len(records) for topic, records in batch.items()}, behind)
        for batch, behind in reader.records(["short", "long"], 0)
    ]
    assert found[0] == ({"short": 2, "long": 2}, {"long"})
    assert sum(counts.get("long", 0) for counts, _ in found) == 5
    assert sum(counts.get("short", 0) for counts, _ in found) == 2
    assert found[-1][1] == set()


def test_an_end_that_was_compacted_away_is_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of(Consumer({"profiles": range(4)}, holes=frozenset({2, 3})), monkeypatch)
    assert list(reader.values("profiles", 0)) == [b"0", b"1"]


def test_reading_begins_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of(Consumer({"scores": range(3, 10)}, per_poll=4), monkeypatch)
    assert [record.offset for record in reader.each("scores", 0, 7)] == [7, 8, 9]
    assert list(reader.each("scores", 0, 13)) == []
    assert reader.span("scores", 0)[0] == 3


def test_the_last_record_may_be_asked_for_as_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for before, last in ((None, 9), (9, 8), (6, 3), (3, None), (1, None)):
        reader = reader_of(Consumer({"scores": range(3, 10)}, holes=frozenset({4, 5})), monkeypatch)
        found = reader.last("scores", 0, before)
        # While it is looked for, others come.
        assert (None if found is None else found.offset) == last


def test_the_last_record_may_stand_far_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer({"scores": range(1_000)}, per_poll=100, holes=frozenset(range(300, 1_000)))
    assert reader_of(consumer, monkeypatch).last("scores", 0, 900).offset == 299


def test_records_that_are_deleted_before_they_are_read_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer goes on with what is there only where it is told to."""
    told: dict[str, Any] = {}
    consumer = Consumer({"scores": range(3, 10)})
    monkeypatch.setattr(topic_reader, "open_consumer", lambda *_, **options: told.update(options) or consumer)
    reader = TopicReader(KafkaConnection.parse("127.0.0.1:1"), skips_deleted=False)
    assert told["auto_offset_reset"] == "none"
    with pytest.raises(TopicUnreadable, match=r"\['scores'\], partition 0: records were deleted before"):
        list(reader.each("scores", 0, 2))


def test_offsets_are_found_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of(Consumer({"scores": range(3, 10)}), monkeypatch)
    assert [reader.offset_at("scores", 0, at) for at in (0, 30, 31, 90, 91)] == [3, 3, 4, 9, None]


def test_an_empty_topic_is_not_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer({"scores": range(7, 7)})
    assert list(reader_of(consumer, monkeypatch).each("scores", 0)) == []
    assert consumer.polls == 0


def test_a_broker_that_stops_answering_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer({"scores": range(3)}, per_poll=0)
    with pytest.raises(TopicUnreadable, match=r"no record of \['scores'\].*is the broker up"):
        list(reader_of(consumer, monkeypatch).each("scores", 0))
    assert consumer.polls == STALLED_POLLS


def test_a_topic_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TopicUnreadable, match=r"'scores' does not exist on 127\.0\.0\.1:1"):
        reader_of(Consumer({}), monkeypatch).partitions("scores")


def test_sizes_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reader_of(Consumer({"a": range(2, 5), "b": range(4)}), monkeypatch).size(["a", "b"]) == 7
