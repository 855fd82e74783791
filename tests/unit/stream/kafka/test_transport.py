"""Polls around a rebalance, with the broker's answers given by hand: none may be lost, none may come too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from faust.types import TP, ConsumerMessage

from stream.kafka.connection import KafkaConnection
from stream.kafka.consumer_thread import OffsetNotThere, start_of
from stream.kafka.faust_app import faust_app
from stream.kafka.poll import Fetched, Poll
from stream.kafka.record import RawRecord
from stream.kafka.refusal import BrokerRefuses
from stream.kafka.transport import ASTRAY_POLLS, Consumer, consumer_of
from stream.settings import load_settings

INPUT = TP("transactions", 0)
RECORD = RawRecord("transactions", 0, 7, 0, b"u", b"{}")
FETCHED = Fetched([RECORD], 7, 8)


class Answers:
    """What the consumer's thread would bring: the next poll gets what is put here."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Mapping[TP, Fetched]] = asyncio.Queue()
        self.polls = 0
        self.committed = 7
        self.sought: list[Mapping[TP, int]] = []
        self.holds = (0, 100)
        """First offset and the one after the last that the broker holds."""
        self.lags: int | None = 0
        self.unreachable_s = 0.0
        self.seeks = asyncio.Event()
        """Whether the broker answers where to go on."""
        self.seeks.set()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        await self.seeks.wait()
        return {INPUT: self.committed}

    async def seek_back(self, positions: Mapping[TP, int]) -> None:
        self.sought.append(dict(positions))

    async def start_again(self, tp: TP, expected: int) -> int:
        return start_of(tp, expected, *self.holds)

    async def getmany(self, active_partitions: set[TP], timeout: float) -> Mapping[TP, Fetched]:  # noqa: ARG002
        self.polls += 1
        return await self.queue.get()

    def lag(self, tp: TP) -> int | None:  # noqa: ARG002
        return self.lags


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
        self.consumer._on_partitions_revoked = self._rebalanced
        self.consumer._on_partitions_assigned = self._rebalanced
        self.consumer._set_active_tps({INPUT})
        self.should_stop = False
        self.rebalance(1)

    async def _deliver(self, message: ConsumerMessage) -> None:
        await self.delivered.put(message.value)

    async def _rebalanced(self, *_: Any) -> None:
        """What the app does of its own."""

    def rebalance(self, generation: int) -> None:
        self.consumer.stop_flow()
        self.app.rebalancing = True
        self.app.consumer_generation_id = generation

    def recover(self) -> None:
        """Changelogs are read, and inputs may be polled as far as Faust is concerned; it has yet to empty the queues of
        its streams for the last time."""
        self.consumer.resume_flow()

    async def resume(self) -> None:
        self.consumer.resume_partitions({INPUT})
        await self.consumer.perform_seek()
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


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0.01)


async def test_the_first_poll_after_a_rebalance_is_delivered(loop: Loop) -> None:
    """It began before, and waited the rebalance out: the consumer has moved past what it brought."""
    await settled()
    assert loop.answers.polls == 0, "the flow is stopped"
    loop.rebalance(2)
    await loop.resume()
    loop.answers.queue.put_nowait({INPUT: FETCHED})
    poll = await asyncio.wait_for(loop.delivered.get(), 5)
    assert isinstance(poll, Poll)
    assert poll.records == {INPUT: [RECORD]}


async def test_the_lag_is_that_of_the_last_poll_until_partitions_go(loop: Loop) -> None:
    assert loop.consumer.lag() == {}
    await loop.resume()
    for lag, told in ((None, {}), (4, {INPUT: 4})):
        loop.answers.lags = lag
        loop.answers.queue.put_nowait({})
        poll = await asyncio.wait_for(loop.delivered.get(), 5)
        assert poll.lagging == {INPUT}, "what is not known may be behind"
        assert loop.consumer.lag() == told
    loop.answers.unreachable_s = 3.5
    assert loop.consumer.unreachable_s == 3.5
    await loop.consumer.on_partitions_revoked({INPUT})
    assert loop.consumer.lag() == {}


async def test_inputs_are_not_polled_before_a_rebalance_has_ended(loop: Loop) -> None:
    """Nothing brings back what was polled then, unless something had been committed before."""
    loop.answers.queue.put_nowait({INPUT: FETCHED})
    loop.recover()
    await settled()
    assert loop.answers.polls == 0
    await loop.resume()
    while not (poll := await asyncio.wait_for(loop.delivered.get(), 5)).records:
        pass
    assert poll.records == {INPUT: [RECORD]}


async def test_a_poll_that_a_rebalance_overtakes_is_dropped(loop: Loop) -> None:
    """Its partitions may be another's by now, and who keeps them begins anew from what is committed."""
    await loop.resume()
    await settled()
    assert loop.answers.polls == 1
    loop.rebalance(2)
    await loop.resume()
    loop.answers.queue.put_nowait({INPUT: FETCHED})
    loop.answers.queue.put_nowait({})
    poll = await asyncio.wait_for(loop.delivered.get(), 5)
    assert poll.records == {}, "the next poll"


async def test_what_was_polled_and_not_delivered_is_polled_again(loop: Loop) -> None:
    """A poll of the new assignment that began in the old generation: dropped, and nothing else would bring it back."""
    await loop.resume()
    await settled()
    loop.app.consumer_generation_id = 2
    loop.answers.queue.put_nowait({INPUT: FETCHED})
    loop.answers.queue.put_nowait({INPUT: Fetched([RawRecord("transactions", 0, 8, 0, b"u", b"{}")], 8, 9)})
    await settled()
    assert loop.answers.sought == [{INPUT: 7}]
    loop.answers.queue.put_nowait({INPUT: FETCHED})
    while not (poll := await asyncio.wait_for(loop.delivered.get(), 5)).records:
        pass
    assert poll.records == {INPUT: [RECORD]}


async def test_a_poll_from_before_the_partitions_were_given_up_is_dropped(loop: Loop) -> None:
    """Though the generation is the same again: what it follows on was given up."""
    await loop.resume()
    await settled()
    loop.consumer.epoch += 1
    loop.answers.queue.put_nowait({INPUT: FETCHED})
    await settled()
    assert all(not poll.records for poll in [loop.delivered.get_nowait() for _ in range(loop.delivered.qsize())])
    loop.answers.queue.put_nowait({INPUT: FETCHED})
    while not (poll := await asyncio.wait_for(loop.delivered.get(), 5)).records:
        pass
    assert poll.records == {INPUT: [RECORD]}


@pytest.mark.parametrize("seeks", ["before the partitions go", "after that", "after others have come"])
async def test_a_recovery_that_a_rebalance_overtakes_lets_no_input_be_read(loop: Loop, seeks: str) -> None:
    """Faust resumes polling and says that no rebalance is under way when the recovery of the one before is done, while
    partitions go: what was read then would be of partitions that another has, or whose states are not there."""
    assert loop.app.rebalancing
    if seeks == "before the partitions go":
        loop.answers.seeks.clear()
        overtaken = asyncio.create_task(loop.resume())
        await settled()
    await loop.consumer.on_partitions_revoked({INPUT})
    if seeks == "after that":
        overtaken = asyncio.create_task(loop.resume())
    await settled()
    loop.app.consumer_generation_id = 2
    loop.answers.queue.put_nowait({INPUT: FETCHED})
    if seeks == "after others have come":
        loop.answers.seeks.clear()
        overtaken = asyncio.create_task(loop.resume())
        await settled()
    await loop.consumer.on_partitions_assigned({INPUT}, 2)
    loop.answers.seeks.set()
    await overtaken
    await settled()
    assert loop.answers.polls == 0
    await loop.resume()
    while not (poll := await asyncio.wait_for(loop.delivered.get(), 5)).records:
        assert poll.ends in ({}, {INPUT: 7})
    assert poll.records == {INPUT: [RECORD]}


async def test_where_to_go_on_is_not_what_was_asked_before_a_rebalance(loop: Loop) -> None:
    await loop.resume()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def start_again(_tp: TP, _expected: int) -> int:
        asked.set()
        await answer.wait()
        return 30

    loop.answers.start_again = start_again
    behind = RawRecord("transactions", 0, 30, 0, b"u", b"{}")
    for _ in range(ASTRAY_POLLS):
        loop.answers.queue.put_nowait({INPUT: Fetched([behind], -1, 31)})
    await asyncio.wait_for(asked.wait(), 5)
    await loop.consumer.on_partitions_revoked({INPUT})
    await loop.consumer.on_partitions_assigned({INPUT}, 1)
    await loop.resume()
    answer.set()
    loop.answers.queue.put_nowait({INPUT: FETCHED})
    while not (poll := await asyncio.wait_for(loop.delivered.get(), 5)).records:
        pass
    assert poll.records == {INPUT: [RECORD]}


@pytest.mark.parametrize("start", [-1, 30])
async def test_records_that_retention_took_are_named_and_passed(
    loop: Loop, start: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The consumer was moved by itself, to the first record that there is."""
    await loop.resume()
    loop.answers.holds = (30, 100)
    behind = RawRecord("transactions", 0, 30, 0, b"u", b"{}")
    for _ in range(ASTRAY_POLLS):
        loop.answers.queue.put_nowait({INPUT: Fetched([behind], start, 31)})
    await settled()
    assert loop.answers.sought == [{INPUT: 7}] * (ASTRAY_POLLS - 1) + [{INPUT: 30}]
    assert "23 records from offset 7 on were deleted before they were read" in caplog.text
    loop.answers.queue.put_nowait({INPUT: Fetched([behind], 30, 31)})
    while not (poll := await asyncio.wait_for(loop.delivered.get(), 5)).records:
        pass
    assert poll.records == {INPUT: [behind]}


async def test_a_topic_made_anew_while_it_is_read_is_a_failure(loop: Loop) -> None:
    await loop.resume()
    failures: list[Exception] = []
    loop.consumer.on_failure = failures.append
    loop.answers.holds = (0, 3)
    first = RawRecord("transactions", 0, 0, 0, b"u", b"{}")
    for _ in range(ASTRAY_POLLS):
        loop.answers.queue.put_nowait({INPUT: Fetched([first], -1, 1)})
    await settled()
    assert [type(failure) for failure in failures] == [OffsetNotThere]
    assert "transactions-0 ends at offset 3, but the group has committed 7" in str(failures[0])


async def test_offsets_without_records_are_passed_on(loop: Loop) -> None:
    """The end of a transaction takes an offset, and so does every record of an aborted one."""
    await loop.resume()
    loop.answers.queue.put_nowait({})
    first = await asyncio.wait_for(loop.delivered.get(), 5)
    assert (first.records, first.reached()) == ({}, {INPUT: 7}), "where it begins"
    loop.answers.queue.put_nowait({INPUT: Fetched([], 7, 12)})
    while not (poll := await asyncio.wait_for(loop.delivered.get(), 5)).ends:
        pass
    assert (poll.records, poll.reached()) == ({}, {INPUT: 12})


async def test_the_end_says_when_a_password_is_no_longer_right(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker answers for too long: whether it is down or refuses us is asked once more, for the last message."""

    def refuse(_: KafkaConnection) -> None:
        raise BrokerRefuses("broker:9093: the broker refuses the user; check sasl_password")

    monkeypatch.setattr("stream.kafka.transport.require_access", refuse)
    monkeypatch.setattr("stream.kafka.transport.REACHABLE_EVERY_S", 0.01)
    loop.answers.unreachable_s = 61.0
    failed: list[Exception] = []
    loop.consumer.on_failure, loop.consumer.longest_unreachable_s = failed.append, 60.0
    await asyncio.wait_for(loop.consumer._give_up_in_time.fun(loop.consumer), 5)
    assert "for 60 s (broker_timeout_s)" in str(failed[0])
    assert str(failed[0]).endswith("; broker:9093: the broker refuses the user; check sasl_password")
