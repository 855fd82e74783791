"""What writing leaves behind for a sink's metrics, as counts. Written by the sink, read in any thread."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from stream.database.kept_events import KeptEvent
from stream.database.products import ContractProduct
from stream.outputs import Alert, BorrowerContracts, DeadLetter, Output, Score
from stream.telemetry.catalogue import SINK_BATCH

TABLES: dict[type, str] = {
    Score: "scores",
    Alert: "alerts",
    BorrowerContracts: "contracts",
    DeadLetter: "dead_letters",
    ContractProduct: "products",
    KeptEvent: "events",
}
"""What a record becomes in the database."""


class SinkFigures:
    """Counts since the start of the process."""

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._clock_s = clock_s
        self.polls = 0
        self.written: Counter[str] = Counter()
        """Records by what they became."""
        self.batches = SINK_BATCH.histogram()
        """Durations of writing, in seconds, of batches that were written."""
        self.retries = 0
        self.skipped = 0
        self.is_writing = False
        self.waits_for_database = False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around an attempt to write a batch; only one that succeeds is counted."""
        started_s = self._clock_s()
        self.is_writing = True
        try:
            yield
        finally:
            self.is_writing = False
        self.batches.observe_one(self._clock_s() - started_s)

    def note_written(self, outputs: Iterable[Output | ContractProduct | KeptEvent]) -> None:
        """A batch of these was written."""
        self.waits_for_database = False
        for kind, count in Counter(map(type, outputs)).items():
            self.written[TABLES[kind]] += count

    def note_failure(self) -> None:
        """An attempt failed since the database was not available."""
        self.waits_for_database = True
        self.retries += 1
