"""What a worker does in each of its partitions: it leads, follows another application, or leaves the partition alone.

Whoever leads decides the order of events and publishes what is live. An application that follows becomes the one that
leads where the order journal hands over to it; the one before leaves the partition alone from there on. Which it is
after a restart is kept with the offsets (`stream.kafka.lineage`). Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from enum import Enum

from faust.types import TP

from events.types import KINDS
from stream.kafka.lineage import FOLLOWING, WATCHING, Committed, HandedOver, Leader, Standing
from stream.scoring.order_journal import OrderRecord
from stream.topics import OutputTopics
from stream.worker.following import Following

_NOTHING = (0,) * len(KINDS)


def is_in_force(committed: Sequence[Committed | None], record: OrderRecord, *, has_returned: bool = False) -> bool:
    """Whether the giver's offsets, by kind, say of a record that tells of a hand-over that it is the one by which the
    giver has ended; or that the giver `has_returned` since, and follows the taker.

    A giver that has returned reads on, and waits for the taker: its offsets are beyond the record's only as far as
    there is nothing to be taken. That goes for an earlier hand-over to the same taker, too.
    """
    told = record.hand_over
    if told is None:
        return False
    for one, end in zip(committed, record.ends, strict=True):
        if one is None:
            return False
        standing = Standing.of(one.lineage)
        holds = standing.follows == told.taker if has_returned else standing.handed_to == told.taker
        if not holds or (one.offset < end if has_returned else one.offset != end):
            return False
    return True


class Role(Enum):
    """Of a worker in one partition."""

    LEADS = "leads"
    FOLLOWS = "follows"
    GAVE_UP = "gave up"


class Roles:
    """The roles of a worker's partitions, and where outputs go accordingly."""

    def __init__(
        self, led: OutputTopics, following: Following | None = None, followed: OutputTopics | None = None
    ) -> None:
        """`led` and `followed` are the outputs of partitions where this worker leads and where it follows."""
        self.following = following
        self._led = led
        self._followed = followed or OutputTopics()
        if following is not None and following.takes_over:
            # Its own journal is to be whole: whoever follows it later needs no other.
            self._followed = replace(self._followed, order=led.order)
        self._by_partition: dict[int, Role] = {}
        self._begins: dict[int, Sequence[int]] = {}

    @property
    def leader(self) -> Leader | None:
        """Who is followed."""
        return None if self.following is None else Leader(self.following.leader, self.following.order_topic)

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics that outputs may go to."""
        led = self._led.all if self.following is None or self.following.takes_over else ()
        return tuple(dict.fromkeys((*led, *(() if self.following is None else self._followed.all))))

    def begin(self, partitions: Collection[int], committed: Mapping[TP, Committed], inputs: Sequence[str]) -> None:
        """Take the roles in exactly these partitions that the group's offsets of the input topics tell.

        Raises `HandedOver` where another application has taken one over than is followed.
        """
        self._by_partition, self._begins = {}, {}
        for partition in partitions:
            found = [committed.get(TP(topic, partition)) for topic in inputs]
            self._by_partition[partition] = self._role([one for one in found if one is not None])
            self._begins[partition] = [0 if one is None else one.offset for one in found]

    def _role(self, committed: Sequence[Committed]) -> Role:
        standings = [Standing.of(one.lineage) for one in committed]
        taker = next((found.handed_to for found in standings if found.handed_to is not None), None)
        if self.following is None:
            return Role.LEADS if taker is None else Role.GAVE_UP
        if taker not in (None, self.following.leader):
            raise HandedOver(f"a partition was handed over to {taker}, and not to {self.following.leader}")
        is_new = not committed
        follows = is_new or taker is not None or any(found.follows for found in standings)
        return Role.FOLLOWS if follows or not self.following.takes_over else Role.LEADS

    def __getitem__(self, partition: int) -> Role:
        role = self._by_partition.get(partition)
        if role is None:
            return Role.LEADS if self.following is None else Role.FOLLOWS
        return role

    def given_up(self) -> frozenset[int]:
        """Partitions that are left alone."""
        return frozenset(partition for partition, role in self._by_partition.items() if role is Role.GAVE_UP)

    def lead(self, partition: int) -> None:
        """Lead in a partition from now on."""
        self._by_partition[partition] = Role.LEADS

    def begins(self, partition: int) -> Sequence[int]:
        """By kind, the offsets from which on this worker reads a partition."""
        return self._begins.get(partition, _NOTHING)

    def outputs(self, partition: int) -> OutputTopics:
        """Where outputs of a partition go."""
        return self._followed if self[partition] is Role.FOLLOWS else self._led

    def mark(self, partition: int) -> str:
        """What is to be kept with the offsets of a partition."""
        if self.following is None or self[partition] is not Role.FOLLOWS:
            return ""
        return f"{FOLLOWING if self.following.takes_over else WATCHING}{self.following.leader}"
