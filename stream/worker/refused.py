"""Dead letters of records that were refused, until they may be published: in order, by topic and partition. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from faust.types import TP

from stream.outputs import DeadLetter


class RefusedRecords:
    """Those behind an event that is still held wait with it: its offset is what a successor reads from, and would find
    them again. Where another application is followed they wait for its journal to tell of them."""

    def __init__(self) -> None:
        self._waiting: dict[TP, list[DeadLetter]] = {}

    def __contains__(self, tp: TP) -> bool:
        return tp in self._waiting

    def __iter__(self) -> Iterator[TP]:
        return iter(list(self._waiting))

    def add(self, tp: TP, letters: Iterable[DeadLetter]) -> None:
        """Add dead letters of one topic and partition, in the order of their offsets."""
        self._waiting.setdefault(tp, []).extend(letters)

    def first(self, tp: TP) -> int | None:
        """Offset of the first one."""
        return self._waiting[tp][0].offset if tp in self._waiting else None

    def offsets(self, tp: TP) -> set[int]:
        return {letter.offset for letter in self._waiting.get(tp, ())}

    def before(self, tp: TP, offset: int) -> list[DeadLetter]:
        """Those of records before an offset, taken out."""
        waiting = self._waiting.pop(tp, [])
        count = bisect_left(waiting, offset, key=lambda letter: letter.offset)
        if waiting[count:]:
            self._waiting[tp] = waiting[count:]
        return waiting[:count]

    def clear(self) -> None:
        self._waiting.clear()
