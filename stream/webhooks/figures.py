"""What a deliverer of webhooks leaves behind for its metrics, as counts. Written by it, read in any thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stream.telemetry.catalogue import WEBHOOK_SECONDS
from stream.webhooks.deliveries import Waiting


class WebhookFigures:
    """Counts since the start of the process, and what was last seen of the topics and the table."""

    def __init__(self) -> None:
        self.polls = 0
        self.taken = 0
        """Records of the topics that were taken into the table."""
        self.skipped = 0
        self.batches = 0
        self.is_writing = False
        self.waits_for_database = False
        self.assigned: frozenset[Any] | None = None
        """What this process reads; None before the group has told for the first time."""
        self.lag: Mapping[Any, int] = {}
        self.unreachable_s = 0.0
        self.tries: Counter[tuple[str, str]] = Counter()
        """Tries by webhook and what came of them."""
        self.seconds = WEBHOOK_SECONDS.histogram()
        self.settled = 0
        self.waiting: Sequence[Waiting] = ()

    def note_taken(self, records: int) -> None:
        """So many records are in the table now."""
        self.taken += records
        self.batches += 1
        self.waits_for_database = False

    def note_outage(self) -> None:
        """The database was not available."""
        self.waits_for_database = True

    def note_try(self, webhook: str, outcome: str, seconds: float) -> None:
        """A try that took so long."""
        self.tries[webhook, outcome] += 1
        self.settled += 1
        self.seconds.observe_one(seconds)
