"""What a checkpoint makes durable together, and what counts when the world fails at any point of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from events.calendar import DAY_MS
from events.contracts import OPEN, PERFORMING
from events.types import KINDS
from stream.kafka.record import Header, RawRecord
from stream.kafka.record_batches import Outgoing
from stream.outputs import BorrowerContracts, moment_of
from stream.scoring.dead_letters import DeadLetters
from stream.scoring.order_journal import OrderRecord
from stream.scoring.scorer import Scored
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics
from stream.worker.checkpoint import CUT_SHARE, GROUPS_UNDER_WAY, PIECE_ROWS, Checkpoints, KeyedValue

INPUT = TP("transactions", 0)


class Broker:
    """Remembers what reached it and what of that was committed; fails from its `fails_at`-th operation on."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.log: list[tuple[str, Any]] = []
        self.rows: dict[tuple[int, bytes], int] = {}
        self.committed: dict[TP, int] = {}
        self.scores: list[bytes] = []
        self.begun: list[int] = []
        """Partitions in the order in which they were cut."""
        self.kept: dict[tuple[str, int, bytes], bytes | None] = {}
        """What readers of the compacted topics see, by topic, partition and key."""
        self.order: list[int] = []
        """Numbers of the events whose place in the order is committed."""
        self.open: dict[int, list[tuple[str, bytes | None]]] = {}
        self.headers: dict[str, Sequence[list[Header]]] = {}
        self.commits = asyncio.Event()
        """Transactions are committed only while this is set."""
        self.commits.set()
        self._operations = 0
        self._fails_at = fails_at

    async def operate(self) -> None:
        await asyncio.sleep(0)
        self._operations += 1
        if self._fails_at is not None and self._operations >= self._fails_at:
            raise ConnectionError("the broker is gone")

    def send(self, outgoing: Sequence[Outgoing]) -> Awaitable[Any]:
        return asyncio.gather(*(asyncio.ensure_future(self._send(*each)) for each in outgoing))

    def _send(
        self, topic: str, partition: int, records: Sequence[KeyedValue], headers: Sequence[list[Header]] | None
    ) -> Coroutine[Any, Any, None]:
        transaction = self.open.setdefault(partition, [])
        if headers is not None:
            assert len(headers) == len(records)
            self.headers[topic] = headers

        async def acknowledge() -> None:
            await self.operate()
            self.log.append(("sent", topic))
            transaction.extend((topic, value) for _, value in records)

        return acknowledge()

    async def cut(self, partitions: Collection[int]) -> Transactions:
        assert partitions
        self.begun += partitions
        return Transactions(self, {partition: self.open.pop(partition, []) for partition in partitions})


class Transactions:
    """Of the partitions of a cut."""

    def __init__(self, broker: Broker, sent: dict[int, list[tuple[str, bytes | None]]]) -> None:
        self._broker = broker
        self._sent = sent
        self._queued: dict[int, list[asyncio.Future[None]]] = {partition: [] for partition in sent}
        self._rows: dict[tuple[int, bytes], int] = {}
        self._kept: dict[tuple[str, int, bytes], bytes | None] = {}
        self._order: dict[int, list[int]] = {}

    def publish(
        self, topic: str, partition: int, records: Sequence[KeyedValue], headers: Sequence[list[Header]] | None = None
    ) -> None:
        self._queue(partition)
        if topic == "app-order":
            ((_, value),) = records
            found = OrderRecord.decode(value)
            assert found.kinds.tolist() == [KINDS.index("transactions")]
            self._order[partition] = list(range(found.starts[found.kinds[0]], int(found.lasts[0]) + 1))
            assert found.ends[found.kinds[0]] == self._order[partition][-1] + 1
            return
        self._broker.log.append(("kept", topic))
        for number, (key, value) in enumerate(records):
            assert key is not None
            assert self._kept.get((topic, partition, key)) is None, "a second record of a user in a transaction"
            assert (value is None) == bool(headers and headers[number]), "a tombstone says what asked for it"
            self._kept[topic, partition, key] = value

    async def publish_rows(self, partition: int, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        self._queue(partition)
        self._broker.log.append(("rows", None))
        for key, value in rows:
            assert (partition, key) not in self._rows, "a row twice in a transaction"
            self._rows[partition, key] = -1 if value is None else int.from_bytes(value[8:16], "little")

    def _queue(self, partition: int) -> None:
        queued = asyncio.ensure_future(self._broker.operate())
        queued.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # `commit` raises it
        self._queued[partition].append(queued)

    async def commit(self, partition: int, offsets: Mapping[TP, int]) -> None:
        await asyncio.gather(*self._queued.pop(partition))
        await self._broker.commits.wait()
        await self._broker.operate()
        self._broker.log.append(("committed", dict(offsets)))
        self._broker.scores += [value or b"" for topic, value in self._sent[partition] if topic == "scores"]
        self._broker.rows |= {at: row for at, row in self._rows.items() if at[0] == partition}
        self._broker.kept |= {at: value for at, value in self._kept.items() if at[1] == partition}
        self._broker.order += self._order.get(partition, [])
        self._broker.committed |= offsets


class Run:
    """A worker reduced to its bookkeeping: event n raises the user's sequence to n and is published as n."""

    def __init__(self, broker: Broker, interval_s: float = 0.0) -> None:
        self.slab = Slab(blank_row(row_dtype(1), 1))
        self.failures: list[BaseException] = []
        self.clock_s = 0.0
        self.balance: float | None = None
        """Balance of a contract that the next events tell of; None: they tell of none."""
        self.checkpoints = Checkpoints(
            broker,
            self.slab,
            lambda _: Topics().live_outputs("app"),
            Topics().inputs,
            interval_s=interval_s,
            monotonic=lambda: self.clock_s,
            on_failure=self.failures.append,
        )

    async def score(self, number: int, partition: int = 0) -> None:
        located = self.slab.locate(partition, [b"u"])
        rows = self.slab.gather(located)
        rows["sequence"] = number
        told = [] if self.balance is None else [located]
        if told:
            rows["alert"]["watermark_ms"] = DAY_MS * number
            rows["standing"]["phase"][:, 0] = OPEN
            rows["standing"]["balance"][:, 0] = self.balance
            rows["standing"]["status"] = PERFORMING
        self.slab.scatter(located, rows)
        scored = Scored(scores={partition: [(b"u", b"%d" % number)]}, touched=located, told=told)
        self.checkpoints.took(partition, np.array([KINDS.index("transactions")]), np.array([number]))
        await self.checkpoints.publish(scored)
        self.checkpoints.reached({TP("transactions", partition): number + 1})

    async def completed(self) -> None:
        while self.checkpoints.running:
            await asyncio.sleep(0)


async def test_outputs_rows_and_offsets_are_committed_together() -> None:
    broker = Broker()
    run = Run(broker)
    await run.score(0)
    await run.score(1)
    assert (broker.scores, broker.rows, broker.committed) == ([], {}, {})
    assert run.checkpoints.pending
    await run.checkpoints.flush()
    assert not run.checkpoints.pending
    assert sorted(broker.log[:-1], key=str) == [
        ("kept", "scores.latest"),
        ("rows", None),
        ("sent", "scores"),
        ("sent", "scores"),
    ]
    assert broker.log[-1] == ("committed", {INPUT: 2})
    assert (broker.scores, broker.rows) == ([b"0", b"1"], {(0, b"u"): 1})
    assert broker.kept == {("scores.latest", 0, b"u"): b"1"}


def kept_contracts(broker: Broker) -> BorrowerContracts | None:
    value = broker.kept.get(("contracts", 0, b"u"))
    return None if value is None else msgspec.json.decode(value, type=BorrowerContracts)


async def test_contracts_are_kept_as_they_were_at_the_cut() -> None:
    broker = Broker()
    run = Run(broker)
    await run.score(1)
    await run.checkpoints.flush()
    assert kept_contracts(broker) is None, "no event told of a contract"

    run.balance = 500.0
    await run.score(2)
    await run.checkpoints.tick()
    run.balance = 400.0
    await run.score(3)
    await run.completed()
    found = kept_contracts(broker)
    assert found is not None
    assert (found.user_id, found.sequence, found.occurred_at) == ("u", 2, moment_of(2 * DAY_MS))
    assert [contract.exposure for contract in found.contracts] == [500.0]
    await run.checkpoints.flush()
    found = kept_contracts(broker)
    assert found is not None
    assert (found.sequence, found.contracts[0].exposure) == (3, 400.0)


async def test_a_forgotten_user_gets_tombstones_and_then_what_came_after() -> None:
    broker = Broker()
    run = Run(broker)
    run.balance = 500.0
    await run.score(1)
    await run.checkpoints.flush()
    forgotten = Scored(forgotten={0: [(b"u", "profiles:0:7")]})
    forgotten.touched = np.array([run.slab.forget(0, b"u")])
    await run.checkpoints.publish(forgotten)
    run.checkpoints.reached({INPUT: 3})
    await run.checkpoints.flush()
    assert broker.kept == {("scores.latest", 0, b"u"): None, ("contracts", 0, b"u"): None}

    run.balance = None
    await run.score(4)
    forgotten.touched = np.array([run.slab.forget(0, b"u")])
    await run.checkpoints.publish(forgotten)
    await run.score(5)
    await run.checkpoints.flush()
    assert broker.kept == {("scores.latest", 0, b"u"): b"5", ("contracts", 0, b"u"): None}


@pytest.mark.parametrize(("reported_days", "again"), [(0.0, False), (5.0, True)])
async def test_contracts_of_which_no_event_told_are_kept_again_only_when_past_due(
    reported_days: float, again: bool
) -> None:
    broker = Broker()
    run = Run(broker)
    run.balance = 500.0
    await run.score(2)
    run.slab.rows["standing"]["reported_days"][0, 0] = reported_days
    run.slab.rows["standing"]["reported_day"][0, 0] = 2
    run.slab.rows["standing"]["since_day"][0] = 2 - reported_days if reported_days else np.inf
    await run.checkpoints.flush()

    rows, run.balance = run.slab.rows, None
    rows["alert"]["watermark_ms"][0] = DAY_MS * 9
    await run.score(3)
    await run.checkpoints.flush()
    found = kept_contracts(broker)
    assert found is not None
    days = reported_days + 7 if again else reported_days
    assert (found.sequence, found.contracts[0].days_past_due) == (3 if again else 2, days)


async def test_one_changelog_record_per_user_and_interval() -> None:
    broker = Broker()
    run = Run(broker, interval_s=10.0)
    for number in range(5):
        await run.score(number)
        await run.checkpoints.tick()
        await asyncio.sleep(0)
    assert ("rows", None) not in broker.log
    run.clock_s = 10.0 * CUT_SHARE
    await run.checkpoints.tick()
    await run.checkpoints.flush()
    assert [what for what, _ in broker.log].count("rows") == 1
    assert broker.committed == {INPUT: 5}


async def test_rows_are_committed_as_they_were_at_the_cut() -> None:
    """Scoring goes on while a transaction is completed: what it adds counts only with the next one."""
    broker = Broker()
    run = Run(broker)
    await run.score(0)
    await run.checkpoints.tick()
    await run.score(1)
    await run.completed()
    assert (broker.scores, broker.rows, broker.committed) == ([b"0"], {(0, b"u"): 0}, {INPUT: 1})
    await run.checkpoints.flush()
    assert (broker.scores, broker.rows, broker.committed) == ([b"0", b"1"], {(0, b"u"): 1}, {INPUT: 2})


async def test_rows_go_in_pieces() -> None:
    broker = Broker()
    run = Run(broker)
    located = run.slab.locate(0, [b"%d" % number for number in range(1_000)])
    run.slab.rows["sequence"][located] = np.arange(1_000)
    await run.checkpoints.publish(Scored(scores={0: [(b"u", b"all")]}, touched=located))
    run.checkpoints.reached({INPUT: 1_000})
    await run.checkpoints.flush()
    assert sorted(what for what, _ in broker.log) == ["committed", *["rows"] * -(-1_000 // PIECE_ROWS), "sent"]
    assert broker.rows == {(0, b"%d" % number): number for number in range(1_000)}
    assert broker.kept == {}, "none of these users was scored"


async def test_rows_go_with_their_own_partition() -> None:
    """One batch changes rows of several partitions, which are cut one after the other."""
    broker = Broker()
    run = Run(broker)
    located = [run.slab.locate(partition, [b"%d" % number for number in range(3)]) for partition in (2, 0, 1)]
    rows = np.concatenate(located)[[8, 0, 4, 1, 0, 3, 2, 5, 7, 6]]
    run.slab.rows["sequence"][rows] = rows + 1
    run.checkpoints.changed(rows[:5])
    run.checkpoints.changed(rows[5:])
    for partition in range(3):
        run.checkpoints.reached({TP("transactions", partition): 1})
    await run.checkpoints.tick()
    assert broker.begun == [0]
    await run.completed()
    assert broker.rows == {(0, b"%d" % number): 4 + number for number in range(3)}
    await run.checkpoints.flush()
    assert broker.rows == {
        (partition, b"%d" % number): 3 * place + number + 1
        for place, partition in enumerate((2, 0, 1))
        for number in range(3)
    }


async def test_nothing_new_makes_no_transaction() -> None:
    broker = Broker()
    run = Run(broker)
    await run.score(0)
    await run.checkpoints.flush()
    run.checkpoints.reached({INPUT: 1})
    await run.checkpoints.tick()
    await run.checkpoints.flush()
    assert [what for what, _ in broker.log].count("committed") == 1


async def test_a_failed_background_checkpoint_is_reported() -> None:
    run = Run(Broker(fails_at=2))
    await run.score(0)
    await run.checkpoints.tick()
    for _ in range(20):
        await asyncio.sleep(0)
    assert [type(failure) for failure in run.failures] == [ConnectionError]


async def test_partitions_are_cut_in_turn_each_once_in_an_interval() -> None:
    broker = Broker()
    run = Run(broker, interval_s=1.0 / CUT_SHARE)
    cut_s: dict[int, list[float]] = {partition: [] for partition in range(4)}
    steps = 400
    for step in range(steps):
        run.clock_s = step / 100
        await run.score(step, step % 4)
        known = len(broker.begun)
        await run.checkpoints.tick()
        assert len(broker.begun) - known <= 1, "one partition at a time"
        for partition in broker.begun[known:]:
            cut_s[partition].append(run.clock_s)
        await run.completed()
    for times_s in cut_s.values():
        assert len(times_s) == pytest.approx(4, abs=1)
        assert max(np.diff(times_s)) <= 1.05
    assert broker.begun[4:8] == broker.begun[:4]


@pytest.mark.parametrize(("is_behind", "begun_s"), [(False, [CUT_SHARE, 2 * CUT_SHARE]), (True, [1.0])])
async def test_a_worker_that_is_behind_cuts_once_in_an_interval(is_behind: bool, begun_s: list[float]) -> None:
    broker = Broker()
    run = Run(broker, interval_s=1.0)
    found_s: list[float] = []
    for step in range(150):
        run.clock_s = step / 100
        await run.score(step)
        known = len(broker.begun)
        await run.checkpoints.tick(is_behind=is_behind)
        await run.completed()
        found_s += [run.clock_s] * (len(broker.begun) - known)
    assert found_s == pytest.approx(begun_s)


async def test_a_partition_that_was_idle_does_not_wait_for_its_turn_and_delays_no_other() -> None:
    broker = Broker()
    run = Run(broker, interval_s=1.0 / CUT_SHARE)
    for step in range(300):
        run.clock_s = step / 100
        await run.score(step, 0)
        if step == 250:
            await run.score(7, 1)
        known = len(broker.begun)
        await run.checkpoints.tick()
        await run.completed()
        if step == 250:
            assert broker.begun[known:] == [1]
    assert broker.begun == [0, 0, 1]
    run.clock_s = 3.0
    await run.checkpoints.tick()
    assert broker.begun == [0, 0, 1, 0]


async def test_only_so_many_groups_are_completed_at_once_and_no_partition_twice() -> None:
    broker = Broker()
    broker.commits.clear()
    run = Run(broker)
    for number in range(3):
        for partition in range(4):
            await run.score(number, partition)
            await run.checkpoints.tick()
    assert len(broker.begun) == len(set(broker.begun)) == GROUPS_UNDER_WAY
    broker.commits.set()
    await run.completed()
    await run.checkpoints.flush()
    assert broker.committed == {TP("transactions", partition): 3 for partition in range(4)}


async def test_many_partitions_are_cut_in_groups() -> None:
    broker = Broker()
    run = Run(broker)
    for partition in range(20):
        await run.score(0, partition)
    await run.checkpoints.tick()
    assert broker.begun == [0, 1, 2]
    await run.checkpoints.flush()
    assert broker.committed == {TP("transactions", partition): 1 for partition in range(20)}


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 3)), min_size=8, max_size=14),
)
def test_whatever_fails_what_counts_is_one_moment(fails_at: int, steps: list[tuple[int, bool, int]]) -> None:
    """Committed scores, state and offsets of a partition are those of the same events, none missing and none twice."""
    broker = Broker(fails_at)
    counts = [0, 0, 0]

    async def work() -> None:
        run = Run(broker)
        for partition, tick, turns in steps:
            await run.score(counts[partition], partition)
            counts[partition] += 1
            if tick:
                await run.checkpoints.tick()
            for _ in range(turns):
                await asyncio.sleep(0)
        await run.checkpoints.flush()

    try:
        asyncio.run(work())
    except ConnectionError:
        pass
    else:
        assert broker.committed == {TP("transactions", at): count for at, count in enumerate(counts) if count}
    reached = {tp.partition: offset for tp, offset in broker.committed.items()}
    every = [number for offset in reached.values() for number in range(offset)]
    assert sorted(broker.scores) == sorted(b"%d" % number for number in every)
    assert sorted(broker.order) == sorted(every)
    assert broker.rows == {(partition, b"u"): offset - 1 for partition, offset in reached.items()}
    assert broker.kept == {
        ("scores.latest", partition, b"u"): b"%d" % (offset - 1) for partition, offset in reached.items()
    }


async def test_dead_letters_and_alerts_go_to_their_topics() -> None:
    broker = Broker()
    run = Run(broker)
    letter = DeadLetters().of(RawRecord("activity", 3, 1, 0, None, b"x"), "null_key", "no key")
    await run.checkpoints.publish(Scored(alerts={2: [(b"u", b"{}")]}, dead_letters=[letter]))
    run.checkpoints.reached({INPUT: 1})
    await run.checkpoints.flush()
    assert sorted(topic for what, topic in broker.log if what == "sent") == ["alerts", "dead-letters"]
    assert broker.headers == {"dead-letters": [letter.record_headers()]}


@pytest.mark.parametrize("forget", [True, False])
async def test_forget_drops_what_is_not_durable(forget: bool) -> None:
    broker = Broker()
    run = Run(broker)
    await run.score(0)
    if forget:
        run.checkpoints.forget()
    await run.checkpoints.flush()
    assert broker.committed == ({} if forget else {INPUT: 1})
    assert len(broker.kept) == (0 if forget else 1)
