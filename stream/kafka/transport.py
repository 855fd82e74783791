"""A Faust transport driver for batches: all records of a poll pass through Faust as one message.

Faust does much work per message; here it does so once per poll instead of once per record. Offsets do not follow
Faust's count of finished messages: the code that has made an event's effects durable moves them, by `Consumer.advance`.
Selected by the broker URL `foreshock://host:port`. Knows nothing of what the records mean.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import aiokafka
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from mode import Service
from mode.utils.futures import notify

from stream.kafka.changelog import Block
from stream.kafka.clients import require_access
from stream.kafka.connection import KafkaConnection
from stream.kafka.consumer_thread import IDLE_POLL_S, ConsumerThread, OffsetNotThere
from stream.kafka.demand import Demand
from stream.kafka.faust_app import App
from stream.kafka.lineage import Committed
from stream.kafka.loop_thread import LoopThread
from stream.kafka.poll import Fetched, Poll
from stream.kafka.reconnection import BrokersUnreachable, Reconnection
from stream.kafka.record import Record
from stream.kafka.record_batches import send_records
from stream.kafka.refusal import BrokerRefuses
from stream.kafka.stall import StallWatch
from stream.kafka.transactions import Transactions

TRANSACTION_TIMEOUT_MS = 60_000
"""After this time the broker aborts a transaction that nobody has completed: until then a partition whose worker has
ended, and that no other takes over, shows readers of committed records nothing that came after it."""

ASTRAY_POLLS = 3
"""After so many polls in a row that do not go on where a partition must, the broker is asked what it holds."""

REACHABLE_EVERY_S = 0.5
"""How often a consumer looks whether brokers can be reached."""


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
        """Where the next records of each input partition must begin, so that none is left out and none comes twice.
        Those of others are not read."""
        self._rebalances = 0
        """How often partitions were revoked or assigned."""
        self._is_rebalancing = False
        """Whether partitions were revoked, and those that are assigned then are not taken over yet. Faust's `app` does
        not tell: a recovery that a rebalance overtakes says at its end that none is under way."""
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
        if wanted is not None:
            # During a rebalance Faust polls inputs, then seeks to the committed offsets (if there are any), and then
            # empties the queues of its streams: records polled until then would never be scored.
            inputs = set() if self.app.rebalancing else self._expected.keys()
            wanted = {tp for tp in wanted if tp in inputs or self._is_changelog_tp(tp)}
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
        self._rebalances += 1
        self._is_rebalancing = True
        await super().on_partitions_revoked(revoked)
        self._expect_nothing()
        self._astray.clear()
        self._lags = {}
        for tp in revoked:
            self._advanced.pop(tp, None)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._rebalances += 1
        self._expect_nothing()
        await super().on_partitions_assigned(assigned, generation_id)
        self._is_rebalancing = False

    def _expect_nothing(self) -> None:
        self._expected.clear()
        self._begun.clear()

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
        """Called by Faust at the end of a recovery: inputs may be read from there on.

        Not where a rebalance has overtaken that recovery: its partitions may be another's by now, and the states of
        those that are assigned next are not there. Then the seek at the end of the next recovery counts.
        """
        rebalances = self._rebalances
        try:
            found = dict(await self._thread.seek_to_committed())
        except OffsetNotThere as error:
            if self.on_failure is None:
                raise
            self.on_failure(error)
            return {}
        if self._is_rebalancing or rebalances != self._rebalances:
            return {}
        self._expected, self._begun = found, dict(found)
        return found

    async def _bring_back(self, astray: dict[TP, int]) -> None:
        """Seek to where each of these partitions must go on.

        Where that was in vain, the records are not there: retention has taken them, or the topic was made anew.
        """
        rebalances = self._rebalances
        for tp in [tp for tp in astray if self._astray[tp] >= ASTRAY_POLLS]:
            try:
                found = await self._thread.start_again(tp, astray[tp])
            except OffsetNotThere as error:
                if self.on_failure is None:
                    raise
                self.on_failure(error)
                continue
            if rebalances != self._rebalances:
                return  # where to go on is found anew
            self._expected[tp] = astray[tp] = found
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
            held = {tp: batch for tp, batch in inputs.items() if batch}
            poll = Poll(held, lagging, self._polled_epoch, ends, sum(self._lags.values()))
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
