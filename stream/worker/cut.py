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
        self._sent: list[tuple[TP, Pairs, int]] = []

    async def publish_rows(self, rows: Mapping[int, Pairs]) -> None:
        """Send pairs of key and row (None for a forgotten user) by partition; returns when all replicas have them."""
        pending = [
            (partition, pairs, await self._transactions[partition].send(self._changelog, pairs))
            for partition, pairs in rows.items()
            if pairs
        ]
        for partition, pairs, acks in pending:
            metadata = await asyncio.gather(*acks)
            # The offset of a batch is that of its first record.
            tp = TP(self._changelog, partition)
            self._sent.append((tp, pairs if self._keeps_rows else (), metadata[-1].offset))

    async def publish(
        self,
        topic: str,
        partition: int,
        records: Sequence[tuple[bytes | None, bytes | None]],
        headers: Sequence[list[Header]] | None = None,
    ) -> None:
        """Send records of one partition to another topic; returns when all replicas have them."""
        await asyncio.gather(*await self._transactions[partition].send(topic, records, headers))

    async def commit(self, offsets: Mapping[TP, int]) -> None:
        """Commit the transactions of the partitions that `offsets` are about. Raises what `Transaction.commit` does."""
        by_partition: dict[int, dict[TP, int]] = {}
        for tp, offset in offsets.items():
            by_partition.setdefault(tp.partition, {})[tp] = offset
        await asyncio.gather(
            *(
                self._transactions[partition].commit(own, self._group, self._changelog_offset(partition))
                for partition, own in by_partition.items()
            )
        )
        committed = [sent for sent in self._sent if sent[0].partition in by_partition]
        self._sent = [sent for sent in self._sent if sent[0].partition not in by_partition]
        for tp, pairs, offset in committed:
            self._on_committed(tp, pairs, offset)

    def _changelog_offset(self, partition: int) -> int:
        """How far the partition's changelog is with this cut."""
        changelog = TP(self._changelog, partition)
        sent = [offset for tp, _, offset in self._sent if tp == changelog]
        return max(sent, default=self._kept_offset(changelog))
