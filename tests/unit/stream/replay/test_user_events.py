"""A user's events are read back as they were scored, so that the explained score is the published one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from events.types import KINDS, Event, encode_event
from model.bundle import Bundle
from model.datasets.sources import open_dataset
from model.explanation.explain import explain
from stream.kafka.record import RawRecord
from stream.outputs import Score
from stream.replay.user_events import read_partition
from stream.scoring.intake import Intake, Taken
from stream.scoring.order_journal import OrderLog
from stream.scoring.scorer import Scorer
from stream.settings import PRETRAINED_BUNDLE, load_settings
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics

TOPICS = Topics()


@functools.cache
def bundle() -> Bundle:
    return Bundle.load(PRETRAINED_BUNDLE)


class Partition:
    """What a topic reader finds on one partition: records by topic in two reads, and the order journal, if there is
    one."""

    def __init__(self, records: dict[str, list[RawRecord]], journal: Sequence[bytes] | None) -> None:
        self._records = records
        self._journal = journal

    def exists(self, topic: str) -> bool:
        assert topic == TOPICS.order("app")
        return self._journal is not None

    def records(self, topics: Sequence[str], _: int) -> Iterator[tuple[dict[str, list[RawRecord]], set[str]]]:
        yield {topic: self._records[topic][:50] for topic in topics}, set(topics)
        yield {topic: self._records[topic][50:] for topic in topics}, set()

    def each(self, topic: str, _: int) -> Iterator[Any]:
        assert topic == TOPICS.order("app")
        yield from (SimpleNamespace(offset=offset, value=value) for offset, value in enumerate(self._journal or ()))


def published(events: list[Event]) -> dict[str, list[RawRecord]]:
    """Records by topic, with one that is no JSON and one event sent twice."""
    records: dict[str, list[RawRecord]] = {topic: [] for topic in TOPICS.inputs}
    for event in events:
        topic = TOPICS.of_kind(event.KIND)
        values = [encode_event(event)]
        if len(records[topic]) == 5:
            values = [b"{", values[0], values[0]]
        for value in values:
            key = event.user_id.encode()
            records[topic].append(RawRecord(topic, 0, len(records[topic]), 0, key, value))
    return records


def score_interleaved(records: dict[str, list[RawRecord]], seed: int) -> tuple[list[bytes], list[bytes]]:
    """Values of `scores` and of the order journal after workers took the topics in some other order than event time."""
    queues, refused = [], []
    for kind, topic in zip(KINDS, TOPICS.inputs, strict=True):
        taken = [Intake(kind).take(record, 1 << 53) for record in records[topic]]
        queues.append([item for item in taken if isinstance(item, Taken)][::-1])
        refused.append([letter.offset for letter in taken if not isinstance(letter, Taken)])
    random = np.random.default_rng(seed)
    order = []
    while any(queues):
        queue = queues[random.choice([number for number, each in enumerate(queues) if each])]
        order.append(queue.pop())
    slab = Slab(blank_row(row_dtype(bundle().state_width), bundle().fingerprint))
    policy = load_settings().alert_policy(bundle().thresholds)
    scores = [value for _, value in Scorer(bundle(), policy, slab, TOPICS).score(order).scores[0]]
    log = OrderLog()
    log.took(np.array([item.kind_no for item in order]), np.array([item.offset for item in order]))
    for kind_no, offsets in enumerate(refused):
        log.refused(kind_no, offsets)
    record = log.record([len(records[topic]) for topic in TOPICS.inputs])
    assert record is not None
    return scores, [record.encode()]


def read(reader: Any, user_id: str, on_progress: Any = lambda _: None) -> list[Event]:
    taken = read_partition(reader, TOPICS, "app", 0, user_id.encode(), on_progress)
    return [item.event for item in taken]


def test_events_come_in_the_order_in_which_they_were_taken() -> None:
    events = list(open_dataset("simulator", users=8, months=5, seed=4).events())
    records = published(events)
    scores, journal = score_interleaved(records, seed=1)
    told: list[int] = []
    out_of_order = False
    reader = Partition(records, journal)
    for user_id in sorted({event.user_id for event in events})[:4]:
        live = [s for s in (msgspec.json.decode(value, type=Score) for value in scores) if s.user_id == user_id]
        found = read(reader, user_id, told.append)
        assert [event.event_id for event in found] == [score.event_id for score in live]
        out_of_order |= found != sorted(found, key=lambda event: event.occurred_at)
        assert explain(bundle(), found, recent=1).scores.tolist() == [np.float32(score.score) for score in live]
    assert out_of_order, "the order of arrival must matter here"
    assert sum(told) == 4 * sum(map(len, records.values()))


@pytest.mark.parametrize("journal", [[], None])
def test_what_is_not_taken_yet_follows_in_event_time_order(
    journal: list[bytes] | None, caplog: pytest.LogCaptureFixture
) -> None:
    events = list(open_dataset("simulator", users=3, months=5, seed=4).events())
    records = published(events)
    user_id = events[-1].user_id
    assert read(Partition(records, journal), user_id) == [event for event in events if event.user_id == user_id]
    assert ("app-order does not exist" in caplog.text) is (journal is None)


def test_a_user_who_is_not_there_has_no_events() -> None:
    records = published(list(open_dataset("simulator", users=2, months=2, seed=4).events()))
    assert read(Partition(records, []), "somebody else") == []
