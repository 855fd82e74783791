"""What a worker does that follows the order journal of another application, instead of deciding the order itself.

A replay is such a worker: it has states, offsets and outputs of its own, and takes the same events in the same order.
So is one of another model, until the application that it follows hands over to it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stream.kafka.poll import Poll
from stream.kafka.record import Record
from stream.outputs import DeadLetter, RefusalCode
from stream.scoring.forgetting import is_forgetting
from stream.scoring.intake import Intake, Taken
from stream.scoring.order_journal import HandOver
from stream.scoring.scorer import Scored

IN_THE_FUTURE: RefusalCode = "in_the_future"
NO_CLOCK_MS = 1 << 60
"""A wall time at which nothing is in the future."""


def _everything(scored: Scored) -> Scored:
    return scored


@dataclass(frozen=True)
class Following:
    """How a worker follows.

    `order_topic` is the journal to follow, None where there is none: then all is merged by event time. `ends` are the
    offsets by partition before which records of the journal are followed, all where a partition is not named: what its
    workers take later is left alone. `users` are the keys that are of interest, None: all. `published` picks what of a
    batch is published. `forgotten` are, by partition and key, offsets of the last request to forget a user: nothing
    that stands before it is scored. `events_per_s` is the most that is taken in a second, None for no limit. `leader`
    is the application that is followed, `taker` that whose place this worker has: where the journal hands over to it,
    the alerts are taken as well. With `takes_over` it leads from there on.
    """

    order_topic: str | None
    ends: Mapping[int, int] = field(default_factory=dict)
    users: Collection[bytes] | None = None
    published: Callable[[Scored], Scored] = _everything
    forgotten: Mapping[int, Mapping[bytes, int]] = field(default_factory=dict)
    events_per_s: float | None = None
    leader: str = ""
    taker: str | None = None
    takes_over: bool = False

    def wants(self, key: bytes | None) -> bool:
        return self.users is None or key in self.users

    def alerts_of(self, told: HandOver) -> HandOver:
        """A hand-over with the alerts of those users alone that are of interest."""
        kept = [number for number, key in enumerate(told.keys) if self.wants(key)]
        if len(kept) == len(told.keys):
            return told
        return replace(told, keys=tuple(told.keys[number] for number in kept), alerts=told.alerts[kept])

    def follows(self, partition: int, offset: int) -> bool:
        """Whether a record of the journal is to be followed."""
        return offset < self.ends.get(partition, offset + 1)

    def until(self, partition: int, position: int) -> int:
        """Where whoever goes on is to begin to read the journal, when it was read up to `position`: what is not to be
        followed now may be later, by a replay that is gone on with when there is more."""
        return min(position, self.ends.get(partition, position))


@dataclass
class Pace:
    """Slows down to so many events per second, over what was taken since it began to."""

    events_per_s: float
    _begun_s: float | None = None
    _events: int = 0

    def pause_s(self, events: int, now_s: float) -> float:
        """How long to wait after so many more events, at this time."""
        begun_s = now_s if self._begun_s is None else self._begun_s
        self._events += events
        due_s = begun_s + self._events / self.events_per_s
        # Time that was idle is not made up for.
        self._begun_s = begun_s + max(now_s - due_s, 0.0)
        return max(due_s - now_s, 0.0)


@dataclass
class Forgotten:
    """Users of one partition who are to be forgotten, by key the offset of the last request that has not come yet."""

    coming: dict[bytes, int]

    @classmethod
    def from_offset(cls, last: Mapping[bytes, int], offset: int) -> Forgotten:
        """Of requests at `offset` or after it."""
        return cls({key: at for key, at in last.items() if at >= offset})

    def left(self, taken: Sequence[Taken]) -> list[Taken]:
        """Events without those of users who are forgotten later; to be called with all, in order."""
        if not self.coming:
            return list(taken)
        kept: list[Taken] = []
        for item in taken:
            if item.key not in self.coming:
                kept.append(item)
            elif is_forgetting(item) and item.offset >= self.coming[item.key]:
                del self.coming[item.key]
                kept.append(item)
        return kept


class ForgottenUsers:
    """Who is to be forgotten in the partitions of a worker that follows."""

    def __init__(self, following: Following | None, profiles: str) -> None:
        """`profiles` is the topic in which requests to forget a user stand."""
        self._last = {} if following is None else following.forgotten
        self._profiles = profiles
        self._by_partition: dict[int, Forgotten] = {}

    def begin(self, poll: Poll) -> None:
        """Look up who is to be forgotten, where the profiles of a partition begin to be read."""
        for tp, end in poll.reached().items() if self._last else ():
            if tp.topic == self._profiles and tp.partition not in self._by_partition:
                records = poll.records.get(tp)
                last = self._last.get(tp.partition, {})
                self._by_partition[tp.partition] = Forgotten.from_offset(last, records[0].offset if records else end)

    def left(self, partition: int, taken: list[Taken]) -> list[Taken]:
        """See `Forgotten.left`."""
        found = self._by_partition.get(partition)
        return taken if found is None else found.left(taken)

    def clear(self) -> None:
        self._by_partition.clear()


def with_early(intake: Intake, batch: Sequence[Record], good: list[Taken], bad: Sequence[DeadLetter]) -> list[Taken]:
    """The events of a batch with those that are in the future by this worker's clock: by that of whom it follows they
    may not be, and the journal tells."""
    early = {letter.offset for letter in bad if letter.reason == IN_THE_FUTURE}
    if not early:
        return good
    found = [intake.take(record, NO_CLOCK_MS) for record in batch if record.offset in early]
    return sorted([*good, *(item for item in found if isinstance(item, Taken))], key=lambda item: item.offset)
