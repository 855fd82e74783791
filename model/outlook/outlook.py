"""How many borrowers will newly default: the sum of their calibrated scores, with an interval.

The interval covers two errors of a sum of probabilities: chance, since each borrower defaults or does not, and the
error that all scores of a time share, estimated from past outlooks. Needs numpy alone; takes scores that have been
computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.calendar import DAY_MS
from model.histories.labels import Truth
from model.histories.sequences import Sequences

OUTLOOK_DAYS = (30, 60, 90)
STALE_DAYS = 60.0
"""A borrower whose latest score is older is assumed to have left, since an active one has a bill each month."""
CONFIDENCES = (0.8, 0.95)
LEAST_ORIGINS = 3
"""Past outlooks needed to estimate their error."""
PRIOR_CASES = 10.0
RECENT_ORIGINS = 6
"""Past outlooks by which the next one is corrected: half a year of them, since older errors may no longer hold."""
DRAWS = 4_000
GROUPS = 200
_SUREST = 1 - 1e-9


@dataclass(frozen=True)
class Book:
    """Users at risk at `at_ms`, with their latest score of no more than a given age.

    `users` int64 `[n]`, `ages_days` float64 `[n]` of the scores, `probabilities` `[n, horizons]`.
    """

    at_ms: int
    users: NDArray[np.int64]
    ages_days: NDArray[np.float64]
    probabilities: NDArray[np.floating]


@dataclass(frozen=True)
class Judged:
    """A past outlook: expected cases, the variance of their number if scores were right, and observed cases."""

    expected: float
    variance: float
    observed: int


@dataclass(frozen=True)
class Outlook:
    """Expected new cases of `users` within `horizon_days`, with intervals by confidence (in percent).

    `expected` is the sum of the chances as corrected by past outlooks, `sum_of_scores` that of the uncorrected scores.
    `dispersion` is the relative error that all scores of a time share, None with too few past outlooks.
    """

    segment: str
    horizon_days: int
    users: int
    sum_of_scores: float
    expected: float
    intervals: dict[str, tuple[float, float]]
    dispersion: float | None


def book_at(
    sequences: Sequences,
    probabilities: NDArray[np.floating],
    truth: Truth,
    at_ms: int,
    stale_days: float = STALE_DAYS,
) -> Book:
    """The book of a scored source at `at_ms`, from events before it alone. `probabilities` `[events, horizons]`."""
    counts = sequences.events_before(at_ms)
    users = np.flatnonzero((counts > 0) & (truth.default_date_ms >= at_ms))
    rows = sequences.merged_starts[users] + counts[users] - 1
    ages = (at_ms - sequences.times_ms[rows]) / DAY_MS
    kept = (ages <= stale_days) & ~np.isnan(probabilities[rows, 0])
    return Book(at_ms, users[kept], ages[kept], probabilities[rows[kept]])


def within(book: Book, horizons_days: Sequence[int], days: float) -> NDArray[np.float64]:
    """Each user's probability of a default within `days` of the book's moment, float64 `[n]`.

    A score was given `age` days before the moment and nothing has come since, so the probability is that of a default
    between age and age + days, given none before. Between horizons the hazard is constant (as in training's loss),
    after the last one it stays as it was.
    """
    accrued = -np.log1p(-np.minimum(book.probabilities.astype(np.float64), _SUREST))
    knots = np.array([0.0, *horizons_days])
    heights = np.concatenate([np.zeros((len(accrued), 1)), accrued], axis=1)
    gained = _at(knots, heights, book.ages_days + days) - _at(knots, heights, book.ages_days)
    return -np.expm1(-np.maximum(gained, 0.0))


def judged(chances: NDArray[np.float64], came: NDArray[np.bool_]) -> Judged:
    """A past outlook of users with `chances`, of whom those in `came` defaulted; the variance is the Poisson
    binomial's, Σ p(1 - p)."""
    return Judged(float(chances.sum()), float((chances * (1 - chances)).sum()), int(came.sum()))


def dispersion(past: Sequence[Judged]) -> float | None:
    """Relative error τ that the scores of one time share, from past outlooks: τ² = Σ ((O - E)² - V) / Σ E², at least 0.

    The moment estimator of overdispersion (as in random-effects meta-analysis). A bias of the past is part of it: it
    widens the interval and does not move the figure. None for fewer than `LEAST_ORIGINS`.
    """
    if len(past) < LEAST_ORIGINS:
        return None
    excess = sum((each.observed - each.expected) ** 2 - each.variance for each in past)
    scale = sum(each.expected**2 for each in past)
    return float(np.sqrt(max(0.0, excess) / scale)) if scale > 0 else None


class TrackRecord:
    """Outlooks of the past, in order of time, and the correction of the next one by those that have come due.

    Scores are calibrated over events, but an outlook sums over users, whose latest score may be some days old, so the
    sum can be biased although the scores are right. Each part of the horizon (to 30, 60, 90 days) therefore has a
    factor on its hazard: observed over expected defaults in the last `RECENT_ORIGINS` outlooks that have come due, with
    `PRIOR_CASES` added to both, so that a few cases change it little.
    """

    def __init__(self, horizons_days: Sequence[int]) -> None:
        self._horizons_days = tuple(horizons_days)
        self._at_ms: list[int] = []
        self._parts: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        self._judged: list[dict[int, Judged]] = []

    def add(self, book: Book, default_date_ms: NDArray[np.int64]) -> None:
        """Add a past book and its users' default dates (int64 `[n]`, ms); they are used only once it has come due."""
        raw = np.stack([within(book, self._horizons_days, days) for days in OUTLOOK_DAYS])
        came = np.stack([default_date_ms < book.at_ms + days * DAY_MS for days in OUTLOOK_DAYS])
        self._judged.append(
            {days: judged(chances, came[row]) for row, (days, chances) in enumerate(self.chances(book).items())}
        )
        expected, observed = (np.diff(sums, prepend=0.0) for sums in (raw.sum(1), came.sum(1).astype(np.float64)))
        self._parts.append((expected, observed))
        self._at_ms.append(book.at_ms)

    def factors(self, at_ms: int) -> NDArray[np.float64]:
        """Factor on the hazard of each part of the horizon, float64 `[len(OUTLOOK_DAYS)]`; 1 where too few came due."""
        found = np.ones(len(OUTLOOK_DAYS))
        for part, days in enumerate(OUTLOOK_DAYS):
            due = [sums for at, sums in zip(self._at_ms, self._parts, strict=True) if at + days * DAY_MS <= at_ms]
            expected = sum(sums[0][part] for sums in due[-RECENT_ORIGINS:])
            observed = sum(sums[1][part] for sums in due[-RECENT_ORIGINS:])
            if len(due) >= LEAST_ORIGINS:
                found[part] = (observed + PRIOR_CASES) / (expected + PRIOR_CASES)
        return found

    def chances(self, book: Book) -> dict[int, NDArray[np.float64]]:
        """Each user's chance by horizon, float64 `[n]`, corrected by the outlooks that had come due by then."""
        found = {}
        accrued, before = np.zeros(len(book.users)), np.zeros(len(book.users))
        for factor, days in zip(self.factors(book.at_ms), OUTLOOK_DAYS, strict=True):
            hazard = -np.log1p(-np.minimum(within(book, self._horizons_days, days), _SUREST))
            accrued = accrued + factor * (hazard - before)
            before = hazard
            found[days] = -np.expm1(-np.maximum(accrued, 0.0))
        return found

    def due(self, days: int, at_ms: int) -> list[Judged]:
        """The outlooks of a horizon that have come due, as corrected at their time."""
        return [each[days] for at, each in zip(self._at_ms, self._judged, strict=True) if at + days * DAY_MS <= at_ms]


def outlook(
    segment: str, horizon_days: int, scores: NDArray[np.float64], chances: NDArray[np.float64], shared: float | None
) -> Outlook:
    """The outlook of users with corrected `chances` and uncorrected `scores`; see `case_intervals`."""
    return Outlook(
        segment=segment,
        horizon_days=horizon_days,
        users=len(chances),
        sum_of_scores=float(scores.sum()),
        expected=float(chances.sum()),
        intervals=case_intervals(chances, shared or 0.0),
        dispersion=shared,
    )


def case_intervals(
    chances: NDArray[np.float64], shared_error: float, confidences: Sequence[float] = CONFIDENCES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Intervals of the number of cases, by confidence in percent: Poisson binomial, mixed over a shared error.

    All hazards are multiplied by one log-normal factor of mean 1 and coefficient of variation `shared_error`. Drawn
    `DRAWS` times with users of similar chance taken together in `GROUPS` groups; the same arguments give the same
    interval.
    """
    random = np.random.default_rng(seed)
    parts = np.array_split(np.sort(chances), GROUPS)
    sizes = np.array([len(part) for part in parts if len(part)], dtype=np.int64)
    hazards = np.array([-np.log1p(-min(float(part.mean()), _SUREST)) for part in parts if len(part)])
    factors = shared_factors(shared_error, random)
    drawn = random.binomial(sizes, -np.expm1(-factors[:, None] * hazards)).sum(1)
    return _percentiles(drawn, confidences)


def count_intervals(
    expected: float, shared_error: float, confidences: Sequence[float] = CONFIDENCES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """As `case_intervals` for a forecast of the number alone: Poisson, mixed over the same kind of error."""
    random = np.random.default_rng(seed)
    return _percentiles(random.poisson(expected * shared_factors(shared_error, random)), confidences)


def shared_factors(shared_error: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draws of the log-normal factor of mean 1, float64 `[DRAWS]`."""
    spread = np.sqrt(np.log1p(shared_error**2))
    return np.exp(random.normal(-(spread**2) / 2, spread, DRAWS))


def _percentiles(drawn: NDArray[np.int64], confidences: Sequence[float]) -> dict[str, tuple[float, float]]:
    found = {}
    for confidence in confidences:
        edges = (50 - 50 * confidence, 50 + 50 * confidence)
        low, high = np.percentile(drawn, edges, method="inverted_cdf")
        found[f"{100 * confidence:g}"] = (float(low), float(high))
    return found


def _at(knots: NDArray[np.float64], heights: NDArray[np.float64], days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row's piecewise linear curve at its own place, continued beyond the last knot with the last slope."""
    piece = np.clip(np.searchsorted(knots, days, side="right") - 1, 0, len(knots) - 2)
    rows = np.arange(len(days))
    slope = (heights[rows, piece + 1] - heights[rows, piece]) / (knots[piece + 1] - knots[piece])
    return heights[rows, piece] + slope * (days - knots[piece])
