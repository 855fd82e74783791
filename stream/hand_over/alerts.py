"""The alerts of an application's users, read from its changelog: first most of it, then, when it is final, the rest.

Of a row only the alert is read, which lies before the state of the network, so any model's rows will do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from kafka import TopicPartition
from numpy.typing import NDArray

from stream.alerts.carry_over import is_alerted, is_sound
from stream.alerts.state_machine import ALERT_STATE
from stream.kafka.clients import open_consumer
from stream.kafka.connection import KafkaConnection
from stream.state.row import row_dtype
from stream.structured import copy_records

POLL_MS = 500
STALLED_POLLS = 60
LAST_RECORDS = 200
"""So many offsets before its end the order journal is first looked at."""

_fields: Any = row_dtype(0).fields
_AT = int(_fields["alert"][1])


class ChangelogUnreadable(RuntimeError):
    """A changelog cannot be read to its end, or holds what is no row; the message says what."""


class AlertReader:
    """Reads partitions of a changelog, and how far the order journal goes, as often as asked."""

    def __init__(self, connection: KafkaConnection, changelog: str, order: str, partitions: Collection[int]) -> None:
        self._changelog = changelog
        self._consumer = open_consumer(
            connection,
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_poll_records=10_000,
            fetch_max_bytes=64 * 1024 * 1024,
            max_partition_fetch_bytes=8 * 1024 * 1024,
        )
        self._rows = [TopicPartition(changelog, partition) for partition in sorted(partitions)]
        journal = [TopicPartition(order, partition) for partition in sorted(partitions)]
        self._consumer.assign([*self._rows, *journal])
        self._consumer.seek_to_beginning(*self._rows)
        begins, ends = self._consumer.beginning_offsets(journal), self._consumer.end_offsets(journal)
        for tp in journal:
            self._consumer.seek(tp, max(begins[tp], ends[tp] - LAST_RECORDS))
        self.alerts: dict[int, dict[bytes, NDArray[np.void]]] = {partition: {} for partition in partitions}
        """By partition and key, ALERT_STATE of those who have or had an alert."""
        self.last_order: dict[int, bytes] = {}
        """By partition, the last record of the order journal, where it is recent."""

    def close(self) -> None:
        self._consumer.close()

    def positions(self) -> Mapping[int, int]:
        """By partition, the offset of the changelog that is to be read next."""
        return {tp.partition: int(self._consumer.position(tp)) for tp in self._rows}

    def read(self, on_progress: Callable[[int], None] = lambda _left: None) -> None:
        """Read to where the topics end now; `on_progress` gets how many offsets are left. Raises
        `ChangelogUnreadable`."""
        assigned = list(self._consumer.assignment())
        ends = self._consumer.end_offsets(assigned)
        silent = 0
        while behind := [tp for tp in assigned if self._consumer.position(tp) < ends[tp]]:
            on_progress(sum(ends[tp] - self._consumer.position(tp) for tp in behind))
            found = self._consumer.poll(timeout_ms=POLL_MS)
            silent = 0 if found else silent + 1
            if silent >= STALLED_POLLS:
                raise ChangelogUnreadable(f"no record of {behind} for {silent * POLL_MS // 1000} s; is the broker up?")
            for tp, records in found.items():
                if tp.topic == self._changelog:
                    self._take(tp.partition, records)
                else:
                    self.last_order[tp.partition] = records[-1].value or b""

    def _take(self, partition: int, records: Any) -> None:
        alerts = self.alerts[partition]
        rows = [record for record in records if record.value is not None]
        short = next((record for record in rows if len(record.value) < _AT + ALERT_STATE.itemsize), None)
        if short is not None:
            raise ChangelogUnreadable(
                f"{self._changelog}-{partition} holds at offset {short.offset} what is no row of this release: are "
                "its workers of another one? Upgrade them first"
            )
        values = b"".join(record.value[_AT : _AT + ALERT_STATE.itemsize] for record in rows)
        states = np.frombuffer(values, dtype=ALERT_STATE)
        strange = np.flatnonzero(~is_sound(states))
        if strange.size:
            raise ChangelogUnreadable(
                f"{self._changelog}-{partition} holds at offset {rows[int(strange[0])].offset} a row of another layout:"
                " its workers are of another release, and alerts cannot be taken over from it. Upgrade them first"
            )
        kept = dict(zip((record.offset for record in rows), is_alerted(states).tolist(), strict=True))
        at = {record.offset: number for number, record in enumerate(rows)}
        for record in records:
            if kept.get(record.offset):
                number = at[record.offset]
                alerts[record.key] = copy_records(states[number : number + 1])
            else:
                alerts.pop(record.key, None)
