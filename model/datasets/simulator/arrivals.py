"""Events in the order of their arrival at a topic: some late, and so out of order, and some twice.

Changes only the order of the events and how often each comes, never its time, id or content.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

import numpy as np

from events.types import KeyedEvent

LATE_SHARE, TWICE_SHARE = 0.02, 0.005
LATEST_MS = 3 * 86_400_000
_DRAWN_AT_ONCE = 4_096


def delivered(
    events: Iterable[KeyedEvent], seed: int, late_share: float = LATE_SHARE, twice_share: float = TWICE_SHARE
) -> Iterator[KeyedEvent]:
    """Events, given in order of event time, in the order of their arrival.

    A `late_share` of them arrives up to `LATEST_MS` after its event, most of these within hours; a `twice_share`
    comes a second time, that late or later. Equal arguments give equal arrivals.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, late_share > 0, twice_share > 0)))
    waiting: list[tuple[int, int, KeyedEvent]] = []
    draws: Iterator[list[float]] = iter(())
    for number, event in enumerate(events):
        at_ms = event[3]
        while waiting and waiting[0][0] <= at_ms:
            yield heapq.heappop(waiting)[2]
        chance = next(draws, None)
        if chance is None:
            draws = iter(rng.random((_DRAWN_AT_ONCE, 3)).tolist())
            chance = next(draws)
        late, twice, delay = chance
        delay_ms = int(LATEST_MS * delay**4)  # a median of four hours and a half
        if late < late_share:
            heapq.heappush(waiting, (at_ms + delay_ms, number, event))
        else:
            yield event
        if twice < twice_share:
            heapq.heappush(waiting, (at_ms + 2 * delay_ms, number, event))
    while waiting:
        yield heapq.heappop(waiting)[2]
