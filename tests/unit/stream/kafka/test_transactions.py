"""Which producer takes what, what is fenced when, and what a commit carries, with producers that only remember."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.types import TP

from stream.kafka import transactions as module
from stream.kafka.loop_thread import LoopThread
from stream.kafka.record_batches import Outgoing
from stream.kafka.transactions import Fenced, NotSent, Transactions, in_words


class Producer:
    """Of one transactional id."""

    def __init__(self, transactional_id: str, log: list[str]) -> None:
        self.name = transactional_id
        self.log = log
        self.fenced = False
        self.refuses = False
        self.offsets: Mapping[TopicPartition, OffsetAndMetadata] = {}
        self.may_begin = asyncio.Event()
        """While this is not set, the transaction before is being completed."""
        self.may_begin.set()

    async def start(self) -> None:
        if self.refuses:
            raise KafkaConnectionError("no coordinator")
        self.log.append(f"start {self.name}")

    async def stop(self) -> None:
        self.log.append(f"stop {self.name}")
        if self.fenced:
            raise ProducerFenced

    async def begin_transaction(self) -> None:
        await self.may_begin.wait()
        self.log.append(f"begin {self.name}")

    async def send_offsets_to_transaction(self, offsets: Any, group: str) -> None:
        self.offsets = offsets
        self.log.append(f"offsets {self.name} {group}")

    async def commit_transaction(self) -> None:
        if self.fenced:
            raise ProducerFenced
        self.log.append(f"commit {self.name}")


class Worker:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.producers: dict[str, Producer] = {}
        self.refuses = False

        self.may_queue = asyncio.Event()
        """While this is not set, records wait to be queued."""
        self.may_queue.set()
        self.lost: BaseException | None = None

        async def send(producer: Producer, topic: str, partition: int, records: Any, headers: Any = None) -> list[Any]:
            await self.may_queue.wait()
            with_headers = "" if headers is None else f" with {headers}"
            self.log.append(f"send {producer.name} {topic} {partition} {list(records)}{with_headers}")
            acknowledged = asyncio.get_running_loop().create_future()
            if self.lost is None:
                acknowledged.set_result(SimpleNamespace(offset=10 * len(records)))
            else:
                acknowledged.set_exception(self.lost)
            return [acknowledged]

        monkeypatch.setattr(module, "send_records", send)
        self.transactions = Transactions("app", self._make)

    def _make(self, transactional_id: str) -> Any:
        made = self.producers[transactional_id] = Producer(transactional_id, self.log)
        made.refuses = self.refuses
        return made


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(monkeypatch)


async def test_two_producers_take_turns(worker: Worker) -> None:
    await worker.transactions.own({0})
    del worker.log[:]
    assert await worker.transactions.send([Outgoing("scores", 0, [(b"u", b"1")])]) == [10]
    (first,) = (await worker.transactions.cut({0})).values()
    await worker.transactions.send([Outgoing("scores", 0, [(b"u", b"2")])])
    assert await first.send("changelog", [(b"u", b"row"), (b"v", b"row")]) == 20
    await first.commit({}, "app", "changelog")
    (second,) = (await worker.transactions.cut({0})).values()
    await second.commit({}, "app", "changelog")
    await worker.transactions.send([Outgoing("scores", 0, [(b"u", b"3")])])
    assert worker.log == [
        "begin app-0-0",
        "send app-0-0 scores 0 [(b'u', b'1')]",
        "begin app-0-1",
        "send app-0-1 scores 0 [(b'u', b'2')]",
        "send app-0-0 changelog 0 [(b'u', b'row'), (b'v', b'row')]",
        "commit app-0-0",
        "commit app-0-1",
        "begin app-0-0",
        "send app-0-0 scores 0 [(b'u', b'3')]",
    ]


async def test_records_keep_their_order_and_belong_to_the_transaction_that_was_open(worker: Worker) -> None:
    await worker.transactions.own({0})
    del worker.log[:]
    worker.may_queue.clear()
    sent: list[asyncio.Future[Any]] = []
    sent += [worker.transactions.send([Outgoing("scores", 0, [(b"u", b"%d" % number)])]) for number in range(2)]
    (first,) = (await worker.transactions.cut({0})).values()
    sent.append(worker.transactions.send([Outgoing("scores", 0, [(b"u", b"next")])]))
    sent += [first.send("changelog", [(b"u", b"%d" % number)]) for number in range(2)]
    await asyncio.sleep(0)
    worker.may_queue.set()
    await asyncio.gather(*sent)
    of_first = [line for line in worker.log if line.startswith("send app-0-0")]
    assert of_first == [
        "send app-0-0 scores 0 [(b'u', b'0')]",
        "send app-0-0 scores 0 [(b'u', b'1')]",
        "send app-0-0 changelog 0 [(b'u', b'0')]",
        "send app-0-0 changelog 0 [(b'u', b'1')]",
    ]
    assert [line for line in worker.log if line.startswith("send app-0-1")] == [
        "send app-0-1 scores 0 [(b'u', b'next')]"
    ]


@pytest.mark.parametrize("partitions", [{1}, {0, 1}, {1, 2}])
async def test_what_was_sent_before_a_cut_is_in_it_though_another_partition_waits(
    worker: Worker, partitions: set[int]
) -> None:
    """Or its scores would be committed with the next cut, and its states and offsets with this one."""
    await worker.transactions.own({0, 1, 2})
    for name in ("app-0-0", "app-1-0"):
        worker.producers[name].may_begin.clear()
    sent = worker.transactions.send([Outgoing("scores", number, [(b"u", b"%d" % number)]) for number in (0, 1, 2)])
    cutting = asyncio.ensure_future(worker.transactions.cut(partitions))
    for name in ("app-1-0", "app-0-0"):
        await asyncio.sleep(0.01)
        worker.producers[name].may_begin.set()
    found = await cutting
    await sent
    assert {number: len(cut.deliveries) for number, cut in found.items()} == dict.fromkeys(partitions, 1)
    assert sorted(line for line in worker.log if line.startswith("send")) == [
        f"send app-{number}-0 scores {number} [(b'u', b'{number}')]" for number in (0, 1, 2)
    ]


async def test_producers_live_in_the_thread_that_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch)
    thread, loops = LoopThread("sending"), set()

    def make(transactional_id: str) -> Any:
        loops.add(asyncio.get_running_loop())
        return worker._make(transactional_id)

    worker.may_queue = asyncio.Event()
    worker.may_queue.set()
    transactions = Transactions("app", make, thread.submit)
    await transactions.own({0, 1})
    sent = [transactions.send([Outgoing("scores", 0, [(b"u", b"%d" % number)])]) for number in range(20)]
    assert await asyncio.gather(*sent) == [[10]] * 20
    numbers = [line[-4] for line in worker.log if line.startswith("send app-0-0")]
    assert numbers == [str(number)[-1] for number in range(20)]
    cut = await transactions.cut({0})
    worker.producers["app-0-0"].fenced = True
    with pytest.raises(Fenced, match="partition 0 belongs to another worker by now"):
        await cut[0].commit({TP("activity", 0): 7}, "app", "changelog")
    await transactions.stop()
    await thread.stop()
    assert len(loops) == 1
    assert asyncio.get_running_loop() not in loops


async def test_offsets_alone_make_a_transaction_and_carry_the_topic(worker: Worker) -> None:
    worker.transactions.lineage = "id-1,id-2"
    await worker.transactions.own({3})
    (cut,) = (await worker.transactions.cut({3})).values()
    await cut.commit({TP("activity", 3): 7, TP("profiles", 3): 2}, "app", "changelog")
    assert worker.producers["app-3-0"].offsets == {
        TopicPartition("activity", 3): OffsetAndMetadata(7, "id-1,id-2"),
        TopicPartition("profiles", 3): OffsetAndMetadata(2, "id-1,id-2"),
    }
    await cut.commit({TP("activity", 3): 8}, "app", "changelog", 41)
    assert worker.producers["app-3-0"].offsets == {
        TopicPartition("activity", 3): OffsetAndMetadata(8, "id-1,id-2,changelog=41")
    }


async def test_a_commit_waits_for_all_that_was_sent_and_tells_how_far_the_changelog_is(worker: Worker) -> None:
    await worker.transactions.own({0})
    worker.may_queue.clear()
    outputs = worker.transactions.send([Outgoing("scores", 0, [(b"u", b"1")] * 9)])
    (cut,) = (await worker.transactions.cut({0})).values()
    rows = cut.send("changelog", [(b"u", b"row")] * 4)
    committing = asyncio.ensure_future(cut.commit({TP("activity", 0): 7}, "app", "changelog", 41))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not committing.done()
    worker.may_queue.set()
    await committing
    assert (outputs.done(), rows.done()) == (True, True)
    assert worker.producers["app-0-0"].offsets == {TopicPartition("activity", 0): OffsetAndMetadata(7, ",changelog=40")}


@pytest.mark.parametrize(("end", "error"), [(ConnectionError("lost"), ConnectionError), (None, NotSent)])
async def test_what_is_not_acknowledged_is_not_committed(
    worker: Worker, end: BaseException | None, error: type[Exception]
) -> None:
    await worker.transactions.own({0})
    await worker.transactions.send([Outgoing("scores", 0, [(b"u", b"1")])])
    worker.lost = end
    worker.may_queue.clear()
    outputs = worker.transactions.send([Outgoing("alerts", 0, [(b"u", b"2")])])
    (cut,) = (await worker.transactions.cut({0})).values()
    await asyncio.sleep(0)
    if end is None:
        outputs.cancel()
        await asyncio.sleep(0)
    worker.may_queue.set()
    await asyncio.wait([outputs])
    worker.lost = None
    await cut.send("changelog", [(b"u", b"row")])
    with pytest.raises(error):
        await cut.commit({TP("activity", 0): 7}, "app", "changelog")
    assert not any(line.startswith("commit") for line in worker.log)


async def test_what_fails_and_is_waited_for_by_nobody_is_no_error_of_its_own_in_the_log(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """One fence fails all that is on its way: the worker says so once, and ends."""
    await worker.transactions.own({0})
    worker.lost = ProducerFenced()
    sent = [worker.transactions.send([Outgoing("scores", 0, [(b"u", b"1")])]) for _ in range(3)]
    (cut,) = (await worker.transactions.cut({0})).values()
    sent.append(cut.send("changelog", [(b"u", b"row")]))
    with pytest.raises(Fenced):
        await cut.commit({TP("activity", 0): 7}, "app", "changelog")
    await asyncio.wait(sent)
    sent.clear()
    gc.collect()
    await asyncio.sleep(0)
    assert "never retrieved" not in caplog.text


async def test_partitions_that_stay_get_new_producers_as_well(worker: Worker) -> None:
    """Starting one waits until the broker has written the markers of what was committed before."""
    await worker.transactions.own({0, 1})
    del worker.log[:]
    worker.producers["app-0-0"].fenced = True
    await worker.transactions.own({1, 2})
    stopped, started = worker.log[:4], worker.log[4:]
    assert sorted(stopped) == ["stop app-0-0", "stop app-0-1", "stop app-1-0", "stop app-1-1"]
    assert sorted(started) == ["start app-1-0", "start app-1-1", "start app-2-0", "start app-2-1"]
    assert worker.transactions.partitions == {1, 2}
    with pytest.raises(KeyError):
        worker.transactions.send([Outgoing("scores", 0, [])])


async def test_a_partition_that_cannot_be_owned_is_an_error_and_leaves_nothing_behind(worker: Worker) -> None:
    worker.refuses = True
    with pytest.raises(KafkaConnectionError):
        await worker.transactions.own({0})
    assert worker.transactions.partitions == frozenset()
    assert sorted(worker.log) == ["stop app-0-0", "stop app-0-1"]


async def test_who_was_fenced_is_told_so(worker: Worker) -> None:
    await worker.transactions.own({0})
    await worker.transactions.send([Outgoing("scores", 0, [])])
    (cut,) = (await worker.transactions.cut({0})).values()
    worker.producers["app-0-0"].fenced = True
    with pytest.raises(Fenced, match="partition 0 belongs to another worker by now"):
        await cut.commit({TP("activity", 0): 7}, "app", "changelog")


async def test_records_of_several_partitions_and_topics_go_in_one_step_and_in_order(worker: Worker) -> None:
    await worker.transactions.own({0, 1})
    del worker.log[:]
    outgoing = [
        Outgoing("scores", 1, [(b"u", b"1")]),
        Outgoing("scores", 0, [(b"v", b"1")]),
        Outgoing("alerts", 1, [(b"u", b"2")]),
    ]
    sent = [worker.transactions.send(outgoing), worker.transactions.send([Outgoing("scores", 1, [(b"u", b"3")])])]
    assert await asyncio.gather(*sent) == [[10, 10, 10], [10]]
    assert [line for line in worker.log if line.startswith("send app-1")] == [
        "send app-1-0 scores 1 [(b'u', b'1')]",
        "send app-1-0 alerts 1 [(b'u', b'2')]",
        "send app-1-0 scores 1 [(b'u', b'3')]",
    ]
    assert [line for line in worker.log if line.startswith("begin")] == ["begin app-1-0", "begin app-0-0"]


async def test_headers_go_with_their_records(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch)
    await worker.transactions.own([0])
    await worker.transactions.send([Outgoing("dead-letters", 0, [(None, None)], [[("a", b"b")]])])
    assert worker.log[-1] == "send app-0-0 dead-letters 0 [(None, None)] with [[('a', b'b')]]"


def test_a_producer_that_is_fenced_before_it_commits_is_told_in_words() -> None:
    told = in_words(ProducerFenced())
    assert isinstance(told, Fenced)
    assert "Nothing is lost; start it again" in str(told)
    other = ValueError("x")
    assert in_words(other) is other
