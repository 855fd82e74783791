"""The events of a measurement: a simulated portfolio, encoded once and kept in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from events.types import EVENT_TYPES, KINDS, Event, KeyedEvent, encode_event
from model.datasets.simulator import Simulator
from stream.kafka.publisher import partition_of
from stream.kafka.record import RawRecord
from stream.scoring.intake import Intake, Taken
from stream.topics import Topics

SEED = 11
EVENTS_PER_USER_MONTH = 5
"""Less than the simulator makes, so that the months computed from it are enough."""

MOST_EVENTS_PER_USER = 100
"""So many span less than two years. The simulation starts in 2023, and a worker refuses events from the future."""


@dataclass(frozen=True)
class Workload:
    """`records` in the order of event time: kind, key, value, event time in milliseconds."""

    users: int
    records: Sequence[KeyedEvent]

    def __len__(self) -> int:
        return len(self.records)

    @classmethod
    def simulated(cls, events: int, users: int, seed: int = SEED) -> Workload:
        """The first `events` events of `users` borrowers, or of more where that would take events from the future."""
        users = max(users, math.ceil(events / MOST_EVENTS_PER_USER))
        months = events // (users * EVENTS_PER_USER_MONTH) + 2
        records = itertools.islice(Simulator(users=users, months=months, seed=seed).keyed_events(), events)
        return cls(users, list(records))


class Stream:
    """Events for measurements without a broker: simulated events, assigned to any users, ready for the scorer.

    Every event has a new id and the next offset of its kind, so none is refused as a repeat.
    """

    def __init__(self, partitions: int, templates: int = 4_096) -> None:
        self._partitions = partitions
        self._topics = Topics().inputs
        self._intakes = [Intake(kind) for kind in KINDS]
        decoders = [msgspec.json.Decoder(EVENT_TYPES[kind]).decode for kind in KINDS]
        workload = Workload.simulated(templates, max(1, templates // 32))
        self._templates: list[tuple[int, Event]] = [
            (KINDS.index(kind), decoders[KINDS.index(kind)](value)) for kind, _, value, _ in workload.records
        ]
        self._count = 0

    def take(self, user_ids: Sequence[str]) -> list[Taken]:
        """One event for each of `user_ids` in order; ids may repeat."""
        return list(self._take(user_ids))

    def _take(self, user_ids: Sequence[str]) -> Iterator[Taken]:
        for user_id in user_ids:
            kind_no, template = self._templates[self._count % len(self._templates)]
            event = msgspec.structs.replace(template, user_id=user_id, event_id=f"e{self._count}")
            key = user_id.encode()
            record = RawRecord(
                self._topics[kind_no], partition_of(key, self._partitions), self._count, 0, key, encode_event(event)
            )
            self._count += 1
            # Wall time is of no interest: the simulator's dates are past.
            outcome = self._intakes[kind_no].take(record, 1 << 53)
            if not isinstance(outcome, Taken):
                raise ValueError(f"the simulator made an event that the intake refuses: {outcome.message}")
            yield outcome


def user_id(number: int) -> str:
    """Id of a user of `Stream`."""
    return f"u{number:08d}"
