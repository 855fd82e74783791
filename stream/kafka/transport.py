"""A Faust transport driver for batches: all records of a poll pass through Faust as one message.

Faust does much work per message; here it does so once per poll instead of once per record. Offsets do not follow
Faust's count of finished messages: the code that has made an event's effects durable moves them, by `Consumer.advance`.
 Selected by the broker URL `foreshock://host:port`. Knows nothing of what the records mean.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import aiokafka
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from mode import Service
from mode.utils.futures import notify

from stream.kafka.changelog import Block, ChangelogReader, Unreadable
from stream.kafka.clients import require_access
from stream.kafka.connection import BrokerAddress, KafkaConnection
from stream.kafka.demand import Demand
from stream.kafka.earlier_records import EarlierRecords, holds, joined
from stream.kafka.faust_app import App
from stream.kafka.lineage import Committed
from stream.kafka.loop_thread import LoopThread
from stream.kafka.poll import Fetched, Poll
from stream.kafka.reconnection import BrokersUnreachable, Reconnection
from stream.kafka.record import RawRecord, Record
from stream.kafka.record_batches import send_records
from stream.kafka.refusal import BrokerRefuses
from stream.kafka.stall import StallWatch
from stream.kafka.transactions import Transactions

logger = logging.getLogger("foreshock.transport")

IDLE_POLL_S = 0.1
"""A poll without records returns after this time, as an empty poll; it is the clock tick of the worker's timeouts."""

FETCH_MAX_WAIT_MS = 20
"""How long the broker holds a fetch open while there is no record. With Faust's own 1,500 ms, the end of a topic would
stay unknown for as long."""

TRANSACTION_TIMEOUT_MS = 60_000
"""After this time the broker aborts a transaction that nobody has completed: until then a partition whose worker has
ended, and that no other takes over, shows readers of committed records nothing that came after it."""

ASTRAY_POLLS = 3
"""After so many polls in a row that do not go on where a partition must, the broker is asked what it holds."""

REACHABLE_EVERY_S = 0.5
"""How often a consumer looks whether brokers can be reached."""


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


class OffsetNotThere(RuntimeError):
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


def _refused(connection: KafkaConnection) -> str:
    """Whether it is TLS or SASL that fails by now, for the end of a message: a password was changed, or a certificate
    has expired."""
    try:
        require_access(connection)
    except BrokerRefuses as error:
        return f"; {error}"
    return ""


class Consumer(driver.Consumer):
    """Delivers one message per poll; commits the offsets given to `advance`."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._demand = Demand()
        super().__init__(*args, **kwargs)
        self._advanced: dict[TP, int] = {}
        self._polled_generation = -1
        self.held: frozenset[TP] = frozenset()
        """Partitions to leave out of the next polls."""
        self.drain: Callable[[int], Awaitable[None]] | None = None
        """Awaited before partitions are revoked and before stopping: makes everything under way durable. Called with
        the new `epoch`: a poll of an earlier epoch must not be processed any more, because its records will be read
        again, by the next owner of the partitions, from the committed offsets."""
        self.epoch = 0
        """How often partitions have been revoked so far. (The group's generation starts again with a new group.)"""
        self._polled_epoch = 0
        self._expected: dict[TP, int] = {}
        """Where the next records of each input partition must begin, so that none is left out and none comes twice."""
        self._begun: dict[TP, int] = {}
        """Where partitions begin, until a poll has told: also that of an idle topic is to be committed, whose lag and
        whose topic's id nobody would know."""
        self._astray: Counter[TP] = Counter()
        """How often in a row a partition did not go on where it must."""
        self._lags: dict[TP, int] = {}
        self.longest_unreachable_s = math.inf
        self.on_failure: Callable[[Exception], None] | None = None
        """Called when this consumer cannot go on: offsets that a topic does not have, or no broker reached for
        `longest_unreachable_s`."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @Service.task
    async def _give_up_in_time(self) -> None:
        while not self.should_stop:
            await self.sleep(REACHABLE_EVERY_S)
            if self.on_failure is not None and self._thread.unreachable_s >= self.longest_unreachable_s:
                self.on_failure(
                    BrokersUnreachable(
                        f"no broker could be reached for {self.longest_unreachable_s:.0f} s (broker_timeout_s); what "
                        "was not committed will be read again. Start again when the brokers are back"
                        + await asyncio.to_thread(_refused, cast(App, self.app).connection)
                    )
                )
                return

    def advance(self, offsets: Mapping[TP, int]) -> None:
        """Mark everything before `offsets` (the next ones to read) as durable, so that it may be committed."""
        for tp, offset in offsets.items():
            if offset > self._advanced.get(tp, -1):
                self._advanced[tp] = offset

    async def committed_offsets(self, partitions: Collection[TP]) -> Mapping[TP, Committed]:
        """The group's offsets of these partitions, and what was kept with them; without those that have none."""
        found = await self._thread.call_thread(self._thread.committed_offsets, partitions)
        return cast(Mapping[TP, Committed], found)

    async def read_again(self, tp: TP, offset: int) -> None:
        """Go on at `offset` of a changelog partition, if it is still assigned."""
        await self._thread.seek_back({tp: offset})

    def taken(self) -> None:
        """Called when the worker has processed the last poll and waits for the next."""
        self._demand.begin()

    def lag(self) -> Mapping[TP, int]:
        """Lag in records, as of the last poll, of those assigned input partitions whose lag was known; from any
        thread."""
        return self._lags

    @property
    def unreachable_s(self) -> float:
        """Seconds since a broker last answered, 0 while one does; from any thread."""
        return self._thread.unreachable_s

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, list[Any]]:
        # Read here and not before the poll: a poll may wait for a whole rebalance before it fetches.
        self._polled_generation, self._polled_epoch = self.app.consumer_generation_id, self.epoch
        wanted = None if active_partitions is None else active_partitions - self.held
        if wanted is not None and self.app.rebalancing:
            # During a rebalance Faust polls inputs, then seeks to the committed offsets (if there are any), and then
            # empties the queues of its streams: records polled until then would never be scored.
            wanted = {tp for tp in wanted if self._is_changelog_tp(tp)}
        if wanted is not None and not wanted:
            await self.sleep(timeout)
            return {}
        return await super()._getmany(wanted, timeout)

    def ack(self, message: Message) -> bool:
        """Called by Faust when a message is finished. Moves no offset: see `advance`."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self._advanced) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._advanced.get(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        self._expected.clear()
        self._astray.clear()
        self._lags = {}
        for tp in revoked:
            self._advanced.pop(tp, None)

    async def wait_empty(self) -> None:
        """Called by Faust before a rebalance takes partitions away, and when stopping."""
        self.epoch += 1
        if self.drain is not None:
            await self.drain(self.epoch)
        self._unacked_messages.clear()
        await self.commit_and_end_transactions()

    def on_buffer_full(self, tp: TP) -> None:
        """Does nothing: `_drain_messages` waits for room, so no partition has to be paused."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Does nothing, see `on_buffer_full`."""

    async def _drain_messages(self, fetcher: Any) -> None:
        """Poll and deliver until stopped. Replaces a loop that makes four asyncio tasks per record."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._demand.wait()
                records, _ = await self._wait_next_records(IDLE_POLL_S)
                if self.should_stop or fetcher.should_stop:
                    return
                # What is not delivered here is read again: `_deliver` sees that it is missing.
                is_of_now = self._polled_generation == self.app.consumer_generation_id
                if self.flow_active and records is not None and is_of_now and self._polled_epoch == self.epoch:
                    await self._deliver(cast(Mapping[Any, Any], records))
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def seek_to_committed(self) -> Mapping[TP, int]:
        try:
            self._expected = dict(await self._thread.seek_to_committed())
            self._begun = dict(self._expected)
        except OffsetNotThere as error:
            if self.on_failure is None:
                raise
            self.on_failure(error)
            return {}
        return self._expected

    async def _bring_back(self, astray: dict[TP, int]) -> None:
        """Seek to where each of these partitions must go on.

        Where that was in vain, the records are not there: retention has taken them, or the topic was made anew.
        """
        for tp in [tp for tp in astray if self._astray[tp] >= ASTRAY_POLLS]:
            try:
                self._expected[tp] = astray[tp] = await self._thread.start_again(tp, astray[tp])
            except OffsetNotThere as error:
                if self.on_failure is None:
                    raise
                self.on_failure(error)
        await self._thread.seek_back(astray)

    async def _deliver(self, records: Mapping[Any, Fetched | Block]) -> None:
        """One message per changelog partition, then one for all partitions of input topics."""
        inputs: dict[TP, Sequence[Record]] = {}
        ends: dict[TP, int] = {}
        astray: dict[TP, int] = {}
        for aiokafka_tp, fetched in records.items():
            tp = TP(aiokafka_tp.topic, aiokafka_tp.partition)
            if self._is_changelog_tp(tp):
                block = fetched if isinstance(fetched, Block) else Block.of(fetched.records, fetched.start, fetched.end)
                await self._pass_on(tp, block.next_offset - 1, block)
            elif isinstance(fetched, Block) or fetched.start != self._expected.get(tp):
                # Something polled before was not delivered (a rebalance came between), or this was polled before a
                # seek. Before the first seek after a rebalance nothing is expected: that seek will come.
                if tp in self._expected:
                    astray[tp] = self._expected[tp]
                    self._astray[tp] += 1
            else:
                self._astray.pop(tp, None)
                inputs[tp], ends[tp] = fetched.records, fetched.end
                self._expected[tp] = fetched.end
        if astray:
            await self._bring_back(astray)
        assigned = [tp for tp in self._get_active_partitions() if not self._is_changelog_tp(tp)]
        if assigned:
            lags = {tp: self._thread.lag(tp) for tp in assigned}
            lagging = frozenset(tp for tp, lag in lags.items() if lag != 0)
            self._lags = {tp: lag for tp, lag in lags.items() if lag is not None}
            if any(inputs.values()):
                self._demand.end()
            ends, self._begun = {**self._begun, **ends}, {}
            poll = Poll({tp: batch for tp, batch in inputs.items() if batch}, lagging, self._polled_epoch, ends)
            await self._pass_on(assigned[0], -1, poll)

    async def _pass_on(self, tp: TP, offset: int, value: Any) -> None:
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            offset,
            0.0,
            0,
            [],
            None,
            value,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        await self.wait_first(self.callback(message), self.suspend_flow.wait())


class Producer(driver.Producer):
    """Adds sending many records of one partition as record batches, alone or in the partition's transactions."""

    transactions: Transactions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        limit_s = cast(App, self.app).stall_timeout_s
        self._sending = LoopThread("sending", lambda loop: StallWatch(loop, limit_s, "worker"))
        self.transactions = Transactions(self.app.conf.id, self._new_producer, self._sending.submit)

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"enable_idempotence": True, "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS}

    def _new_producer(self, transactional_id: str | None = None) -> aiokafka.AIOKafkaProducer:
        producer = super()._new_producer(transactional_id)
        Reconnection(producer.client)
        return producer

    async def on_stop(self) -> None:
        await self.transactions.stop()
        await self._sending.stop()
        await super().on_stop()

    async def send_records(
        self, topic: str, partition: int, records: Iterable[tuple[bytes | None, bytes | None]]
    ) -> list[Awaitable[Any]]:
        """Queue pairs of key and value for one partition, outside transactions; see `stream.kafka.record_batches`."""
        return await send_records(self._ensure_producer(), topic, partition, records)


class Transport(driver.Transport):
    """The driver of `foreshock://` broker URLs."""

    Consumer: ClassVar[type[Any]] = Consumer
    Producer: ClassVar[type[Any]] = Producer
    driver_version = f"foreshock on aiokafka={aiokafka.__version__}"


def consumer_of(app: Any) -> Consumer:
    """The app's consumer, typed."""
    return cast(Consumer, app.consumer)


def producer_of(app: Any) -> Producer:
    """The app's producer, typed."""
    return cast(Producer, app.producer)
