"""The order in which the live workers took a partition's events, read from the scores that they published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from stream.scoring.intake import Taken

_AFTER_LIVE = 1 << 60


class _Source(msgspec.Struct, gc=False):
    """Of a score, only which event it is of."""

    source_topic: str
    source_offset: int


@dataclass
class LiveOrder:
    """The order in which a partition's events were scored live. A repeat after a crash counts where it stands last."""

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
        """Whether the live workers passed the event without scoring it."""
        return item.offset <= self.last_offset.get(item.kind_no, -1) and (item.kind_no, item.offset) not in self.rank

    def place(self, item: Taken) -> int:
        """The event's place: its live rank, or after all of those by event time."""
        return self.rank.get((item.kind_no, item.offset), _AFTER_LIVE + item.occurred_ms)
