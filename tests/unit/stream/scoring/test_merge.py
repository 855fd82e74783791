"""Event-time order across topics does not depend on how the topics were read."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from events.types import KINDS, Activity
from stream.kafka.record import RawRecord
from stream.scoring.intake import Taken
from stream.scoring.merge import PartitionMerge

RANKS = (1, 2, 3, 0)
times = st.lists(st.integers(0, 20), max_size=12)


def taken(kind_no: int, offset: int, occurred_ms: int) -> Taken:
    event = Activity(event_id="e", user_id="u", occurred_at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC), kind="session")
    record = RawRecord("t", 0, offset, 0, b"u", b"")
    return Taken(KINDS[kind_no], kind_no, 0, offset, b"u", occurred_ms, event, record)


def reference(topics: list[list[int]]) -> list[tuple[int, int]]:
    """Take the topic whose next event is the earliest, one event at a time."""
    position = [0] * len(topics)
    order = []
    while any(at < len(topic) for at, topic in zip(position, topics, strict=True)):
        kind_no = min(
            (no for no in range(len(topics)) if position[no] < len(topics[no])),
            key=lambda no: (topics[no][position[no]], RANKS[no]),
        )
        order.append((kind_no, position[kind_no]))
        position[kind_no] += 1
    return order


@given(st.lists(times, min_size=4, max_size=4), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=40))
def test_order_is_that_of_the_topics_whatever_the_reads(topics: list[list[int]], reads: list[tuple[int, int]]) -> None:
    merge = PartitionMerge()
    read = [0] * 4
    released: list[tuple[int, int]] = []
    for kind_no, size in [*reads, *((no, 100) for no in range(4))]:
        chunk = range(read[kind_no], min(read[kind_no] + size, len(topics[kind_no])))
        merge.push(kind_no, [taken(kind_no, offset, topics[kind_no][offset]) for offset in chunk])
        read[kind_no] += len(chunk)
        lagging = [no for no in range(4) if read[no] < len(topics[no])]
        released += [(item.kind_no, item.offset) for item in merge.release(lagging)]
    assert released == reference(topics)
    assert len(merge) == 0


def test_waits_for_a_lagging_topic_and_not_for_an_idle_one() -> None:
    merge = PartitionMerge()
    merge.push(1, [taken(1, 7, 10)])
    assert merge.release(lagging=[0]) == []
    assert merge.first_offset(1) == 7
    assert [item.offset for item in merge.release(lagging=[])] == [7]


def test_profiles_go_first_at_equal_times() -> None:
    merge = PartitionMerge()
    for kind_no in range(4):
        merge.push(kind_no, [taken(kind_no, kind_no, 5)])
    assert [KINDS[item.kind_no] for item in merge.release()] == ["profiles", "repayments", "transactions", "activity"]
