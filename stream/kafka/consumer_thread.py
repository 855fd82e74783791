"""Faust's consumer thread for batches: fetches on demand, from where a group's offsets are, and changelogs by a fast
reader.

What is done with a poll, and when one is wanted, is `stream.kafka.transport`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import aiokafka
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.kafka.changelog import ChangelogReader, Unreadable
from stream.kafka.connection import BrokerAddress
from stream.kafka.demand import Demand
from stream.kafka.earlier_records import EarlierRecords, holds, joined
from stream.kafka.faust_app import App
from stream.kafka.lineage import Committed
from stream.kafka.poll import Fetched
from stream.kafka.reconnection import Reconnection
from stream.kafka.record import RawRecord
from stream.logs import ToldInFull

logger = logging.getLogger("foreshock.transport")

IDLE_POLL_S = 0.1
"""A poll without records returns after this time, as an empty poll; it is the clock tick of the worker's timeouts."""

FETCH_MAX_WAIT_MS = 20
"""How long the broker holds a fetch open while there is no record. With Faust's own 1,500 ms, the end of a topic would
stay unknown for as long."""


def _record_of(_: PartitionRecords, tp: TopicPartition, record: Any) -> RawRecord:
    return RawRecord(
        tp.topic, tp.partition, record.offset, record.timestamp, record.key, record.value, record.headers or ()
    )


# For every record aiokafka creates an object of eleven fields. That takes three times as long as parsing the record and
# holds the interpreter lock, which the scoring thread needs. This process reads only these seven fields.
PartitionRecords._consumer_record = _record_of


def fetch_on_demand(fetcher: Any, polls: Demand) -> None:
    """Delay each fetch request of an aiokafka fetcher until a poll waits for its response.

    aiokafka sends the next request as soon as a poll has taken the last response. The broker answers at the first
    event, so the response would hold one event, and those that arrive during scoring would wait for the next request.
    """
    fetch = fetcher._proc_fetch_request

    async def fetch_when_polled(*request: Any) -> Any:
        try:
            await polls.wait()
        except asyncio.CancelledError:
            return False  # as the original does: its canceller awaits it and expects no exception
        return await fetch(*request)

    fetcher._proc_fetch_request = fetch_when_polled


def _note_reset(
    self: TopicPartitionState,
    position: int,
    reset: Any = TopicPartitionState.reset_to,  # the original
) -> None:
    """Count how often aiokafka moves a consumer by itself: from an offset that the topic does not have."""
    self.resets = _resets(self) + 1
    reset(self, position)


def _resets(state: TopicPartitionState) -> int:
    return getattr(state, "resets", 0)


TopicPartitionState.reset_to = _note_reset


class OffsetNotThere(ToldInFull):
    """A committed offset lies behind the end of its topic; the message says where, why that may be, and what to do."""


def start_of(tp: Any, committed: int | None, begin: int, end: int) -> int:
    """Where to read a partition from, whose records are those from `begin` up to before `end`.

    Says in the log when retention has taken records away that were never read. Raises `OffsetNotThere`.
    """
    if committed is None:
        return begin
    if committed > end:
        raise OffsetNotThere(
            f"{tp.topic}-{tp.partition} ends at offset {end}, but the group has committed {committed}: the topic was "
            "deleted and made anew, or has lost its end. The states hold events that it does not, and skip what has "
            "offsets that they have read: start under another application_id"
        )
    if committed < begin:
        logger.error(
            "%s-%d: %d records from offset %d on were deleted before they were read (retention); going on at %d",
            tp.topic,
            tp.partition,
            begin - committed,
            committed,
            begin,
            extra={"topic": tp.topic, "partition": tp.partition, "offset": begin, "deleted": begin - committed},
        )
        return begin
    return committed


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, with fetches on demand, the lag of each partition, and fast reading of changelogs.

    While only changelogs are polled, `ChangelogReader` reads them from the consumer's position and advances it.
    """

    _changelogs: ChangelogReader | None = None
    _reads_changelogs = True
    _reconnection: Reconnection | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._polls = Demand()
        self._left_alone: set[TP] = set()
        """Partitions of which only what `earlier_records` has is read."""

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        consumer._isolation_level = "read_committed"
        self._reconnection = Reconnection(consumer._client)
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        if self._consumer is not None:
            fetch_on_demand(self._consumer._fetcher, self._polls)

    @property
    def unreachable_s(self) -> float:
        """Seconds since a broker last answered, 0 while one does."""
        return 0.0 if self._reconnection is None else self._reconnection.unreachable_s

    def lag(self, tp: TP) -> int | None:
        """How many records of `tp` the broker would give after the last one polled; None while that is not known.

        What stands behind the beginning of a transaction that is still open does not count: it cannot be read yet.
        """
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None or driver.ensure_aiokafka_TP(tp) not in assignment.tps:
            return None
        state = assignment.state_value(driver.ensure_aiokafka_TP(tp))
        if state is None or not state.has_valid_position:
            return None
        if self._earlier is not None and (tp in self._left_alone or holds(self._earlier, tp, state.position)):
            return max(self._earlier.span(tp)[1] - int(state.position), 0)
        return None if state.lso is None else max(int(state.lso) - int(state.position), 0)

    @property
    def _earlier(self) -> EarlierRecords | None:
        return cast(App, self.app).earlier_records

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go to where the group's next offsets are, in each assigned input partition, or to its beginning.

        Returns those positions. aiokafka's own leaves a partition without a committed offset where it stands.
        """
        return cast(Mapping[TP, int], await self.call_thread(self._seek_to_committed))

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        inputs = [tp for tp in consumer.assignment() if not self.consumer._is_changelog_tp(tp)]
        if not inputs:
            return {}
        # Before the ends are asked: while events arrive, a former owner's last commit may be of some that came after.
        committed = {tp: await consumer.committed(tp) for tp in inputs}
        spans = await self._spans(inputs)
        positions = {TP(tp.topic, tp.partition): start_of(tp, committed[tp], *spans[tp]) for tp in inputs}
        self._go_to(positions)
        return positions

    async def _spans(self, tps: Collection[Any]) -> dict[Any, tuple[int, int]]:
        """The first offset of each partition, and the one after its last."""
        consumer = self._ensure_consumer()
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        found = {}
        for each in tps:
            tp = TP(each.topic, each.partition)
            begin, end, is_left_alone = joined(self._earlier, tp, begins[each], ends[each])
            found[each] = begin, end
            (self._left_alone.add if is_left_alone else self._left_alone.discard)(tp)
        return found

    async def committed_offsets(self, partitions: Collection[TP]) -> Mapping[TP, Committed]:
        """The group's offsets, and what was kept with them; to be called in this thread."""
        asked = [driver.ensure_aiokafka_TP(tp) for tp in partitions]
        found = await self._ensure_consumer()._coordinator.fetch_committed_offsets(asked)
        return {
            TP(tp.topic, tp.partition): Committed(kept.offset, kept.metadata)
            for tp, kept in found.items()
            if kept.offset >= 0
        }

    async def start_again(self, tp: TP, expected: int) -> int:
        """Where to go on in a partition that does not give the records from `expected` on, by what it holds now.

        Raises `OffsetNotThere` where it ends before that.
        """
        return cast(int, await self.call_thread(self._start_again, tp, expected))

    async def _start_again(self, tp: TP, expected: int) -> int:
        at = driver.ensure_aiokafka_TP(tp)
        return start_of(at, expected, *(await self._spans([at]))[at])

    async def seek_back(self, positions: Mapping[TP, int]) -> None:
        """Go to `positions`, in those of the partitions that are still assigned."""
        await self.call_thread(self._seek_assigned, positions)

    async def _seek_assigned(self, positions: Mapping[TP, int]) -> None:
        assigned = self._ensure_consumer().assignment()
        self._go_to({tp: at for tp, at in positions.items() if driver.ensure_aiokafka_TP(tp) in assigned})

    def _go_to(self, positions: Mapping[TP, int]) -> None:
        for tp, position in positions.items():
            self._ensure_consumer()._fetcher.seek_to(driver.ensure_aiokafka_TP(tp), position)

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[Any, Any]:
        wanted = {driver.ensure_aiokafka_TP(tp) for tp in active_partitions or ()}  # None in an app that only produces
        if self._reads_changelogs and wanted and all(map(self.consumer._is_changelog_tp, wanted)):
            try:
                return await self._read_changelogs(consumer, wanted)
            except (Unreadable, OSError) as error:
                if self.should_stop:
                    return {}
                self._reads_changelogs = False
                logger.warning("recovery goes on record by record: %s: %s", type(error).__name__, error)
        self._stop_reading()
        if self._earlier is None:
            return await self._fetch_from_topics(consumer, wanted, timeout, max_records)
        elsewhere = self._held_elsewhere(consumer, self._earlier)
        consumer.pause(*elsewhere)  # or the consumer would fetch them as well
        found = {}
        if self.consumer.flow_active:
            found = await self._read_earlier(consumer, {tp: elsewhere[tp] for tp in wanted & elsewhere.keys()})
        if wanted - elsewhere.keys():
            wait_s = 0 if found else timeout
            found |= await self._fetch_from_topics(consumer, wanted - elsewhere.keys(), wait_s, max_records)
        elif not found:
            await asyncio.sleep(IDLE_POLL_S)
        return found

    def _held_elsewhere(self, consumer: aiokafka.AIOKafkaConsumer, earlier: EarlierRecords) -> dict[Any, int]:
        """Positions of those assigned partitions that are not to be read from their topics now."""
        found = {}
        for each, state in self._states(consumer, consumer.assignment()).items():
            tp = TP(each.topic, each.partition)
            if tp in self._left_alone or holds(earlier, tp, state.position):
                found[each] = state.position
        return found

    async def _read_earlier(self, consumer: aiokafka.AIOKafkaConsumer, positions: Mapping[Any, int]) -> dict[Any, Any]:
        """Read the next of `earlier_records` at these positions."""
        earlier = self._earlier
        assert earlier is not None
        asked = {TP(tp.topic, tp.partition): at for tp, at in positions.items()}
        held = {tp: at for tp, at in asked.items() if holds(earlier, tp, at)}
        if not held:
            return {}
        read = await asyncio.to_thread(earlier.read, held)
        found = {driver.ensure_aiokafka_TP(tp): fetched for tp, fetched in read.items()}
        now = self._states(consumer, found)
        if any(tp not in now or now[tp].position != fetched.start for tp, fetched in found.items()):
            return {}  # partitions were reassigned or sought meanwhile
        for tp, fetched in found.items():
            now[tp].consumed_to(fetched.end)
        return found

    async def _fetch_from_topics(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        wanted: set[Any],
        timeout: float | None,
        max_records: int | None,
    ) -> dict[Any, Any]:
        consumer.resume(*(wanted & consumer.paused()))
        active_partitions = {TP(tp.topic, tp.partition) for tp in wanted}
        before = {tp: (state, state.position, _resets(state)) for tp, state in self._states(consumer, wanted).items()}
        self._polls.begin()
        try:
            records = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        finally:
            self._polls.end()
        found: dict[Any, Fetched] = {}
        for tp, state in self._states(consumer, wanted).items():
            was, start, resets = before.get(tp, (None, None, 0))
            if was is not state or resets != _resets(state):
                start = None
            if tp in records or (start is not None and state.position != start):
                # Without a start that is known, whoever expects one will see that it is another.
                found[tp] = Fetched(records.get(tp, ()), -1 if start is None else start, state.position)
        return found

    async def _read_changelogs(self, consumer: aiokafka.AIOKafkaConsumer, wanted: set[Any]) -> Mapping[Any, Any]:
        cluster = consumer._client.cluster

        def leader_of(tp: Any) -> BrokerAddress:
            broker = cluster.broker_metadata(cluster.leader_for_partition(tp))
            if broker is None:
                raise Unreadable(f"{tp.topic}-{tp.partition} has no leader")
            return BrokerAddress(broker.host, broker.port)

        states = self._states(consumer, wanted)
        if not self.consumer.flow_active or not states:
            await asyncio.sleep(IDLE_POLL_S)
            return {}
        consumer.pause(*states)  # or the consumer would fetch them as well
        self._changelogs = self._changelogs or ChangelogReader(leader_of, cast(App, self.app).connection)
        found = await self._changelogs.read({tp: state.position for tp, state in states.items()})
        now = self._states(consumer, found)
        if any(tp not in now or now[tp].position != block.start for tp, block in found.items()):
            for block in found.values():
                block.release()
            return {}  # partitions were reassigned or sought meanwhile
        for tp, block in found.items():
            now[tp].consumed_to(block.next_offset)
        return found

    @staticmethod
    def _states(consumer: aiokafka.AIOKafkaConsumer, tps: Iterable[Any]) -> dict[Any, Any]:
        """aiokafka's state of those of the partitions that are assigned and have a position."""
        subscription = consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return {}
        states = {tp: assignment.state_value(tp) for tp in tps if tp in assignment.tps}
        return {tp: state for tp, state in states.items() if state.has_valid_position}

    def _stop_reading(self) -> None:
        if self._changelogs is not None:
            self._changelogs.close()
            self._changelogs = None

    async def on_thread_stop(self) -> None:
        self._stop_reading()
        await super().on_thread_stop()

    def _stopped_set(self) -> None:
        try:
            super()._stopped_set()
        except RuntimeError:
            # The thread has crashed already, and closed its loop: nobody in it waits for this any more.
            if not self.thread_loop.is_closed():
                raise
            self._stopped.set()
