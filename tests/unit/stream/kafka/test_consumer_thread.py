"""Where reading starts, when a fetch goes out, and how changelogs are read, with the broker's answers by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition
from faust.types import TP

from stream.kafka.changelog import Block
from stream.kafka.connection import KafkaConnection
from stream.kafka.consumer_thread import ConsumerThread, OffsetNotThere, fetch_on_demand, start_of
from stream.kafka.demand import Demand
from stream.kafka.faust_app import faust_app
from stream.kafka.transport import consumer_of
from stream.settings import load_settings

INPUT = TP("transactions", 0)


class Fetcher:
    """Of aiokafka's, what sends a request."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def _proc_fetch_request(self, request: str) -> bool:
        self.requests.append(request)
        return True


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("committed", "expected"), [(None, 3), (3, 3), (5, 5), (9, 9), (1, 3)])
def test_reading_starts_where_the_group_stands(
    committed: int | None, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert start_of(INPUT, committed, 3, 9) == expected
    assert ("2 records from offset 1 on were deleted" in caplog.text) == (committed == 1)


def test_a_committed_offset_behind_the_end_is_an_error() -> None:
    with pytest.raises(OffsetNotThere, match=r"transactions-0 ends at offset 9, but the group has committed 10"):
        start_of(INPUT, 10, 3, 9)


async def test_a_fetch_goes_out_for_a_poll() -> None:
    fetcher, polls = Fetcher(), Demand(60.0)
    fetch_on_demand(fetcher, polls)
    polls.end()
    fetching = asyncio.create_task(fetcher._proc_fetch_request("next"))
    await settled()
    assert fetcher.requests == [], "its answer would be small, and nothing could join it"
    polls.begin()
    assert await asyncio.wait_for(fetching, 5)
    assert fetcher.requests == ["next"]


async def test_a_fetch_that_nobody_wants_any_more_ends_quietly() -> None:
    """The fetcher cancels what is under way when it is closed, and waits for it: an exception would end the closing."""
    fetcher, polls = Fetcher(), Demand(60.0)
    fetch_on_demand(fetcher, polls)
    polls.end()
    fetching = asyncio.create_task(fetcher._proc_fetch_request("next"))
    await settled()
    fetching.cancel()
    assert await asyncio.wait_for(fetching, 5) is False
    assert fetcher.requests == []


CHANGELOG = TopicPartition("app-users-changelog", 0)


class Recovery:
    """A consumer's thread that reads a changelog, with the broker's answer given by hand."""

    def __init__(self) -> None:
        consumer = consumer_of(faust_app(load_settings(), KafkaConnection.parse("nowhere:9092"), "test-transport"))
        consumer.flow_active = True
        self.thread: Any = consumer._thread
        self.thread.thread_loop.close()  # of a thread that does not start
        self.thread._changelogs = self
        self.subscription = SubscriptionState()
        self.paused: set[TopicPartition] = set()
        self.consumer: Any = SimpleNamespace(
            _client=SimpleNamespace(cluster=None),
            _subscription=self.subscription,
            pause=lambda *tps: self.paused.update(tps),
        )
        self.asked: asyncio.Queue[Mapping[TopicPartition, int]] = asyncio.Queue()
        self.answer: asyncio.Queue[Mapping[TopicPartition, Block]] = asyncio.Queue()
        self.released = 0

    async def read(self, positions: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, Block]:
        await self.asked.put(positions)
        return await self.answer.get()

    def close(self) -> None:
        pass

    def begin(self, position: int) -> None:
        """Get the changelog assigned, and be at an offset of it."""
        self.subscription.assign_from_user([CHANGELOG])
        self.subscription.seek(CHANGELOG, position)

    @property
    def position(self) -> int:
        assignment = self.subscription.subscription.assignment
        return int(assignment.state_value(CHANGELOG).position)

    async def reading(self, meanwhile: Callable[[Recovery], None]) -> Mapping[TopicPartition, Block]:
        """One read, of ten records, while something happens before they come."""
        reading = asyncio.create_task(self.thread._read_changelogs(self.consumer, {CHANGELOG}))
        begin = (await self.asked.get())[CHANGELOG]
        meanwhile(self)
        await self.answer.put({CHANGELOG: Block([], begin, begin + 10, self._release)})
        return cast(Mapping[TopicPartition, Block], await reading)

    def _release(self) -> None:
        self.released += 1


async def test_a_block_of_a_changelog_is_given_and_passed() -> None:
    recovery = Recovery()
    recovery.begin(40)
    found = await recovery.reading(lambda _: None)
    assert (found[CHANGELOG].start, recovery.position, recovery.released) == (40, 50, 0)
    assert recovery.paused == {CHANGELOG}
    found = await recovery.reading(lambda _: None)
    assert (found[CHANGELOG].start, recovery.position) == (50, 60)


@pytest.mark.parametrize(
    ("meanwhile", "position"),
    [
        (lambda recovery: recovery.subscription.seek(CHANGELOG, 0), 0),
        (lambda recovery: recovery.begin(0), 0),
        (lambda recovery: recovery.subscription.seek(CHANGELOG, 50), 50),
    ],
    ids=["sought", "assigned again", "sought to where the block ends"],
)
async def test_a_changelog_that_is_sought_while_it_is_read_is_read_from_there(
    meanwhile: Callable[[Recovery], None], position: int
) -> None:
    """What is under way belongs to the place before: passed on, it would take the new place with it, and the records
    between would never be read."""
    recovery = Recovery()
    recovery.begin(40)
    assert await recovery.reading(meanwhile) == {}
    assert (recovery.position, recovery.released) == (position, 1)
    found = await recovery.reading(lambda _: None)
    assert (found[CHANGELOG].start, recovery.position) == (position, position + 10)


async def test_a_changelog_that_is_given_up_while_it_is_read_gives_nothing() -> None:
    recovery = Recovery()
    recovery.begin(40)
    assert await recovery.reading(lambda one: one.subscription.unsubscribe()) == {}
    assert recovery.released == 1


class StillArriving:
    """What is asked of aiokafka's consumer while records arrive: each question finds one more, committed already."""

    def __init__(self) -> None:
        self.end = 10
        self.sought: dict[TopicPartition, int] = {}
        self._fetcher = SimpleNamespace(seek_to=self.sought.__setitem__)

    def _arrived(self) -> int:
        self.end += 1
        return self.end

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition(INPUT.topic, INPUT.partition)}

    async def committed(self, _: TopicPartition) -> int:
        return self._arrived()

    async def beginning_offsets(self, tps: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self._arrived())


async def test_what_is_committed_while_ends_are_asked_is_not_behind_the_end() -> None:
    consumer = StillArriving()
    thread: Any = SimpleNamespace(
        _ensure_consumer=lambda: consumer,
        consumer=SimpleNamespace(_is_changelog_tp=lambda _: False),
        _earlier=None,
        _left_alone=set(),
        _go_to=lambda positions: consumer.sought.update(positions),
    )
    thread._spans = lambda tps: ConsumerThread._spans(thread, tps)
    assert await ConsumerThread._seek_to_committed(thread) == {INPUT: 11}
    assert consumer.sought == {INPUT: 11}


async def test_a_thread_that_has_crashed_and_closed_its_loop_can_be_stopped() -> None:
    app = faust_app(load_settings(), KafkaConnection.parse("nowhere:9092"), "test-transport")
    thread = consumer_of(app)._thread
    thread.thread_loop.close()
    thread._stopped_set()
    assert thread._stopped.is_set()
