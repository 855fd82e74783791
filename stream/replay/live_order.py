"""The order in which live workers scored a partition's events, taken from the scores that they published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from stream.outputs import ForeignRecord, Offset, OutputDecoder
from stream.replay.foreign import ForeignRecords
from stream.scoring.intake import Taken

_AFTER_LIVE = 1 << 60


class _Source(msgspec.Struct, gc=False):
    """The fields of a score that identify its event."""

    source_topic: str
    source_offset: Offset


@dataclass
class LiveOrder:
    """The order in which a partition's events were scored live. Of an event scored twice, the last position counts."""

    rank: dict[tuple[int, int], int] = field(default_factory=dict)
    last_offset: dict[int, int] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        values: Iterable[bytes | None],
        inputs: Sequence[str],
        foreign: ForeignRecords | None = None,
        topic: str = "scores",
    ) -> LiveOrder:
        """From the values of the live `scores` topic's partition, in order.

        What is no score of an event in `inputs` is left out and added to `foreign`, under the name `topic`.
        """
        order = cls()
        foreign = ForeignRecords() if foreign is None else foreign
        decode = OutputDecoder(_Source)
        kind_no_of = {topic: no for no, topic in enumerate(inputs)}
        for number, value in enumerate(values):
            try:
                source = decode(value)
                if source.source_topic not in kind_no_of:
                    raise ForeignRecord(f"a score of an event in {source.source_topic!r:.100}")
            except ForeignRecord as error:
                foreign.add(topic, error)
                continue
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
