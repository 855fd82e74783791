"""The lenders of a run: producers that send one by one, late, twice, and in transactions, some of which they abort.

What the topics hold afterwards, and not what was meant to be sent, is what the oracle goes by.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from aiokafka import AIOKafkaProducer

from bench.chaos.plan import Plan
from events.types import KINDS, KeyedEvent, keyed
from model.datasets.simulator.arrivals import delivered
from model.datasets.sources import open_dataset
from stream.kafka.clients import aiokafka_producer
from stream.kafka.connection import KafkaConnection
from stream.kafka.publisher import partition_of
from stream.settings import Settings

MONTHS = 24
CAREFUL_EVERY = 10
"""One record in so many goes through the producer that uses transactions."""

IN_DOUBT = 5
"""Records of one transaction; each set of them is sent twice, aborted first."""


def arrivals(plan: Plan) -> list[KeyedEvent]:
    """The events of a run in the order in which producers get them."""
    dataset = open_dataset("simulator", users=plan.users, months=MONTHS, seed=plan.seed)
    events = delivered(keyed(dataset.events()), plan.seed, plan.late_share, plan.twice_share)
    return list(itertools.islice(events, plan.events))


@contextmanager
def feeding(kafka: KafkaConnection, settings: Settings, plan: Plan) -> Iterator[threading.Event]:
    """Send the events of a run from a thread. The event given is set when all are sent; leaving waits for it.

    The backlog has been sent when the context begins.
    """
    events = arrivals(plan)
    backlog = round(len(events) * plan.backlog_share)
    feed = _Feed(kafka, settings, plan)
    asyncio.run(feed.send_all(events[:backlog], live=False))
    done = threading.Event()

    def send() -> None:
        try:
            asyncio.run(feed.send_all(events[backlog:], live=True))
        finally:
            done.set()

    thread = threading.Thread(target=send, name="feed")
    thread.start()
    try:
        yield done
    finally:
        thread.join()


class _Feed:
    def __init__(self, kafka: KafkaConnection, settings: Settings, plan: Plan) -> None:
        self._kafka = kafka
        self._settings = settings
        self._plan = plan
        self._chance = random.Random(plan.seed)

    async def send_all(self, events: Sequence[KeyedEvent], *, live: bool) -> None:
        transactional_id = f"lender-{self._settings.application_id}"
        producers = [aiokafka_producer(self._kafka, linger_ms=0) for _ in range(2)]
        careful = aiokafka_producer(self._kafka, transactional_id=transactional_id)
        try:
            await asyncio.gather(*(producer.start() for producer in (*producers, careful)))
            in_doubt: list[KeyedEvent] = []
            async for number, event in self._in_time(events, live=live):
                if number % CAREFUL_EVERY:
                    await self._send(producers[number % 2], event)
                    continue
                in_doubt.append(event)
                if len(in_doubt) == IN_DOUBT:
                    await self._send_in_doubt(careful, in_doubt)
                    in_doubt = []
            if in_doubt:
                await self._send_in_doubt(careful, in_doubt)
        finally:
            await asyncio.gather(*(producer.stop() for producer in (*producers, careful)))

    async def _in_time(self, events: Sequence[KeyedEvent], *, live: bool) -> AsyncIterator[tuple[int, KeyedEvent]]:
        """Numbers and events when their time has come; at once where they are a backlog."""
        plan, chance = self._plan, self._chance
        delay_s = {kind: chance.uniform(0, plan.topic_skew_s) for kind in KINDS}
        due = sorted(
            (number / plan.events_per_s + delay_s[event[0]] + chance.expovariate(1 / plan.jitter_s), number)
            for number, event in enumerate(events)
        )
        begun_s = time.monotonic()
        for at_s, number in due:
            if live:
                await asyncio.sleep(max(at_s - (time.monotonic() - begun_s), 0))
            yield number, events[number]

    async def _send_in_doubt(self, careful: AIOKafkaProducer, events: Sequence[KeyedEvent]) -> None:
        for commits in (False, True):
            await careful.begin_transaction()
            for event in events:
                await self._send(careful, event)
            await (careful.commit_transaction() if commits else careful.abort_transaction())

    async def _send(self, producer: AIOKafkaProducer, event: KeyedEvent) -> None:
        kind, key, value, _ = event
        partition = partition_of(key, self._settings.partitions)
        await producer.send(self._settings.topics.of_kind(kind), value, key=key, partition=partition)
