"""Reads the dead letters of a deployment: which there are, by reason, input topic and day, and one by its place.

Records that others wrote into the topic are counted and left out. Publishes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from stream.database.person import is_about
from stream.kafka.record import Record
from stream.kafka.topic_reader import TopicReader
from stream.outputs import DeadLetter, ForeignRecord, moment_of
from stream.settings import Settings

EXAMPLES = 3
"""How many places of each group of dead letters are kept."""

OnRead = Callable[[int], None]
"""Called with the number of records read so far."""


@dataclass(frozen=True)
class StoredLetter:
    """A dead letter, the place where it stands in its topic, and when it was refused (ms since 1970-01-01)."""

    partition: int
    offset: int
    refused_ms: int
    letter: DeadLetter

    @property
    def place(self) -> str:
        """`partition:offset` in the topic of dead letters."""
        return f"{self.partition}:{self.offset}"

    @property
    def origin(self) -> str:
        """`topic:partition:offset` of the refused record."""
        return f"{self.letter.topic}:{self.letter.partition}:{self.letter.offset}"


@dataclass(frozen=True)
class LetterFilter:
    """Which dead letters are meant; what is None or empty leaves none out.

    `reasons` are refusal codes, `topics` whole names of input topics, `user_id` is the key or the `user_id` of a value
    that is JSON, `since_ms` and `until_ms` (itself left out) bound the time of the refusal.
    """

    reasons: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    user_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, stored: StoredLetter) -> bool:
        """Whether this letter is meant."""
        letter = stored.letter
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.topics or letter.topic in self.topics)
            and (self.since_ms is None or stored.refused_ms >= self.since_ms)
            and (self.until_ms is None or stored.refused_ms < self.until_ms)
            and (self.user_id is None or is_of_user(letter, self.user_id))
        )


def is_of_user(letter: DeadLetter, user_id: str) -> bool:
    """Whether a dead letter is about a user, by its key or by the `user_id` in its bytes."""
    return letter.key == user_id.encode() or is_about(letter.value, user_id)


@dataclass
class LetterGroup:
    """Dead letters of one reason, input topic and day (UTC) of refusal: how many, how many of them were sent back, and
    the places of the first few."""

    reason: str
    topic: str
    day: dt.date
    letters: int = 0
    sent_back: int = 0
    examples: list[str] = field(default_factory=list)


class LetterCounts:
    """Counts dead letters by reason, input topic and day."""

    def __init__(self, sent_back: Collection[str] = frozenset()) -> None:
        """`sent_back` are the ids of those that were sent back."""
        self._sent_back = sent_back
        self._groups: dict[tuple[str, str, dt.date], LetterGroup] = {}

    def add(self, stored: StoredLetter) -> None:
        letter = stored.letter
        key = letter.reason, letter.topic, moment_of(stored.refused_ms).date()
        group = self._groups.setdefault(key, LetterGroup(*key))
        group.letters += 1
        group.sent_back += letter.dead_letter_id in self._sent_back
        if len(group.examples) < EXAMPLES:
            group.examples.append(stored.place)

    @property
    def groups(self) -> list[LetterGroup]:
        """By reason and topic, the latest day first."""
        return sorted(self._groups.values(), key=lambda group: (group.reason, group.topic, -group.day.toordinal()))

    @property
    def letters(self) -> int:
        return sum(group.letters for group in self._groups.values())


class Letters:
    """The topic of dead letters, from its first to its last committed record."""

    def __init__(self, reader: TopicReader, settings: Settings) -> None:
        self._reader = reader
        self._topic = settings.topics.dead_letters
        self.skipped: Counter[str] = Counter()
        """Records of others that were left out, by why."""
        self.ends: dict[int, int] = {}
        """By partition, the offset after the last letter that was read."""

    @property
    def size(self) -> int:
        """Offsets that the topic holds. Raises `TopicUnreadable`, `NotAllowed`."""
        return self._reader.size([self._topic])

    def all(
        self, on_read: OnRead = lambda _read: None, until: Mapping[int, int] | None = None
    ) -> Iterator[StoredLetter]:
        """Every letter, partition by partition; of partitions in `until`, those before that offset alone.

        Raises `TopicUnreadable`, `NotAllowed`.
        """
        read = 0
        for partition in range(self._reader.partitions(self._topic)):
            end = None if until is None else until.get(partition, 0)
            for found, _ in self._reader.records([self._topic], partition):
                records = found.get(self._topic, [])
                for record in records:
                    if end is not None and record.offset >= end:
                        break
                    self.ends[partition] = record.offset + 1
                    stored = self._letter(record)
                    if stored is not None:
                        yield stored
                read += len(records)
                on_read(read)
                if end is not None and records and records[-1].offset >= end:
                    break

    def _letter(self, record: Record) -> StoredLetter | None:
        try:
            return stored_letter(record)
        except ForeignRecord as error:
            self.skipped[str(error)] += 1
            return None


def stored_letter(record: Record) -> StoredLetter:
    """The letter that a record of the topic is. Raises `ForeignRecord`."""
    return StoredLetter(record.partition, record.offset, max(record.timestamp, 0), DeadLetter.from_record(record))
