"""A Faust store and table on a `Slab`: recovery writes rows into it, checkpoints publish rows from it.

The store is selected by the URL `slab://`. Rows are in the `Slab` that the app passes in the table's options, and with
`state_dir` also in archives on disk. This module moves their bytes and keeps the changelog offsets.

Faust's recovery is not taken at its word: blocks may be dropped, come late or twice while rebalances overlap, and some
of its waits end by the clock as if they had succeeded. So a block is taken only where the one before it ended, and what
was not read to where the changelog ended when this worker came to own it, and to where it was when the group's offsets
were committed, is not used.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import faust
from faust.stores.base import SerializedStore
from faust.types import TP

from stream.kafka.changelog import Block
from stream.kafka.poll import PollSchema
from stream.state.prefault import Prefault
from stream.state.slab import Slab
from stream.worker.restoration import Restoration

logger = logging.getLogger("foreshock.store")

MOST_GAPS = 50
"""So often in a row a partition may be read from another place than asked for, before the worker ends."""


class IncompleteState(RuntimeError):
    """States could not be read as they were committed: the worker would go on with less than others have published."""


class SlabStore(SerializedStore[bytes, bytes]):
    """A table's data in a `Slab`, keyed by partition and key.

    `options` of the table: `slab`; `own`, awaited with the input partitions assigned, before their changelogs are read;
    `committed_rows`, awaited with them after that, which tells by partition how far the changelog was when offsets were
    committed; `log_ends`, awaited with changelog partitions that other workers own, which tells where they end, open
    transactions included; `read_again`, called with a changelog partition and the offset to go on at; `on_failure`,
    called with the exception when a changelog holds what this worker cannot use (raising would not do: Faust's recovery
    logs an exception as a warning and goes on with an empty table); and, if somebody is to see it, a `Restoration`.
    """

    def __init__(self, url: Any, app: Any, table: Any, **kwargs: Any) -> None:
        super().__init__(url, app, table, **kwargs)
        options = self.options or {}
        self._slab: Slab = options["slab"]
        self._own: Callable[[frozenset[int]], Awaitable[None]] = options["own"]
        self._committed_rows: Callable[[frozenset[int]], Awaitable[Mapping[int, int]]] = options["committed_rows"]
        self._log_ends: Callable[[Sequence[TP]], Awaitable[Mapping[TP, int]]] = options["log_ends"]
        self._read_again: Callable[[TP, int], None] = options["read_again"]
        self._on_failure: Callable[[Exception], None] = options["on_failure"]
        self._offsets: dict[TP, int] = {}
        self._assigned: frozenset[TP] = frozenset()
        self._gaps: Counter[TP] = Counter()
        self._required: dict[TP, int] = {}
        """Offset to which the changelog of each owned partition must be read."""
        self._generation: int | None = None
        """Of the rebalance whose recovery is to come or under way; None while partitions are taken over."""
        self.restored: frozenset[int] = frozenset()
        """Partitions whose states are as they were committed; no event of another may be scored."""
        self._prefault = Prefault()
        self.restoration: Restoration = options.get("restoration") or Restoration()

    def persisted_offset(self, tp: TP) -> int:
        """Offset of the last changelog record that slab and archive hold, -1 for none.

        Not None, for which Faust would take what it remembers of an earlier assignment.
        """
        return self._offsets.get(tp, -1)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        self._offsets[tp] = offset

    def take(self, tp: TP, block: Block) -> None:
        """Write the changelog records of a block into the slab, where it goes on from what is there."""
        if tp not in self._assigned or not self._goes_on(tp, block.start):
            block.release()
            return
        try:
            self.restoration.row_count += self._slab.restore(tp.partition, block.columns, block.next_offset - 1)
        except Exception as error:  # of the state, or of the disk
            self._on_failure(error)
            return
        block.release()
        self._offsets[tp] = block.next_offset - 1
        self._note_remaining(tp)
        self._prefault.ahead_of(self._slab.rows, self._slab.extent)

    def apply_changelog_batch(self, *_: Any, **__: Any) -> None:
        """Does nothing: blocks are taken as they come. From its buffer Faust would pass on the last ones when it has
        already found the recovery complete, too late to read again what is missing before them."""

    def _goes_on(self, tp: TP, start: int) -> bool:
        """Whether a block that begins at `start` leaves nothing out; where it does, reading goes back."""
        held = self.persisted_offset(tp)
        if 0 <= start <= held + 1:
            self._gaps.pop(tp, None)
            return True
        self._gaps[tp] += 1
        if self._gaps[tp] > MOST_GAPS:
            self._on_failure(
                IncompleteState(
                    f"{tp.topic}-{tp.partition} cannot be read on from offset {held + 1}: what comes begins at {start}"
                )
            )
            return False
        tables: Any = self.app.tables
        recovery = tables.recovery
        for offsets in (recovery.active_offsets, recovery.standby_offsets):
            if tp in offsets:
                offsets[tp] = held  # or Faust would take what is read again for known
        self._read_again(tp, held + 1)
        return False

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
        generation_id: int = 0,
    ) -> None:
        """Take the partitions over from their former owners; then begin with what this machine's disk has of them.

        Both before recovery asks how far the changelogs go.
        """
        changelog = self.table.changelog_topic.get_topic_name()
        self.restored, self._generation = frozenset(), None
        self.restoration.begin()
        self._assigned = frozenset(tp for tp in assigned if tp.topic == changelog)
        owned = frozenset(tp.partition for tp in assigned if tp.topic != changelog)
        try:
            await self._own(owned)
            # Asked now and not when recovery is complete: a worker that was frozen meanwhile would find what others,
            # who own its partitions since, have added.
            ends = await self.app.consumer.highwaters(*sorted(self._assigned)) if self._assigned else {}
            committed = await self._committed_rows(owned)
            await self._open(ends, owned)
        except Exception as error:
            self._on_failure(error)
            return
        self._required = {
            tp: max(end - 1, committed.get(tp.partition, -1)) for tp, end in ends.items() if tp.partition in owned
        }
        self.restoration.owned = owned
        for tp in self._required:
            self._note_remaining(tp)
        self._generation = generation_id

    def _note_remaining(self, tp: TP) -> None:
        if tp in self._required:
            self.restoration.remaining[tp.partition] = max(self._required[tp] - self.persisted_offset(tp), 0)

    async def _open(self, ends: Mapping[TP, int], owned: frozenset[int]) -> None:
        """Begin with what memory and disk have of partitions, unless that is more than their changelogs have."""
        on_disk = {tp: self._slab.open_partition(tp.partition) for tp in sorted(ends)}
        known = {tp: self._offsets.get(tp, found) for tp, found in on_disk.items()}
        # Where this worker owns a partition, `own` has seen to it that no transaction is under way. Where it only
        # stands by, the marker of a commit, maybe its own last one, can be still to come: until then readers see an
        # earlier end.
        ahead = [tp for tp, at in known.items() if at is not None and at >= ends[tp] and tp.partition not in owned]
        if ahead:
            ends = {**ends, **await self._log_ends(ahead)}
        for tp, found in on_disk.items():
            held = self._offsets.get(tp)
            offset = found if held is None else held
            if offset is None:
                continue
            cause = f"it stands for offset {offset} of {tp.topic}-{tp.partition}, which ends before {ends[tp]}"
            if offset < ends[tp]:
                self._offsets[tp] = offset
                if held is None:
                    logger.info("partition %d: %d changelog records are on disk", tp.partition, offset + 1)
            elif held is None:
                self._slab.discard_partition(tp.partition, cause)
            else:
                raise IncompleteState(f"the state of partition {tp.partition} is ahead of its changelog: {cause}")

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """See that the states are complete, and drop the rows of partitions that other workers have now."""
        self._prefault.stop()
        if self._is_overtaken() or not self._is_complete(active_tps):
            return
        self.restored = self.restoration.restored = frozenset(tp.partition for tp in active_tps)
        kept = {tp.partition for tp in active_tps | standby_tps}
        for partition in self._slab.partitions():
            if partition not in kept:
                self._slab.drop_partition(partition)
        for tp in [tp for tp in self._offsets if tp.partition not in kept]:
            del self._offsets[tp]
        logger.info("%d rows were read from the changelog, for partitions %s", self.restoration.row_count, sorted(kept))

    def _is_overtaken(self) -> bool:
        """Whether the recovery that completes is of an earlier rebalance than the last: then another one follows.

        Faust tells a table of a rebalance first, then its recovery, which begins anew when `signal_recovery_start` is
        read; until then the completion of the one before may still come.
        """
        tables: Any = self.app.tables
        recovery = tables.recovery
        return bool(self._generation != recovery._generation_id or recovery.signal_recovery_start.is_set())

    def _is_complete(self, active_tps: set[TP]) -> bool:
        """Whether all rows were read that stood in the changelogs of these partitions; fails where one was not.

        Since they are owned, nobody else can have added one that belongs to what this worker may commit.
        """
        missing = [
            f"{tp.topic}-{tp.partition} to {self.persisted_offset(tp)} of {self._required.get(tp, 'an unknown end')}"
            for tp in sorted(active_tps)
            if tp not in self._required or self.persisted_offset(tp) < self._required[tp]
        ]
        if missing:
            self._on_failure(
                IncompleteState(
                    f"states are not complete, the changelog was read only up to an offset: {', '.join(missing)}. "
                    "Nothing was scored with them; start this worker again. Where it ends like this again, the "
                    "changelog has lost its end: start under another application_id"
                )
            )
        return not missing

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

    async def on_changelog_event(self, event: Any) -> None:
        """Called by Faust's recovery with a message whose value is a `Block`, before it looks what is still to come."""
        cast(SlabStore, self.data).take(event.message.tp, event.message.value)

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
