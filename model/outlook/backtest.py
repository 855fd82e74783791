"""Backtest of outlooks: the forecasts of each method at rolling origins, against the defaults that followed.

A forecast at an origin uses only events before it, and its interval only the errors of outlooks that had come due by
then. The caller must take scores from a bundle that was trained without these users and this time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from model.evaluation.panel import month_name, months_of
from model.evaluation.scored_source import ScoredSource
from model.histories.labels import NEVER_MS, Truth
from model.histories.sequences import Sequences
from model.outlook.cases import PERIOD_DAYS, Presence
from model.outlook.outlook import (
    OUTLOOK_DAYS,
    STALE_DAYS,
    Book,
    Judged,
    TrackRecord,
    book_at,
    case_intervals,
    count_intervals,
    dispersion,
    within,
)

SCORES, SET_RIGHT = "sum of scores", "outlook: sum of scores, set right by the past"
ENCODER_DECODER, LAST, MEAN_OF_THREE = "encoder–decoder", "last period", "mean of the last 3 periods"
WARM_UP_DAYS = 270
"""History before the first origin: three periods of the longest outlook for the naive mean."""
OWN_HISTORY_DAYS = 540
"""The same with the encoder–decoder, which is trained on this history too: its examples need origins of their own."""

Forecast = Callable[[Presence, int, int], NDArray[np.float64]]
"""A forecast: from presence as known at a moment, the moment and the number of users at risk, to cases per period."""


@dataclass(frozen=True)
class Origin:
    """One forecast of one method: expected cases, intervals by confidence, and observed cases."""

    method: str
    origin: str
    horizon_days: int
    users: int
    expected: float
    observed: int
    intervals: dict[str, tuple[float, float]] | None


@dataclass(frozen=True)
class Method:
    """A method over all origins that every method could judge: mean absolute error, sum of expected to sum of observed
    cases, and per confidence the share of origins inside the interval and its mean width."""

    method: str
    horizon_days: int
    origins: int
    observed: float
    mean_absolute_error: float
    ratio: float | None
    coverage: dict[str, float]
    width: dict[str, float]


@dataclass
class _Past:
    """A method's outlooks so far, by when they came due."""

    due_ms: list[int]
    judged: list[Judged]

    def known_at(self, at_ms: int) -> list[Judged]:
        return [each for due, each in zip(self.due_ms, self.judged, strict=True) if due <= at_ms]


def month_starts(from_ms: int, until_ms: int) -> list[int]:
    """First moments (UTC) of the calendar months that begin between the two."""
    months = np.arange(from_ms, until_ms + DAY_MS, DAY_MS).astype("datetime64[ms]").astype("datetime64[M]")
    starts = np.unique(months).astype("datetime64[ms]").astype(np.int64)
    return [int(start) for start in starts if from_ms <= start <= until_ms]


def track_record(source: ScoredSource, until_ms: int, stale_days: float = STALE_DAYS) -> TrackRecord:
    """Outlooks at every month's start before `until_ms`."""
    record = TrackRecord(source.bundle.horizons_days)
    for at_ms in month_starts(int(source.sequences.times_ms.min()), until_ms):
        book = book_at(source.sequences, source.probabilities, source.truth, at_ms, stale_days)
        if len(book.users):
            record.add(book, source.truth.default_date_ms[book.users])
    return record


def came(book: Book, truth: Truth, days: float) -> NDArray[np.bool_]:
    """Which of a book's users had their default within `days`, bool `[n]`."""
    default_date_ms: NDArray[np.int64] = truth.default_date_ms[book.users]
    return default_date_ms < book.at_ms + days * DAY_MS


def backtest(
    source: ScoredSource,
    until_ms: int,
    forecast: Forecast | None = None,
    horizons: Sequence[int] = OUTLOOK_DAYS,
    stale_days: float = STALE_DAYS,
    warm_up_days: int = WARM_UP_DAYS,
) -> list[Origin]:
    """Every method's forecasts at each month's start from `warm_up_days` on, as far as all horizons have come due."""
    begin = int(source.sequences.times_ms.min()) + warm_up_days * DAY_MS
    last = until_ms - max(horizons) * DAY_MS
    books = _Books(source, stale_days)
    record = track_record(source, until_ms, stale_days)
    pasts: dict[tuple[str, int], _Past] = {}
    found: list[Origin] = []
    for at_ms in month_starts(begin, last):
        book = books.at(at_ms)
        corrected = record.chances(book)
        per_period = None
        if forecast is not None:
            per_period = forecast(
                known_presence(source.sequences, source.truth, at_ms, stale_days), at_ms, len(book.users)
            )
        for days in horizons:
            chances = within(book, source.bundle.horizons_days, days)
            observed = int(came(book, source.truth, days).sum())
            counts = {LAST: books.rate(at_ms, days, 1), MEAN_OF_THREE: books.rate(at_ms, days, 3)}
            if per_period is not None:
                counts[ENCODER_DECODER] = float(per_period[: days // PERIOD_DAYS].sum())
            entries: dict[str, NDArray[np.float64] | float] = {
                SCORES: chances,
                SET_RIGHT: corrected[days],
                **counts,
            }
            for method, expected in entries.items():
                past = pasts.setdefault((method, days), _Past([], []))
                found.append(_origin(method, at_ms, days, len(book.users), expected, observed, past))
    return found


def methods(origins: Sequence[Origin]) -> list[Method]:
    """Each method's record over the origins at which it had an interval."""
    found = []
    for days, method in sorted({(each.horizon_days, each.method) for each in origins}):
        rows = [each for each in origins if (each.horizon_days, each.method) == (days, method) and each.intervals]
        if rows:
            found.append(_method(method, days, rows))
    return found


def _method(method: str, days: int, rows: Sequence[Origin]) -> Method:
    observed = np.array([each.observed for each in rows], dtype=np.float64)
    expected = np.array([each.expected for each in rows])
    bounds = {
        name: np.array([each.intervals[name] for each in rows if each.intervals]) for name in rows[0].intervals or {}
    }
    return Method(
        method=method,
        horizon_days=days,
        origins=len(rows),
        observed=float(observed.mean()),
        mean_absolute_error=float(np.abs(expected - observed).mean()),
        ratio=float(expected.sum() / observed.sum()) if observed.sum() else None,
        coverage={
            name: float(((each[:, 0] <= observed) & (observed <= each[:, 1])).mean()) for name, each in bounds.items()
        },
        width={name: float((each[:, 1] - each[:, 0]).mean()) for name, each in bounds.items()},
    )


def _origin(
    method: str,
    at_ms: int,
    days: int,
    users: int,
    forecast: NDArray[np.float64] | float,
    observed: int,
    past: _Past,
) -> Origin:
    """Judge one forecast, chances of users or a number of cases, and add it to the method's past."""
    shared = dispersion(past.known_at(at_ms))
    if isinstance(forecast, float):
        expected, variance = forecast, forecast
        intervals = None if shared is None else count_intervals(forecast, shared)
    else:
        expected, variance = float(forecast.sum()), float((forecast * (1 - forecast)).sum())
        intervals = None if shared is None else case_intervals(forecast, shared)
    past.due_ms.append(at_ms + days * DAY_MS)
    past.judged.append(Judged(expected, variance, observed))
    month = month_name(int(months_of(np.array([at_ms]))[0]))
    return Origin(method, month, days, users, expected, observed, intervals)


class _Books:
    """Books and rates of a source at any moment, each made once."""

    def __init__(self, source: ScoredSource, stale_days: float) -> None:
        self._source = source
        self._stale_days = stale_days
        self._books: dict[int, Book] = {}

    def at(self, at_ms: int) -> Book:
        if at_ms not in self._books:
            source = self._source
            self._books[at_ms] = book_at(source.sequences, source.probabilities, source.truth, at_ms, self._stale_days)
        return self._books[at_ms]

    def rate(self, at_ms: int, days: int, periods: int) -> float:
        """Expected cases if the rate of the last `periods` periods of `days` holds for the present book."""
        rates = []
        for back in range(1, periods + 1):
            book = self.at(at_ms - back * days * DAY_MS)
            rates.append(came(book, self._source.truth, days).sum() / max(len(book.users), 1))
        return float(np.mean(rates) * len(self.at(at_ms).users))


def known_presence(sequences: Sequences, truth: Truth, at_ms: int, stale_days: float) -> Presence:
    """Presence as known at a moment: users seen within `stale_days` are present, later defaults are not known."""
    counts = sequences.events_before(at_ms)
    users = np.flatnonzero(counts > 0)
    starts = sequences.merged_starts[users]
    last = sequences.times_ms[starts + counts[users] - 1]
    lately = at_ms - last <= stale_days * DAY_MS
    default_date_ms = truth.default_date_ms[users]
    return Presence(
        sequences.times_ms[starts],
        np.where(lately, at_ms, last),
        np.where(default_date_ms < at_ms, default_date_ms, NEVER_MS),
    )
