"""Dead letters of records that were refused, until they are published: first until they may be, in order, by topic and
partition, then until enough of them go together. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from faust.types import TP

from stream.outputs import DeadLetter

LETTERS_EVERY_S = 0.05
"""So often dead letters are sent, if there are any. A producer has one request under way to each broker, and scores
would wait for that of each poll's dead letters: in a flood of bad records, twice as long."""

MOST_LETTERS, MOST_LETTER_BYTES = 1_000, 4 * 1024 * 1024
"""So many are sent at once, however short ago others were."""


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
        if found := list(letters):
            self._waiting.setdefault(tp, []).extend(found)

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


class LetterBox:
    """Dead letters that may be published, which go together, `LETTERS_EVERY_S` after those before them."""

    def __init__(self) -> None:
        self._letters: list[DeadLetter] = []
        self._bytes = 0
        self._emptied_s = -LETTERS_EVERY_S

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, letters: Iterable[DeadLetter]) -> None:
        for letter in letters:
            self._letters.append(letter)
            self._bytes += len(letter.key or b"") + len(letter.value or b"")

    def is_due(self, now_s: float) -> bool:
        """Whether those that are in it are to go now."""
        full = len(self._letters) >= MOST_LETTERS or self._bytes >= MOST_LETTER_BYTES
        return bool(self._letters) and (full or now_s - self._emptied_s >= LETTERS_EVERY_S)

    def empty(self, now_s: float) -> list[DeadLetter]:
        """All of them, taken out."""
        letters = self._letters
        self.clear()
        self._emptied_s = now_s
        return letters

    def clear(self) -> None:
        self._letters, self._bytes = [], 0
