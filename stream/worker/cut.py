"""The transactions of one interval on their way to being committed: rows to the changelog, what is kept by borrower to
its topics, then the offsets.

What goes into which transaction, and when one is cut, is `stream.worker.checkpoint`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from faust.types import TP

from stream.kafka.record import Header
from stream.kafka.transactions import Transaction

Pairs = Sequence[tuple[bytes, bytes | None]]

PIECES_UNDER_WAY = 3
"""So many pieces of rows of a partition may wait for their acknowledgement: they are held in memory twice."""


class IntervalCut:
    """Transactions by partition, closed for outputs."""

    def __init__(
        self,
        transactions: Mapping[int, Transaction],
        group: str,
        changelog: str,
        on_committed: Callable[[TP, Pairs, int], None],
        kept_offset: Callable[[TP], int],
        *,
        keeps_rows: bool,
    ) -> None:
        """`on_committed` is told of rows and how far they are in the changelog once that counts; without `keeps_rows`
        it is told no rows, which then need not be held until the commit. `kept_offset` tells how far it is already."""
        self._transactions = transactions
        self._group = group
        self._changelog = changelog
        self._on_committed = on_committed
        self._kept_offset = kept_offset
        self._keeps_rows = keeps_rows
        self._sent: dict[int, list[tuple[Pairs, asyncio.Future[int]]]] = {}
        """By partition, rows in the order in which they were queued, and what is done when they are acknowledged."""
        self._others: dict[int, list[asyncio.Future[int]]] = {}
        self._reached: dict[int, list[tuple[Pairs, int]]] = {}
        """By partition, rows that are acknowledged and their offset in the changelog."""

    async def publish_rows(self, partition: int, rows: Pairs) -> None:
        """Queue pairs of key and row (None for a forgotten user); waits while too much is queued."""
        if rows:
            sent = self._sent.setdefault(partition, [])
            if len(sent) >= PIECES_UNDER_WAY:
                await asyncio.wait([sent[-PIECES_UNDER_WAY][1]])  # what it failed with, `acknowledged` raises
            ack = self._transactions[partition].send(self._changelog, rows)
            sent.append((rows if self._keeps_rows else (), ack))

    async def publish(
        self,
        topic: str,
        partition: int,
        records: Sequence[tuple[bytes | None, bytes | None]],
        headers: Sequence[list[Header]] | None = None,
    ) -> None:
        """Queue records of one partition for another topic; waits while too much is queued."""
        self._others.setdefault(partition, []).append(self._transactions[partition].send(topic, records, headers))

    async def acknowledged(self, partition: int) -> None:
        """Returns when all replicas have what was queued of a partition. Raises what a delivery failed with."""
        reached = self._reached.setdefault(partition, [])
        for rows, ack in self._sent.pop(partition, ()):
            reached.append((rows, await ack))
        await asyncio.gather(*self._others.pop(partition, ()))

    async def commit(self, partition: int, offsets: Mapping[TP, int]) -> None:
        """Commit the transaction of a partition, all of which must be acknowledged. Raises what `Transaction.commit`
        does."""
        changelog = TP(self._changelog, partition)
        reached = self._reached.pop(partition, [])
        last = max((offset for _, offset in reached), default=self._kept_offset(changelog))
        await self._transactions[partition].commit(offsets, self._group, last)
        for rows, offset in reached:
            self._on_committed(changelog, rows, offset)
