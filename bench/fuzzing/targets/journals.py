"""Targets of what workers keep for those that come after them: the order journal, and what stands with offsets.

A journal is read by replays, shadows and whoever takes a partition over, from a topic into which others may write.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass

import numpy as np

from bench.fuzzing.mutation import Grammar
from bench.fuzzing.target import Check, Target, require
from events.types import KINDS
from stream.alerts.state_machine import ALERT_STATE, initial_state
from stream.kafka.lineage import (
    FOLLOWING,
    HANDED_OVER,
    SEPARATOR,
    WATCHING,
    Standing,
    changelog_offset_in,
    marked,
    with_changelog_offset,
)
from stream.scoring.hand_over import take_alerts
from stream.scoring.order_journal import HandOver, OrderLog, OrderRecord, UnreadableOrder
from stream.scoring.ordered_merge import OrderedMerge
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab

TAKER = "foreshock-next"
_OFFSETS = range(40)
"""Of each topic, where a merge along fuzzed records has an event at each."""

_BETWEEN = b"\x1e\x1e\x1e\x1e"
"""Between records, of which the first byte is the version, and says in `_AS_IT_IS` that the rest is not to be
compressed: what is mutated is otherwise what is inside."""
_AS_IT_IS = 0x80


@dataclass(frozen=True)
class _Item:
    """What a merge reads of an event."""

    kind_no: int
    offset: int

    @property
    def occurred_ms(self) -> int:
        return self.offset * 7 % 11


def plain(value: bytes) -> bytes:
    """A record of the journal as the target takes it, of which the compressed part is what can be mutated."""
    return value[:1] + zlib.decompress(value[1:])


def _taken(places: list[tuple[int, int]], refused: list[int], ends: list[int]) -> OrderRecord:
    log = OrderLog()
    log.took(*np.array(places).T)
    log.refused(0, refused)
    record = log.record(ends)
    if record is None:
        raise AssertionError("a log of what was taken gives no record")
    return record


def _journal_seeds() -> list[bytes]:
    first = _taken([(0, 0), (0, 1), (1, 0), (0, 4), (3, 0), (3, 1), (2, 5)], [2, 3], [5, 1, 6, 2])
    second = _taken([(1, 1), (0, 5), (1, 9)], [], [6, 10, 6, 2])
    states = initial_state(3)
    states["level"], states["opened_ms"], states["opened_offset"] = range(3), 1_700_000_000_000, 5
    users = (b"u0", b"u1", b"u2")
    told = [
        HandOver("foreshock", TAKER, users, states),
        HandOver("foreshock", "another", users, states),
        HandOver("foreshock", TAKER, (), states[:0]),
        HandOver("foreshock", TAKER, users, states, last=False),
    ]
    values = [first.encode(), second.encode(), *(OrderRecord.of_hand_over(second.ends, one).encode() for one in told)]
    one, two, handed, other, last, begun = (plain(value) for value in values)
    several = ((one, two, handed), (one, two, begun, last), (begun, handed), (one, other, two, last))
    packed = [bytes([value[0] | _AS_IT_IS]) + value[1:] for value in values]
    return [one, two, handed, other, last, begun, *packed, *map(_BETWEEN.join, several)]


def _value_of(part: bytes) -> bytes | None:
    if not part:
        return None
    if part[0] & _AS_IT_IS:
        return bytes([part[0] & ~_AS_IT_IS]) + part[1:]
    return part[:1] + zlib.compress(part[1:], 1)


def _journals() -> Check:
    slab = Slab(blank_row(row_dtype(3), 1))

    def check(content: bytes) -> str:
        values = [_value_of(part) for part in content.split(_BETWEEN)]
        try:
            for value in values:
                record = OrderRecord.decode(value)
                require(_same(OrderRecord.decode(record.encode()), record), "a record is another when it is read again")
            _check_merge(values, slab)
        except UnreadableOrder as error:
            require(len(str(error)) <= 5_000, "a message of any length")
            return f"unreadable: {str(error)[:40]}"
        return "hand-over" if record.hand_over is not None else "record"

    return check


def _same(one: OrderRecord, other: OrderRecord) -> bool:
    same = (one.starts, one.ends) == (other.starts, other.ends)
    arrays = zip((one.kinds, one.lasts, *one.refused), (other.kinds, other.lasts, *other.refused), strict=True)
    same &= all(np.array_equal(mine, theirs) for mine, theirs in arrays)
    if one.hand_over is None or other.hand_over is None:
        return same and one.hand_over is other.hand_over
    told, again = one.hand_over, other.hand_over
    same &= (told.giver, told.taker, told.keys, told.last) == (again.giver, again.taker, again.keys, again.last)
    return same and told.alerts.tobytes() == again.alerts.tobytes()


def _check_merge(values: list[bytes | None], slab: Slab) -> None:
    """A merge along the records gives each event at most once, those of a topic in its order; alerts go over."""
    merge, released = OrderedMerge(TAKER), []
    for number, value in enumerate(values):
        merge.tell(number, value)
    for kind_no in range(len(KINDS)):
        merge.push(kind_no, [_Item(kind_no, offset) for offset in _OFFSETS])  # type: ignore[misc]
        merge.read_to(kind_no, len(_OFFSETS))
    for _ in range(len(values) + 1):
        released += merge.release()
        if merge.hand_over is None:
            break
        told = merge.hand_over.hand_over
        if told is None:
            raise AssertionError("a merge stands still before what is no hand-over")
        slab.clear()
        take_alerts(slab, 0, told)
        merge.go_on()
    require(merge.hand_over is None, "a merge stands still more often than it has records")
    released += merge.rest()
    for kind_no in range(len(KINDS)):
        offsets = [item.offset for item in released if item.kind_no == kind_no]
        require(all(before < after for before, after in itertools.pairwise(offsets)), "a topic is in another order")


_JOURNAL = Grammar(
    (b"\x96\x01\x94", b"\x97\x02\x94", b"\xcf" + b"\xff" * 8, b"\xd3\x80" + b"\0" * 7, b"\xff" * 8, b"\xc4\x00",
     b"\xc6\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x91" * 600, b"\xc0", b"\xc3", b"\xc2", _BETWEEN,
     TAKER.encode(), b"\xa0", bytes(ALERT_STATE.itemsize)),
)  # fmt: skip


# What stands with a group's offsets


def _offset_seeds() -> list[bytes]:
    ids = SEPARATOR.join(["pO2SXbYwQ7yOmGOFRmBbhw"] * 5)
    made = [ids, with_changelog_offset(ids, 12), *(marked(ids, mark + TAKER) for mark in (FOLLOWING, HANDED_OVER))]
    return [text.encode() for text in (*made, with_changelog_offset(marked(ids, WATCHING + TAKER), 7), "")]


def _offsets() -> Check:
    def check(content: bytes) -> str:
        metadata = content.decode(errors="replace")
        standing, offset = Standing.of(metadata), changelog_offset_in(metadata)
        require(offset >= -1, "a changelog that ends before it begins")
        require(Standing.of(marked(metadata, "")) == Standing(), "a mark that stays when it is taken off")
        handed = marked(metadata, HANDED_OVER + TAKER)
        require(Standing.of(handed) == Standing(handed_to=TAKER), "a mark that is another when it is read")
        unmarked = changelog_offset_in(marked(metadata, ""))
        require(changelog_offset_in(handed) == unmarked, "another offset of the changelog behind a mark")
        return "leads" if standing == Standing() else "marked"

    return check


_METADATA = Grammar(
    (b",", b"=", b"changelog=", b"following=", b"watching=", b"handed-over=", b"0", b"-1", b"9" * 400,
     "\u0664\u00b2".encode()),
)  # fmt: skip


TARGETS = (
    Target("order-journal", "records of an order journal, and a merge along them", _journal_seeds, _journals, _JOURNAL),
    Target("offsets", "what stands with the offsets of consumer groups", _offset_seeds, _offsets, _METADATA),
)
