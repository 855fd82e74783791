"""What a consumer reads in the place of its topics: records that they hold no more, or have yet to be given.

Where an `EarlierRecords` has a partition's next record, it is taken from there, and from the topic before and after
that. Knows nothing of where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from faust.types import TP

from stream.kafka.poll import Fetched


class EarlierRecords(Protocol):
    """Records of partitions that a consumer has."""

    def span(self, tp: TP) -> tuple[int, int]:
        """The first offset that is there, and the one after the last; both the same where nothing is."""

    def read(self, positions: Mapping[TP, int]) -> dict[TP, Fetched]:
        """The next records of each partition, from a position within its span on; may wait for a disk. What is
        remembered of other partitions is forgotten. Called by one thread at a time."""


def holds(earlier: EarlierRecords, tp: TP, position: int) -> bool:
    """Whether the record at this position, or the next after it, is to be read from there."""
    begin, end = earlier.span(tp)
    return begin <= position < end


def joined(earlier: EarlierRecords | None, tp: TP, begin: int, end: int) -> tuple[int, int, bool]:
    """Where a partition begins and ends whose topic holds the offsets from `begin` up to before `end`, and whether the
    topic is to be left alone: it ends before what is read from elsewhere, and so is another one."""
    first, after = (0, 0) if earlier is None else earlier.span(tp)
    if first == after:
        return begin, end, False
    if end < after:
        return first, after, True
    return min(first, begin), end, False
