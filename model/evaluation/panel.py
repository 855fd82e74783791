"""Matured scores, whose outcome is known, at most one per user and month: the rows for calibration and ranking.

A user's scores within a month are nearly equal and have the same outcome; all of them would count one borrower many
times. The first score of the month is taken: the last before a default would be chosen by the outcome and overstate the
rate. Takes scores and truth that have been computed; does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.datasets.dataset import Outcome
from model.histories.labels import Truth, within_horizons
from model.histories.sequences import Sequences


@dataclass(frozen=True)
class Panel:
    """Matured scores, all `[n]`, by user, then time.

    `users` int64 are positions of users, `months` int64 calendar months (UTC) since 1970-01, `scores` float64
    probabilities within `horizon_days`, `happened` bool whether the default came within them.
    """

    users: NDArray[np.int64]
    months: NDArray[np.int64]
    scores: NDArray[np.float64]
    happened: NDArray[np.bool_]
    horizon_days: int

    def __len__(self) -> int:
        return len(self.users)

    def where(self, kept: NDArray[np.bool_]) -> Panel:
        """Only the rows that are `kept`, bool `[n]`."""
        return Panel(self.users[kept], self.months[kept], self.scores[kept], self.happened[kept], self.horizon_days)

    def latest(self, months: int) -> Panel:
        """Only the rows of the last so many months that have any."""
        return self.where(self.months > self.months.max() - months) if len(self) else self


def months_of(times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Calendar months (UTC) since 1970-01, int64."""
    return times_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)


def month_name(month: int) -> str:
    """`2023-04` for a month since 1970-01."""
    return f"{1970 + month // 12:04d}-{month % 12 + 1:02d}"


def monthly_panel(
    times_ms: NDArray[np.int64],
    users: NDArray[np.int64],
    scores: NDArray[np.floating],
    truth: Truth,
    horizon_days: int,
) -> Panel:
    """The first score of each user and month that was given before the default date and whose horizon has passed.

    `times_ms` int64 `[n]`, `users` int64 `[n]` (positions in `truth`) and `scores` `[n]` are rows sorted by user, then
    arrival. Known means what `model.histories.labels.within_horizons` means by it.
    """
    happened, known = (part[:, 0] for part in within_horizons(times_ms, users, truth, (horizon_days,)))
    rows = np.flatnonzero(known)
    months = months_of(times_ms[rows])
    owner = users[rows]
    if len(rows):
        order = np.lexsort((np.arange(len(rows)), months, owner))
        rows, months, owner = rows[order], months[order], owner[order]
        first = np.append(True, (owner[1:] != owner[:-1]) | (months[1:] != months[:-1]))
        rows, months, owner = rows[first], months[first], owner[first]
    return Panel(owner, months, scores[rows].astype(np.float64), happened[rows], horizon_days)


def label_panel(
    bundle: Bundle, sequences: Sequences, scores: NDArray[np.floating], outcomes: Mapping[str, Outcome]
) -> Panel:
    """Each labelled user's last score against the source's own label; empty where the source has none.

    `scores` are headline probabilities `[events]` in merged order, NaN for users that were not scored.
    """
    labels = [getattr(outcomes.get(user_id), "label", None) for user_id in sequences.user_ids]
    labelled = np.array([label is not None for label in labels], dtype=bool) & (np.diff(sequences.merged_starts) > 0)
    users = np.flatnonzero(labelled)
    last = sequences.merged_starts[users + 1] - 1
    scored = ~np.isnan(scores[last])
    users, last = users[scored], last[scored]
    return Panel(
        users=users,
        months=months_of(sequences.times_ms[last]),
        scores=scores[last].astype(np.float64),
        happened=np.array([bool(labels[user]) for user in users], dtype=bool),
        horizon_days=bundle.horizons_days[bundle.headline],
    )


def panel_of(
    bundle: Bundle,
    sequences: Sequences,
    scores: NDArray[np.floating],
    truth: Truth,
    outcomes: Mapping[str, Outcome],
    from_ms: int = 0,
    judged: NDArray[np.bool_] | None = None,
) -> Panel:
    """`label_panel` where the source publishes labels of both kinds, else `monthly_panel` of the headline scores.

    `scores` as for `label_panel`. Scores before `from_ms` are left out, and so are those of events that the source does
    not judge (`judged`, bool `[events]`). A label is compared with the user's last score, whatever its event.
    """
    labelled = label_panel(bundle, sequences, scores, outcomes)
    if 0 < labelled.happened.sum() < len(labelled):
        return labelled
    counted = ~np.isnan(scores) & (sequences.times_ms >= from_ms)
    if judged is not None:
        counted &= judged
    rows = np.flatnonzero(counted)
    owner = sequences.owners(rows)
    return monthly_panel(sequences.times_ms[rows], owner, scores[rows], truth, bundle.horizons_days[bundle.headline])
