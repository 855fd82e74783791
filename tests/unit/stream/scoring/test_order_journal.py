"""What an order journal keeps, and that a merge along it is the order that was taken."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.types import KINDS
from stream.alerts.state_machine import initial_state
from stream.scoring.order_journal import OrderLog, OrderRecord, UnreadableOrder, hand_over_records
from stream.scoring.ordered_merge import OrderedMerge

Place = tuple[int, int]
"""Kind and offset."""


def item(place: Place) -> Any:
    kind_no, offset = place
    return SimpleNamespace(kind_no=kind_no, offset=offset, occurred_ms=offset)


def arrays(places: Sequence[Place]) -> tuple[Any, Any]:
    found = np.array(places, dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[Place]], dict[int, set[int]], list[list[int]]]:
    """What was taken between commits; which offsets were refused; all offsets there are, by kind, with gaps."""
    present = [sorted(draw(st.sets(st.integers(0, 40), max_size=12))) for _ in KINDS]
    refused = {kind_no: {offset for offset in there if draw(st.booleans())} for kind_no, there in enumerate(present)}
    queues = [[o for o in there if o not in refused[kind_no]] for kind_no, there in enumerate(present)]
    order = draw(st.permutations([kind_no for kind_no, queue in enumerate(queues) for _ in queue]))
    iterators = [iter(queue) for queue in queues]
    taken = [(kind_no, next(iterators[kind_no])) for kind_no in order]
    cuts = sorted(draw(st.lists(st.integers(0, len(taken)), max_size=3)))
    commits = [taken[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(taken)])]
    return commits, refused, present


def journal_of(
    commits: Sequence[Sequence[Place]], refused: dict[int, set[int]], present: Sequence[Sequence[int]]
) -> Iterator[OrderRecord]:
    """As a worker writes it: a refused record is told of once all before it of its kind are taken."""
    told: dict[int, set[int]] = {kind_no: set() for kind_no in refused}
    done = [[o for o in offsets if o in refused[kind_no]] for kind_no, offsets in enumerate(present)]
    left = {kind_no: [o for c in commits for k, o in c if k == kind_no] for kind_no in refused}
    for commit in commits:
        log = OrderLog()
        for begin in range(0, len(commit), 3):
            log.took(*arrays(commit[begin : begin + 3]))
        ends = []
        for kind_no in range(len(KINDS)):
            left[kind_no] = [o for o in left[kind_no] if (kind_no, o) not in set(commit)]
            end = left[kind_no][0] if left[kind_no] else 100
            news = [o for o in done[kind_no] if o < end and o not in told[kind_no]]
            told[kind_no].update(news)
            log.refused(kind_no, news)
            ends.append(end)
        record = log.record(ends)
        if record is not None:
            yield record


@given(histories(), st.randoms(use_true_random=False), st.integers(1, 5))
def test_a_merge_along_the_journal_is_the_order_that_was_taken(history: Any, chance: Any, most: int) -> None:
    """However the topics and the journal are read, and also where what was refused is valid by now."""
    commits, refused, present = history
    values = [record.encode() for record in journal_of(commits, refused, present)]
    merge, released = OrderedMerge(), []
    unread = [list(offsets) for offsets in present]
    number = 0
    while number < len(values) or any(unread):
        source = chance.randrange(len(KINDS) + 1)
        if source == len(KINDS):
            if number < len(values):
                merge.tell(number, values[number])
                number += 1
        else:
            part, unread[source] = unread[source][:most], unread[source][most:]
            merge.push(source, [item((source, offset)) for offset in part])
            merge.read_to(source, part[-1] + 1 if unread[source] else 100)
        released += merge.release()
    for kind_no in range(len(KINDS)):
        merge.read_to(kind_no, 100)
    released += merge.release()
    assert [(found.kind_no, found.offset) for found in released] == [place for commit in commits for place in commit]
    assert merge.journal_offset is None


@given(histories())
def test_a_record_is_what_it_was_when_it_is_read(history: Any) -> None:
    for record in journal_of(*history):
        found = OrderRecord.decode(record.encode())
        assert (found.starts, found.ends) == (record.starts, record.ends)
        assert found.kinds.tolist() == record.kinds.tolist()
        assert found.lasts.tolist() == record.lasts.tolist()
        assert [part.tolist() for part in found.refused] == [part.tolist() for part in record.refused]


def test_nothing_taken_is_no_record() -> None:
    log = OrderLog()
    log.took(*arrays([]))
    log.refused(0, [])
    assert log.record([0, 0, 0, 0]) is None


def test_a_second_of_a_busy_topic_takes_few_bytes() -> None:
    log = OrderLog()
    for start in range(0, 20_000, 500):
        log.took(np.ones(500, dtype=np.int64), np.arange(start, start + 500))
    record = log.record([0, 20_000, 0, 0])
    assert record is not None
    assert record.lasts.tolist() == [19_999]
    assert len(record.encode()) < 100


@pytest.mark.parametrize(
    "value", [None, b"", b"\x02abc", b"\x01", b"\x01nonsense", OrderRecord((0,), (0,), *arrays([]), ()).encode()]
)
def test_what_is_no_record_is_told(value: bytes | None) -> None:
    with pytest.raises(UnreadableOrder):
        OrderRecord.decode(value)


def taken_of(merge: OrderedMerge) -> list[Place]:
    return [(found.kind_no, found.offset) for found in merge.release()]


def record_of(places: Sequence[Place], starts: Sequence[int], **refused: list[int]) -> bytes:
    log = OrderLog()
    log.took(*arrays(places))
    for kind, offsets in refused.items():
        log.refused(KINDS.index(kind), offsets)  # type: ignore[arg-type]
    found = log.record(starts)
    assert found is not None
    return OrderRecord(tuple(starts), found.ends, found.kinds, found.lasts, found.refused).encode()


def test_what_stands_before_the_journal_is_merged_by_time() -> None:
    merge = OrderedMerge()
    for kind_no in (0, 1):
        merge.push(kind_no, [item((kind_no, offset)) for offset in (3 + kind_no, 7 - kind_no, 20, 30)])
        merge.read_to(kind_no, 31)
    assert taken_of(merge) == [], "the journal may tell of them"
    merge.tell(0, record_of([(1, 30), (0, 30)], [20, 20, 0, 0]))
    assert taken_of(merge) == [(0, 3), (1, 4), (1, 6), (0, 7), (1, 20), (1, 30), (0, 20), (0, 30)]
    assert merge.counts == {"before_journal": 4}


def test_what_the_workers_left_out_is_left_out() -> None:
    """Offsets were set forward: what lies between was never scored."""
    merge = OrderedMerge()
    merge.push(0, [item((0, offset)) for offset in range(10)])
    merge.read_to(0, 10)
    merge.tell(0, record_of([(0, 2)], [0, 0, 0, 0]))
    merge.tell(1, record_of([(0, 9)], [6, 0, 0, 0]))
    assert [offset for _, offset in taken_of(merge)] == [0, 1, 2, 6, 7, 8, 9]
    assert merge.counts == {"left_out": 3}


def test_records_that_are_gone_are_not_waited_for() -> None:
    """Compaction has taken the last of a run: it is waited for until the topic is read beyond it."""
    merge = OrderedMerge()
    merge.tell(0, record_of([(3, 5), (0, 0), (3, 9)], [0, 0, 0, 0]))
    merge.push(3, [item((3, 4))])
    merge.push(0, [item((0, 0))])
    merge.read_to(3, 5)
    merge.read_to(0, 1)
    assert taken_of(merge) == [(3, 4)]
    merge.read_to(3, 8)
    assert taken_of(merge) == [(0, 0)]
    assert merge.journal_offset == 0
    merge.read_to(3, 11)
    assert taken_of(merge) == []
    assert merge.journal_offset is None


def test_a_record_that_is_read_again_after_a_restart_goes_on_where_it_was() -> None:
    """Positions are committed within it; what is behind them does not come again."""
    merge = OrderedMerge()
    merge.tell(7, record_of([(0, 4), (1, 4), (0, 9)], [0, 0, 0, 0]))
    for kind_no, position in ((0, 7), (1, 5)):
        merge.read_to(kind_no, position)
        merge.push(kind_no, [item((kind_no, offset)) for offset in range(position, 12)])
        merge.read_to(kind_no, 12)
    assert taken_of(merge) == [(0, 7), (0, 8), (0, 9)]
    assert (merge.waiting(0), merge.first_offset(1)) == (2, 5)


def alerted(count: int) -> dict[bytes, Any]:
    found = {}
    for number in range(count):
        found[f"u{number}".encode()] = state = initial_state(1)
        state["level"], state["opened_ms"] = 1, number
    return found


def hand_over(ends: Sequence[int], giver: str = "a", taker: str = "b", count: int = 3) -> list[bytes]:
    return [record.encode() for record in hand_over_records(ends, giver, taker, alerted(count))]


NONE = (arrays([])[1],) * 4


def run_of(start: int, end: int) -> bytes:
    """A record of one run of the first kind."""
    ends = (end, 0, 0, 0)
    return OrderRecord((start, 0, 0, 0), ends, *arrays([(0, end - 1)]), NONE).encode()


def test_a_hand_over_is_what_it_was_when_it_is_read() -> None:
    for count in (0, 3):
        (value,) = hand_over([4, 3, 2, 1], count=count)
        found = OrderRecord.decode(value)
        told = found.hand_over
        assert told is not None
        assert (found.starts, found.ends, len(found.kinds)) == ((4, 3, 2, 1), (4, 3, 2, 1), 0)
        assert (told.giver, told.taker, told.last) == ("a", "b", True)
        assert told.keys == tuple(alerted(count))
        assert told.alerts["opened_ms"].tolist() == list(range(count))
    broken = b"\x02" + zlib.compress(msgspec.msgpack.encode([2, [0] * 4, "a", "b", [b"u"], b"", True]))
    with pytest.raises(UnreadableOrder, match="0 alerts of 1 users"):
        OrderRecord.decode(broken)


@pytest.mark.parametrize("offset", [-1, 1 << 63])
def test_what_is_no_offset_is_refused(offset: int) -> None:
    taken = OrderRecord((0,) * 4, (offset, 0, 0, 0), *arrays([]), NONE).encode()
    for value in (*hand_over([0, 0, 0, offset]), taken):
        with pytest.raises(UnreadableOrder, match="no offset"):
            OrderRecord.decode(value)


def test_a_hand_over_whose_parts_tell_of_a_user_twice_is_refused() -> None:
    (last,) = hand_over([0, 0, 0, 0])
    told = OrderRecord.decode(last).hand_over
    assert told is not None
    first = OrderRecord.of_hand_over([0, 0, 0, 0], dataclasses.replace(told, last=False)).encode()
    merge = OrderedMerge("b")
    for offset, value in enumerate((first, last)):
        merge.tell(offset, value)
    with pytest.raises(UnreadableOrder, match="6 alerts of 3 users"):
        merge.release()


@given(st.integers(0, 250), st.integers(0, 255), st.integers(0, 30))
def test_a_damaged_hand_over_is_told_or_read(at: int, byte: int, cut: int) -> None:
    packed = bytearray(zlib.decompress(hand_over([4, 3, 2, 1])[0][1:]))
    packed[at % len(packed)] = byte
    value = b"\x02" + zlib.compress(bytes(packed[: len(packed) - cut]))
    try:
        told = OrderRecord.decode(value).hand_over
    except UnreadableOrder:
        return
    assert told is not None
    assert len(told.keys) == len(told.alerts)
    assert (told.alerts["level"] <= 2).all()


def test_many_alerts_are_told_in_parts_and_taken_together() -> None:
    values = hand_over([0, 0, 0, 0], count=20_000)
    assert len(values) > 2
    assert max(map(len, values)) < 900_000
    merge = OrderedMerge("b")
    for offset, value in enumerate(values):
        assert merge.hand_over is None
        assert merge.journal_offset in (None, 0), "whoever starts again is to hear all of it"
        merge.tell(offset, value)
        merge.release()
    told = merge.hand_over and merge.hand_over.hand_over
    assert told is not None
    assert told.keys == tuple(alerted(20_000))
    assert told.alerts["opened_ms"].tolist() == list(range(20_000))
    merge.go_on()
    assert (merge.journal_offset, merge.followed()) == (None, values)


def test_a_merge_stands_still_at_the_hand_over_to_its_own_application() -> None:
    before, after = run_of(0, 5), run_of(5, 10)
    (told,) = hand_over([5, 0, 0, 0])
    for taker, released in (("b", range(5)), ("c", range(10)), (None, range(10))):
        merge = OrderedMerge(taker)
        merge.push(0, [item((0, offset)) for offset in range(12)])
        merge.read_to(0, 12)
        for offset, value in enumerate((before, told, after)):
            merge.tell(offset, value)
        assert taken_of(merge) == [(0, offset) for offset in released]
        assert taken_of(merge) == []
        assert merge.passed(0) == len(released)
        if taker == "b":
            assert merge.journal_offset == 1
            merge.go_on()
            assert taken_of(merge) == [(0, offset) for offset in range(5, 10)]
            assert merge.followed() == [before, told, after]
        else:
            own = [] if taker is None else [before, after]
            assert merge.followed() == own, "hand-overs to others are none of its own"


def test_who_takes_over_goes_on_from_the_giver_s_offsets() -> None:
    """What it has read beyond them is merged by time, without what it refuses itself."""
    merge = OrderedMerge("b")
    merge.push(0, [item((0, offset)) for offset in (1, 3, 8, 9)])
    merge.push(1, [item((1, offset)) for offset in (4, 7)])
    merge.read_to(0, 10)
    merge.read_to(1, 8)
    merge.tell(0, hand_over([4, 5, 0, 0])[0])
    assert taken_of(merge) == [(0, 1), (0, 3), (1, 4)], "what stands before the journal"
    assert merge.hand_over is not None
    rest = merge.rest_from(merge.hand_over.ends, [{8}, set(), set(), set()])
    assert [(found.kind_no, found.offset) for found in rest.release()] == [(1, 7), (0, 9)]


def test_records_that_tell_of_nothing_new_are_not_passed_on() -> None:
    """A journal that begins with what this application has written itself."""
    merge = OrderedMerge("a", [5, 0, 0, 0])
    values = [run_of(0, 5), run_of(5, 10)]
    merge.push(0, [item((0, offset)) for offset in range(5, 10)])
    merge.read_to(0, 10)
    for offset, value in enumerate(values):
        merge.tell(offset, value)
    assert taken_of(merge) == [(0, offset) for offset in range(5, 10)]
    assert merge.followed() == values[1:]
