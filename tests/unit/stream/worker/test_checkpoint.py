"""The order of a checkpoint, and what is left when the world fails at any point of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from stream.scoring.scorer import Scored
from stream.state.row import blank_row, row_dtype
from stream.state.slab import Slab
from stream.topics import Topics
from stream.worker.checkpoint import Checkpoints, KeyedValue

INPUT = TP("transactions", 0)


class Broker:
    """Remembers what reached it, in order; fails from its `fails_at`-th operation on."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.log: list[tuple[str, Any]] = []
        self.rows: dict[tuple[int, bytes], int] = {}
        self.committed: dict[TP, int] = {}
        self.scores: list[bytes] = []
        self._operations = 0
        self._fails_at = fails_at

    async def _operate(self) -> None:
        await asyncio.sleep(0)
        self._operations += 1
        if self._fails_at is not None and self._operations >= self._fails_at:
            raise ConnectionError("the broker is gone")

    async def send(self, topic: str, _: int, records: Sequence[KeyedValue]) -> Sequence[Awaitable[Any]]:
        async def acknowledge() -> None:
            await self._operate()
            self.log.append(("sent", topic))
            if topic == "scores":
                self.scores += [value for _, value in records]

        return [asyncio.ensure_future(acknowledge())]

    async def publish_rows(self, rows: Mapping[int, Sequence[tuple[bytes, bytes]]]) -> None:
        await self._operate()
        self.log.append(("rows", None))
        for partition, pairs in rows.items():
            for key, value in pairs:
                self.rows[partition, key] = int.from_bytes(value[8:16], "little")

    async def commit(self, offsets: Mapping[TP, int]) -> None:
        await self._operate()
        self.log.append(("committed", dict(offsets)))
        self.committed |= offsets


class Run:
    """A worker reduced to its bookkeeping: event n raises the user's sequence to n and is published as n."""

    def __init__(self, broker: Broker, interval_s: float = 0.0) -> None:
        self.slab = Slab(blank_row(row_dtype(1), 1))
        self.failures: list[BaseException] = []
        self.clock_s = 0.0
        self.checkpoints = Checkpoints(
            broker,
            self.slab,
            Topics(),
            interval_s=interval_s,
            monotonic=lambda: self.clock_s,
            on_failure=self.failures.append,
        )

    async def score(self, number: int) -> None:
        located = self.slab.locate(0, [b"u"])
        rows = self.slab.gather(located)
        rows["sequence"] = number
        self.slab.scatter(located, rows)
        scored = Scored(scores={0: [(b"u", b"%d" % number)]}, touched=located)
        await self.checkpoints.publish(scored)
        self.checkpoints.reached({INPUT: number + 1})


async def test_outputs_then_rows_then_offsets() -> None:
    broker = Broker()
    run = Run(broker)
    await run.score(0)
    await run.score(1)
    await run.checkpoints.flush()
    assert broker.log == [("sent", "scores"), ("sent", "scores"), ("rows", None), ("committed", {INPUT: 2})]
    assert broker.rows == {(0, b"u"): 1}


async def test_one_changelog_record_per_user_and_interval() -> None:
    broker = Broker()
    run = Run(broker, interval_s=10.0)
    for number in range(5):
        await run.score(number)
        run.checkpoints.tick()
        await asyncio.sleep(0)
    assert ("rows", None) not in broker.log
    run.clock_s = 11.0
    run.checkpoints.tick()
    await run.checkpoints.flush()
    assert [what for what, _ in broker.log].count("rows") == 1
    assert broker.committed == {INPUT: 5}


async def test_a_row_waits_for_the_outputs_of_all_that_it_holds() -> None:
    """Scoring goes on while a checkpoint is on its way: what it has added to a row is published before the row."""
    broker = Broker()
    run = Run(broker)
    run.clock_s = 1.0
    await run.score(0)
    run.checkpoints.tick()
    await run.score(1)
    while ("rows", None) not in broker.log:
        await asyncio.sleep(0)
    assert broker.rows == {(0, b"u"): 1}
    assert broker.log == [("sent", "scores"), ("sent", "scores"), ("rows", None)]
    while run.checkpoints.running:
        await asyncio.sleep(0)
    assert broker.committed == {INPUT: 1}, "an offset that was reached after the checkpoint began"


async def test_rows_go_in_pieces() -> None:
    broker = Broker()
    run = Run(broker)
    located = run.slab.locate(0, [b"%d" % number for number in range(1_000)])
    run.slab.rows["sequence"][located] = np.arange(1_000)
    await run.checkpoints.publish(Scored(scores={0: [(b"u", b"all")]}, touched=located))
    run.checkpoints.reached({INPUT: 1_000})
    await run.checkpoints.flush()
    assert [what for what, _ in broker.log] == ["sent", *["rows"] * 16, "committed"]
    assert broker.rows == {(0, b"%d" % number): number for number in range(1_000)}


async def test_a_failed_background_checkpoint_is_reported() -> None:
    run = Run(Broker(fails_at=2))
    run.clock_s = 1.0
    await run.score(0)
    run.checkpoints.tick()
    for _ in range(20):
        await asyncio.sleep(0)
    assert [type(failure) for failure in run.failures] == [ConnectionError]


@given(st.integers(1, 30), st.lists(st.booleans(), min_size=8, max_size=8))
def test_whatever_fails_offsets_never_overtake_rows_nor_rows_outputs(fails_at: int, ticks: list[bool]) -> None:
    broker = Broker(fails_at)

    async def work() -> None:
        run = Run(broker)
        for number, tick in enumerate(ticks):
            await run.score(number)
            run.clock_s += 1.0
            if tick:
                run.checkpoints.tick()
            await asyncio.sleep(0)
        await run.checkpoints.flush()

    try:
        asyncio.run(work())
    except ConnectionError:
        pass
    else:
        assert broker.committed == {INPUT: len(ticks)}
    state = broker.rows.get((0, b"u"), -1)
    assert broker.committed.get(INPUT, 0) <= state + 1, "an offset was committed whose state is not durable"
    assert {b"%d" % number for number in range(state + 1)} <= set(broker.scores), "a state overtook its outputs"


async def test_dead_letters_and_alerts_go_to_their_topics() -> None:
    from stream.kafka.record import RawRecord
    from stream.scoring.intake import dead_letter

    broker = Broker()
    run = Run(broker)
    letter = dead_letter(RawRecord("activity", 3, 1, 0, None, b"x"), "null_key", "no key")
    await run.checkpoints.publish(Scored(alerts={2: [(b"u", b"{}")]}, dead_letters=[letter]))
    await run.checkpoints.flush()
    assert sorted(topic for _, topic in broker.log) == ["alerts", "dead-letters"]


@pytest.mark.parametrize("forget", [True, False])
async def test_forget_drops_what_is_not_durable(forget: bool) -> None:
    broker = Broker()
    run = Run(broker)
    await run.score(0)
    if forget:
        run.checkpoints.forget()
    await run.checkpoints.flush()
    assert broker.committed == ({} if forget else {INPUT: 1})
