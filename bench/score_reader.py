"""Reads committed scores as they come, in a thread, as a limit service does. Measures nothing by itself."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Self

from kafka import TopicPartition

from bench.arena import Arena
from stream.kafka.clients import aiokafka_consumer, started

POLL_MS = 100


class ScoreReader(ABC):
    """Reads while it is entered. `begins` is where, and `fetch_max_wait_ms` how long the broker holds a fetch open
    while nothing is committed."""

    def __init__(self, arena: Arena, *, begins: Literal["earliest", "latest"], fetch_max_wait_ms: int) -> None:
        self.arena = arena
        self._begins = begins
        self._fetch_max_wait_ms = fetch_max_wait_ms
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read()), name="reader of scores")

    @abstractmethod
    def note(self, tp: TopicPartition, records: Sequence[Any]) -> None:
        """Records have come just now; called in the thread."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    async def _read(self) -> None:
        consumer = aiokafka_consumer(
            self.arena.kafka,
            self.arena.topics.scores,
            isolation_level="read_committed",
            auto_offset_reset=self._begins,
            fetch_max_wait_ms=self._fetch_max_wait_ms,
        )
        async with started(consumer):
            while not self._stopped.is_set():
                for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                    self.note(tp, records)
