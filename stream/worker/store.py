"""A Faust store and table on a `Slab`: recovery writes rows into it, checkpoints publish rows from it.

The store is selected by the URL `slab://`. Rows are in the `Slab` that the app passes in the table's options, and with
`state_dir` also in archives on disk. This module moves their bytes and keeps the changelog offsets.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

import faust
from faust.stores.base import SerializedStore
from faust.types import TP

from stream.kafka.poll import PollSchema
from stream.state.prefault import Prefault
from stream.state.slab import Slab

logger = logging.getLogger("foreshock.store")


class SlabStore(SerializedStore[bytes, bytes]):
    """A table's data in a `Slab`, keyed by partition and key.

    `options` of the table: `slab`; `own`, awaited with the input partitions assigned, before their changelogs are read;
    and `on_failure`, called with the exception when a changelog holds what this worker cannot use. (Raising would not
    do: Faust's recovery logs an exception as a warning and goes on with an empty table.)
    """

    def __init__(self, url: Any, app: Any, table: Any, **kwargs: Any) -> None:
        super().__init__(url, app, table, **kwargs)
        options = self.options or {}
        self._slab: Slab = options["slab"]
        self._own: Callable[[frozenset[int]], Awaitable[None]] = options["own"]
        self._on_failure: Callable[[Exception], None] = options["on_failure"]
        self._offsets: dict[TP, int] = {}
        self._prefault = Prefault()
        self.restored_rows = 0

    def persisted_offset(self, tp: TP) -> int | None:
        """Offset of the last changelog record that slab and archive hold; None makes recovery read from the start."""
        return self._offsets.get(tp)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        self._offsets[tp] = offset

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Any, to_value: Any) -> None:  # noqa: ARG002
        """Write changelog records into the slab; each event's value is a `Block` of one partition."""
        for event in batch:
            tp, block = event.message.tp, event.message.value
            try:
                self.restored_rows += self._slab.restore(tp.partition, block.columns, block.next_offset - 1)
            except Exception as error:  # of the state, or of the disk
                self._on_failure(error)
                return
            block.release()
            self._offsets[tp] = block.next_offset - 1
            self._prefault.ahead_of(self._slab.rows, self._slab.extent)

    def archive(self, tp: TP, rows: Sequence[tuple[bytes, bytes | None]], offset: int) -> None:
        """Rows stand in the changelog up to `offset`, committed. Having less on record than the slab holds is safe: a
        later recovery reads the difference again and writes the same rows."""
        self._slab.archive(tp.partition, rows, offset)
        self.set_persisted_offset(tp, offset)

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],  # noqa: ARG002
        newly_assigned: set[TP],  # noqa: ARG002
        generation_id: int = 0,  # noqa: ARG002
    ) -> None:
        """Take the partitions over from their former owners; then begin with what this machine's disk has of them.

        Both before recovery asks how far the changelogs go.
        """
        changelog = self.table.changelog_topic.get_topic_name()
        try:
            await self._own(frozenset(tp.partition for tp in assigned if tp.topic != changelog))
            for tp in sorted(tp for tp in assigned if tp.topic == changelog):
                await self._open(tp)
        except Exception as error:
            self._on_failure(error)

    async def _open(self, tp: TP) -> None:
        offset = self._slab.open_partition(tp.partition)
        if offset is None or tp in self._offsets:
            return
        end = (await self.app.consumer.highwaters(tp)).get(tp)
        if end is not None and offset >= end:
            cause = f"it stands for offset {offset} of {tp.topic}-{tp.partition}, which ends before {end}"
            self._slab.discard_partition(tp.partition, cause)
        else:
            self._offsets[tp] = offset
            logger.info("partition %d: %d changelog records are on disk", tp.partition, offset + 1)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Drop the rows of partitions that other workers have now."""
        self._prefault.stop()
        kept = {tp.partition for tp in active_tps | standby_tps}
        for partition in self._slab.partitions():
            if partition not in kept:
                self._slab.drop_partition(partition)
        for tp in [tp for tp in self._offsets if tp.partition not in kept]:
            del self._offsets[tp]
        logger.info("%d rows were read from the changelog, for partitions %s", self.restored_rows, sorted(kept))

    def reset_state(self) -> None:
        self._slab.clear()
        self._offsets.clear()

    async def backup_partition(self, *_: Any, **__: Any) -> None:
        """Does nothing: the changelog is the backup."""

    def restore_backup(self, *_: Any, **__: Any) -> None:
        """Does nothing, see `backup_partition`."""

    def _get(self, key: bytes) -> bytes | None:
        found = (self._slab.get(partition, key) for partition in self._slab.partitions())
        return next((row for row in found if row is not None), None)

    def _set(self, key: bytes, value: bytes | None) -> None:  # noqa: ARG002
        raise TypeError(f"user {key!r}: rows are written by the scorer, with their partition, not through the table")

    def _del(self, key: bytes) -> None:
        for partition in self._slab.partitions():
            self._slab.remove(partition, key)

    def _iterkeys(self) -> Iterator[bytes]:
        return (key for _, key, _ in self._slab.items())

    def _itervalues(self) -> Iterator[bytes | None]:
        return (row for _, _, row in self._slab.items())

    def _iteritems(self) -> Iterator[tuple[bytes, bytes]]:
        return ((key, row) for _, key, row in self._slab.items())

    def _size(self) -> int:
        return len(self._slab)

    def _contains(self, key: bytes) -> bool:
        return self._get(key) is not None

    def _clear(self) -> None:
        self._slab.clear()


class StateTable(faust.Table[bytes, bytes]):
    """The changelog-backed table of user rows. The changelog is written by checkpoints, in transactions."""

    def _new_changelog_topic(self, **_: Any) -> Any:
        return self.app.topic(
            self._changelog_topic_name(),
            schema=PollSchema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"),
            partitions=self.partitions,
            compacting=True,
            deleting=False,
            acks=False,
            internal=True,
            maxsize=8,
            allow_empty=True,
        )
