"""Hands partitions over from the application that leads to one that follows it: `replay promote` and `replay rollback`.

For each partition, one transaction of the application that gives: with its own transactional ids, so that what its
workers have open is aborted, a record at the end of its order journal, and a mark with its offsets. Before that is
committed nothing has changed, and its workers go on when they are started again. After that they leave the partition
alone, and the workers of the other application lead from there on, when they come to that record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiokafka.errors import ProducerFenced

from stream.hand_over.alerts import AlertReader
from stream.hand_over.fence import Fence
from stream.hand_over.situation import HandOverRefused, Situation
from stream.kafka.connection import KafkaConnection
from stream.kafka.lineage import Committed, changelog_offset_in, committed_by
from stream.kafka.provisioning import answering_admin
from stream.kafka.topic_reader import TopicReader
from stream.replay.plan import PROFILES
from stream.scoring.order_journal import OrderRecord, hand_over_records
from stream.topics import Topics

LOOK_EVERY_S = 0.2
ATTEMPTS = 5
SETTLE_S = 10.0

logger = logging.getLogger("foreshock.hand_over")

OnProgress = Callable[[Situation], None]


@dataclass(frozen=True)
class HandedOverPartitions:
    """`given` partitions were handed over by this call, with so many `alerts`; at most `pause_s` seconds went by from
    the giver's last transaction to the first one of the taker. In `returned` partitions the giver's workers follow the
    taker by now."""

    given: frozenset[int]
    alerts: int
    pause_s: float
    returned: frozenset[int] = frozenset()


def look(kafka: KafkaConnection, topics: Topics, giver: str, taker: str, partitions: int) -> Situation:
    """How the hand-over stands. Raises `HandOverRefused`, `ProvisioningError`."""
    given, taken = committed_by(kafka, giver), committed_by(kafka, taker)
    return Situation.of(giver, taker, topics.inputs, partitions, given, taken)


def require_workers(kafka: KafkaConnection, group: str) -> None:
    """Raises `HandOverRefused` where no worker of a group runs: nobody would go on."""
    with answering_admin(kafka) as admin:
        states = {found["group_id"]: found.get("group_state") for found in admin.list_groups()}
    if states.get(group, "Dead") in ("Empty", "Dead"):
        raise HandOverRefused(f"no worker of {group} runs: start them first, nobody would go on otherwise")


def require_history(kafka: KafkaConnection, topics: Topics, partitions: int) -> None:
    """Raises `HandOverRefused` where the beginning of an input topic is gone, which a model that was begun since then
    has never seen."""
    with TopicReader(kafka) as reader:
        lost = {
            topic: begins
            for number, topic in enumerate(topics.inputs)
            if number != PROFILES and any(begins := [reader.span(topic, p)[0] for p in range(partitions)])
        }
    if lost:
        raise HandOverRefused(
            f"retention has taken the beginning of {', '.join(lost)}: states of a model that began after that lack it, "
            "and the sequence numbers of its scores are smaller than those of the model before. If that is known and "
            "right: --with-shorter-history"
        )


class Promotion:
    """Hands over from `giver` to `taker`; the same call again goes on where one was interrupted."""

    def __init__(
        self,
        kafka: KafkaConnection,
        topics: Topics,
        giver: str,
        taker: str,
        partitions: int,
        on_progress: OnProgress = lambda _: None,
        on_reading: Callable[[int], None] = lambda _left: None,
    ) -> None:
        """`on_progress` gets how it stands, `on_reading` how many rows of the giver are left to be read for alerts."""
        self._kafka = kafka
        self._topics = topics
        self._giver = giver
        self._taker = taker
        self._partitions = partitions
        self._on_progress = on_progress
        self._on_reading = on_reading

    def look(self) -> Situation:
        return look(self._kafka, self._topics, self._giver, self._taker, self._partitions)

    def run(self, most_behind: int, timeout_s: float) -> HandedOverPartitions:
        """Read the giver's alerts, wait until the taker is at most so many offsets behind in each partition, hand over,
        and wait until it leads.

        Raises `HandOverRefused`, also where one of the two takes longer than `timeout_s`, and what reading raises.
        """
        pending = self.look().pending
        alerts, pause_s = 0, 0.0
        if pending:
            require_workers(self._kafka, self._taker)
            reader = AlertReader(
                self._kafka, self._topics.changelog(self._giver), self._topics.order(self._giver), pending
            )
            try:
                reader.read(self._on_reading)
                deadline_s = time.monotonic() + timeout_s
                self._await_catching_up(most_behind, deadline_s)
                reader.read(self._on_reading)
                began_s = time.monotonic()
                asyncio.run(self._hand_over(reader, pending))
                self._await_lead(deadline_s)
                pause_s = time.monotonic() - began_s
                alerts = sum(map(len, reader.alerts.values()))
            finally:
                reader.close()
        else:
            self._await_lead(time.monotonic() + timeout_s)
        return HandedOverPartitions(pending, alerts, pause_s, self.look().returned)

    def _await_catching_up(self, most_behind: int, deadline_s: float) -> None:
        while True:
            found = self.look()
            self._on_progress(found)
            worst = max(found.behind.values(), default=0)
            if worst <= most_behind:
                return
            if time.monotonic() > deadline_s:
                raise HandOverRefused(
                    f"{self._taker} is still {worst:,} events behind {self._giver} in a partition; wait until it has "
                    "caught up, and try again"
                )
            time.sleep(LOOK_EVERY_S)

    def _await_lead(self, deadline_s: float) -> None:
        while True:
            found = self.look()
            self._on_progress(found)
            waiting = sorted(set(range(self._partitions)) - found.led)
            if not waiting:
                return
            if time.monotonic() > deadline_s:
                raise HandOverRefused(
                    f"{self._giver} has handed over, but no worker of {self._taker} leads yet in partitions {waiting}: "
                    "see that they run; they go on by themselves"
                )
            time.sleep(LOOK_EVERY_S)

    async def _hand_over(self, reader: AlertReader, pending: frozenset[int]) -> None:
        left = pending
        for _ in range(ATTEMPTS):
            left = await self._attempt(reader, left)
            if not left:
                return
            logger.info("partitions %s: their workers came back first; once more", sorted(left))
        raise HandOverRefused(
            f"partitions {sorted(left)} could not be handed over: workers of {self._giver} take them back again and "
            "again. What was handed over is; stop these workers and try again"
        )

    async def _attempt(self, reader: AlertReader, partitions: frozenset[int]) -> frozenset[int]:
        """Hand partitions over; returns those whose workers came first."""
        fences = {partition: Fence(self._kafka, self._giver, partition) for partition in sorted(partitions)}
        try:
            await asyncio.gather(*(fence.put_up() for fence in fences.values()))
            records, ends = await asyncio.to_thread(self._last_records, reader, partitions)
            order = self._topics.order(self._giver)
            done = await asyncio.gather(
                *(fence.hand_over(self._taker, order, records[p], ends[p]) for p, fence in fences.items()),
                return_exceptions=True,
            )
        finally:
            await asyncio.gather(*(fence.take_down() for fence in fences.values()), return_exceptions=True)
        for error in done:
            if error is not None and not isinstance(error, ProducerFenced):
                raise error
        return frozenset(partition for partition, error in zip(fences, done, strict=True) if error is not None)

    def _last_records(
        self, reader: AlertReader, partitions: frozenset[int]
    ) -> tuple[dict[int, list[bytes]], Mapping[int, Mapping[str, Committed]]]:
        """What to write into the giver's journal, and its offsets, by partition; it is final by now."""
        reader.read()
        ends = self._settled(reader, partitions)
        records: dict[int, list[bytes]] = {}
        for partition in partitions:
            own = ends[partition]
            changelog = max(changelog_offset_in(kept.lineage) for kept in own.values())
            if reader.positions()[partition] <= changelog:
                raise HandOverRefused(
                    f"the changelog of {self._giver} ends before what its offsets of partition {partition} stand for"
                )
            offsets = [own[topic].offset for topic in self._topics.inputs]
            told = hand_over_records(offsets, self._giver, self._taker, reader.alerts[partition])
            records[partition] = [record.encode() for record in told]
        return records, ends

    def _settled(self, reader: AlertReader, partitions: frozenset[int]) -> Mapping[int, Mapping[str, Committed]]:
        """The giver's offsets, not older than its journal: a broker may show those of its last transaction late."""
        deadline_s = time.monotonic() + SETTLE_S
        while True:
            ends = self.look().ends
            if all(self._is_settled(ends[p], reader.last_order.get(p)) for p in partitions):
                return ends
            if time.monotonic() > deadline_s:
                raise HandOverRefused(f"the offsets of {self._giver} are older than its order journal; try again")
            time.sleep(LOOK_EVERY_S)

    def _is_settled(self, ends: Mapping[str, Committed], last: bytes | None) -> bool:
        if not last:
            return True
        told = OrderRecord.decode(last).ends
        return all(ends[topic].offset >= end for topic, end in zip(self._topics.inputs, told, strict=True))
