"""The order in which live workers scored a partition's events, taken from the scores that they published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from stream.scoring.intake import Taken

_AFTER_LIVE = 1 << 60


class _Source(msgspec.Struct, gc=False):
    """The fields of a score that identify its event."""

    source_topic: str
    source_offset: int


@dataclass
class LiveOrder:
    """The order in which a partition's events were scored live. Of an event scored twice, the last position counts."""

    rank: dict[tuple[int, int], int] = field(default_factory=dict)
    last_offset: dict[int, int] = field(default_factory=dict)

    @classmethod
    def read(cls, values: Iterator[bytes], inputs: Sequence[str]) -> LiveOrder:
        """From the values of the live `scores` topic's partition, in order."""
        order = cls()
        decode = msgspec.json.Decoder(_Source).decode
        kind_no_of = {topic: no for no, topic in enumerate(inputs)}
        for number, value in enumerate(values):
            source = decode(value)
            kind_no = kind_no_of[source.source_topic]
            order.rank[kind_no, source.source_offset] = number
            order.last_offset[kind_no] = max(order.last_offset.get(kind_no, -1), source.source_offset)
        return order

    def was_refused(self, item: Taken) -> bool:
        """Whether the live workers read past the event without scoring it."""
        return item.offset <= self.last_offset.get(item.kind_no, -1) and (item.kind_no, item.offset) not in self.rank

    def place(self, item: Taken) -> int:
        """Sort key of the event: its live rank, or its event time after all ranks if it was not scored live."""
        return self.rank.get((item.kind_no, item.offset), _AFTER_LIVE + item.occurred_ms)
