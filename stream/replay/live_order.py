"""The order in which live workers scored a partition's events, taken from the scores that they published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stream.outputs import ForeignRecord, Offset, OutputDecoder, forgotten_by
from stream.replay.foreign import ForeignRecords
from stream.scoring.intake import Taken

_AFTER_LIVE = 1 << 60


class _Source(msgspec.Struct, gc=False):
    """The fields of a score that identify its event."""

    source_topic: str
    source_offset: Offset


def _source_of(place: str) -> _Source:
    """The source in `<topic>:<partition>:<offset>`. Raises `ForeignRecord`."""
    topic, _, rest = place.partition(":")
    _, _, offset = rest.partition(":")
    if not offset.isdecimal():
        raise ForeignRecord(f"a tombstone whose source is {place!r:.100}")
    return _Source(topic, int(offset))


@dataclass
class LiveOrder:
    """The order in which a partition's events were scored live. Of an event scored twice, the last position counts.

    `forgotten` has the position up to which a user was forgotten, by key.
    """

    rank: dict[tuple[int, int], int] = field(default_factory=dict)
    last_offset: dict[int, int] = field(default_factory=dict)
    forgotten: dict[bytes, int] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        records: Iterable[Any],
        inputs: Sequence[str],
        foreign: ForeignRecords | None = None,
        topic: str = "scores",
    ) -> LiveOrder:
        """From the records of the live `scores` topic's partition, in order.

        What is no score of an event in `inputs` is left out and added to `foreign`, under the name `topic`.
        """
        order = cls()
        foreign = ForeignRecords() if foreign is None else foreign
        decode = OutputDecoder(_Source)
        kind_no_of = {topic: no for no, topic in enumerate(inputs)}
        for number, record in enumerate(records):
            try:
                place = forgotten_by(record.value, record.headers)
                source = decode(record.value) if place is None else _source_of(place)
                if source.source_topic not in kind_no_of:
                    raise ForeignRecord(f"a score of an event in {source.source_topic!r:.100}")
            except ForeignRecord as error:
                foreign.add(topic, error)
                continue
            if place is not None:
                order.forgotten[record.key or b""] = number
            kind_no = kind_no_of[source.source_topic]
            order.rank[kind_no, source.source_offset] = number
            order.last_offset[kind_no] = max(order.last_offset.get(kind_no, -1), source.source_offset)
        return order

    def leaves_out(self, item: Taken) -> bool:
        """Whether an event is of no account any more: the live workers refused it, or forgot its user after it."""
        return self.was_refused(item) or self.place(item) <= self.forgotten.get(item.key, -1)

    def was_refused(self, item: Taken) -> bool:
        """Whether the live workers read past the event without scoring it."""
        return item.offset <= self.last_offset.get(item.kind_no, -1) and (item.kind_no, item.offset) not in self.rank

    def place(self, item: Taken) -> int:
        """Sort key of the event: its live rank, or its event time after all ranks if it was not scored live."""
        return self.rank.get((item.kind_no, item.offset), _AFTER_LIVE + item.occurred_ms)
