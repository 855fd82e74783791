"""Segments of events, by which the figures of a comparison are broken down.

Segments use what was known at the event, never the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from events.columns import COLUMNS, FIRST_CATEGORY_CODE
from model.histories.arrears import latest_known
from model.histories.sequences import Sequences


@dataclass(frozen=True)
class Segments:
    """One way to divide events: `of_event` int64 `[N]` is the position in `names`, in merged order."""

    by: str
    names: tuple[str, ...]
    of_event: NDArray[np.int64]


def segments(sequences: Sequences) -> list[Segments]:
    """By the borrower's days past due, by length of history, by product where profiles name one, and by quarter."""
    return [
        Segments(
            "days past due",
            ("none", "1 to 29", "30 and more", "unknown"),
            _banded(sequences.days_past_due.astype(np.float64), (1.0, 30.0)),
        ),
        Segments(
            "history",
            ("under 90 days", "90 to 364 days", "365 days and more", "unknown"),
            _banded(_history_days(sequences), (90.0, 365.0)),
        ),
        _by_product(sequences),
        _by_quarter(sequences),
    ]


def _history_days(sequences: Sequences) -> NDArray[np.float64]:
    """Days since the user's first event."""
    if not len(sequences.times_ms):
        return np.zeros(0)
    first = sequences.times_ms[np.minimum(sequences.merged_starts[:-1], len(sequences.times_ms) - 1)]
    return (sequences.times_ms - first[sequences.user_of_event]) / DAY_MS


def _banded(values: NDArray[np.float64], edges: tuple[float, ...]) -> NDArray[np.int64]:
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))


def _by_product(sequences: Sequences) -> Segments:
    vocabulary = sequences.vocabularies["profiles"].get("product", {})
    position = COLUMNS["profiles"].categorical.index("product")
    codes = sequences.categorical["profiles"][:, position].astype(np.float64)
    codes[codes < FIRST_CATEGORY_CODE] = np.nan
    latest = latest_known(sequences, "profiles", codes)
    names = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
    return Segments(
        "product",
        (*names, "unknown"),
        np.where(np.isnan(latest), len(names), np.nan_to_num(latest) - FIRST_CATEGORY_CODE).astype(np.int64),
    )


def _by_quarter(sequences: Sequences) -> Segments:
    """Quarter of the year of the event: ranking may differ before and after a shock to the economy."""
    quarter = sequences.times_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64) // 3
    first, last = (int(quarter.min()), int(quarter.max())) if len(quarter) else (0, 0)
    names = tuple(f"{1970 + each // 4} Q{each % 4 + 1}" for each in range(first, last + 1))
    return Segments("quarter", names, quarter - first)
