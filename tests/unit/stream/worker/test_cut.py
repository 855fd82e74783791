"""Rows and offsets of an interval go into their partitions' transactions, and are reported once they count."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from faust.types import TP

from stream.worker.cut import PIECES_UNDER_WAY, IntervalCut, Pairs

CHANGELOG = "app-user_state-changelog"


class Transaction:
    """Of one partition; `fails` when it is to be committed."""

    def __init__(self, partition: int, fails: bool = False) -> None:
        self.partition = partition
        self.fails = fails
        self.silent = False
        self.acks: list[asyncio.Future[int]] = []
        self.log: list[Any] = []

    def send(self, topic: str, records: Pairs, headers: object = None) -> asyncio.Future[int]:
        assert headers is None
        self.log.append((topic, list(records)))
        acknowledged: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if not self.silent:
            acknowledged.set_result(10 * len(self.log))
        self.acks.append(acknowledged)
        return acknowledged

    async def commit(self, offsets: Mapping[TP, int], group: str, changelog: str, kept_offset: int) -> None:
        if self.fails:
            raise ConnectionError("fenced")
        assert changelog == CHANGELOG
        self.log.append((group, dict(offsets), kept_offset))


def cut_of(*transactions: Transaction, keeps_rows: bool = True) -> tuple[IntervalCut, list[Any]]:
    told: list[Any] = []

    def tell(tp: TP, pairs: Sequence[tuple[bytes, bytes]], offset: int) -> None:
        told.append((tp, list(pairs), offset))

    by_partition: Any = {transaction.partition: transaction for transaction in transactions}
    return IntervalCut(by_partition, "app", CHANGELOG, tell, lambda tp: 3 + tp.partition, keeps_rows=keeps_rows), told


@pytest.mark.parametrize("keeps_rows", [True, False])
async def test_rows_and_offsets_go_by_partition(keeps_rows: bool) -> None:
    first, second = Transaction(0), Transaction(1)
    cut, told = cut_of(first, second, keeps_rows=keeps_rows)
    await cut.publish_rows(0, [(b"a", b"1")])
    await cut.publish_rows(1, [(b"b", b"2")])
    await cut.publish_rows(0, [(b"c", b"3")])
    assert told == [], "nothing counts yet"
    await cut.commit(0, {TP("activity", 0): 4, TP("transactions", 0): 7})
    assert first.log == [
        (CHANGELOG, [(b"a", b"1")]),
        (CHANGELOG, [(b"c", b"3")]),
        ("app", {TP("activity", 0): 4, TP("transactions", 0): 7}, 3),
    ]
    of_first = [([(b"a", b"1")], 10), ([(b"c", b"3")], 20)]
    assert told == [(TP(CHANGELOG, 0), pairs if keeps_rows else [], offset) for pairs, offset in of_first]
    assert second.log == [(CHANGELOG, [(b"b", b"2")])], "its turn comes later"
    await cut.commit(1, {TP("activity", 1): 2})
    assert second.log[1:] == [("app", {TP("activity", 1): 2}, 4)]
    assert told[2:] == [(TP(CHANGELOG, 1), [(b"b", b"2")] if keeps_rows else [], 10)]


async def test_records_of_other_topics_go_into_the_partitions_transaction_and_are_no_rows() -> None:
    first, second = Transaction(0), Transaction(1)
    cut, told = cut_of(first, second)
    cut.publish("contracts", 0, [(b"a", b"1")])
    await cut.commit(0, {TP("activity", 0): 4})
    assert first.log == [("contracts", [(b"a", b"1")]), ("app", {TP("activity", 0): 4}, 3)], (
        "the changelog is as before"
    )
    assert (second.log, told) == ([], [])


async def test_what_cannot_be_committed_is_not_reported() -> None:
    cut, told = cut_of(Transaction(0, fails=True))
    await cut.publish_rows(0, [(b"a", b"1")])
    with pytest.raises(ConnectionError, match="fenced"):
        await cut.commit(0, {TP("activity", 0): 4})
    assert told == []


async def test_only_so_many_pieces_are_under_way() -> None:
    transaction = Transaction(0)
    transaction.silent = True
    cut, _ = cut_of(transaction)
    queueing = [asyncio.create_task(cut.publish_rows(0, [(b"%d" % number, b"1")])) for number in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in queueing] == [True] * PIECES_UNDER_WAY + [False]
    transaction.acks[0].set_result(10)
    await queueing[3]
    assert [records for _, records in transaction.log] == [[(b"%d" % number, b"1")] for number in range(4)]
