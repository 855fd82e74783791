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

    async def publish_rows(self, partition: int, rows: Pairs) -> None:
        """Queue pairs of key and row (None for a forgotten user); waits while too much is queued."""
        if rows:
            sent = self._sent.setdefault(partition, [])
            if len(sent) >= PIECES_UNDER_WAY:
                await asyncio.wait([sent[-PIECES_UNDER_WAY][1]])  # what it failed with, `commit` raises
            sent.append((rows if self._keeps_rows else (), self._queue(self._changelog, partition, rows)))

    def publish(
        self,
        topic: str,
        partition: int,
        records: Sequence[tuple[bytes | None, bytes | None]],
        headers: Sequence[list[Header]] | None = None,
    ) -> None:
        """Queue records of one partition for another topic."""
        self._queue(topic, partition, records, headers)

    def _queue(
        self,
        topic: str,
        partition: int,
        records: Sequence[tuple[bytes | None, bytes | None]],
        headers: Sequence[list[Header]] | None = None,
    ) -> asyncio.Future[int]:
        ack = self._transactions[partition].send(topic, records, headers)
        ack.add_done_callback(_seen)
        return ack

    async def commit(self, partition: int, offsets: Mapping[TP, int]) -> None:
        """Commit the transaction of a partition, once all is acknowledged. Raises what `Transaction.commit` does."""
        changelog = TP(self._changelog, partition)
        sent = self._sent.pop(partition, [])
        await self._transactions[partition].commit(offsets, self._group, self._changelog, self._kept_offset(changelog))
        for rows, ack in sent:
            self._on_committed(changelog, rows, await ack)


def _seen(ack: asyncio.Future[int]) -> None:
    """`Transaction.commit` raises what a delivery failed with: asyncio need not tell that nobody has asked for it."""
    if not ack.cancelled():
        ack.exception()
