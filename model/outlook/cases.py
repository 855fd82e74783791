"""New cases of default in a portfolio over time, as counts: the input of forecasts that use no scores.

Uses three times of each user only: first event, last event, default date. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from model.datasets.dataset import Dataset
from model.histories.labels import NEVER_MS

PERIOD_DAYS = 10
"""Length of a period: 30, 60 and 90 days are whole numbers of it."""
PERIOD_MS = PERIOD_DAYS * DAY_MS


@dataclass(frozen=True)
class Presence:
    """Per user, int64 `[users]` in ms: first and last event, and default date (`NEVER_MS` if none is known)."""

    first_ms: NDArray[np.int64]
    last_ms: NDArray[np.int64]
    default_date_ms: NDArray[np.int64]

    def of(self, users: NDArray[np.int64]) -> Presence:
        """Of some users only."""
        return Presence(self.first_ms[users], self.last_ms[users], self.default_date_ms[users])

    def known_at(self, at_ms: int) -> Presence:
        """Presence as it was known at a moment: of users seen by then, without later events and defaults."""
        seen = self.of(np.flatnonzero(self.first_ms < at_ms))
        default_date_ms = np.where(seen.default_date_ms < at_ms, seen.default_date_ms, NEVER_MS)
        return Presence(seen.first_ms, np.minimum(seen.last_ms, at_ms), default_date_ms)

    def at_risk(self, at_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many users were present and not in default at each of `at_ms`, int64 `[moments]`."""
        joined = np.searchsorted(np.sort(self.first_ms), at_ms, side="left")
        left = np.searchsorted(np.sort(np.minimum(self.last_ms, self.default_date_ms)), at_ms, side="left")
        return joined - left

    def cases(self, begin_ms: int, periods: int) -> NDArray[np.int64]:
        """Defaults in each of so many periods from `begin_ms` on, int64 `[periods]`."""
        place = (self.default_date_ms - begin_ms) // PERIOD_MS
        return np.bincount(place[(place >= 0) & (place < periods)], minlength=periods)


def presence_of(dataset: Dataset, users: Iterable[str] | None = None) -> Presence:
    """Presence of a source's users, reading its events once for when each was first and last seen."""
    wanted = None if users is None else set(users)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for event in dataset.events():
        if wanted is None or event.user_id in wanted:
            moment = round(event.occurred_at.timestamp() * 1000)
            first.setdefault(event.user_id, moment)
            last[event.user_id] = max(moment, last.get(event.user_id, moment))
    outcomes = dataset.outcomes()
    default_date_ms = [getattr(outcomes.get(user_id), "default_date_ms", None) for user_id in first]
    return Presence(
        np.array(list(first.values()), dtype=np.int64),
        np.array([last[user_id] for user_id in first], dtype=np.int64),
        np.array([NEVER_MS if moment is None else moment for moment in default_date_ms], dtype=np.int64),
    )
