"""Polls around a rebalance, with the broker's answers given by hand: none may be lost, none may come too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from faust.types import TP, ConsumerMessage

from stream.kafka.connection import KafkaConnection
from stream.kafka.demand import Demand
from stream.kafka.faust_app import faust_app
from stream.kafka.poll import Poll
from stream.kafka.record import RawRecord
from stream.kafka.transport import Consumer, consumer_of, fetch_on_demand
from stream.settings import load_settings

INPUT = TP("transactions", 0)
RECORD = RawRecord("transactions", 0, 7, 0, b"u", b"{}")


class Answers:
    """What the consumer's thread would bring: the next poll gets what is put here."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Mapping[TP, list[RawRecord]]] = asyncio.Queue()
        self.polls = 0

    async def getmany(self, active_partitions: set[TP], timeout: float) -> Mapping[TP, list[RawRecord]]:  # noqa: ARG002
        self.polls += 1
        return await self.queue.get()

    def lag(self, tp: TP) -> int:  # noqa: ARG002
        return 0


class Loop:
    """A consumer's polling loop, begun while a rebalance has stopped the flow, in generation 1."""

    def __init__(self) -> None:
        self.app: Any = faust_app(load_settings(), KafkaConnection.parse("nowhere:9092"), "test-transport")
        self.consumer: Consumer = consumer_of(self.app)
        self.answers: Any = Answers()
        self.consumer._thread.thread_loop.close()  # of a thread that does not start
        self.consumer._thread = self.answers
        self.delivered: asyncio.Queue[Any] = asyncio.Queue()
        self.consumer.callback = self._deliver
        self.consumer._set_active_tps({INPUT})
        self.should_stop = False
        self.rebalance(1)

    async def _deliver(self, message: ConsumerMessage) -> None:
        await self.delivered.put(message.value)

    def rebalance(self, generation: int) -> None:
        self.consumer.stop_flow()
        self.app.rebalancing = True
        self.app.consumer_generation_id = generation

    def recover(self) -> None:
        """Changelogs are read, and inputs may be polled as far as Faust is concerned; it has yet to empty the queues of
        its streams for the last time."""
        self.consumer.resume_flow()

    def resume(self) -> None:
        self.consumer.resume_flow()
        self.app.rebalancing = False


@pytest.fixture
async def loop() -> AsyncIterator[Loop]:
    made = Loop()
    polling = asyncio.create_task(made.consumer._drain_messages(made))
    yield made
    made.should_stop = True
    made.app._stopped.set()  # else the loop takes its end for a failure
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)


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


async def test_the_first_poll_after_a_rebalance_is_delivered(loop: Loop) -> None:
    """It began before, and waited the rebalance out: the consumer has moved past what it brought."""
    await settled()
    assert loop.answers.polls == 0, "the flow is stopped"
    loop.rebalance(2)
    loop.resume()
    loop.answers.queue.put_nowait({INPUT: [RECORD]})
    poll = await asyncio.wait_for(loop.delivered.get(), 5)
    assert isinstance(poll, Poll)
    assert poll.records == {INPUT: [RECORD]}


async def test_inputs_are_not_polled_before_a_rebalance_has_ended(loop: Loop) -> None:
    """Nothing brings back what was polled then, unless something had been committed before."""
    loop.answers.queue.put_nowait({INPUT: [RECORD]})
    loop.recover()
    await settled()
    assert loop.answers.polls == 0
    loop.resume()
    while not (poll := await asyncio.wait_for(loop.delivered.get(), 5)).records:
        pass
    assert poll.records == {INPUT: [RECORD]}


async def test_a_poll_that_a_rebalance_overtakes_is_dropped(loop: Loop) -> None:
    """Its partitions may be another's by now, and who keeps them begins anew from what is committed."""
    loop.resume()
    await settled()
    assert loop.answers.polls == 1
    loop.rebalance(2)
    loop.resume()
    loop.answers.queue.put_nowait({INPUT: [RECORD]})
    loop.answers.queue.put_nowait({})
    poll = await asyncio.wait_for(loop.delivered.get(), 5)
    assert poll.records == {}, "the next poll"


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
