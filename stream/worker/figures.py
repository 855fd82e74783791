"""What scoring leaves behind for the metrics: delays, scores, refusals and alerts, as counts. Written in the event
loop, read in any thread; nobody waits for it.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stream.scoring.intake import Taken
from stream.scoring.scorer import Scored
from stream.telemetry.catalogue import EVENT_TO_SCORE, POLL_TO_SCORE, SCORE
from stream.worker.input_drift import InputDrift
from stream.worker.score_drift import ScoreDrift


class Figures:
    """Counts since the start of the process."""

    def __init__(self, drift: ScoreDrift | None = None, input_drift: InputDrift | None = None) -> None:
        """`drift` counts scores as well, `input_drift` inputs, where there is a reference to compare them with."""
        self.drift = drift
        self.input_drift = input_drift
        self.event_to_score = EVENT_TO_SCORE.histogram()
        self.poll_to_score = POLL_TO_SCORE.histogram()
        self.scores = SCORE.histogram()
        self.refused: Counter[str] = Counter()
        """Dead letters by refusal code."""
        self.transitions: Counter[tuple[str, str]] = Counter()
        """Alerts by kind and level, as `Scored` has them."""
        self.polls = 0
        self._polled_ms = 0

    def poll_begins(self, now_ms: int) -> None:
        """A poll is taken up; an empty one is one, too."""
        self.polls += 1
        self._polled_ms = now_ms

    def note(self, scored: Scored) -> None:
        """Count what a batch came to."""
        for headline in scored.headline:
            self.scores.observe(headline)
        if self.drift is not None:
            for rows, headline in zip(scored.scored_rows, scored.headline, strict=True):
                self.drift.note(rows, headline, self._polled_ms)
        if self.input_drift is not None:
            self.input_drift.note(scored.inputs, self._polled_ms)
        if scored.dead_letters:
            self.refused.update(letter.reason for letter in scored.dead_letters)
        if scored.transitions:
            self.transitions.update(scored.transitions)

    def note_when(self, published: asyncio.Future[None], taken: Sequence[Taken], now_ms: Callable[[], int]) -> None:
        """Count the delays of a batch of events when its outputs are `published`."""
        timestamps_ms = np.fromiter((item.record.timestamp for item in taken), dtype=np.int64, count=len(taken))
        published.add_done_callback(functools.partial(self._published, timestamps_ms, self._polled_ms, now_ms))

    def _published(
        self,
        timestamps_ms: NDArray[np.int64],
        polled_ms: int,
        now_ms: Callable[[], int],
        published: asyncio.Future[None],
    ) -> None:
        if published.cancelled() or published.exception() is not None:
            return
        done_ms = now_ms()
        self.poll_to_score.observe_one(max(done_ms - polled_ms, 0) / 1000, len(timestamps_ms))
        timed_ms = timestamps_ms[timestamps_ms >= 0]  # -1 is Kafka's for a record without a time
        self.event_to_score.observe(np.maximum(done_ms - timed_ms, 0) / 1000)  # a producer's clock may be ahead
