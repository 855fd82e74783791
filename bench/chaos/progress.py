"""How far workers and sinks have come, looked at twice a second, and how long a fault kept what was there from them.

Survives a broker that is away: it asks again. Writes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from stream.kafka.clients import open_admin, open_consumer
from stream.kafka.connection import KafkaConnection

EVERY_S = 0.4
REQUEST_TIMEOUT_MS = 5_000

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True)
class Followed:
    """A consumer group and the topics that it reads."""

    group: str
    topics: Sequence[str]


@dataclass
class _Mark:
    """Something that happened, and what stood in the topics at the first look after it."""

    kind: str
    at_s: float
    ends: Offsets | None = None


@dataclass
class _Sample:
    at_s: float = 0.0
    ends: Offsets = field(default_factory=dict)
    committed: Offsets = field(default_factory=dict)

    @property
    def is_caught_up(self) -> bool:
        return bool(self.ends) and all(self.committed.get(tp, 0) >= end for tp, end in self.ends.items())


class Progress:
    """Follows groups by name, from a thread of its own. A context."""

    def __init__(self, kafka: KafkaConnection, followed: Mapping[str, Followed]) -> None:
        self._kafka = kafka
        self._followed = followed
        self._samples = {name: _Sample() for name in followed}
        self._marks: dict[str, list[_Mark]] = {name: [] for name in followed}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self.recovery_s: dict[str, list[float]] = {}
        """By kind of fault: seconds from each until all was committed that stood in the topics at the first look after
        it."""

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(60)

    def mark(self, kind: str, name: str) -> None:
        """A fault of `kind` begins now, and keeps the group of that name from what stands in its topics."""
        with self._lock:
            if name in self._samples:
                self._marks[name].append(_Mark(kind, time.monotonic()))

    def await_all(self, limit_s: float, meanwhile: Any) -> bool:
        """Wait until all groups have committed all that their topics hold from now on, calling `meanwhile` again and
        again; False when that takes longer than `limit_s`."""
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < limit_s:
            meanwhile()
            with self._lock:
                samples = list(self._samples.values())
            if all(sample.at_s > begun_s and sample.is_caught_up for sample in samples):
                return True
            time.sleep(0.2)
        return False

    def lag(self) -> dict[str, int]:
        """Offsets that each group was behind when it was last looked at."""
        with self._lock:
            return {
                name: sum(end - sample.committed.get(tp, 0) for tp, end in sample.ends.items())
                for name, sample in self._samples.items()
            }

    def _follow(self) -> None:
        while not self._stopped.is_set():
            consumer = admin = None
            with suppress(KafkaError, OSError, ValueError):
                consumer = open_consumer(self._kafka, enable_auto_commit=False, request_timeout_ms=REQUEST_TIMEOUT_MS)
                admin = open_admin(self._kafka, request_timeout_ms=REQUEST_TIMEOUT_MS)
                while not self._stopped.wait(EVERY_S):
                    self._look(consumer, admin)
            for client in (consumer, admin):
                with suppress(KafkaError, OSError, ValueError):
                    if client is not None:
                        client.close()
            self._stopped.wait(EVERY_S)

    def _look(self, consumer: Any, admin: Any) -> None:
        for name, followed in self._followed.items():
            at_s = time.monotonic()
            tps = [
                TopicPartition(topic, number)
                for topic in followed.topics
                for number in consumer.partitions_for_topic(topic) or ()
            ]
            if not tps:
                continue
            # Outputs are read committed, and so are inputs: what is behind an open transaction does not count yet.
            ends = consumer.end_offsets(tps)
            found = admin.list_group_offsets({followed.group: None}).get(followed.group, {})
            committed = {TopicPartition(tp.topic, tp.partition): int(at.offset) for tp, at in found.items()}
            self._take(name, _Sample(at_s, ends, committed))

    def _take(self, name: str, sample: _Sample) -> None:
        now_s = time.monotonic()
        with self._lock:
            self._samples[name] = sample
            waiting = []
            for mark in self._marks[name]:
                if sample.at_s < mark.at_s:
                    waiting.append(mark)  # it was asked before
                    continue
                mark.ends = sample.ends if mark.ends is None else mark.ends
                if all(sample.committed.get(tp, 0) >= end for tp, end in mark.ends.items()):
                    self.recovery_s.setdefault(mark.kind, []).append(round(now_s - mark.at_s, 1))
                else:
                    waiting.append(mark)
            self._marks[name] = waiting
