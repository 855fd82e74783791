"""Delays are counted when outputs are acknowledged, of those events that have a time; scores, refusals, alerts as they
come."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import numpy as np

from stream.kafka.record import RawRecord
from stream.scoring.intake import Taken
from stream.scoring.scorer import Scored
from stream.telemetry.histogram import Histogram
from stream.worker.figures import Figures
from tests.examples import dead_letter


def taken(*timestamps_ms: int) -> list[Taken]:
    event: Any = None
    return [
        Taken("activity", 2, 0, offset, b"u", 0, event, RawRecord("activity", 0, offset, timestamp_ms, b"u", b""))
        for offset, timestamp_ms in enumerate(timestamps_ms)
    ]


def counts(histogram: Histogram) -> dict[str, float]:
    """Counts by bound, of the buckets that hold something."""
    cumulative = histogram.cumulative()
    before = [0.0, *(count for _, count in cumulative)]
    return {bound: count - was for (bound, count), was in zip(cumulative, before, strict=False) if count > was}


async def test_delays_end_when_the_broker_has_acknowledged() -> None:
    figures, published = Figures(), asyncio.get_running_loop().create_future()
    figures.poll_begins(9_000)
    figures.note_when(published, taken(8_000, 9_985, 12_000, -1), lambda: 10_000)
    await asyncio.sleep(0)
    assert figures.event_to_score.count == figures.poll_to_score.count == 0
    figures.poll_begins(9_900)
    published.set_result(None)
    await asyncio.sleep(0)
    assert counts(figures.event_to_score) == {"0.005": 1, "0.02": 1, "2.0": 1}, "a clock that is ahead counts as none"
    assert counts(figures.poll_to_score) == {"1.0": 4}, "from the poll that released them"
    assert figures.polls == 2


async def test_what_was_never_published_has_no_delay() -> None:
    figures, loop = Figures(), asyncio.get_running_loop()
    for end in (lambda future: future.cancel(), lambda future: future.set_exception(OSError())):
        published = loop.create_future()
        figures.note_when(published, taken(1), lambda: 2)
        end(published)
        await asyncio.sleep(0)
    assert figures.event_to_score.count == figures.poll_to_score.count == 0


def test_scores_refusals_and_alerts_are_counted() -> None:
    figures = Figures()
    letter = dead_letter(reason="duplicate_event_id")
    scored = Scored(
        headline=[np.array([0.0015, 0.02], dtype=np.float32), np.array([1.0], dtype=np.float32)],
        dead_letters=[letter, letter],
        transitions=Counter({("opened", "HIGH"): 2}),
    )
    figures.note(scored)
    figures.note(scored)
    assert counts(figures.scores) == {"0.002": 2, "0.02": 2, "1.0": 2}
    assert figures.refused == {"duplicate_event_id": 4}
    assert figures.transitions == {("opened", "HIGH"): 4}
