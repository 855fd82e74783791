"""Decodes the records of output topics past what others wrote there, which is left out, counted, and told of once.

Reads no topic.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic

from stream.outputs import DeadLetter, Decoded, ForeignRecord, OutputDecoder, OutputRecord

logger = logging.getLogger("foreshock.topics")


@dataclass
class ForeignRecords:
    """How many records of each output topic are none of ours, and what was wrong with the first."""

    counts: Counter[str] = field(default_factory=Counter)
    _first: dict[str, str] = field(default_factory=dict)

    def add(self, topic: str, error: ForeignRecord) -> None:
        self.counts[topic] += 1
        self._first.setdefault(topic, str(error))

    def tell(self) -> None:
        """Log one warning for each topic that has some; call it when everything is read."""
        for topic, count in self.counts.items():
            logger.warning(
                "%s: %d records are none of ours and are left out; the first: %s", topic, count, self._first[topic]
            )


class OutputValues(Generic[Decoded]):
    """Decodes values of one topic, and adds what is none of ours to `foreign`."""

    def __init__(self, topic: str, kind: type[Decoded], foreign: ForeignRecords) -> None:
        self._topic = topic
        self._decode = OutputDecoder(kind)
        self._foreign = foreign

    def one(self, value: bytes | None) -> Decoded | None:
        """The output that a value holds, None if it is none of ours."""
        try:
            return self._decode(value)
        except ForeignRecord as error:
            self._foreign.add(self._topic, error)
            return None

    def of(self, values: Iterable[bytes | None]) -> Iterator[tuple[Decoded, bytes]]:
        """Our outputs among the values, each with its bytes."""
        for value in values:
            found = self.one(value)
            if found is not None and value is not None:
                yield found, value


def dead_letters(records: Iterable[OutputRecord], topic: str, foreign: ForeignRecords) -> Iterator[DeadLetter]:
    """The dead letters among records of their topic; what is none of ours is added to `foreign`."""
    for record in records:
        try:
            letter = DeadLetter.from_record(record)
        except ForeignRecord as error:
            foreign.add(topic, error)
            continue
        yield letter
