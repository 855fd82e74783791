"""Queues and batches keep every event with what belongs to it."""

from __future__ import annotations

import datetime as dt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.types import Activity
from stream.batch import NO_EVENTS, Batch, Queue
from stream.intake import RawRecord

queues = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6)), max_size=5)


def queue_of(kind_no: int, partition: int, size: int, first_offset: int = 0) -> Queue:
    """Events that say themselves where they stand."""
    queue = Queue(kind_no, partition)
    for offset in range(first_offset, first_offset + size):
        at = dt.datetime.fromtimestamp(offset, dt.UTC)
        event = Activity(event_id=f"{kind_no}:{partition}:{offset}", user_id="u", occurred_at=at, kind="session")
        record = RawRecord("activity", partition, offset, 0, f"k{offset}".encode(), None)
        queue.extend(Queue(kind_no, partition, [event], [offset * 1000], [record]))
    return queue


def agree(batch: Batch) -> list[str]:
    """The ids of the events, once everything else agrees with them."""
    ids = [event.event_id for event in batch.events]
    columns = zip(batch.kind_no.tolist(), batch.partition.tolist(), batch.offset.tolist(), strict=True)
    assert ids == [":".join(map(str, each)) for each in columns]
    assert batch.occurred_ms.tolist() == [offset * 1000 for offset in batch.offset.tolist()]
    assert [record.offset for record in batch.records] == batch.offset.tolist()
    assert batch.keys.tolist() == [record.key for record in batch.records]
    return ids


@given(queues, st.randoms())
def test_columns_stay_together(shapes: list[tuple[int, int, int]], random: object) -> None:
    made = [queue_of(*shape, first_offset=10 * number) for number, shape in enumerate(shapes)]
    batch = Batch.of(made)
    ids = agree(batch)
    assert len(batch) == len(ids) == sum(map(len, made))
    order = list(range(len(batch)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert agree(batch.at(np.array(order, dtype=np.int64))) == [ids[position] for position in order]
    parts = [batch.at(slice(start, start + 2)) for start in range(0, len(batch), 2)]
    assert agree(Batch.joined(parts)) == ids


@given(st.integers(0, 8), st.integers(0, 8))
def test_a_queue_lets_go_of_the_first(size: int, count: int) -> None:
    queue = queue_of(1, 2, size)
    queue.drop(count)
    assert agree(Batch.of([queue])) == [f"1:2:{offset}" for offset in range(count, size)]


@given(st.lists(st.booleans(), max_size=8))
def test_a_queue_keeps_what_is_wanted(wanted: list[bool]) -> None:
    queue = queue_of(3, 0, len(wanted))
    queue.keep(wanted)
    assert agree(Batch.of([queue])) == [f"3:0:{offset}" for offset, keep in enumerate(wanted) if keep]


def test_nothing_is_an_empty_batch() -> None:
    assert len(Batch.of([Queue(0, 0)])) == len(Batch.joined([])) == len(NO_EVENTS) == 0
