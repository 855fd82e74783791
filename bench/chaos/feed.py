"""The lenders of a run: producers that send one by one, late, twice, and in transactions, some of which they abort.

What the topics hold afterwards, and not what was meant to be sent, is what the oracle goes by: where the broker is away
for too long, a record may not get there, or get there twice.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from bench.chaos.plan import MOMENT_EVENTS, Plan
from events.types import EVENT_TYPES, KINDS, KeyedEvent, Kind, encode_event, keyed
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

HOT_USER = "hot"
HOT_SHARE = 0.9
HUGE_EVERY = 200
"""One bad record in so many has megabytes."""

HUGE_BYTES = 10_000_000
FORGETTING_EVERY = 30
"""One event in so many gives way to a tombstone of its user."""

RETRY_S = 0.5
Arrival = tuple[Kind, bytes, bytes | None, int]
"""Kind, key, value and event time of a record, None for a tombstone."""

SPARED = ((0.1, 40), (0.4, 5))
"""While the disturbances are not through, the last share of the live events is sent so many times slower."""


def arrivals(plan: Plan, partitions: int) -> list[Arrival]:
    """The events of a run in the order in which producers get them."""
    count = plan.events + (MOMENT_EVENTS if "one_moment" in plan.faults else 0)
    dataset = open_dataset("simulator", users=plan.users, months=MONTHS, seed=plan.seed)
    delivery = delivered(keyed(dataset.events()), plan.seed, plan.late_share, plan.twice_share)
    events = list(itertools.islice(delivery, count))
    if "hot_user" in plan.faults:
        events = [_renamed(event, HOT_USER) if number % 2 else event for number, event in enumerate(events)]
    if "hot_partition" in plan.faults:
        events = [_moved(event, partitions) for event in events]
    if "one_moment" in plan.faults:
        begin, end = moment_of(plan, len(events))
        at = msgspec.json.decode(events[begin][2], type=EVENT_TYPES[events[begin][0]]).occurred_at
        events[begin:end] = [_changed(event, occurred_at=at) for event in events[begin:end]]
    if "forgetting" in plan.faults:
        chance = random.Random(plan.seed)
        return [_tombstone(event) if chance.randrange(FORGETTING_EVERY) == 0 else event for event in events]
    return list(events)


def moment_of(plan: Plan, events: int) -> tuple[int, int]:
    """First of the events that come at one moment, and the one after the last: in the middle of those that arrive live.
    None where the plan has no such moment."""
    if "one_moment" not in plan.faults:
        return events, events
    begin = (events - MOMENT_EVENTS + round(events * plan.backlog_share)) // 2
    return max(begin, 0), min(max(begin, 0) + MOMENT_EVENTS, events)


def _tombstone(event: KeyedEvent) -> Arrival:
    """Forgets the event's user."""
    _, key, _, at_ms = event
    return "profiles", key, None, at_ms


def _changed(event: KeyedEvent, **fields: Any) -> KeyedEvent:
    kind, key, value, at_ms = event
    changed = msgspec.structs.replace(msgspec.json.decode(value, type=EVENT_TYPES[kind]), **fields)
    return kind, fields.get("user_id", key.decode()).encode(), encode_event(changed), at_ms


def _renamed(event: KeyedEvent, user_id: str) -> KeyedEvent:
    """The event as another user's; its id stays one of its own."""
    found = msgspec.json.decode(event[2], type=EVENT_TYPES[event[0]])
    return _changed(event, user_id=user_id, event_id=f"{found.event_id}@{found.user_id}"[-128:])


def _moved(event: KeyedEvent, partitions: int) -> KeyedEvent:
    """The event as that of a user on partition 0, but for some users."""
    user_id = event[1].decode()
    if random.Random(user_id).random() > HOT_SHARE:
        return event
    names = (f"{user_id}.{number}" for number in itertools.count())
    return _changed(event, user_id=next(name for name in names if partition_of(name.encode(), partitions) == 0))


def bad_records(chance: random.Random) -> Iterator[tuple[bytes | None, bytes]]:
    """Keys and values that are no events, for ever; none is a tombstone, which may have a meaning."""
    for number in itertools.count(1):
        if number % HUGE_EVERY == 0:
            yield b"u", bytes(HUGE_BYTES)
            continue
        yield chance.choice(
            [
                (b"u", chance.randbytes(chance.randint(1, 2_000))),
                (None, b"{}"),
                (b"\xff\xfe", b'{"event_id": "e"'),
                (b"u", b"[" * chance.randint(1, 50_000)),
                (b"other", b'{"event_id":"e","user_id":"u","occurred_at":"2024-01-01T00:00:00Z","kind":"session"}'),
                (b"u", b"x" * chance.choice([10, 65_537, 1_000_000])),
            ]
        )


@dataclass(frozen=True)
class Pace:
    """When live events come: the first after `begin`, and the last of them slowly until `finish`, so that some
    arrive whatever takes long meanwhile."""

    begin: threading.Event = field(default_factory=threading.Event)
    finish: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def at_once(cls) -> Pace:
        pace = cls()
        pace.begin.set()
        pace.finish.set()
        return pace


@contextmanager
def feeding(
    kafka: KafkaConnection, settings: Settings, plan: Plan, pace: Pace | None = None
) -> Iterator[threading.Event]:
    """Send the events of a run from a thread. The event given is set when all are sent; leaving waits for it.

    The backlog has been sent when the context begins; the rest follows as `pace` has it, by default at once. Raises at
    its end what ended the thread.
    """
    pace = pace or Pace.at_once()
    events = arrivals(plan, settings.partitions)
    backlog = round(len(events) * plan.backlog_share)
    feed = _Feed(kafka, settings, plan, moment_of(plan, len(events)), pace)
    asyncio.run(feed.send_all(events[:backlog], live=False))
    done = threading.Event()
    failed: list[Exception] = []

    def send() -> None:
        pace.begin.wait()
        try:
            asyncio.run(feed.send_all(events[backlog:], first=backlog, live=True))
        except Exception as error:
            failed.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=send, name="feed")
    thread.start()
    try:
        yield done
    finally:
        pace.begin.set()
        pace.finish.set()
        thread.join()
    if failed:
        raise failed[0]


class _Feed:
    def __init__(
        self, kafka: KafkaConnection, settings: Settings, plan: Plan, moment: tuple[int, int], pace: Pace
    ) -> None:
        self._pace = pace
        self._kafka = kafka
        self._settings = settings
        self._plan = plan
        self._moment = moment
        self._chance = random.Random(plan.seed)
        self._bad = bad_records(random.Random(plan.seed))
        self._careful: AIOKafkaProducer | None = None

    async def send_all(self, events: Sequence[Arrival], *, live: bool, first: int = 0) -> None:
        """Send `events`, the first of which has the number `first` in the run."""
        producers = [aiokafka_producer(self._kafka, linger_ms=0) for _ in range(2)]
        rude = aiokafka_producer(self._kafka, compression_type="gzip", max_request_size=2 * HUGE_BYTES)
        try:
            await asyncio.gather(*(producer.start() for producer in (*producers, rude)))
            in_doubt: list[Arrival] = []
            async for number, event in self._in_time(events, first, live=live):
                if "poison" in self._plan.faults:
                    await self._send_bad(rude)
                if number % CAREFUL_EVERY:
                    await self._send(producers[number % 2], event)
                    continue
                in_doubt.append(event)
                if len(in_doubt) == IN_DOUBT:
                    await self._send_in_doubt(in_doubt)
                    in_doubt = []
            if in_doubt:
                await self._send_in_doubt(in_doubt)
        finally:
            await asyncio.gather(*(_stop(producer) for producer in (*producers, rude)))
            await self._drop_careful()

    async def _in_time(
        self, events: Sequence[Arrival], first: int, *, live: bool
    ) -> AsyncIterator[tuple[int, Arrival]]:
        """Numbers and events when their time has come; at once where they are a backlog."""
        plan, chance = self._plan, self._chance
        begin, end = (at - first for at in self._moment)
        delay_s = {kind: chance.uniform(0, plan.topic_skew_s) for kind in KINDS}
        due = []
        for number, event in enumerate(events):
            # Those of the one moment take no time.
            place = number if number < begin else max(begin, number - (end - begin))
            wait_s = delay_s[event[0]] + chance.expovariate(1 / plan.jitter_s)
            due.append((place / plan.events_per_s + (0.0 if begin <= number < end else wait_s), number))
        begun_s = time.monotonic()
        for sent, (at_s, number) in enumerate(sorted(due)):
            if live:
                if not self._pace.finish.is_set():
                    begun_s += _spared(1 - sent / len(due)) / plan.events_per_s
                await asyncio.sleep(max(at_s - (time.monotonic() - begun_s), 0))
            yield number, events[number]

    async def _send_in_doubt(self, events: Sequence[Arrival]) -> None:
        for commits in (False, True):
            while True:
                try:
                    await self._send_in_transaction(events, commits=commits)
                    break
                except KafkaError:  # the broker is away, or the producer has failed for good
                    await self._drop_careful()
                    await asyncio.sleep(RETRY_S)

    async def _send_in_transaction(self, events: Sequence[Arrival], *, commits: bool) -> None:
        if self._careful is None:
            transactional_id = f"lender-{self._settings.application_id}"
            self._careful = aiokafka_producer(self._kafka, linger_ms=0, transactional_id=transactional_id)
            await self._careful.start()
        await self._careful.begin_transaction()
        for event in events:
            await self._send(self._careful, event)
        await (self._careful.commit_transaction() if commits else self._careful.abort_transaction())

    async def _drop_careful(self) -> None:
        producer, self._careful = self._careful, None
        if producer is not None:
            await _stop(producer)

    async def _send(self, producer: AIOKafkaProducer, event: Arrival) -> None:
        kind, key, value, _ = event
        partition = partition_of(key, self._settings.partitions)
        sent = await producer.send(self._settings.topics.of_kind(kind), value, key=key, partition=partition)
        sent.add_done_callback(_told)

    async def _send_bad(self, producer: AIOKafkaProducer) -> None:
        key, value = next(self._bad)
        topic = self._settings.topics.of_kind(self._chance.choice(KINDS))
        partition = self._chance.randrange(self._settings.partitions)
        sent = await producer.send(topic, value, key=key, partition=partition)
        sent.add_done_callback(_told)


def _spared(left: float) -> int:
    """How many more events' time one takes when a share of `left` is still to come."""
    return next((factor for share, factor in SPARED if left < share), 0)


async def _stop(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError):
        await producer.stop()


def _told(sent: asyncio.Future[Any]) -> None:
    """A record that did not get there is none of the run's inputs."""
    if not sent.cancelled():
        sent.exception()
